use super::*;
use crate::builder::labels::BuilderMetadata;

fn id(number: u8) -> DiffId {
    DiffId::of(&[number])
}

/// Layers of buildpacks as (id, version, number of the layer, members of its order).
fn builder(buildpacks: &[(&str, &str, u8, &[&str])], order: &[&str], system: &str) -> BuilderImage {
    let mut layers = serde_json::Map::new();
    for (name, version, layer, members) in buildpacks {
        let versions = layers.entry((*name).to_owned()).or_insert_with(|| serde_json::json!({}));
        let mut label = serde_json::json!({"api": "0.10", "layerDiffID": id(*layer).to_string()});
        if !members.is_empty() {
            label["order"] = serde_json::json!([{ "group": group(members) }]);
        }
        versions[version] = label;
    }
    BuilderImage {
        uid: 1,
        gid: 1,
        metadata: BuilderMetadata::default(),
        buildpacks: serde_json::from_value(layers.into()).unwrap(),
        extensions: serde_json::from_value(
            serde_json::json!({"ext": {"1": {"api": "0.10", "layerDiffID": id(9).to_string()}}}),
        )
        .unwrap(),
        system: serde_json::from_str(system).unwrap(),
        order: order_of(order),
        order_extensions: Vec::new(),
    }
}

fn group(members: &[&str]) -> serde_json::Value {
    let entry = |member: &&str| {
        let (id, version) = member.split_once('@').unwrap_or((member, ""));
        serde_json::json!({"id": id, "version": version})
    };
    members.iter().map(entry).collect()
}

/// A group for each text of members with spaces between them.
fn order_of(groups: &[&str]) -> Vec<OrderGroup> {
    let groups = groups.iter().map(|members| {
        let members: Vec<_> = members.split(' ').collect();
        serde_json::from_value(serde_json::json!({ "group": group(&members) })).unwrap()
    });
    groups.collect()
}

/// A base layer, eight of modules and one of an extension.
fn needs(builder: &BuilderImage, order: Option<&[&str]>) -> Needs {
    let layers: Vec<_> = (0..10).map(id).collect();
    let order = order.map(order_of);
    Needs::new(builder, &layers, order.as_deref(), &[])
}

fn spared_of(needs: &Needs, groups: usize) -> Vec<u8> {
    let spared = needs.spared(groups);
    (0..10).filter(|number| spared.contains(&id(*number))).collect()
}

/// What no group needs.
fn spared(builder: &BuilderImage, order: Option<&[&str]>) -> Vec<u8> {
    let needs = needs(builder, order);
    spared_of(&needs, needs.groups())
}

#[test]
fn what_the_order_cannot_reach_is_left_out() {
    let buildpacks: &[(&str, &str, u8, &[&str])] = &[
        ("a", "1", 1, &[]),
        ("b", "1", 2, &[]),
        ("b", "2", 3, &[]),
        ("all", "1", 4, &["a@1", "deep@1"]),
        ("deep", "1", 5, &["b@2"]),
        ("flat", "1", 6, &[]),
        ("flatter", "1", 6, &[]),
        // Whatever a label says, nothing runs without the base.
        ("base", "1", 0, &[]),
    ];
    let all = builder(buildpacks, &["all@1", "a@1 flat@1"], "{}");
    assert_eq!(spared(&all, None), [2, 9]);
    for (order, expected) in [
        (&["a@1"][..], &[2, 3, 4, 5, 6, 9][..]),
        (&["a"], &[2, 3, 4, 5, 6, 9]),
        (&["deep@1"], &[1, 2, 4, 6, 9]),
        (&["a@1", "b@1 flatter@1"], &[3, 4, 5, 9]),
        // Detection fails for these and says why; it must not depend on what is there.
        (&["none@1"], &[]),
        (&["a@1 b"], &[]),
        (&["a@7"], &[]),
    ] {
        assert_eq!(spared(&all, Some(order)), expected, "{order:?}");
    }
    let system = r#"{"pre":{"buildpacks":[{"id":"b","version":"1"}]}}"#;
    assert_eq!(spared(&builder(buildpacks, &["a@1"], system), None), [3, 4, 5, 6, 9]);
    let circle: &[(&str, &str, u8, &[&str])] = &[("a", "1", 1, &["b@1"]), ("b", "1", 2, &["a@1"])];
    assert_eq!(spared(&builder(circle, &["a@1"], "{}"), None), [9]);
}

