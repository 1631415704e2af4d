//! Podman with storage and settings of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Outcome, Server, require_tool};

/// Settings that work in a machine without systemd, and with limits that no capability is needed for. Locks are files of the
/// storage: those in shared memory belong to all storages of a machine, and are used up by storages that are removed with
/// their volumes ("exceeded num_locks").
const CONTAINERS_CONF: &str = "[containers]
default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]

[engine]
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
lock_type = \"file\"
runtime = \"runc\"
";

/// A storage for podman that lives as long as this value. Containers share the network of the machine.
#[derive(Debug)]
pub struct Podman {
    directory: TempDir,
}

impl Podman {
    /// Makes the storage.
    ///
    /// # Panics
    /// When `podman` or `runc` is not installed.
    #[must_use]
    pub fn new() -> Self {
        require_tool("/usr/bin/podman", "podman");
        require_tool("/usr/sbin/runc", "runc");
        let directory = TempDir::new().expect("a temporary folder");
        for (name, contents) in [("containers.conf", CONTAINERS_CONF), ("auth.json", "{}")] {
            std::fs::write(directory.path().join(name), contents).expect("settings for podman");
        }
        Self { directory }
    }

    /// Runs podman with `arguments` on this storage, without any credentials of the machine.
    #[must_use]
    pub fn podman(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command().args(arguments))
    }

    /// How skopeo names `image` in this storage.
    ///
    /// # Panics
    /// When podman does not say how it stores images.
    #[must_use]
    pub fn stored(&self, image: &str) -> String {
        let driver = self.podman(&["info", "--format", "{{.Store.GraphDriverName}}"]).success().stdout;
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        format!("containers-storage:[{}@{}+{}]{image}", driver.trim(), path("root"), path("run"))
    }

    fn command(&self) -> Command {
        let path = |name: &str| self.directory.path().join(name);
        let mut command = Command::new("/usr/bin/podman");
        command
            .env("CONTAINERS_CONF", path("containers.conf"))
            .env("REGISTRY_AUTH_FILE", path("auth.json"))
            .env("HOME", path("home"))
            .arg("--root")
            .arg(path("root"))
            .arg("--runroot")
            .arg(path("run"))
            .arg("--tmpdir")
            .arg(path("tmp"));
        command
    }

    /// The socket of podman's service on this storage, which speaks Docker's API as long as the returned server lives.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn serve(&self) -> (PathBuf, Server) {
        let socket = self.directory.path().join("podman.sock");
        let mut command = self.command();
        command.args(["system", "service", "--time=0"]).arg(format!("unix://{}", socket.display()));
        let mut server = Server::start(&mut command, &self.directory.path().join("service.log"));
        server.wait_until(Duration::from_secs(30), || socket.exists());
        (socket, server)
    }

    /// Pulls `image` from a registry on loopback, which speaks plain HTTP.
    ///
    /// # Panics
    /// When podman refuses.
    pub fn pull(&self, image: &str, credentials: Option<(&str, &str)>) {
        let credentials = credentials.map(|(user, password)| format!("--creds={user}:{password}"));
        let mut arguments = vec!["pull", "--quiet", "--tls-verify=false"];
        arguments.extend(credentials.as_deref());
        arguments.push(image);
        self.podman(&arguments).success();
    }

    /// Starts a container of a pulled `image` in the background, with PORT set to `port`.
    ///
    /// # Panics
    /// When podman refuses.
    #[must_use]
    pub fn run(&self, image: &str, port: u16) -> PodmanContainer<'_> {
        let port = format!("PORT={port}");
        let arguments = ["run", "--detach", "--pull=never", "--network=host", "--env", &port, image];
        let outcome = self.podman(&arguments).success();
        PodmanContainer { podman: self, id: outcome.stdout.trim().to_owned() }
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // The storage driver leaves its folder mounted on itself, and then it could not be removed.
        for driver in ["overlay", "vfs"] {
            let _ = Command::new("umount")
                .arg("--lazy")
                .arg(self.directory.path().join("root").join(driver))
                .output();
        }
    }
}

/// A container that is removed when this is dropped.
#[derive(Debug)]
pub struct PodmanContainer<'a> {
    podman: &'a Podman,
    id: String,
}

impl PodmanContainer<'_> {
    /// What the container has written so far.
    #[must_use]
    pub fn logs(&self) -> Outcome {
        self.podman.podman(&["logs", &self.id])
    }
}

impl Drop for PodmanContainer<'_> {
    fn drop(&mut self) {
        let _ = self.podman.podman(&["rm", "--force", "--time=1", &self.id]);
    }
}
