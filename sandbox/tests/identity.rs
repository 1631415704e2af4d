//! Who the command is and what it is given.

use std::io;

use longshore_sandbox::{Capabilities, SandboxError, Stdio, start};

use crate::Test;
use crate::support::{GID, Machine, UID, mapping, output, text};

pub(crate) const TESTS: &[Test] = &[
    ("identity::user_and_group", user_and_group),
    ("identity::root_keeps_what_containers_keep", root_keeps_what_containers_keep),
    ("identity::environment_is_only_what_was_given", environment_is_only_what_was_given),
    ("identity::hostname", hostname),
    ("identity::umask_and_working_directory", umask_and_working_directory),
    ("identity::argument_zero", argument_zero),
    ("identity::exit_codes", exit_codes),
    ("identity::missing_program", missing_program),
    ("identity::missing_working_directory", missing_working_directory),
];

fn user_and_group() {
    let machine = Machine::new();
    let ids = text(
        &machine.shell("id -u; id -g; grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/self/status"),
    );
    let words: Vec<&str> = ids.split_whitespace().collect();
    let (uid, gid) = (UID.to_string(), GID.to_string());
    let none = "0000000000000000";
    let expected = [
        uid.as_str(),
        gid.as_str(),
        "CapPrm:",
        none,
        "CapEff:",
        none,
        "CapBnd:",
        none,
        "CapAmb:",
        none,
        "NoNewPrivs:",
        "1",
        "Seccomp:",
        "2",
    ];
    assert_eq!(words, expected);
}

fn root_keeps_what_containers_keep() {
    let machine = Machine::new();
    let mut spec = machine.shell(
        "id -u; mkdir /made && touch /made/file && stat -c %u:%g /made/file; grep CapEff /proc/self/status",
    );
    (spec.uid, spec.gid, spec.capabilities) = (0, 0, Capabilities::Container);
    assert_eq!(text(&spec), "0\n0:0\nCapEff:\t00000000a80425fb");
}

/// Row 48 of the fault table: what the caller has in its environment must not show.
fn environment_is_only_what_was_given() {
    let machine = Machine::new();
    let mut spec = machine.spec(&["env"]);
    spec.environment.push(("NAME".into(), "value with = and\nline".into()));
    assert_eq!(text(&spec), "PATH=/bin\nNAME=value with = and\nline");
    let first = machine.shell("cat /proc/1/environ; exit 0");
    assert!(output(&first).output.is_empty());
}

fn hostname() {
    let machine = Machine::new();
    let mut spec = machine.spec(&["hostname"]);
    spec.hostname = "a-build".to_owned();
    assert_eq!(text(&spec), "a-build");
}

fn umask_and_working_directory() {
    let machine = Machine::new();
    let mut spec = machine.shell("umask; pwd");
    spec.working_directory = "/bin".into();
    assert_eq!(text(&spec), "0022\n/bin");
}

fn argument_zero() {
    let machine = Machine::new();
    let mut spec = machine.spec(&["/bin/busybox", "-c", "echo $0"]);
    spec.argument_zero = Some("sh".into());
    assert_eq!(text(&spec), "sh");
}

fn exit_codes() {
    use std::os::unix::process::ExitStatusExt;
    let machine = Machine::new();
    for code in [0, 1, 7, 127, 255] {
        assert_eq!(output(&machine.shell(&format!("exit {code}"))).status.code(), Some(code));
    }
    for signal in [9, 15] {
        assert_eq!(output(&machine.shell(&format!("kill -{signal} $$"))).status.signal(), Some(signal));
    }
}

fn missing_program() {
    let machine = Machine::new();
    let spec = machine.spec(&["not-there"]);
    let error = start(&spec, &mapping(&spec), Stdio::Null).unwrap_err();
    let SandboxError::Command { command, source } = error else { panic!("{error}") };
    assert_eq!((command.to_str(), source.kind()), (Some("not-there"), io::ErrorKind::NotFound));
}

fn missing_working_directory() {
    let machine = Machine::new();
    let mut spec = machine.spec(&["id"]);
    spec.working_directory = "/nowhere".into();
    let error = start(&spec, &mapping(&spec), Stdio::Null).unwrap_err();
    assert_eq!(error.to_string(), "cannot enter the working directory /nowhere");
}
