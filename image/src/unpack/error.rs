//! Why a layer could not be unpacked.

use std::io;
use std::path::PathBuf;

use crate::DiffId;

/// What is wrong with a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The stream could not be read: it is cut off, damaged, or not what its digest says.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// The stream is not a tar that can be used.
    #[error("the layer is not a valid tar: {0}")]
    Malformed(&'static str),
    /// An entry has a name that must not be in a layer, or that leads out of where the layer is unpacked.
    #[error("the layer has an entry `{path}` that is refused: {reason}")]
    Refused {
        /// The name of the entry.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The layer is larger than it may be.
    #[error("the layer has more than {limit} {what}")]
    TooLarge {
        /// Bytes or entries.
        what: &'static str,
        /// How many are accepted.
        limit: u64,
    },
    /// An entry could not be written.
    #[error("cannot {action} `{path}` of the layer")]
    Write {
        /// What was tried.
        action: &'static str,
        /// The name of the entry.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The uncompressed tar is not the one that the image's configuration names.
    #[error("the layer's content has the DiffID {actual}, not {expected}")]
    DiffId {
        /// What the configuration says.
        expected: DiffId,
        /// What was read.
        actual: DiffId,
    },
    /// The kernel cannot open files within a directory only.
    #[error(
        "the kernel does not allow openat2, which unpacking needs to stay within a directory; Linux 5.6 or later has it, unless a seccomp filter forbids it"
    )]
    NoOpenat2(#[source] io::Error),
}

impl From<Malformed> for UnpackError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error.0)
    }
}
