//! The build with buildpacks that are run.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use longshore_lifecycle::ExitCode;
use longshore_lifecycle::build::{BuildError, build};

use crate::support::{World, names};

/// A build environment with one group of buildpacks that have nothing but `bin/build`.
fn world(buildpacks: &[(&str, &str)]) -> World {
    let world = World::new();
    for (id, script) in buildpacks {
        world.buildpack(id, "", script);
    }
    let ids: Vec<_> = buildpacks.iter().map(|(id, _)| *id).collect();
    world.group(&ids);
    world
}

fn succeeds(world: &World) {
    build(&world.build_input()).unwrap_or_else(|error| panic!("{error:#?}"));
}

fn fails(world: &World, code: ExitCode) -> BuildError {
    let error = build(&world.build_input()).expect_err("the build fails");
    assert_eq!(error.exit_code(), code, "{error:?}");
    error
}

/// The error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[test]
fn buildpacks_run_in_order_in_the_app_directory() {
    let world = world(&[("a", "pwd; echo a"), ("org/b", "echo b >&2; echo c")]);
    succeeds(&world);
    assert_eq!(world.read("log/output"), format!("{}\na\nb\nc\n", world.path("app").display()));
    assert!(world.path("layers/org_b").is_dir());
    assert_eq!(
        world.read("layers/config/metadata.toml"),
        "\n[[buildpacks]]\n  id = \"a\"\n  version = \"1\"\n  api = \"0.12\"\n\n\
         [[buildpacks]]\n  id = \"org/b\"\n  version = \"1\"\n  api = \"0.12\"\n"
            .trim_start()
            .to_owned()
            .replacen("[[buildpacks]]", "processes = []\n\n[[buildpacks]]", 1)
    );
}

#[test]
fn a_buildpack_that_fails_ends_the_build() {
    for (script, status) in
        [("exit 1", "exit status 1"), ("exit 100", "exit status 100"), ("kill -9 $$", "signal 9")]
    {
        let world = world(&[("a", script), ("b", "touch $log/b")]);
        let error = fails(&world, ExitCode::BuildpackFailed);
        assert!(error.to_string().contains(&format!("a@1 failed: bin/build ended with {status}")), "{error}");
        assert!(!world.path("log/b").exists());
        assert!(!world.path("layers/config/metadata.toml").exists());
    }
}

#[test]
fn a_buildpack_without_bin_build_fails() {
    let world = world(&[("a", "")]);
    fs_err::remove_file(world.path("buildpacks/a/1/bin/build")).expect("removed");
    assert!(matches!(fails(&world, ExitCode::BuildpackFailed), BuildError::Start { .. }));
}

#[test]
fn inputs_that_cannot_be_used_have_their_exit_codes() {
    let bad_group = world(&[]);
    bad_group.write("layers/group.toml", "[[group]");
    fails(&bad_group, ExitCode::Failed);
    let missing = world(&[]);
    missing.write("layers/group.toml", "[[group]]\nid = 'gone'\nversion = '1'\napi = '0.10'");
    fails(&missing, ExitCode::Build);
    let unsupported = world(&[("a", "")]);
    unsupported.write("layers/group.toml", "[[group]]\nid = 'a'\nversion = '1'\napi = '0.3'");
    fails(&unsupported, ExitCode::IncompatibleBuildpackApi);
}

