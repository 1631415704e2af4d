//! Credentials that come with the place a program runs in: of Amazon, Microsoft and Google, for their own registries
//! alone, when nothing else names one.
//!
//! A registry is recognised by its name. What is found is sent to the endpoints of its cloud, and the password or token
//! that these give is for this registry. No error and no log line holds any of it.

mod acr;
mod aws;
mod ecr;
mod google;
mod http;
mod signature;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Http, Network};

use super::Credential;

/// The variables that are looked at.
const VARIABLES: [&str; 34] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_ECR",
    "AWS_ENDPOINT_URL_STS",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_TENANT_ID",
    "CLOUDSDK_CONFIG",
    "CNB_REGISTRY_AUTH_KEYCHAIN_SKIP_AMAZON",
    "CNB_REGISTRY_AUTH_KEYCHAIN_SKIP_AZURE",
    "CNB_REGISTRY_AUTH_KEYCHAIN_SKIP_GOOGLE",
    "GCE_METADATA_HOST",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "HOME",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "MSI_ENDPOINT",
    "XDG_CONFIG_HOME",
];

/// How long a password is used whose end is not told. Those of registries last for hours.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// The variables as they were at the start.
#[derive(Default)]
struct Environment(HashMap<&'static str, OsString>);

impl Environment {
    fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(|value| value.to_str()).map(str::to_owned)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).map(PathBuf::from)
    }

    /// A file below the home directory.
    fn at_home(&self, rest: &str) -> Option<PathBuf> {
        Some(self.path("HOME")?.join(rest))
    }

    fn is_true(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1")
    }
}

/// Why there is no credential although something was configured. It holds nothing secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

/// What was found: a credential, `None` when nothing is configured.
type Found<T> = Result<Option<T>, Failure>;

/// The cloud whose registry it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cloud {
    Amazon(ecr::Registry),
    Microsoft,
    Google,
}

impl Cloud {
    fn of(registry: &str) -> Option<Self> {
        if let Some(registry) = ecr::Registry::parse(registry) {
            return Some(Self::Amazon(registry));
        }
        if acr::is_registry(registry) {
            return Some(Self::Microsoft);
        }
        google::is_registry(registry).then_some(Self::Google)
    }

    const fn skip(&self) -> &'static str {
        match self {
            Self::Amazon(_) => "CNB_REGISTRY_AUTH_KEYCHAIN_SKIP_AMAZON",
            Self::Microsoft => "CNB_REGISTRY_AUTH_KEYCHAIN_SKIP_AZURE",
            Self::Google => "CNB_REGISTRY_AUTH_KEYCHAIN_SKIP_GOOGLE",
        }
    }
}

struct Known {
    credential: Option<Credential>,
    until: Instant,
}

/// The credentials of this place.
pub(super) struct Ambient {
    environment: Environment,
    http: Box<dyn Http>,
    /// By registry; held while one is asked for, so that it is asked for once.
    known: Mutex<HashMap<String, Known>>,
}

impl fmt::Debug for Ambient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ambient")
    }
}

impl Ambient {
    /// Those of an environment. Nobody is asked yet.
    pub(super) fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        Self::with(variable, Box::new(Network))
    }

    fn with(variable: impl Fn(&str) -> Option<OsString>, http: Box<dyn Http>) -> Self {
        let known = VARIABLES.into_iter().filter_map(|name| Some((name, variable(name)?)));
        let set = known.filter(|(_, value)| !value.is_empty());
        Self { environment: Environment(set.collect()), http, known: Mutex::default() }
    }

    fn cloud(&self, registry: &str) -> Option<Cloud> {
        Cloud::of(registry).filter(|cloud| !self.environment.is_true(cloud.skip()))
    }

    /// Whether there may be one for the registry.
    pub(super) fn may_know(&self, registry: &str) -> bool {
        self.cloud(registry).is_some()
    }

    /// The credential for a registry. What cannot be had is told, and the registry may let strangers in.
    pub(super) fn credential(&self, registry: &str) -> Option<Credential> {
        let cloud = self.cloud(registry)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(registry).filter(|known| known.until > Instant::now()) {
            return known.credential.clone();
        }
        let http = self.http.as_ref();
        let found = match &cloud {
            Cloud::Amazon(amazon) => ecr::credential(&self.environment, http, amazon),
            Cloud::Microsoft => acr::credential(&self.environment, http, registry),
            Cloud::Google => google::credential(&self.environment, http),
        };
        let credential = found.unwrap_or_else(|failure| {
            tracing::warn!(
                "no credential for `{registry}`: {failure}; {}=true says not to look for one",
                cloud.skip()
            );
            None
        });
        let until = Instant::now() + LIFETIME;
        known.insert(registry.to_owned(), Known { credential: credential.clone(), until });
        credential
    }
}
