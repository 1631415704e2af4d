//! What is known of registries before they are asked: data in `profiles.toml`, each fact with its source.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::ManifestFormat;

/// The largest chunk where nothing else is known: what the strictest registry takes.
const CHUNK_BYTES: u64 = 4 << 20;

/// A registry that is known.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Profile {
    name: String,
    hosts: Vec<String>,
    chunks: Option<Sourced<Chunks>>,
    streams: Option<Sourced<bool>>,
    chunk_bytes: Option<Sourced<u64>>,
    whole_bytes: Option<Sourced<u64>>,
    referrers: Option<Sourced<bool>>,
    deletes: Option<Sourced<bool>>,
    oci: Option<Sourced<bool>>,
    docker: Option<Sourced<bool>>,
    facts: Vec<Fact>,
}

/// Something that people should know about a registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// What it is.
    pub says: String,
    /// Where it is known from.
    pub source: String,
}

/// A value that the client acts on, and where it is known from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sourced<T> {
    value: T,
    // For those who read the data; that it is there is what matters.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by people and tests"))]
    source: String,
}

/// Whether a blob may be sent in several requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Chunks {
    Allowed,
    Never,
}

#[derive(Deserialize)]
struct File {
    registry: Vec<Profile>,
}

impl Profile {
    /// All registries that are known, in the order of the data.
    #[must_use]
    pub fn all() -> &'static [Self] {
        static ALL: OnceLock<Vec<Profile>> = OnceLock::new();
        // A test reads the file: it is part of the program, and the same wherever that runs.
        ALL.get_or_init(|| {
            let parsed = toml::from_str::<File>(include_str!("profiles.toml"));
            parsed.map(|file| file.registry).unwrap_or_default()
        })
    }

    /// The profile of the registry at `HOST[:PORT]`, if it is known.
    #[must_use]
    pub fn of(registry: &str) -> Option<&'static Self> {
        let host = registry.rsplit_once(':').map_or(registry, |(host, _port)| host).to_ascii_lowercase();
        Self::all().iter().find(|profile| profile.hosts.iter().any(|pattern| is_host(pattern, &host)))
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it takes manifests of the family, as far as is known.
    #[must_use]
    pub fn takes(&self, format: ManifestFormat) -> bool {
        let known = match format {
            ManifestFormat::Oci => &self.oci,
            ManifestFormat::Docker => &self.docker,
        };
        known.as_ref().is_none_or(|known| known.value)
    }

    /// Whether it has a referrers API; `None` when that is not known.
    #[must_use]
    pub fn has_referrers(&self) -> Option<bool> {
        self.referrers.as_ref().map(|known| known.value)
    }

    /// Whether it deletes manifests; `None` when that is not known.
    #[must_use]
    pub fn deletes(&self) -> Option<bool> {
        self.deletes.as_ref().map(|known| known.value)
    }

    /// What else is known.
    #[must_use]
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }
}

fn is_host(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// In what portions a registry takes blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portions {
    /// Whether several requests may carry one blob.
    pub(super) chunks_allowed: bool,
    /// Whether a request may carry a blob that is still being made, and so has no length.
    pub(super) streams: bool,
    /// The largest of these.
    pub(super) chunk: u64,
    /// The largest blob that is sent in one request.
    pub(super) whole: u64,
}

impl Portions {
    pub(super) fn of(registry: &str) -> Self {
        let profile = Profile::of(registry);
        let number = |value: Option<&Sourced<u64>>, default| value.map_or(default, |known| known.value);
        Self {
            chunks_allowed: !profile
                .and_then(|known| known.chunks.as_ref())
                .is_some_and(|chunks| chunks.value == Chunks::Never),
            streams: profile.and_then(|known| known.streams.as_ref()).is_none_or(|known| known.value),
            chunk: number(profile.and_then(|known| known.chunk_bytes.as_ref()), CHUNK_BYTES),
            whole: number(profile.and_then(|known| known.whole_bytes.as_ref()), u64::MAX),
        }
    }

    /// Whether a blob goes in chunks from the start; `asked` when the registry refused one in one piece before.
    pub(super) fn splits(self, length: u64, asked: bool) -> bool {
        self.chunks_allowed && length > self.chunk && (asked || length > self.whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_is_valid_and_has_sources() {
        let file: File = toml::from_str(include_str!("profiles.toml")).unwrap();
        assert_eq!(file.registry.len(), Profile::all().len());
        for profile in &file.registry {
            let booleans =
                [&profile.streams, &profile.referrers, &profile.deletes, &profile.oci, &profile.docker];
            let mut sources: Vec<&str> =
                booleans.into_iter().flatten().map(|known| known.source.as_str()).collect();
            sources.extend(profile.chunks.as_ref().map(|known| known.source.as_str()));
            let numbers = [&profile.chunk_bytes, &profile.whole_bytes];
            sources.extend(numbers.into_iter().flatten().map(|known| known.source.as_str()));
            sources.extend(profile.facts.iter().map(|fact| fact.source.as_str()));
            assert!(!sources.is_empty() && sources.iter().all(|source| source.len() > 5), "{}", profile.name);
        }
    }

    #[test]
    fn registries_are_known_by_their_hosts() {
        let table = [
            ("ghcr.io", Some("GitHub Container Registry")),
            ("ghcr.io:443", Some("GitHub Container Registry")),
            ("docker.io", Some("Docker Hub")),
            ("europe-docker.pkg.dev", Some("Google Artifact Registry")),
            ("123.dkr.ecr.eu-west-1.amazonaws.com", Some("Amazon ECR")),
            ("team.azurecr.io", Some("Azure Container Registry")),
            ("pkg.dev", None),
            ("ghcr.io.example.com", None),
            ("127.0.0.1:5000", None),
        ];
        for (host, expected) in table {
            assert_eq!(Profile::of(host).map(Profile::name), expected, "{host}");
        }
    }

    #[test]
    fn blobs_are_not_sent_while_they_are_made_where_a_request_needs_a_length() {
        let table = [
            ("europe-docker.pkg.dev", false),
            ("gcr.io", false),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", false),
            ("ghcr.io", false),
            ("team.azurecr.io", false),
            ("docker.io", true),
            ("registry.fly.io", true),
            ("registry.example", true),
        ];
        for (host, expected) in table {
            let portions = Portions::of(host);
            assert_eq!(portions.streams && portions.chunks_allowed, expected, "{host}");
        }
    }

    #[test]
    fn blobs_are_split_where_registries_want_it() {
        const MIB: u64 = 1 << 20;
        // Registry, length, whether it asked for chunks before, whether there are chunks.
        let table = [
            ("europe-docker.pkg.dev", 100 * MIB, true, false),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", 100 * MIB, true, false),
            ("ghcr.io", 100 * MIB, false, false),
            ("ghcr.io", 100 * MIB, true, true),
            ("ghcr.io", 4 * MIB, true, false),
            ("team.azurecr.io", 100 * MIB, false, true),
            ("team.azurecr.io", 10 * MIB, false, false),
            ("registry.example", 100 * MIB, false, false),
            ("registry.example", 100 * MIB, true, true),
        ];
        for (host, length, asked, expected) in table {
            assert_eq!(Portions::of(host).splits(length, asked), expected, "{host} {length} {asked}");
        }
    }
}
