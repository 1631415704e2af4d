//! Where the time of the processors goes while a program runs: samples of the whole machine, by `perf`.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::Context;

use crate::bench::Bench;
use crate::contest::Contender;
use crate::measure::quietly;
use crate::report::Findings;
use crate::series::{Series, seconds};

/// Samples of each processor in a second. Not a number that anything else happens at.
const RATE: u32 = 1999;

/// Whom a moment of a processor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Account {
    Compression,
    Hashes,
    Kernel,
    Ours,
    Registry,
    Sync,
    Others,
    Idle,
}

impl Account {
    /// By the names of Longshore's threads (`image/src/layer/pipeline.rs`); `file` is the program or library at work.
    fn of(thread: &str, file: &str) -> Self {
        let is_ours =
            matches!(thread, "compress" | "hash" | "write" | "walk" | "load" | "registry" | "exporter");
        match thread {
            "swapper" => Self::Idle,
            "docker-registry" => Self::Registry,
            _ if !is_ours => Self::Others,
            _ if file.contains("[kernel") => Self::Kernel,
            "compress" => Self::Compression,
            "hash" | "write" => Self::Hashes,
            _ => Self::Ours,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Compression => "compression",
            Self::Hashes => "SHA-256 of tar and blob",
            Self::Kernel => "the kernel for Longshore",
            Self::Ours => "all else that is Longshore's",
            Self::Registry => "docker-registry",
            Self::Sync => "waiting for docker-registry's disk after the last chunk",
            Self::Others => "other programs",
            Self::Idle => "idle",
        }
    }

    /// Whether the row cannot do without it.
    const fn is_needed(self) -> bool {
        matches!(self, Self::Compression | Self::Hashes | Self::Kernel | Self::Registry | Self::Sync)
    }
}

/// Seconds of processors.
#[derive(Debug, Default)]
struct Profile(BTreeMap<Account, f64>);

impl Profile {
    /// Out of the lines of `perf script`, which are in the order of time: the thread, the address, and the file in
    /// parentheses. A registry syncs a blob when it has all of it, and answers then: processors that idle after the last chunk is
    /// compressed wait for that.
    fn of(samples: &str) -> Self {
        let samples: Vec<_> = samples.lines().filter_map(sample).collect();
        let has_registry = samples.contains(&Account::Registry);
        let compressed = samples.iter().rposition(|account| *account == Account::Compression);
        let mut accounts = BTreeMap::new();
        for (place, account) in samples.into_iter().enumerate() {
            let waits =
                account == Account::Idle && has_registry && compressed.is_some_and(|last| place > last);
            *accounts.entry(if waits { Account::Sync } else { account }).or_default() +=
                1.0 / f64::from(RATE);
        }
        Self(accounts)
    }

    fn total(&self, counts: impl Fn(Account) -> bool) -> f64 {
        self.0.iter().filter(|(account, _)| counts(**account)).map(|(_, seconds)| seconds).sum()
    }
}

/// A line of `perf script`.
fn sample(line: &str) -> Option<Account> {
    let (head, file) = line.rsplit_once(" (")?;
    let (thread, _address) = head.trim().rsplit_once(char::is_whitespace)?;
    Some(Account::of(thread.trim(), file))
}

/// Says of a row that is longer than `limit` times its peer where its time goes.
pub(crate) fn explain(
    bench: &Bench,
    contender: &mut Contender<'_>,
    (peer, limit): (&Series, f64),
    findings: &mut Findings,
) -> anyhow::Result<()> {
    if bench.options.quick {
        return Ok(());
    }
    let samples = bench.place.join("perf.data");
    let run = contender.run_by(bench, |command| {
        let mut perf = Command::new("perf");
        perf.args(["record", "-q", "-a", "-e", "cpu-clock", "-F", &RATE.to_string(), "-o"]).arg(&samples);
        perf.arg("--").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => perf.env(name, value),
                None => perf.env_remove(name),
            };
        }
        perf
    });
    run.context("perf, of the package linux-perf, could not watch it")?;
    let mut script = Command::new("perf");
    script.args(["script", "-F", "comm,ip,dso", "-i"]).arg(&samples);
    let profile = Profile::of(&quietly(&mut script)?);
    let processors = std::thread::available_parallelism()?.get() as f64;
    findings.note(told(&profile, limit * peer.wall() * processors, processors));
    Ok(())
}

/// The profile, and what the limit leaves, in words.
fn told(profile: &Profile, limit: f64, processors: f64) -> String {
    let parts: Vec<_> =
        profile.0.iter().map(|(account, time)| format!("{} {}", account.name(), seconds(*time))).collect();
    let (all, needed) = (profile.total(|_| true), profile.total(Account::is_needed));
    let needs: Vec<_> =
        profile.0.keys().filter(|account| account.is_needed()).map(|account| account.name()).collect();
    let verdict = if needed > limit { "That is more than there is." } else { "That is less than there is." };
    format!(
        "One more run, by `perf record -a`, took {} of {processors} processors: {}. The limit is {} of them; {} alone take {}. {verdict}",
        seconds(all),
        parts.join(", "),
        seconds(limit),
        needs.join(", "),
        seconds(needed),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: &str = "\
        compress   7f0f2c (/usr/bin/longshore)\n\
        swapper    ffffffffa1 ([kernel.kallsyms])\n\
        compress   7f0f2c (/usr/bin/longshore)\n\
        compress   ffffffffa1 ([kernel.kallsyms])\n\
        hash       7f0f2c (/usr/bin/longshore)\n\
        load       7f0f2c (/usr/bin/longshore)\n\
        kworker/u8:2-ex  ffffffffa1 ([kernel.kallsyms])\n\
        swapper    ffffffffa1 ([kernel.kallsyms])\n\n";

    fn counts(samples: &str) -> Vec<(Account, f64)> {
        let profile = Profile::of(samples);
        profile.0.into_iter().map(|(account, time)| (account, (time * f64::from(RATE)).round())).collect()
    }

    #[test]
    fn samples_are_told_apart() {
        let expected = [
            (Account::Compression, 2.0),
            (Account::Hashes, 1.0),
            (Account::Kernel, 1.0),
            (Account::Ours, 1.0),
            (Account::Others, 1.0),
            (Account::Idle, 2.0),
        ];
        assert_eq!(counts(SAMPLES), expected);
        let registry = "docker-registry 4a1b (/usr/bin/docker-registry)\n\
            docker-registry ffffffffa1 ([kernel.kallsyms])\n";
        let found = counts(&format!("{registry}{SAMPLES}"));
        assert!(found.contains(&(Account::Registry, 2.0)), "{found:?}");
        assert!(found.contains(&(Account::Sync, 1.0)) && found.contains(&(Account::Idle, 1.0)), "{found:?}");
    }

    #[test]
    fn what_is_needed_is_held_against_the_limit() {
        let profile = Profile(BTreeMap::from([
            (Account::Compression, 1.5),
            (Account::Hashes, 0.5),
            (Account::Idle, 0.1),
        ]));
        let text = told(&profile, 1.9, 2.0);
        assert!(text.contains("compression 1.50 s, SHA-256 of tar and blob 500 ms, idle 100 ms"), "{text}");
        assert!(text.contains("alone take 2.00 s. That is more than there is."), "{text}");
        assert!(told(&profile, 2.1, 2.0).ends_with("That is less than there is."));
    }
}
