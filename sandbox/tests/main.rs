//! The sandbox, tried on a root filesystem of a static busybox (Debian: `busybox-static`).
//!
//! The tests have a `main` of their own because the sandbox starts this very program again as its helper. On a machine
//! that forbids user namespaces they fail and say what forbids them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test panics")]

mod files;
mod identity;
mod isolation;
mod lifetime;
mod support;
mod workers;

use std::panic::{AssertUnwindSafe, catch_unwind};

type Test = (&'static str, fn());

fn main() {
    longshore_sandbox::init_with(workers::TABLE);
    workers::play_role();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let tests: Vec<Test> =
        [identity::TESTS, isolation::TESTS, files::TESTS, lifetime::TESTS, workers::TESTS].concat();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in &tests {
            println!("{name}: test");
        }
        return;
    }
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut failed = Vec::new();
    for (name, test) in &tests {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        eprintln!("failed: {}", failed.join(", "));
        std::process::exit(101);
    }
}
