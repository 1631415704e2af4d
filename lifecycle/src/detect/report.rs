//! What detection tried, and why it failed: the table that is shown when no group passes.

use std::fmt;

use longshore_cnb::group::ModuleKind;
use serde::{Deserialize, Serialize};

/// How many groups are explained: composite buildpacks can stand for very many.
const GROUPS_SHOWN: usize = 30;

/// What detection tried before it gave up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Every module that was tried, once, in the order they were tried.
    pub modules: Vec<ModuleResult>,
    /// Every group that was tried, in order.
    pub groups: Vec<GroupResult>,
}

/// The result of one module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleResult {
    /// Whether it is a buildpack or an image extension.
    pub kind: ModuleKind,
    /// `id@version`.
    pub name: String,
    /// What its `bin/detect` said.
    pub result: DetectResult,
    /// Why, in a line; empty when it passed.
    pub reason: String,
    /// What `bin/detect` wrote, when it failed and the reason does not say it all.
    pub output: String,
}

/// What `bin/detect` of a module said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DetectResult {
    /// It fits the app.
    Pass,
    /// It does not fit the app.
    Fail,
    /// It could not tell, or it cannot run on the target.
    Error,
    /// It did not run: its group could not pass any more.
    NotRun,
}

/// Why one group did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupResult {
    /// The members, with a question mark behind those that are optional.
    pub members: Vec<String>,
    /// Why the group failed: one line each.
    pub reasons: Vec<String>,
}

impl Report {
    /// Whether a module ended with an error rather than saying that it does not fit.
    pub fn has_errors(&self) -> bool {
        self.modules.iter().any(|module| module.result == DetectResult::Error)
    }

    /// Adds a module, or what is now known of one.
    pub(super) fn add_module(&mut self, module: ModuleResult) {
        let known =
            self.modules.iter_mut().find(|known| known.kind == module.kind && known.name == module.name);
        match known {
            Some(known) if known.result == DetectResult::NotRun || module.result == DetectResult::Error => {
                *known = module;
            }
            Some(_) => {}
            None => self.modules.push(module),
        }
    }
}

impl fmt::Display for DetectResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Error => "error",
            Self::NotRun => "not run",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.modules.iter().map(|module| module.name.len()).max().unwrap_or(0).max(9);
        writeln!(formatter, "{:width$}  RESULT   REASON", "BUILDPACK")?;
        for module in &self.modules {
            let line = format!("{:width$}  {:7}  {}", module.name, module.result, module.reason);
            writeln!(formatter, "{}", line.trim_end())?;
        }
        for (index, group) in self.groups.iter().take(GROUPS_SHOWN).enumerate() {
            let members =
                if group.members.is_empty() { "(empty)".to_owned() } else { group.members.join(", ") };
            write!(formatter, "\nGroup {}: {members}", index + 1)?;
            for reason in &group.reasons {
                write!(formatter, "\n  {reason}")?;
            }
        }
        let more = self.groups.len().saturating_sub(GROUPS_SHOWN);
        if more > 0 {
            write!(formatter, "\n... and {more} more groups")?;
        }
        for module in self.modules.iter().filter(|module| !module.output.is_empty()) {
            write!(formatter, "\n\nOutput of {}:\n{}", module.name, module.output)?;
        }
        Ok(())
    }
}
