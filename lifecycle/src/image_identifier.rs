//! How an image is identified in files and labels.

use std::path::Path;

use longshore_image::{Digest, Image, InvalidReference, LayoutDirectory, Reference};

/// How images are identified in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identify {
    /// By digest references: registries and the local store.
    ByDigest,
    /// By image ids: daemons.
    ByImageId,
    /// By the path of a layout, and the digest behind it.
    ByPath(LayoutDirectory),
}

impl Identify {
    /// Whether one image may have names on several registries: only in a daemon, where they are mere names.
    pub(crate) const fn mixes_registries(&self) -> bool {
        matches!(self, Self::ByImageId)
    }

    /// The image that `analyzed.toml` identifies.
    pub(crate) fn parse(&self, text: &str) -> Result<Reference, InvalidReference> {
        let layouts = match self {
            Self::ByPath(layouts) => layouts,
            Self::ByImageId if is_image_id(text) => return format!("sha256:{text}").parse(),
            Self::ByImageId | Self::ByDigest => return text.parse(),
        };
        let path = text.rsplit_once('@').map_or(text, |(path, _digest)| path);
        match layouts.reference_of(Path::new(path)) {
            Some(reference) => Ok(reference),
            None => text.parse(),
        }
    }
}

/// What identifies an image, for `analyzed.toml` and labels.
pub(crate) fn identifier(image: &Image, identify: &Identify) -> String {
    let digest = image.manifest.digest();
    match identify {
        Identify::ByDigest => digest_reference(&image.reference, digest),
        // The digits alone, as in the reference.
        Identify::ByImageId => image.config.image_id().hex(),
        Identify::ByPath(layouts) => format!("{}@{digest}", layouts.path_of(&image.reference).display()),
    }
}

fn is_image_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A digest reference as the reference lifecycle writes it: Docker Hub is `index.docker.io` there.
fn digest_reference(reference: &Reference, digest: Digest) -> String {
    let name = reference.with_digest(digest).to_string();
    match name.strip_prefix("docker.io/") {
        Some(rest) => format!("index.docker.io/{rest}"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_back() {
        let identify = Identify::ByPath(LayoutDirectory::new("/layouts"));
        let text = format!("/layouts/index.docker.io/library/run/1@{}", Digest::of(b""));
        assert_eq!(identify.parse(&text).unwrap().familiar(), "run:1");
        assert!(identify.parse("/elsewhere/run/1").is_err());
        assert_eq!(Identify::ByDigest.parse("run:1").unwrap().familiar(), "run:1");
        let id = Digest::of(b"").hex();
        for text in [id.clone(), format!("sha256:{id}")] {
            assert_eq!(Identify::ByImageId.parse(&text).unwrap().tag(), Some(id.as_str()));
        }
    }

    #[test]
    fn digest_references_are_the_reference_lifecycles() {
        let digest = Digest::of(b"");
        for (name, expected) in [
            ("run", "index.docker.io/library/run"),
            ("paketo/run:tag", "index.docker.io/paketo/run"),
            ("localhost:5000/run", "localhost:5000/run"),
        ] {
            let reference: Reference = name.parse().unwrap();
            assert_eq!(digest_reference(&reference, digest), format!("{expected}@{digest}"));
        }
    }
}
