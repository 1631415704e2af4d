//! What a row came to.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::series::{Series, bytes, seconds};

/// A number that is held against a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// What is compared.
    pub(crate) what: String,
    pub(crate) ours: String,
    /// Empty where the limit is a number of its own.
    pub(crate) peer: String,
    pub(crate) found: String,
    pub(crate) limit: String,
    pub(crate) met: bool,
}

impl Check {
    /// The time of one program is at most `limit` times that of another.
    pub(crate) fn ratio(what: &str, ours: &Series, peer: &Series, limit: f64) -> Self {
        let ratio = ours.wall() / peer.wall();
        Self {
            what: format!("{what}, against {}", peer.name),
            ours: ours.spread(),
            peer: peer.spread(),
            found: format!("{ratio:.2} ×"),
            limit: format!("≤ {limit} ×"),
            met: ratio <= limit,
        }
    }

    pub(crate) fn seconds(what: &str, ours: &Series, limit: f64) -> Self {
        Self {
            what: what.to_owned(),
            ours: ours.spread(),
            peer: String::new(),
            found: seconds(ours.wall()),
            limit: format!("≤ {limit} s"),
            met: ours.wall() <= limit,
        }
    }

    /// The largest resident set, in megabytes.
    pub(crate) fn memory(ours: &Series, limit: u64) -> Self {
        let found = bytes(ours.memory());
        Self {
            what: "largest resident set".to_owned(),
            ours: found.clone(),
            peer: String::new(),
            found,
            limit: format!("≤ {limit} MB"),
            met: ours.memory() <= limit * 1_000_000,
        }
    }

    /// A count or number of bytes that is at most `limit`.
    pub(crate) fn at_most(what: &str, found: u64, limit: u64, show: fn(u64) -> String) -> Self {
        Self {
            what: what.to_owned(),
            ours: show(found),
            peer: String::new(),
            found: show(found),
            limit: format!("≤ {}", show(limit)),
            met: found <= limit,
        }
    }

    /// One number is at most this part of another.
    pub(crate) fn part(what: &str, (ours, whole): (u64, u64), limit: f64, show: fn(u64) -> String) -> Self {
        let part = ours as f64 / whole as f64;
        Self {
            what: what.to_owned(),
            ours: show(ours),
            peer: show(whole),
            found: format!("{:.1} %", part * 100.0),
            limit: format!("≤ {:.0} %", limit * 100.0),
            met: part <= limit,
        }
    }

    fn found_or_why(&self) -> &str {
        if self.found == "–" { &self.ours } else { &self.found }
    }

    /// Something that there is not yet, or that could not be measured here: it is not met.
    pub(crate) fn missing(what: &str, why: &str, limit: &str) -> Self {
        Self {
            what: what.to_owned(),
            ours: why.to_owned(),
            peer: String::new(),
            found: "–".to_owned(),
            limit: limit.to_owned(),
            met: false,
        }
    }
}

/// A count as it is.
pub(crate) fn count(value: u64) -> String {
    value.to_string()
}

/// What a row found: filled by the row itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) checks: Vec<Check>,
    /// Everything that ran, of which some is for information.
    pub(crate) series: Vec<Series>,
    pub(crate) notes: Vec<String>,
}

impl Findings {
    pub(crate) fn check(&mut self, check: Check) -> &mut Self {
        self.checks.push(check);
        self
    }

    pub(crate) fn series(&mut self, series: &Series) -> &mut Self {
        self.series.push(series.clone());
        self
    }

    pub(crate) fn all(&mut self, series: &[Series]) -> &mut Self {
        self.series.extend_from_slice(series);
        self
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) -> &mut Self {
        self.notes.push(note.into());
        self
    }
}

/// A row that ran, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) id: String,
    pub(crate) scenario: String,
    /// When, in UTC.
    pub(crate) date: String,
    /// What else the machine did before the row began.
    pub(crate) load: String,
    pub(crate) was_busy: bool,
    /// Why the row has no or not all findings.
    pub(crate) failure: Option<String>,
    pub(crate) findings: Findings,
}

impl Report {
    pub(crate) fn for_terminal(&self) -> String {
        let mut text = format!("\n== {} ({})\n", self.scenario, self.id);
        if self.was_busy {
            let _ = writeln!(text, "!! THE MACHINE WAS BUSY, the times say little: {}", self.load);
        }
        for series in &self.findings.series {
            let _ = writeln!(text, "   {:44} {}", series.name, figures(series).join("  "));
        }
        for check in &self.findings.checks {
            let verdict = if check.met { "met    " } else { "NOT MET" };
            let _ = writeln!(
                text,
                "   {verdict} {}: {} (must be {})",
                check.what,
                check.found_or_why(),
                check.limit
            );
        }
        for note in &self.findings.notes {
            let _ = writeln!(text, "   {note}");
        }
        if let Some(failure) = &self.failure {
            let _ = writeln!(text, "!! failed: {failure}");
        }
        text
    }
}

/// The columns of a series.
pub(crate) fn figures(series: &Series) -> [String; 4] {
    [
        series.spread(),
        format!("{} CPU", seconds(series.cpu())),
        bytes(series.memory()),
        format!("{} runs", series.samples.len()),
    ]
}
