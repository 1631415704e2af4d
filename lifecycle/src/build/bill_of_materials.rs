//! The deprecated, unstructured bill of materials.
//!
//! Spec: buildpack.md "launch.toml (TOML) `bom` Array" and "build.toml (TOML) `bom` Array".

use std::path::Path;

use longshore_cnb::build_metadata::legacy_bom;
use longshore_cnb::build_toml::BomEntry;
use longshore_cnb::go_json;
use longshore_cnb::group::GroupElement;
use longshore_cnb::metadata_toml::BuildpackBomEntry;

use super::error::{self, BuildError};

/// The entries of one file, with the buildpack they come from.
pub(super) fn entries(
    element: &GroupElement,
    bom: Vec<BomEntry>,
    path: &Path,
) -> Result<Vec<BuildpackBomEntry>, BuildError> {
    if !bom.is_empty() {
        tracing::warn!(
            "{element} writes the deprecated 'bom' to {}; it should write SBOM files instead",
            path.display()
        );
    }
    let buildpack =
        GroupElement { id: element.id.clone(), version: element.version.clone(), ..GroupElement::default() };
    bom.into_iter()
        .map(|entry| {
            if entry.version.is_empty() {
                Ok(BuildpackBomEntry { entry, buildpack: buildpack.clone() })
            } else {
                let name = entry.name;
                Err(BuildError::rule(path, format!("the 'bom' entry '{name}' must use 'metadata.version'")))
            }
        })
        .collect()
}

/// Writes `sbom.legacy.json`. It is written even when there is nothing in it: the reference does so, and the file is
/// part of the digest of the SBOM layer.
pub(super) fn write(directory: &Path, entries: &[BuildpackBomEntry]) -> Result<(), BuildError> {
    let path = directory.join("sbom.legacy.json");
    let json = go_json::to_string(&legacy_bom(entries))
        .map_err(|source| BuildError::io("write", &path, source.into()))?;
    error::write(&path, format!("{json}\n"))
}
