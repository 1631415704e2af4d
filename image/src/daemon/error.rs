//! Why a daemon could not do what it was asked.

/// Why a container daemon could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// There is no daemon to be found.
    #[error(
        "no Docker or Podman daemon was found; looked for {looked}. Start one (`systemctl --user start podman.socket`) \
         or set DOCKER_HOST"
    )]
    NotFound {
        /// The sockets, joined by commas.
        looked: String,
    },
    /// `DOCKER_HOST` names something that is not spoken here.
    #[error("the daemon at `{host}` cannot be used: only `unix://SOCKET` and `tcp://HOST:PORT` are known")]
    Scheme {
        /// The value of `DOCKER_HOST`.
        host: String,
    },
    /// The daemon does not answer, or answers with an error.
    #[error("the daemon at `{host}` did not {action}")]
    Failed {
        /// Its address.
        host: String,
        /// What it was asked for.
        action: String,
        /// Why.
        #[source]
        source: bollard::errors::Error,
    },
    /// The threads that speak to the daemon cannot be started, or ended.
    #[error("the connection to the daemon at `{host}` cannot be kept up")]
    Runtime {
        /// Its address.
        host: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
