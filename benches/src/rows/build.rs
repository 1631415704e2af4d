//! Whole builds.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::tiny::{TinyBuilder, web_buildpack};
use longshore_test_support::{TestEnvironment, debian, repository};

use crate::bench::Bench;
use crate::contest::{Contender, in_turn};
use crate::report::{Check, Findings};
use crate::series::seconds;

/// A place with the tiny builder in its store.
pub(crate) struct TinyBuild {
    pub(crate) environment: TestEnvironment,
}

impl TinyBuild {
    /// A builder of these buildpacks, and of one that says how the app is started.
    pub(crate) fn new(bench: &Bench, mut buildpacks: Vec<ShellBuildpack>) -> anyhow::Result<Self> {
        let environment = TestEnvironment::new(&bench.longshore);
        buildpacks.push(web_buildpack());
        TinyBuilder::new(buildpacks).install(&environment);
        Ok(Self { environment })
    }

    pub(crate) fn command(&self, app: &Path, image: &str, options: &[&str]) -> Command {
        let mut command = self.environment.command();
        command.args(["build", image, "--builder", "tiny-builder", "--path"]).arg(app).args(options);
        command
    }
}

/// What a wrapped program of a buildpack prints when it is over, before its nanoseconds.
const MARK: &str = "bench: a buildpack took ";

pub(super) fn run(bench: &Bench, findings: &mut Findings) -> anyhow::Result<()> {
    let environment = TestEnvironment::new(&bench.longshore);
    debian::install(&environment, &bench.longshore);
    let app = environment.app("node-web");
    let buildpack = wrapped(bench, &repository::buildpack("node"))?;
    let build = || {
        let mut command = environment.command();
        command.args(["build", "node-web", "--builder", debian::BUILDER, "--path"]).arg(&app);
        command.arg("--buildpack").arg(&buildpack);
        command
    };
    let outside = Contender::new("Longshore's `build`, time outside the buildpacks", || Ok(build()))
        .timed_by(|run| Ok(run.sample.wall - in_buildpacks(&run.output)?));
    let whole = Contender::new("Longshore's `build`, all of it", || Ok(build()));
    let [outside, whole] = in_turn(bench, [outside, whole])?;
    findings.series(&outside).series(&whole);
    findings.check(Check::seconds("time outside the buildpacks", &outside, 0.5));
    findings.note(phases(&quietly_all(&mut build())?));
    Ok(())
}

/// Both outputs of a build.
fn quietly_all(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// What a build says about its phases.
fn phases(output: &str) -> String {
    let phases: Vec<_> = output
        .lines()
        .filter_map(|line| line.trim().strip_prefix('[')?.split_once("] took "))
        .map(|(phase, time)| format!("{phase} {time}"))
        .collect();
    format!("One such build by its own account: {}.", phases.join(", "))
}

/// A copy of a buildpack whose programs say how long they took.
fn wrapped(bench: &Bench, buildpack: &Path) -> anyhow::Result<PathBuf> {
    let copy = bench.folder("wrapped")?.join("buildpack");
    repository::copy_folder(buildpack, &copy);
    for program in ["detect", "build"] {
        let path = copy.join("bin").join(program);
        fs_err::rename(&path, copy.join("bin").join(format!("{program}.wrapped")))?;
        // The exit code is the program's; what is printed must not end up in what it writes.
        let script = format!(
            "#!/bin/sh\nstart=$(date +%s%N)\ncode=0\n\"$0.wrapped\" \"$@\" || code=$?\n\
             echo \"{MARK}$(($(date +%s%N) - start))\"\nexit $code\n"
        );
        fs_err::write(&path, script)?;
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    }
    Ok(copy)
}

/// The seconds in programs of buildpacks, of those that print.
fn in_buildpacks(output: &str) -> anyhow::Result<f64> {
    let mut total = 0.0;
    let mut any = false;
    for (_, rest) in output.lines().filter_map(|line| line.split_once(MARK)) {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        total += digits.parse::<f64>().with_context(|| format!("`{rest}` is no time"))? / 1e9;
        any = true;
    }
    anyhow::ensure!(any, "no buildpack said how long it took:\n{output}");
    Ok(total)
}

/// The time of a phase as a build prints it, in seconds.
pub(crate) fn phase_time(output: &str, phase: &str) -> anyhow::Result<f64> {
    let mark = format!("[{phase}] took ");
    let line = output.lines().find_map(|line| line.split_once(&mark)).map(|(_, time)| time.trim());
    let text = line.with_context(|| format!("the phase `{phase}` says no time:\n{output}"))?;
    let (number, unit) = text.split_once(' ').with_context(|| format!("`{text}` is no time"))?;
    let number: f64 = number.parse()?;
    match unit {
        "ms" => Ok(number / 1e3),
        "s" => Ok(number),
        _ => anyhow::bail!(
            "a phase that takes {text} ({} seconds and more) is not measured",
            seconds(number * 60.0)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_in_what_a_build_prints() {
        let output = "===> RESTORING\n[restoring] took 84 ms\n[test] bench: a buildpack took 2000000000\n\
                      bench: a buildpack took 500000000\n[exporting] took 3.2 s\n";
        assert!((phase_time(output, "restoring").unwrap() - 0.084).abs() < 1e-9);
        assert!((phase_time(output, "exporting").unwrap() - 3.2).abs() < 1e-9);
        assert!(phase_time(output, "building").is_err());
        assert!((in_buildpacks(output).unwrap() - 2.5).abs() < 1e-9);
        assert!(in_buildpacks("").is_err());
        assert_eq!(phases(output), "One such build by its own account: restoring 84 ms, exporting 3.2 s.");
    }
}
