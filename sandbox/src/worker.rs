//! Functions of the program that run inside a user namespace, as its root: they may change owners among the ids of the
//! sandbox, and nothing else.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::libc::CLONE_NEWUSER;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;

use crate::error::{SandboxError, Step};
use crate::init::WorkerTable;
use crate::mapping::IdMapping;
use crate::message::{At, Event, Failure, Request, receive, send};
use crate::namespaces::{become_root, die_with_parent, fork_into, wait_for_go, write_id_maps};
use crate::run::{Stdio, start_helper};
use crate::supervisor::watch;

/// Work for a function that was given to [`init_with`](crate::init_with), in a process of its own inside a user
/// namespace. Its descriptors keep their rights, so it can use files whose paths it could not pass.
#[derive(Debug)]
pub struct Worker<'a> {
    name: &'a str,
    arguments: Vec<OsString>,
    descriptors: Vec<BorrowedFd<'a>>,
}

/// A function that works inside a user namespace; its answer goes to who asked for it.
pub type WorkerFunction = fn(WorkerInput) -> Result<String, WorkerFailure>;

/// What a worker is given.
#[derive(Debug)]
pub struct WorkerInput {
    /// The arguments, in order.
    pub arguments: Vec<OsString>,
    /// The descriptors, in order.
    pub descriptors: Vec<OwnedFd>,
}

/// Why a worker could not do its work: an error and its causes, as text.
#[derive(Debug)]
pub struct WorkerFailure(String);

impl<E: Error> From<E> for WorkerFailure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self(text)
    }
}

impl<'a> Worker<'a> {
    /// Work for the function `name`.
    pub fn new(name: &'a str) -> Self {
        Self { name, arguments: Vec::new(), descriptors: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds an open file.
    #[must_use]
    pub fn descriptor(mut self, descriptor: &'a impl AsFd) -> Self {
        self.descriptors.push(descriptor.as_fd());
        self
    }

    /// Runs the function to its end inside `mapping`, and returns its answer.
    pub fn run(self, mapping: &IdMapping) -> Result<String, SandboxError> {
        use std::os::fd::AsRawFd;
        let request = Request::Work {
            name: self.name.to_owned(),
            arguments: self.arguments,
            descriptors: self.descriptors.iter().map(AsRawFd::as_raw_fd).collect(),
            mapping: *mapping,
        };
        let (mut helper, control) = start_helper(&request, Stdio::Inherit, &self.descriptors)?;
        let event = receive::<Event>(&control).map_err(SandboxError::Helper)?;
        let status = helper.wait().map_err(SandboxError::Helper)?;
        match event {
            Some(Event::Worked(answer)) => answer.map_err(SandboxError::Worker),
            Some(Event::Failed(failure)) => Err(failure.into_error()),
            Some(Event::Started | Event::Exited(_)) | None => Err(SandboxError::HelperDied(status)),
        }
    }
}

/// The helper's side: enters the namespace, calls the function, tells the caller; the exit code of the helper.
pub(crate) fn work(
    control: &UnixStream,
    workers: WorkerTable<'_>,
    name: &str,
    input: WorkerInput,
    mapping: &IdMapping,
) -> i32 {
    let event = work_inside(control, workers, name, input, mapping).unwrap_or_else(Event::Failed);
    i32::from(send(control, &event).is_err())
}

fn work_inside(
    control: &UnixStream,
    workers: WorkerTable<'_>,
    name: &str,
    input: WorkerInput,
    mapping: &IdMapping,
) -> Result<Event, Failure> {
    let Some((_, function)) = workers.iter().find(|(known, _)| *known == name) else {
        return Ok(Event::Worked(Err(format!("there is no worker named {name}"))));
    };
    let (go, mut go_writer) = io::pipe().at(Step::Work)?;
    let (events, events_writer) = io::pipe().at(Step::Work)?;
    let go = OwnedFd::from(go);
    let events_writer = File::from(OwnedFd::from(events_writer));
    let child = fork_into(CLONE_NEWUSER, move || {
        let event = die_with_parent()
            .and_then(|()| wait_for_go(&go))
            .at(Step::Work)
            .and_then(|()| become_root(mapping))
            .map(|()| Event::Worked(function(input).map_err(|WorkerFailure(text)| text)))
            .unwrap_or_else(Event::Failed);
        let _ = send(&events_writer, &event);
    })
    .at(Step::MakeNamespaces)?;
    let mapped = write_id_maps(child, mapping).and_then(|()| go_writer.write_all(b"g").at(Step::Work));
    if mapped.is_err() {
        let _ = kill(child, Signal::SIGKILL);
    }
    let event = watch(control, &File::from(OwnedFd::from(events)), child, Duration::ZERO);
    let _ = kill(child, Signal::SIGKILL);
    waitpid(child, None).at(Step::Work)?;
    mapped.and(event)
}
