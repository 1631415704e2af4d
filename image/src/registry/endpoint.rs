//! Which URLs are used and trusted: of registries, their token endpoints, upload locations and redirects.

use std::net::IpAddr;

use url::{Host, Url};

use super::error::RegistryError;
use super::failure::Failure;

/// Where Docker Hub's API is.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// The host and port of a registry's API.
pub(super) fn api_host(registry: &str) -> &str {
    if registry == crate::DOCKER_HUB { DOCKER_HUB_API } else { registry }
}

/// Whether a registry may be spoken to without encryption, when it does not answer over TLS: this machine, and names
/// and addresses of private networks (the rule of the CNB lifecycle's registry library).
pub(super) fn may_be_plain(registry: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{registry}/")) else { return false };
    match url.host() {
        Some(Host::Domain(name)) => is_local_name(name),
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_private(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether such a registry is asked without encryption after it failed with it: when it seems to know none. A certificate
/// that is not trusted is no reason, nor is a file of ours that cannot be used.
pub(super) fn may_do_without_tls(encrypted: &Url, failure: &RegistryError) -> bool {
    match failure {
        RegistryError::Unanswered { source, .. } => {
            !matches!(Failure::of(source), Failure::Certificate | Failure::ProxyAuthentication)
        }
        RegistryError::Stalled { .. } => true,
        // Without any authority there is no TLS here, and on this machine no need of it.
        RegistryError::Setup { .. } => is_loopback(encrypted),
        _ => false,
    }
}

/// Whether a URL is on this machine, where no proxy stands between.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_local_name(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost") || name.ends_with(".local")
}

/// Addresses that a public registry has no reason to name: private, link-local (cloud metadata) and loopback.
fn is_inner(url: &Url) -> bool {
    let address = match url.host() {
        Some(Host::Domain(name)) => return is_local_name(name),
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
        None => return true,
    };
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

/// Checks the token endpoint that a registry names, before anything is sent there.
///
/// Whoever answers for a registry chooses this URL: it must not make us send credentials in the clear, or requests
/// into a private network (google/go-containerregistry#2258).
pub(super) fn check_realm(realm: &str, registry: &Url) -> Result<Url, &'static str> {
    let url = Url::parse(realm).map_err(|_parse_error| "it is not an absolute URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or a password");
    }
    match url.scheme() {
        "https" => {}
        "http" if registry.scheme() == "http" => {}
        "http" => return Err("it is not encrypted, and the registry is"),
        _ => return Err("it is neither https nor http"),
    }
    if is_inner(&url) && !is_inner(registry) {
        return Err("it is a private address, and the registry is not");
    }
    if url.scheme() == "http" && !is_inner(&url) && url.host() != registry.host() {
        return Err("it is not encrypted, and on another host");
    }
    Ok(url)
}

/// Resolves a `Location` against the URL that was asked (RFC 3986, section 5), and checks that it may be followed.
pub(super) fn resolve_location(asked: &Url, location: &str) -> Result<Url, &'static str> {
    let url = asked.join(location).map_err(|_parse_error| "it is not a URL")?;
    match (asked.scheme(), url.scheme()) {
        ("https", "http") => Err("it leads from https to http"),
        (_, "https" | "http") => Ok(url),
        _ => Err("it is neither https nor http"),
    }
}

/// Whether credentials for `one` may be sent to `other`: scheme, host and port are the same.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// A URL for people: without its query, which may hold signatures.
pub(super) fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_registries_may_be_plain() {
        let table = [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("registry.local", true),
            ("10.1.2.3", true),
            ("192.168.1.1:5000", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("localhost.example.com", false),
            ("example.com:5000", false),
            ("docker.io", false),
        ];
        for (registry, expected) in table {
            assert_eq!(may_be_plain(registry), expected, "{registry}");
        }
    }

    #[test]
    fn which_realms_are_asked() {
        let table = [
            ("https://index.example/v2/", "https://auth.example/token", true),
            ("https://index.example/v2/", "http://auth.example/token", false),
            ("https://index.example/v2/", "file:///etc/passwd", false),
            ("https://index.example/v2/", "/token", false),
            ("https://index.example/v2/", "https://169.254.169.254/latest", false),
            ("https://index.example/v2/", "https://[::ffff:10.0.0.1]/", false),
            ("https://index.example/v2/", "https://localhost/token", false),
            ("https://index.example/v2/", "https://u:p@auth.example/token", false),
            ("https://10.0.0.1/v2/", "https://10.0.0.2/token", true),
            ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:6000/token", true),
            ("http://127.0.0.1:5000/v2/", "http://auth.example/token", false),
            ("http://127.0.0.1:5000/v2/", "https://auth.example/token", true),
            ("http://plain.example/v2/", "http://plain.example/token", true),
        ];
        for (registry, realm, expected) in table {
            let checked = check_realm(realm, &Url::parse(registry).unwrap());
            assert_eq!(checked.is_ok(), expected, "{registry} {realm} {checked:?}");
        }
    }

    #[test]
    fn locations() {
        let base = "https://reg.example/v2/app/blobs/uploads/";
        let table = [
            ("/v2/app/blobs/uploads/1?state=x", Some("https://reg.example/v2/app/blobs/uploads/1?state=x")),
            ("1?a=b", Some("https://reg.example/v2/app/blobs/uploads/1?a=b")),
            ("//other.example/1", Some("https://other.example/1")),
            ("https://s3.example/b?sig=1", Some("https://s3.example/b?sig=1")),
            ("http://reg.example/1", None),
            ("ftp://reg.example/1", None),
            ("https://[", None),
        ];
        for (location, expected) in table {
            let resolved = resolve_location(&Url::parse(base).unwrap(), location);
            assert_eq!(resolved.ok().map(String::from).as_deref(), expected, "{location}");
        }
        let origin = |url| Url::parse(url).unwrap();
        assert!(same_origin(&origin("https://a/x"), &origin("https://a:443/y")));
        for other in ["https://a:444/", "http://a/", "https://b/"] {
            assert!(!same_origin(&origin("https://a/"), &origin(other)), "{other}");
        }
    }
}
