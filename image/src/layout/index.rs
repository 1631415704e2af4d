//! `index.json`: which names there are, and what they point to.

use std::collections::BTreeMap;
use std::fs;

use super::{INDEX_FILE, Layout, LayoutName};
use crate::blob_file;
use crate::{
    Descriptor, Fields, IndexManifest, Manifest, ManifestContent, ManifestFormat, MediaType, Reference,
    StoreError,
};

/// The name by which tools find an image in a layout (image-spec `annotations.md`).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The full name by which containerd imports an image.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

pub(super) fn empty() -> IndexManifest {
    IndexManifest {
        schema_version: 2,
        media_type: MediaType::Index(ManifestFormat::Oci),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
        other: Fields::default(),
    }
}

/// The name under which a reference stands in a layout: in full, with the tag.
pub(crate) fn full_name(reference: &Reference) -> String {
    match reference.digest() {
        Some(_) => reference.to_string(),
        None => reference.with_tag(reference.tag_or_latest()).to_string(),
    }
}

/// The manifest that is meant.
pub(crate) fn select<'a>(
    index: &'a IndexManifest,
    which: &LayoutName,
    reference: &Reference,
) -> Option<&'a Descriptor> {
    let named = |name: &str, descriptor: &&Descriptor| {
        [REF_NAME, CONTAINERD_NAME]
            .iter()
            .any(|key| descriptor.annotations.get(*key).is_some_and(|known| known == name))
    };
    let full;
    let name = match which {
        LayoutName::Only => {
            return match index.manifests.as_slice() {
                [only] => Some(only),
                _ => None,
            };
        }
        LayoutName::Named(name) => {
            // As it is written, or as the image's full name.
            let full = name.parse().ok().map(|name| full_name(&name));
            let mut manifests = index.manifests.iter();
            let exact = manifests.clone().find(|descriptor| named(name, descriptor));
            return exact.or_else(|| {
                manifests.find(|descriptor| full.as_ref().is_some_and(|full| named(full, descriptor)))
            });
        }
        LayoutName::Reference => {
            full = full_name(reference);
            &full
        }
    };
    index.manifests.iter().find(|descriptor| named(name, descriptor))
}

/// A descriptor with the annotations that containerd's exporter writes: the full name, and the tag alone.
pub(crate) fn name_descriptor(mut descriptor: Descriptor, name: Option<&Reference>) -> Descriptor {
    if let Some(name) = name {
        descriptor.annotations.insert(CONTAINERD_NAME.to_owned(), full_name(name));
        descriptor.annotations.insert(REF_NAME.to_owned(), name.tag_or_latest().to_owned());
    }
    descriptor
}

/// The full name of a descriptor, if it has one.
pub(crate) fn full_reference(descriptor: &Descriptor) -> Option<Reference> {
    let names = [CONTAINERD_NAME, REF_NAME].into_iter().filter_map(|key| descriptor.annotations.get(key));
    names.filter(|name| name.contains('/')).find_map(|name| name.parse().ok())
}

/// Points a name to a manifest, and away from what it pointed to.
pub(super) fn put(index: &mut IndexManifest, name: &str, mut descriptor: Descriptor) {
    remove(index, name);
    if !name.is_empty() {
        descriptor.annotations.insert(REF_NAME.to_owned(), name.to_owned());
        if name.parse::<Reference>().is_ok_and(|reference| reference.to_string() == name) {
            descriptor.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_owned());
        }
    }
    index.manifests.push(descriptor);
}

/// Removes a name; whether it was there.
pub(super) fn remove(index: &mut IndexManifest, name: &str) -> bool {
    let before = index.manifests.len();
    index
        .manifests
        .retain(|descriptor| descriptor.annotations.get(REF_NAME).map_or("", String::as_str) != name);
    index.manifests.len() < before
}

impl Layout {
    pub(crate) fn index(&self) -> Result<IndexManifest, StoreError> {
        let path = self.root.join(INDEX_FILE);
        let bytes = fs::read(&path).map_err(StoreError::file(&path))?;
        let declared = MediaType::Index(ManifestFormat::Oci);
        let manifest = Manifest::parse(bytes.into(), Some(&declared)).map_err(|source| {
            StoreError::InvalidManifest { reference: path.display().to_string(), source }
        })?;
        match manifest.content() {
            ManifestContent::Index(index) => Ok(index.clone()),
            ManifestContent::Image(_) => Err(super::not_a_layout(&self.root, "its `index.json` is no index")),
        }
    }

    pub(super) fn write_index(&self, index: &IndexManifest) -> Result<(), StoreError> {
        let manifest = Manifest::index(index.clone());
        Ok(blob_file::replace(&self.root, INDEX_FILE, manifest.raw())?)
    }

    /// The name that a reference means here.
    pub(super) fn name_of(&self, reference: &Reference) -> String {
        match &self.name {
            LayoutName::Reference => full_name(reference),
            LayoutName::Only => String::new(),
            LayoutName::Named(name) => name.clone(),
        }
    }

    /// Changes the index under the lock; it is written when `change` says that it did.
    pub(crate) fn update(
        &self,
        change: impl FnOnce(&mut IndexManifest) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let changed = change(&mut index)?;
        if changed {
            self.write_index(&index)?;
        }
        Ok(changed)
    }

    pub(crate) fn remove_name(index: &mut IndexManifest, reference: &Reference) -> bool {
        remove(index, &full_name(reference))
    }
}
