//! Where the daemon is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::DaemonError;

/// The address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Socket(PathBuf),
    Tcp(String),
}

impl Address {
    /// `DOCKER_HOST`, else the first socket that exists: Docker's, then Podman's, the user's own before the machine's.
    pub(super) fn find(
        variable: impl Fn(&str) -> Option<OsString>,
        exists: impl Fn(&Path) -> bool,
    ) -> Result<Self, DaemonError> {
        if let Some(host) = variable("DOCKER_HOST").filter(|host| !host.is_empty()) {
            return Self::parse(&host.to_string_lossy());
        }
        let mut sockets = vec![PathBuf::from("/var/run/docker.sock")];
        if let Some(directory) = variable("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty()) {
            let directory = PathBuf::from(directory);
            sockets.extend([directory.join("docker.sock"), directory.join("podman/podman.sock")]);
        }
        sockets.push("/run/podman/podman.sock".into());
        match sockets.iter().find(|socket| exists(socket)) {
            Some(socket) => Ok(Self::Socket(socket.clone())),
            None => {
                let names: Vec<String> =
                    sockets.iter().map(|socket| format!("`{}`", socket.display())).collect();
                Err(DaemonError::NotFound { looked: names.join(", ") })
            }
        }
    }

    pub(super) fn parse(host: &str) -> Result<Self, DaemonError> {
        match host.split_once("://") {
            Some(("unix", path)) => Ok(Self::Socket(path.into())),
            Some(("tcp" | "http", _)) => Ok(Self::Tcp(host.to_owned())),
            None if host.starts_with('/') => Ok(Self::Socket(host.into())),
            _ => Err(DaemonError::Scheme { host: host.to_owned() }),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp(host) => formatter.write_str(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_daemon_is_looked_for() {
        let table = [
            (&[("DOCKER_HOST", "unix:///x.sock")][..], "", Some("unix:///x.sock")),
            (&[("DOCKER_HOST", "tcp://h:1")], "", Some("tcp://h:1")),
            (&[("DOCKER_HOST", "ssh://h")], "", None),
            (&[("DOCKER_HOST", "")], "/var/run/docker.sock", Some("unix:///var/run/docker.sock")),
            (&[("XDG_RUNTIME_DIR", "/r")], "/r/podman/podman.sock", Some("unix:///r/podman/podman.sock")),
            (&[], "/run/podman/podman.sock", Some("unix:///run/podman/podman.sock")),
            (&[], "", None),
        ];
        for (variables, socket, expected) in table {
            let variable =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            let found = Address::find(variable, |path| path == Path::new(socket));
            assert_eq!(found.ok().map(|address| address.to_string()).as_deref(), expected);
        }
    }
}