#[test]
fn arguments_and_variables_name_the_same_paths() {
    let world = world(&[(
        "a",
        "[ \"$1\" = \"$CNB_LAYERS_DIR\" ]; [ \"$2\" = \"$CNB_PLATFORM_DIR\" ]; [ \"$3\" = \"$CNB_BP_PLAN_PATH\" ]
         env | sort > $log/env",
    )]);
    world.write("platform/env/BP_USER", "user");
    succeeds(&world);
    let path = |name: &str| world.path(name).display().to_string();
    let lines: Vec<_> = world
        .read("log/env")
        .lines()
        .filter(|line| {
            !["PWD=", "SHLVL=", "_=", "PATH=", "OLDPWD=", "CNB_BP_PLAN_PATH="]
                .iter()
                .any(|own| line.starts_with(own))
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(
        lines,
        [
            "BP_USER=user".to_owned(),
            "CNB_BUILDPACK_DIR=".to_owned() + &path("buildpacks/a/1"),
            "CNB_EXEC_ENV=production".to_owned(),
            "CNB_LAYERS_DIR=".to_owned() + &path("layers/a"),
            "CNB_PLATFORM_DIR=".to_owned() + &path("platform"),
            "CNB_TARGET_ARCH=amd64".to_owned(),
            "CNB_TARGET_DISTRO_NAME=debian".to_owned(),
            "CNB_TARGET_DISTRO_VERSION=13".to_owned(),
            "CNB_TARGET_OS=linux".to_owned(),
            "HOME=/home/of/cnb".to_owned(),
        ]
    );
}

#[test]
fn build_layers_reach_later_buildpacks_only() {
    let layer = "
        mkdir -p $1/x/bin $1/x/env $1/x/env.build $1/x/env.launch
        printf first > $1/x/env/BOTH; printf second > $1/x/env.build/BOTH; printf no > $1/x/env.launch/LAUNCH
        printf '[types]\\nbuild = true' > $1/x.toml
        mkdir -p $1/y/bin; printf '[types]\\nlaunch = true' > $1/y.toml
        env > $log/first";
    let world = world(&[("a", layer), ("b", "env > $log/second")]);
    succeeds(&world);
    assert!(!world.read("log/first").contains("BOTH"));
    let second = world.read("log/second");
    let bin = world.path("layers/a/x/bin").display().to_string();
    assert!(second.contains(&format!("PATH={bin}:")), "{second}");
    assert!(second.contains("BOTH=second\n"), "{second}");
    assert!(!second.contains("LAUNCH") && !second.contains("layers/a/y"), "{second}");
}

#[test]
fn layers_for_nothing_are_set_aside_before_the_next_buildpack() {
    let world = world(&[
        (
            "a",
            "for l in ignored launch_ build_ cache_; do mkdir $1/$l; touch $1/$l/file; done
             mkdir $1/plain
             touch $1/ignored.toml
             printf '[types]\\nlaunch = true' > $1/launch_.toml
             printf '[types]\\nbuild = true' > $1/build_.toml
             printf '[types]\\ncache = true' > $1/cache_.toml",
        ),
        ("b", "ls $1/../a > $log/seen"),
    ]);
    succeeds(&world);
    let seen = world.read("log/seen");
    let directories: Vec<_> = seen.lines().filter(|line| !line.ends_with(".toml")).collect();
    assert_eq!(directories, ["build_", "cache_", "ignored.ignore", "launch_", "plain"]);
    succeeds_again(&world);
}

/// A leftover `.ignore` directory must not be in the way of the next build in the same directory.
fn succeeds_again(world: &World) {
    for directory in ["launch_", "build_", "cache_", "plain"] {
        fs_err::remove_dir_all(world.path(&format!("layers/a/{directory}"))).expect("removed");
    }
    succeeds(world);
}

#[test]
fn outputs_that_break_a_rule_fail_the_build() {
    for (script, part) in [
        ("echo 'launch = true' > $1/x.toml", "[types]"),
        ("echo '[types' > $1/x.toml", "x.toml is not valid"),
        ("printf '[types]\\nlaunch = 1' > $1/x.toml", "x.toml is not valid"),
        ("echo nonsense > $1/launch.toml", "launch.toml"),
        ("printf '[[processes]]\\ntype = \"web\"\\ncommand = \"x\"' > $1/launch.toml", "must be a list"),
        ("printf '[[unmet]]\\nname = \"x\"' > $1/build.toml", "not in the buildpack plan"),
        ("printf '[[unmet]]' > $1/build.toml", "needs a 'name'"),
        ("echo nonsense > $1/build.toml", "build.toml is not valid"),
        ("echo nonsense > $1/store.toml", "store.toml is not valid"),
        ("printf '[[bom]]\\nname = \"x\"\\nversion = \"1\"' > $1/launch.toml", "metadata.version"),
        ("touch $1/launch.sbom.cdx.json", "sbom-formats"),
        ("touch $1/launch.sbom.other.json", "no supported SBOM format"),
    ] {
        let world = world(&[("a", script)]);
        let error = fails(&world, ExitCode::Build);
        assert!(chain(&error).contains(part), "{script}: {}", chain(&error));
    }
}

#[test]
fn the_plan_has_what_the_buildpack_provides() {
    let world = world(&[
        ("a", "cat $3 > $log/a; printf '[[unmet]]\\nname = \"x\"' > $1/build.toml"),
        ("b", "cat $3 > $log/b"),
        ("c", "cat $3 > $log/c"),
    ]);
    world.write(
        "layers/plan.toml",
        "[[entries]]\n\
         providers = [{ id = 'a', version = '1' }, { id = 'b', version = '1' }, { id = 'c', version = '1' }]\n\
         requires = [{ name = 'x', metadata = { n = 1 } }, { name = 'x' }]\n\
         [[entries]]\n\
         providers = [{ id = 'a', version = '1' }, { id = 'c', version = '1' }]\n\
         requires = [{ name = 'y' }]\n",
    );
    succeeds(&world);
    let names = |id: &str| {
        world
            .read(&format!("log/{id}"))
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("name = ").map(str::to_owned))
            .collect::<Vec<_>>()
    };
    // a leaves x to b and meets y; b meets x; nothing is left for c.
    assert_eq!(names("a"), ["\"x\"", "\"x\"", "\"y\""]);
    assert_eq!(names("b"), ["\"x\"", "\"x\""]);
    assert_eq!(names("c"), Vec::<String>::new());
    assert!(world.read("log/a").contains("n = 1"));
}

#[test]
fn processes_labels_and_slices_are_gathered() {
    let world = world(&[
        (
            "a",
            "cat > $1/launch.toml <<'END'
[[labels]]
key = 'k'
value = 'a'
[[processes]]
type = 'web'
command = ['a']
default = true
[[processes]]
type = 'job'
command = ['a', 'always']
args = ['default']
[[slices]]
paths = ['a/*']
END",
        ),
        (
            "b",
            "cat > $1/launch.toml <<'END'
[[labels]]
key = 'k'
value = 'b'
[[processes]]
type = 'web'
command = ['b']
[[slices]]
paths = ['b']
END",
        ),
    ]);
    let output = build(&world.build_input()).expect("succeeds");
    let metadata = output.metadata;
    assert_eq!(metadata.buildpack_default_process_type, "");
    let processes: Vec<_> = metadata
        .processes
        .iter()
        .map(|process| format!("{} {:?} {}", process.process_type, process.command, process.buildpack_id))
        .collect();
    assert_eq!(processes, ["job [\"a\", \"always\"] a", "web [\"b\"] b"]);
    let labels: Vec<_> = metadata.labels.iter().map(|label| label.value.as_str()).collect();
    assert_eq!(labels, ["a", "b"]);
    assert_eq!(metadata.slices.len(), 2);
}

#[test]
fn old_platforms_get_commands_as_text() {
    let mut world = world(&[(
        "a",
        "printf '[[processes]]\\ntype = \"web\"\\ncommand = [\"a\", \"b\"]\\nargs = [\"c\"]' > $1/launch.toml",
    )]);
    world.platform_api = "0.9";
    succeeds(&world);
    let text = world.read("layers/config/metadata.toml");
    assert!(text.contains("command = \"a\"\n  args = [\"b\", \"c\"]"), "{text}");
}

#[test]
fn sbom_files_are_gathered_by_kind() {
    let world = World::new();
    world.buildpack_with(
        "org/a",
        "api = '0.12'",
        "sbom-formats = ['application/vnd.cyclonedx+json', 'application/spdx+json']",
        "",
        "echo 1 > $1/launch.sbom.cdx.json
         echo 2 > $1/build.sbom.spdx.json
         for l in l c n; do echo $l > $1/$l.sbom.cdx.json; done
         printf '[types]\\nlaunch = true\\ncache = true' > $1/l.toml
         printf '[types]\\ncache = true' > $1/c.toml
         echo x > $1/nolayer.sbom.other.json",
    );
    world.group(&["org/a"]);
    world.write("layers/sbom/launch/stale", "from an earlier build");
    succeeds(&world);
    assert_eq!(names(&world.path("layers/sbom")), ["build", "cache", "launch"]);
    assert_eq!(names(&world.path("layers/sbom/launch")), ["org_a", "sbom.legacy.json"]);
    assert_eq!(names(&world.path("layers/sbom/launch/org_a")), ["l", "sbom.cdx.json"]);
    assert_eq!(names(&world.path("layers/sbom/build/org_a")), ["c", "sbom.spdx.json"]);
    assert_eq!(names(&world.path("layers/sbom/cache/org_a")), ["c", "l"]);
    assert_eq!(world.read("layers/sbom/launch/org_a/l/sbom.cdx.json"), "l\n");
    assert_eq!(world.read("layers/sbom/launch/sbom.legacy.json"), "null\n");
}

#[test]
fn the_deprecated_bill_of_materials_moves_from_metadata_to_a_file() {
    let bom = "printf '[[bom]]\\nname = \"dep\"\\n[bom.metadata]\\nversion = \"1\"' > $1/launch.toml";
    let mut world = world(&[("a", bom)]);
    succeeds(&world);
    let json = "[{\"name\":\"dep\",\"metadata\":{\"version\":\"1\"},\"buildpack\":{\"id\":\"a\",\"version\":\"1\"}}]\n";
    assert_eq!(world.read("layers/sbom/launch/sbom.legacy.json"), json);
    assert_eq!(world.read("layers/sbom/build/sbom.legacy.json"), "null\n");
    assert!(!world.read("layers/config/metadata.toml").contains("bom"));
    world.platform_api = "0.8";
    succeeds(&world);
    assert!(world.read("layers/config/metadata.toml").contains("[[bom]]"));
    assert!(!world.path("layers/sbom/launch/sbom.legacy.json").exists());
}

#[test]
fn the_environment_of_old_buildpacks_has_no_new_variables() {
    for (api, expected) in [
        ("0.7", &["CNB_BUILDPACK_DIR"][..]),
        ("0.8", &["CNB_BP_PLAN_PATH", "CNB_BUILDPACK_DIR", "CNB_LAYERS_DIR", "CNB_PLATFORM_DIR"]),
        (
            "0.10",
            &[
                "CNB_BP_PLAN_PATH",
                "CNB_BUILDPACK_DIR",
                "CNB_LAYERS_DIR",
                "CNB_PLATFORM_DIR",
                "CNB_TARGET_ARCH",
                "CNB_TARGET_DISTRO_NAME",
                "CNB_TARGET_DISTRO_VERSION",
                "CNB_TARGET_OS",
            ],
        ),
    ] {
        let world = World::new();
        let save = "env | grep ^CNB_ | cut -d= -f1 | sort > $log/names";
        world.buildpack_with("a", &format!("api = '{api}'"), "", "", save);
        world.group(&["a"]);
        succeeds(&world);
        assert_eq!(world.read("log/names").lines().collect::<Vec<_>>(), expected, "{api}");
    }
}

#[test]
fn detection_and_build_fit_together() {
    let world = World::new();
    world.buildpack("a", "printf '[[provides]]\\nname = \"x\"' > $2", "cat $3 > $log/plan");
    world.buildpack("b", "printf '[[requires]]\\nname = \"x\"\\n[requires.metadata]\\nn = 1' > $2", "");
    world.order(&[&["a", "b"]]);
    let detected = longshore_lifecycle::detect::detect(&world.detect_input()).expect("detected");
    detected.write(&world.path("layers/group.toml"), &world.path("layers/plan.toml")).expect("written");
    succeeds(&world);
    assert_eq!(world.read("log/plan"), "[[entries]]\n  name = \"x\"\n  [entries.metadata]\n    n = 1\n");
}
