//! SBOM files of restored layers (buildpack.md "Layer Types", platform.md "`restorer`").
//!
//! `<layers>/sbom/launch` was extracted by analyze, `<layers>/sbom/cache` comes from the cache. The files of a layer go
//! beside its directory, as `<layer>.sbom.<ext>`, and both directories are removed: the build writes them anew.

use std::fs;
use std::io;
use std::path::Path;

use longshore_cnb::group::directory_name;
use longshore_cnb::lifecycle_metadata::CacheMetadata;
use longshore_image::DiffId;

use super::{RestoreError, RestoreInput, Restored, chain, create_directory, discard, remove_all, write_file};
use crate::cache::CacheError;

/// Restores the SBOM files of `layers`.
pub(super) fn restore(
    input: &RestoreInput<'_>,
    cached: &CacheMetadata,
    layers: &[Restored],
) -> Result<(), RestoreError> {
    let sbom = input.layers.host.join("sbom");
    extract_cached(input, cached)?;
    for layer in layers {
        for origin in ["cache", "launch"] {
            let directory = sbom.join(origin).join(directory_name(&layer.buildpack.id)).join(&layer.name);
            for (name, content) in sbom_files(&directory).map_err(RestoreError::write(&directory))? {
                write_file(&layer.file(&format!(".{name}")), &content, input.owner)?;
            }
        }
    }
    remove_all(&sbom)
}

fn extract_cached(input: &RestoreInput<'_>, cached: &CacheMetadata) -> Result<(), RestoreError> {
    let (Some(cache), Ok(diff_id)) = (input.cache, cached.sbom.sha.parse::<DiffId>()) else { return Ok(()) };
    tracing::info!("Restoring data for SBOM from cache");
    let directory = input.layers.join("sbom/cache");
    create_directory(&input.layers.host, "sbom", input.owner)
        .map_err(RestoreError::write(&directory.host))?;
    match cache.restore_sbom(diff_id, &directory, input.owner) {
        Ok(()) => Ok(()),
        Err(CacheError::Restore(source)) if !source.is_corrupt() => {
            Err(RestoreError::Layer { layer: "sbom".to_owned(), source })
        }
        Err(error) => {
            tracing::warn!("Skipping restore of SBOM files: {}", chain(&error));
            if error.is_corrupt() {
                discard(cache, diff_id);
            }
            remove_all(&directory.host)
        }
    }
}

/// The regular files `sbom.*.json` of a directory, which need not exist.
fn sbom_files(directory: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && name.starts_with("sbom.") && name.ends_with("json") {
            files.push((name, fs::read(entry.path())?));
        }
    }
    Ok(files)
}
