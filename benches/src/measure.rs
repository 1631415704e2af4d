//! One run of one program, and what the kernel says that it took.
//!
//! The kernel adds up times of children, and keeps the largest resident set, for a process and not for each child. So
//! every run has a small process of its own between the harness and the program: its account has that run alone.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

/// The first argument of the process between.
pub(crate) const SUBCOMMAND: &str = "measure-child";

/// What a run took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Seconds of processors, of the program and all its children.
    pub(crate) cpu: f64,
    /// The largest resident set in bytes of any process of the tree.
    pub(crate) memory: u64,
}

/// The process between: `RESULT PROGRAM ARGUMENT...`.
pub(crate) fn child(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let [result, program, arguments @ ..] = arguments else { bail!("nothing to measure") };
    let mut command = Command::new(program);
    command.args(arguments);
    let start = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
    let wall = start.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let sample = Sample {
        wall,
        cpu: seconds(usage.user_time()) + seconds(usage.system_time()),
        memory: usage.max_rss().unsigned_abs() << 10,
    };
    fs_err::write(result, serde_json::to_vec(&sample)?)?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)))
}

/// A run that is over.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) sample: Sample,
    /// Standard output and standard error as they came.
    pub(crate) output: String,
}

/// Runs a program to its end, which must be a good one. `place` is a folder for the files of the run.
pub(crate) fn measure(command: &Command, place: &Path) -> anyhow::Result<Run> {
    let (result, log) = (place.join("measured.json"), place.join("measured.log"));
    let output = fs_err::File::create(&log)?.into_parts().0;
    let mut between = Command::new(std::env::current_exe()?);
    between.arg(SUBCOMMAND).arg(&result).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => between.env(name, value),
            None => between.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        between.current_dir(directory);
    }
    between.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let status = between.status()?;
    let output = String::from_utf8_lossy(&fs_err::read(&log)?).into_owned();
    if !status.success() {
        bail!("{} ended with {status}:\n{output}", shown(command));
    }
    Ok(Run { sample: serde_json::from_slice(&fs_err::read(&result)?)?, output })
}

/// The program and its arguments, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs a program that is not measured.
pub(crate) fn quietly(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {}", shown(command)))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}:\n{text}{error}", shown(command), output.status);
    }
    Ok(text)
}
