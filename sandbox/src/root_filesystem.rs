//! The root filesystem: an overlay of layers, with mounts in it.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::mount::{MountFlags, mount};

use crate::error::Step;
use crate::message::{At, Failure};
use crate::mounting::{Restriction, attach, change_root, make_read_only, mount_new, take_tree};
use crate::spec::{Access, Mount, SandboxSpec};
use crate::special_files::{make_devices, mount_proc, mount_tmp};
use crate::target::{Kind, make_target, open_inside};

/// Where the parts are put together, in a mount namespace of their own. Any directory that is there will do.
const WORKSHOPS: &[&str] = &["/tmp", "/mnt", "/run", "/var"];

/// The parts of the host that the root filesystem is made of, as mounts that are not attached yet.
#[derive(Debug)]
pub(crate) struct Parts {
    layers: Vec<OwnedFd>,
    scratch: OwnedFd,
    mounts: Vec<(OwnedFd, Kind, PathBuf)>,
}

impl Parts {
    /// Takes the parts. See [`take_tree`] for when this may happen.
    pub(crate) fn take(spec: &SandboxSpec, scratch: &Path) -> Result<Self, Failure> {
        let layers = spec
            .layers
            .iter()
            .map(|layer| take_tree(layer, Restriction::ReadOnly).at_path(Step::OpenLayer, layer))
            .collect::<Result<_, _>>()?;
        let scratch = take_tree(scratch, Restriction::Writable).at_path(Step::OpenLayer, scratch)?;
        let mounts = spec.mounts.iter().map(take_mount).collect::<Result<_, _>>()?;
        Ok(Self { layers, scratch, mounts })
    }

    /// Takes the parts if this process may do so outside of the namespaces that it is about to make.
    pub(crate) fn take_early(spec: &SandboxSpec, scratch: &Path) -> Result<Option<Self>, Failure> {
        match Self::take(spec, scratch) {
            Err(failure) if failure.is_forbidden() => Ok(None),
            taken => taken.map(Some),
        }
    }
}

fn take_mount(asked: &Mount) -> Result<(OwnedFd, Kind, PathBuf), Failure> {
    let restriction = match asked.access {
        Access::ReadOnly => Restriction::ReadOnly,
        Access::ReadWrite => Restriction::Writable,
    };
    let tree = take_tree(&asked.source, restriction).at_path(Step::OpenMount, &asked.source)?;
    let stat = rustix::fs::fstat(&tree).at_path(Step::OpenMount, &asked.source)?;
    let directory = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    Ok((tree, if directory { Kind::Directory } else { Kind::File }, asked.target.clone()))
}

/// Puts the parts together and makes the result the root directory.
pub(crate) fn enter(parts: Parts) -> Result<(), Failure> {
    let workshop = open_workshop()?;
    let root = mount_overlay(&workshop, &parts)?;
    mount_proc(&root)?;
    make_devices(&root)?;
    mount_tmp(&root)?;
    for (tree, kind, target) in parts.mounts {
        let point = make_target(&root, &target, kind).at_path(Step::MakeMountTarget, &target)?;
        attach(tree, point).at_path(Step::AttachMount, &target)?;
    }
    // With a single id the command owns it. Mount points may be in it, so it comes last.
    let devices = open_inside(&root, Path::new("/dev"), OFlags::DIRECTORY).at(Step::MakeDevices)?;
    make_read_only(&devices).at(Step::MakeDevices)?;
    change_root(root).at(Step::ChangeRoot)
}

/// A small file system for the mount points of the parts. It is left with the old root.
fn open_workshop() -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = WORKSHOPS.iter().find(|place| Path::new(place).is_dir()).unwrap_or(&"/");
    let place = Path::new(place);
    let point = rustix::fs::open(place, flags, Mode::empty()).at_path(Step::MountScratch, place)?;
    mount_new(c"tmpfs", point, MountFlags::NOSUID | MountFlags::NODEV, c"mode=0700")
        .at(Step::MountScratch)?;
    rustix::fs::open(place, flags, Mode::empty()).at_path(Step::MountScratch, place)
}

/// Mounts the overlay, and opens it.
///
/// Layers and options are named relative to the workshop: the kernel reads at most one page of them.
fn mount_overlay(workshop: &OwnedFd, parts: &Parts) -> Result<OwnedFd, Failure> {
    let mut lower = Vec::with_capacity(parts.layers.len());
    for (index, layer) in parts.layers.iter().enumerate().rev() {
        let name = index.to_string();
        attach(layer, make_point(workshop, &name)?).at(Step::MountOverlay)?;
        lower.push(name);
    }
    attach(&parts.scratch, make_point(workshop, "scratch")?).at(Step::MountOverlay)?;
    make_point(workshop, "root")?;
    rustix::process::fchdir(workshop).at(Step::MountOverlay)?;
    let lower = lower.join(":");
    match mount_with(&lower, "scratch/upper", "scratch/work") {
        // The scratch directory is on a file system that cannot be the upper one of an overlay, such as another overlay
        // within a container. Memory can.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            make_point(workshop, "upper")?;
            make_point(workshop, "work")?;
            mount_with(&lower, "upper", "work").at(Step::MountOverlay)?;
        }
        mounted => mounted.at(Step::MountOverlay)?,
    }
    open_inside(workshop, Path::new("root"), OFlags::DIRECTORY).at(Step::MountOverlay)
}

/// `userxattr`: the other attributes may only be written by root of the host. `volatile`: what is written is thrown away,
/// so nothing needs to be on the disk.
fn mount_with(lower: &str, upper: &str, work: &str) -> io::Result<()> {
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work},userxattr,volatile");
    let options = CString::new(options).map_err(io::Error::other)?;
    Ok(mount(c"overlay", c"root", c"overlay", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str())?)
}

fn make_point(workshop: &OwnedFd, name: &str) -> Result<OwnedFd, Failure> {
    mkdirat(workshop, name, Mode::from_raw_mode(0o755)).at(Step::MountScratch)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(workshop, name, flags, Mode::empty()).at(Step::MountScratch)
}
