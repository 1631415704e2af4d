//! Other places from which the images of a registry may be read: mirrors, as Docker, the containers libraries and pack
//! are told of them. Nothing is ever written to a mirror.

mod files;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::{DOCKER_HUB, Reference};

/// Settings of mirrors that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MirrorsError {
    /// The file cannot be read.
    #[error("cannot read the registry settings in `{path}`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the registry settings in `{path}` are not valid")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A place that is no registry.
    #[error("`{location}` is not a mirror: it has to be HOST[:PORT][/PATH]")]
    Location {
        /// What was given.
        location: String,
    },
}

/// Which mirrors there are for which images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors {
    /// Those of one origin each: the longest prefix in each counts.
    groups: Vec<Vec<Rule>>,
}

/// What is set for the names that start with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// `*`, `*.example.com`, or the start of a name: `docker.io`, `docker.io/library`.
    prefix: String,
    /// What stands in place of the prefix, for the registry itself.
    location: Option<Place>,
    is_blocked: bool,
    /// In their order.
    mirrors: Vec<Mirror>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    place: Place,
    serves: Serves,
}

/// The start of names: `HOST[:PORT][/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    location: String,
    is_insecure: bool,
}

/// Which references a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    All,
    Digests,
    Tags,
}

impl Mirrors {
    /// Mirrors by registry (`*` for all), as in pack's `registry-mirrors`.
    ///
    /// # Errors
    /// When a mirror is not a place of images.
    pub fn of_registries<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, MirrorsError> {
        let rule = |(registry, mirror)| {
            let mirrors = vec![Mirror { place: Place::parse(mirror, false)?, serves: Serves::All }];
            Ok(Rule { prefix: canonical(registry), location: None, is_blocked: false, mirrors })
        };
        let rules = pairs.into_iter().map(rule).collect::<Result<_, MirrorsError>>()?;
        Ok(Self { groups: vec![rules] })
    }

    /// Those of `self` first, then others.
    #[must_use]
    pub fn then(mut self, others: Self) -> Self {
        self.groups.extend(others.groups);
        self
    }

    /// The rule of each group for an image, the longest prefix in each.
    fn rules<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.groups.iter().filter_map(move |group| {
            let matching = group.iter().filter(|rule| rule.matches(name));
            matching.max_by_key(|rule| rule.prefix.len())
        })
    }

    /// Where an image is looked for, one place after the other; the last is the registry itself.
    pub(super) fn sources(&self, reference: &Reference) -> Sources {
        let name = reference.name();
        let mut sources = Sources { mirrors: Vec::new(), origin: reference.clone(), is_blocked: false };
        for rule in self.rules(&name) {
            let serving = rule.mirrors.iter().filter(|mirror| match mirror.serves {
                Serves::All => true,
                Serves::Digests => reference.digest().is_some(),
                Serves::Tags => reference.digest().is_none(),
            });
            sources.mirrors.extend(serving.filter_map(|mirror| rule.moved(reference, &mirror.place)));
            if let Some(origin) = rule.location.as_ref().and_then(|place| rule.moved(reference, place)) {
                sources.origin = origin;
            }
            sources.is_blocked |= rule.is_blocked;
        }
        sources.mirrors.retain(|mirror| *mirror != sources.origin);
        sources
    }

    /// The hosts for which no TLS is wanted.
    pub(super) fn insecure(&self) -> impl Iterator<Item = String> {
        let places = self
            .groups
            .iter()
            .flatten()
            .flat_map(|rule| rule.mirrors.iter().map(|mirror| &mirror.place).chain(&rule.location));
        places.filter(|place| place.is_insecure).map(|place| place.host().to_owned())
    }
}

/// Where an image is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) mirrors: Vec<Reference>,
    pub(super) origin: Reference,
    /// Whether the settings forbid the image.
    pub(super) is_blocked: bool,
}

