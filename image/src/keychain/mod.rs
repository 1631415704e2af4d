//! Credentials of registries, from where Docker, Podman and the CNB platform spec keep them.
//!
//! In this order, the first that knows the registry wins: `CNB_REGISTRY_AUTH` (platform spec, "Registry
//! Authentication"), `REGISTRY_AUTH_FILE` or Podman's `auth.json`, Docker's `config.json` with its helpers, what the cloud
//! gives whose registry it is.

mod ambient;
mod auth_file;
mod credential;
mod helper;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ambient::Ambient;
use auth_file::{AuthFile, HUB_KEY, Helper};
pub use credential::{Credential, Secret};

/// Why credentials could not be looked up. No variant holds any of them.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// A credential file could not be read.
    #[error("cannot read the credential file `{path}`")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A credential file or variable is not the JSON it should be.
    #[error(
        "{origin} is not valid at line {line}, column {column}; expected JSON of registries and credentials"
    )]
    Json {
        /// The file or variable.
        origin: String,
        /// The line of the error.
        line: usize,
        /// The column of the error.
        column: usize,
    },
    /// The credential of one registry is not one.
    #[error("the credential for `{key}` in {origin} is not valid; expected {expected}")]
    Value {
        /// The file or variable.
        origin: String,
        /// The registry as written there.
        key: String,
        /// What would be valid.
        expected: &'static str,
    },
    /// A credential helper failed.
    #[error("the credential helper `{helper}` did not give a credential for `{server}`: {reason}")]
    Helper {
        /// Its program.
        helper: String,
        /// The registry it was asked for.
        server: String,
        /// Why.
        reason: String,
    },
    /// A credential helper could not be started.
    #[error(
        "cannot run the credential helper `{helper}` for `{server}`; install it or remove it from the credential file"
    )]
    HelperStart {
        /// Its program.
        helper: String,
        /// The registry it was to be asked for.
        server: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What a credential is wanted for.
pub(crate) struct Lookup<'a> {
    pub(crate) registry: &'a str,
    pub(crate) repository: &'a str,
}

/// Where credentials are looked up.
#[derive(Debug, Default)]
pub struct Keychain {
    /// `CNB_REGISTRY_AUTH`, parsed: the header value by registry.
    headers: BTreeMap<String, Secret>,
    files: Vec<(PathBuf, AuthFile)>,
    /// Helpers are programs, may ask a person, and are run once per registry.
    helped: Mutex<HashMap<(String, String), Option<Credential>>>,
    ambient: Option<Ambient>,
}

