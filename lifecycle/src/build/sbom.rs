//! SBOM files that buildpacks write, and where the exporter and the cache look for them.
//!
//! Spec: buildpack.md "Software-Bill-of-Materials".

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use longshore_cnb::group::{GroupElement, directory_name};

use super::error::{self, BuildError};
use super::layers::Layer;

/// The supported formats: file extension and media type.
const FORMATS: [(&str, &str); 3] = [
    ("cdx.json", "application/vnd.cyclonedx+json"),
    ("spdx.json", "application/spdx+json"),
    ("syft.json", "application/vnd.syft+json"),
];

/// A file to be copied to `<layers>/sbom/<kind>/<buildpack>/[<layer>/]sbom.<extension>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SbomFile {
    source: PathBuf,
    /// Relative to `<layers>/sbom`.
    destination: PathBuf,
}

/// Finds the SBOM files of a buildpack and checks that it declared their formats.
pub(super) fn find(
    element: &GroupElement,
    directory: &Path,
    layers: &[Layer],
    declared: &[String],
) -> Result<Vec<SbomFile>, BuildError> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(directory).map_err(|source| BuildError::io("list", directory, source))? {
        let entry = entry.map_err(|source| BuildError::io("list", directory, source))?;
        names.push(entry.file_name());
    }
    names.sort();
    let mut files = Vec::new();
    for name in &names {
        let Some((owner, extension)) = split(name) else { continue };
        let kinds = kinds(owner, layers);
        if kinds.is_empty() {
            tracing::debug!("Ignoring {name:?} of {element}: there is no such layer");
            continue;
        }
        let path = directory.join(name);
        check_format(&path, extension, declared)?;
        for (kind, layer) in kinds {
            let mut destination = Path::new(kind).join(directory_name(&element.id));
            destination.extend(layer);
            destination.push(format!("sbom.{extension}"));
            files.push(SbomFile { source: path.clone(), destination });
        }
    }
    Ok(files)
}

/// Splits `<layer>.sbom.<extension>`, where the extension ends in `json`.
fn split(name: &OsStr) -> Option<(&OsStr, &str)> {
    const MARK: &[u8] = b".sbom.";
    let bytes = name.as_bytes();
    let mark = bytes.windows(MARK.len()).rposition(|window| window == MARK)?;
    let extension = std::str::from_utf8(&bytes[mark + MARK.len()..]).ok()?;
    extension.ends_with(".json").then_some((OsStr::from_bytes(&bytes[..mark]), extension))
}

/// The kinds of SBOM that a file belongs to, with the layer it describes; none if there is no such layer.
fn kinds(owner: &OsStr, layers: &[Layer]) -> Vec<(&'static str, Option<OsString>)> {
    if owner == "launch" {
        return vec![("launch", None)];
    }
    if owner == "build" {
        return vec![("build", None)];
    }
    let Some(layer) = layers.iter().find(|layer| layer.name == owner) else { return Vec::new() };
    let mut kinds = vec![(if layer.types.launch { "launch" } else { "build" }, Some(layer.name.clone()))];
    if layer.types.cache {
        kinds.push(("cache", Some(layer.name.clone())));
    }
    kinds
}

fn check_format(path: &Path, extension: &str, declared: &[String]) -> Result<(), BuildError> {
    let Some((_, media_type)) = FORMATS.iter().find(|(supported, _)| *supported == extension) else {
        return Err(BuildError::rule(
            path,
            format!("'{extension}' is no supported SBOM format; use cdx.json, spdx.json or syft.json"),
        ));
    };
    let is_declared = declared.iter().any(|declared| {
        let essence = declared.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(media_type)
    });
    if is_declared {
        Ok(())
    } else {
        Err(BuildError::rule(
            path,
            format!("the buildpack must declare '{media_type}' in 'sbom-formats' of its buildpack.toml"),
        ))
    }
}

/// Copies the SBOM files into `<layers>/sbom`.
pub(super) fn copy(layers: &Path, files: &[SbomFile]) -> Result<(), BuildError> {
    for file in files {
        // Contents only: the mode is that of any new file, because it is part of the digest of the SBOM layer.
        let contents = fs_err::read(&file.source)
            .map_err(|source| BuildError::io("read the SBOM file", &file.source, source))?;
        error::write(&layers.join("sbom").join(&file.destination), contents)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use longshore_cnb::layer_toml::LayerTypes;

    use super::*;

    #[test]
    fn names_are_split_at_their_last_mark() {
        let cases = [
            ("launch.sbom.cdx.json", Some(("launch", "cdx.json"))),
            ("my.layer.sbom.spdx.json", Some(("my.layer", "spdx.json"))),
            ("a.sbom.sbom.syft.json", Some(("a.sbom", "syft.json"))),
            ("a.sbom.other.json", Some(("a", "other.json"))),
            ("a.sbom.cdx.xml", None),
            ("a.toml", None),
            ("sbom.cdx.json", None),
        ];
        for (name, expected) in cases {
            let expected = expected.map(|(owner, extension)| (OsStr::new(owner), extension));
            assert_eq!(split(OsStr::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn the_kind_follows_the_types_of_the_layer() {
        let layer = |name: &str, launch, build, cache| Layer {
            name: name.into(),
            types: LayerTypes { launch, build, cache },
        };
        let layers = [
            layer("l", true, false, false),
            layer("lc", true, false, true),
            layer("b", false, true, false),
            layer("c", false, false, true),
            layer("none", false, false, false),
        ];
        let cases: [(&str, &[(&str, bool)]); 8] = [
            ("launch", &[("launch", false)]),
            ("build", &[("build", false)]),
            ("l", &[("launch", true)]),
            ("lc", &[("launch", true), ("cache", true)]),
            ("b", &[("build", true)]),
            ("c", &[("build", true), ("cache", true)]),
            ("none", &[("build", true)]),
            ("other", &[]),
        ];
        for (owner, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|(kind, of_layer)| (*kind, of_layer.then(|| OsString::from(owner))))
                .collect();
            assert_eq!(kinds(OsStr::new(owner), &layers), expected, "{owner}");
        }
    }

    #[test]
    fn formats_must_be_supported_and_declared() {
        let cases = [
            ("cdx.json", "application/vnd.cyclonedx+json", true),
            ("cdx.json", "application/vnd.cyclonedx+json;version=1.4", true),
            ("cdx.json", "Application/Vnd.CycloneDX+JSON", true),
            ("cdx.json", "application/spdx+json", false),
            ("spdx.json", "application/spdx+json", true),
            ("syft.json", "application/vnd.syft+json", true),
            ("other.json", "application/vnd.syft+json", false),
        ];
        for (extension, declared, expected) in cases {
            let checked = check_format(Path::new("x"), extension, &[declared.to_owned()]);
            assert_eq!(checked.is_ok(), expected, "{extension} {declared}");
        }
    }
}
