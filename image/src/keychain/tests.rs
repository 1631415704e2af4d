use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn user(username: &str, password: &str) -> Credential {
    Credential::password(username, password)
}

fn from_json(json: &str) -> Keychain {
    let file = AuthFile::parse(json.as_bytes(), Path::new("auth.json")).unwrap();
    Keychain { files: vec![("auth.json".into(), file)], ..Keychain::empty() }
}

#[test]
fn keys_of_docker_and_podman() {
    // auth: u:p, hub:h, deep:d
    let keychain = from_json(
        r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOmg="},
            "https://old.example/v1/": {"auth": "dTpw"},
            "quay.io/team": {"auth": "dTpw"},
            "quay.io/team/deep": {"auth": "ZGVlcDpk"},
            "localhost:5000": {"username": "u", "password": "p"},
            "id.example": {"auth": "PHRva2VuPjp4", "identitytoken": "refresh"},
            "raw.example": {"registrytoken": "access"},
            "empty.example": {}
        }}"#,
    );
    let table = [
        ("docker.io", "library/debian", user("hub", "h")),
        ("old.example", "a", user("u", "p")),
        ("quay.io", "team/app", user("u", "p")),
        ("quay.io", "team/deep", user("deep", "d")),
        ("quay.io", "team/deeper", user("u", "p")),
        ("quay.io", "teams/app", Credential::Anonymous),
        ("localhost:5000", "a", user("u", "p")),
        ("localhost:5001", "a", Credential::Anonymous),
        ("id.example", "a", Credential::IdentityToken(Secret::new("refresh"))),
        ("raw.example", "a", Credential::BearerToken(Secret::new("access"))),
        ("empty.example", "a", Credential::Anonymous),
        ("unknown.example", "a", Credential::Anonymous),
    ];
    for (registry, repository, expected) in table {
        assert_eq!(keychain.credential(registry, repository).unwrap(), expected, "{registry}/{repository}");
    }
}

#[test]
fn the_variable_of_the_platform_spec() {
    let json = r#"{"a.example": "Basic dTpw", "b.example": "Bearer t", "c.example": "X-Identity i",
        "index.docker.io": "Basic aHViOmg=", "bad.example": "Digest x"}"#;
    let keychain =
        Keychain::from_variables(|name| (name == "CNB_REGISTRY_AUTH").then(|| json.into())).unwrap();
    assert_eq!(keychain.credential("a.example", "x").unwrap(), user("u", "p"));
    assert_eq!(keychain.credential("b.example", "x").unwrap(), Credential::BearerToken(Secret::new("t")));
    assert_eq!(keychain.credential("c.example", "x").unwrap(), Credential::IdentityToken(Secret::new("i")));
    assert_eq!(keychain.credential("docker.io", "library/x").unwrap(), user("hub", "h"));
    let error = keychain.credential("bad.example", "x").unwrap_err().to_string();
    assert!(error.contains("bad.example") && !error.contains("Digest"), "{error}");
}

#[test]
fn files_are_looked_up_in_order_and_secrets_stay_out_of_errors() {
    let directory = tempfile::tempdir().unwrap();
    let podman = directory.path().join("podman.json");
    std::fs::write(&podman, r#"{"auths": {"both.example": {"auth": "dTpw"}}}"#).unwrap();
    std::fs::write(
        directory.path().join("config.json"),
        r#"{"auths": {"both.example": {"auth": "aHViOmg="}, "docker.example": {"auth": "aHViOmg="}}}"#,
    )
    .unwrap();
    let environment = |name: &str| match name {
        "REGISTRY_AUTH_FILE" => Some(podman.clone().into_os_string()),
        "DOCKER_CONFIG" => Some(directory.path().as_os_str().to_owned()),
        _ => None,
    };
    let keychain = Keychain::from_variables(environment).unwrap();
    assert_eq!(keychain.credential("both.example", "x").unwrap(), user("u", "p"));
    assert_eq!(keychain.credential("docker.example", "x").unwrap(), user("hub", "h"));
    assert!(!format!("{keychain:?}").contains("dTpw"));

    std::fs::write(&podman, r#"{"auths": "hunter2"}"#).unwrap();
    let error = Keychain::from_variables(environment).unwrap_err();
    assert!(error.to_string().contains("podman.json") && !format!("{error:?}").contains("hunter2"));
}

#[test]
fn what_helpers_answer() {
    let directory = tempfile::tempdir().unwrap();
    let ask = |body: &str| {
        let path = directory.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        helper::ask_program(&path.display().to_string(), "reg.example")
    };
    let answer = r#"read server; echo "{\"Username\": \"$1-$server\", \"Secret\": \"p\"}""#;
    assert_eq!(ask(answer).unwrap(), Some(user("get-reg.example", "p")));
    let token = r#"echo '{"Username": "<token>", "Secret": "i"}'"#;
    assert_eq!(ask(token).unwrap(), Some(Credential::IdentityToken(Secret::new("i"))));
    assert_eq!(ask("echo credentials not found in native keychain; exit 1").unwrap(), None);
    let error = ask("echo hunter2; exit 3").unwrap_err();
    assert!(error.to_string().contains("exit status: 3") && !format!("{error:?}").contains("hunter2"));
    assert!(!format!("{:?}", ask("echo hunter2").unwrap_err()).contains("hunter2"));
}

#[test]
fn a_missing_helper_matters_for_its_own_registry_alone() {
    assert!(matches!(helper::ask("../bin/sh", "x"), Err(KeychainError::Helper { .. })));
    let keychain = from_json(
        r#"{"credsStore": "longshore-missing", "credHelpers": {"own.example": "longshore-missing"},
            "auths": {"fallback.example": {"auth": "dTpw"}}}"#,
    );
    assert_eq!(keychain.credential("fallback.example", "x").unwrap(), user("u", "p"));
    let error = keychain.credential("own.example", "x").unwrap_err();
    assert!(matches!(error, KeychainError::HelperStart { .. }), "{error}");
}
