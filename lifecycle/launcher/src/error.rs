//! Why a process could not be started.

use std::error::Error as _;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use longshore_cnb::environment::EnvironmentError;
use longshore_cnb::{ApiError, TomlFileError};
use thiserror::Error;

/// Exit codes. Spec: platform.md "`launcher`", "Outputs".
const INCOMPATIBLE_PLATFORM_API: u8 = 11;
const INCOMPATIBLE_BUILDPACK_API: u8 = 12;
const LAUNCH_FAILED: u8 = 82;

#[derive(Debug, Error)]
pub(crate) enum LaunchError {
    #[error("cannot use CNB_PLATFORM_API")]
    PlatformApi(#[source] ApiError),
    #[error("cannot use the layers of buildpack '{id}'")]
    BuildpackApi { id: String, source: ApiError },
    #[error(transparent)]
    Metadata(#[from] TomlFileError),
    #[error(
        "no process of the type '{process_type}' is for the execution environment '{exec_env}' (CNB_EXEC_ENV)"
    )]
    NotEligible { process_type: String, exec_env: String },
    #[error("when there is no default process a command is required; the process types are: {}", types.join(", "))]
    NoCommand { types: Vec<String> },
    #[error("the process type '{process_type}' has no command")]
    EmptyProcess { process_type: String },
    #[error(
        "the process type '{process_type}' belongs to buildpack '{id}', which is not in the image's metadata"
    )]
    UnknownBuildpack { process_type: String, id: String },
    #[error("cannot change to the app directory '{}'", path.display())]
    AppDirectory { path: PathBuf, source: io::Error },
    #[error("cannot change to the working directory '{}' of the process", path.display())]
    WorkingDirectory { path: PathBuf, source: io::Error },
    #[error("cannot read the directory '{}'", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error("cannot run '{}'", path.display())]
    ExecD { path: PathBuf, source: io::Error },
    #[error("'{}' failed: {status}", path.display())]
    ExecDFailed { path: PathBuf, status: ExitStatus },
    #[error("the output of '{}' is not a set of variables: {reason}", path.display())]
    ExecDOutput { path: PathBuf, reason: String },
    #[error("no executable '{}' in PATH ({})", name.display(), search.display())]
    NotInPath { name: OsString, search: OsString },
    #[error("cannot start '{}'", path.display())]
    Exec { path: PathBuf, source: io::Error },
    #[error("the process is started by a shell, but '{}' cannot be; use a process with 'direct = true', or '--' before the command", path.display())]
    Shell { path: PathBuf, source: io::Error },
}

impl LaunchError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::PlatformApi(_) => INCOMPATIBLE_PLATFORM_API,
            Self::BuildpackApi { .. } => INCOMPATIBLE_BUILDPACK_API,
            _ => LAUNCH_FAILED,
        }
    }

    /// The error and its causes on one line.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("failed to launch: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(error.to_string().trim_end());
            cause = error.source();
        }
        text
    }
}
