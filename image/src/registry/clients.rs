//! HTTP clients: one per way of trusting the other side, as connections are pooled by client.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Identity};
use url::Url;

use super::dns::Names;
use super::endpoint;
use super::error::RegistryError;

/// Whether certificates are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    Verified,
    Unverified,
}

/// What distinguishes the clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    encrypted: bool,
    trust: Trust,
    loopback: bool,
    certificates: Vec<PathBuf>,
}

/// Makes and keeps the clients.
#[derive(Debug)]
pub(super) struct Clients {
    certificate_directories: Vec<PathBuf>,
    connect_timeout: Duration,
    names: Names,
    made: Mutex<HashMap<Kind, Client>>,
}

impl Clients {
    pub(super) fn new(certificate_directories: Vec<PathBuf>, connect_timeout: Duration) -> Self {
        // The process may have chosen a provider before: then that one is used.
        let _already_chosen = rustls::crypto::ring::default_provider().install_default();
        Self { certificate_directories, connect_timeout, names: Names::default(), made: Mutex::default() }
    }

    /// The client for a URL.
    pub(super) fn for_url(&self, url: &Url, trust: Trust) -> Result<Client, RegistryError> {
        let encrypted = url.scheme() == "https";
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let certificates = if encrypted {
            let directories = self.certificate_directories.iter().map(|directory| directory.join(&host));
            directories.filter(|directory| directory.is_dir()).collect()
        } else {
            Vec::new()
        };
        let kind = Kind { encrypted, trust, loopback: endpoint::is_loopback(url), certificates };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&kind) {
            return Ok(client.clone());
        }
        let client = self.builder(&kind)?.build().map_err(|source| RegistryError::Setup {
            registry: host,
            what: "no certificate of an authority can be used; install ca-certificates, or check SSL_CERT_FILE",
            source: source.into(),
        })?;
        made.insert(kind, client.clone());
        Ok(client)
    }

    fn builder(&self, kind: &Kind) -> Result<ClientBuilder, RegistryError> {
        let mut builder = Client::builder()
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.connect_timeout)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(60))
            // Redirects are followed by ourselves, which decides about credentials anew at each step.
            .redirect(reqwest::redirect::Policy::none())
            // One connection per blob: a broken or slow one does not hold up the others.
            .http1_only()
            .dns_resolver(self.names.clone());
        if kind.loopback {
            builder = builder.no_proxy();
        }
        if !kind.encrypted {
            // No certificates are loaded: plain HTTP works on machines that have none.
            return Ok(builder.tls_certs_only([]));
        }
        if kind.trust == Trust::Unverified {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        for directory in &kind.certificates {
            let (authorities, identities) = read_certificates(directory)?;
            builder = builder.tls_certs_merge(authorities);
            for identity in identities {
                builder = builder.identity(identity);
            }
        }
        Ok(builder)
    }
}

/// Docker's `certs.d/HOST`: `*.crt` are authorities, `NAME.cert` with `NAME.key` a client's identity.
fn read_certificates(directory: &Path) -> Result<(Vec<Certificate>, Vec<Identity>), RegistryError> {
    let unusable = |path: &Path, source: Box<dyn std::error::Error + Send + Sync>| {
        RegistryError::Certificates { path: path.to_owned(), source }
    };
    let read = |path: &Path| std::fs::read(path).map_err(|error| unusable(path, error.into()));
    let mut authorities = Vec::new();
    let mut identities = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|error| unusable(directory, error.into()))? {
        let path = entry.map_err(|error| unusable(directory, error.into()))?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => {
                let pem = read(&path)?;
                check_authorities(&pem).map_err(|error| unusable(&path, error))?;
                let bundle = Certificate::from_pem_bundle(&pem);
                authorities.extend(bundle.map_err(|error| unusable(&path, error.into()))?);
            }
            Some("cert") => {
                let mut pem = read(&path)?;
                pem.push(b'\n');
                pem.extend(read(&path.with_extension("key"))?);
                identities.push(Identity::from_pem(&pem).map_err(|error| unusable(&path, error.into()))?);
            }
            _ => {}
        }
    }
    Ok((authorities, identities))
}

/// Reads a bundle as TLS does, which would not say which file it is that cannot be used.
fn check_authorities(pem: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate?)?;
    }
    if store.is_empty() { Err("it holds no certificate".into()) } else { Ok(()) }
}
