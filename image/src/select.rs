//! From what a name points to, to the image for a platform: indexes are followed, the configuration is read.

use crate::{
    Config, Descriptor, Image, IndexManifest, Manifest, ManifestContent, MediaType, Platform, Reference,
    StoreError,
};

/// How deep indexes may stand in indexes.
const DEPTH: usize = 4;
/// The largest configuration that is read, in bytes.
pub(crate) const CONFIG_LIMIT: u64 = 16 << 20;

/// The manifest for a platform: the first that names exactly this platform, else the first that it accepts. An index of
/// one manifest without a platform means that one.
pub(crate) fn choose<'a>(index: &'a IndexManifest, wanted: &Platform) -> Option<&'a Descriptor> {
    let offers = |descriptor: &&Descriptor, fits: &dyn Fn(&Platform) -> bool| {
        descriptor.platform.as_ref().is_some_and(fits)
    };
    let exact = |offered: &Platform| wanted.accepts(offered) && wanted.variant == offered.variant;
    let only = match index.manifests.as_slice() {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    };
    let mut manifests = index.manifests.iter();
    manifests
        .clone()
        .find(|descriptor| offers(descriptor, &exact))
        .or_else(|| manifests.find(|descriptor| offers(descriptor, &|offered| wanted.accepts(offered))))
        .or(only)
}

/// The platforms of an index, for error messages.
pub(crate) fn platforms(index: &IndexManifest) -> String {
    let names = index.manifests.iter().filter_map(|descriptor| descriptor.platform.as_ref());
    let names: Vec<String> =
        names.filter(|platform| platform.os != "unknown").map(Platform::to_string).collect();
    names.join(", ")
}

/// Follows indexes from `first` to the image for `platform` and reads its configuration.
pub(crate) fn image(
    reference: &Reference,
    first: Manifest,
    platform: &Platform,
    mut manifest_of: impl FnMut(&Descriptor) -> Result<Manifest, StoreError>,
    config_of: impl FnOnce(&Descriptor) -> Result<Vec<u8>, StoreError>,
) -> Result<Image, StoreError> {
    let mut index = None;
    let mut manifest = first;
    for _ in 0..=DEPTH {
        if let Some(what) = not_an_image(&manifest) {
            return Err(StoreError::NotAnImage { reference: reference.familiar(), what });
        }
        let child = match manifest.content() {
            ManifestContent::Image(image) => {
                let config = config(reference, &image.config, config_of)?;
                return Ok(Image { reference: reference.clone(), config, manifest, index });
            }
            ManifestContent::Index(children) => {
                choose(children, platform).cloned().ok_or_else(|| StoreError::NoPlatform {
                    reference: reference.familiar(),
                    platform: Box::new(platform.clone()),
                    available: platforms(children),
                })?
            }
        };
        let next = manifest_of(&child)?;
        index.get_or_insert(manifest);
        manifest = next;
    }
    Err(contradiction(reference, format!("indexes stand in indexes more than {DEPTH} deep")))
}

const BUILDKIT_CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";

/// What it is instead, when it is certainly no image.
fn not_an_image(manifest: &Manifest) -> Option<String> {
    let is_cache = |blob: &Descriptor| blob.media_type.as_str() == BUILDKIT_CACHE;
    match manifest.content() {
        ManifestContent::Image(image) if is_cache(&image.config) => {
            Some("the build cache of BuildKit (`--cache-to type=registry`)".to_owned())
        }
        // Before BuildKit 0.21, an index of layers.
        ManifestContent::Index(index) if index.manifests.iter().any(is_cache) => {
            Some("the build cache of BuildKit (`--cache-to type=registry`, in its old form)".to_owned())
        }
        ManifestContent::Image(image) if image.config.media_type == MediaType::Empty => {
            let declared = image.other.get::<String>("artifactType");
            Some(format!("an artifact of type `{}`", declared.as_deref().unwrap_or("unknown")))
        }
        _ => None,
    }
}

