//! What is measured on, and what else it is doing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measure::quietly;

/// How long the machine is watched before a row.
const WATCHED: Duration = Duration::from_millis(500);
/// More than this part of the processors' time used by others, or not given, makes times doubtful.
const BUSY: f64 = 0.05;

/// The machine, in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    pub(crate) system: String,
    /// Of the scratch folder.
    pub(crate) file_system: String,
}

impl Machine {
    pub(crate) fn new(scratch: &Path) -> Self {
        let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str, separator: char| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(separator)
                .map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().trim_matches('"').to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal", ':');
        let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let mount = quietly(
            Command::new("findmnt").args(["--noheadings", "--output=FSTYPE", "--target"]).arg(scratch),
        );
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name", ':'),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: format!("{:.0} GB", kilobytes as f64 / 1e6),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: field(&read("/etc/os-release"), "PRETTY_NAME", '='),
            file_system: mount.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
        }
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "{} × {}, {} of memory, Linux {}, {}, {}",
            self.cores, self.processor, self.memory, self.kernel, self.system, self.file_system
        )
    }
}

/// What the machine does while nothing of the benchmark runs.
pub(crate) struct Load {
    pub(crate) text: String,
    pub(crate) is_busy: bool,
}

/// Watches the machine for a moment, unless times do not matter.
pub(crate) fn load(is_quick: bool) -> Load {
    if is_quick {
        return Load { text: String::new(), is_busy: false };
    }
    let before = Times::read();
    // Not waiting for anything: this is the time that is watched.
    std::thread::sleep(WATCHED);
    let after = Times::read();
    let part = |of: fn(&Times) -> u64| {
        let total = after.total.saturating_sub(before.total).max(1);
        of(&after).saturating_sub(of(&before)) as f64 / total as f64
    };
    let (used, stolen) = (part(|times| times.used), part(|times| times.stolen));
    let averages = fs_err::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<_> = averages.split(' ').take(3).collect();
    Load {
        text: format!(
            "{:.0} % of the processors' time used by others, {:.0} % stolen; load {}",
            used * 100.0,
            stolen * 100.0,
            averages.join(" ")
        ),
        is_busy: used + stolen > BUSY,
    }
}

/// The first line of /proc/stat, in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    used: u64,
    stolen: u64,
    total: u64,
}

impl Times {
    fn read() -> Self {
        Self::parse(&fs_err::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// `cpu user nice system idle iowait irq softirq steal guest guest_nice`; guests are in user already.
    fn parse(text: &str) -> Self {
        let fields: Vec<u64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or_default();
        let total = (0..8).map(field).sum();
        let used = total - field(3) - field(4) - field(7);
        Self { used, stolen: field(7), total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_is_not_used() {
        let times = Times::parse("cpu  10 1 5 100 20 0 2 7 3 0\ncpu0 1 1 1 1\n");
        assert_eq!(times, Times { used: 18, stolen: 7, total: 145 });
    }
}
