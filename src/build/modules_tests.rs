use super::*;
use longshore_image::{Config, Platform};

fn builder() -> BuilderImage {
    let mut config = Config::new(&Platform::linux("amd64"));
    config.set_env("CNB_USER_ID", "1");
    config.set_env("CNB_GROUP_ID", "1");
    config.set_label("io.buildpacks.builder.metadata", "{}");
    config.set_label(
        "io.buildpacks.buildpack.layers",
        r#"{"a/x":{"1":{"api":"0.10","layerDiffID":""}},"a/y":{"1":{"api":"0.10","layerDiffID":""},"2":{"api":"0.10","layerDiffID":""}}}"#,
    );
    config.set_label(
        "io.buildpacks.buildpack.order",
        r#"[{"group":[{"id":"a/x","version":"1"}]},{"group":[{"id":"a/y","version":"2","optional":true}]}]"#,
    );
    BuilderImage::read(&config).unwrap()
}

fn buildpack(root: &Path, name: &str) {
    let script = Script {
        id: format!("own/{name}"),
        version: "3".to_owned(),
        api: "0.10".to_owned(),
        inline: "true".to_owned(),
        shell: "/bin/sh".to_owned(),
    };
    fs_err::rename(write_script(&script, root, 9).unwrap(), root.join(name)).unwrap();
}

fn orders(selection: &Selection) -> Vec<String> {
    let group =
        |group: &OrderGroup| group.group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    selection.order.iter().flatten().map(group).collect()
}

fn uris(texts: &[&str]) -> Vec<ModuleLocator> {
    texts.iter().map(|text| ModuleLocator::Uri((*text).to_owned())).collect()
}

fn select_in(root: &Path, group: &[&str], pre: &[&str], post: &[&str]) -> anyhow::Result<Selection> {
    let wanted = Wanted {
        group: &uris(group),
        pre: &uris(pre),
        post: &uris(post),
        base: root,
        scratch: &root.join("scratch"),
    };
    select(wanted, &builder())
}

#[test]
fn what_is_named_replaces_or_surrounds_the_builders_order() {
    let root = tempfile::tempdir().unwrap();
    buildpack(root.path(), "mine");
    for (group, pre, post, expected) in [
        (vec![], vec![], vec![], vec![]),
        (vec!["a/x"], vec![], vec![], vec!["a/x@1"]),
        (vec!["a/y@2", "mine"], vec![], vec![], vec!["a/y@2 own/mine@3"]),
        (vec!["mine", "from=builder"], vec![], vec![], vec!["own/mine@3 a/x@1", "own/mine@3 a/y@2"]),
        (vec!["from=builder:a/y@1", "./mine"], vec![], vec![], vec!["a/y@1 own/mine@3"]),
        (vec![], vec!["mine"], vec!["a/x"], vec!["own/mine@3 a/x@1 a/x@1", "own/mine@3 a/y@2 a/x@1"]),
        (vec!["a/x"], vec!["mine"], vec![], vec!["a/x@1"]),
    ] {
        let selection = select_in(root.path(), &group, &pre, &post).unwrap();
        assert_eq!(orders(&selection), expected, "{group:?} {pre:?} {post:?}");
    }
    let selection = select_in(root.path(), &["from=builder"], &[], &[]).unwrap();
    assert!(selection.order.unwrap()[1].group[0].optional);
}

#[test]
fn mistakes_are_explained() {
    let root = tempfile::tempdir().unwrap();
    for (group, reason) in [
        ("nothing", "no buildpack directory"),
        ("a/z@1", "no buildpack `a/z`"),
        ("a/y", "several versions"),
        ("a/x@7", "it has version 1"),
        ("https://example.com/a.tgz", "https"),
    ] {
        let error = select_in(root.path(), &[group], &[], &[]).unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{group}: {error:#}");
    }
    assert!(select_in(root.path(), &["from=builder", "from=builder"], &[], &[]).is_err());
}