impl Rule {
    fn matches(&self, name: &str) -> bool {
        if self.prefix == "*" {
            return true;
        }
        if let Some(suffix) = self.prefix.strip_prefix('*') {
            let (host, _) = name.split_once('/').unwrap_or((name, ""));
            return host.ends_with(suffix);
        }
        let rest = name.strip_prefix(self.prefix.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The reference with the place instead of the prefix. A wildcard stands for the whole registry.
    fn moved(&self, reference: &Reference, place: &Place) -> Option<Reference> {
        let name = reference.name();
        let rest = match self.prefix.starts_with('*') {
            true => name.strip_prefix(reference.registry())?,
            false => name.strip_prefix(self.prefix.as_str())?,
        };
        let mut text = format!("{}{rest}", place.location);
        if let Some(tag) = reference.tag() {
            text.push_str(&format!(":{tag}"));
        }
        if let Some(digest) = reference.digest() {
            text.push_str(&format!("@{digest}"));
        }
        text.parse().ok()
    }
}

impl Place {
    fn parse(location: &str, is_insecure: bool) -> Result<Self, MirrorsError> {
        let invalid = || MirrorsError::Location { location: location.to_owned() };
        let (bare, is_plain) = match location.split_once("://") {
            Some(("https", rest)) => (rest, false),
            Some(("http", rest)) => (rest, true),
            Some(_) => return Err(invalid()),
            None => (location, false),
        };
        let place =
            Self { location: canonical(bare.trim_end_matches('/')), is_insecure: is_insecure || is_plain };
        // A name below it has to be on that host, and not on Docker Hub.
        match format!("{}/name", place.location).parse::<Reference>() {
            Ok(name) if name.registry() == place.host() => Ok(place),
            _ => Err(invalid()),
        }
    }

    fn host(&self) -> &str {
        self.location.split('/').next().unwrap_or_default()
    }
}

/// Docker Hub under the name that references have.
fn canonical(place: &str) -> String {
    let (host, rest) = place.split_once('/').map_or((place, None), |(host, rest)| (host, Some(rest)));
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { DOCKER_HUB } else { host };
    rest.map_or_else(|| host.to_owned(), |rest| format!("{host}/{rest}"))
}

/// Mirrors that failed are not asked again by the same program.
#[derive(Debug, Default)]
pub(super) struct Failed(Mutex<HashSet<String>>);

impl Failed {
    pub(super) fn has(&self, mirror: &Reference) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(mirror.registry())
    }

    /// Whether this is news.
    pub(super) fn note(&self, mirror: &Reference) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(mirror.registry().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(mirrors: &Mirrors, reference: &str) -> Vec<String> {
        let sources = mirrors.sources(&reference.parse().unwrap());
        sources.mirrors.iter().chain([&sources.origin]).map(ToString::to_string).collect()
    }

    #[test]
    fn mirrors_of_registries() {
        let pairs = [
            ("index.docker.io", "mirror.example:5000/hub/"),
            ("*", "http://10.0.0.1"),
            ("own.example", "own.example"),
        ];
        let mirrors = Mirrors::of_registries(pairs).unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        let table = [
            ("debian:12", vec!["mirror.example:5000/hub/library/debian:12", "docker.io/library/debian:12"]),
            ("ghcr.io/a/b:1", vec!["10.0.0.1/a/b:1", "ghcr.io/a/b:1"]),
            ("own.example/a", vec!["own.example/a"]),
            ("docker.io.example/a", vec!["10.0.0.1/a", "docker.io.example/a"]),
        ];
        for (reference, expected) in table {
            assert_eq!(places(&mirrors, reference), expected, "{reference}");
        }
        let by_digest = places(&mirrors, &format!("ghcr.io/a/b@{digest}"));
        assert_eq!(by_digest[0], format!("10.0.0.1/a/b@{digest}"));
        assert_eq!(mirrors.insecure().collect::<Vec<_>>(), ["10.0.0.1"]);
        for invalid in ["ftp://mirror.example", "mirror", "", "a b"] {
            assert!(Mirrors::of_registries([("*", invalid)]).is_err(), "{invalid}");
        }
    }
}
