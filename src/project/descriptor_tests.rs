use super::*;

const FULL: &str = r#"
[_]
schema-version = "0.2"
id = "io.example.app"
licenses = [{ type = "MIT" }]
[_.metadata]
anything = { at = "all" }
[io.buildpacks]
builder = "example/builder"
exclude = ["/target", "*.log"]
[[io.buildpacks.group]]
id = "example/python"
version = "1.2.3"
[[io.buildpacks.group]]
uri = "buildpacks/own"
[[io.buildpacks.group]]
id = "me/script"
[io.buildpacks.group.script]
api = "0.10"
inline = "echo hello"
[[io.buildpacks.pre.group]]
id = "first"
[[io.buildpacks.post.group]]
id = "last"
[[io.buildpacks.build.env]]
name = "NODE_ENV"
value = "production"
[other.tool]
key = 1
"#;

#[test]
fn schema_0_2_is_read_in_full() {
    let project = ProjectDescriptor::parse(FULL, "production").unwrap();
    assert_eq!(project.builder.as_deref(), Some("example/builder"));
    assert_eq!(
        project.group,
        [
            ModuleLocator::Id { id: "example/python".to_owned(), version: Some("1.2.3".to_owned()) },
            ModuleLocator::Uri("buildpacks/own".to_owned()),
            ModuleLocator::Script(Script {
                id: "me/script".to_owned(),
                version: "0.0.0".to_owned(),
                api: "0.10".to_owned(),
                inline: "echo hello".to_owned(),
                shell: "/bin/sh".to_owned(),
            }),
        ]
    );
    assert_eq!(project.pre, [ModuleLocator::Id { id: "first".to_owned(), version: None }]);
    assert_eq!(project.post, [ModuleLocator::Id { id: "last".to_owned(), version: None }]);
    assert_eq!(project.env, [Variable { name: "NODE_ENV".to_owned(), value: "production".to_owned() }]);
    assert!(!project.filter.keeps(Path::new("target"), true));
    assert!(project.filter.keeps(Path::new("src/main.py"), false));
}

#[test]
fn schema_0_1_has_other_tables() {
    let project = ProjectDescriptor::parse(
        "[project]\nversion = \"1\"\nsource-url = \"https://example.com\"\n[build]\nbuilder = \"b\"\n\
         [[build.buildpacks]]\nid = \"x\"\n[[build.env]]\nname = \"A\"\nvalue = \"1\"\n",
        "production",
    )
    .unwrap();
    assert_eq!(project.builder.as_deref(), Some("b"));
    assert_eq!(project.group.len(), 1);
    assert_eq!(project.env.len(), 1);
    assert_eq!(project.version.as_deref(), Some("1"));
}

#[test]
fn the_old_place_of_variables_still_counts() {
    let text = "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.env.build]]\nname = \"A\"\nvalue = \"1\"\n";
    assert_eq!(ProjectDescriptor::parse(text, "production").unwrap().env.len(), 1);
}

#[test]
fn execution_environments_choose_buildpacks_and_variables() {
    let text = r#"
        [_]
        schema-version = "0.3"
        [[io.buildpacks.group]]
        id = "always"
        [[io.buildpacks.group]]
        id = "only-test"
        exec-env = ["test"]
        [[io.buildpacks.build.env]]
        name = "A"
        value = "1"
        exec-env = ["*"]
        [[io.buildpacks.build.env]]
        name = "B"
        value = "1"
        exec-env = ["test"]
    "#;
    for (exec_env, counts) in [("production", (1, 1)), ("test", (2, 2))] {
        let project = ProjectDescriptor::parse(text, exec_env).unwrap();
        assert_eq!((project.group.len(), project.env.len()), counts, "{exec_env}");
    }
}

#[test]
fn mistakes_are_explained() {
    for (text, reason) in [
        ("[_]\nschema-version = \"9\"\n", "known are"),
        ("[_]\nschema-version = \"0.2\"\n[io.buildpacks]\ninclude = []\nexclude = []\n", "both"),
        ("[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nversion = \"1\"\n", "`id` or a `uri`"),
        (
            "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nuri = \"a\"\nversion = \"1\"\n",
            "both `uri` and `version`",
        ),
        (
            "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"a\"\nscript = { inline = \"x\" }\n",
            "needs `api`",
        ),
        ("[_]\nschema-version = \"0.2\"\nlicenses = [{}]\n", "license"),
        ("[_\n", "TOML"),
        ("[io.buildpacks]\nbuilder = \"x\"\n", "schema version"),
        ("[_]\nschema-version = \"0.2\"\n[io.buildpacks]\nbuilder = 5\n", "string"),
    ] {
        let error = ProjectDescriptor::parse(text, "production").unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{text}: {error:#}");
    }
}

#[test]
fn unknown_keys_are_found_where_the_schema_owns_the_table() {
    for (schema, text, unknown) in [
        (Schema::V02, "[io.buildpacks]\nbiulder = 1\n[x]\ny = 1\n", vec!["io.buildpacks.biulder"]),
        (Schema::V02, "[_]\ntitle = 1\n[_.metadata]\nx = 1\n", vec!["_.title"]),
        (Schema::V02, "[[io.buildpacks.group]]\nexec-env = []\n", vec!["io.buildpacks.group.exec-env"]),
        (Schema::V03, "[[io.buildpacks.group]]\nexec-env = []\n", vec![]),
        (Schema::V01, "[build]\nx = 1\n[metadata]\ny = 1\n", vec!["build.x"]),
    ] {
        assert_eq!(schema.unknown_keys(&text.parse().unwrap()), unknown, "{text}");
    }
}
