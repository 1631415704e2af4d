//! The files as buildpack authors' tools see them: what `libcnb` writes we read, and what we write it reads.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use libcnb_data::build_plan::{BuildPlanBuilder, Require};
use libcnb_data::buildpack_plan::BuildpackPlan as AuthorsPlan;
use libcnb_data::launch::{LaunchBuilder, ProcessBuilder, Slice};
use libcnb_data::layer_content_metadata::{LayerContentMetadata, LayerTypes as AuthorsTypes};
use libcnb_data::process_type;
use longshore_cnb::BuildpackApi;
use longshore_cnb::launch_toml::LaunchToml;
use longshore_cnb::layer_toml::{LayerToml, LayerTypes};
use longshore_cnb::plan::{BuildPlan, BuildpackPlan};

fn toml_of(value: &impl serde::Serialize) -> String {
    toml::to_string(value).expect("serializable")
}

#[test]
fn build_plans_of_libcnb_are_read() {
    let mut require = Require::new("node");
    require.metadata(toml::toml! { version = "22" }).expect("a table");
    let plan = BuildPlanBuilder::new().provides("node").requires(require).or().provides("npm").build();
    let read: BuildPlan = toml::from_str(&toml_of(&plan)).expect("valid");
    let alternatives = read.into_alternatives();
    assert_eq!(alternatives.len(), 2);
    assert_eq!(alternatives[0].provides[0].name, "node");
    assert_eq!(alternatives[0].requires[0].metadata, toml::toml! { version = "22" });
    assert_eq!(alternatives[1].provides[0].name, "npm");
}

#[test]
fn buildpack_plans_are_read_by_libcnb() {
    let text = "[[entries]]\nname = 'node'\n[entries.metadata]\nversion = '22'\n[[entries]]\nname = 'npm'\n";
    let plan: BuildpackPlan = toml::from_str(text).expect("valid");
    let read: AuthorsPlan = toml::from_str(&toml_of(&plan)).expect("valid");
    assert_eq!(read.entries.len(), 2);
    assert_eq!(read.entries[0].metadata, toml::toml! { version = "22" });
    let none: AuthorsPlan = toml::from_str(&toml_of(&BuildpackPlan::default())).expect("valid");
    assert!(none.entries.is_empty());
}

#[test]
fn layer_metadata_go_both_ways() {
    let types = AuthorsTypes { launch: true, build: false, cache: true };
    let written: LayerContentMetadata<toml::Table> =
        LayerContentMetadata { types: Some(types), metadata: toml::toml! { n = 1 } };
    let read: LayerToml = toml::from_str(&toml_of(&written)).expect("valid");
    assert_eq!(read.types, LayerTypes { launch: true, build: false, cache: true });

    // What a restorer writes: metadata without types.
    let restored = LayerToml::new(LayerTypes::default(), read.metadata);
    let again: LayerContentMetadata<toml::Table> = toml::from_str(&toml_of(&restored)).expect("valid");
    assert_eq!(again.types, None);
    assert_eq!(again.metadata, toml::toml! { n = 1 });
}

#[test]
fn launch_files_of_libcnb_are_read() {
    let process =
        ProcessBuilder::new(process_type!("web"), ["node", "server.js"]).arg("--port").default(true).build();
    let launch = LaunchBuilder::new()
        .process(process)
        .slice(Slice { path_globs: vec!["public/*".to_owned()] })
        .build();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("launch.toml");
    std::fs::write(&path, toml_of(&launch)).expect("written");
    let read = LaunchToml::read(&path, BuildpackApi::latest(), "example/node").expect("valid");
    assert_eq!(read.processes[0].command, ["node", "server.js"]);
    assert_eq!(read.processes[0].args.as_deref(), Some(&["--port".to_owned()][..]));
    assert!(read.processes[0].default && read.processes[0].direct);
    assert_eq!(read.slices[0].paths.as_deref(), Some(&["public/*".to_owned()][..]));
}
