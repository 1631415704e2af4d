//! The flags of all phases, and the syntax of Go's `flag` package.
//!
//! Spec: platform.md, the "Inputs" of each phase.

use longshore_cnb::PlatformApi;
use thiserror::Error;

use super::phase::Phase;

/// What may follow a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A text that may be given again and again.
    List,
    /// Present, or `=true`, `=false`.
    Boolean,
    Number,
}

/// A flag and its other sources.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The environment variable that stands in for it.
    pub(super) variable: Option<&'static str>,
    /// What holds otherwise; `<layers>` stands for the layers directory.
    pub(super) default: &'static str,
    /// Whether a phase takes it.
    pub(super) taken_by: fn(Phase, PlatformApi) -> bool,
}

macro_rules! flag {
    ($name:literal, $kind:ident, $variable:expr, $default:literal, |$phase:pat_param, $api:pat_param| $taken_by:expr) => {
        Flag {
            name: $name,
            kind: Kind::$kind,
            variable: $variable,
            default: $default,
            taken_by: |$phase: Phase, $api: PlatformApi| $taken_by,
        }
    };
}

use Phase::{Analyze, Build, Create, Detect, Export, Extend, Rebase, Restore};

pub(super) const FLAGS: &[Flag] = &[
    flag!("analyzed", Text, Some("CNB_ANALYZED_PATH"), "<layers>/analyzed.toml", |phase, api| match phase {
        Detect => api.has_analyzed_in_detector(),
        Build => api.has_analyzed_in_builder(),
        Create | Rebase => false,
        _ => true,
    }),
    flag!("app", Text, Some("CNB_APP_DIR"), "/workspace", |phase, _| matches!(
        phase,
        Detect | Extend | Build | Export | Create
    )),
    flag!("build-config", Text, Some("CNB_BUILD_CONFIG_DIR"), "/cnb/build-config", |phase, api| {
        matches!(phase, Detect | Build | Create) && api.has_build_config()
    }),
    flag!("build-image", Text, Some("CNB_BUILD_IMAGE"), "", |phase, api| phase == Restore
        && api.has_build_image()),
    flag!("buildpacks", Text, Some("CNB_BUILDPACKS_DIR"), "/cnb/buildpacks", |phase, _| matches!(
        phase,
        Detect | Extend | Build | Create
    )),
    flag!("cache-dir", Text, Some("CNB_CACHE_DIR"), "", |phase, _| matches!(
        phase,
        Restore | Export | Create
    )),
    flag!("cache-image", Text, Some("CNB_CACHE_IMAGE"), "", |phase, _| matches!(
        phase,
        Analyze | Restore | Export | Create
    )),
    flag!("daemon", Boolean, Some("CNB_USE_DAEMON"), "", |phase, api| match phase {
        Restore => api.has_daemon_in_restorer(),
        Analyze | Export | Create | Rebase => true,
        _ => false,
    }),
    flag!("extended", Text, Some("CNB_EXTENDED_DIR"), "<layers>/extended", |phase, api| {
        matches!(phase, Extend | Export) && api.has_run_image_extension()
    }),
    flag!("extensions", Text, Some("CNB_EXTENSIONS_DIR"), "/cnb/extensions", |phase, api| phase == Detect
        && api.has_extensions()),
    flag!("force", Boolean, Some("CNB_FORCE_REBASE"), "", |phase, api| phase == Rebase
        && api.has_force_rebase()),
    flag!("generated", Text, Some("CNB_GENERATED_DIR"), "<layers>/generated", |phase, api| match phase {
        Detect => api.has_extensions(),
        Restore => api.has_run_image_extension(),
        phase => phase == Extend,
    }),
    flag!("gid", Number, Some("CNB_GROUP_ID"), "", |phase, _| !matches!(phase, Detect | Build)),
    flag!("group", Text, Some("CNB_GROUP_PATH"), "<layers>/group.toml", |phase, _| matches!(
        phase,
        Detect | Restore | Extend | Build | Export
    )),
    flag!("image", Text, None, "", |phase, _| matches!(phase, Export | Rebase)),
    flag!("insecure-registry", List, Some("CNB_INSECURE_REGISTRIES"), "", |phase, api| {
        matches!(phase, Analyze | Restore | Export | Create | Rebase) && api.has_insecure_registries()
    }),
    flag!("kaniko-cache-ttl", Text, Some("CNB_KANIKO_CACHE_TTL"), "336h", |phase, _| phase == Extend),
    flag!("kind", Text, Some("CNB_EXTEND_KIND"), "build", |phase, api| phase == Extend
        && api.has_run_image_extension()),
    flag!("launch-cache", Text, Some("CNB_LAUNCH_CACHE_DIR"), "", |phase, api| match phase {
        Analyze => api.has_analyzer_launch_cache(),
        phase => matches!(phase, Export | Create),
    }),
    flag!("launcher", Text, None, "/cnb/lifecycle/launcher", |phase, _| matches!(phase, Export | Create)),
    flag!("launcher-sbom", Text, None, "/cnb/lifecycle", |phase, api| {
        matches!(phase, Export | Create) && api.has_launcher_sbom()
    }),
    flag!("layers", Text, Some("CNB_LAYERS_DIR"), "/layers", |phase, _| phase != Rebase),
    flag!("layout", Boolean, Some("CNB_USE_LAYOUT"), "", |phase, api| {
        matches!(phase, Analyze | Restore | Export | Create) && api.has_layout()
    }),
    flag!("layout-dir", Text, Some("CNB_LAYOUT_DIR"), "", |phase, api| {
        matches!(phase, Analyze | Restore | Export | Create) && api.has_layout()
    }),
    flag!("log-level", Text, Some("CNB_LOG_LEVEL"), "info", |_, _| true),
    flag!("no-color", Boolean, Some("CNB_NO_COLOR"), "", |_, _| true),
    flag!("order", Text, Some("CNB_ORDER_PATH"), "<layers>/order.toml", |phase, _| matches!(
        phase,
        Detect | Create
    )),
    flag!("parallel", Boolean, Some("CNB_PARALLEL_EXPORT"), "", |phase, _| matches!(phase, Export | Create)),
    flag!("plan", Text, Some("CNB_PLAN_PATH"), "<layers>/plan.toml", |phase, _| matches!(
        phase,
        Detect | Extend | Build
    )),
    flag!("platform", Text, Some("CNB_PLATFORM_DIR"), "/platform", |phase, _| matches!(
        phase,
        Detect | Extend | Build | Create
    )),
    flag!("previous-image", Text, Some("CNB_PREVIOUS_IMAGE"), "", |phase, api| match phase {
        Rebase => api.has_rebase_previous_image(),
        phase => matches!(phase, Analyze | Create),
    }),
    flag!("process-type", Text, Some("CNB_PROCESS_TYPE"), "", |phase, _| matches!(phase, Export | Create)),
    flag!(
        "project-metadata",
        Text,
        Some("CNB_PROJECT_METADATA_PATH"),
        "<layers>/project-metadata.toml",
        |phase, _| { matches!(phase, Export | Create) }
    ),
    flag!("report", Text, Some("CNB_REPORT_PATH"), "<layers>/report.toml", |phase, _| matches!(
        phase,
        Export | Create | Rebase
    )),
    flag!("run", Text, Some("CNB_RUN_PATH"), "/cnb/run.toml", |phase, api| match phase {
        Restore => api.rechecks_run_image(),
        phase => matches!(phase, Analyze | Detect | Export | Create) && api.has_run_toml(),
    }),
    flag!("run-image", Text, Some("CNB_RUN_IMAGE"), "", |phase, _| matches!(
        phase,
        Analyze | Export | Create | Rebase
    )),
    flag!("skip-layers", Boolean, Some("CNB_SKIP_LAYERS"), "", |phase, api| match phase {
        Analyze => api.has_analyzer_launch_cache(),
        phase => phase == Restore,
    }),
    flag!("skip-restore", Boolean, Some("CNB_SKIP_RESTORE"), "", |phase, _| phase == Create),
    flag!("stack", Text, Some("CNB_STACK_PATH"), "/cnb/stack.toml", |phase, api| match phase {
        Create => true,
        phase => matches!(phase, Analyze | Export) && !api.has_run_toml(),
    }),
    flag!("system", Text, Some("CNB_SYSTEM_PATH"), "/cnb/system.toml", |phase, api| {
        matches!(phase, Detect | Create) && api.has_system_toml()
    }),
    flag!("tag", List, None, "", |phase, _| matches!(phase, Analyze | Create)),
    flag!("uid", Number, Some("CNB_USER_ID"), "", |phase, _| !matches!(phase, Detect | Build)),
    flag!("version", Boolean, None, "", |_, _| true),
];

