//! Detection with buildpacks that are run.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use longshore_lifecycle::ExitCode;
use longshore_lifecycle::detect::{DetectError, DetectOutput, DetectResult, Report, Stage, detect};

use crate::support::{World, names};

fn pass() -> &'static str {
    "exit 0"
}

/// A `bin/detect` that passes with a build plan.
fn plan(text: &str) -> String {
    format!("cat > \"$2\" <<'END'\n{text}\nEND")
}

fn ids(output: &DetectOutput) -> Vec<String> {
    output.group.buildpacks.iter().map(|element| element.id.clone()).collect()
}

fn passes(world: &World) -> DetectOutput {
    detect(&world.detect_input()).unwrap_or_else(|error| panic!("{error:#?}"))
}

fn fails(world: &World, code: ExitCode) -> DetectError {
    let error = detect(&world.detect_input()).expect_err("detection fails");
    assert_eq!(error.exit_code(), code, "{error:?}");
    error
}

fn report(error: DetectError) -> Report {
    match error {
        DetectError::NoneDetected { report, .. } => report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_group_that_passes_is_selected() {
    let world = World::new();
    world.buildpack("a", "exit 100", "");
    world.buildpack("b", pass(), "");
    world.buildpack("c", pass(), "");
    world.order(&[&["a", "b"], &["b", "a?"], &["c"]]);
    assert_eq!(ids(&passes(&world)), ["b"]);
}

#[test]
fn group_and_plan_are_written() {
    let world = World::new();
    world.buildpack_with(
        "org/a",
        "api = '0.10'",
        "homepage = 'https://a'",
        &plan("provides = [{ name = 'x' }]"),
        "",
    );
    world.buildpack("b", &plan("[[requires]]\nname = 'x'\n[requires.metadata]\nn = 1\nt = 'v'"), "");
    world.order(&[&["org/a", "b"]]);
    let output = passes(&world);
    output.write(&world.path("layers/group.toml"), &world.path("layers/plan.toml")).expect("written");
    assert_eq!(
        world.read("layers/group.toml"),
        "[[group]]\n  id = \"org/a\"\n  version = \"1\"\n  api = \"0.10\"\n  homepage = \"https://a\"\n\n\
         [[group]]\n  id = \"b\"\n  version = \"1\"\n  api = \"0.12\"\n"
    );
    assert_eq!(
        world.read("layers/plan.toml"),
        "[[entries]]\n\n  [[entries.providers]]\n    id = \"org/a\"\n    version = \"1\"\n\n  \
         [[entries.requires]]\n    name = \"x\"\n    [entries.requires.metadata]\n      n = 1\n      t = \"v\"\n"
    );
}

#[test]
fn exit_codes_tell_failures_from_errors() {
    for (detect, code, result) in [
        ("echo no files; exit 100", ExitCode::NoneDetected, DetectResult::Fail),
        ("echo oops >&2; exit 1", ExitCode::NoneDetectedWithErrors, DetectResult::Error),
        ("exit 101", ExitCode::NoneDetectedWithErrors, DetectResult::Error),
        ("kill -9 $$", ExitCode::NoneDetectedWithErrors, DetectResult::Error),
        ("echo 'not toml' > \"$2\"", ExitCode::NoneDetectedWithErrors, DetectResult::Error),
        (
            "printf '[[requires]]\\nname = \"x\"\\nversion = \"1\"' > \"$2\"",
            ExitCode::NoneDetectedWithErrors,
            DetectResult::Error,
        ),
    ] {
        let world = World::new();
        world.buildpack("a", detect, "");
        world.order(&[&["a"]]);
        let report = report(fails(&world, code));
        assert_eq!(report.modules[0].result, result, "{detect}");
    }
}

#[test]
fn an_optional_buildpack_that_errs_does_not_fail_its_group() {
    let world = World::new();
    world.buildpack("a", "exit 7", "");
    world.buildpack("b", pass(), "");
    world.order(&[&["a?", "b"]]);
    assert_eq!(ids(&passes(&world)), ["b"]);
}

#[test]
fn a_group_needs_a_buildpack_that_passes() {
    let world = World::new();
    world.buildpack("a", "exit 100", "");
    world.extension("e", pass(), "");
    world.order_with_extensions(&[&["a?"]], &[&["e"]]);
    let report = report(fails(&world, ExitCode::NoneDetected));
    assert_eq!(report.groups[0].reasons, ["none of its buildpacks passed"]);
}

#[test]
fn composite_buildpacks_are_expanded_depth_first() {
    let world = World::new();
    for id in ["a", "b", "d"] {
        world.buildpack(id, &format!("echo {id} >> $log/order"), "");
    }
    world.buildpack("c", "exit 100", "");
    world.composite("inner", &[&["c"], &["b"]]);
    world.composite("outer", &[&["a", "inner"]]);
    world.order(&[&["outer", "d"]]);
    assert_eq!(ids(&passes(&world)), ["a", "b", "d"]);
}

#[test]
fn an_optional_composite_can_be_left_out() {
    let world = World::new();
    world.buildpack("a", "exit 100", "");
    world.buildpack("b", pass(), "");
    world.composite("c", &[&["a"]]);
    world.order(&[&["c?", "b"]]);
    assert_eq!(ids(&passes(&world)), ["b"]);
    world.order(&[&["c", "b"]]);
    let report = report(fails(&world, ExitCode::NoneDetected));
    assert_eq!(report.groups.len(), 1);
}

#[test]
fn a_composite_inside_itself_is_reported() {
    let world = World::new();
    world.buildpack("x", "exit 100", "");
    world.composite("a", &[&["x"], &["b"]]);
    world.composite("b", &[&["a"]]);
    world.order(&[&["a"]]);
    let error = fails(&world, ExitCode::Detect);
    assert!(error.to_string().ends_with("a@1 -> b@1 -> a@1"), "{error}");
}

#[test]
fn a_composite_may_be_named_twice() {
    let world = World::new();
    world.buildpack("x", pass(), "");
    world.composite("a", &[&["x"]]);
    world.order(&[&["a", "a"]]);
    assert_eq!(ids(&passes(&world)), ["x"]);
}

#[test]
fn detect_runs_once_however_many_groups_have_it() {
    let world = World::new();
    world.buildpack("a", "echo run >> $log/a", "");
    world.buildpack("b", "exit 100", "");
    world.order(&[&["a", "b"], &["b", "a"], &["a"]]);
    assert_eq!(ids(&passes(&world)), ["a"]);
    assert_eq!(world.read("log/a"), "run\n");
}

#[test]
fn detect_of_a_group_runs_in_parallel() {
    // Each waits until the other has started: one after the other they would wait for ever.
    let world = World::new();
    let wait = |own: &str, other: &str| {
        format!(
            "touch $log/{own}; for i in $(seq 200); do [ -e $log/{other} ] && exit 0; sleep 0.05; done; exit 1"
        )
    };
    world.buildpack("a", &wait("a", "b"), "");
    world.buildpack("b", &wait("b", "a"), "");
    world.order(&[&["a", "b"]]);
    assert_eq!(ids(&passes(&world)), ["a", "b"]);
}

#[test]
fn missing_buildpacks_fail_with_their_place() {
    let world = World::new();
    world.order(&[&["gone"]]);
    let error = fails(&world, ExitCode::Failed);
    assert!(matches!(error, DetectError::TopLevelModule { .. }), "{error:?}");
    world.composite("a", &[&["gone"]]);
    world.order(&[&["a"]]);
    let error = fails(&world, ExitCode::Detect);
    assert!(matches!(error, DetectError::NestedModule { .. }), "{error:?}");
}

#[test]
fn unsupported_apis_have_their_own_exit_code() {
    let world = World::new();
    world.buildpack_with("a", "api = '0.2'", "", pass(), "");
    world.order(&[&["a"]]);
    fails(&world, ExitCode::IncompatibleBuildpackApi);
    world.composite("c", &[&["a"]]);
    world.order(&[&["c"]]);
    fails(&world, ExitCode::IncompatibleBuildpackApi);
}

#[test]
fn unreadable_orders_fail() {
    let world = World::new();
    fails(&world, ExitCode::Failed);
    world.write("order.toml", "[[order");
    fails(&world, ExitCode::Failed);
    world.write("order.toml", "");
    fails(&world, ExitCode::NoneDetected);
}

#[test]
fn detect_sees_its_environment_and_nothing_else() {
    let world = World::new();
    world.write("platform/env/BP_USER", "user");
    world.write("config/env/BP_OPERATOR", "operator");
    let save =
        "env > $log/$(basename $(dirname $CNB_BUILDPACK_DIR)); pwd > $log/pwd; echo $1 $2 > $log/arguments";
    world.buildpack("new", save, "");
    world.buildpack_with("old", "api = '0.7'", "", save, "");
    world.buildpack_with("clear", "api = '0.9'", "clear-env = true", save, "");
    world.order(&[&["new"]]);
    passes(&world);
    let path = |name: &str| world.path(name).display().to_string();
    assert_eq!(world.read("log/pwd").trim(), path("app"));
    assert!(world.read("log/arguments").starts_with(&path("platform")));
    let variables = |id: &str| {
        let mut lines: Vec<_> = world
            .read(&format!("log/{id}"))
            .lines()
            .filter(|line| {
                !["PWD=", "SHLVL=", "_=", "PATH=", "OLDPWD="].iter().any(|own| line.starts_with(own))
            })
            .map(|line| match line.split_once("BUILD_PLAN_PATH=") {
                Some((name, _)) => format!("{name}BUILD_PLAN_PATH"),
                None => line.to_owned(),
            })
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(
        variables("new"),
        [
            "BP_OPERATOR=operator".to_owned(),
            "BP_USER=user".to_owned(),
            "CNB_BUILDPACK_DIR=".to_owned() + &path("buildpacks/new/1"),
            "CNB_BUILD_PLAN_PATH".to_owned(),
            "CNB_EXEC_ENV=production".to_owned(),
            "CNB_PLATFORM_DIR=".to_owned() + &path("platform"),
            "CNB_TARGET_ARCH=amd64".to_owned(),
            "CNB_TARGET_DISTRO_NAME=debian".to_owned(),
            "CNB_TARGET_DISTRO_VERSION=13".to_owned(),
            "CNB_TARGET_OS=linux".to_owned(),
            "HOME=/home/of/cnb".to_owned(),
        ]
    );
    world.order(&[&["old", "clear"]]);
    passes(&world);
    assert_eq!(
        variables("old"),
        [
            "BP_OPERATOR=operator".to_owned(),
            "BP_USER=user".to_owned(),
            "CNB_BUILDPACK_DIR=".to_owned() + &path("buildpacks/old/1"),
            "HOME=/home/of/cnb".to_owned(),
        ]
    );
    assert_eq!(
        variables("clear"),
        [
            "BP_OPERATOR=operator".to_owned(),
            "CNB_BUILDPACK_DIR=".to_owned() + &path("buildpacks/clear/1"),
            "CNB_BUILD_PLAN_PATH".to_owned(),
            "CNB_PLATFORM_DIR=".to_owned() + &path("platform"),
            "HOME=/home/of/cnb".to_owned(),
        ]
    );
}

#[test]
fn a_required_buildpack_must_support_the_target() {
    let world = World::new();
    let windows = "[[targets]]\nos = 'windows'";
    world.buildpack_with("a", "api = '0.10'", "", pass(), "");
    world.write("buildpacks/w/1/buildpack.toml", &format!("api = '0.10'\n[buildpack]\nid = 'w'\n{windows}"));
    world.script("buildpacks/w/1/bin/detect", "touch $log/w");
    world.order(&[&["w"], &["a"]]);
    assert_eq!(ids(&passes(&world)), ["a"]);
    assert_eq!(names(&world.path("log")), Vec::<String>::new());
    world.order(&[&["w"]]);
    let report = report(fails(&world, ExitCode::NoneDetectedWithErrors));
    assert!(report.modules[0].reason.contains("supports windows/*"), "{report}");
    // Spec: only a buildpack that is not optional fails its group; every other one is executed.
    world.order(&[&["w?", "a"]]);
    assert_eq!(ids(&passes(&world)), ["w", "a"]);
}

#[test]
fn targets_do_not_matter_before_platform_api_0_12() {
    let mut world = World::new();
    world.platform_api = "0.11";
    world.buildpack_with("w", "api = '0.10'\ntargets = [{ os = 'windows' }]", "", pass(), "");
    world.order(&[&["w"]]);
    assert_eq!(ids(&passes(&world)), ["w"]);
}

#[test]
fn the_target_comes_from_the_analyzed_run_image() {
    let world = World::new();
    world.write(
        "layers/analyzed.toml",
        "[run-image.target]\nos = 'linux'\narch = 'arm64'\narch-variant = 'v8'\n\
         [run-image.target.distro]\nname = 'ubuntu'\nversion = '24.04'\n",
    );
    world.buildpack("a", "env | grep CNB_TARGET | sort > $log/target", "");
    world.order(&[&["a"]]);
    passes(&world);
    assert_eq!(
        world.read("log/target"),
        "CNB_TARGET_ARCH=arm64\nCNB_TARGET_ARCH_VARIANT=v8\nCNB_TARGET_DISTRO_NAME=ubuntu\n\
         CNB_TARGET_DISTRO_VERSION=24.04\nCNB_TARGET_OS=linux\n"
    );
}

#[test]
fn buildpacks_of_other_execution_environments_are_skipped() {
    let mut world = World::new();
    world.buildpack_with("a", "api = '0.12'", "exec-env = ['test']", pass(), "");
    world.buildpack("b", pass(), "");
    world.order(&[&["a", "b"]]);
    assert_eq!(ids(&passes(&world)), ["b"]);
    world.exec_env = "te/st";
    fails(&world, ExitCode::InvalidArguments);
    world.exec_env = "test";
    assert_eq!(ids(&passes(&world)), ["a", "b"]);
    world.exec_env = "production";
    world.platform_api = "0.14";
    assert_eq!(ids(&passes(&world)), ["a", "b"]);
}

#[test]
fn system_buildpacks_surround_each_group() {
    let mut world = World::new();
    for id in ["pre", "a", "post"] {
        world.buildpack(id, pass(), "");
    }
    world.buildpack("maybe", "exit 100", "");
    world.write(
        "system.toml",
        "[[system.pre.buildpacks]]\nid = 'pre'\nversion = '1'\n\
         [[system.pre.buildpacks]]\nid = 'maybe'\nversion = '1'\noptional = true\n\
         [[system.post.buildpacks]]\nid = 'post'\nversion = '1'\n",
    );
    world.order(&[&["a"]]);
    assert_eq!(ids(&passes(&world)), ["pre", "a", "post"]);
    world.platform_api = "0.14";
    assert_eq!(ids(&passes(&world)), ["a"]);
}

#[test]
fn extensions_take_part_before_the_buildpacks() {
    let world = World::new();
    world.extension("e", "", "");
    world.write("extensions/e/1/detect/plan.toml", "provides = [{ name = 'x' }]");
    world.extension("unused", &plan("provides = [{ name = 'nobody wants' }]"), "");
    world.extension("fails", "exit 100", "");
    world.buildpack("a", &plan("requires = [{ name = 'x' }]"), "");
    world.order_with_extensions(&[&["a"]], &[&["e", "unused", "fails"]]);
    let output = passes(&world);
    let extensions: Vec<_> = output.group.extensions.iter().map(|element| element.id.as_str()).collect();
    assert_eq!(extensions, ["e"]);
    assert_eq!(ids(&output), ["a"]);
    assert!(output.plan.entries[0].providers[0].extension);
}

#[test]
fn extensions_may_not_require() {
    let world = World::new();
    world.extension("e", &plan("requires = [{ name = 'x' }]"), "");
    world.buildpack("a", &plan("provides = [{ name = 'x' }]\nrequires = [{ name = 'x' }]"), "");
    world.order_with_extensions(&[&["a"]], &[&["e"]]);
    assert!(passes(&world).group.extensions.is_empty());
}

#[test]
fn extensions_see_their_own_directory() {
    let world = World::new();
    world.extension("e", "env | grep _DIR= | sort > $log/directories", "");
    world.buildpack("a", pass(), "");
    world.order_with_extensions(&[&["a"]], &[&["e"]]);
    passes(&world);
    let expected = format!(
        "CNB_EXTENSION_DIR={}\nCNB_PLATFORM_DIR={}\n",
        world.path("extensions/e/1").display(),
        world.path("platform").display()
    );
    assert_eq!(world.read("log/directories"), expected);
}

#[test]
fn a_failure_shows_every_buildpack_its_result_and_the_reason() {
    let world = World::new();
    world.buildpack("node", "echo looking; echo 'no package.json found'; exit 100", "");
    world.buildpack("broken", "echo 'line 3: boom' >&2; exit 2", "");
    world.buildpack("npm", &plan("requires = [{ name = 'node' }]"), "");
    world.order(&[&["node", "npm"], &["broken?", "npm"], &["npm"]]);
    let report = report(fails(&world, ExitCode::NoneDetectedWithErrors));
    assert_eq!(
        report.to_string(),
        "BUILDPACK  RESULT   REASON\n\
         node@1     fail     no package.json found\n\
         npm@1      pass\n\
         broken@1   error    exit status 2: line 3: boom\n\n\
         Group 1: node@1, npm@1\n  node@1 failed and is not optional\n\
         Group 2: broken@1?, npm@1\n  npm@1 requires 'node', which nothing up to it provides\n\
         Group 3: npm@1\n  npm@1 requires 'node', which nothing up to it provides\n\n\
         Output of node@1:\nlooking\nno package.json found"
    );
}

/// What stages that end behind so many groups come to, one after the other.
fn in_stages(world: &World, ends: &[usize]) -> Result<DetectOutput, DetectError> {
    let progress = world.path("layers/detection.toml");
    let _ = std::fs::remove_file(&progress);
    let mut input = world.detect_input();
    for end in ends {
        input.stage = Some(Stage { groups: *end, progress: progress.clone() });
        match detect(&input) {
            Err(DetectError::Undecided { groups }) => assert_eq!(groups, *end),
            ended => return ended,
        }
    }
    panic!("the last stage is undecided");
}

#[test]
fn stages_come_to_what_a_single_detection_comes_to() {
    let world = World::new();
    let run = "echo $(basename $(dirname $CNB_BUILDPACK_DIR)) >> $log/runs";
    world.buildpack("all", &format!("{run}; {}", plan("[[or]]\nprovides = [{ name = 'x' }]")), "");
    for id in ["a", "b", "c"] {
        let needs = plan("[[requires]]\nname = 'x'\n[requires.metadata]\nat = 1979-05-27");
        world.buildpack(id, &format!("{run}; [ -e {id} ] || {{ echo no {id}; exit 100; }}; {needs}"), "");
    }
    world.buildpack("broken", &format!("{run}; echo boom; exit 3"), "");
    world.composite("one", &[&["a", "broken"], &["all", "a"]]);
    world.composite("two", &[&["broken?", "all", "b"]]);
    world.order(&[&["one"], &["two", "c?"], &["all", "c"], &["broken"]]);
    // Without a file of theirs none passes, and a buildpack of an early group erred.
    for passing in [Some("a"), Some("b"), Some("c"), None] {
        if let Some(passing) = passing {
            world.write(&format!("app/{passing}"), "");
        }
        let detected = |stages: Option<&[usize]>| {
            let _ = std::fs::remove_file(world.path("log/runs"));
            let ended = match stages {
                Some(ends) => in_stages(&world, ends),
                None => detect(&world.detect_input()),
            };
            let mut runs: Vec<_> = world.read("log/runs").lines().map(str::to_owned).collect();
            runs.sort();
            let ended = ended.map_err(|error| (error.exit_code(), report(error).to_string()));
            (ended, runs)
        };
        let whole = detected(None);
        assert_eq!(
            whole.0.as_ref().map_err(|(code, _)| *code).err(),
            match passing {
                Some(_) => None,
                None => Some(ExitCode::NoneDetectedWithErrors),
            }
        );
        for ends in [&[4][..], &[1, 4], &[2, 9], &[1, 2, 3, 4], &[0, 3, 3, 4]] {
            assert_eq!(detected(Some(ends)), whole, "{passing:?} {ends:?}");
        }
        if let Some(passing) = passing {
            std::fs::remove_file(world.path(&format!("app/{passing}"))).expect("it is there");
        }
    }
}

#[test]
fn a_stage_asks_for_nothing_behind_it_and_tells_what_is_not_there() {
    let world = World::new();
    world.buildpack("a", "[ -e a ] || exit 100", "");
    world.composite("lies", &[&["gone"]]);
    world.order(&[&["a"], &["lies"], &["gone"]]);
    for (stages, code) in
        [(&[1, 2][..], ExitCode::NotThere), (&[3], ExitCode::NotThere), (&[1, 3], ExitCode::NotThere)]
    {
        let error = in_stages(&world, stages).expect_err("a buildpack is missing");
        assert_eq!(error.exit_code(), code, "{stages:?} {error:?}");
    }
    // Without stages the order names it itself, whatever the composite does.
    fails(&world, ExitCode::Failed);
    world.write("app/a", "");
    assert_eq!(ids(&in_stages(&world, &[2]).expect("the first passes")), ["a"]);
    // A missing buildpack in the order must not depend on the app, as far as the stage goes.
    assert_eq!(in_stages(&world, &[3]).map_err(|error| error.exit_code()), Err(ExitCode::NotThere));
}

#[test]
fn a_missing_app_and_a_missing_interpreter_are_named() {
    let world = World::new();
    world.buildpack("a", "exit 0", "");
    world.order(&[&["a"]]);
    let mut input = world.detect_input();
    input.app = world.path("elsewhere");
    let error = detect(&input).expect_err("there is no app");
    assert_eq!(error.exit_code(), ExitCode::Detect);
    assert!(error.to_string().contains("elsewhere does not exist"), "{error}");
    world.script_of("buildpacks/a/1/bin/detect", "/no/such/shell", "exit 0");
    let report = report(fails(&world, ExitCode::NoneDetectedWithErrors));
    assert!(report.modules[0].reason.contains("interpreter"), "{report}");
}
