//! Each chain against endpoints that write down what they are asked.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::*;
use crate::keychain::Secret;
use http::Request;

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
/// Base64 of `AWS:password`.
const ECR_ANSWER: &str = r#"{"authorizationData": [{"authorizationToken": "QVdTOnBhc3N3b3Jk"}]}"#;

/// Answers by host and path, and notes the requests.
#[derive(Clone, Default)]
struct Fake {
    answers: Vec<(&'static str, &'static str)>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Http for Fake {
    fn send(&self, request: &Request) -> Result<String, Failure> {
        self.seen.lock().unwrap().push(request.clone());
        let found = self.answers.iter().find(|(place, _)| *place == request.place());
        let missing = || Failure(format!("asking {} failed: status 404", request.place()));
        found.map(|(_, answer)| (*answer).to_owned()).ok_or_else(missing)
    }
}

fn ambient(variables: &[(&str, &str)], answers: &[(&'static str, &'static str)]) -> (Ambient, Fake) {
    let fake = Fake { answers: answers.to_vec(), ..Fake::default() };
    let variable = |name: &str| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    (Ambient::with(variable, Box::new(fake.clone())), fake)
}

fn places(fake: &Fake) -> Vec<String> {
    fake.seen
        .lock()
        .unwrap()
        .iter()
        .map(|request| format!("{} {}", request.method, request.place()))
        .collect()
}

fn header(fake: &Fake, number: usize, name: &str) -> Option<String> {
    let seen = fake.seen.lock().unwrap();
    seen[number].headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
}

fn body(fake: &Fake, number: usize) -> String {
    fake.seen.lock().unwrap()[number].body.clone()
}

fn password(user: &str, password: &str) -> Option<Credential> {
    Some(Credential::Password { username: user.to_owned(), password: Secret::new(password) })
}

#[test]
fn keys_in_variables_get_a_password_of_ecr_once() {
    let variables =
        [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_SESSION_TOKEN", "s")];
    let (ambient, fake) = ambient(&variables, &[("api.ecr.eu-west-1.amazonaws.com/", ECR_ANSWER)]);
    for _ in 0..2 {
        assert_eq!(ambient.credential(ECR), password("AWS", "password"));
    }
    assert_eq!(places(&fake), ["POST api.ecr.eu-west-1.amazonaws.com/"]);
    assert_eq!(header(&fake, 0, "x-amz-security-token").as_deref(), Some("s"));
    let authorization = header(&fake, 0, "authorization").unwrap();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{authorization}");
    let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target,";
    assert!(authorization.contains("/eu-west-1/ecr/aws4_request") && authorization.contains(signed));
    assert!(!format!("{ambient:?} {:?}", fake.seen).contains("hunter2"));
}

#[test]
fn nobody_is_asked_for_other_registries_or_where_it_is_not_wanted() {
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("CNB_REGISTRY_AUTH_KEYCHAIN_SKIP_AMAZON", "true"),
        ("CNB_REGISTRY_AUTH_KEYCHAIN_SKIP_AZURE", "true"),
    ];
    let (ambient, fake) = ambient(&variables, &[]);
    for registry in [ECR, "team.azurecr.io", "ghcr.io", "docker.io", "localhost:5000", "public.ecr.aws"] {
        assert!(!ambient.may_know(registry), "{registry}");
        assert_eq!(ambient.credential(registry), None, "{registry}");
    }
    assert!(places(&fake).is_empty());
}

#[test]
fn a_web_identity_is_shown_to_the_token_service() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "jwt\n").unwrap();
    let file = file.display().to_string();
    let variables = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.as_str()),
        ("AWS_ENDPOINT_URL_ECR", "https://ecr.example/"),
    ];
    let keys = "<R><Credentials><AccessKeyId>ID</AccessKeyId><SecretAccessKey>S</SecretAccessKey>\
                <SessionToken>T</SessionToken></Credentials></R>";
    let (ambient, fake) =
        ambient(&variables, &[("sts.eu-west-1.amazonaws.com/", keys), ("ecr.example/", ECR_ANSWER)]);
    assert_eq!(ambient.credential(ECR), password("AWS", "password"));
    assert!(body(&fake, 0).contains("WebIdentityToken=jwt") && body(&fake, 0).contains("RoleArn=arn%3Aaws"));
    assert_eq!(header(&fake, 1, "x-amz-security-token").as_deref(), Some("T"));
}

