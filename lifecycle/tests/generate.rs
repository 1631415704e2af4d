//! Generation with image extensions that are run.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use longshore_lifecycle::detect::detect;
use longshore_lifecycle::detector::{self, DetectorInput};
use longshore_lifecycle::generate::{GenerateError, GenerateOutput, generate};
use longshore_lifecycle::{ExitCode, ExperimentalMode};

use crate::support::{World, names};

const KEEPS: &str = "ARG base_image\nFROM ${base_image}\nRUN true\n";

/// A build environment with extensions and one buildpack.
fn world(extensions: &[(&str, &str)]) -> World {
    let world = World::new();
    for (id, script) in extensions {
        world.extension(id, "exit 0", script);
    }
    world.buildpack("a", "exit 0", "");
    let ids: Vec<_> = extensions.iter().map(|(id, _)| *id).collect();
    world.order_with_extensions(&[&["a"]], &[&ids]);
    world.write("layers/analyzed.toml", "[run-image]\nreference = 'run@sha256:1'\nimage = 'run:old'\n");
    world
}

fn run(world: &World) -> Result<GenerateOutput, GenerateError> {
    let detected = detect(&world.detect_input()).expect("detected");
    generate(&world.generate_input(detected))
}

fn succeeds(world: &World) -> GenerateOutput {
    run(world).unwrap_or_else(|error| panic!("{error:#?}"))
}

fn write(name: &str, text: &str) -> String {
    format!("cat > $1/{name} <<'END'\n{text}\nEND\n")
}

#[test]
fn dockerfiles_stay_in_the_output_directory_since_0_13() {
    let script = write("run.Dockerfile", KEEPS)
        + &write("build.Dockerfile", KEEPS)
        + "mkdir $1/context; echo x > $1/context/file";
    let world = world(&[("org/e", &script)]);
    let output = succeeds(&world);
    assert_eq!(
        names(&world.path("layers/generated/org_e")),
        ["build.Dockerfile", "context", "run.Dockerfile"]
    );
    let run_image = output.analyzed.run_image.expect("kept");
    assert!(run_image.extend && run_image.image == "run:old" && run_image.reference == "run@sha256:1");
}

#[test]
fn dockerfiles_are_copied_by_kind_before_0_13() {
    let config = write("extend-config.toml", "[[build.args]]\nname = 'x'\nvalue = 'y'");
    let script = write("run.Dockerfile", KEEPS) + &write("build.Dockerfile", KEEPS) + &config;
    let mut world = world(&[("org/e", &script)]);
    world.platform_api = "0.12";
    succeeds(&world);
    for kind in ["build", "run"] {
        let directory = world.path(&format!("layers/generated/{kind}/org_e"));
        assert_eq!(names(&directory), ["Dockerfile", "extend-config.toml"]);
    }
    assert_eq!(names(&world.path("layers/generated")), ["build", "run"]);
}

#[test]
fn the_last_switch_of_the_run_image_counts() {
    let first = write("run.Dockerfile", KEEPS);
    let second = write("run.Dockerfile", "FROM run:new");
    for (api, ignored, kept) in [
        ("0.15", "layers/generated/e/run.Dockerfile.ignore", "layers/generated/f/run.Dockerfile"),
        ("0.12", "layers/generated/run/e/Dockerfile.ignore", "layers/generated/run/f/Dockerfile"),
    ] {
        let mut world = world(&[("e", &first), ("f", &second)]);
        world.platform_api = api;
        let output = succeeds(&world);
        let run_image = output.analyzed.run_image.expect("switched");
        assert_eq!((run_image.image.as_str(), run_image.extend), ("run:new", false), "{api}");
        assert_eq!(run_image.target, None);
        assert!(world.path(ignored).is_file() && world.path(kept).is_file(), "{api}");
        assert!(!world.path(ignored.trim_end_matches(".ignore")).exists(), "{api}");
    }
}

#[test]
fn an_extension_without_bin_generate_brings_its_files_along() {
    let world = world(&[("e", "")]);
    world.write("extensions/e/1/generate/run.Dockerfile", "FROM run:new\nRUN true\n");
    world.write("extensions/e/1/generate/context/file", "x");
    let output = succeeds(&world);
    assert!(output.analyzed.run_image.is_some_and(|run_image| run_image.extend));
    assert_eq!(world.read("layers/generated/e/context/file"), "x");
}

