//! Trying candidate groups, until one passes.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use longshore_cnb::group::{Group, ModuleKind};
use longshore_cnb::order::OrderEntry;

use super::DetectOutput;
use super::candidates::Candidates;
use super::error::DetectError;
use super::known_modules::KnownModules;
use super::member::{Member, ModuleKey};
use super::report::{DetectResult, GroupResult, ModuleResult, Report};
use super::resolve;
use super::run::{DetectContext, DetectRun};
use super::trials::Resolved;
use crate::module_store::Module;

/// The state of a search: what has run, and what failed.
pub(super) struct Detection<'a> {
    pub(super) context: DetectContext<'a>,
    pub(super) modules: KnownModules<'a>,
    pub(super) checks_target: bool,
    pub(super) runs: HashMap<ModuleKey, DetectRun>,
    pub(super) report: Report,
}

impl Candidates for Detection<'_> {
    type Found = DetectOutput;

    fn module(&mut self, kind: ModuleKind, entry: &OrderEntry) -> Result<Arc<Module>, DetectError> {
        self.modules.find(kind, entry)
    }

    /// Runs what has not run yet of a group.
    fn try_group(&mut self, members: &[Member]) -> ControlFlow<DetectOutput> {
        let mismatches = self.mismatches(members);
        let resolved = if mismatches.is_empty() {
            let new: Vec<_> =
                members.iter().filter(|member| !self.runs.contains_key(&member.key())).cloned().collect();
            self.runs.extend(self.context.run_all(&new));
            self.log_outputs(&new);
            self.log_results(members);
            resolve::resolve(members, &self.runs)
        } else {
            Err(mismatches)
        };
        for member in members {
            self.report.add_module(resolve::module_result(member, self.runs.get(&member.key())));
        }
        match resolved {
            Ok(resolved) => ControlFlow::Break(selected(members, resolved)),
            Err(reasons) => {
                for reason in &reasons {
                    tracing::debug!("fail: {reason}");
                }
                let members = members
                    .iter()
                    .map(|member| format!("{member}{}", if member.optional { "?" } else { "" }));
                self.report.groups.push(GroupResult { members: members.collect(), reasons });
                ControlFlow::Continue(())
            }
        }
    }
}

impl Detection<'_> {
    /// Why the group cannot pass on this target: a member that is not optional does not support it.
    ///
    /// Spec: buildpack.md "Phase #1: Detection" "Process", last paragraph.
    fn mismatches(&mut self, members: &[Member]) -> Vec<String> {
        let mut reasons = Vec::new();
        for member in members.iter().filter(|member| self.checks_target && !member.optional) {
            let Some(reason) = resolve::target_mismatch(member, self.context.target) else { continue };
            reasons.push(format!("{member} cannot run on this target and is not optional"));
            self.report.add_module(ModuleResult {
                kind: member.kind,
                name: member.to_string(),
                result: DetectResult::Error,
                reason,
                output: String::new(),
            });
        }
        reasons
    }

    fn log_outputs(&self, members: &[Member]) {
        for member in members {
            let Some(run) = self.runs.get(&member.key()) else { continue };
            let result = resolve::module_result(member, Some(run));
            let output = run.output.trim_end();
            if result.result == DetectResult::Error {
                tracing::info!("======== Error: {member} ========\n{}", result.reason);
                if !output.is_empty() {
                    tracing::info!("======== Output: {member} ========\n{output}");
                }
            } else if !output.is_empty() {
                tracing::debug!("======== Output: {member} ========\n{output}");
            }
        }
    }

    fn log_results(&self, members: &[Member]) {
        tracing::debug!("======== Results ========");
        for member in members {
            let result = resolve::module_result(member, self.runs.get(&member.key())).result;
            let word = match result {
                DetectResult::Fail if member.optional => "skip".to_owned(),
                other => other.to_string(),
            };
            tracing::debug!("{word}: {member}");
        }
    }
}

/// The selected group, with its members in their order.
fn selected(members: &[Member], resolved: Resolved) -> DetectOutput {
    let chosen: Vec<&Member> = resolved.participating.iter().map(|index| &members[*index]).collect();
    if chosen.len() < members.len() {
        tracing::info!("{} of {} buildpacks participating", chosen.len(), members.len());
    }
    let width = chosen.iter().map(|member| member.id.len()).max().unwrap_or(0);
    for member in &chosen {
        tracing::info!("{:width$} {}", member.id, member.version);
    }
    let of_kind = |kind| {
        chosen.iter().filter(|member| member.kind == kind).map(|member| member.group_element()).collect()
    };
    DetectOutput {
        group: Group {
            buildpacks: of_kind(ModuleKind::Buildpack),
            extensions: of_kind(ModuleKind::Extension),
        },
        plan: resolved.plan,
    }
}
