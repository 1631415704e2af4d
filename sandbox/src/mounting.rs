//! Mounts by file descriptor: no path is resolved twice, and none after the ids have changed.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    move_mount, open_tree, unmount,
};

/// `mount_attr.attr_set` of the kernel.
const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NO_SETUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NO_DEVICES: u64 = libc::MOUNT_ATTR_NODEV;
const NO_PROGRAMS: u64 = libc::MOUNT_ATTR_NOEXEC;

/// What a mount forbids beyond what it forbade where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restriction {
    /// Setuid bits and devices.
    Writable,
    /// Those, and writing.
    ReadOnly,
    /// Setuid bits and programs, not devices.
    Device,
}

impl Restriction {
    fn attributes(self) -> u64 {
        match self {
            Self::Writable => NO_SETUID | NO_DEVICES,
            Self::ReadOnly => NO_SETUID | NO_DEVICES | READ_ONLY,
            Self::Device => NO_SETUID | NO_PROGRAMS,
        }
    }
}

/// A copy of the mounts at `path`, not attached anywhere yet.
///
/// Root of the host takes it before entering the user namespace, where it could no longer pass through directories
/// such as `/root`. Everybody else takes it inside, where alone it is allowed.
pub(crate) fn take_tree(path: &Path, restriction: Restriction) -> io::Result<OwnedFd> {
    let tree = open_tree(
        rustix::fs::CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE,
    )?;
    restrict(&tree, restriction)?;
    Ok(tree)
}

/// As [`take_tree`], of something that is open.
pub(crate) fn take_tree_at(
    directory: impl AsFd,
    name: &str,
    restriction: Restriction,
) -> io::Result<OwnedFd> {
    let tree = open_tree(
        directory,
        name,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE,
    )?;
    restrict(&tree, restriction)?;
    Ok(tree)
}

/// Forbids writing to one mount, without those on it.
pub(crate) fn make_read_only(mount: &OwnedFd) -> io::Result<()> {
    set_attributes(mount, READ_ONLY, 0, 0)
}

fn restrict(tree: &OwnedFd, restriction: Restriction) -> io::Result<()> {
    set_attributes(tree, restriction.attributes(), libc::MS_PRIVATE, libc::AT_RECURSIVE)
}

fn set_attributes(mount: &OwnedFd, attributes: u64, propagation: u64, depth: libc::c_int) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | depth;
    // SAFETY: mount_setattr reads an empty C string and a `mount_attr` of the given size, which live until after it.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Attaches a tree to what `target` is.
pub(crate) fn attach(tree: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", target, c"", flags)?)
}

/// Mounts a new file system on the directory that `target` is.
pub(crate) fn mount_new(kind: &CStr, target: impl AsFd, flags: MountFlags, data: &CStr) -> io::Result<()> {
    let target = format!("/proc/self/fd/{}", target.as_fd().as_raw_fd());
    Ok(mount(kind, target.as_str(), kind, flags, data)?)
}

/// Keeps mounts made from here on to this namespace.
pub(crate) fn make_private() -> io::Result<()> {
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// Makes `root`, a mount, the root directory, and detaches the old one.
pub(crate) fn change_root(root: impl AsFd) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    // The old root lands on top of the new one, without a directory for it, and is detached from there.
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}
