//! Why a layer could not be made.

use std::io;
use std::path::PathBuf;

/// Why a layer could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// A file or directory of the layer could not be read.
    #[error("cannot read `{path}` for a layer")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file changed while it was read: its entry would hold neither the old nor the new content.
    #[error("`{path}` changed while it was put into a layer; stop what writes to it and try again")]
    Changed {
        /// Which one.
        path: PathBuf,
    },
    /// Tar cannot express an entry.
    #[error("`{path}` cannot be put into a layer: {reason}")]
    Unencodable {
        /// The name in the image.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The name under which a directory goes into a layer is not absolute and plain.
    #[error("`{name}` is not an absolute path without `.` and `..`")]
    Name {
        /// The name.
        name: PathBuf,
    },
    /// A slice has a pattern that is malformed.
    #[error("`{pattern}` is not a pattern: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The blob could not be written.
    #[error("cannot write the layer's blob to `{path}`")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The codec failed.
    #[error("cannot compress the layer")]
    Compress(#[source] io::Error),
    /// A thread of the pipeline could not be started.
    #[error("cannot start a thread for the layer; there may be a limit to how many there are")]
    Thread(#[source] io::Error),
    /// A thread of the pipeline stopped without saying why.
    #[error("the layer was not finished: a thread stopped")]
    Stopped,
}

impl LayerError {
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }
}
