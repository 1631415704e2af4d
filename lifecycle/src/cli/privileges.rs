//! Root is used for credentials and volumes only.
//!
//! Spec: platform.md "Security Considerations".

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, geteuid, getgid, getuid, setgroups, setresgid, setresuid};
use thiserror::Error;

/// Why privileges could not be given up.
#[derive(Debug, Error)]
pub(super) enum PrivilegeError {
    #[error("cannot change the owner of '{}'", path.display())]
    Owner { path: PathBuf, source: io::Error },
    #[error("cannot become user {uid} of group {gid}; run as root, or as that user")]
    Become { uid: u32, gid: u32, source: nix::Error },
}

pub(super) fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether this process is root and will become another user.
pub(super) fn are_given_up(uid: u32) -> bool {
    is_root() && uid != 0
}

/// Makes directories that exist belong to the user, unless they can write to them already. Only root can.
pub(super) fn ensure_owner(uid: u32, gid: u32, directories: &[&Path]) -> Result<(), PrivilegeError> {
    if !is_root() {
        return Ok(());
    }
    for directory in directories {
        match fs::metadata(directory) {
            Ok(metadata) if can_write(&metadata, uid, gid) => {}
            // Volumes may be mounted elsewhere and linked to.
            Ok(_) => {
                let failed = |source| PrivilegeError::Owner { path: (*directory).to_owned(), source };
                change_owner(&fs::canonicalize(directory).map_err(failed)?, uid, gid)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(PrivilegeError::Owner { path: (*directory).to_owned(), source }),
        }
    }
    Ok(())
}

fn can_write(metadata: &fs::Metadata, uid: u32, gid: u32) -> bool {
    let mode = metadata.mode();
    uid == 0
        || (metadata.uid() == uid && mode & 0o200 != 0)
        || (metadata.gid() == gid && mode & 0o020 != 0)
        || mode & 0o002 != 0
}

fn change_owner(path: &Path, uid: u32, gid: u32) -> Result<(), PrivilegeError> {
    let failed = |source| PrivilegeError::Owner { path: path.to_owned(), source };
    lchown(path, Some(uid), Some(gid)).map_err(failed)?;
    if fs::symlink_metadata(path).map_err(failed)?.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            change_owner(&entry.map_err(failed)?.path(), uid, gid)?;
        }
    }
    Ok(())
}

/// Becomes the user, for good.
pub(super) fn run_as(uid: u32, gid: u32) -> Result<(), PrivilegeError> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if getuid() == user && getgid() == group {
        return Ok(());
    }
    let failed = |source| PrivilegeError::Become { uid, gid, source };
    if is_root() {
        setgroups(&[group]).map_err(failed)?;
    }
    setresgid(group, group, group).map_err(failed)?;
    setresuid(user, user, user).map_err(failed)
}

/// The home directory of a user.
pub(super) fn home(uid: u32) -> Option<PathBuf> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let id = fields.nth(2)?;
        (id.parse() == Ok(uid)).then(|| fields.nth(2).map(PathBuf::from)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The owner of the link was changed, and the volume behind it stayed root's.
    #[test]
    fn a_volume_behind_a_link_changes_its_owner_but_links_in_it_do_not_lead_out() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("volume/inner")).unwrap();
        fs::write(path("outside"), "").unwrap();
        symlink(path("outside"), path("volume/inner/out")).unwrap();
        symlink(path("volume"), path("link")).unwrap();
        let owner = |name: &str| fs::symlink_metadata(path(name)).unwrap().uid();
        let before = owner("outside");
        let expected = if is_root() { 12345 } else { before };
        ensure_owner(12345, 12345, &[&path("link"), &path("gone")]).unwrap();
        for name in ["volume", "volume/inner", "volume/inner/out"] {
            assert_eq!(owner(name), expected, "{name}");
        }
        assert_eq!(owner("outside"), before);
    }

    #[test]
    fn roots_home_is_known() {
        assert_eq!(home(0), Some(PathBuf::from("/root")));
        assert_eq!(home(u32::MAX - 7), None);
    }
}
