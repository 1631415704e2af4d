//! Debian's containerd with everything that it writes in a temporary folder, and its client `ctr`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Outcome, Server, require_tool};
use crate::user;

/// Copies layers, so that it works on every file system.
const SNAPSHOTTER: &str = "--snapshotter=native";

static NEXT_CONTAINER: AtomicU32 = AtomicU32::new(0);

/// A containerd that lives as long as this value. Containers share the network of the machine.
#[derive(Debug)]
pub struct Containerd {
    server: Server,
    directory: TempDir,
}

impl Containerd {
    /// Starts containerd without what only Kubernetes needs.
    ///
    /// # Panics
    /// When `containerd` or `runc` is not installed, the tests do not run as root, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        for (program, package) in [
            ("/usr/bin/containerd", "containerd"),
            ("/usr/bin/ctr", "containerd"),
            ("/usr/sbin/runc", "runc"),
        ] {
            require_tool(program, package);
        }
        assert!(user::is_root(), "this test starts containerd: run the tests as root");
        let directory = TempDir::new().expect("a temporary folder");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let settings = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{socket}\"\n[ttrpc]\naddress = \"{socket}.ttrpc\"\n[debug]\naddress = \"{}\"\n",
            path("root"),
            path("state"),
            path("debug.sock"),
            socket = path("containerd.sock"),
        );
        std::fs::write(directory.path().join("config.toml"), settings).expect("settings for containerd");
        let mut command = Command::new("/usr/bin/containerd");
        command.arg("--config").arg(directory.path().join("config.toml"));
        let mut server = Server::start(&mut command, &directory.path().join("log"));
        let answers = || {
            let version = Command::new("/usr/bin/ctr")
                .args(["--address", &path("containerd.sock"), "version"])
                .output();
            version.is_ok_and(|output| output.status.success())
        };
        server.wait_until(Duration::from_secs(60), answers);
        Self { server, directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("containerd.sock")
    }

    fn ctr(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(Command::new("/usr/bin/ctr").arg("--address").arg(self.socket()).args(arguments))
    }

    /// Pulls `image` from a registry on loopback, which speaks plain HTTP, and unpacks it.
    #[must_use]
    pub fn pull(&self, image: &str) -> Outcome {
        self.ctr(&["images", "pull", "--plain-http", SNAPSHOTTER, image])
    }

    /// Imports the images of an archive and unpacks them.
    #[must_use]
    pub fn import(&self, archive: &str) -> Outcome {
        self.ctr(&["images", "import", SNAPSHOTTER, archive])
    }

    /// Runs a container of `image` to its end, with a variable.
    #[must_use]
    pub fn run(&self, image: &str, variable: &str) -> Outcome {
        // runc keeps the ids of all containerds of a machine in one place.
        let number = NEXT_CONTAINER.fetch_add(1, Ordering::Relaxed);
        let id = format!("longshore-{}-{number}", std::process::id());
        self.ctr(&["run", "--rm", "--net-host", SNAPSHOTTER, "--env", variable, image, &id])
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.server.stop();
    }
}
