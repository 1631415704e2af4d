//! Resolving the build plan of a group: which members take part, and who provides what to whom.
//!
//! Spec: buildpack.md "Phase #1: Detection" "Process", from "For a given group, a sequence of trials".

use std::collections::HashSet;
use std::fmt;

use longshore_cnb::group::ModuleKind;
use longshore_cnb::plan::{Plan, PlanEntry, PlanSections, Provider};

/// A member of a group whose `bin/detect` passed.
#[derive(Debug, Clone)]
pub struct Participant {
    /// Whether it is a buildpack or an image extension.
    pub kind: ModuleKind,
    /// Its ID.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Whether the group can pass without it.
    pub optional: bool,
    /// Its potential build plans, in the order in which they are tried; one at least.
    pub alternatives: Vec<PlanSections>,
}

/// A build plan that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The indexes of the participants that take part.
    pub participating: Vec<usize>,
    /// Who provides what to whom.
    pub plan: Plan,
}

/// Why a trial failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Unresolved {
    /// A participant that is not optional needs what neither it nor an earlier one provides.
    Requires {
        /// `id@version` of the participant.
        participant: String,
        /// What it needs.
        name: String,
    },
    /// A participant that is not optional provides what neither it nor a later one needs.
    ProvidesUnused {
        /// `id@version` of the participant.
        participant: String,
        /// What it provides.
        name: String,
    },
    /// No buildpack was left.
    NoBuildpack,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requires { participant, name } => {
                write!(formatter, "{participant} requires '{name}', which nothing up to it provides")
            }
            Self::ProvidesUnused { participant, name } => {
                write!(formatter, "{participant} provides '{name}', which nothing from it on requires")
            }
            Self::NoBuildpack => formatter.write_str("no buildpack is left in the group"),
        }
    }
}

/// Finds the first combination of the participants' potential plans that holds, leftmost alternatives first.
///
/// # Errors
///
/// When none holds: the reasons, each once.
pub fn resolve(participants: &[Participant]) -> Result<Resolved, Vec<Unresolved>> {
    let mut search = Search {
        participants,
        required_after: required_after(participants),
        chosen: Vec::with_capacity(participants.len()),
        failures: Vec::new(),
    };
    search.from(0).ok_or(search.failures)
}

/// The names that any alternative of the participants from an index on requires.
fn required_after(participants: &[Participant]) -> Vec<HashSet<&str>> {
    let mut sets = vec![HashSet::new(); participants.len() + 1];
    for (index, participant) in participants.iter().enumerate().rev() {
        sets[index] = sets[index + 1].clone();
        let requires = participant.alternatives.iter().flat_map(|sections| &sections.requires);
        sets[index].extend(requires.map(|require| require.name.as_str()));
    }
    sets
}

/// One alternative of one participant.
#[derive(Clone, Copy)]
struct Choice<'a> {
    index: usize,
    participant: &'a Participant,
    sections: &'a PlanSections,
    optional: bool,
}

impl Choice<'_> {
    fn requires(self, name: &str) -> bool {
        self.sections.requires.iter().any(|require| require.name == name)
    }

    fn provides(self, name: &str) -> bool {
        self.sections.provides.iter().any(|provide| provide.name == name)
    }

    fn name(self) -> String {
        format!("{}@{}", self.participant.id, self.participant.version)
    }
}

struct Search<'a> {
    participants: &'a [Participant],
    required_after: Vec<HashSet<&'a str>>,
    chosen: Vec<Choice<'a>>,
    failures: Vec<Unresolved>,
}

