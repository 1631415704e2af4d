//! Who is told which secrets.

use longshore_image::{BlobSource, ImageStore as _, Keychain};
use longshore_test_support::registry::{Fault, FaultyRegistry};

use super::{MIB, status};
use crate::samples::{Sample, keychain, read, reference, registry, text};

#[test]
fn row_21_credentials_stay_with_their_registry() {
    let storage = FaultyRegistry::start([]);
    let server = FaultyRegistry::start([Fault::Bearer("user", "secret")]);
    // user:secret
    let registry = registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
    let app = reference(&server.host(), "app:v1");
    let sample = Sample::new(12, MIB);
    sample.push(&registry, &app).unwrap();
    storage.put_blob("storage", &sample.layer);
    server.set_faults([
        Fault::Bearer("user", "secret"),
        Fault::RedirectBlobs(format!("http://{}/v2/storage/blobs", storage.host())),
    ]);
    assert_eq!(read(&registry, &app, &sample.layer_descriptor()).unwrap(), sample.layer);
    let theirs = storage.requests();
    assert!(
        !theirs.is_empty() && theirs.iter().all(|request| request.authorization.is_none()),
        "{theirs:#?}"
    );
    let ours = server.requests_of("GET", "/blobs/");
    assert!(ours.iter().any(|request| request.authorization.is_some()));

    // A storage that asks for credentials does not get any either.
    storage.set_faults([Fault::Basic("user", "secret")]);
    assert!(read(&registry, &app, &sample.layer_descriptor()).is_err());
    assert!(storage.requests().iter().all(|request| request.authorization.is_none()));
}

#[test]
fn row_20_realms_that_are_not_safe_get_nothing() {
    let elsewhere = FaultyRegistry::start([]);
    for realm in ["file:///etc/passwd", "http://auth.example.com/token", "ftp://127.0.0.1/", "/token"] {
        let server = FaultyRegistry::start([Fault::Bearer("user", "secret"), Fault::Realm(realm.to_owned())]);
        let registry = registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
        let error = text(&registry.manifest(&reference(&server.host(), "app:v1")).unwrap_err());
        assert!(error.contains(realm) && error.contains("refused"), "{error}");
        assert!(server.requests().iter().all(|request| request.authorization.is_none()));
    }
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn a_token_endpoint_may_be_on_another_host() {
    let tokens = FaultyRegistry::start([]);
    let realm = Fault::Realm(format!("http://{}/token", tokens.host()));
    let server = FaultyRegistry::start([Fault::Bearer("user", "secret"), realm]);
    let registry = registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
    // The registry does not know the other's tokens: what counts is that they were asked for, and how.
    assert!(registry.manifest(&reference(&server.host(), "team/app:v1")).is_err());
    let asked = tokens.requests_of("GET", "/token");
    assert!(!asked.is_empty());
    for request in asked {
        assert!(request.authorization.is_some_and(|header| header.starts_with("Basic ")));
        assert!(request.query.contains("service=faulty"));
        assert!(request.query.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{}", request.query);
    }
}

#[test]
fn row_23_tokens_are_shared_and_renewed() {
    let server = FaultyRegistry::start([Fault::Bearer("user", "secret")]);
    let registry = registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
    let app = reference(&server.host(), "app:v1");
    let samples: Vec<Sample> = (0..8).map(|seed| Sample::new(100 + seed, MIB / 8)).collect();
    std::thread::scope(|scope| {
        for sample in &samples {
            let layer = sample.layer_descriptor();
            let (registry, app) = (&registry, &app);
            let source = BlobSource::Bytes(sample.layer.clone());
            scope.spawn(move || registry.write_blob(app, &layer, &source, None).unwrap());
        }
    });
    assert_eq!(server.requests_of("GET", "/token").len(), 1, "one token for one scope");

    // Each token is good for one request: the PUT that closes an upload is refused, too.
    server.set_faults([Fault::Bearer("user", "secret"), Fault::TokenUses(1)]);
    let registry = crate::samples::registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
    let sample = Sample::new(13, 5 * MIB);
    sample.push(&registry, &app.with_tag("v2")).unwrap();
    server.assert_tags_are_complete();
    let refused = server.requests_of("PUT", "/blobs/uploads/");
    assert!(refused.iter().any(|request| request.status == 401), "{refused:#?}");
}

#[test]
fn refresh_tokens_are_exchanged() {
    let server = FaultyRegistry::start([Fault::Bearer("user", "refresh")]);
    let registry = registry(keychain(&server.host(), "X-Identity refresh"));
    Sample::new(14, 1024).push(&registry, &reference(&server.host(), "app:v1")).unwrap();
    assert_eq!(server.requests_of("GET", "/token").len(), 0);
    assert!(!server.requests_of("POST", "/token").is_empty());
}

#[test]
fn row_24_a_token_endpoint_that_is_down_is_waited_for_and_named() {
    let token_fault = |times| status("GET", "/token", 503, times);
    let server = FaultyRegistry::start([Fault::Bearer("user", "secret"), token_fault(2)]);
    let registry = registry(keychain(&server.host(), "Basic dXNlcjpzZWNyZXQ="));
    let app = reference(&server.host(), "app:v1");
    Sample::new(15, 1024).push(&registry, &app).unwrap();
    server.set_faults([Fault::Bearer("user", "secret"), Fault::TokenUses(0), token_fault(100)]);
    let another = reference(&server.host(), "another:v1");
    let error = text(&registry.manifest(&another).unwrap_err());
    assert!(error.contains("/token") && error.contains("503"), "{error}");
}

#[test]
fn wrong_credentials_are_named_with_the_registry_and_what_to_do() {
    let server = FaultyRegistry::start([Fault::Bearer("user", "secret")]);
    let app = reference(&server.host(), "app:v1");
    for keychain in [keychain(&server.host(), "Basic dXNlcjp3cm9uZw=="), Keychain::empty()] {
        let error = text(&registry(keychain).manifest(&app).unwrap_err());
        assert!(
            error.contains("incorrect username or password") && error.contains("docker login"),
            "{error}"
        );
        assert!(!error.contains("wrong"), "{error}");
    }
}