#[test]
fn profiles_containers_and_machines_have_keys() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials");
    std::fs::write(&file, "[team]\naws_access_key_id = TEAM\naws_secret_access_key = s\n").unwrap();
    let file = file.display().to_string();
    let api = ("api.ecr.eu-west-1.amazonaws.com/", ECR_ANSWER);
    let profile = [("AWS_SHARED_CREDENTIALS_FILE", file.as_str()), ("AWS_PROFILE", "team")];
    let (of_profile, fake) = ambient(&profile, &[api]);
    assert_eq!(of_profile.credential(ECR), password("AWS", "password"));
    assert!(header(&fake, 0, "authorization").unwrap().contains("Credential=TEAM/"));
    // A profile that was named and is none is told; no other keys are used in its place.
    let (none, fake) = ambient(&[("AWS_PROFILE", "gone")], &[api]);
    assert_eq!((none.credential(ECR), places(&fake)), (None, Vec::new()));

    let keys = r#"{"AccessKeyId": "CID", "SecretAccessKey": "s", "Token": "t"}"#;
    let container =
        [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x"), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "mine")];
    let (of_container, fake) = ambient(&container, &[("169.254.170.2/v2/x", keys), api]);
    assert_eq!(of_container.credential(ECR), password("AWS", "password"));
    assert_eq!(header(&fake, 0, "authorization").as_deref(), Some("mine"));
    let foreign = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/x")];
    let (foreign, fake) = ambient(&foreign, &[]);
    assert_eq!((foreign.credential(ECR), places(&fake)), (None, Vec::new()));

    let roles = "169.254.169.254/latest/meta-data/iam/security-credentials/";
    let role = "169.254.169.254/latest/meta-data/iam/security-credentials/builder";
    let answers = [("169.254.169.254/latest/api/token", "session"), (roles, "builder\n"), (role, keys), api];
    let (of_machine, fake) = ambient(&[], &answers);
    assert_eq!(of_machine.credential(ECR), password("AWS", "password"));
    assert_eq!(places(&fake)[0], "PUT 169.254.169.254/latest/api/token");
    assert_eq!(header(&fake, 1, "x-aws-ec2-metadata-token").as_deref(), Some("session"));
    let near = fake.seen.lock().unwrap()[..3].iter().all(|request| request.patience == http::NEAR);
    assert!(near, "a machine without the service is not waited for");
}

