//! Where the helper process takes over from `main`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::message::{Failure, Request, receive};
use crate::worker::{WorkerFunction, WorkerInput};
use crate::{supervisor, worker};

/// The name (`argv[0]`) under which the program is started as a helper.
pub(crate) const HELPER_NAME: &str = "longshore-sandbox";

/// The name under which the program is started in a sandbox to see whether that works.
pub(crate) const PROBE_NAME: &str = "longshore-sandbox-probe";

/// A function that does work inside a user namespace, by name.
pub(crate) type WorkerTable<'a> = &'a [(&'a str, WorkerFunction)];

/// Takes over if this process was started as the sandbox's helper; returns at once otherwise.
///
/// Call it first thing in `main`: namespaces need a process that has only one thread.
pub fn init() {
    init_with(&[]);
}

/// As [`init`], with the functions that [`Worker`](crate::Worker) can start in a user namespace.
pub fn init_with(workers: WorkerTable<'_>) {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    if name.as_deref() == Some(OsStr::new(PROBE_NAME)) {
        std::process::exit(0);
    }
    if name.as_deref() != Some(OsStr::new(HELPER_NAME)) {
        return;
    }
    let descriptor = arguments.next().and_then(|word| word.to_str()?.parse::<i32>().ok());
    let Some(descriptor) = descriptor.filter(|descriptor| *descriptor > 2) else {
        std::process::exit(2);
    };
    std::process::exit(take_over(inherited(descriptor), workers));
}

fn take_over(control: OwnedFd, workers: WorkerTable<'_>) -> i32 {
    let control = UnixStream::from(control);
    let _ = rustix::io::fcntl_setfd(control.as_fd(), rustix::io::FdFlags::CLOEXEC);
    match receive::<Request>(&control) {
        Ok(Some(Request::Sandbox { spec, mapping })) => supervisor::supervise(&control, &spec, &mapping),
        Ok(Some(Request::Work { name, arguments, descriptors, mapping })) => {
            let descriptors = descriptors.into_iter().map(inherited).collect();
            worker::work(&control, workers, &name, WorkerInput { arguments, descriptors }, &mapping)
        }
        // The caller has gone, and nobody is there to be told.
        Ok(None) => 1,
        Err(error) => {
            let failure = Failure::new(crate::Step::ReadSpec, None, &error);
            let _ = crate::message::send(&control, &crate::message::Event::Failed(failure));
            1
        }
    }
}

#[allow(unsafe_code)]
fn inherited(descriptor: i32) -> OwnedFd {
    // SAFETY: the caller that started this process left the descriptor open for it, and nothing else here knows of it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
