//! Names are the last thing that is written, and each is tried.

use longshore_image::{Config, ImageManifest, Keychain, LayoutDirectory, Platform, Registry, RegistryConfig};
use longshore_test_support::registry::{Fault, FaultyRegistry};

use super::*;

fn image() -> (Manifest, Vec<Upload>) {
    let layer = Bytes::from(vec![0; 1024]);
    let media_type = MediaType::Layer(ManifestFormat::Oci, longshore_image::LayerFormat::Tar);
    let descriptor = Descriptor::new(media_type, Digest::of(&layer), 1024);
    let mut config = Config::new(&Platform::linux("amd64"));
    config.set_diff_ids(&[longshore_image::DiffId::of(&layer)]);
    let (config, config_upload) = Upload::config(config.to_bytes(), ManifestFormat::Oci);
    let manifest = ImageManifest::new(ManifestFormat::Oci, config, vec![descriptor.clone()]);
    (Manifest::image(manifest), vec![Upload::new(descriptor, BlobSource::Bytes(layer)), config_upload])
}

fn published(target: &Arc<dyn ImageStore>, names: &[Reference]) -> Result<Manifest, PublishError> {
    let (root, uploads) = image();
    publish(
        target,
        names,
        &Publication { root: &root, children: &[], uploads: &uploads, known: None, is_new: false },
    )?;
    Ok(root)
}

fn to_registry(faults: Vec<Fault>) -> (Result<Manifest, PublishError>, FaultyRegistry, String) {
    let server = FaultyRegistry::start(faults);
    let target: Arc<dyn ImageStore> =
        Arc::new(Registry::new(RegistryConfig::new(Keychain::empty())).unwrap());
    let host = server.host();
    let names = [1, 2, 3].map(|tag| format!("{host}/team/app:{tag}").parse().unwrap());
    (published(&target, &names), server, host)
}

fn refuses(path: &'static str) -> Fault {
    Fault::Status { method: "PUT", path, status: 403, retry_after: None, times: 9 }
}

/// Only the first failure was known, and not that another name was written already.
#[test]
fn a_name_that_is_refused_does_not_hide_the_others() {
    let (result, server, host) = to_registry(vec![refuses("manifests/2")]);
    let error = result.unwrap_err();
    assert_eq!(error.reference, format!("{host}/team/app:2"));
    assert_eq!(error.written, [1, 3].map(|tag| format!("{host}/team/app:{tag}")));
    assert!(server.manifest("team/app", "1").is_some());
    assert!(server.manifest("team/app", "2").is_none());
    server.assert_tags_are_complete();
}

#[test]
fn a_manifest_that_is_refused_moves_no_name() {
    let (result, server, _) = to_registry(vec![refuses("manifests/sha256")]);
    assert!(result.unwrap_err().written.is_empty());
    assert_eq!(server.tags("team/app"), []);
}

/// Blobs were written into the layout of the first name alone, because both names are of one repository.
#[test]
fn each_name_has_a_whole_layout() {
    let root = tempfile::tempdir().unwrap();
    let target: Arc<dyn ImageStore> = Arc::new(LayoutDirectory::new(root.path()));
    let names: Vec<Reference> = ["team/app:1", "team/app:2", "other:1"].map(|n| n.parse().unwrap()).into();
    let manifest = published(&target, &names).unwrap();
    for name in &names {
        let found = target.resolve(name, &Platform::linux("amd64")).unwrap().unwrap();
        assert_eq!(found.manifest.digest(), manifest.digest());
        let layer = &manifest.as_image().unwrap().layers[0];
        assert!(target.has_blob(name, layer.digest).unwrap(), "{name}");
    }
}
