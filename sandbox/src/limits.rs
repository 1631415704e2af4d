//! Resource limits.

use std::io;

use nix::libc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// Bounds on what the command and its children may use; `None` keeps the caller's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processes and threads of the user inside.
    pub processes: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Bytes of address space of each process.
    pub address_space: Option<u64>,
    /// Bytes of the largest file that may be written.
    pub file_size: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { processes: Some(16_384), open_files: None, address_space: None, file_size: None }
    }
}

impl Limits {
    /// Applies the limits to this process. A limit never rises above the hard limit it had.
    pub(crate) fn apply(&self) -> io::Result<()> {
        let wanted = [
            (Resource::Nproc, self.processes),
            (Resource::Nofile, self.open_files),
            (Resource::As, self.address_space),
            (Resource::Fsize, self.file_size),
            // A core dump of a build would be written outside, by the host's rules.
            (Resource::Core, Some(0)),
        ];
        for (resource, limit) in wanted {
            let Some(limit) = limit else { continue };
            let limit = getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit));
            setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
        }
        // 022 is what images are built with everywhere; the caller's own must not show in layers.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(libc::S_IWGRP | libc::S_IWOTH));
        Ok(())
    }
}
