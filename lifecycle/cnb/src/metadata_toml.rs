//! `<layers>/config/metadata.toml`: what the build says about the app image, for the exporter and the launcher.
//!
//! Spec: platform.md "`metadata.toml` (TOML)".

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::api::PlatformApi;
use crate::build_toml::BomEntry;
use crate::go_toml;
use crate::group::GroupElement;
use crate::launch_toml::{Label, Slice};
use crate::process::Process;
use crate::toml_file::{self, TomlFileError};

/// The contents of `metadata.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct BuildMetadata {
    /// The deprecated unstructured bill of materials, only before it moved to a file.
    pub bom: Vec<BuildpackBomEntry>,
    /// The buildpacks of the build, in the order they ran.
    pub buildpacks: Vec<GroupElement>,
    /// The image extensions of the build, in the order they ran.
    pub extensions: Vec<GroupElement>,
    /// Labels of the app image, in the order the buildpacks gave them.
    pub labels: Vec<Label>,
    /// The processes of all buildpacks.
    pub processes: Vec<Process>,
    /// The slices of all buildpacks.
    pub slices: Vec<Slice>,
    /// The buildpacks' choice for the default process type; empty when there is none.
    pub buildpack_default_process_type: String,
}

/// What the launcher needs of `metadata.toml`, and nothing else: it is small and starts quickly.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LaunchMetadata {
    /// The buildpacks of the build, in the order they ran.
    pub buildpacks: Vec<GroupElement>,
    /// The processes of all buildpacks.
    pub processes: Vec<Process>,
}

impl LaunchMetadata {
    /// Reads the file of a layers directory.
    ///
    /// # Errors
    ///
    /// When the file does not exist, cannot be read, or is not valid.
    pub fn read(layers: &Path) -> Result<Self, TomlFileError> {
        toml_file::read(&path_in(layers))
    }

    /// The first process of a type, if there is any.
    #[must_use]
    pub fn process(&self, process_type: &str) -> Option<&Process> {
        self.processes.iter().find(|process| process.process_type == process_type)
    }
}

/// An entry of the deprecated bill of materials, and the buildpack it came from.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct BuildpackBomEntry {
    /// The entry as the buildpack gave it.
    #[serde(flatten)]
    pub entry: BomEntry,
    /// The buildpack.
    #[serde(default)]
    pub buildpack: GroupElement,
}

impl BuildpackBomEntry {
    /// The entry in `metadata.toml` and `report.toml`.
    #[must_use]
    pub fn to_toml(&self) -> go_toml::Table {
        go_toml::Table::new()
            .with("name", &self.entry.name)
            .with_filled("version", &self.entry.version)
            .with_filled("metadata", go_toml::Value::Table((&self.entry.metadata).into()))
            .with("buildpack", self.buildpack.to_toml())
    }
}

/// Where the file is: `config/metadata.toml` in the layers directory.
#[must_use]
pub fn path_in(layers: &Path) -> PathBuf {
    layers.join("config").join("metadata.toml")
}

impl BuildMetadata {
    /// Reads the file of a layers directory.
    ///
    /// # Errors
    ///
    /// When the file does not exist, cannot be read, or is not valid.
    pub fn read(layers: &Path) -> Result<Self, TomlFileError> {
        toml_file::read(&path_in(layers))
    }

    /// The first process of a type, if there is any.
    #[must_use]
    pub fn process(&self, process_type: &str) -> Option<&Process> {
        self.processes.iter().find(|process| process.process_type == process_type)
    }

    /// The file as the reference writes it, to the byte: it becomes a layer.
    #[must_use]
    pub fn to_document(&self, platform_api: PlatformApi) -> String {
        let elements = |list: &[GroupElement]| -> Vec<_> { list.iter().map(GroupElement::to_toml).collect() };
        let labels = self
            .labels
            .iter()
            .map(|label| go_toml::Table::new().with("key", &label.key).with("value", &label.value));
        let slices =
            self.slices.iter().map(|slice| go_toml::Table::new().with_some("paths", slice.paths.as_deref()));
        let processes = self.processes.iter().map(|process| process.to_toml(platform_api));
        go_toml::Table::new()
            .with_filled("bom", self.bom.iter().map(BuildpackBomEntry::to_toml).collect::<Vec<_>>())
            .with("buildpacks", elements(&self.buildpacks))
            .with_filled("extensions", elements(&self.extensions))
            .with_some("labels", unless_empty(labels.collect()))
            .with("processes", processes.collect::<Vec<_>>())
            .with_some("slices", unless_empty(slices.collect()))
            .with_filled("buildpack-default-process-type", &self.buildpack_default_process_type)
            .to_document()
    }
}

/// The reference collects labels and slices in Go slices that stay nil, and so unwritten, when there are none; the
/// process list is never nil.
fn unless_empty(tables: Vec<go_toml::Table>) -> Option<Vec<go_toml::Table>> {
    (!tables.is_empty()).then_some(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"buildpack-default-process-type = "web"

[[buildpacks]]
  id = "example/one"
  version = "1.2.3"
  api = "0.10"

[[processes]]
  type = "web"
  command = ["run", "it & that"]
  args = ["fast"]
  direct = true
  buildpack-id = "example/one"
  working-dir = "/srv"

[[slices]]
  paths = ["static/*"]
"#;

    fn metadata() -> BuildMetadata {
        BuildMetadata {
            buildpacks: vec![GroupElement {
                id: "example/one".into(),
                version: "1.2.3".into(),
                api: "0.10".into(),
                ..GroupElement::default()
            }],
            processes: vec![Process {
                process_type: "web".into(),
                command: vec!["run".into(), "it & that".into()],
                args: Some(vec!["fast".into()]),
                direct: true,
                buildpack_id: "example/one".into(),
                working_directory: "/srv".into(),
                ..Process::default()
            }],
            slices: vec![Slice { paths: Some(vec!["static/*".into()]) }],
            buildpack_default_process_type: "web".into(),
            ..BuildMetadata::default()
        }
    }

    #[test]
    fn written_like_the_reference_and_read_back() {
        let api = PlatformApi::parse("0.10").expect("supported");
        let document = metadata().to_document(api);
        assert_eq!(document, DOCUMENT.replace('&', "\\u0026"));
        assert_eq!(toml::from_str::<BuildMetadata>(&document), Ok(metadata()));
    }

    #[test]
    fn commands_may_be_text_or_lists() {
        for (command, expected) in
            [("'run it'", vec!["run it"]), ("['run', 'it']", vec!["run", "it"]), ("[]", vec![])]
        {
            let text = format!("[[processes]]\ntype = 'web'\ncommand = {command}\n");
            let metadata: BuildMetadata = toml::from_str(&text).expect("valid");
            assert_eq!(
                metadata.process("web").map(|process| process.command.clone()),
                Some(expected.into_iter().map(str::to_owned).collect::<Vec<_>>())
            );
            assert_eq!(metadata.process("job"), None);
        }
        assert!(toml::from_str::<BuildMetadata>("[[processes]]\ncommand = 1\n").is_err());
    }

    #[test]
    fn an_empty_build_still_lists_its_processes() {
        let document = BuildMetadata::default().to_document(PlatformApi::latest());
        assert_eq!(document, "buildpacks = []\nprocesses = []\n");
    }
}
