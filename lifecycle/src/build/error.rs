//! Why the build failed.

use std::path::{Path, PathBuf};

use longshore_cnb::environment::EnvironmentError;
use longshore_cnb::launch_toml::LaunchTomlError;
use longshore_cnb::{ApiError, TomlFileError};
use thiserror::Error;

use crate::ExitCode;
use crate::module_process::missing_interpreter;
use crate::module_store::ModuleError;

/// Why the build failed.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A file that the platform provides cannot be used.
    #[error(transparent)]
    Input(#[from] TomlFileError),
    /// There is no app.
    #[error("the app directory {} does not exist; check the path", path.display())]
    NoApp {
        /// The app directory.
        path: PathBuf,
    },
    /// A buildpack of the group declares an API version that cannot be used.
    #[error("the buildpack {buildpack} cannot be used")]
    Api {
        /// `id@version`.
        buildpack: String,
        /// Why.
        source: ApiError,
    },
    /// A buildpack of the group cannot be found or read.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The environment of a buildpack cannot be prepared.
    #[error("cannot prepare the environment of the buildpacks")]
    Environment(#[from] EnvironmentError),
    /// `bin/build` ended with an error.
    #[error("the buildpack {buildpack} failed: bin/build ended with {status}; its output is above")]
    Failed {
        /// `id@version`.
        buildpack: String,
        /// How it ended.
        status: String,
    },
    /// `bin/build` could not be started.
    #[error(
        "the buildpack {buildpack} failed: cannot start {}{}",
        path.display(),
        missing_interpreter(path, source)
    )]
    Start {
        /// `id@version`.
        buildpack: String,
        /// The executable.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that a buildpack wrote cannot be read, or is not valid TOML.
    #[error("the buildpack {buildpack} wrote a file that cannot be used")]
    OutputFile {
        /// `id@version`.
        buildpack: String,
        /// Why.
        source: Box<TomlFileError>,
    },
    /// A `<layer>.toml` that a buildpack wrote cannot be read, or is not valid TOML.
    #[error("a layer has metadata that cannot be used")]
    Layer {
        /// Why.
        source: Box<TomlFileError>,
    },
    /// A `launch.toml` that a buildpack wrote cannot be used.
    #[error("the buildpack {buildpack} wrote a launch.toml that cannot be used")]
    Launch {
        /// `id@version`.
        buildpack: String,
        /// Why.
        source: Box<LaunchTomlError>,
    },
    /// A file that a buildpack wrote breaks a rule.
    #[error("{} breaks a rule: {rule}", path.display())]
    Rule {
        /// The file.
        path: PathBuf,
        /// The rule, and what to do.
        rule: String,
    },
    /// Something could not be done with a file or a directory.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl BuildError {
    pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    pub(super) fn rule(path: &Path, rule: impl Into<String>) -> Self {
        Self::Rule { path: path.to_owned(), rule: rule.into() }
    }

    /// The exit code of the builder. Spec: platform.md "`builder`" "Outputs".
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) => ExitCode::Failed,
            Self::Api { .. } => ExitCode::IncompatibleBuildpackApi,
            Self::Module(error) => error.exit_code_or(ExitCode::Build),
            Self::Failed { .. } | Self::Start { .. } => ExitCode::BuildpackFailed,
            Self::NoApp { .. }
            | Self::Environment(_)
            | Self::OutputFile { .. }
            | Self::Layer { .. }
            | Self::Launch { .. }
            | Self::Rule { .. }
            | Self::Io { .. } => ExitCode::Build,
        }
    }
}

/// Writes a file and the directories above it.
pub(super) fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<(), BuildError> {
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent).map_err(|source| BuildError::io("create", parent, source))?;
    }
    fs_err::write(path, contents).map_err(|source| BuildError::io("write", path, source))
}