#[test]
fn extensions_meet_their_entries() {
    let world = World::new();
    world.extension("e", "printf 'provides = [{ name = \"x\" }]' > $2", "cat $3 > $log/plan");
    world.buildpack(
        "a",
        "printf 'requires = [{ name = \"x\", metadata = { n = 1 } }, { name = \"y\" }]\\nprovides = [{ name = \"y\" }]' > $2",
        "",
    );
    world.order_with_extensions(&[&["a"]], &[&["e"]]);
    let output = succeeds(&world);
    assert_eq!(world.read("log/plan"), "[[entries]]\n  name = \"x\"\n  [entries.metadata]\n    n = 1\n");
    let left: Vec<_> = output.plan.entries.iter().map(|entry| entry.requires[0].name.as_str()).collect();
    assert_eq!(left, ["y"]);
}

#[test]
fn generate_sees_its_environment() {
    let world = world(&[("e", "env | grep ^CNB_.*_DIR= | sort > $log/env; pwd >> $log/env")]);
    succeeds(&world);
    let path = |name: &str| world.path(name).display().to_string();
    assert_eq!(
        world.read("log/env").lines().collect::<Vec<_>>(),
        [
            format!("CNB_EXTENSION_DIR={}", path("extensions/e/1")),
            format!("CNB_OUTPUT_DIR={}", path("layers/generated/e")),
            format!("CNB_PLATFORM_DIR={}", path("platform")),
            path("app"),
        ]
    );
}

#[test]
fn failures_have_their_exit_codes() {
    for (script, code) in [
        ("exit 3".to_owned(), ExitCode::ExtensionFailed),
        (write("run.Dockerfile", "FROM a\nFROM b"), ExitCode::Generate),
        (write("build.Dockerfile", "FROM a"), ExitCode::Generate),
        (write("extend-config.toml", "[[run.args]]\nname = 'build_id'"), ExitCode::Generate),
        (write("extend-config.toml", "nonsense"), ExitCode::Generate),
        ("mkdir $1/context $1/context.run".to_owned(), ExitCode::Generate),
    ] {
        let error = run(&world(&[("e", &script)])).expect_err("fails");
        assert_eq!(error.exit_code(), code, "{script}: {error:?}");
    }
}

#[test]
fn the_outputs_are_written() {
    let world = world(&[("e", &write("run.Dockerfile", "FROM run:new"))]);
    let output = succeeds(&world);
    output.write(&world.path("layers/analyzed.toml"), &world.path("layers/plan.toml")).expect("written");
    let text = world.read("layers/analyzed.toml");
    assert!(text.contains("image = \"run:new\""), "{text}");
    assert!(world.path("layers/plan.toml").is_file());
}

fn detector_input(world: &World, experimental: ExperimentalMode) -> DetectorInput {
    DetectorInput {
        detect: world.detect_input(),
        group: world.path("layers/group.toml"),
        plan: world.path("layers/plan.toml"),
        generated: world.path("layers/generated"),
        run: world.path("run.toml"),
        experimental,
        output: None,
    }
}

#[test]
fn the_detector_generates_when_there_are_extensions() {
    let world = world(&[("e", &write("run.Dockerfile", "FROM run:new"))]);
    detector::run(detector_input(&world, ExperimentalMode::Fail)).expect("succeeds");
    assert!(world.read("layers/group.toml").contains("[[group-extensions]]"));
    assert!(world.read("layers/analyzed.toml").contains("image = \"run:new\""));
    assert!(world.path("layers/generated/e/run.Dockerfile").is_file());

    let before = "[run-image]\nimage = 'run:old'\n";
    world.write("layers/analyzed.toml", before);
    world.order(&[&["a"]]);
    detector::run(detector_input(&world, ExperimentalMode::Fail)).expect("succeeds");
    assert!(!world.read("layers/group.toml").contains("extensions"));
    assert_eq!(world.read("layers/analyzed.toml"), before);
}

#[test]
fn extensions_are_experimental_before_platform_api_0_13() {
    let mut world = world(&[("e", &write("run.Dockerfile", "FROM run:new"))]);
    world.platform_api = "0.12";
    let error = detector::run(detector_input(&world, ExperimentalMode::Fail)).expect_err("refused");
    assert_eq!(error.exit_code(), ExitCode::Failed);
    assert!(error.to_string().contains("CNB_EXPERIMENTAL_MODE"), "{error}");
    detector::run(detector_input(&world, ExperimentalMode::Warn)).expect("accepted");
    world.order(&[&["a"]]);
    detector::run(detector_input(&world, ExperimentalMode::Fail)).expect("no extension is used");
}
