//! Signals, and the end.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use longshore_sandbox::{Stdio, Stream, run_with_lines, start};

use crate::Test;
use crate::support::{Machine, mapping, output};

pub(crate) const TESTS: &[Test] = &[
    ("lifetime::signals_are_passed_on", signals_are_passed_on),
    ("lifetime::daemons_are_killed", daemons_are_killed),
    ("lifetime::fork_bombs_are_limited", fork_bombs_are_limited),
    ("lifetime::cancel_kills_what_does_not_listen", cancel_kills_what_does_not_listen),
    ("lifetime::dropping_ends_the_command", dropping_ends_the_command),
    ("lifetime::ends_with_the_caller", ends_with_the_caller),
    ("lifetime::orphans_are_reaped", orphans_are_reaped),
    ("lifetime::lines_come_as_they_are_written", lines_come_as_they_are_written),
    ("lifetime::start_is_fast", start_is_fast),
];

/// A mark in the command line of processes of one test, by which it finds them on the host.
fn processes_with(mark: &str) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(mark))
        .count()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what} did not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signals_are_passed_on() {
    let machine = Machine::new();
    for (signal, code) in [(15, 3), (2, 4), (1, 5)] {
        let spec = machine.shell("trap 'exit 3' TERM; trap 'exit 4' INT; trap 'exit 5' HUP; touch /tmp/x; while :; do sleep 0.01; done");
        let running = start(&spec, &mapping(&spec), Stdio::Null).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        running.signals().unwrap().send(signal).unwrap();
        assert_eq!(running.wait().unwrap().code(), Some(code));
    }
    let spec = machine.spec(&["sleep", "100"]);
    let running = start(&spec, &mapping(&spec), Stdio::Null).unwrap();
    running.signals().unwrap().send(15).unwrap();
    assert_eq!(running.wait().unwrap().signal(), Some(15));
}

/// Row 49 of the fault table.
fn daemons_are_killed() {
    let machine = Machine::new();
    let mark = "86401.25";
    let spec = machine.shell(&format!("busybox setsid sleep {mark} >/dev/null 2>&1 & busybox setsid sh -c 'trap : TERM; sleep {mark}' & sleep 0.1"));
    let start = Instant::now();
    assert!(output(&spec).status.success());
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(processes_with(mark), 0);
}

/// Row 49, its other half.
fn fork_bombs_are_limited() {
    let machine = Machine::new();
    let script = "for i in $(busybox seq 1 200); do sleep 100 & done 2>/dev/null; echo all";
    let mut spec = machine.shell(script);
    spec.limits.processes = Some(40);
    let limited = output(&spec);
    assert!(!String::from_utf8_lossy(&limited.output).contains("all"), "200 processes came to life");
    spec.limits.processes = Some(1000);
    assert_eq!(output(&spec).output, b"all\n");
}

/// Row 56: children are gone within two seconds.
fn cancel_kills_what_does_not_listen() {
    let machine = Machine::new();
    let mark = "86402.25";
    let spec = machine.shell(&format!("trap '' TERM INT; sleep {mark}; sleep {mark}"));
    let running = start(&spec, &mapping(&spec), Stdio::Null).unwrap();
    // Not the shell, which has the mark in its script before it has set the trap.
    wait_until("the command runs", || processes_with(&format!("sleep\0{mark}")) > 0);
    let start = Instant::now();
    running.signals().unwrap().cancel().unwrap();
    let status = running.wait();
    assert!(start.elapsed() < Duration::from_secs(2), "{status:?} after {:?}", start.elapsed());
    assert_eq!(status.unwrap().signal(), Some(9));
    assert_eq!(processes_with(mark), 0);
}

fn dropping_ends_the_command() {
    let machine = Machine::new();
    let mark = "86403.25";
    let spec = machine.spec(&["sleep", mark]);
    let running = start(&spec, &mapping(&spec), Stdio::Null).unwrap();
    wait_until("the command runs", || processes_with(mark) > 0);
    drop(running);
    assert_eq!(processes_with(mark), 0);
    assert_eq!(fs::read_dir(machine.path("scratch")).unwrap().count(), 0);
}

/// A caller that is killed cannot clean up: the helper does.
fn ends_with_the_caller() {
    let machine = Machine::new();
    let mark = "86404.25";
    let mut caller = crate::workers::spawn_caller(&machine, mark);
    wait_until("the command runs", || processes_with(&format!("sleep\0{mark}")) > 0);
    caller.kill().unwrap();
    caller.wait().unwrap();
    wait_until("the command is gone", || processes_with(&format!("sleep\0{mark}")) == 0);
    wait_until("the scratch directory is empty", || {
        fs::read_dir(machine.path("scratch")).unwrap().count() == 0
    });
}

fn orphans_are_reaped() {
    let machine = Machine::new();
    let script = "for i in 1 2 3 4 5; do (sleep 0.01 &) ; done; sleep 0.3; grep -l '^State:.*zombie' /proc/[0-9]*/status; true";
    assert_eq!(
        String::from_utf8(output(&machine.shell(&script.replace("grep", "busybox grep"))).output).unwrap(),
        ""
    );
}

fn lines_come_as_they_are_written() {
    let machine = Machine::new();
    let spec = machine.shell("echo one; echo two >&2; sleep 0.3; printf three");
    let seen = Mutex::new(Vec::new());
    let begin = Instant::now();
    let status = run_with_lines(&spec, &mapping(&spec), |stream, line| {
        seen.lock().unwrap().push((stream, String::from_utf8(line.to_vec()).unwrap(), begin.elapsed()));
    })
    .unwrap();
    assert!(status.success());
    let mut seen = seen.into_inner().unwrap();
    seen.sort_by(|one, two| (one.0 == Stream::Error, &one.1).cmp(&(two.0 == Stream::Error, &two.1)));
    let lines: Vec<&str> = seen.iter().map(|line| line.1.as_str()).collect();
    assert_eq!(lines, ["one", "three", "two"]);
    assert!(seen[1].2 - seen[0].2 >= Duration::from_millis(250), "{seen:?}");
}

/// The goal is 10 ms; the bound leaves room for a busy machine and a program without optimisation.
fn start_is_fast() {
    let machine = Machine::new();
    let spec = machine.spec(&["id"]);
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let begin = Instant::now();
            let running = start(&spec, &mapping(&spec), Stdio::Null).unwrap();
            let time = begin.elapsed();
            running.wait().unwrap();
            time
        })
        .collect();
    times.sort();
    println!("started in {:?} (median of {})", times[times.len() / 2], times.len());
    assert!(times[times.len() / 2] < Duration::from_millis(150), "{times:?}");
}