#[test]
fn azure_exchanges_a_token_for_one_of_the_registry() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "federated\n").unwrap();
    let file = file.display().to_string();
    let answers = [
        ("login.microsoftonline.com/T/oauth2/v2.0/token", r#"{"access_token": "entra"}"#),
        ("169.254.169.254/metadata/identity/oauth2/token", r#"{"access_token": "machine"}"#),
        ("team.azurecr.io/oauth2/exchange", r#"{"refresh_token": "refresh"}"#),
    ];
    let expected = Some(Credential::IdentityToken(Secret::new("refresh")));
    let application = [("AZURE_TENANT_ID", "T"), ("AZURE_CLIENT_ID", "C")];
    for (more, sent, exchanged) in [
        (vec![("AZURE_CLIENT_SECRET", "S")], "client_secret=S", "access_token=entra"),
        (
            vec![("AZURE_FEDERATED_TOKEN_FILE", file.as_str())],
            "client_assertion=federated",
            "access_token=entra",
        ),
        (vec![], "", "access_token=machine"),
    ] {
        let (ambient, fake) = ambient(&[&application[..], &more].concat(), &answers);
        assert_eq!(ambient.credential("team.azurecr.io"), expected);
        assert!(body(&fake, 0).contains(sent), "{}", body(&fake, 0));
        assert!(body(&fake, 1).contains(exchanged) && body(&fake, 1).contains("service=team.azurecr.io"));
    }
    let plain =
        [&application[..], &[("AZURE_CLIENT_SECRET", "S"), ("AZURE_AUTHORITY_HOST", "http://a.example")]];
    let (plain, fake) = ambient(&plain.concat(), &[]);
    assert_eq!((plain.credential("team.azurecr.io"), places(&fake)), (None, Vec::new()));
}

/// A key of this test alone.
fn private_key(directory: &Path) -> String {
    let file = directory.join("key.pem");
    let make = Command::new("/usr/bin/openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"])
        .arg(&file)
        .output()
        .expect("openssl");
    assert!(make.status.success(), "{make:?}");
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn google_takes_a_signed_statement_of_a_service_account() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("account.json");
    let account = serde_json::json!({
        "type": "service_account",
        "client_email": "builder@team.example",
        "private_key": private_key(directory.path()),
        "token_uri": "https://oauth2.example/token",
    });
    std::fs::write(&file, account.to_string()).unwrap();
    let file = file.display().to_string();
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", file.as_str())];
    let answers = [("oauth2.example/token", r#"{"access_token": "google"}"#)];
    for registry in ["gcr.io", "eu.gcr.io", "europe-docker.pkg.dev"] {
        let (ambient, fake) = ambient(&variables, &answers);
        assert_eq!(ambient.credential(registry), password("oauth2accesstoken", "google"));
        let body = body(&fake, 0);
        let assertion = body.split_once("assertion=").unwrap().1;
        assert_eq!(assertion.split('.').count(), 3, "{body}");
    }
    // Whoever has the public key can check the signature; ring made it, so openssl does here.
    let key = private_key(directory.path());
    let token = google::assertion("a", &key, "b", 1).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap();
    std::fs::write(directory.path().join("signed"), signed).unwrap();
    std::fs::write(directory.path().join("signature"), bytes).unwrap();
    let check = Command::new("/usr/bin/openssl")
        .args(["dgst", "-sha256", "-prverify", "key.pem", "-signature", "signature", "signed"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn google_takes_a_user_or_the_machine() {
    let directory = tempfile::tempdir().unwrap();
    let known = directory.path().join("application_default_credentials.json");
    let user = r#"{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}"#;
    std::fs::write(&known, user).unwrap();
    let path = directory.path().display().to_string();
    let answers = [
        ("oauth2.googleapis.com/token", r#"{"access_token": "user"}"#),
        (
            "meta.example/computeMetadata/v1/instance/service-accounts/default/token",
            r#"{"access_token": "machine"}"#,
        ),
    ];
    let (of_user, _) = ambient(&[("CLOUDSDK_CONFIG", path.as_str())], &answers);
    assert_eq!(of_user.credential("gcr.io"), password("oauth2accesstoken", "user"));
    let (of_machine, fake) = ambient(&[("GCE_METADATA_HOST", "meta.example")], &answers);
    assert_eq!(of_machine.credential("gcr.io"), password("oauth2accesstoken", "machine"));
    assert_eq!(header(&fake, 0, "metadata-flavor").as_deref(), Some("Google"));
    std::fs::write(&known, r#"{"type": "external_account", "secret": "hunter2"}"#).unwrap();
    let (other, fake) = ambient(&[("CLOUDSDK_CONFIG", path.as_str())], &answers);
    assert_eq!((other.credential("gcr.io"), places(&fake)), (None, Vec::new()));
}

/// The real client: what it sends, and that no error shows it.
#[test]
fn requests_are_made_without_showing_what_they_hold() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for status in ["200 OK", "403 Forbidden"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            while !text.ends_with("a=hunter2") {
                let mut buffer = [0; 1024];
                let count = stream.read(&mut buffer).unwrap();
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            stream.write_all(answer.as_bytes()).unwrap();
            seen.push(text);
        }
        seen
    });
    let request = Request::new(reqwest::Method::POST, &format!("http://{address}/path?b=hunter2"));
    let request = request.unwrap().header("x-test", "yes").form(&[("a", "hunter2")]);
    assert_eq!(Network.send(&request), Ok("ok".to_owned()));
    let error = Network.send(&request).unwrap_err().to_string();
    assert!(error.contains("403") && !error.contains("hunter2"), "{error}");
    let seen = server.join().unwrap();
    assert!(seen[0].starts_with("POST /path?b=hunter2 ") && seen[0].contains("x-test: yes"), "{}", seen[0]);
    let gone = Network.send(&request.near()).unwrap_err().to_string();
    assert!(!gone.contains("hunter2"), "{gone}");
}
