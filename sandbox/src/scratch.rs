//! The directory of the host that holds what a command writes, while it runs.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::mapping::IdMapping;
use crate::ownership::remove_tree;

const PREFIX: &str = "sandbox-";
const LOCK: &str = "lock";

/// A directory for one sandbox: `upper` and `work` of its overlay. Removed by [`Scratch::remove`], or by the next
/// sandbox that uses the same parent if this process is killed before.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    /// Held while the directory is in use.
    _lock: File,
}

impl Scratch {
    pub(crate) fn make(parent: &Path, mapping: &IdMapping) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        // What an earlier process of the same number left behind.
        remove_tree(&path)?;
        fs::create_dir(&path)?;
        let lock = File::create(path.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        for (name, mode) in [("upper", 0o755), ("work", 0o755)] {
            let directory = path.join(name);
            fs::create_dir(&directory)?;
            fs::set_permissions(&directory, Permissions::from_mode(mode))?;
            if let IdMapping::Shifted { base, .. } = mapping {
                chown(&directory, Some(*base), Some(*base))?;
            }
        }
        // Readable by the root user of the sandbox, which is somebody else on the host.
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory, and those of sandboxes that were killed.
    pub(crate) fn remove(self) -> io::Result<()> {
        let Some(parent) = self.path.parent() else { return remove_tree(&self.path) };
        remove_tree(&self.path)?;
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether nobody holds the lock of a scratch directory. One without a lock is being made at this moment.
fn is_abandoned(path: &Path) -> bool {
    File::open(path.join(LOCK))
        .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
}
