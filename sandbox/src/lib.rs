//! A build container out of Linux namespaces.
//!
//! A [`SandboxSpec`] is a root filesystem of unpacked layers, mounts, a user and limits. [`run`] starts a command in it
//! as that user; the command sees nothing else of the host and leaves nothing behind.
//!
//! A user namespace can only be entered by a process with one thread, so the sandbox starts the program's own binary
//! again as its helper: call [`init`] (or [`init_with`]) first thing in `main`, before any thread or runtime exists.
//!
//! ```text
//! caller ── helper (outside the namespaces: writes the id maps, passes signals on, cleans up)
//!              └── pid 1 (builds the root filesystem, reaps orphans)
//!                     └── the command (CNB user, no capabilities, seccomp, Landlock)
//! ```

mod confinement;
mod error;
mod init;
mod layer_files;
mod limits;
mod mapping;
mod message;
mod mounting;
mod namespaces;
mod obstacle;
mod ownership;
mod pid_one;
mod privileges;
mod probe;
mod root_filesystem;
mod run;
mod scratch;
mod signals;
mod spec;
mod special_files;
mod supervisor;
mod target;
mod worker;

pub use crate::error::{SandboxError, Step};
pub use crate::init::{init, init_with};
pub use crate::layer_files::read_in_layers;
pub use crate::limits::Limits;
pub use crate::mapping::IdMapping;
pub use crate::obstacle::Obstacle;
pub use crate::ownership::{give_tree, give_tree_except, remove_tree};
pub use crate::probe::{Probe, ProbeReport, probe};
pub use crate::run::{Output, Running, Signals, Stdio, Stream, run, run_with_lines, start};
pub use crate::signals::{OnSignal, SignalForwarder};
pub use crate::spec::{Access, Capabilities, Mount, Network, SandboxSpec, host_network_mounts};
pub use crate::worker::{Worker, WorkerFailure, WorkerFunction, WorkerInput};
