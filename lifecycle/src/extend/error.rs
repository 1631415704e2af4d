//! Why an image cannot be extended.

use std::io;
use std::path::PathBuf;

use longshore_cnb::toml_file::TomlFileError;
use longshore_image::layer::LayerError;
use longshore_image::snapshot::SnapshotError;
use longshore_image::{StoreError, UnpackError};
use thiserror::Error;

use crate::ExitCode;

/// Why an image cannot be extended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExtendError {
    /// `analyzed.toml` does not say which image it is.
    #[error("analyzed.toml has no digest reference of the {kind} image; run the restorer before{hint}")]
    NoImage {
        /// `build` or `run`.
        kind: &'static str,
        /// What else is needed.
        hint: &'static str,
    },
    /// What the restorer keeps of the image is not there.
    #[error("what is known of the {kind} image cannot be read from '{}'; the restorer leaves it there", path.display())]
    Base {
        /// `build` or `run`.
        kind: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Option<Box<StoreError>>,
    },
    /// A value of `-kaniko-cache-ttl` that is no duration.
    #[error("'{0}' is no duration, as `336h` is")]
    Duration(String),
    /// Root is needed to change the root filesystem.
    #[error("extending an image needs root; run the extender as root")]
    NotRoot,
    /// `extend-config.toml` cannot be read.
    #[error(transparent)]
    Config(#[from] TomlFileError),
    /// An instruction cannot be applied.
    #[error("line {line} of '{}' of the extension {extension} cannot be applied", path.display())]
    Instruction {
        /// The extension.
        extension: String,
        /// The Dockerfile.
        path: PathBuf,
        /// The line.
        line: usize,
        /// Why not.
        #[source]
        source: Box<DockerfileProblem>,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} '{}'", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The extended run image would run as root.
    #[error(
        "the final user of the run image is root; end the last Dockerfile with `USER ${{user_id}}:${{group_id}}`, or add an \
         extension that does"
    )]
    RunsAsRoot,
    /// The extended image cannot be written.
    #[error("cannot write the extended image to '{}'", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<StoreError>,
    },
}

impl ExtendError {
    /// The exit code of the extender.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Duration(_) => ExitCode::InvalidFlags,
            Self::NotRoot => ExitCode::Failed,
            _ => ExitCode::Extend,
        }
    }
}

/// What is wrong with an instruction.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DockerfileProblem {
    /// There is no such instruction.
    #[error("there is no instruction '{0}'")]
    Unknown(String),
    /// It is not for image extensions.
    #[error("{0} is not supported in image extensions")]
    Unsupported(&'static str),
    /// A flag of an instruction.
    #[error("--{name}{} is not supported", if value.is_empty() { String::new() } else { format!("={value}") })]
    Flag {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Another stage, or another image.
    #[error("--from={0} is not supported: there is one stage, and no other image")]
    From(String),
    /// `ADD` of what is not in the context.
    #[error("'{0}' is not in the build context; download it in a RUN instruction, with its checksum")]
    Remote(String),
    /// It needs an argument.
    #[error("it needs an argument")]
    NoArgument,
    /// A variable or label without a value.
    #[error("'{0}' has no value")]
    NoValue(String),
    /// `SHELL` needs the exec form.
    #[error("SHELL needs a list: [\"program\", \"argument\"]")]
    Shell,
    /// A quote is not closed.
    #[error("a quote is not closed")]
    OpenQuote,
    /// A substitution that means nothing.
    #[error("'{0}' cannot be replaced")]
    Substitution(String),
    /// A variable that must be set.
    #[error("the variable {name} is not set: {text}")]
    Unset {
        /// Its name.
        name: String,
        /// What is said then.
        text: String,
    },
    /// A user that is not known.
    #[error("there is no user '{0}' in /etc/passwd")]
    NoUser(String),
    /// A group that is not known.
    #[error("there is no group '{0}' in /etc/group")]
    NoGroup(String),
    /// A mode that is no octal number.
    #[error("'{0}' is no mode, as 755 is")]
    Mode(String),
    /// A source that does not exist.
    #[error("'{0}' is not in the build context")]
    NoSource(String),
    /// A source that leaves the context.
    #[error("'{0}' leads out of the build context")]
    OutsideContext(String),
    /// A file cannot be read or written.
    #[error("cannot use '{}'", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A command cannot be started.
    #[error("cannot start '{program}'")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A command failed.
    #[error("the command failed with {0}")]
    Failed(String),
    /// What changed cannot be found out.
    #[error("cannot see what has changed")]
    Snapshot(#[from] SnapshotError),
    /// The layer cannot be made.
    #[error("cannot make the layer")]
    Layer(#[from] LayerError),
    /// A cached layer cannot be unpacked.
    #[error("cannot unpack the cached layer")]
    Unpack(#[from] UnpackError),
}
