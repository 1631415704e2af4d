//! The first process of the sandbox: builds it, starts the command, passes signals on and reaps.
//!
//! When it ends, the kernel kills every other process of the sandbox and its mounts are gone.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::Pid;

use crate::confinement::Confinement;
use crate::error::Step;
use crate::mapping::IdMapping;
use crate::message::{At, Event, Failure, send};
use crate::mounting;
use crate::namespaces::{become_root, die_with_parent, fork, raise_loopback, wait_for_go};
use crate::privileges;
use crate::root_filesystem::{self, Parts};
use crate::spec::{Network, SandboxSpec};

/// What the first process is given by the supervisor.
#[derive(Debug)]
pub(crate) struct PidOne<'a> {
    pub(crate) spec: &'a SandboxSpec,
    pub(crate) mapping: &'a IdMapping,
    pub(crate) scratch: &'a std::path::Path,
    pub(crate) parts: Option<Parts>,
    /// Readable once the id maps are written.
    pub(crate) go: OwnedFd,
    /// Where events are told.
    pub(crate) events: File,
}

impl PidOne<'_> {
    /// Builds the sandbox and runs the command in it, to its end.
    pub(crate) fn run(self) {
        let events = self.events;
        let result = prepare(self.spec, self.mapping, self.scratch, self.parts, &self.go)
            .and_then(|confinement| start(self.spec, self.mapping, &confinement));
        let event = match result {
            Err(failure) => Event::Failed(failure),
            Ok(command) => {
                let _ = send(&events, &Event::Started);
                reap(command).map_or_else(
                    |error| Event::Failed(Failure::new(Step::StartProcess, None, &error.into())),
                    Event::Exited,
                )
            }
        };
        let _ = send(&events, &event);
    }
}

fn prepare(
    spec: &SandboxSpec,
    mapping: &IdMapping,
    scratch: &std::path::Path,
    parts: Option<Parts>,
    go: &OwnedFd,
) -> Result<Confinement, Failure> {
    die_with_parent().at(Step::StartProcess)?;
    wait_for_go(go).at(Step::StartProcess)?;
    mounting::make_private().at(Step::ChangeRoot)?;
    // Before the ids change: until then this process still passes through the caller's private directories.
    let parts = match parts {
        Some(parts) => parts,
        None => Parts::take(spec, scratch)?,
    };
    become_root(mapping)?;
    rustix::process::umask(rustix::fs::Mode::empty());
    rustix::system::sethostname(spec.hostname.as_bytes()).at(Step::SetHostname)?;
    if spec.network == Network::None {
        raise_loopback().at(Step::RaiseLoopback)?;
    }
    root_filesystem::enter(parts)?;
    // The command must not look into this process.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .at(Step::DropPrivileges)?;
    Confinement::prepare().at(Step::Confine)
}

/// Starts the command, and returns once it has been executed.
fn start(spec: &SandboxSpec, mapping: &IdMapping, confinement: &Confinement) -> Result<Pid, Failure> {
    let (mut reader, writer) = io::pipe().at(Step::StartProcess)?;
    let command = fork(|| {
        let Err(failure) = privileges::execute(spec, mapping, confinement);
        let _ = send(&writer, &failure);
    })
    .at(Step::StartProcess)?;
    drop(writer);
    // Ends without a word when the command is executed, which closes the other end.
    match crate::message::receive::<Failure>(&mut reader).at(Step::StartProcess)? {
        Some(failure) => Err(failure),
        None => Ok(command),
    }
}

/// Waits for the command, and meanwhile reaps orphans and passes signals on. Returns its raw wait status.
fn reap(command: Pid) -> nix::Result<i32> {
    let signals = SigSet::all();
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => {
                if let Some(status) = reap_all(command)? {
                    return Ok(status);
                }
            }
            // As a terminal does it: the command need not pass these on to its children.
            signal @ (Signal::SIGINT | Signal::SIGQUIT) => ignore_missing(killpg(command, signal))?,
            signal => ignore_missing(kill(command, signal))?,
        }
    }
}

fn ignore_missing(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ESRCH) => Ok(()),
        result => result,
    }
}

/// Reaps every process that has ended; the raw wait status of `command` if it is one of them.
fn reap_all(command: Pid) -> nix::Result<Option<i32>> {
    let mut ended = None;
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes one integer, which lives until after the call. The raw status is what callers want.
        #[allow(unsafe_code)]
        let pid = unsafe { libc::waitpid(-1, &raw mut status, WaitPidFlag::WNOHANG.bits()) };
        match Errno::result(pid) {
            Ok(0) | Err(Errno::ECHILD) => return Ok(ended),
            Ok(pid) if pid == command.as_raw() => ended = Some(status),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}