/// A command line that does not fit the flags of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum FlagError {
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    #[error("flag needs an argument: -{0}")]
    NoValue(&'static str),
    #[error("invalid value '{value}' for flag -{flag}: it must be {expected}")]
    Invalid { flag: &'static str, value: String, expected: &'static str },
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// `-h` or `-help` was asked for.
    #[error("help requested")]
    Help,
}

/// A command line, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// The flags in order, with the text of their values.
    pub(super) flags: Vec<(&'static str, String)>,
    pub(super) positional: Vec<String>,
}

/// Takes a command line apart as Go's `flag` package does: `-flag`, `--flag`, `-flag=value`, `-flag value`, and nothing
/// after the first argument that is no flag, or after `--`, is a flag.
pub(super) fn parse(
    phase: Phase,
    api: PlatformApi,
    arguments: impl IntoIterator<Item = String>,
) -> Result<Parsed, FlagError> {
    let mut parsed = Parsed::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            break;
        }
        let text = match argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) {
            Some(text) if !text.is_empty() => text,
            _ => {
                parsed.positional.push(argument);
                break;
            }
        };
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if name.is_empty() || name.starts_with('-') {
            return Err(FlagError::Syntax(argument));
        }
        let known = FLAGS.iter().find(|flag| flag.name == name && (flag.taken_by)(phase, api));
        let flag = match known {
            Some(flag) => flag,
            None if name == "h" || name == "help" => return Err(FlagError::Help),
            None => return Err(FlagError::Unknown(name.to_owned())),
        };
        let value = match (value, flag.kind) {
            (Some(value), _) => value.to_owned(),
            (None, Kind::Boolean) => "true".to_owned(),
            (None, _) => arguments.next().ok_or(FlagError::NoValue(flag.name))?,
        };
        check(flag, &value)?;
        parsed.flags.push((flag.name, value));
    }
    parsed.positional.extend(arguments);
    Ok(parsed)
}

fn check(flag: &'static Flag, value: &str) -> Result<(), FlagError> {
    let (valid, expected) = match flag.kind {
        Kind::Text | Kind::List => (true, ""),
        Kind::Boolean => (boolean(value).is_some(), "true or false"),
        Kind::Number => (value.parse::<u32>().is_ok(), "a number"),
    };
    if valid {
        Ok(())
    } else {
        Err(FlagError::Invalid { flag: flag.name, value: value.to_owned(), expected })
    }
}

/// The words that Go takes for booleans.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The flags of a phase, one per line, with where else their values come from.
pub(super) fn usage(phase: Phase, api: PlatformApi) -> String {
    let mut text = format!("Usage of {}:\n", phase.program());
    for flag in FLAGS.iter().filter(|flag| (flag.taken_by)(phase, api)) {
        text.push_str(&format!("  -{}", flag.name));
        if let Some(variable) = flag.variable {
            text.push_str(&format!(" (or {variable})"));
        }
        if !flag.default.is_empty() {
            text.push_str(&format!(" (default {})", flag.default));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
