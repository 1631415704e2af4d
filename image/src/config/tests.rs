use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::fields::tests::any_json;

fn parse(value: &Value) -> Config {
    Config::parse(value.to_string()).unwrap()
}

#[test]
fn untouched_bytes_are_kept() {
    let raw = " {\"os\":\"linux\", \"x\":1, \"config\":{\"Cmd\":null}}\n";
    let config = Config::parse(raw).unwrap();
    assert_eq!(config.to_bytes(), raw);
    assert_eq!(config.image_id(), ImageId::of(raw.as_bytes()));
}

#[test]
fn changed_bytes_are_in_the_order_of_go_containerregistry() {
    let mut config = parse(&json!({
        "config": {"Volumes": null, "Hostname": "", "Tty": false, "Env": ["A=1", "PATH=/bin", "A=2"], "Foo": [],
            "User": "1", "Labels": {"z": "1", "a": "<&>"}, "Healthcheck": {"Test": ["NONE"]}},
        "os": "linux", "moby": {"x": null}, "architecture": "amd64",
        "rootfs": {"diff_ids": [], "type": "layers"},
        "history": [{"empty_layer": true, "created_by": "x", "comment": "", "k": 1, "created": "2020-01-01T00:00:00Z"}],
    }));
    config.set_env("A", "x=y");
    config.set_env("B", "");
    config.set_created("1980-01-01T00:00:01Z".parse().unwrap());
    let expected = concat!(
        r#"{"architecture":"amd64","created":"1980-01-01T00:00:01Z","history":[{"created":"2020-01-01T00:00:00Z","#,
        r#""created_by":"x","empty_layer":true,"k":1}],"os":"linux","rootfs":{"type":"layers","diff_ids":[]},"#,
        r#""config":{"Healthcheck":{"Test":["NONE"]},"Env":["A=x=y","PATH=/bin","B="],"#,
        r#""Labels":{"a":"\u003c\u0026\u003e","z":"1"},"User":"1","Foo":[]},"moby":{"x":null}}"#
    );
    assert_eq!(config.to_bytes(), expected);
    assert_eq!(config.env_value("A").as_deref(), Some("x=y"));
    assert_eq!(config.label("a"), Some("<&>"));
}

#[test]
fn setting_and_reading_fit() {
    let mut config = Config::new(&Platform::linux("arm64"));
    let layer = DiffId::of(b"x");
    config.set_diff_ids(&[layer]);
    config.set_label("a", "1");
    config.set_label("b", "2");
    config.remove_label("a");
    config.set_entrypoint(&["/cnb/process/web".to_owned()]);
    config.set_cmd(&["x".to_owned()]);
    config.set_cmd(&[]);
    config.set_working_dir("/workspace");
    config.set_user("1001:1000");
    config.set_history(&[History::new(Timestamp::UNIX_EPOCH, "by")]);
    config.set_env("X", "1");
    config.remove_env("X");
    let read = Config::parse(config.to_bytes()).unwrap();
    assert_eq!(read.platform(), Platform::linux("arm64"));
    assert_eq!(read.diff_ids(), [layer]);
    assert_eq!(read.labels().into_iter().collect::<Vec<_>>(), [("b".to_owned(), "2".to_owned())]);
    assert_eq!((read.entrypoint(), read.cmd()), (vec!["/cnb/process/web".to_owned()], vec![]));
    assert_eq!((read.working_dir(), read.user(), read.env()), ("/workspace", "1001:1000", vec![]));
    assert_eq!(read.history()[0].created.as_deref(), Some("1970-01-01T00:00:00Z"));
}

#[test]
fn other_shapes_are_refused() {
    for text in [
        "",
        "[]",
        "1",
        r#"{"os":1}"#,
        r#"{"rootfs":{"diff_ids":["sha256:../x"]}}"#,
        r#"{"config":{"Env":"A=1"}}"#,
    ] {
        assert!(Config::parse(text).is_err(), "{text}");
    }
}

proptest! {
    /// Byte for byte where nothing changes: also numbers that no machine has, and fields in another order than ours. What
    /// changes has the bytes of go-containerregistry, and a second rewrite those of the first.
    #[test]
    fn what_is_not_changed_keeps_its_bytes(one in any_json(), two in any_json()) {
        let text = format!(
            concat!(
                r#" {{"_b\u00e9" : {one}, "config":{{"_c":{two},"Env":["A=1"],"_d" :{one},"#,
                r#""Healthcheck":{{"StartInterval":{one},"Test":["a\u003eb"]}}}}, "_a":{two},"#,
                r#""rootfs":{{"_e":{two},"diff_ids":[],"type":"layers"}},"os":"linux","_a": {one},"#,
                r#""history":[{{"_f":{two},"comment":"<"}},{{"_g\/": {one} }}]}}"#
            ),
            one = one,
            two = two,
        );
        let expected = format!(
            concat!(
                r#"{{"architecture":"","history":[{{"comment":"\u003c","_f":{two}}},{{"_g\/":{one}}}],"os":"linux","#,
                r#""rootfs":{{"type":"layers","diff_ids":[],"_e":{two}}},"config":{{"#,
                r#""Healthcheck":{{"Test":["a\u003eb"],"StartInterval":{one}}},"Env":["A=1"],"#,
                r#""Labels":{{"changed":"yes"}},"_c":{two},"_d":{one}}},"_b\u00e9":{one},"_a":{two},"_a":{one}}}"#
            ),
            one = one,
            two = two,
        );
        let mut config = Config::parse(text.clone()).unwrap();
        prop_assert_eq!(config.to_bytes(), text.as_bytes());
        config.set_label("changed", "yes");
        config.set_history(&config.history());
        let written = config.to_bytes();
        prop_assert_eq!(std::str::from_utf8(&written).unwrap(), &expected);
        let mut again = Config::parse(written.clone()).unwrap();
        prop_assert_eq!(&again.to_bytes(), &written);
        again.set_label("changed", "yes");
        prop_assert_eq!(again.to_bytes(), written);
    }
}
