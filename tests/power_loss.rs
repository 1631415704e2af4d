//! What is left when the power goes away while an app is built: the next build is right, and the local store is whole. Row
//! 38 of the table of faults.
//!
//! The calls of a build are recorded, and what a disk may hold after a loss is made up from them (the model is that of
//! [`longshore_test_support::power_loss`]). Some moments are tried; all of them with `LONGSHORE_TEST_ALL_POINTS=1`.

use std::fs;

use longshore_test_support::TestEnvironment;
use longshore_test_support::power_loss::Recording;

use crate::crash::{BUILD, Machine, points};

#[test]
fn row_38_a_build_after_a_power_loss_is_right() {
    let mut machine = Machine::warm();
    let (old, new) = machine.change();
    replay(&machine, Some(&old), &new, 30);
}

#[test]
fn row_38_a_first_build_after_a_power_loss_is_right() {
    let new = Machine::warm().digests[0].clone();
    replay(&Machine::cold(), None, &new, 15);
}

/// Builds, and builds again after each loss that the build may have met with.
fn replay(machine: &Machine, old: Option<&str>, new: &str, few: usize) {
    let folder = fs::canonicalize(machine.environment.path(".")).unwrap();
    let mut command = machine.environment.command();
    let (built, recording) = Recording::of(command.args(BUILD), &folder, &["data", "cache"]);
    assert_eq!((built.code, machine.environment.digest("web").as_str()), (Some(0), new), "{}", built.stderr);
    let losses = recording.losses(points(recording.points(), few));
    for number in points(losses.len(), few) {
        let when = recording.describe(losses[number]);
        recording.disk(losses[number]).write();
        start_again(&machine.environment);
        let found = machine.environment.find("web");
        assert!(found.as_deref() == old || found.as_deref() == Some(new), "{when}: {found:?}");
        machine.verify(&when);
        machine.build();
        assert_eq!(machine.environment.digest("web"), new, "{when}");
        machine.verify(&when);
        machine.verify_tidy(&when);
        println!("{number} of {}: {when}", losses.len());
    }
}

/// Unpacked layers say in which run of the machine they were unpacked: after a loss of power that is another one.
pub(crate) fn start_again(environment: &TestEnvironment) {
    let Ok(mappings) = fs::read_dir(environment.path("cache/longshore/unpacked")) else { return };
    let files = mappings.flat_map(|mapping| fs::read_dir(mapping.unwrap().path()).unwrap());
    for path in files.map(|child| child.unwrap().path()) {
        if path.extension().is_some_and(|extension| extension == "lock") {
            fs::write(path, "00000000-0000-0000-0000-000000000000").unwrap();
        }
    }
}
