//! Whoever builds, whenever and wherever: the same image.

use std::path::Path;
use std::process::Command;

use longshore_test_support::layout::digest;
use longshore_test_support::registry::Fault;
use longshore_test_support::tiny::{TinyBuilder, web_buildpack};
use longshore_test_support::{FaultyRegistry, Outcome, TestEnvironment};

use crate::LONGSHORE;
use crate::build::caching_buildpack;

const BUILD: [&str; 6] = ["build", "web", "--path", "app", "--builder", "tiny-builder"];

/// An app with enough files that the order in which the folder lists them depends on the order of their making.
fn app(folder: &Path, names: impl Iterator<Item = u32>) {
    for name in names {
        let folder = folder.join(format!("folder-{}", name % 7));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("file-{name}")), name.to_string()).unwrap();
    }
    // Modes are part of an app, so they are said and not left to the umask of the test.
    Outcome::of(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(folder)).success();
}

fn prepared(environment: &TestEnvironment, names: impl Iterator<Item = u32>) {
    TinyBuilder::new(vec![web_buildpack()]).install(environment);
    app(&environment.path("app"), names);
    environment.hand_over();
}

#[test]
fn root_and_an_ordinary_user_build_the_same_image() {
    let root = TestEnvironment::new(LONGSHORE);
    prepared(&root, 0..50);
    root.longshore(&BUILD).success();

    let user = TestEnvironment::for_ordinary_user(LONGSHORE);
    prepared(&user, 0..50);
    user.longshore(&BUILD).success();
    assert_eq!(root.digest("web"), user.digest("web"));
}

#[test]
fn umask_time_zone_and_order_of_files_do_not_matter() {
    let plain = TestEnvironment::new(LONGSHORE);
    prepared(&plain, 0..50);
    plain.longshore(&BUILD).success();

    let other = TestEnvironment::new(LONGSHORE);
    prepared(&other, (0..50).rev());
    let mut command = Command::new("sh");
    let longshore = other.command();
    command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(longshore.get_program()).args(BUILD);
    command.env_clear().current_dir(other.path("."));
    for (name, value) in longshore.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.env("TZ", "Pacific/Kiritimati").env("LC_ALL", "C");
    Outcome::of(&mut command).success();
    assert_eq!(plain.digest("web"), other.digest("web"));
}

/// Whatever is known of earlier builds, and however a cached layer comes back, the image is that of the first build.
#[test]
fn neither_caches_nor_indexes_nor_previous_images_change_an_image() {
    let environment = TestEnvironment::new(LONGSHORE);
    TinyBuilder::new(vec![caching_buildpack(), web_buildpack()]).install(&environment);
    app(&environment.path("app"), 0..50);
    let _ = environment.write("app/key", "1");
    let caches = environment.path("cache/longshore");
    let build = |more: &[&str]| environment.longshore(&[&BUILD[..], more].concat()).success();
    drop(build(&[]).says("installing dependencies"));
    let first = environment.digest("web");
    let same = |how: &str| assert_eq!(environment.digest("web"), first, "{how}");
    drop(build(&[]).says("keeping dependencies"));
    same("restored by a rename");
    drop(build(&["--paranoid"]).says("keeping dependencies"));
    same("restored after it was read");
    let in_caches = |script: &str| {
        Outcome::of(Command::new("sh").args(["-c", script]).current_dir(&caches)).success();
    };
    in_caches("rm -r apps/v1/*/stat-index");
    drop(build(&[]));
    same("without an index");
    in_caches("cp -a apps copied && rm -r apps && mv copied apps");
    drop(build(&[]).says("keeping dependencies"));
    same("restored out of a copy of the cache");
    environment.longshore(&["image", "rm", "web"]).success();
    drop(build(&[]).says("keeping dependencies"));
    same("without a previous image");
    drop(build(&["--clear-cache"]).says("installing dependencies"));
    same("without a cache");
    drop(build(&["--app-layer", "delta"]));
    drop(build(&["--app-layer", "full"]));
    same("after deltas");
    std::fs::remove_dir_all(&caches).unwrap();
    drop(build(&[]).says("installing dependencies"));
    same("cold");
    let registry = FaultyRegistry::start([]);
    let name = registry.host() + "/web:1";
    let publish = ["build", &name, "--publish", "--path", "app", "--builder", "tiny-builder"];
    for faults in [Vec::new(), vec![Fault::DropsStreams { tells: false }]] {
        registry.set_faults(faults);
        environment.longshore(&publish).success();
        assert_eq!(digest(&registry.manifest("web", "1").unwrap()), first, "published");
    }
}

#[test]
fn the_time_of_creation_can_be_said() {
    let environment = TestEnvironment::new(LONGSHORE);
    prepared(&environment, 0..3);
    environment.longshore(&[&BUILD[..], &["--creation-time", "1700000000"]].concat()).success();
    let config =
        longshore_test_support::skopeo::configuration(&environment.stored("docker.io/library/web:latest"));
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
}

const BASE: &str = r#"
[build]
uid = 1001
gid = 1000
packages = ["python3"]

[run]
uid = 1002
gid = 1000
packages = ["python3-minimal"]
"#;

/// Regression: scripts of packages saw the variables of whoever made a base image, and Python wrote caches by them.
#[test]
fn whoever_makes_base_images_does_not_matter() {
    let create = |environment: &TestEnvironment, variables: &[(&str, &str)]| {
        let _ = environment.write("base.toml", BASE);
        environment.hand_over();
        let mut command = environment.command();
        command.args(["base", "create", "base", "--config", "base.toml"]).envs(variables.iter().copied());
        Outcome::of(&mut command).success();
        ["base-build", "base-run"].map(|name| environment.digest(name))
    };
    let (root, user) = std::thread::scope(|scope| {
        let variables = [("PYTHONDONTWRITEBYTECODE", "1"), ("TZ", "Asia/Tokyo"), ("LANG", "de_DE.UTF-8")];
        let root = scope.spawn(move || create(&TestEnvironment::new(LONGSHORE), &variables));
        let user = create(&TestEnvironment::for_ordinary_user(LONGSHORE), &[]);
        (root.join().unwrap(), user)
    });
    assert_eq!(root, user);
}
