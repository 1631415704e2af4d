//! `longshore doctor`: what this machine allows.

use std::process::ExitCode;

use longshore_image::layer;
use longshore_sandbox::{Probe, probe};

use crate::directories::Directories;

/// Tries everything that builds need, prints what works, and what to do about the rest. The exit code is 1 when builds do
/// not work.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let scratch = Directories::of_user()?.cache.join("sandboxes");
    fs_err::create_dir_all(&scratch)?;
    let report = probe(&scratch);
    for probe in &report.probes {
        anstream::println!("{}", describe(probe));
    }
    anstream::println!("{}", describe_processor(layer::gzip_bytes_are_common()));
    if report.is_usable() {
        anstream::println!("\nBuilds work on this machine.");
        Ok(ExitCode::SUCCESS)
    } else {
        anstream::println!("\nBuilds do not work on this machine; inspect, rebase and copying images do.");
        Ok(ExitCode::FAILURE)
    }
}

/// What the processor means for digests.
fn describe_processor(common: bool) -> &'static str {
    if common {
        "  ok   processor: gzip layers get the same digests as elsewhere"
    } else {
        "  no   processor: it lacks SSE 4.2, so gzip layers get other digests than elsewhere; images work all the same\n         \
         Give a virtual machine a newer processor model, or build with --layer-format tar+zstd"
    }
}

fn describe(probe: &Probe) -> String {
    let mut text = match &probe.finding {
        Ok(finding) => format!("  ok   {}: {finding}", probe.name),
        Err(error) => {
            let mark = if probe.required { "FAIL" } else { "  no" };
            format!("{mark}   {}: {:#}", probe.name, anyhow::Error::msg(chain(error)))
        }
    };
    if let Some(advice) = &probe.advice {
        text.push_str("\n         ");
        text.push_str(advice);
    }
    text
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
