//! How an image is identified in files and labels.

use longshore_image::{Digest, Image, Reference};

/// How images are identified in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identify {
    /// By digest references: registries, layouts and the local store.
    ByDigest,
    /// By image ids: daemons.
    ByImageId,
}

/// What identifies an image, for `analyzed.toml` and labels.
pub(crate) fn identifier(image: &Image, identify: Identify) -> String {
    match identify {
        Identify::ByDigest => digest_reference(&image.reference, image.manifest.digest()),
        Identify::ByImageId => image.config.image_id().to_string(),
    }
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
