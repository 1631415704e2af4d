//! Proxies, and lines that are cut.

use longshore_image::Keychain;
use longshore_test_support::registry::FaultyRegistry;
use longshore_test_support::{Certificates, CutLine, DockerRegistry, HttpProxy};

use crate::child::{Child, PUSHES, REFERENCE};
use crate::samples::{Sample, pull, reference, registry};

/// A name that only the proxy can resolve.
const NAME: &str = "registry.longshore.invalid";

#[test]
fn https_goes_through_the_tunnel_of_the_proxy() {
    let certificates = Certificates::new(&[NAME]);
    let authority = certificates.authority();
    let server = DockerRegistry::start_with_tls(&certificates, false);
    let proxy = HttpProxy::start(Some(("user", "pass")));
    let name = format!("{NAME}:{}/app:v1", server.port());
    let variables =
        [(REFERENCE, name.as_str()), ("SSL_CERT_FILE", authority.to_str().unwrap()), (PUSHES, "1")];
    for variable in ["HTTPS_PROXY", "https_proxy"] {
        let url = format!("http://user:pass@{}", proxy.host());
        Child::pull(&[variables.as_slice(), &[(variable, &url)]].concat()).answers("sha256:");
        let requests = proxy.requests();
        assert!(
            !requests.is_empty() && requests.iter().all(|line| line.starts_with("CONNECT ")),
            "{requests:?}"
        );
    }

    let before = proxy.requests().len();
    let url = format!("http://user:pass@{}", proxy.host());
    for exception in [NAME, ".longshore.invalid", "*"] {
        Child::pull(&[&variables[..2], &[("HTTPS_PROXY", &url), ("NO_PROXY", exception)]].concat())
            .fails_with("its name is not known");
    }
    assert_eq!(proxy.requests().len(), before, "NO_PROXY");
}

/// This machine by an address that is not the loopback's, so that the proxy is asked unless `NO_PROXY` has its network.
#[test]
fn no_proxy_may_name_networks() {
    let certificates = Certificates::new(&[]);
    let authority = certificates.authority();
    let server = DockerRegistry::start_with_tls(&certificates, false);
    let proxy = HttpProxy::start(None);
    let name = format!("0.0.0.0:{}/app:v1", server.port());
    let url = format!("http://{}", proxy.host());
    let variables =
        [(REFERENCE, name.as_str()), ("SSL_CERT_FILE", authority.to_str().unwrap()), ("HTTPS_PROXY", &url)];
    for (exception, asked) in
        [("10.0.0.0/8", 1), ("0.0.0.0/8", 0), ("10.0.0.0/8, 0.0.0.0/30", 0), ("0.0.0.0", 0)]
    {
        let before = proxy.requests().len();
        // The certificate is for other names, so that the registry itself was reached when that is the error.
        Child::pull(&[variables.as_slice(), &[("NO_PROXY", exception)]].concat()).fails_with("certificate");
        assert_eq!(proxy.requests().len().min(before + 1) - before, asked, "{exception}");
    }
}

/// Row 36 of the fault table.
#[test]
fn row_36_a_proxy_that_wants_credentials_is_named() {
    let certificates = Certificates::new(&[NAME]);
    let authority = certificates.authority();
    let server = DockerRegistry::start_with_tls(&certificates, false);
    let proxy = HttpProxy::start(Some(("user", "pass")));
    let name = format!("{NAME}:{}/app:v1", server.port());
    let variables = [(REFERENCE, name.as_str()), ("SSL_CERT_FILE", authority.to_str().unwrap())];
    for credentials in ["", "user:wrong@"] {
        let url = format!("http://{credentials}{}", proxy.host());
        Child::pull(&[variables.as_slice(), &[("HTTPS_PROXY", &url)]].concat())
            .fails_with("the proxy wants credentials");
    }
    let plain = FaultyRegistry::start([]);
    let name = format!("registry.local:{}/app:v1", plain.host().rsplit_once(':').unwrap().1);
    let url = format!("http://{}", proxy.host());
    Child::pull(&[(REFERENCE, name.as_str()), ("HTTP_PROXY", &url), ("NO_PROXY", "")])
        .fails_with("the proxy wants credentials");
    assert!(plain.requests().is_empty());
}

#[test]
fn plain_http_goes_through_the_proxy_in_whole_urls() {
    let server = DockerRegistry::start();
    let proxy = HttpProxy::start(None);
    let url = format!("http://{}", proxy.host());
    let name = format!("registry.local:{}/app:v1", server.port());
    let variables =
        [(REFERENCE, name.as_str()), ("HTTP_PROXY", url.as_str()), ("HTTPS_PROXY", &url), (PUSHES, "1")];
    Child::pull(&variables).answers("sha256:");
    let requests = proxy.requests();
    assert!(requests.iter().any(|line| line.starts_with("PUT http://registry.local")), "{requests:?}");
}

#[test]
fn this_machine_needs_no_proxy() {
    let server = DockerRegistry::start();
    let name = format!("{}/app:v1", server.host());
    let nowhere = "http://127.0.0.1:9";
    Child::pull(&[(REFERENCE, name.as_str()), ("HTTP_PROXY", nowhere), ("HTTPS_PROXY", nowhere)])
        .answers("no image");
}

#[test]
fn uploads_and_downloads_survive_a_line_that_is_cut() {
    let server = DockerRegistry::start();
    for (seed, after) in [(41, 3 << 20), (42, 5 << 20), (43, 100)] {
        let line = CutLine::start(server.port(), after, 2);
        let registry = registry(Keychain::empty());
        let app = reference(&line.host(), "team/app:v1");
        let sample = Sample::new(seed, 9 << 20);
        sample.push(&registry, &app).unwrap();
        assert_eq!(line.left(), 0, "the line was cut while sending");
        line.cut(2);
        let (image, layer) = pull(&crate::samples::registry(Keychain::empty()), &app);
        assert!(line.left() < 2, "the line was cut while receiving");
        assert_eq!((image.manifest, layer), (sample.manifest.clone(), sample.layer.to_vec()));
        // By another way: what is there is whole.
        let direct = reference(&server.host(), "team/app:v1");
        assert_eq!(pull(&registry, &direct).1, sample.layer);
    }
}
