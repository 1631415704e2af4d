//! The conformance suite: each phase of the lifecycle as platforms call it, in cases made from the sentences of the
//! specification.
//!
//! A case is a folder of fixtures/conformance, `<phase>/<case>`, with a `case.toml`: what there is (files, buildpacks,
//! images of a registry), one or more programs to run, and what they must leave behind. It names the section of the
//! specification and the rows of docs/compatibility-must.md that it shows.
//!
//! `CONFORMANCE=exporter/slices cargo test conformance -- --nocapture` runs the cases whose names have that in them,
//! and shows the outputs of the programs.

mod case;
mod document;
mod expect;
mod images;
mod modules;
mod world;

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::Case;
use world::{Programs, World};

/// At least as many there must be.
const CASES: usize = 150;

#[test]
fn every_case_of_the_conformance_suite_holds() {
    let selected = std::env::var("CONFORMANCE").unwrap_or_default();
    let folders = case::folders();
    let mut reports = Vec::new();
    let mut cases = Vec::new();
    for (folder, name) in folders.iter().filter(|(_, name)| name.contains(&selected)) {
        match Case::read(folder, name) {
            Ok(case) => cases.push(case),
            Err(error) => reports.push(error),
        }
    }
    reports.extend(run_all(&cases, !selected.is_empty()));
    println!("{} of {} conformance cases hold", cases.len().saturating_sub(reports.len()), cases.len());
    assert!(reports.is_empty(), "{} cases fail\n\n{}", reports.len(), reports.join("\n"));
    assert!(!selected.is_empty() || cases.len() >= CASES, "there are {} cases, not {CASES}", cases.len());
}

/// Runs all cases side by side; the reports of those that fail, in order.
fn run_all(cases: &[Case], verbose: bool) -> Vec<String> {
    let programs = Programs::new();
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from) * 2;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, case)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|index| Some((index, cases.get(index)?)))
                {
                    if let Some(report) = run(&programs, case, verbose) {
                        reports.lock().expect("no thread fails here").push((index, report));
                    }
                }
            });
        }
    });
    let mut reports = reports.into_inner().expect("no thread fails here");
    reports.sort_unstable();
    reports.into_iter().map(|(_, report)| report).collect()
}

/// Runs a case until a step has differences.
fn run(programs: &Programs, case: &Case, verbose: bool) -> Option<String> {
    let outcome = std::panic::catch_unwind(|| {
        let world = World::new(programs, case);
        for (number, step) in case.steps.iter().enumerate() {
            let requests = world.registry.requests().len();
            let outcome = world.run(step);
            if verbose {
                println!("=== {} {number}\n{}{}", case.name, outcome.stdout, outcome.stderr);
            }
            let differences = expect::check(&world, &step.expect, &outcome, requests);
            if !differences.is_empty() {
                let mut report = format!("=== {} ({}), step {}\n", case.name, case.section, number + 1);
                for difference in differences {
                    writeln!(report, "- {difference}").expect("written to a string");
                }
                write!(report, "--- stdout\n{}--- stderr\n{}", outcome.stdout, outcome.stderr)
                    .expect("written to a string");
                return Some(report);
            }
        }
        None
    });
    outcome.unwrap_or_else(|_| Some(format!("=== {} panics: see above\n", case.name)))
}
