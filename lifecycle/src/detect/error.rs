//! Why detection failed.

use std::path::PathBuf;

use longshore_cnb::environment::EnvironmentError;
use longshore_cnb::group::ModuleKind;
use longshore_cnb::toml_file::TomlFileError;
use thiserror::Error;

use super::report::Report;
use crate::ExitCode;
use crate::module_store::ModuleError;

/// Why detection failed.
#[derive(Debug, Error)]
pub enum DetectError {
    /// A file that the platform provides cannot be used, or an output cannot be written.
    #[error(transparent)]
    File(#[from] TomlFileError),
    /// The order has no group.
    #[error("{} has no group to try; it needs an [[order]] with a [[order.group]]", path.display())]
    EmptyOrder {
        /// The order.
        path: PathBuf,
    },
    /// The execution environment has a character that is reserved.
    #[error("the execution environment '{0}' must not have a '/'; set CNB_EXEC_ENV to a plain name")]
    ExecEnv(String),
    /// There is no app.
    #[error("the app directory {} does not exist; check the path", path.display())]
    NoApp {
        /// The app directory.
        path: PathBuf,
    },
    /// A module that the order names itself cannot be used.
    #[error("the order names {kind} {name}, which cannot be used")]
    TopLevelModule {
        /// Buildpack or image extension.
        kind: ModuleKind,
        /// `id@version`.
        name: String,
        /// Why.
        source: Box<ModuleError>,
    },
    /// A module that a composite buildpack names cannot be used.
    #[error("a composite buildpack names {kind} {name}, which cannot be used")]
    NestedModule {
        /// Buildpack or image extension.
        kind: ModuleKind,
        /// `id@version`.
        name: String,
        /// Why.
        source: Box<ModuleError>,
    },
    /// A composite buildpack is inside itself.
    #[error("the composite buildpack {} contains itself: {}", path.last().map_or("", String::as_str), path.join(" -> "))]
    Cycle {
        /// The composites from the outermost one to the repeated one.
        path: Vec<String>,
    },
    /// The environment of the user or the operator cannot be read.
    #[error("cannot prepare the environment of the buildpacks")]
    Environment(#[from] EnvironmentError),
    /// No group passed so far, and the buildpacks of the next one are not there: see [`Stage`](super::Stage).
    #[error("none of the first {groups} groups of buildpacks fits the app")]
    Undecided {
        /// How many groups were tried.
        groups: usize,
    },
    /// What the next stage should know cannot be written.
    #[error("cannot write {}", path.display())]
    Progress {
        /// The file.
        path: PathBuf,
        /// Why.
        source: toml::ser::Error,
    },
    /// Detection came to a module that is not there in this [`Stage`](super::Stage).
    #[error("a module that detection needs is not there")]
    NotThere {
        /// Which one.
        source: Box<DetectError>,
    },
    /// No group passed.
    #[error("no group of buildpacks fits the app in {}", app.display())]
    NoneDetected {
        /// The app directory.
        app: PathBuf,
        /// What was tried, and why each group failed.
        report: Report,
    },
}

impl DetectError {
    /// The exit code of the detector. Spec: platform.md "`detector`" "Outputs".
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::File(_) | Self::Progress { .. } => ExitCode::Failed,
            Self::ExecEnv(_) => ExitCode::InvalidArguments,
            Self::TopLevelModule { source, .. } => source.exit_code_or(ExitCode::Failed),
            Self::NestedModule { source, .. } => source.exit_code_or(ExitCode::Detect),
            Self::EmptyOrder { .. } => ExitCode::NoneDetected,
            Self::NoApp { .. } | Self::Cycle { .. } | Self::Environment(_) => ExitCode::Detect,
            Self::NoneDetected { report, .. } if report.has_errors() => ExitCode::NoneDetectedWithErrors,
            Self::NoneDetected { .. } => ExitCode::NoneDetected,
            Self::Undecided { .. } => ExitCode::Undecided,
            Self::NotThere { .. } => ExitCode::NotThere,
        }
    }

    /// Whether a module does not exist.
    pub(super) fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::TopLevelModule { source, .. } | Self::NestedModule { source, .. }
                if matches!(**source, ModuleError::Missing { .. })
        )
    }
}
