//! Detection with no more of a builder than it needs: the layers of the groups up to the one that passes, and all that a
//! single detection over the whole order would have said.

use std::collections::BTreeSet;

use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::tiny::{TinyBuilder, web_buildpack};
use longshore_test_support::{Outcome, TestEnvironment};

use crate::LONGSHORE;
use crate::unpacking::Machine;

/// The layers of [`languages`], from the third on.
const LAYERS: [&str; 7] = ["java", "go", "ruby", "web", "jvm", "dist", "gem"];
/// What a build says when a group is tried that needs layers.
const NEXT: &str = "No group passed so far";

/// A builder as they usually are: a group for each language, of a composite buildpack. One buildpack is in all of them.
fn languages() -> TinyBuilder {
    let composite = |id: &str, member: &str| {
        ShellBuildpack::composite(&format!("test/{id}"), &["test/web", &format!("test/{member}")])
    };
    let component = |id: &str, file: &str| {
        let detect =
            format!("[ -e broken ] && exit 3\n[ -e {file} ] || {{ echo there is no {file}; exit 100; }}");
        ShellBuildpack::new(&format!("test/{id}"), &format!("echo building {file}")).detect(&detect)
    };
    let languages = [("java", "jvm"), ("go", "dist"), ("ruby", "gem")];
    let mut buildpacks: Vec<_> = languages.iter().map(|(id, member)| composite(id, member)).collect();
    buildpacks.push(web_buildpack().detect("echo looking at the web"));
    buildpacks.extend(languages.iter().map(|(id, member)| component(member, id)));
    let order = languages.iter().map(|(id, _)| vec![(format!("test/{id}"), false)]).collect();
    TinyBuilder { order, ..TinyBuilder::new(buildpacks) }
}

fn machine(files: &[&str]) -> Machine {
    let machine = Machine::new(&languages());
    for file in files {
        let _ = machine.environment.write(&format!("app/{file}"), "");
    }
    machine
}

/// The layers of modules that were downloaded, each once; what was unpacked is that and the two layers below.
fn fetched(machine: &Machine) -> BTreeSet<&'static str> {
    let layers = machine.layers();
    let fetched: Vec<_> = layers.iter().map(|(digest, _)| machine.downloads(digest)).collect();
    assert!(fetched.iter().all(|times| *times <= 1), "{fetched:?}");
    assert_eq!(machine.names().len(), fetched.iter().sum::<usize>());
    LAYERS.iter().zip(&fetched[2..]).filter(|(_, times)| **times == 1).map(|(name, _)| *name).collect()
}

fn runs(outcome: &Outcome, line: &str) -> usize {
    outcome.stdout.lines().filter(|other| *other == line).count()
}

#[test]
fn layers_of_groups_behind_the_one_that_passes_are_not_pulled() {
    for (file, stages, expected) in [
        ("java", 1, &["java", "jvm", "web"][..]),
        ("go", 2, &["java", "jvm", "web", "go", "dist"]),
        ("ruby", 3, &LAYERS),
    ] {
        let machine = machine(&[file]);
        let cold = machine.build(&["--verbose"]).success().says(&format!("building {file}"));
        assert_eq!(fetched(&machine), expected.iter().copied().collect(), "{file}");
        assert_eq!(cold.stdout.matches(NEXT).count(), stages - 1, "{}", cold.stdout);
        assert_eq!(cold.stdout.matches("===> DETECTING").count(), 1);
        // What all groups have is tried once.
        assert_eq!(runs(&cold, "looking at the web"), 1, "{}", cold.stdout);
        let image = machine.environment.digest("web");
        // All is there: a single stage.
        let warm = machine.build(&["--verbose"]).success().does_not_say(NEXT).does_not_say("Unpacking");
        assert_eq!(runs(&warm, "Starting detector..."), 1);
        assert_eq!(fetched(&machine), expected.iter().copied().collect(), "{file}");
        assert_eq!(machine.environment.digest("web"), image);
        // Another app needs what it needs, and no layer twice.
        std::fs::remove_file(machine.environment.path("app").join(file)).unwrap();
        let _ = machine.environment.write("app/ruby", "");
        let other = machine.build(&["--verbose"]).success().says("building ruby");
        assert_eq!(fetched(&machine), LAYERS.into_iter().collect());
        assert_eq!(other.stdout.matches(NEXT).count(), 3 - stages, "{}", other.stdout);
    }
}

