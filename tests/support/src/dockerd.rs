//! Debian's Docker daemon with everything that it writes in a temporary folder.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Outcome, Server, require_tool};
use crate::user;

/// A daemon that lives as long as this value. Containers share the network of the machine.
#[derive(Debug)]
pub struct Dockerd {
    server: Server,
    directory: TempDir,
}

impl Dockerd {
    /// Starts the daemon.
    ///
    /// # Panics
    /// When `docker.io` is not installed, the tests do not run as root, or the daemon does not start.
    #[must_use]
    pub fn start() -> Self {
        for program in ["/usr/sbin/dockerd", "/usr/bin/docker"] {
            require_tool(program, "docker.io");
        }
        assert!(user::is_root(), "this test starts a Docker daemon: run the tests as root");
        let directory = TempDir::new().expect("a temporary folder");
        let path = |name: &str| directory.path().join(name);
        let mut command = Command::new("/usr/sbin/dockerd");
        command
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .arg("--host")
            .arg(format!("unix://{}", path("docker.sock").display()))
            // No change to the machine's network, and a storage driver that works on every file system.
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]);
        let mut server = Server::start(&mut command, &path("log"));
        let socket = path("docker.sock");
        let host = format!("unix://{}", socket.display());
        server.wait_until(Duration::from_secs(60), || {
            socket.exists()
                && Command::new("/usr/bin/docker")
                    .args(["--host", &host, "version"])
                    .output()
                    .is_ok_and(|output| output.status.success())
        });
        Self { server, directory }
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// Runs Debian's `docker` with `arguments` against this daemon, without any credentials of the machine.
    #[must_use]
    pub fn docker(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(
            Command::new("/usr/bin/docker")
                .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
                .env("DOCKER_CONFIG", self.directory.path().join("client"))
                .args(arguments),
        )
    }

    /// Starts a container of `image` in the background, with PORT set to `port`.
    ///
    /// # Panics
    /// When docker refuses.
    #[must_use]
    pub fn run(&self, image: &str, port: u16) -> DockerContainer<'_> {
        let port = format!("PORT={port}");
        let outcome = self.docker(&["run", "--detach", "--network=host", "--env", &port, image]).success();
        DockerContainer { dockerd: self, id: outcome.stdout.trim().to_owned() }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.server.stop();
        // The daemon leaves these mounted, and then its folder could not be removed: the second where what is mounted at
        // `/` is a folder or a subvolume of a file system.
        for mounted in ["exec/netns/default", "data"] {
            let _ = Command::new("umount").arg(self.directory.path().join(mounted)).output();
        }
    }
}

/// A container that is removed when this is dropped.
#[derive(Debug)]
pub struct DockerContainer<'a> {
    dockerd: &'a Dockerd,
    id: String,
}

impl DockerContainer<'_> {
    /// What the container has written so far.
    #[must_use]
    pub fn logs(&self) -> Outcome {
        self.dockerd.docker(&["logs", &self.id])
    }
}

impl Drop for DockerContainer<'_> {
    fn drop(&mut self) {
        let _ = self.dockerd.docker(&["rm", "--force", &self.id]);
    }
}
