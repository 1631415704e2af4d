//! What at least one registry refuses, and so is never sent to any.
//!
//! Distribution, ECR, ACR and Docker Hub want a configuration; GCR, ECR and others want layers; ICR fails on blobs without
//! bytes; Quay, ECR, GCR and Artifactory take no layers for children of an index; distribution takes 4 MiB.

use crate::{Descriptor, MANIFEST_LIMIT, Manifest, ManifestContent, MediaType};

/// Why some registry would refuse a manifest; that it has a configuration is in the type.
pub(super) fn refusal(manifest: &Manifest) -> Option<&'static str> {
    if manifest.raw().len() > MANIFEST_LIMIT {
        return Some("it has over 4 MiB");
    }
    match manifest.content() {
        ManifestContent::Image(image) if image.layers.is_empty() => Some("it has no layers"),
        ManifestContent::Image(image) => {
            let mut blobs = image.layers.iter().chain([&image.config]);
            blobs.find_map(refusal_of_blob)
        }
        ManifestContent::Index(index) => {
            let mut children = index.manifests.iter();
            let is_layer = |child: &Descriptor| matches!(child.media_type, MediaType::Layer(..));
            children.any(is_layer).then_some("it is an index of layers")
        }
    }
}

/// Why some registry would refuse a blob.
pub(super) fn refusal_of_blob(blob: &Descriptor) -> Option<&'static str> {
    (blob.size == 0).then_some("it has a blob without bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, ImageManifest, LayerFormat, ManifestFormat};

    fn blob(media_type: MediaType, size: u64) -> Descriptor {
        Descriptor::new(media_type, Digest::of(&size.to_le_bytes()), size)
    }

    fn layer(size: u64) -> Descriptor {
        blob(MediaType::Layer(ManifestFormat::Oci, LayerFormat::TarGzip), size)
    }

    fn image(config: u64, layers: Vec<Descriptor>) -> Manifest {
        let config = blob(MediaType::Config(ManifestFormat::Oci), config);
        Manifest::image(ImageManifest::new(ManifestFormat::Oci, config, layers))
    }

    fn index(child: &Descriptor) -> Manifest {
        let child = serde_json::to_string(child).unwrap();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{child}]}}"#);
        Manifest::parse(text.into(), None).unwrap()
    }

    #[test]
    fn what_some_registry_refuses() {
        let table = [
            (image(2, vec![layer(1)]), None),
            (image(2, vec![]), Some("it has no layers")),
            (image(0, vec![layer(1)]), Some("it has a blob without bytes")),
            (image(2, vec![layer(1), layer(0)]), Some("it has a blob without bytes")),
            (image(2, vec![layer(1); 40_000]), Some("it has over 4 MiB")),
            (index(&layer(1)), Some("it is an index of layers")),
            (index(&blob(MediaType::Manifest(ManifestFormat::Oci), 5)), None),
        ];
        for (manifest, expected) in table {
            assert_eq!(refusal(&manifest), expected);
        }
    }

    proptest::proptest! {
        /// Whatever an image is made of, it is sent if and only if every registry of the table takes it.
        #[test]
        fn sizes_decide(config in 0..3_u64, layers in proptest::collection::vec(0..3_u64, 0..4)) {
            let accepted = config > 0 && !layers.is_empty() && layers.iter().all(|size| *size > 0);
            let manifest = image(config, layers.into_iter().map(layer).collect());
            proptest::prop_assert_eq!(refusal(&manifest).is_none(), accepted);
        }
    }
}
