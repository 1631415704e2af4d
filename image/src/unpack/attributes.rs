//! Extended attributes of what is unpacked.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{XattrFlags, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

use super::header::{Entry, Kind};
use super::name;
use super::policy::Attributes;
use crate::attributes::{belongs, names};

/// Gives a file or directory the attributes of its entry, and takes away others. What the file system does not take is left
/// out and told.
pub(super) fn set(file: &OwnedFd, entry: &Entry, policy: Attributes) -> io::Result<()> {
    if policy == Attributes::Skip {
        return Ok(());
    }
    // Lower layers' of a directory; and those that a file gets from the defaults of its directory.
    remove_others(file, entry)?;
    for (attribute, value) in &entry.attributes {
        if !belongs(attribute) {
            tell(entry, attribute, "it does not belong into a layer");
            continue;
        }
        match fsetxattr(file, attribute.as_slice(), value, XattrFlags::empty()) {
            Err(Errno::NOTSUP) => tell(entry, attribute, "the file system does not have it"),
            Err(Errno::PERM) => tell(entry, attribute, "only root may set it"),
            other => other?,
        }
    }
    Ok(())
}

fn remove_others(file: &OwnedFd, entry: &Entry) -> io::Result<()> {
    let found = match names(|buffer| flistxattr(file, buffer)) {
        Err(Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    let wanted = |found: &[u8]| entry.attributes.iter().any(|(name, _)| name == found);
    for name in found.iter().filter(|name| belongs(name) && !wanted(name)) {
        match fremovexattr(file, name.as_slice()) {
            Err(Errno::NODATA) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Takes from an entry the attributes that it will not get, which is told: none where the policy says so, and for anything
/// but files and directories.
pub(super) fn select(entry: &mut Entry, policy: Attributes) {
    let reason = match entry.kind {
        _ if policy == Attributes::Skip => "attributes are not kept here",
        Kind::File | Kind::Directory => return,
        _ => "only files and directories get any",
    };
    for (attribute, _) in std::mem::take(&mut entry.attributes) {
        tell(entry, &attribute, reason);
    }
}

fn tell(entry: &Entry, attribute: &[u8], reason: &str) {
    tracing::debug!(
        "left out the attribute {} of `{}`: {reason}",
        String::from_utf8_lossy(attribute),
        name::display(&entry.path).display()
    );
}