impl<'a> Search<'a> {
    fn from(&mut self, index: usize) -> Option<Resolved> {
        let participants = self.participants;
        let Some(participant) = participants.get(index) else {
            return match trial(&self.chosen) {
                Ok(resolved) => Some(resolved),
                Err(failure) => {
                    self.record(failure);
                    None
                }
            };
        };
        let last = participant.alternatives.len().saturating_sub(1);
        for (number, sections) in participant.alternatives.iter().enumerate() {
            // Only after all of its alternatives have failed is an optional participant given up.
            let optional = participant.optional && number == last;
            let choice = Choice { index, participant, sections, optional };
            if let Some(failure) = self.is_hopeless(choice) {
                self.record(failure);
                continue;
            }
            self.chosen.push(choice);
            let found = self.from(index + 1);
            self.chosen.pop();
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Whether every trial that begins with the choices made so far and `choice` must fail: giving up optional
    /// participants only takes provides and requires away. This keeps groups with many alternatives from taking
    /// exponential time.
    fn is_hopeless(&self, choice: Choice<'a>) -> Option<Unresolved> {
        if choice.optional {
            return None;
        }
        let provided =
            |name: &str| choice.provides(name) || self.chosen.iter().any(|earlier| earlier.provides(name));
        let required =
            |name: &str| choice.requires(name) || self.required_after[choice.index + 1].contains(name);
        let requires = choice.sections.requires.iter().map(|require| &require.name);
        let provides = choice.sections.provides.iter().map(|provide| &provide.name);
        requires
            .clone()
            .find(|name| !provided(name))
            .map(|name| Unresolved::Requires { participant: choice.name(), name: name.clone() })
            .or_else(|| {
                provides
                    .clone()
                    .find(|name| !required(name))
                    .map(|name| Unresolved::ProvidesUnused { participant: choice.name(), name: name.clone() })
            })
    }

    fn record(&mut self, failure: Unresolved) {
        if !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }
}

/// Gives up optional participants whose plan does not hold until the plan holds, or fails.
fn trial(choices: &[Choice<'_>]) -> Result<Resolved, Unresolved> {
    let mut trial = choices.to_vec();
    loop {
        let mut given_up = None;
        for (position, failure) in violations(&trial) {
            if !trial[position].optional {
                return Err(failure);
            }
            given_up.get_or_insert((position, failure));
        }
        let Some((position, failure)) = given_up else { break };
        tracing::debug!("skip: {failure}");
        trial.remove(position);
    }
    if !trial.iter().any(|choice| choice.participant.kind == ModuleKind::Buildpack) {
        return Err(Unresolved::NoBuildpack);
    }
    Ok(Resolved { participating: trial.iter().map(|choice| choice.index).collect(), plan: plan(&trial) })
}

/// The positions in the trial whose requires come too early or whose provides are unused.
fn violations<'a>(trial: &'a [Choice<'a>]) -> impl Iterator<Item = (usize, Unresolved)> + 'a {
    trial.iter().enumerate().flat_map(move |(position, choice)| {
        let provided = move |name: &str| trial[..=position].iter().any(|other| other.provides(name));
        let required = move |name: &str| trial[position..].iter().any(|other| other.requires(name));
        let early = choice.sections.requires.iter().filter(move |require| !provided(&require.name)).map(
            move |require| Unresolved::Requires { participant: choice.name(), name: require.name.clone() },
        );
        let unused = choice.sections.provides.iter().filter(move |provide| !required(&provide.name)).map(
            move |provide| Unresolved::ProvidesUnused {
                participant: choice.name(),
                name: provide.name.clone(),
            },
        );
        early.chain(unused).map(move |failure| (position, failure))
    })
}

/// One entry per dependency, in the order in which they are first provided.
fn plan(trial: &[Choice<'_>]) -> Plan {
    let mut names: Vec<&str> = Vec::new();
    let mut entries: Vec<PlanEntry> = Vec::new();
    for choice in trial {
        for provide in &choice.sections.provides {
            let provider = Provider {
                id: choice.participant.id.clone(),
                version: choice.participant.version.clone(),
                extension: choice.participant.kind == ModuleKind::Extension,
            };
            let position = names.iter().position(|name| *name == provide.name).unwrap_or_else(|| {
                names.push(&provide.name);
                entries.push(PlanEntry::default());
                entries.len() - 1
            });
            let providers = &mut entries[position].providers;
            if !providers.contains(&provider) {
                providers.push(provider);
            }
        }
        for require in &choice.sections.requires {
            if let Some(position) = names.iter().position(|name| *name == require.name) {
                entries[position].requires.push(require.clone());
            }
        }
    }
    Plan { entries }
}

#[cfg(test)]
mod tests;
