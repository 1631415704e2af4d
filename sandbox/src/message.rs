//! What the caller and the helper say to each other, over a socket.
//!
//! The caller sends one frame with the request and then single bytes, each the number of a signal to pass on. The helper
//! answers with frames. A frame is a little-endian 32-bit length and that much JSON.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{SandboxError, Step};
use crate::mapping::IdMapping;
use crate::obstacle::Obstacle;
use crate::spec::SandboxSpec;

/// The largest frame that is believed.
const FRAME_LIMIT: u32 = 64 << 20;

/// What the caller wants of the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// A command in a container.
    Sandbox { spec: Box<SandboxSpec>, mapping: IdMapping },
    /// A function of the program inside a user namespace; `descriptors` are inherited.
    Work { name: String, arguments: Vec<std::ffi::OsString>, descriptors: Vec<i32>, mapping: IdMapping },
}

/// What the helper tells the caller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The command runs.
    Started,
    /// The command ended with this raw wait status.
    Exited(i32),
    /// The sandbox could not be made.
    Failed(Failure),
    /// A worker ended with this answer, or with a reason.
    Worked(Result<String, String>),
}

/// A failed step, in a form that can cross a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    path: Option<std::ffi::OsString>,
    errno: i32,
}

impl Failure {
    pub(crate) fn new(step: Step, path: Option<&Path>, error: &io::Error) -> Self {
        Self {
            step,
            path: path.map(|path| path.as_os_str().to_owned()),
            errno: error.raw_os_error().unwrap_or(nix::libc::EIO),
        }
    }

    /// Whether the kernel said that this process may not do it.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.errno == nix::libc::EPERM
    }

    pub(crate) fn into_error(self) -> SandboxError {
        let source = io::Error::from_raw_os_error(self.errno);
        let path = self.path.map(PathBuf::from);
        match (self.step, path) {
            (Step::MakeNamespaces | Step::WriteIdMap, _) => {
                SandboxError::UserNamespaceForbidden { obstacle: Obstacle::find(self.step, &source), source }
            }
            (Step::MountProc, _) if self.errno == nix::libc::EPERM => SandboxError::ProcHidden(source),
            (Step::Execute, Some(command)) => SandboxError::Command { command, source },
            (step, path) => SandboxError::Setup { step, path, source },
        }
    }
}

/// Names the step (and path) of an I/O error.
pub(crate) trait At<T> {
    fn at(self, step: Step) -> Result<T, Failure>;
    fn at_path(self, step: Step, path: &Path) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: Step) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, None, &error.into()))
    }

    fn at_path(self, step: Step, path: &Path) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, Some(path), &error.into()))
    }
}

pub(crate) fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&body);
    to.write_all(&frame)
}

/// The next message, or `None` when the other side has gone.
pub(crate) fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length);
    if length > FRAME_LIMIT {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Paths as the bytes they are: serde refuses those that are not UTF-8.
pub(crate) mod path {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        OsString::deserialize(deserializer).map(PathBuf::from)
    }
}

/// Lists of paths as the bytes they are.
pub(crate) mod paths {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| path.as_os_str()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<OsString>::deserialize(deserializer)?.into_iter().map(PathBuf::from).collect())
    }
}
