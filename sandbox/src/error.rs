//! What can go wrong, in words for people.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::obstacle::Obstacle;

/// A sandbox that could not be made or kept.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The machine does not let this user make the namespaces.
    #[error("cannot make a user namespace: {obstacle}; {}", .obstacle.remedy())]
    UserNamespaceForbidden {
        /// What forbids it.
        obstacle: Obstacle,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel allows a new `/proc` only where a whole one can be seen, which containers often do not have.
    #[error(
        "cannot mount /proc in the sandbox: the surrounding container hides parts of its own; start it with \
         `--security-opt systempaths=unconfined` (Docker), `--security-opt unmask=ALL` (Podman) or \
         `procMount: Unmasked` (Kubernetes)"
    )]
    ProcHidden(#[source] io::Error),
    /// A step on the way to the command failed.
    #[error("cannot {step}{}", subject(.path.as_deref()))]
    Setup {
        /// What was being done.
        step: Step,
        /// To what.
        path: Option<PathBuf>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The command could not be started in the finished sandbox.
    #[error("cannot start {} in the sandbox", .command.display())]
    Command {
        /// The program.
        command: PathBuf,
        /// What the kernel said: `NotFound` for a program, or its interpreter, that the image does not have.
        source: io::Error,
    },
    /// The helper process could not be started or spoken to.
    #[error("cannot start the helper of the sandbox")]
    Helper(#[source] io::Error),
    /// The helper ended without a word.
    #[error("the helper of the sandbox ended unexpectedly ({0}); was it killed, or is memory short?")]
    HelperDied(std::process::ExitStatus),
    /// No command was given.
    #[error("no command to run in the sandbox")]
    NoCommand,
    /// A mount does not name an absolute path inside.
    #[error("mount target {} must be an absolute path without `..`", .0.display())]
    MountTarget(PathBuf),
    /// A worker said why it could not do its work.
    #[error("{0}")]
    Worker(String),
}

fn subject(path: Option<&std::path::Path>) -> String {
    path.map(|path| format!(" {}", path.display())).unwrap_or_default()
}

/// A step on the way to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the text of each step says what it is")]
pub enum Step {
    ReadSpec,
    MakeScratch,
    MakeNamespaces,
    WriteIdMap,
    BecomeRoot,
    SetHostname,
    RaiseLoopback,
    OpenLayer,
    MountScratch,
    MountOverlay,
    OpenMount,
    MakeMountTarget,
    AttachMount,
    MakeDevices,
    MountProc,
    MountTmp,
    ChangeRoot,
    StartProcess,
    LimitResources,
    DropPrivileges,
    Confine,
    EnterWorkingDirectory,
    Execute,
    Work,
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::ReadSpec => "read the specification of the sandbox",
            Self::MakeScratch => "make the directory for the writes of the sandbox in",
            Self::MakeNamespaces => "make the namespaces of the sandbox",
            Self::WriteIdMap => "map user and group ids into the sandbox",
            Self::BecomeRoot => "become the root user of the sandbox",
            Self::SetHostname => "set the host name of the sandbox",
            Self::RaiseLoopback => "raise the loopback interface of the sandbox",
            Self::OpenLayer => "open the unpacked layer",
            Self::MountScratch => "mount the place in which the root filesystem is put together",
            Self::MountOverlay => "mount the root filesystem as an overlay of its layers",
            Self::OpenMount => "open for the sandbox",
            Self::MakeMountTarget => "make the mount point",
            Self::AttachMount => "mount",
            Self::MakeDevices => "make the device files of the sandbox",
            Self::MountProc => "mount in the sandbox",
            Self::MountTmp => "mount a temporary directory at",
            Self::ChangeRoot => "change to the root filesystem of the sandbox",
            Self::StartProcess => "start a process in the sandbox",
            Self::LimitResources => "limit the resources of the sandbox",
            Self::DropPrivileges => "drop the privileges of the sandbox",
            Self::Confine => "install the system call filter of the sandbox",
            Self::EnterWorkingDirectory => "enter the working directory",
            Self::Execute => "start the command",
            Self::Work => "do the work inside the namespace",
        })
    }
}
