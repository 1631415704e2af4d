//! Images of cases, written by hand.

use std::collections::BTreeMap;
use std::path::Path;

use longshore_test_support::layout::{Files, Layout, digest, gzip};
use longshore_test_support::tiny::architecture;
use longshore_test_support::{FaultyRegistry, PulledImage};
use serde_json::{Value, json};

use super::case::ImageSpec;

/// Writes the image into a layout of its own.
pub(super) fn write(folder: &Path, spec: &ImageSpec) {
    let _ = Layout::open(folder).image("image", config(spec, &[]), &layers(spec));
    let blobs = std::fs::read_dir(folder.join("blobs/sha256")).expect("the blobs of the layout");
    for blob in blobs.map(|blob| blob.expect("a blob").path()).filter(|_| spec.sparse) {
        // What is no JSON is a layer.
        if std::fs::read(&blob).expect("a blob")[0] != b'{' {
            std::fs::remove_file(blob).expect("a layer that can be removed");
        }
    }
}

/// Puts the image into a registry.
pub(super) fn push(registry: &FaultyRegistry, repository: &str, tag: &str, spec: &ImageSpec) {
    let family = if spec.docker { "vnd.docker" } else { "vnd.oci" };
    let (manifest_type, config_type, layer_type) = if spec.docker {
        ("distribution.manifest.v2+json", "container.image.v1+json", "image.rootfs.diff.tar.gzip")
    } else {
        ("image.manifest.v1+json", "image.config.v1+json", "image.layer.v1.tar+gzip")
    };
    let descriptor = |kind: &str, bytes: &[u8]| {
        let digest = registry.put_blob(repository, bytes);
        json!({"mediaType": format!("application/{family}.{kind}"), "digest": digest, "size": bytes.len()})
    };
    let layers = layers(spec);
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let manifest_type = format!("application/{family}.{manifest_type}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": descriptor(config_type, config(spec, &diff_ids).to_string().as_bytes()),
        "layers": layers.iter().map(|layer| descriptor(layer_type, &gzip(layer))).collect::<Vec<_>>(),
    });
    registry.put_manifest(repository, tag, &manifest_type, manifest.to_string().as_bytes());
}

/// Puts an index of images into the registry, which has the images already.
pub(super) fn push_index(
    registry: &FaultyRegistry,
    repository: &str,
    tag: &str,
    images: impl Iterator<Item = PulledImage>,
) {
    let manifests = images.map(|image| {
        let bytes = registry.manifest(repository, &image.digest).expect("an image of the index");
        json!({
            "mediaType": image.manifest["mediaType"],
            "digest": image.digest,
            "size": bytes.len(),
            "platform": {"os": image.config["os"], "architecture": image.config["architecture"]},
        })
    });
    let media_type = "application/vnd.oci.image.index.v1+json";
    let manifests: Vec<Value> = manifests.collect();
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    registry.put_manifest(repository, tag, media_type, index.to_string().as_bytes());
}

fn layers(spec: &ImageSpec) -> Vec<Vec<u8>> {
    let default = [BTreeMap::from([("etc/os-release".to_owned(), "ID=tiny\nVERSION_ID=1\n".to_owned())])];
    let layers = if spec.layers.is_empty() { &default[..] } else { &spec.layers };
    let archive = |texts: &BTreeMap<String, String>| {
        let mut files = Files::default();
        for (path, text) in texts {
            files.file(path, 0o644, text.as_bytes());
        }
        files.archive()
    };
    layers.iter().map(archive).collect()
}

fn config(spec: &ImageSpec, diff_ids: &[String]) -> Value {
    let text = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    let mut config = json!({
        "created": "2024-05-06T07:08:09Z",
        "architecture": text(&spec.architecture, architecture()),
        "os": text(&spec.os, "linux"),
        "config": {
            "User": text(&spec.user, "1002:1000"),
            "Env": if spec.env.is_empty() { vec!["PATH=/usr/bin:/bin".to_owned()] } else { spec.env.clone() },
            "Labels": spec.labels,
            "WorkingDir": text(&spec.working_dir, "/"),
            "Entrypoint": spec.entrypoint,
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|_| json!({"created_by": "base"})).collect::<Vec<_>>(),
    });
    if let Some(variant) = &spec.variant {
        config["variant"] = json!(variant);
    }
    config
}
