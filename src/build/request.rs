//! What a build is asked to do, after flags, settings and the project descriptor were put together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use longshore_cnb::project_metadata::ProjectMetadata;
use longshore_image::{LayerFormats, Manifest, ManifestChoice, Reference, Timestamp};
use longshore_lifecycle::export::AppLayer;
use longshore_sandbox::{Access, Mount};

use crate::images::Location;
use crate::project::{FileFilter, ModuleLocator};
use crate::settings::PullPolicy;

/// What a build is asked to do.
pub(crate) struct BuildRequest {
    /// The app image.
    pub(crate) image: Reference,
    /// Its further names.
    pub(crate) tags: Vec<Reference>,
    /// The app's source.
    pub(crate) app: PathBuf,
    /// Which of its files are used.
    pub(crate) filter: FileFilter,
    /// What the app directory is called in the sandbox and in the image.
    pub(crate) workspace: PathBuf,
    /// The builder.
    pub(crate) builder: Location,
    /// The run image instead of the builder's.
    pub(crate) run_image: Option<Reference>,
    /// The image whose layers are reused, instead of the one that has the app image's name.
    pub(crate) previous_image: Option<Reference>,
    /// Whether the app image goes to its registry instead of the local store.
    pub(crate) publish: bool,
    /// When registries are asked for images that the local store has.
    pub(crate) pull_policy: PullPolicy,
    /// Whether what earlier builds cached is forgotten.
    pub(crate) clear_cache: bool,
    /// Whether layers are read that are unchanged as far as the file system tells.
    pub(crate) is_paranoid: bool,
    /// The buildpacks instead of the builder's order, and where relative paths of theirs begin.
    pub(crate) group: Vec<ModuleLocator>,
    /// Buildpacks before every group of the builder's order.
    pub(crate) pre: Vec<ModuleLocator>,
    /// Buildpacks after every group of the builder's order.
    pub(crate) post: Vec<ModuleLocator>,
    /// Where relative paths of buildpacks begin.
    pub(crate) modules_base: PathBuf,
    /// The variables for buildpacks.
    pub(crate) variables: BTreeMap<String, String>,
    /// The default process type.
    pub(crate) default_process: Option<String>,
    /// The execution environment.
    pub(crate) exec_env: String,
    /// When the image says it was made.
    pub(crate) created: Timestamp,
    /// How the app directory goes into layers.
    pub(crate) app_layer: AppLayer,
    /// How new layers are compressed.
    pub(crate) layer_format: LayerFormats,
    /// Whose media types the manifest has.
    pub(crate) manifest_format: ManifestChoice,
    /// What buildpacks can reach.
    pub(crate) network: NetworkAccess,
    /// Files and directories of this machine that buildpacks can see.
    pub(crate) volumes: Vec<Volume>,
    /// The certificates that buildpacks trust instead of those of the builder.
    pub(crate) ca_certificates: Option<PathBuf>,
    /// The ids of the build's user instead of the builder's.
    pub(crate) uid: Option<u32>,
    /// The group of the build's user instead of the builder's.
    pub(crate) gid: Option<u32>,
    /// Where the source is from.
    pub(crate) project: ProjectMetadata,
    /// Where `report.toml` is written.
    pub(crate) report_directory: Option<PathBuf>,
    /// Where SBOM files are written.
    pub(crate) sbom_directory: Option<PathBuf>,
    /// Whether more is printed.
    pub(crate) verbose: bool,
    /// Whether less is printed.
    pub(crate) quiet: bool,
}

/// What was built.
#[derive(Debug, Clone)]
pub(crate) struct BuiltImage {
    /// What its names point to: its manifest, or its index.
    pub(crate) manifest: Manifest,
}

/// What buildpacks can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkAccess {
    /// What this machine can reach.
    Host,
    /// Nothing.
    None,
}

/// A file or directory of this machine that buildpacks can see: `SOURCE:TARGET[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume(pub(crate) Mount);

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split(':').collect();
        let (source, target, options) = match parts.as_slice() {
            [source, target] => (*source, *target, ""),
            [source, target, options] => (*source, *target, *options),
            _ => return Err("it is not SOURCE:TARGET[:OPTIONS]".to_owned()),
        };
        if !source.starts_with('/') || !target.starts_with('/') {
            return Err("both paths must be absolute: there are no named volumes".to_owned());
        }
        let mut access = Access::ReadOnly;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            access = match option {
                "ro" => Access::ReadOnly,
                "rw" => Access::ReadWrite,
                other => return Err(format!("the option `{other}` is not known; known are ro and rw")),
            };
        }
        Ok(Self(Mount { source: source.into(), target: target.into(), access }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_only_unless_they_say_otherwise() {
        for (text, expected) in [
            ("/a:/b", Some(Access::ReadOnly)),
            ("/a:/b:ro", Some(Access::ReadOnly)),
            ("/a:/b:rw", Some(Access::ReadWrite)),
            ("/a:/b:exec", None),
            ("name:/b", None),
            ("/a", None),
            ("/a:b", None),
        ] {
            let volume = text.parse::<Volume>().ok();
            assert_eq!(volume.map(|volume| volume.0.access), expected, "{text}");
        }
    }
}
