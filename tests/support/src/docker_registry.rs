//! Debian's `docker-registry` on loopback: open, behind a password, or with TLS.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::http;
use crate::process::{Outcome, Server, require_tool};

/// A registry that lives as long as this value.
#[derive(Debug)]
pub struct DockerRegistry {
    server: Server,
    port: u16,
    // Dropped after the server.
    directory: TempDir,
}

impl DockerRegistry {
    /// Starts a registry that lets everybody read and write.
    ///
    /// # Panics
    /// When `docker-registry` is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_in(&std::env::temp_dir())
    }

    /// Starts such a registry that keeps its files in a folder of its own in `place`.
    ///
    /// # Panics
    /// When `docker-registry` is not installed or does not start.
    #[must_use]
    pub fn start_in(place: &Path) -> Self {
        Self::start_with(place, |_| String::new(), "")
    }

    /// Starts a registry that lets one user in, by name and password.
    ///
    /// # Panics
    /// When `docker-registry` or `htpasswd` is not installed, or does not start.
    #[must_use]
    pub fn start_with_password(user: &str, password: &str) -> Self {
        let authentication = |directory: &Path| {
            let file = directory.join("htpasswd");
            write_password_file(&file, user, password);
            format!("auth:\n  htpasswd:\n    realm: longshore\n    path: {}\n", file.display())
        };
        Self::start_with(&std::env::temp_dir(), authentication, "")
    }

    /// Starts a registry that speaks TLS alone. With `clients`, it wants a certificate of the same authority from them.
    ///
    /// # Panics
    /// When `docker-registry` is not installed or does not start.
    #[must_use]
    pub fn start_with_tls(certificates: &Certificates, clients: bool) -> Self {
        let (certificate, key) = (certificates.certificate(), certificates.key());
        let mut tls =
            format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        if clients {
            tls.push_str(&format!("    clientcas: [{}]\n", certificates.authority().display()));
        }
        Self::start_with(&std::env::temp_dir(), |_| String::new(), &tls)
    }

    fn start_with(place: &Path, authentication: impl Fn(&Path) -> String, tls: &str) -> Self {
        require_tool("/usr/bin/docker-registry", "docker-registry");
        let directory = TempDir::new_in(place).expect("a temporary folder");
        let port = http::free_port();
        let authentication = authentication(directory.path());
        let configuration = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
             http:\n  addr: 127.0.0.1:{port}\n{tls}{authentication}",
            storage.display()
        );
        std::fs::write(&configuration, text).expect("the registry's configuration");
        let mut command = Command::new("/usr/bin/docker-registry");
        command.arg("serve").arg(&configuration).env("OTEL_TRACES_EXPORTER", "none");
        let mut server = Server::start(&mut command, &directory.path().join("log"));
        let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let answers = || if tls.is_empty() { http::get_once(port, "/v2/").is_ok() } else { listens() };
        server.wait_until(Duration::from_secs(30), answers);
        Self { server, port, directory }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port that it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The reference of `name`, such as `app:1`, in this registry.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// The lines of the access log so far that have `text`: `"POST /v2/app/blobs/uploads/` finds uploads.
    #[must_use]
    pub fn requests(&self, text: &str) -> Vec<String> {
        let log = self.server.log();
        log.lines().filter(|line| line.contains("HTTP/1") && line.contains(text)).map(str::to_owned).collect()
    }

    /// Loses all that it has, as one does whose disk was replaced.
    ///
    /// # Panics
    /// When its folder cannot be removed.
    pub fn empty(&self) {
        std::fs::remove_dir_all(self.directory.path().join("storage")).expect("the registry's storage");
    }

    /// Ends the server, for tests of a registry that is gone.
    pub fn stop(&mut self) {
        self.server.stop();
    }
}

fn write_password_file(file: &Path, user: &str, password: &str) {
    require_tool("/usr/bin/htpasswd", "apache2-utils");
    Outcome::of(Command::new("/usr/bin/htpasswd").args(["-Bbc"]).arg(file).args([user, password])).success();
}
