//! Deciding whether a group passes detection, from what the `bin/detect` of its members said.
//!
//! Spec: buildpack.md "Phase #1: Detection" "Process".

use std::collections::HashMap;

use longshore_cnb::group::ModuleKind;

use super::member::{Member, ModuleKey};
use super::report::{DetectResult, ModuleResult};
use super::run::{DetectRun, Outcome};
use super::trials::{self, Participant, Resolved};

/// Decides whether a group passes, given the runs of all of its members.
///
/// On success the indexes of [`Resolved::participating`] count the members; on failure the reasons are given, one
/// line each.
pub(super) fn resolve(
    members: &[Member],
    runs: &HashMap<ModuleKey, DetectRun>,
) -> Result<Resolved, Vec<String>> {
    let mut participants = Vec::new();
    let mut positions = Vec::new();
    let mut failures = Vec::new();
    for (position, member) in members.iter().enumerate() {
        match runs.get(&member.key()).map(|run| &run.outcome) {
            Some(Outcome::Pass(alternatives)) => {
                positions.push(position);
                participants.push(Participant {
                    kind: member.kind,
                    id: member.id.clone(),
                    version: member.version.clone(),
                    optional: member.optional,
                    alternatives: alternatives.clone(),
                });
            }
            _ if member.optional => {}
            Some(Outcome::Fail) => failures.push(format!("{member} failed and is not optional")),
            Some(Outcome::Error(_)) => {
                failures.push(format!("{member} ended with an error and is not optional"));
            }
            None => failures.push(format!("{member} has not run")),
        }
    }
    if !failures.is_empty() {
        return Err(failures);
    }
    if !participants.iter().any(|participant| participant.kind == ModuleKind::Buildpack) {
        return Err(vec!["none of its buildpacks passed".to_owned()]);
    }
    match trials::resolve(&participants) {
        Ok(mut resolved) => {
            for index in &mut resolved.participating {
                *index = positions[*index];
            }
            Ok(resolved)
        }
        Err(failures) => Err(failures.iter().map(ToString::to_string).collect()),
    }
}

/// Why a required member cannot take part on this target, if it cannot.
pub(super) fn target_mismatch(member: &Member, target: &longshore_cnb::target::Target) -> Option<String> {
    let supported = &member.module.descriptor.targets;
    if supported.is_empty() || supported.iter().any(|supported| supported.supports(target)) {
        return None;
    }
    let supported: Vec<_> = supported.iter().map(ToString::to_string).collect();
    Some(format!("it supports {}, but the target is {target}", supported.join(", ")))
}

/// What the table says of a module.
pub(super) fn module_result(member: &Member, run: Option<&DetectRun>) -> ModuleResult {
    let mut all_output = String::new();
    let (result, reason) = match run {
        None => (DetectResult::NotRun, "its group could not pass".to_owned()),
        Some(DetectRun { outcome: Outcome::Pass(_), .. }) => (DetectResult::Pass, String::new()),
        Some(DetectRun { outcome: Outcome::Fail, output }) => {
            // The output of errors has been shown when they happened.
            if output.trim().lines().count() > 1 {
                output.trim_end().clone_into(&mut all_output);
            }
            (DetectResult::Fail, last_line(output))
        }
        Some(DetectRun { outcome: Outcome::Error(error), output }) => {
            let last = last_line(output);
            let separator = if last.is_empty() { "" } else { ": " };
            (DetectResult::Error, format!("{error}{separator}{last}").replace('\n', " "))
        }
    };
    ModuleResult { kind: member.kind, name: member.to_string(), result, reason, output: all_output }
}

/// The last line that says something: where programs usually say why.
fn last_line(output: &str) -> String {
    output.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}
