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

/// A base layer, six of buildpacks and one of an extension.
fn spared(builder: &BuilderImage, order: Option<&[&str]>) -> Vec<u8> {
    let layers: Vec<u8> = (0..10).collect();
    let order = order.map(order_of);
    let ids: Vec<_> = layers.iter().map(|number| id(*number)).collect();
    let spared = Needs::new(builder, order.as_deref(), &[]).spared(&ids);
    layers.into_iter().filter(|number| spared.contains(&id(*number))).collect()
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

#[test]
fn files_that_reach_more_than_the_labels_are_believed() {
    let builder = builder(&[("a/b", "1", 1, &[]), ("b", "1", 2, &[]), ("c", "1", 3, &[])], &["a/b@1"], "{}");
    let order = |text: &str| format!("[[order]]\n[[order.group]]\n{text}");
    let a = order("id = \"a/b\"\nversion = \"1\"\n");
    let both = format!("{a}[[order.group]]\nid = \"b\"\nversion = \"1\"\n");
    let plain = "[metadata]\nborder = 1\n";
    let system = "[[system.post.buildpacks]]\nid = \"b\"\nversion = \"1\"\n";
    let extensions =
        format!("{a}[[order-extensions]]\n[[order-extensions.group]]\nid = \"ext\"\nversion = \"1\"\n");
    for (file, descriptor, system, expected) in [
        (Some(a.as_str()), Some(plain), None, true),
        (Some(&both), Some(plain), None, false),
        (Some(&a), Some(plain), Some(system), false),
        (Some(&a), Some(plain), Some("[system]\n"), true),
        (Some(&a), Some(plain), Some("["), false),
        (Some(&a), Some(order("id = \"b\"\nversion = \"1\"\n").as_str()), None, false),
        (Some(&a), Some("\"order\" = [{group = [{id = \"c\", version = \"1\"}]}]"), None, false),
        (Some(&a), Some("order = 1"), None, false),
        (Some(&a), None, None, false),
        (Some(&extensions), Some(plain), None, false),
        (None, Some(plain), None, false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let [lower, upper] = ["lower", "upper"].map(|name| folder.path().join(name));
        let write = |path: &str, text: Option<&str>| {
            if let Some(text) = text {
                fs_err::create_dir_all(upper.join(path).parent().unwrap()).unwrap();
                fs_err::write(upper.join(path), text).unwrap();
            }
        };
        fs_err::create_dir(&lower).unwrap();
        fs_err::create_dir(&upper).unwrap();
        write("cnb/order.toml", file);
        write("cnb/system.toml", system);
        write("cnb/buildpacks/a_b/1/buildpack.toml", descriptor);
        let agrees = Needs::new(&builder, None, &[]).agrees_with_files(&[lower, upper]);
        assert_eq!(agrees, expected, "{file:?} {descriptor:?} {system:?}");
    }
}
