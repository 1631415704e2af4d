//! Amazon's Elastic Container Registry: a password by `GetAuthorizationToken`.

use jiff::Timestamp;
use reqwest::Method;

use super::aws::{self, Keys};
use super::http::{Http, Request};
use super::signature::{self, Signed};
use super::{Environment, Failure, Found};
use crate::keychain::{Credential, auth_file};

const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
const TYPE: &str = "application/x-amz-json-1.1";

/// A private registry: `ACCOUNT.dkr.ecr.REGION.amazonaws.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registry {
    pub(super) region: String,
    /// The host of the API that knows its password.
    pub(super) api: String,
}

impl Registry {
    pub(super) fn parse(host: &str) -> Option<Self> {
        let (account, rest) = host.split_once('.')?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_region = |region: &str| {
            region.contains('-') && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        // The old names with one stack of addresses, and the new ones with two.
        let known = [
            ("dkr.ecr.", ".amazonaws.com", "api.ecr.", ".amazonaws.com"),
            ("dkr.ecr.", ".amazonaws.com.cn", "api.ecr.", ".amazonaws.com.cn"),
            ("dkr.ecr-fips.", ".amazonaws.com", "ecr-fips.", ".amazonaws.com"),
            ("dkr-ecr.", ".on.aws", "ecr.", ".api.aws"),
            ("dkr-ecr-fips.", ".on.aws", "ecr-fips.", ".api.aws"),
        ];
        known.into_iter().filter(|_| is_account).find_map(|(start, end, api, suffix)| {
            let region = rest.strip_prefix(start)?.strip_suffix(end)?;
            let registry = Self { region: region.to_owned(), api: format!("{api}{region}{suffix}") };
            is_region(region).then_some(registry)
        })
    }
}

pub(super) fn credential(
    environment: &Environment,
    http: &dyn Http,
    registry: &Registry,
) -> Found<Credential> {
    let Some(keys) = aws::keys(environment, http, &registry.region)? else { return Ok(None) };
    let endpoint = environment.text("AWS_ENDPOINT_URL_ECR").or_else(|| environment.text("AWS_ENDPOINT_URL"));
    let endpoint = endpoint.unwrap_or_else(|| format!("https://{}/", registry.api));
    let request = signed(Request::new(Method::POST, &endpoint)?, &keys, registry, Timestamp::now());
    let answer = http.send(&request)?;
    let value: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
    let token = value["authorizationData"][0]["authorizationToken"].as_str();
    let credential = token.and_then(auth_file::decode_basic);
    let missing = || Failure(format!("the answer of {} has no password", request.place()));
    credential.ok_or_else(missing).map(Some)
}

fn signed(request: Request, keys: &Keys, registry: &Registry, now: Timestamp) -> Request {
    let date = signature::date(now);
    let host = match (request.url.host_str().unwrap_or_default(), request.url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let session = keys.session.as_ref().map(|session| session.expose().to_owned());
    let mut headers = vec![("content-type", TYPE), ("host", &host), ("x-amz-date", &date)];
    if let Some(session) = &session {
        headers.push(("x-amz-security-token", session));
    }
    headers.push(("x-amz-target", TARGET));
    let signed = Signed {
        method: "POST",
        headers: &headers,
        body: "{}",
        region: &registry.region,
        service: "ecr",
        date: &date,
    };
    let authorization = signature::authorization(keys, &signed);
    let mut request = Request { body: "{}".to_owned(), ..request }
        .header("content-type", TYPE)
        .header("x-amz-date", date.clone())
        .header("x-amz-target", TARGET)
        .header("authorization", authorization);
    if let Some(session) = session {
        request = request.header("x-amz-security-token", session);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_accounts_are_recognised() {
        for (host, expected) in [
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                Some(("eu-west-1", "api.ecr.eu-west-1.amazonaws.com")),
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                Some(("cn-north-1", "api.ecr.cn-north-1.amazonaws.com.cn")),
            ),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                Some(("us-gov-west-1", "ecr-fips.us-gov-west-1.amazonaws.com")),
            ),
            ("123456789012.dkr-ecr.us-east-1.on.aws", Some(("us-east-1", "ecr.us-east-1.api.aws"))),
            ("public.ecr.aws", None),
            ("12345.dkr.ecr.eu-west-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", None),
            ("123456789012.dkr.ecr.evil.example/x-y.amazonaws.com", None),
            ("123456789012.dkr.ecr.a.b-c.amazonaws.com", None),
        ] {
            let found = Registry::parse(host);
            let found = found.as_ref().map(|found| (found.region.as_str(), found.api.as_str()));
            assert_eq!(found, expected, "{host}");
        }
    }
}
