//! Keys for Amazon's APIs, from where its SDKs take them: variables, a web identity, files, the container, the machine.

use std::path::Path;

use reqwest::Method;

use super::http::{Http, Request, field};
use super::{Environment, Failure, Found};
use crate::keychain::Secret;

/// An access key.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) session: Option<Secret>,
}

impl Keys {
    fn new(id: String, secret: String, session: Option<String>) -> Self {
        Self { id, secret: Secret::new(secret), session: session.map(Secret::new) }
    }
}

/// The first that there are.
pub(super) fn keys(environment: &Environment, http: &dyn Http, region: &str) -> Found<Keys> {
    if let Some(keys) = of_variables(environment) {
        return Ok(Some(keys));
    }
    if let Some((role, file)) =
        environment.text("AWS_ROLE_ARN").zip(environment.path("AWS_WEB_IDENTITY_TOKEN_FILE"))
    {
        return web_identity(environment, http, region, &role, &file).map(Some);
    }
    if let Some(keys) = of_profile(environment, http, region)? {
        return Ok(Some(keys));
    }
    if let Some(keys) = of_container(environment, http)? {
        return Ok(Some(keys));
    }
    Ok(of_machine(environment, http))
}

fn of_variables(environment: &Environment) -> Option<Keys> {
    let (id, secret) =
        environment.text("AWS_ACCESS_KEY_ID").zip(environment.text("AWS_SECRET_ACCESS_KEY"))?;
    Some(Keys::new(id, secret, environment.text("AWS_SESSION_TOKEN")))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure(format!("cannot read `{}` ({error})", path.display())))
}

/// `AssumeRoleWithWebIdentity` of the Security Token Service: how pods and jobs show who they are.
fn web_identity(
    environment: &Environment,
    http: &dyn Http,
    region: &str,
    role: &str,
    file: &Path,
) -> Result<Keys, Failure> {
    let token = read(file)?;
    let session = environment.text("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "longshore".to_owned());
    let endpoint = environment.text("AWS_ENDPOINT_URL_STS").or_else(|| environment.text("AWS_ENDPOINT_URL"));
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let endpoint = endpoint.unwrap_or_else(|| format!("https://sts.{region}.{suffix}/"));
    let request = Request::new(Method::POST, &endpoint)?.form(&[
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role),
        ("RoleSessionName", &session),
        ("WebIdentityToken", token.trim()),
    ]);
    let answer = http.send(&request)?;
    // The answer is XML of a fixed form, and none of these values needs escaping.
    let element = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.to_owned())
    };
    let keys = element("AccessKeyId").zip(element("SecretAccessKey"));
    let (id, secret) =
        keys.ok_or_else(|| Failure(format!("the answer of {} has no keys", request.place())))?;
    Ok(Keys::new(id, secret, element("SessionToken")))
}

/// A profile of the files that `aws configure` writes.
fn of_profile(environment: &Environment, http: &dyn Http, region: &str) -> Found<Keys> {
    let profile = environment.text("AWS_PROFILE");
    let name = profile.as_deref().unwrap_or("default");
    let file = |variable: &str, rest: &str| environment.path(variable).or_else(|| environment.at_home(rest));
    let files = [
        (file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"), name.to_owned()),
        (
            file("AWS_CONFIG_FILE", ".aws/config"),
            if name == "default" { name.to_owned() } else { format!("profile {name}") },
        ),
    ];
    let texts = files.into_iter().filter_map(|(path, section)| {
        let text = std::fs::read_to_string(path?).ok()?;
        Some((text, section))
    });
    let texts: Vec<_> = texts.collect();
    let value = |key: &str| texts.iter().find_map(|(text, section)| setting(text, section, key));
    if let Some((id, secret)) = value("aws_access_key_id").zip(value("aws_secret_access_key")) {
        return Ok(Some(Keys::new(id, secret, value("aws_session_token"))));
    }
    if let Some((role, file)) = value("role_arn").zip(value("web_identity_token_file")) {
        return web_identity(environment, http, region, &role, Path::new(&file)).map(Some);
    }
    match profile {
        Some(name) => Err(Failure(format!(
            "the profile `{name}` of AWS has no keys; for other kinds (SSO, roles of other profiles, programs) use the \
             credential helper `ecr-login`"
        ))),
        None => Ok(None),
    }
}

/// A value of an INI file.
fn setting(text: &str, section: &str, key: &str) -> Option<String> {
    let mut current = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            current = name.trim();
        } else if current == section
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            return Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
    }
    None
}

/// What the agent of a container gives, in Amazon's own services.
fn of_container(environment: &Environment, http: &dyn Http) -> Found<Keys> {
    let relative = environment.text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let relative = relative.map(|path| format!("http://169.254.170.2{path}"));
    let Some(url) = relative.or_else(|| environment.text("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else {
        return Ok(None);
    };
    let mut request = Request::new(Method::GET, &url)?;
    let host = request.url.host_str().unwrap_or_default();
    let near = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "127.0.0.1", "[::1]", "localhost"];
    if request.url.scheme() != "https" && !near.contains(&host) {
        return Err(Failure(format!("`{host}` would get the token of this container without encryption")));
    }
    let file = environment.path("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    let token = match file {
        Some(file) => Some(read(&file)?),
        None => environment.text("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    if let Some(token) = token {
        request = request.header("authorization", token.trim());
    }
    let answer = http.send(&request)?;
    of_json(&answer, &request.place()).map(Some)
}

fn of_json(answer: &str, place: &str) -> Result<Keys, Failure> {
    let value = |name: &str| field(answer, name, place);
    Ok(Keys::new(value("AccessKeyId")?, value("SecretAccessKey")?, value("Token").ok()))
}

/// What the metadata service of a machine gives (IMDSv2). Most machines have none.
fn of_machine(environment: &Environment, http: &dyn Http) -> Option<Keys> {
    if environment.is_true("AWS_EC2_METADATA_DISABLED") {
        return None;
    }
    let endpoint = environment.text("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let endpoint = endpoint.unwrap_or_else(|| "http://169.254.169.254".to_owned());
    let base = endpoint.trim_end_matches('/');
    let ask = || -> Result<Keys, Failure> {
        let token = Request::new(Method::PUT, &format!("{base}/latest/api/token"))?
            .header("x-aws-ec2-metadata-token-ttl-seconds", "300")
            .near();
        let token = http.send(&token)?;
        let roles = format!("{base}/latest/meta-data/iam/security-credentials/");
        let get = |url: &str| {
            let request =
                Request::new(Method::GET, url)?.header("x-aws-ec2-metadata-token", token.trim()).near();
            http.send(&request)
        };
        let role = get(&roles)?;
        let role = role.lines().next().unwrap_or_default().trim().to_owned();
        of_json(&get(&format!("{roles}{role}"))?, "the metadata service")
    };
    ask().inspect_err(|failure| tracing::debug!("{failure}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_profiles() {
        let text = "[default]\nregion = x\n; a comment\n[profile team]\naws_access_key_id=AKID\nempty=\n";
        assert_eq!(setting(text, "profile team", "aws_access_key_id").as_deref(), Some("AKID"));
        assert_eq!(setting(text, "default", "aws_access_key_id"), None);
        assert_eq!(setting(text, "profile team", "empty"), None);
    }
}
