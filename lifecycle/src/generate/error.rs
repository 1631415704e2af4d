//! Why generation failed.

use std::path::{Path, PathBuf};

use longshore_cnb::TomlFileError;
use longshore_cnb::environment::EnvironmentError;
use thiserror::Error;

use super::dockerfile::DockerfileError;
use crate::ExitCode;
use crate::module_process::missing_interpreter;
use crate::module_store::ModuleError;

/// Why generation failed.
#[derive(Debug, Error)]
pub enum GenerateError {
    /// A file cannot be read, is not valid, or cannot be written.
    #[error(transparent)]
    File(#[from] TomlFileError),
    /// An extension of the group cannot be found or read.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The environment of an extension cannot be prepared.
    #[error("cannot prepare the environment of the image extensions")]
    Environment(#[from] EnvironmentError),
    /// `bin/generate` ended with an error.
    #[error("the image extension {extension} failed: bin/generate ended with {status}; its output is above")]
    Failed {
        /// `id@version`.
        extension: String,
        /// How it ended.
        status: String,
    },
    /// `bin/generate` could not be started.
    #[error(
        "the image extension {extension} failed: cannot start {}{}",
        path.display(),
        missing_interpreter(path, source)
    )]
    Start {
        /// `id@version`.
        extension: String,
        /// The executable.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A Dockerfile cannot be used.
    #[error("the image extension {extension} wrote {}, which cannot be used", path.display())]
    Dockerfile {
        /// `id@version`.
        extension: String,
        /// The Dockerfile.
        path: PathBuf,
        /// Why.
        source: DockerfileError,
    },
    /// The build contexts contradict each other.
    #[error(
        "the image extension {extension} wrote both 'context' and '{specific}'; \
         a shared context excludes those of one image"
    )]
    Contexts {
        /// `id@version`.
        extension: String,
        /// The context of one image.
        specific: &'static str,
    },
    /// A build argument is the lifecycle's own.
    #[error("{} sets the build argument '{name}', which the lifecycle provides itself", path.display())]
    Argument {
        /// `extend-config.toml`.
        path: PathBuf,
        /// The argument.
        name: String,
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

impl GenerateError {
    pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// The exit code of the detector, which generates. Spec: platform.md "`detector`" "Outputs".
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed { .. } | Self::Start { .. } => ExitCode::ExtensionFailed,
            Self::Module(error) => error.exit_code_or(ExitCode::Generate),
            Self::File(_)
            | Self::Environment(_)
            | Self::Dockerfile { .. }
            | Self::Contexts { .. }
            | Self::Argument { .. }
            | Self::Io { .. } => ExitCode::Generate,
        }
    }
}
