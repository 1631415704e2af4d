//! Why a tree could not be looked at.

use std::io;
use std::path::PathBuf;

/// Why a tree could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A file or directory could not be read or written.
    #[error("cannot use `{path}`")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no snapshot.
    #[error("`{path}` is not a snapshot: {reason}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that stands for the removal of a file in layers.
    #[error("`{path}` has a name that removes a file when it is in a layer; rename it")]
    Whiteout {
        /// The file.
        path: PathBuf,
    },
}

impl SnapshotError {
    pub(super) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
