//! Unpacks layers into directories, as if each of them was made to break out.
//!
//! Names are split by us and opened by the kernel within one directory (`openat2`); nothing is written, given away or
//! removed by a path that somebody else may change meanwhile. See [`Policy`] for what is unpacked and how.

pub(crate) mod ahead;
mod apply;
mod attributes;
mod directory;
mod error;
pub(crate) mod header;
pub(crate) mod name;
mod policy;
pub(crate) mod reader;
#[cfg(test)]
mod tests;
mod tree;
pub(crate) mod whiteout;

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

pub use error::UnpackError;
pub use policy::{Attributes, Limits, Links, OverlayAttribute, Owner, Policy, SpecialFiles, Whiteouts};

use crate::{DiffId, decompress};

/// A layer that was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The digest of the uncompressed tar, to its last byte.
    pub diff_id: DiffId,
    /// The size of the uncompressed tar in bytes.
    pub bytes: u64,
    /// How many entries it has.
    pub entries: u64,
}

/// Unpacks one layer, compressed or not, into the directory `root`, over what is there. Threads decompress and hash
/// meanwhile.
///
/// # Errors
/// When the stream is no valid tar, is not the one that `policy` expects, has something that `policy` refuses, or cannot
/// be written. What was unpacked until then stays, and is to be thrown away.
pub fn apply(
    reader: impl Read + Send,
    root: BorrowedFd<'_>,
    policy: &Policy,
) -> Result<Applied, UnpackError> {
    let reader = decompress::decompress(reader).map_err(UnpackError::Read)?;
    ahead::read_ahead(reader, |reader| {
        let (actual, bytes, entries) = apply::Applier::new(reader, root, policy).run()?.finish()?;
        match policy.diff_id {
            Some(expected) if expected != actual => Err(UnpackError::DiffId { expected, actual }),
            _ => Ok(Applied { diff_id: actual, bytes, entries }),
        }
    })
}

/// Unpacks one layer, as [`apply`] does, into the directory at `root`, which is opened once and exists.
///
/// # Errors
/// As [`apply`]; when the directory cannot be opened.
pub fn extract_into(reader: impl Read + Send, root: &Path, policy: &Policy) -> Result<Applied, UnpackError> {
    apply(reader, apply::open_root(root)?.as_fd(), policy)
}
