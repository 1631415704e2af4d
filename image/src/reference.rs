//! References: the names of images, as Docker and the distribution spec write them.
//!
//! `app`, `team/app:v1`, `localhost:5000/app@sha256:...`: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`. A name without a
//! registry is on Docker Hub, where a repository of one component stands under `library/`.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// Docker Hub's name in references.
pub const DOCKER_HUB: &str = "docker.io";

/// A text that is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {reason}")]
pub struct InvalidReference {
    /// What was given.
    pub text: String,
    /// Which rule it breaks.
    pub reason: &'static str,
}

/// The name of an image: registry, repository, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host and port: `docker.io`, `localhost:5000`, `[::1]:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry: `library/debian`, `team/app`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag as given; see [`Reference::tag_or_latest`].
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest as given.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The tag, `latest` where none was given.
    #[must_use]
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// What the distribution protocol calls `<reference>`: the digest if there is one, else the tag.
    #[must_use]
    pub fn identifier(&self) -> String {
        self.digest.map_or_else(|| self.tag_or_latest().to_owned(), |digest| digest.to_string())
    }

    /// `REGISTRY/REPOSITORY`, without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository at another tag, without a digest.
    #[must_use]
    pub fn with_tag(&self, tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() }
    }

    /// The same repository at a digest, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Whether both name the same repository of the same registry.
    #[must_use]
    pub fn same_repository(&self, other: &Self) -> bool {
        self.registry == other.registry && self.repository == other.repository
    }

    /// The way people write it: without `docker.io/library/`, and without a default tag.
    #[must_use]
    pub fn familiar(&self) -> String {
        let text = self.to_string();
        let short = text.strip_prefix("docker.io/").unwrap_or(&text);
        let shortest = short.strip_prefix("library/").unwrap_or(short);
        // `docker.io/a.b/c` is not `a.b/c`: what is written has to be read as the same name.
        let is_same = |short: &&str| short.parse().as_ref() == Ok(self);
        [shortest, short].into_iter().find(is_same).unwrap_or(&text).to_owned()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(formatter, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = |reason| InvalidReference { text: text.chars().take(300).collect(), reason };
        let (rest, digest) =
            match text.split_once('@') {
                Some((rest, digest)) => {
                    let digest = digest.parse().ok();
                    (
                        rest,
                        Some(digest.ok_or_else(|| {
                            invalid("its digest is not `sha256:` and 64 hexadecimal digits")
                        })?),
                    )
                }
                None => (text, None),
            };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') && !tag.ends_with(']') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("its tag is not up to 128 letters, digits, `_`, `.` and `-`"));
        }
        let (registry, path) = split_registry(name);
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
            other => other,
        };
        let library = registry == DOCKER_HUB && !path.contains('/');
        let repository = if library { format!("library/{path}") } else { path.to_owned() };
        // What stands in front of it counts too: the full name has to be one (found by fuzzing).
        if path.is_empty() || repository.len() > 255 || !path.split('/').all(is_component) {
            return Err(invalid(
                "its repository is not lower-case letters and digits, joined by `.`, `_`, `__`, `-` and `/`",
            ));
        }
        if !is_registry(registry) {
            return Err(invalid("its registry is not a host name with an optional port"));
        }
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }
}

/// The first component is a registry when it has a dot or a colon, is `localhost`, or has upper-case letters.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, path))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.contains(|c: char| c.is_ascii_uppercase()) =>
        {
            (first, path)
        }
        _ => (DOCKER_HUB, name),
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag
            .bytes()
            .enumerate()
            .all(|(index, byte)| word(byte) || (index > 0 && matches!(byte, b'.' | b'-')))
}

fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = bytes
        .first()
        .zip(bytes.last())
        .is_some_and(|(first, last)| alphanumeric(*first) && alphanumeric(*last));
    ends && component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    })
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let port_is_valid = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let host_is_valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.split('.').all(|label| {
                    let bytes = label.as_bytes();
                    !bytes.is_empty()
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
                })
        }
    };
    port_is_valid && host_is_valid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        let table = [
            ("app", "docker.io/library/app"),
            ("app:v1", "docker.io/library/app:v1"),
            ("team/app", "docker.io/team/app"),
            ("index.docker.io/team/app", "docker.io/team/app"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/app", "localhost:5000/app"),
            ("127.0.0.1:5000/a/b/c:x.Y_z-1", "127.0.0.1:5000/a/b/c:x.Y_z-1"),
            ("[::1]:5000/app", "[::1]:5000/app"),
            ("ghcr.io/a/b__c-d---e.f", "ghcr.io/a/b__c-d---e.f"),
        ];
        for (text, expected) in table {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), expected);
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
        let digest = Digest::of(b"");
        let both: Reference = format!("localhost:1/a:t@{digest}").parse().unwrap();
        assert_eq!(
            (both.tag(), both.digest(), both.identifier()),
            (Some("t"), Some(digest), digest.to_string())
        );
        assert_eq!("docker.io/library/app:v1".parse::<Reference>().unwrap().familiar(), "app:v1");
    }

    #[test]
    fn familiar_names_are_read_as_the_same() {
        let table = [
            ("docker.io/library/app", "app"),
            ("docker.io/team/app:v1", "team/app:v1"),
            ("ghcr.io/library/app", "ghcr.io/library/app"),
            // Found by fuzzing: these lost their registry, or became one of Docker Hub's own images.
            ("docker.io/a.b/c", "docker.io/a.b/c"),
            ("docker.io/localhost/c", "docker.io/localhost/c"),
            ("docker.io/library/team/app", "library/team/app"),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Reference>().unwrap().familiar(), expected);
        }
    }

    #[test]
    fn what_is_not_a_reference_is_refused() {
        let long = format!("a:{}", "t".repeat(129));
        let long_name = "a".repeat(248);
        for text in [
            "",
            "/",
            "a//b",
            "A",
            "a:",
            "a:-x",
            "a@sha256:1",
            "-a.com/b",
            "a.com:99999/b",
            "a/../b",
            "a_-b",
            &long,
            &long_name,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