/// Buildpacks of three languages, in layers of their own but for two that share one; all have one more in common.
fn languages() -> BuilderImage {
    let buildpacks: &[(&str, &str, u8, &[&str])] = &[
        ("all", "1", 1, &[]),
        ("java", "1", 2, &["all@1", "jre@1"]),
        ("jre", "1", 3, &[]),
        ("go", "1", 4, &["all@1", "dist@1"]),
        ("dist", "1", 5, &[]),
        ("ruby", "1", 6, &["jre@1", "gem@1"]),
        ("gem", "1", 7, &[]),
        ("gem", "2", 7, &[]),
        ("old", "1", 8, &[]),
    ];
    builder(buildpacks, &["java@1", "go@1", "all@1 jre@1", "ruby@1"], "{}")
}

#[test]
fn what_only_later_groups_reach_is_left_out_until_they_are_tried() {
    let builder = languages();
    let all = needs(&builder, None);
    for (groups, expected) in [
        (0, &[1, 2, 3, 4, 5, 6, 7, 8, 9][..]),
        (1, &[4, 5, 6, 7, 8, 9]),
        (2, &[6, 7, 8, 9]),
        (3, &[6, 7, 8, 9]),
        (4, &[8, 9]),
        (9, &[8, 9]),
    ] {
        assert_eq!(spared_of(&all, groups), expected, "{groups}");
    }
    // A layer with several buildpacks is needed as soon as one of them is.
    assert_eq!(spared_of(&needs(&builder, Some(&["gem@2", "gem@1"])), 1), [1, 2, 3, 4, 5, 6, 8, 9]);
    // The system's are in every group.
    let system = r#"{"post":{"buildpacks":[{"id":"gem","version":"1"}]}}"#;
    let builder = BuilderImage { system: serde_json::from_str(system).unwrap(), ..builder };
    assert_eq!(spared_of(&needs(&builder, None), 1), [4, 5, 6, 8, 9]);
}

#[test]
fn a_stage_goes_as_far_as_there_are_layers_and_by_one_group_at_least() {
    let all = needs(&languages(), None);
    for (tried, there, expected) in [
        // Nothing is there: the first group; and what the third needs is there then.
        (0, &[][..], 1),
        (1, &[1, 2, 3], 3),
        (3, &[1, 2, 3, 4, 5], 4),
        // What was there before.
        (0, &[1, 2, 3], 1),
        (0, &[1, 2, 3, 4, 5], 3),
        (0, &[1, 2, 3, 4, 5, 6], 3),
        (0, &[1, 2, 3, 4, 5, 6, 7], 4),
        (0, &[4, 5], 3),
        (0, &[2, 3, 4, 5, 6, 7], 4),
        (1, &[6, 7], 4),
        // What was tried is not tried again, even if it went meanwhile.
        (3, &[], 4),
        (4, &[], 4),
    ] {
        let end = all.next_stage(tried, |layer| there.iter().any(|number| id(*number) == layer));
        assert_eq!(end, expected, "{tried} {there:?}");
    }
    // Nobody knows what the order reaches.
    assert_eq!(needs(&languages(), Some(&["java@1", "none@1"])).next_stage(0, |_| false), 2);
}

/// Detection refuses builders with such a buildpack in the order, whatever the app is.
#[test]
fn a_buildpack_that_cannot_be_used_is_found_in_the_first_stage() {
    for (broken, expected) in [("go", 4), ("dist", 1), ("ruby", 4)] {
        let mut builder = languages();
        builder.buildpacks.get_mut(broken).unwrap().get_mut("1").unwrap().api = "9.9".to_owned();
        let needs = needs(&builder, None);
        assert_eq!(needs.next_stage(0, |_| false), expected, "{broken}");
        assert_eq!(spared_of(&needs, needs.groups()), [8, 9]);
    }
}
