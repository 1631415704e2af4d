//! `longshore run` and `longshore doctor`, as root and as an ordinary user.

use std::time::{Duration, Instant};

use longshore_test_support::TestEnvironment;
use longshore_test_support::process::{Signal, send};
use longshore_test_support::tiny::{TinyBuilder, web_buildpack};

use crate::LONGSHORE;

const IMAGE: &str = "tiny-run";

/// Both ways to map ids, with the tiny run image in the store.
fn environments() -> [TestEnvironment; 2] {
    let environments = [TestEnvironment::new(LONGSHORE), TestEnvironment::for_ordinary_user(LONGSHORE)];
    for environment in &environments {
        TinyBuilder::new(vec![web_buildpack()]).install(environment);
    }
    environments
}

fn shell<'a>(script: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    [&["run", IMAGE][..], options, &["--", "sh", "-c", script]].concat()
}

#[test]
fn an_image_runs_as_its_user_and_leaves_nothing() {
    for environment in environments() {
        let script =
            "id -u; id -g; touch /tmp/x; echo said-on-stderr >&2; cat /proc/self/status | grep CapEff";
        environment
            .longshore(&shell(script, &[]))
            .success()
            .says("1002\n1000\n")
            .says("said-on-stderr")
            .says("CapEff:\t0000000000000000")
            .says("Unpacking ");
        environment
            .longshore(&shell("ls /tmp", &[]))
            .success()
            .does_not_say("x\n")
            .does_not_say("Unpacking ");
        let sandboxes = environment.path("cache").join("longshore/sandboxes");
        assert_eq!(std::fs::read_dir(sandboxes).unwrap().count(), 0);
    }
}

/// Row 40 of the fault table: two at once unpack the same layers.
#[test]
fn two_at_once_share_the_unpacked_layers() {
    for environment in environments() {
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| environment.longshore(&shell("cat /etc/os-release", &[]))))
                .collect();
            for run in runs {
                run.join().unwrap().success().says("ID=tiny");
            }
        });
        let mapping = std::fs::read_dir(environment.path("cache").join("longshore/unpacked")).unwrap().next();
        let unpacked = std::fs::read_dir(mapping.unwrap().unwrap().path()).unwrap();
        let partial = unpacked
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|it| it == "partial"));
        assert_eq!(partial.count(), 0);
    }
}

/// Row 14 of the fault table: nothing of a damaged layer is kept.
#[test]
fn a_damaged_layer_is_refused_each_time() {
    for environment in environments() {
        let blobs = environment.store().join("blobs/sha256");
        let largest = std::fs::read_dir(blobs)
            .unwrap()
            .map(|entry| entry.unwrap())
            .max_by_key(|entry| entry.metadata().unwrap().len())
            .unwrap()
            .path();
        let mut bytes = std::fs::read(&largest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::write(&largest, bytes).unwrap();
        for _ in 0..2 {
            environment.longshore(&shell("true", &[])).fails_with(1).says("cannot unpack");
        }
    }
}

#[test]
fn exit_codes_are_kept() {
    for environment in environments() {
        environment.longshore(&shell("exit 7", &[])).fails_with(7);
        environment.longshore(&shell("kill -9 $$", &[])).fails_with(137);
        environment
            .longshore(&["run", IMAGE, "--", "not-there"])
            .fails_with(127)
            .says("cannot start not-there");
        environment
            .longshore(&["run", IMAGE, "--process", "none"])
            .fails_with(127)
            .says("no process of type `none`");
        environment
            .longshore(&["run", "not-there", "--pull-policy", "never"])
            .fails_with(1)
            .says("not-there");
    }
}

#[test]
fn variables_are_the_images_and_the_users() {
    let environment = TestEnvironment::new(LONGSHORE);
    TinyBuilder::new(vec![web_buildpack()]).install(&environment);
    let file = environment.write("variables", "# mine\nFILE=file\nBOTH=file\n");
    let file = file.to_str().unwrap();
    let options = ["-e", "BOTH=flag", "-e", "NOT_SET_HERE", "--env-file", file];
    let outcome = environment.longshore(&shell("env | sort", &options)).success();
    for line in ["BOTH=flag", "FILE=file", "HOSTNAME=longshore", "PATH="] {
        assert!(outcome.stdout.lines().any(|found| found.starts_with(line)), "{line}: {}", outcome.stdout);
    }
    // Nothing of the test's own environment, and nothing without a value.
    for name in ["NOT_SET_HERE", "XDG_", "CARGO"] {
        assert!(!outcome.stdout.contains(name), "{name}: {}", outcome.stdout);
    }
}

#[test]
fn signals_reach_the_app() {
    for environment in environments() {
        environment.longshore(&shell("true", &[])).success();
        let script = "trap 'echo caught; exit 5' TERM; touch /proc/self/comm; while :; do sleep 0.05; done";
        let mut child = environment
            .command()
            .args(shell(script, &[]))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(700));
        let start = Instant::now();
        send(&child, Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(5));
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn a_container_without_network_sees_only_loopback() {
    for environment in environments() {
        let script = "grep -c : /proc/net/dev; grep -o lo: /proc/net/dev";
        environment.longshore(&shell(script, &["--network", "none"])).success().says("1\nlo:");
    }
}

#[test]
fn the_doctor_finds_this_machine_well() {
    for environment in environments() {
        environment
            .longshore(&["doctor"])
            .success()
            .says("ok   sandbox")
            .says("ok   processor")
            .says("Builds work on this machine.");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_doctor_says_what_an_old_processor_means() {
    let environment = TestEnvironment::new(LONGSHORE);
    let command = environment.command();
    let mut emulated = std::process::Command::new("qemu-x86_64");
    emulated.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    emulated.args(["-cpu", "kvm64", LONGSHORE, "doctor"]);
    longshore_test_support::Outcome::of(&mut emulated)
        .says("it lacks SSE 4.2, so gzip layers get other digests than elsewhere")
        .says("--layer-format tar+zstd");
}

/// Row 57 of the fault table: user namespaces that a setting forbids. The setting is that of a namespace around the
/// program, so that it is not changed for the machine.
#[test]
fn the_setting_that_forbids_user_namespaces_is_named() {
    let environment = TestEnvironment::new(LONGSHORE);
    TinyBuilder::new(vec![web_buildpack()]).install(&environment);
    let command = environment.command();
    let variables = command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let mut wrapped = std::process::Command::new("unshare");
    wrapped.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]).arg(command.get_program());
    wrapped.env_clear().envs(variables).env("PATH", std::env::var_os("PATH").unwrap());
    wrapped.args(["run", IMAGE, "--", "true"]);
    longshore_test_support::Outcome::of(&mut wrapped)
        .fails_with(1)
        .says("`user.max_user_namespaces` is 0")
        .says("sudo sysctl -w user.max_user_namespaces=15000");
}
