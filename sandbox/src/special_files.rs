//! `/dev`, `/proc` and `/tmp` of the sandbox.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, symlinkat};
use rustix::mount::MountFlags;

use crate::error::Step;
use crate::message::{At, Failure};
use crate::mounting::{Restriction, attach, mount_new, take_tree, take_tree_at};
use crate::target::{Kind, make_target, open_inside};

const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Files of `/proc` that tell about the host or steer it. They read as empty.
const EMPTY_FILES: &[&str] =
    &["kcore", "keys", "latency_stats", "sched_debug", "sysrq-trigger", "timer_list"];
/// Directories of `/proc` that steer the host. They can be read.
const READ_ONLY_DIRECTORIES: &[&str] = &["bus", "fs", "irq", "sys"];
/// Directories of `/proc` that tell about the host. They are empty.
const EMPTY_DIRECTORIES: &[&str] = &["acpi", "scsi"];

/// A `/dev` with what every program expects and nothing that reaches hardware.
pub(crate) fn make_devices(root: &OwnedFd) -> Result<(), Failure> {
    let device_directory = Path::new("/dev");
    let point =
        make_target(root, device_directory, Kind::Directory).at_path(Step::MakeDevices, device_directory)?;
    mount_new(c"tmpfs", &point, MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=0755,size=64k,nr_inodes=64")
        .at_path(Step::MakeDevices, device_directory)?;
    for name in DEVICES {
        let path = device_directory.join(name);
        let tree = take_tree(&path, Restriction::Device).at_path(Step::MakeDevices, &path)?;
        let point = make_target(root, &path, Kind::File).at_path(Step::MakeDevices, &path)?;
        attach(tree, point).at_path(Step::MakeDevices, &path)?;
    }
    let inside = open_inside(root, device_directory, OFlags::DIRECTORY).at(Step::MakeDevices)?;
    for (name, target) in LINKS {
        symlinkat(*target, &inside, *name).at_path(Step::MakeDevices, Path::new(name))?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_inside(
        root,
        "/dev/pts",
        c"devpts",
        flags,
        c"newinstance,ptmxmode=0666,mode=0620",
        Step::MakeDevices,
    )?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_inside(root, "/dev/shm", c"tmpfs", flags, c"mode=1777", Step::MakeDevices)
}

/// A `/tmp` that is gone afterwards.
pub(crate) fn mount_tmp(root: &OwnedFd) -> Result<(), Failure> {
    mount_inside(root, "/tmp", c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777", Step::MountTmp)
}

/// A `/proc` of the sandbox's own processes. The old one must still be in place: the kernel allows a new one only where
/// a whole one can be seen.
pub(crate) fn mount_proc(root: &OwnedFd) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_inside(root, "/proc", c"proc", flags, c"", Step::MountProc)?;
    let proc = open_inside(root, Path::new("/proc"), OFlags::DIRECTORY).at(Step::MountProc)?;
    for name in READ_ONLY_DIRECTORIES {
        if let Some(point) = existing(&proc, name) {
            let tree =
                take_tree_at(&proc, name, Restriction::ReadOnly).at_path(Step::MountProc, Path::new(name))?;
            attach(tree, point).at_path(Step::MountProc, Path::new(name))?;
        }
    }
    for name in EMPTY_FILES {
        if let Some(point) = existing(&proc, name) {
            let tree = take_tree(Path::new("/dev/null"), Restriction::Device).at(Step::MountProc)?;
            attach(tree, point).at_path(Step::MountProc, Path::new(name))?;
        }
    }
    for name in EMPTY_DIRECTORIES {
        if let Some(point) = existing(&proc, name) {
            mount_new(c"tmpfs", point, flags | MountFlags::RDONLY, c"size=4k,mode=0555")
                .at_path(Step::MountProc, Path::new(name))?;
        }
    }
    Ok(())
}

fn existing(directory: &OwnedFd, name: &str) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty()).ok()
}

fn mount_inside(
    root: impl AsFd,
    path: &str,
    kind: &std::ffi::CStr,
    flags: MountFlags,
    data: &std::ffi::CStr,
    step: Step,
) -> Result<(), Failure> {
    let path = Path::new(path);
    let point = make_target(root, path, Kind::Directory).at_path(step, path)?;
    mount_new(kind, point, flags, data).at_path(step, path)
}
