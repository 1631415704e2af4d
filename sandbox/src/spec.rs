//! What a caller asks for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// A command and the container it runs in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Directories with the unpacked layers of the root filesystem, lowest first. They are never written to.
    /// What the command shall be able to replace or remove must belong to ids of the mapping.
    #[serde(with = "crate::message::paths")]
    pub layers: Vec<PathBuf>,
    /// A directory of the host in which the writes of the command are kept while it runs. They are removed afterwards.
    #[serde(with = "crate::message::path")]
    pub scratch: PathBuf,
    /// Parts of the host that are visible inside.
    pub mounts: Vec<Mount>,
    /// The program, looked up in the `PATH` of `environment` unless it holds a `/`, and its arguments.
    pub command: Vec<OsString>,
    /// What the program sees as its own name, when that is not the first word of `command`.
    pub argument_zero: Option<OsString>,
    /// The whole environment of the command: nothing is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// Where the command starts.
    #[serde(with = "crate::message::path")]
    pub working_directory: PathBuf,
    /// The user inside.
    pub uid: u32,
    /// The group inside.
    pub gid: u32,
    /// The name of the machine inside.
    pub hostname: String,
    /// What the command can reach.
    pub network: Network,
    /// Bounds on what the command may use.
    pub limits: Limits,
    /// What user 0 may do inside. Other users never have capabilities.
    pub capabilities: Capabilities,
    /// How long the command may take to end after it was asked to, before it is killed. Applies when the caller
    /// dies or calls [`Signals::cancel`](crate::Signals::cancel).
    pub grace: Duration,
}

impl SandboxSpec {
    /// A container of `layers` that runs `command` as user and group 1000 in `/`, with the network of the host.
    pub fn new(layers: Vec<PathBuf>, scratch: impl Into<PathBuf>, command: Vec<OsString>) -> Self {
        Self {
            layers,
            scratch: scratch.into(),
            mounts: Vec::new(),
            command,
            argument_zero: None,
            environment: Vec::new(),
            working_directory: PathBuf::from("/"),
            uid: 1000,
            gid: 1000,
            hostname: "longshore".to_owned(),
            network: Network::Host,
            limits: Limits::default(),
            capabilities: Capabilities::None,
            grace: Duration::from_millis(1500),
        }
    }
}

/// A file or directory of the host that is visible inside. Never carries setuid bits or devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The path on the host. Symbolic links are followed.
    #[serde(with = "crate::message::path")]
    pub source: PathBuf,
    /// The absolute path inside. It is resolved inside the root filesystem, and made if it does not exist.
    #[serde(with = "crate::message::path")]
    pub target: PathBuf,
    /// Whether the command may write there.
    pub access: Access,
}

impl Mount {
    /// A mount that cannot be written to.
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), access: Access::ReadOnly }
    }

    /// A mount that can be written to; the host keeps what is written.
    pub fn read_write(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), access: Access::ReadWrite }
    }
}

/// Whether a mount may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Writing fails with `EROFS`.
    ReadOnly,
    /// Writing changes the host's file.
    ReadWrite,
}

/// What the command can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The network of the host, except its abstract Unix sockets (where the kernel has Landlock ABI 6).
    Host,
    /// A loopback interface of its own and nothing else.
    None,
}

/// What user 0 may do inside the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capabilities {
    /// Nothing beyond its own files.
    None,
    /// What root usually may do in a container: change owners and users, bind low ports.
    Container,
}

/// The files through which programs find names on the network, from the host: `/etc/resolv.conf` and `/etc/hosts`.
pub fn host_network_mounts() -> Vec<Mount> {
    ["/etc/resolv.conf", "/etc/hosts"]
        .into_iter()
        .filter(|path| Path::new(path).is_file())
        .map(|path| Mount::read_only(path, path))
        .collect()
}
