//! The harness still runs: a few rows on little data, without a look at times.

use std::path::Path;
use std::process::Command;

use longshore_test_support::Outcome;
use longshore_test_support::process::require_tool;

#[test]
fn rows_run_and_find_what_they_look_for() {
    require_tool("/usr/bin/zstd", "zstd");
    let bench = Path::new(env!("CARGO_BIN_EXE_longshore-bench"));
    let longshore = bench.with_file_name("longshore");
    assert!(longshore.exists(), "{} is missing: run `cargo build --workspace --bins`", longshore.display());
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(bench);
        command.args(["--quick", "--scratch"]).arg(scratch.path()).arg("--longshore").arg(&longshore);
        Outcome::of(command.args(arguments)).success()
    };
    run(&["cold-zstd", "one-file", "rebase"])
        .says("Longshore's `exporter` into a layout")
        .says("bytes sent, against the first export")
        .says("GETs of layers, in all: 0")
        .does_not_say("failed:");
    let mut wrong = Command::new(bench);
    Outcome::of(
        wrong
            .args(["--quick", "no-such-row", "--scratch"])
            .arg(scratch.path())
            .arg("--longshore")
            .arg(&longshore),
    )
    .fails_with(1)
    .says("there is no row `no-such-row`");
}
