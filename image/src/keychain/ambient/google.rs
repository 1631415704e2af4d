//! Google's registries: an access token of a service account, of a user, or of the machine.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use reqwest::Method;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use super::http::{Http, Request, field};
use super::{Environment, Failure, Found};
use crate::keychain::{Credential, Secret};

/// The name under which an access token is a password.
const USER: &str = "oauth2accesstoken";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

pub(super) fn is_registry(host: &str) -> bool {
    host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with("-docker.pkg.dev")
}

pub(super) fn credential(environment: &Environment, http: &dyn Http) -> Found<Credential> {
    let token = match of_file(environment, http)? {
        Some(token) => Some(token),
        None => of_machine(environment, http),
    };
    Ok(token.map(|token| Credential::Password { username: USER.to_owned(), password: Secret::new(token) }))
}

/// The file that `GOOGLE_APPLICATION_CREDENTIALS` names, or the one that `gcloud auth application-default login` writes.
fn of_file(environment: &Environment, http: &dyn Http) -> Found<String> {
    const WELL_KNOWN: &str = "application_default_credentials.json";
    let named = environment.path("GOOGLE_APPLICATION_CREDENTIALS");
    let directory = environment.path("CLOUDSDK_CONFIG").or_else(|| environment.at_home(".config/gcloud"));
    let Some(path) = named.clone().or_else(|| Some(directory?.join(WELL_KNOWN))) else { return Ok(None) };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(_) if named.is_none() => return Ok(None),
        Err(error) => return Err(Failure(format!("cannot read `{}` ({error})", path.display()))),
    };
    let unusable = |what: &str| Failure(format!("`{}` {what}", path.display()));
    let file: Value = serde_json::from_slice(&text).map_err(|_may_show_it| unusable("is not JSON"))?;
    let value = |name: &str| {
        let missing = || unusable(&format!("has no `{name}`"));
        file[name].as_str().ok_or_else(missing)
    };
    let endpoint = file["token_uri"].as_str().unwrap_or(TOKEN_URI);
    let request = Request::new(Method::POST, endpoint)?;
    if request.url.scheme() != "https" {
        return Err(unusable("names a token endpoint without encryption"));
    }
    let request = match file["type"].as_str() {
        Some("service_account") => {
            let now = Timestamp::now().as_second();
            let assertion = assertion(value("client_email")?, value("private_key")?, endpoint, now);
            let assertion = assertion.ok_or_else(|| unusable("has no usable `private_key`"))?;
            let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
            request.form(&[("grant_type", grant), ("assertion", &assertion)])
        }
        Some("authorized_user") => request.form(&[
            ("grant_type", "refresh_token"),
            ("client_id", value("client_id")?),
            ("client_secret", value("client_secret")?),
            ("refresh_token", value("refresh_token")?),
        ]),
        _ => {
            return Err(unusable(
                "is of a kind that is not known here; use the credential helper `gcloud` for it",
            ));
        }
    };
    let answer = http.send(&request)?;
    field(&answer, "access_token", &request.place()).map(Some)
}

/// A signed statement of who asks for what (RFC 7523), in a JSON Web Token (RFC 7519).
pub(super) fn assertion(email: &str, key: &str, audience: &str, now: i64) -> Option<String> {
    let claims = json!({"iss": email, "scope": SCOPE, "aud": audience, "iat": now, "exp": now + 3600});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "RS256", "typ": "JWT"})), part(&claims));
    let pem: String = key.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(pem).ok()?).ok()?;
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// What the metadata service of a machine gives. It is asked only where one is: public images of these registries are read
/// everywhere.
fn of_machine(environment: &Environment, http: &dyn Http) -> Option<String> {
    let host = environment.text("GCE_METADATA_HOST");
    if host.is_none() && !is_googles_machine() {
        return None;
    }
    let host = host.unwrap_or_else(|| "169.254.169.254".to_owned());
    let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
    let ask = || -> Result<String, Failure> {
        let request = Request::new(Method::GET, &url)?.header("metadata-flavor", "Google").near();
        field(&http.send(&request)?, "access_token", "the metadata service")
    };
    ask().inspect_err(|failure| tracing::debug!("{failure}")).ok()
}

fn is_googles_machine() -> bool {
    let name = std::fs::read_to_string("/sys/class/dmi/id/product_name");
    name.is_ok_and(|name| name.trim() == "Google" || name.trim() == "Google Compute Engine")
}