/// Exit code, errors and table are those of a detection with everything there, which the second build is.
#[test]
fn when_no_group_passes_the_stages_say_what_one_detection_says() {
    for (files, more, code) in [
        (&[][..], &[][..], 20),
        (&[], &["--quiet"], 20),
        (&["broken"], &[], 21),
        (&["broken"], &["--quiet"], 21),
    ] {
        let machine = machine(files);
        let cold = machine.build(more).fails_with(code);
        assert_eq!(fetched(&machine), LAYERS.into_iter().collect());
        let warm = machine.build(more).fails_with(code).does_not_say(NEXT).says("Group 3: test/web@1.0.0, ");
        assert_eq!(cold.stderr, warm.stderr);
        let lines = |outcome: &Outcome| {
            let lines = outcome.stdout.lines().map(str::to_owned);
            let is_ours = |line: &String| {
                !line.contains(NEXT) && !line.starts_with("Unpacking") && !line.contains("] took ")
            };
            lines.filter(is_ours).collect::<Vec<_>>()
        };
        assert_eq!(lines(&cold), lines(&warm));
        assert_eq!(cold.stdout.matches(NEXT).count(), if more.is_empty() { 2 } else { 0 });
        assert_eq!(cold.stderr.matches("No buildpack groups passed detection").count(), 1);
    }
}

/// An error in a group counts although a later stage fails without one.
#[test]
fn an_error_of_an_early_stage_is_not_forgotten() {
    let mut builder = languages();
    builder.buildpacks[4].detect = "echo boom; exit 7".to_owned();
    let machine = Machine::new(&builder);
    machine.build(&[]).fails_with(21).says("test/jvm@1.0.0   error    exit status 7: boom");
    let _ = machine.environment.write("app/go", "");
    // It does not count when another group passes.
    machine.build(&[]).success().says("building go");
}

/// What the user names around the order, too.
#[test]
fn what_all_groups_have_is_in_every_stage() {
    let machine = machine(&["go"]);
    let look = ShellBuildpack::new("test/look", "ls /cnb/buildpacks").detect("echo looking first");
    look.write(&machine.environment.path("look"));
    let built = machine.build(&["--verbose", "--pre-buildpack", "look"]).success();
    assert_eq!(runs(&built, "looking first"), 1, "{}", built.stdout);
    assert_eq!(fetched(&machine), ["java", "go", "web", "jvm", "dist"].into_iter().collect());
    built.says("group 2 of 3").says("building go").says("test_dist").does_not_say("test_gem");
}

/// As without stages: that a builder is broken must not depend on the app.
#[test]
fn an_order_with_a_buildpack_of_an_unknown_api_is_refused_whichever_group_would_pass() {
    let mut builder = languages();
    builder.buildpacks[2].api = "9.9".to_owned();
    let machine = Machine::new(&builder);
    let _ = machine.environment.write("app/java", "");
    machine.build(&[]).fails_with(12).says("9.9").does_not_say(NEXT);
}

#[test]
fn a_builder_in_the_local_store_is_unpacked_in_stages_too() {
    let environment = TestEnvironment::new(LONGSHORE);
    languages().install(&environment);
    let _ = environment.write("app/go", "");
    let build = || environment.longshore(&["build", "web", "--path", "app", "--builder", "tiny-builder"]);
    let unpacked = || {
        let folder = environment.path("cache/longshore/unpacked");
        let mapping = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
        let names = std::fs::read_dir(mapping).unwrap().map(|child| child.unwrap().file_name());
        names.filter(|name| name.len() == 64).count()
    };
    build().success().says("Unpacking 5 of 9").says("Unpacking 2 of 9").says("building go");
    assert_eq!(unpacked(), 7);
    build().success().does_not_say("Unpacking").says("building go");
    assert_eq!(unpacked(), 7);
}

/// The order of the files counts, and what a composite buildpack says itself.
#[test]
fn a_builder_whose_labels_lie_has_the_detection_of_its_files() {
    let group = |id: &str| format!("[[order]]\n[[order.group]]\nid = \"test/{id}\"\nversion = \"1.0.0\"\n");
    // The label has the third group in the place of the first one.
    let machine = machine(&["ruby"]);
    machine.put_order(&[group("ruby"), group("java"), group("go")].concat());
    machine.build(&[]).success().says("building ruby").does_not_say(NEXT);
    assert_eq!(machine.names().len(), 10);
    // The label has fewer groups.
    let machine = self::machine(&[]);
    machine.put_order(&[group("java"), group("go"), group("ruby"), group("web")].concat());
    machine.build(&[]).success().does_not_say("ERROR");
    assert_eq!(machine.names().len(), 10);
    // The label has more groups.
    let machine = self::machine(&[]);
    machine.put_order(&[group("java"), group("go")].concat());
    let failed = machine.build(&[]).fails_with(20).says("Group 2").does_not_say("Group 3");
    assert_eq!(failed.stderr.matches("No buildpack groups passed detection").count(), 1);
    assert_eq!(machine.names().len(), 8);
    // The label of a composite buildpack has other members.
    let machine = self::machine(&["java"]);
    let mut configuration = machine.configuration();
    let name = "io.buildpacks.buildpack.layers";
    let labels = &mut configuration["config"]["Labels"];
    let mut label: serde_json::Value = serde_json::from_str(labels[name].as_str().unwrap()).unwrap();
    label["test/java"]["1.0.0"]["order"] = label["test/go"]["1.0.0"]["order"].clone();
    labels[name] = serde_json::json!(label.to_string());
    machine.configure(&configuration);
    machine.build(&[]).success().says("building java");
    assert_eq!(machine.names().len(), 9);
}
