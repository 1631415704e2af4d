//! TLS with an authority of one's own, as companies have.

use std::path::Path;

use longshore_image::{Keychain, Registry};
use longshore_test_support::registry::{Fault, FaultyRegistry};
use longshore_test_support::{Certificates, DockerRegistry};

use crate::child::{Child, REFERENCE};
use crate::samples::{Sample, pull, read, reference, registry, registry_with, text};

/// A client that looks for certificates in one directory alone.
fn trusting(directory: &Path) -> Registry {
    registry_with(Keychain::empty(), |config| config.certificate_directories = vec![directory.to_owned()])
}

#[test]
fn an_authority_of_certs_d_is_trusted_for_its_registry_alone() {
    let certificates = Certificates::new(&[]);
    let server = DockerRegistry::start_with_tls(&certificates, false);
    let app = reference(&server.host(), "app:v1");
    let sample = Sample::new(30, 6 << 20);

    let directory = tempfile::tempdir().unwrap();
    certificates.trust_in(directory.path(), "127.0.0.1:1");
    let error = text(&sample.push(&trusting(directory.path()), &app).unwrap_err());
    assert!(error.contains("not trusted") && error.contains("SSL_CERT_FILE"), "row 36: {error}");
    assert!(error.contains("https://"), "there is no way back to plain HTTP: {error}");

    certificates.trust_in(directory.path(), &server.host());
    let registry = trusting(directory.path());
    sample.push(&registry, &app).unwrap();
    assert_eq!(pull(&registry, &app).1, sample.layer);
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let server = DockerRegistry::start_with_tls(&Certificates::new(&[]), false);
    let directory = tempfile::tempdir().unwrap();
    Certificates::new(&[]).trust_in(directory.path(), &server.host());
    let app = reference(&server.host(), "app:v1");
    let error = text(&trusting(directory.path()).manifest(&app).unwrap_err());
    assert!(error.contains("not trusted"), "row 36: {error}");
}

#[test]
fn a_file_that_is_no_certificate_is_named() {
    let certificates = Certificates::new(&[]);
    let server = DockerRegistry::start_with_tls(&certificates, false);
    let directory = tempfile::tempdir().unwrap();
    certificates.trust_in(directory.path(), &server.host());
    let file = directory.path().join(server.host()).join("ca.crt");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let app = reference(&server.host(), "app:v1");
    let error = text(&trusting(directory.path()).manifest(&app).unwrap_err());
    assert!(error.contains("certificates") && error.contains(&server.host()), "row 36: {error}");
}

#[test]
fn a_registry_may_want_a_certificate_of_the_client() {
    let certificates = Certificates::new(&[]);
    let server = DockerRegistry::start_with_tls(&certificates, true);
    let app = reference(&server.host(), "app:v1");
    let directory = tempfile::tempdir().unwrap();
    certificates.trust_in(directory.path(), &server.host());
    assert!(trusting(directory.path()).manifest(&app).is_err(), "without a certificate of ours");
    certificates.identify_in(directory.path(), &server.host());
    let sample = Sample::new(31, 1 << 10);
    sample.push(&trusting(directory.path()), &app).unwrap();
}

#[test]
fn an_insecure_registry_may_have_any_certificate_or_none() {
    let encrypted = DockerRegistry::start_with_tls(&Certificates::new(&[]), false);
    let plain = DockerRegistry::start();
    for host in [encrypted.host(), plain.host()] {
        let registry = registry_with(Keychain::empty(), |config| config.insecure = vec![host.clone()]);
        let app = reference(&host, "app:v1");
        let sample = Sample::new(32, 1 << 10);
        sample.push(&registry, &app).unwrap();
        assert_eq!(pull(&registry, &app).1, sample.layer);
    }
}

#[test]
fn the_bundle_of_ssl_cert_file_is_trusted() {
    let certificates = Certificates::new(&[]);
    let server = DockerRegistry::start_with_tls(&certificates, false);
    let name = format!("{}/app:v1", server.host());
    let authority = certificates.authority();
    Child::pull(&[(REFERENCE, &name), ("SSL_CERT_FILE", authority.to_str().unwrap())]).answers("no image");
    Child::pull(&[(REFERENCE, &name)]).fails_with("is not trusted");
    let elsewhere = format!("registry.longshore.invalid:{}/app:v1", server.port());
    for file in ["/dev/null", "/missing.crt"] {
        Child::pull(&[(REFERENCE, &elsewhere), ("SSL_CERT_FILE", file)]).fails_with("SSL_CERT_FILE");
    }
}

/// Row 22 of the fault table.
#[test]
fn row_22_a_redirect_from_https_to_http_is_refused() {
    let certificates = Certificates::new(&[]);
    let storage = FaultyRegistry::start([]);
    let server = FaultyRegistry::start_with_tls(&certificates, []);
    let directory = tempfile::tempdir().unwrap();
    certificates.trust_in(directory.path(), &server.host());
    let registry = trusting(directory.path());
    let app = reference(&server.host(), "app:v1");
    let sample = Sample::new(33, 1 << 20);
    sample.push(&registry, &app).unwrap();
    assert_eq!(pull(&registry, &app).1, sample.layer);
    storage.put_blob("storage", &sample.layer);
    server.set_faults([Fault::RedirectBlobs(format!("http://{}/v2/storage/blobs", storage.host()))]);
    let error = read(&registry, &app, &sample.layer_descriptor()).unwrap_err().to_string();
    assert!(error.contains("from https to http") && error.contains(&storage.host()), "{error}");
    assert!(storage.requests().is_empty(), "nothing is sent there");
    server.assert_tags_are_complete();
}

#[test]
fn a_registry_without_tls_is_named_when_it_must_have_it() {
    let server = FaultyRegistry::start([]);
    // The name is one of this machine by the resolver, but none for which plain HTTP is allowed.
    let port = server.host().rsplit_once(':').unwrap().1.to_owned();
    let app = reference(&format!("127.0.0.1.example.invalid:{port}"), "app:v1");
    let error = text(&registry(Keychain::empty()).manifest(&app).unwrap_err());
    assert!(error.contains("https://127.0.0.1.example.invalid"), "{error}");
    assert!(server.requests().is_empty());
}
