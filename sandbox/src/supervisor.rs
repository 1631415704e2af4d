//! The helper outside the namespaces: makes them, passes signals on, ends everything when the caller goes, cleans up.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::error::Step;
use crate::mapping::IdMapping;
use crate::message::{At, Event, Failure, receive, send};
use crate::namespaces::{CONTAINER, fork_into, write_id_maps};
use crate::pid_one::PidOne;
use crate::root_filesystem::Parts;
use crate::scratch::Scratch;
use crate::spec::{Network, SandboxSpec};

/// The caller sends this in place of a signal to have the command ended within the grace period.
pub(crate) const CANCEL: u8 = 0xff;

/// Runs the sandbox to its end, tells the caller, and returns the exit code of the helper.
pub(crate) fn supervise(control: &UnixStream, spec: &SandboxSpec, mapping: &IdMapping) -> i32 {
    // A terminal sends its signals to the whole foreground group; only the caller shall pass them on.
    let _ = rustix::process::setsid();
    let event = Scratch::make(&spec.scratch, mapping)
        .at_path(Step::MakeScratch, &spec.scratch)
        .and_then(|scratch| {
            let event = contain(control, spec, mapping, &scratch);
            let removed = scratch.remove().at_path(Step::MakeScratch, &spec.scratch);
            event.and_then(|event| removed.map(|()| event))
        })
        .unwrap_or_else(Event::Failed);
    i32::from(send(control, &event).is_err())
}

fn contain(
    control: &UnixStream,
    spec: &SandboxSpec,
    mapping: &IdMapping,
    scratch: &Scratch,
) -> Result<Event, Failure> {
    let parts = Parts::take_early(spec, scratch.path())?;
    own_output(spec, mapping);
    let (go, mut go_writer) = io::pipe().at(Step::StartProcess)?;
    let (events, events_writer) = io::pipe().at(Step::StartProcess)?;
    let mut flags = CONTAINER;
    if spec.network == Network::None {
        flags |= libc::CLONE_NEWNET;
    }
    // Blocked before it starts, so that the first process loses none.
    SigSet::all().thread_block().at(Step::StartProcess)?;
    let pid_one = {
        let inner = PidOne {
            spec,
            mapping,
            scratch: scratch.path(),
            parts,
            go: OwnedFd::from(go),
            events: File::from(OwnedFd::from(events_writer)),
        };
        let kept = go_writer.as_fd();
        fork_into(flags, move || {
            // The first process must notice when the supervisor goes before it has said "go".
            close_early(kept);
            inner.run();
        })
        .at(Step::MakeNamespaces)?
    };
    SigSet::all().thread_unblock().at(Step::StartProcess)?;
    let mapped =
        write_id_maps(pid_one, mapping).and_then(|()| go_writer.write_all(b"g").at(Step::StartProcess));
    if mapped.is_err() {
        let _ = kill(pid_one, Signal::SIGKILL);
    }
    let event = watch(control, &File::from(OwnedFd::from(events)), pid_one, spec.grace);
    let _ = kill(pid_one, Signal::SIGKILL);
    waitpid(pid_one, None).at(Step::StartProcess)?;
    mapped.and(event)
}

/// Closes a descriptor of the parent in the child of a fork, where its owner is never dropped.
fn close_early(descriptor: std::os::fd::BorrowedFd<'_>) {
    use std::os::fd::AsRawFd;
    // SAFETY: the child never uses nor drops the owner, which belongs to the code that runs on in the parent.
    #[allow(unsafe_code)]
    unsafe {
        libc::close(descriptor.as_raw_fd());
    }
}

/// Lets the user inside open `/dev/stdout` and its like: opening a pipe again asks who owns it.
fn own_output(spec: &SandboxSpec, mapping: &IdMapping) {
    let (Some(uid), Some(gid)) = (mapping.host_uid(spec.uid), mapping.host_gid(spec.gid)) else { return };
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    for stream in [input.as_fd(), output.as_fd(), error.as_fd()] {
        if rustix::fs::fstat(stream)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_fifo())
        {
            // Without privileges this fails, and is not needed.
            let _ = rustix::fs::fchown(stream, Some(uid), Some(gid));
        }
    }
}

/// Passes events and signals on until the first process has ended; its last event.
pub(crate) fn watch(
    control: &UnixStream,
    events: &File,
    pid_one: Pid,
    grace: Duration,
) -> Result<Event, Failure> {
    let mut caller_is_there = true;
    let mut deadline: Option<Instant> = None;
    loop {
        let mut watched = vec![PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        if caller_is_there {
            watched.push(PollFd::new(control.as_fd(), PollFlags::POLLIN));
        }
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut watched, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).at(Step::StartProcess),
        }
        let ready = |index: usize| {
            watched.get(index).and_then(PollFd::revents).is_some_and(|events| !events.is_empty())
        };
        if ready(0) {
            match receive::<Event>(events).at(Step::StartProcess)? {
                Some(Event::Started) => {
                    let _ = send(control, &Event::Started);
                }
                Some(event) => return Ok(event),
                // Killed by this process, after the grace period.
                None if deadline.is_some() => return Ok(Event::Exited(libc::SIGKILL)),
                None => {
                    let killed = io::Error::from_raw_os_error(libc::ECHILD);
                    return Err(Failure::new(Step::StartProcess, None, &killed));
                }
            }
        }
        if ready(1) {
            let received = read_some(control).unwrap_or_default();
            caller_is_there = !received.is_empty();
            if received.is_empty() || received.contains(&CANCEL) {
                let _ = kill(pid_one, Signal::SIGTERM);
                deadline.get_or_insert(Instant::now() + grace);
            }
            for signal in received.into_iter().filter_map(|byte| Signal::try_from(i32::from(byte)).ok()) {
                let _ = kill(pid_one, signal);
            }
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let _ = kill(pid_one, Signal::SIGKILL);
        }
    }
}

/// Reads what is there; nothing when the other side has gone.
fn read_some(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    let count = from.read(&mut buffer)?;
    buffer.truncate(count);
    Ok(buffer)
}
