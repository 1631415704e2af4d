//! What the end-to-end tests stand on: servers and clients of other projects, a registry with faults, users, image
//! builders and a place of its own for each test.
//!
//! Nothing here depends on the crates under test, so that a mistake in those cannot hide itself. A tool that is not
//! installed fails the test with the name of the package that has it; no test is skipped.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that its surroundings refuse"
)]

pub mod buildpack;
pub mod certificates;
pub mod containerd;
pub mod debian;
pub mod docker_registry;
pub mod dockerd;
pub mod environment;
#[cfg(target_arch = "x86_64")]
pub mod fault;
pub mod http;
pub mod layout;
pub mod line;
pub mod podman;
#[cfg(target_arch = "x86_64")]
pub mod power_loss;
pub mod process;
pub mod proxy;
pub mod pulled;
pub mod registry;
pub mod repository;
pub mod skopeo;
pub mod socket;
pub mod tiny;
pub mod user;
pub mod variants;

pub use certificates::Certificates;
pub use containerd::Containerd;
pub use docker_registry::DockerRegistry;
pub use dockerd::Dockerd;
pub use environment::TestEnvironment;
pub use line::MeasuredLine;
pub use podman::Podman;
pub use process::Outcome;
pub use proxy::{CountingLine, CutLine, HttpProxy};
pub use pulled::PulledImage;
pub use registry::FaultyRegistry;
pub use socket::SocketLog;
pub use user::OrdinaryUser;
