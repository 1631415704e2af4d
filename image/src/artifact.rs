//! Artifacts: other things than images in an image's place (image-spec `manifest.md`, "Guidelines for Artifact Usage").

use std::collections::BTreeMap;

use crate::{Descriptor, Digest, ImageManifest, Manifest, ManifestFormat, MediaType};

/// The bytes of the empty descriptor's blob.
pub const EMPTY: &[u8] = b"{}";

/// The empty descriptor, with its content in it (image-spec `manifest.md`, "Guidance for an Empty Descriptor").
#[must_use]
pub fn empty_descriptor() -> Descriptor {
    let mut empty = Descriptor::new(MediaType::Empty, Digest::of(EMPTY), EMPTY.len() as u64);
    empty.other.insert("data", "e30=");
    empty
}

/// The manifest of an artifact about `subject`. Without blobs it gets the empty one, since registries refuse an empty list
/// of layers.
#[must_use]
pub fn artifact(
    artifact_type: &str,
    mut blobs: Vec<Descriptor>,
    subject: &Descriptor,
    annotations: BTreeMap<String, String>,
) -> Manifest {
    if blobs.is_empty() {
        blobs.push(empty_descriptor());
    }
    let mut manifest = ImageManifest::new(ManifestFormat::Oci, empty_descriptor(), blobs);
    manifest.annotations = annotations;
    manifest.other.insert("artifactType", artifact_type);
    let subject = Descriptor::new(subject.media_type.clone(), subject.digest, subject.size);
    manifest.other.insert("subject", &subject);
    Manifest::image(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_has_all_that_registries_want() {
        let subject = Descriptor::new(MediaType::Manifest(ManifestFormat::Oci), Digest::of(b"image"), 5);
        let manifest = artifact("application/spdx+json", Vec::new(), &subject, BTreeMap::new());
        let empty = concat!(
            r#"{"mediaType":"application/vnd.oci.empty.v1+json","#,
            r#""digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","#,
            r#""size":2,"data":"e30="}"#
        );
        let expected = format!(
            concat!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{empty},"#,
                r#""layers":[{empty}],"artifactType":"application/spdx+json","#,
                r#""subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":5}}}}"#
            ),
            empty = empty,
            digest = subject.digest,
        );
        assert_eq!(std::str::from_utf8(manifest.raw()).unwrap(), expected);
    }
}
