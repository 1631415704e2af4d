//! Azure Container Registry: a token of Microsoft Entra is exchanged for a refresh token of the registry.

use reqwest::Method;

use super::http::{Http, Request, field};
use super::{Environment, Failure, Found};
use crate::keychain::{Credential, Secret};

const RESOURCE: &str = "https://management.azure.com/";

pub(super) fn is_registry(host: &str) -> bool {
    [".azurecr.io", ".azurecr.cn", ".azurecr.de", ".azurecr.us"].iter().any(|suffix| {
        let name = host.strip_suffix(suffix).unwrap_or_default();
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    })
}

pub(super) fn credential(environment: &Environment, http: &dyn Http, registry: &str) -> Found<Credential> {
    let Some(token) = entra_token(environment, http)? else { return Ok(None) };
    let tenant = environment.text("AZURE_TENANT_ID").unwrap_or_default();
    let mut fields = vec![("grant_type", "access_token"), ("service", registry), ("access_token", &token)];
    if !tenant.is_empty() {
        fields.push(("tenant", &tenant));
    }
    let request = Request::new(Method::POST, &format!("https://{registry}/oauth2/exchange"))?.form(&fields);
    let answer = http.send(&request)?;
    let refresh = field(&answer, "refresh_token", &request.place())?;
    Ok(Some(Credential::IdentityToken(Secret::new(refresh))))
}

/// A token that says who we are: an application with a secret or a federated token, or the identity of the machine.
fn entra_token(environment: &Environment, http: &dyn Http) -> Found<String> {
    let application = environment.text("AZURE_TENANT_ID").zip(environment.text("AZURE_CLIENT_ID"));
    let Some((tenant, client)) = application else { return Ok(of_machine(environment, http)) };
    let scope = format!("{RESOURCE}.default");
    let mut fields = vec![("grant_type", "client_credentials"), ("client_id", &client), ("scope", &scope)];
    let secret = environment.text("AZURE_CLIENT_SECRET");
    let assertion = match environment.path("AZURE_FEDERATED_TOKEN_FILE") {
        Some(file) if secret.is_none() => {
            let read = std::fs::read_to_string(&file);
            Some(read.map_err(|error| Failure(format!("cannot read `{}` ({error})", file.display())))?)
        }
        _ => None,
    };
    match (&secret, &assertion) {
        (Some(secret), _) => fields.push(("client_secret", secret)),
        (None, Some(assertion)) => fields.extend([
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.trim()),
        ]),
        (None, None) => return Ok(of_machine(environment, http)),
    }
    let authority = environment.text("AZURE_AUTHORITY_HOST");
    let authority = authority.unwrap_or_else(|| "https://login.microsoftonline.com".to_owned());
    let url = format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/'));
    let request = Request::new(Method::POST, &url)?;
    if request.url.scheme() != "https" {
        return Err(Failure(format!("{} would get a secret without encryption", request.place())));
    }
    let answer = http.send(&request.form(&fields))?;
    field(&answer, "access_token", &authority).map(Some)
}

/// The managed identity of a machine, or of a service that says where to ask. Most places have none.
fn of_machine(environment: &Environment, http: &dyn Http) -> Option<String> {
    let service = environment.text("IDENTITY_ENDPOINT").zip(environment.text("IDENTITY_HEADER"));
    let (endpoint, version) = match &service {
        Some((endpoint, _)) => (endpoint.as_str(), "2019-08-01"),
        None => ("http://169.254.169.254/metadata/identity/oauth2/token", "2018-02-01"),
    };
    let ask = || -> Result<String, Failure> {
        let mut request = Request::new(Method::GET, endpoint)?.near();
        request.url.query_pairs_mut().append_pair("api-version", version).append_pair("resource", RESOURCE);
        if let Some(client) = environment.text("AZURE_CLIENT_ID") {
            request.url.query_pairs_mut().append_pair("client_id", &client);
        }
        let request = match &service {
            Some((_, header)) => request.header("x-identity-header", header.clone()),
            None => request.header("metadata", "true"),
        };
        field(&http.send(&request)?, "access_token", "the metadata service")
    };
    ask().inspect_err(|failure| tracing::debug!("{failure}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_recognised() {
        for (host, expected) in [
            ("team.azurecr.io", true),
            ("team-a1.azurecr.cn", true),
            ("team.eastus.data.azurecr.io", true),
            (".azurecr.io", false),
            ("azurecr.io", false),
            ("team.azurecr.io.evil.example", false),
            ("evil.example/x.azurecr.io", false),
            ("team.azurecr.io:444", false),
        ] {
            assert_eq!(is_registry(host), expected, "{host}");
        }
    }
}
