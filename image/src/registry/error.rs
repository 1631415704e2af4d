//! Why a registry could not do what it was asked.

use std::path::PathBuf;
use std::time::Duration;

use crate::keychain::KeychainError;
use crate::{Digest, InvalidManifest};

/// Why a registry could not do what it was asked. No variant holds credentials or signed queries.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The client could not be set up.
    #[error("cannot set up the connection to `{registry}`: {what}")]
    Setup {
        /// The registry.
        registry: String,
        /// What could not be done.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of certificates is not usable.
    #[error("cannot use the certificates in `{path}`")]
    Certificates {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The credentials could not be looked up.
    #[error(transparent)]
    Keychain(#[from] KeychainError),
    /// No answer came.
    #[error("`{request}` failed: {reason}")]
    Unanswered {
        /// Method and URL.
        request: String,
        /// What kind of failure it is, and what to do about it.
        reason: &'static str,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The settings of this machine forbid the image.
    #[error("`{reference}` is blocked by registries.conf")]
    Blocked {
        /// The image.
        reference: String,
    },
    /// A proxy stands between, and does not let us through.
    #[error(
        "`{request}` failed: the proxy wants credentials; put them into HTTP_PROXY (`http://USER:PASSWORD@HOST:PORT`), or \
         the host into NO_PROXY"
    )]
    Proxy {
        /// Method and URL.
        request: String,
    },
    /// Nothing, or next to nothing, was sent or received for some time.
    #[error("`{request}` stalled: less than {rate} bytes per second for {} s", .period.as_secs_f32())]
    Stalled {
        /// Method and URL.
        request: String,
        /// For how long.
        period: Duration,
        /// The bytes per second that are expected at least.
        rate: u64,
    },
    /// The registry wants us to wait for longer than we do.
    #[error("`{registry}` is asking to wait {} s before the next request; try again after that time", .wait.as_secs())]
    Busy {
        /// The registry.
        registry: String,
        /// For how long.
        wait: Duration,
    },
    /// The registry answered that it will not or cannot.
    #[error("`{request}` was answered with {status}{message}")]
    Status {
        /// Method and URL.
        request: String,
        /// The status code and its name.
        status: reqwest::StatusCode,
        /// The registry's own words, led by `: `, or nothing.
        message: String,
    },
    /// We may not do that, or not without logging in.
    #[error(
        "`{registry}` does not allow us to {action} `{repository}`{message}; log in with `docker login {registry}` \
         or `podman login {registry}`, or set CNB_REGISTRY_AUTH"
    )]
    Denied {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// `read`, `write` or `delete`.
        action: &'static str,
        /// The registry's own words, led by `: `, or nothing.
        message: String,
    },
    /// The registry names a token endpoint that is not to be trusted.
    #[error("`{registry}` wants credentials sent to `{realm}`, which is refused: {reason}")]
    Realm {
        /// The registry.
        registry: String,
        /// The token endpoint.
        realm: String,
        /// Why.
        reason: &'static str,
    },
    /// The token endpoint's answer holds no token.
    #[error("the token endpoint `{realm}` of `{registry}` gave no token that can be used")]
    Token {
        /// The registry.
        registry: String,
        /// The token endpoint.
        realm: String,
    },
    /// A redirect or upload location that is not to be followed.
    #[error("`{request}` leads to `{location}`, which is refused: {reason}")]
    Location {
        /// Method and URL.
        request: String,
        /// Where it leads, without its query.
        location: String,
        /// Why.
        reason: &'static str,
    },
    /// An answer that the distribution spec does not allow.
    #[error("`{request}` got an answer that breaks the distribution spec: {what}")]
    Protocol {
        /// Method and URL.
        request: String,
        /// What is wrong with it.
        what: String,
    },
    /// Bytes that are not those that were asked for.
    #[error("`{registry}` sent other content than {expected} for `{repository}`: {what}")]
    Content {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// What was asked for.
        expected: Digest,
        /// In what it differs.
        what: String,
    },
    /// A manifest that cannot be used.
    #[error("the manifest of `{reference}` cannot be used")]
    Manifest {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: InvalidManifest,
    },
    /// A manifest that was requested or pushed under a digest that is not its own.
    #[error("the manifest of `{reference}` has the digest {found}, not {expected}")]
    ManifestDigest {
        /// The image.
        reference: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
    /// Something that registries refuse, and so is sent to none.
    #[error("`{reference}` is not pushed, since there are registries that refuse it: {reason}")]
    Unacceptable {
        /// The image.
        reference: String,
        /// What they refuse.
        reason: &'static str,
    },
    /// The local source of a blob cannot be read, or does not hold what it should.
    #[error("cannot read `{path}` for the upload")]
    Source {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The local source of a blob has another size than its descriptor.
    #[error("the blob {digest} has {found} bytes, its descriptor says {expected}")]
    SourceSize {
        /// The blob.
        digest: Digest,
        /// By the descriptor.
        expected: u64,
        /// In truth.
        found: u64,
    },
}

impl RegistryError {
    /// Whether the registry refused for want of permission (or hides that there is nothing).
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }

    /// Whether the registry refused a manifest for what it is, and not for what it points to.
    #[must_use]
    pub fn is_rejected_manifest(&self) -> bool {
        let Self::Status { request, status, message } = self else { return false };
        let is_manifest = request.starts_with("PUT ") && request.contains("/manifests/");
        let is_about_blobs =
            ["BLOB_UNKNOWN", "TAG_INVALID", "NAME_"].iter().any(|code| message.contains(code));
        is_manifest && !is_about_blobs && matches!(status.as_u16(), 400 | 405 | 406 | 415 | 422)
    }

    /// Whether the registry refused a manifest because it does not have what that points to (distribution spec, "Error
    /// Codes": `MANIFEST_BLOB_UNKNOWN`; some say `BLOB_UNKNOWN`, or `MANIFEST_UNKNOWN` of the manifests of an index).
    #[must_use]
    pub fn is_missing_blob(&self) -> bool {
        let Self::Status { request, status, message } = self else { return false };
        let is_manifest = request.starts_with("PUT ") && request.contains("/manifests/");
        let is_unknown = ["BLOB_UNKNOWN", "MANIFEST_UNKNOWN"].iter().any(|code| message.contains(code));
        is_manifest && is_unknown && matches!(status.as_u16(), 400 | 404)
    }

    /// Whether something was changed by others in the meantime.
    pub(super) fn is_failed_condition(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == reqwest::StatusCode::PRECONDITION_FAILED)
    }

    /// Whether another image may be had from the same registry all the same.
    pub(super) fn is_about_one_image(&self) -> bool {
        match self {
            Self::Denied { .. } => true,
            Self::Status { status, .. } => status.is_client_error(),
            _ => false,
        }
    }

    /// Whether the same request may succeed when it is made again.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unanswered { source, .. } => !super::failure::is_permanent(source),
            Self::Stalled { .. } => true,
            Self::Status { status, .. } => super::retry::is_transient(*status),
            _ => false,
        }
    }
}
