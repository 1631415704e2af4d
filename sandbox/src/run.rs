//! Starting sandboxes, from the caller's side.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::error::SandboxError;
use crate::init::HELPER_NAME;
use crate::mapping::IdMapping;
use crate::message::{Event, Request, receive, send};
use crate::spec::SandboxSpec;
use crate::supervisor::CANCEL;

/// Where the input, output and errors of a command go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// To where the caller's go.
    Inherit,
    /// No input; output and errors can be read from [`Running`].
    Capture,
    /// No input; output and errors are thrown away.
    Null,
}

/// One of the two streams of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// What is left of a command.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub output: Vec<u8>,
    /// All of its standard error.
    pub error: Vec<u8>,
}

/// A command that runs in a sandbox. Dropping it kills the command.
#[derive(Debug)]
pub struct Running {
    helper: Child,
    control: UnixStream,
}

/// Starts the command of `spec`. Returns when it has been executed.
pub fn start(spec: &SandboxSpec, mapping: &IdMapping, stdio: Stdio) -> Result<Running, SandboxError> {
    check(spec)?;
    let request = Request::Sandbox { spec: Box::new(spec.clone()), mapping: *mapping };
    let (helper, control) = start_helper(&request, stdio, &[])?;
    let mut running = Running { helper, control };
    match receive::<Event>(&running.control).map_err(SandboxError::Helper)? {
        Some(Event::Started) => Ok(running),
        Some(Event::Failed(failure)) => Err(failure.into_error()),
        Some(Event::Exited(_) | Event::Worked(_)) | None => {
            Err(SandboxError::HelperDied(running.helper.wait().map_err(SandboxError::Helper)?))
        }
    }
}

/// Runs the command of `spec` to its end, with the caller's own input and output.
pub fn run(spec: &SandboxSpec, mapping: &IdMapping) -> Result<ExitStatus, SandboxError> {
    start(spec, mapping, Stdio::Inherit)?.wait()
}

/// Runs the command of `spec` to its end and hands over each line that it writes, without its line end, as it comes.
pub fn run_with_lines(
    spec: &SandboxSpec,
    mapping: &IdMapping,
    on_line: impl FnMut(Stream, &[u8]) + Send,
) -> Result<ExitStatus, SandboxError> {
    let mut running = start(spec, mapping, Stdio::Capture)?;
    let on_line = Mutex::new(on_line);
    let (output, error) = (running.helper.stdout.take(), running.helper.stderr.take());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| error.map_or(Ok(()), |error| read_lines(error, Stream::Error, &on_line)));
        let output = output.map_or(Ok(()), |output| read_lines(output, Stream::Output, &on_line));
        let error =
            reader.join().unwrap_or_else(|_| Err(io::Error::other("the reader of the output failed")));
        output.and(error)
    })
    .map_err(SandboxError::Helper)?;
    running.wait()
}

fn read_lines(from: impl Read, stream: Stream, on_line: &Mutex<impl FnMut(Stream, &[u8])>) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let mut on_line = on_line.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        on_line(stream, text);
        drop(on_line);
        line.clear();
    }
    Ok(())
}

impl Running {
    /// Waits for the command to end; everything that it started is gone by then.
    pub fn wait(mut self) -> Result<ExitStatus, SandboxError> {
        let event = receive::<Event>(&self.control).map_err(SandboxError::Helper)?;
        let helper = self.helper.wait().map_err(SandboxError::Helper)?;
        match event {
            Some(Event::Exited(status)) => Ok(ExitStatus::from_raw(status)),
            Some(Event::Failed(failure)) => Err(failure.into_error()),
            Some(Event::Started | Event::Worked(_)) | None => Err(SandboxError::HelperDied(helper)),
        }
    }

    /// Waits for the command to end, and collects what it wrote if it was started with [`Stdio::Capture`].
    pub fn wait_with_output(mut self) -> Result<Output, SandboxError> {
        let (output, error) = (self.helper.stdout.take(), self.helper.stderr.take());
        let (output, error) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| error.map_or(Ok(Vec::new()), read_all));
            let output = output.map_or(Ok(Vec::new()), read_all);
            let error =
                reader.join().unwrap_or_else(|_| Err(io::Error::other("the reader of the output failed")));
            (output, error)
        });
        let (output, error) = (output.map_err(SandboxError::Helper)?, error.map_err(SandboxError::Helper)?);
        Ok(Output { status: self.wait()?, output, error })
    }

    /// A handle through which another thread can pass signals on.
    pub fn signals(&self) -> io::Result<Signals> {
        self.control.try_clone().map(Signals)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The helper ends the command when the connection goes; nothing is left behind once it has ended.
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        let _ = self.helper.wait();
    }
}

/// Passes signals on to the command of a sandbox. Fails once that has ended.
#[derive(Debug)]
pub struct Signals(UnixStream);

impl Signals {
    /// Sends a signal to the command (SIGINT and SIGQUIT: to its process group, as a terminal does).
    pub fn send(&self, signal: i32) -> io::Result<()> {
        let byte = u8::try_from(signal).map_err(io::Error::other)?;
        (&self.0).write_all(&[byte])
    }

    /// Asks the command to end, and kills it after the grace period.
    pub fn cancel(&self) -> io::Result<()> {
        (&self.0).write_all(&[CANCEL])
    }
}

fn check(spec: &SandboxSpec) -> Result<(), SandboxError> {
    if spec.command.is_empty() {
        return Err(SandboxError::NoCommand);
    }
    let inside = |target: &std::path::Path| {
        target.is_absolute() && !target.components().any(|part| part == std::path::Component::ParentDir)
    };
    match spec.mounts.iter().find(|mount| !inside(&mount.target)) {
        Some(mount) => Err(SandboxError::MountTarget(mount.target.clone())),
        None => Ok(()),
    }
}

fn read_all(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Starts this program again as the helper, and sends it the request. It inherits `descriptors` besides its standard
/// streams, and an empty environment: there may be secrets in the caller's.
pub(crate) fn start_helper(
    request: &Request,
    stdio: Stdio,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(Child, UnixStream), SandboxError> {
    let (ours, theirs) = UnixStream::pair().map_err(SandboxError::Helper)?;
    let inherited: Vec<i32> =
        descriptors.iter().map(AsRawFd::as_raw_fd).chain([theirs.as_raw_fd()]).collect();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(HELPER_NAME).arg(theirs.as_raw_fd().to_string()).env_clear();
    match stdio {
        Stdio::Inherit => {}
        Stdio::Capture => {
            command.stdin(std::process::Stdio::null());
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        }
        Stdio::Null => {
            command.stdin(std::process::Stdio::null());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        }
    }
    // SAFETY: only calls fcntl, which is allowed between fork and exec; the descriptors are open in the caller until
    // after the helper was started.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || {
            for descriptor in &inherited {
                fcntl_setfd(BorrowedFd::borrow_raw(*descriptor), FdFlags::empty())?;
            }
            Ok(())
        });
    }
    let helper = command.spawn().map_err(SandboxError::Helper)?;
    drop(theirs);
    // If the helper has died already, waiting for its answer tells more.
    if let Err(error) = send(&ours, request)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(SandboxError::Helper(error));
    }
    Ok((helper, ours))
}
