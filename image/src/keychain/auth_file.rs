//! The credential files of Docker (`config.json`) and Podman (`auth.json`): one format with two dialects of keys.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::{Credential, KeychainError, Lookup, Secret};

/// The key of Docker Hub in Docker's files and helpers.
pub(super) const HUB_KEY: &str = "https://index.docker.io/v1/";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// Which helper program a file names for a registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Helper<'a> {
    /// For this registry alone: it must work.
    Own(&'a str),
    /// For all registries: it may know nothing of this one.
    Store(&'a str),
}

impl AuthFile {
    /// Parses a file's text. Errors give the place alone: the text holds secrets.
    pub(super) fn parse(text: &[u8], path: &Path) -> Result<Self, KeychainError> {
        serde_json::from_slice(text).map_err(|error| KeychainError::Json {
            origin: format!("`{}`", path.display()),
            line: error.line(),
            column: error.column(),
        })
    }

    /// Whether it may have a credential for some repository of the registry.
    pub(super) fn may_know(&self, registry: &str) -> bool {
        !self.creds_store.is_empty()
            || names_host(self.auths.keys(), registry)
            || names_host(self.cred_helpers.keys(), registry)
    }

    pub(super) fn helper(&self, lookup: &Lookup<'_>) -> Option<Helper<'_>> {
        let own = best_match(&self.cred_helpers, lookup).map(|(_, name)| Helper::Own(name.as_str()));
        own.or_else(|| (!self.creds_store.is_empty()).then_some(Helper::Store(self.creds_store.as_str())))
    }

    pub(super) fn entry(&self, lookup: &Lookup<'_>) -> Result<Option<Credential>, String> {
        best_match(&self.auths, lookup)
            .map_or(Ok(None), |(key, entry)| entry.credential().map_err(|()| key.to_owned()))
    }
}

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, ()> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::IdentityToken(Secret::new(self.identitytoken.as_str()))));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::BearerToken(Secret::new(self.registrytoken.as_str()))));
        }
        if !self.auth.is_empty() {
            return decode_basic(&self.auth).map(Some).ok_or(());
        }
        Ok((!self.username.is_empty()).then(|| Credential::password(&self.username, &self.password)))
    }
}

/// Base64 of `user:password`, with or without padding.
pub(super) fn decode_basic(text: &str) -> Option<Credential> {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    let decoded = String::from_utf8(engine.decode(text.trim()).ok()?).ok()?;
    // Docker ends some passwords with NUL bytes.
    let (username, password) = decoded.trim_end_matches('\0').split_once(':')?;
    Some(Credential::password(username, password))
}

/// The entry whose key names the registry and the longest leading part of the repository.
pub(super) fn best_match<'a, T>(
    entries: &'a BTreeMap<String, T>,
    lookup: &Lookup<'_>,
) -> Option<(&'a str, &'a T)> {
    let name = format!("{}/{}", lookup.registry, lookup.repository);
    entries
        .iter()
        .map(|(key, value)| (normalise(key), key, value))
        .filter(|(normal, ..)| {
            name.strip_prefix(normal.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
        .max_by_key(|(normal, ..)| normal.len())
        .map(|(_, key, value)| (key.as_str(), value))
}

/// Whether one of the keys is about the registry, or a part of it.
pub(super) fn names_host<'a>(mut keys: impl Iterator<Item = &'a String>, registry: &str) -> bool {
    keys.any(|key| normalise(key).split('/').next() == Some(registry))
}

/// `https://host/v1/` and `host` are the same key; Docker Hub has several names.
fn normalise(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key.split_once('/').map_or((key, ""), |(host, path)| (host, path)) {
        ("index.docker.io" | "registry-1.docker.io" | "docker.io", "") => crate::DOCKER_HUB.to_owned(),
        ("index.docker.io" | "registry-1.docker.io", path) => format!("{}/{path}", crate::DOCKER_HUB),
        _ => key.to_owned(),
    }
}
