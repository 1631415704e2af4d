//! What kind of failure a request without an answer is, for people and for retries.

use std::error::Error;

/// What is known about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Certificate,
    NotTls,
    ProxyAuthentication,
    Name,
    Connect,
    Timeout,
    Broken,
}

impl Failure {
    pub(super) fn of(error: &reqwest::Error) -> Self {
        let mut text = String::new();
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(cause) = next {
            if let Some(tls) = tls_error(cause) {
                return match tls {
                    rustls::Error::InvalidMessage(_) => Self::NotTls,
                    _ => Self::Certificate,
                };
            }
            text.push_str(&cause.to_string());
            text.push('\n');
            next = cause.source();
        }
        let text = text.to_ascii_lowercase();
        if text.contains("proxy auth") || text.contains("407") {
            Self::ProxyAuthentication
        } else if text.contains("dns error") || text.contains("no record") {
            Self::Name
        } else if error.is_timeout() {
            Self::Timeout
        } else if error.is_connect() {
            Self::Connect
        } else {
            Self::Broken
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Certificate => {
                "its TLS certificate is not trusted; set SSL_CERT_FILE or put its CA into \
                 /etc/docker/certs.d/HOST:PORT/ca.crt"
            }
            Self::NotTls => "it does not speak TLS; name it as an insecure registry if that is intended",
            Self::ProxyAuthentication => {
                "the proxy wants credentials; put them into HTTPS_PROXY, or the host into NO_PROXY"
            }
            Self::Name => "its name is not known; check the name and the network",
            Self::Connect => "it cannot be reached; check that it is up, and the network and proxy settings",
            Self::Timeout => "it did not answer in time",
            Self::Broken => "the connection broke",
        }
    }
}

/// `std::io::Error` hides the error that it wraps from `source`, and connections wrap it twice.
fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    cause.downcast_ref::<rustls::Error>().or_else(|| {
        let inner = cause.downcast_ref::<std::io::Error>()?.get_ref()?;
        tls_error(inner)
    })
}

/// Failures that waiting does not mend.
pub(super) fn is_permanent(error: &reqwest::Error) -> bool {
    matches!(Failure::of(error), Failure::Certificate | Failure::NotTls | Failure::ProxyAuthentication)
        || error.is_builder()
}
