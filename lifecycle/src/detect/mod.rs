//! Detection: finding the group of buildpacks and image extensions that builds an app.
//!
//! Spec: buildpack.md "Phase #1: Detection", platform.md "`detector`".

mod candidates;
mod error;
mod member;
mod report;
mod resolve;
mod run;
mod trials;

use std::collections::HashMap;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_cnb::PlatformApi;
use longshore_cnb::analyzed::Analyzed;
use longshore_cnb::group::{Group, ModuleKind};
use longshore_cnb::order::{OrderEntry, OrderToml};
use longshore_cnb::plan::Plan;
use longshore_cnb::system::SystemToml;
use longshore_cnb::toml_file::{self, TomlFileError};

use self::candidates::Orders;
pub use self::error::DetectError;
use self::member::{Member, ModuleKey};
pub use self::report::{DetectResult, GroupResult, ModuleResult, Report};
use self::run::{DetectContext, DetectRun};
pub use self::trials::{Participant, Resolved, Unresolved, resolve};
use crate::build_target::build_target;
use crate::module_environment::ModuleEnvironment;
use crate::module_store::{Module, ModuleStore};

/// What the detector is given. Spec: platform.md "`detector`" "Inputs".
#[derive(Debug, Clone)]
pub struct DetectInput {
    /// The Platform API that the platform speaks.
    pub platform_api: PlatformApi,
    /// `<app>`: the app's source, and the working directory of `bin/detect`.
    pub app: PathBuf,
    /// `<platform>`: its `env/` holds the user's variables.
    pub platform: PathBuf,
    /// `<build-config>`: its `env/` holds the operator's variables.
    pub build_config: PathBuf,
    /// `<buildpacks>` and `<extensions>`.
    pub modules: ModuleStore,
    /// `<order>`.
    pub order: PathBuf,
    /// `<system>`: need not exist.
    pub system: PathBuf,
    /// `<analyzed>`: need not exist.
    pub analyzed: PathBuf,
    /// `<exec-env>`: the target execution environment; empty when the platform does not know any.
    pub exec_env: String,
    /// `/etc/os-release` of the build environment: completes the target; need not exist.
    pub os_release: PathBuf,
    /// The environment of the lifecycle, from which modules inherit a few variables.
    pub environment: Vec<(OsString, OsString)>,
}

/// What detection found.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectOutput {
    /// The selected buildpacks and image extensions.
    pub group: Group,
    /// Who provides what to whom.
    pub plan: Plan,
}

impl DetectOutput {
    /// Writes `group.toml` and `plan.toml`.
    ///
    /// # Errors
    ///
    /// When one of them cannot be written.
    pub fn write(&self, group: &Path, plan: &Path) -> Result<(), TomlFileError> {
        toml_file::write(group, &self.group)?;
        toml_file::write(plan, &self.plan)
    }
}

/// Finds the first group of the order that fits the app. Nothing is written.
///
/// # Errors
///
/// When an input cannot be used, or no group fits the app: then a table of everything that was tried is logged, and is
/// in the error.
pub fn detect(input: &DetectInput) -> Result<DetectOutput, DetectError> {
    let order = read_order(input)?;
    check_order(&order, &input.modules)?;
    let analyzed: Analyzed = toml_file::read_optional(&input.analyzed)?.unwrap_or_default();
    let target = build_target(&analyzed, &input.os_release);
    let environment =
        ModuleEnvironment::new(input.environment.iter().cloned(), &input.platform, &input.build_config)?;
    let mut detection = Detection {
        context: DetectContext {
            app: &input.app,
            platform: &input.platform,
            environment: &environment,
            target: &target,
            exec_env: &input.exec_env,
        },
        checks_target: input.platform_api.has_targets(),
        runs: HashMap::new(),
        report: Report::default(),
    };
    let mut modules = Modules { store: &input.modules, order: &order, known: HashMap::new() };
    let orders = Orders {
        buildpacks: &order.order,
        extensions: &order.extensions,
        exec_env: input.platform_api.has_exec_env().then_some(input.exec_env.as_str()),
    };
    let found = orders.visit(&mut |kind, entry| modules.find(kind, entry), &mut |members| {
        Ok(detection.try_group(members))
    })?;
    found.ok_or_else(|| {
        let report = detection.report;
        tracing::error!(
            "No buildpack groups passed detection.\n\
             Please check that you are running against the correct path: {}\n\n{report}",
            input.app.display()
        );
        DetectError::NoneDetected { app: input.app.clone(), report }
    })
}

/// Reads the order, and adds the system buildpacks to it.
fn read_order(input: &DetectInput) -> Result<OrderToml, DetectError> {
    let mut order: OrderToml = toml_file::read(&input.order)?;
    if order.order.is_empty() {
        return Err(DetectError::EmptyOrder { path: input.order.clone() });
    }
    if input.platform_api.has_system_toml() {
        let system: SystemToml = toml_file::read_optional(&input.system)?.unwrap_or_default();
        order.order = system.merge_into(&order.order);
    }
    Ok(order)
}

/// Everything that the order itself names must be usable, whichever group passes: a builder that lacks a buildpack or
/// has one of an unknown API is broken, and that must not depend on the app.
fn check_order(order: &OrderToml, modules: &ModuleStore) -> Result<(), DetectError> {
    let kinds = [(ModuleKind::Buildpack, &order.order), (ModuleKind::Extension, &order.extensions)];
    for (kind, groups) in kinds {
        for entry in groups.iter().flat_map(|group| &group.group) {
            modules
                .module(kind, &entry.id, &entry.version)
                .map_err(|source| DetectError::TopLevelModule { kind, name: entry.to_string(), source })?;
        }
    }
    Ok(())
}

/// The modules that have been read.
struct Modules<'a> {
    store: &'a ModuleStore,
    order: &'a OrderToml,
    known: HashMap<ModuleKey, Arc<Module>>,
}

impl Modules<'_> {
    fn find(&mut self, kind: ModuleKind, entry: &OrderEntry) -> Result<Arc<Module>, DetectError> {
        let key = (kind, entry.id.clone(), entry.version.clone());
        if let Some(module) = self.known.get(&key) {
            return Ok(Arc::clone(module));
        }
        let module = self.store.module(kind, &entry.id, &entry.version).map_err(|source| {
            let name = entry.to_string();
            if self.is_top_level(entry) {
                DetectError::TopLevelModule { kind, name, source }
            } else {
                DetectError::NestedModule { kind, name, source }
            }
        })?;
        let module = Arc::new(module);
        self.known.insert(key, Arc::clone(&module));
        Ok(module)
    }

    fn is_top_level(&self, entry: &OrderEntry) -> bool {
        let groups = self.order.order.iter().chain(&self.order.extensions);
        groups.flat_map(|group| &group.group).any(|named| named == entry)
    }
}

struct Detection<'a> {
    context: DetectContext<'a>,
    checks_target: bool,
    runs: HashMap<ModuleKey, DetectRun>,
    report: Report,
}

impl Detection<'_> {
    /// Runs what has not run yet of a group, and breaks if the group passes.
    fn try_group(&mut self, members: &[Member]) -> ControlFlow<DetectOutput> {
        let mismatches = self.mismatches(members);
        let resolved = if mismatches.is_empty() {
            self.context.run_all(members, &mut self.runs);
            self.log_runs(members);
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
            });
        }
        reasons
    }

    fn log_runs(&self, members: &[Member]) {
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