fn config(
    reference: &Reference,
    blob: &Descriptor,
    read: impl FnOnce(&Descriptor) -> Result<Vec<u8>, StoreError>,
) -> Result<Config, StoreError> {
    if blob.size > CONFIG_LIMIT {
        return Err(contradiction(reference, format!("its configuration has {} bytes", blob.size)));
    }
    Config::parse(read(blob)?)
        .map_err(|source| StoreError::InvalidConfig { reference: reference.familiar(), source })
}

fn contradiction(reference: &Reference, reason: String) -> StoreError {
    StoreError::Contradiction { reference: reference.familiar(), reason }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Digest, Fields, ImageManifest, ManifestFormat};

    fn index(offered: &[Option<(&str, Option<&str>)>]) -> IndexManifest {
        let descriptor = |(number, platform): (usize, &Option<(&str, Option<&str>)>)| {
            let media_type = MediaType::Manifest(ManifestFormat::Oci);
            let mut descriptor = Descriptor::new(media_type, Digest::of(b""), number as u64);
            descriptor.platform = platform.map(|(architecture, variant)| Platform {
                variant: variant.map(str::to_owned),
                ..Platform::linux(architecture)
            });
            descriptor
        };
        IndexManifest {
            schema_version: 2,
            media_type: MediaType::Index(ManifestFormat::Oci),
            manifests: offered.iter().enumerate().map(descriptor).collect(),
            annotations: BTreeMap::new(),
            other: Fields::default(),
        }
    }

    #[test]
    fn the_nearest_platform_is_chosen() {
        let amd64 = Some(("amd64", None));
        let table: [(&[_], Platform, Option<u64>); 5] = [
            (&[Some(("arm64", None)), amd64], Platform::linux("amd64"), Some(1)),
            (&[Some(("amd64", Some("v3"))), amd64], Platform::linux("amd64"), Some(1)),
            (&[Some(("arm64", Some("v8")))], Platform::linux("arm64"), Some(0)),
            (&[None], Platform::linux("amd64"), Some(0)),
            (&[None, Some(("unknown", None))], Platform::linux("amd64"), None),
        ];
        for (offered, wanted, expected) in table {
            assert_eq!(choose(&index(offered), &wanted).map(|chosen| chosen.size), expected, "{offered:?}");
        }
    }

    #[test]
    fn what_is_no_image_is_called_by_its_name() {
        let blob = |text: &str| Descriptor::new(text.into(), Digest::of(b""), 0);
        let cache = blob(BUILDKIT_CACHE);
        let mut old_cache = index(&[None]);
        old_cache.manifests.push(cache.clone());
        let mut artifact =
            ImageManifest::new(ManifestFormat::Oci, blob(MediaType::Empty.as_str()), Vec::new());
        artifact.other.insert("artifactType", "application/spdx+json");
        let table = [
            (Manifest::image(ImageManifest::new(ManifestFormat::Oci, cache, Vec::new())), "BuildKit"),
            (Manifest::index(old_cache), "BuildKit"),
            (Manifest::image(artifact), "application/spdx+json"),
        ];
        for (manifest, expected) in table {
            let reference = "app".parse().unwrap();
            let again = |_: &Descriptor| Ok(manifest.clone());
            let result = image(&reference, manifest.clone(), &Platform::host(), again, |_| Ok(Vec::new()));
            let error = result.unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("not an image"), "{error}");
        }
    }

    #[test]
    fn an_index_that_contains_itself_is_refused() {
        let manifest = Manifest::index(index(&[None]));
        let again = |_: &Descriptor| Ok(manifest.clone());
        let no_config = |_: &Descriptor| Ok(Vec::new());
        let reference = "app".parse().unwrap();
        let result = image(&reference, manifest.clone(), &Platform::host(), again, no_config);
        assert!(matches!(result, Err(StoreError::Contradiction { .. })), "{result:?}");
    }
}