impl Keychain {
    /// A keychain without any credential.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The keychain of this process's environment and user.
    ///
    /// # Errors
    /// When a file that exists cannot be read, or a file or variable is not valid.
    pub fn from_environment() -> Result<Self, KeychainError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// The keychain of the environment that `variable` gives.
    ///
    /// # Errors
    /// When a file that exists cannot be read, or a file or variable is not valid.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, KeychainError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut keychain = Self::empty();
        if let Some(json) = variable("CNB_REGISTRY_AUTH") {
            keychain.headers = parse_headers(&json.to_string_lossy())?;
        }
        for path in file_paths(&variable) {
            keychain.add_file(&path)?;
        }
        keychain.ambient = Some(Ambient::new(variable));
        Ok(keychain)
    }

    /// Also looks into a credential file, after all others; a file that does not exist is like an empty one.
    ///
    /// # Errors
    /// When the file cannot be read or is not valid.
    pub fn add_file(&mut self, path: &Path) -> Result<(), KeychainError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(KeychainError::File { path: path.to_owned(), source }),
        };
        // `podman login` creates empty files.
        if !text.trim_ascii().is_empty() {
            self.files.push((path.to_owned(), AuthFile::parse(&text, path)?));
        }
        Ok(())
    }

    /// Whether a credential may be known for some repository of the registry. Nobody is asked for it yet.
    pub(crate) fn may_know(&self, registry: &str) -> bool {
        auth_file::names_host(self.headers.keys(), registry)
            || self.files.iter().any(|(_, file)| file.may_know(registry))
            || self.ambient.as_ref().is_some_and(|ambient| ambient.may_know(registry))
    }

    /// The credential for a repository of a registry, [`Credential::Anonymous`] when none is known.
    ///
    /// # Errors
    /// When the credential that is configured is not valid or its helper fails.
    pub fn credential(&self, registry: &str, repository: &str) -> Result<Credential, KeychainError> {
        let lookup = Lookup { registry, repository };
        if let Some((key, header)) = auth_file::best_match(&self.headers, &lookup) {
            return parse_header(key, header);
        }
        for (path, file) in &self.files {
            if let Some(credential) = self.in_file(path, file, &lookup)? {
                return Ok(credential);
            }
        }
        let ambient = self.ambient.as_ref().and_then(|ambient| ambient.credential(registry));
        Ok(ambient.unwrap_or(Credential::Anonymous))
    }

    fn in_file(
        &self,
        path: &Path,
        file: &AuthFile,
        lookup: &Lookup<'_>,
    ) -> Result<Option<Credential>, KeychainError> {
        let helped = match file.helper(lookup) {
            Some(Helper::Own(name)) => self.helped(name, lookup.registry)?,
            Some(Helper::Store(name)) => self.helped(name, lookup.registry).or_else(|error| {
                // One broken store must not stop the use of registries that need no credential.
                tracing::warn!("{error} (credsStore of `{}`)", path.display());
                Ok(None)
            })?,
            None => None,
        };
        if helped.is_some() {
            return Ok(helped);
        }
        file.entry(lookup).map_err(|key| KeychainError::Value {
            origin: format!("`{}`", path.display()),
            key,
            expected: "base64 of `user:password` in `auth`",
        })
    }

    fn helped(&self, name: &str, registry: &str) -> Result<Option<Credential>, KeychainError> {
        let server = if registry == crate::DOCKER_HUB { HUB_KEY } else { registry };
        let key = (name.to_owned(), server.to_owned());
        // Held while the helper runs, so that a person is asked once.
        let mut known = self.helped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(credential) = known.get(&key) {
            return Ok(credential.clone());
        }
        let credential = helper::ask(name, server)?;
        known.insert(key, credential.clone());
        Ok(credential)
    }
}

/// The files that may hold credentials, in order of precedence.
fn file_paths(variable: &impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let below = |name: &str, rest: &str| variable(name).map(|directory| PathBuf::from(directory).join(rest));
    let mut paths = Vec::new();
    if let Some(path) = variable("REGISTRY_AUTH_FILE") {
        paths.push(PathBuf::from(path));
    } else {
        paths.extend(below("XDG_RUNTIME_DIR", "containers/auth.json"));
        paths.extend(
            below("XDG_CONFIG_HOME", "containers/auth.json")
                .or_else(|| below("HOME", ".config/containers/auth.json")),
        );
    }
    paths.extend(below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json")));
    paths
}

const VARIABLE: &str = "CNB_REGISTRY_AUTH";

fn parse_headers(json: &str) -> Result<BTreeMap<String, Secret>, KeychainError> {
    let headers: BTreeMap<String, String> = serde_json::from_str(json).map_err(|error| {
        KeychainError::Json { origin: VARIABLE.to_owned(), line: error.line(), column: error.column() }
    })?;
    Ok(headers.into_iter().map(|(registry, header)| (registry, Secret::new(header))).collect())
}

fn parse_header(key: &str, header: &Secret) -> Result<Credential, KeychainError> {
    let invalid = || KeychainError::Value {
        origin: VARIABLE.to_owned(),
        key: key.to_owned(),
        expected: "`Basic BASE64`, `Bearer TOKEN` or `X-Identity TOKEN`",
    };
    let (scheme, value) = header.expose().trim().split_once(' ').ok_or_else(invalid)?;
    let value = value.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => auth_file::decode_basic(value).ok_or_else(invalid),
        "bearer" => Ok(Credential::BearerToken(Secret::new(value))),
        "x-identity" => Ok(Credential::IdentityToken(Secret::new(value))),
        _ => Err(invalid()),
    }
}
