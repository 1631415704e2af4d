//! The `io.buildpacks.build.metadata` label: buildpacks, processes and launcher of an app image (platform.md
//! "`io.buildpacks.build.metadata` (JSON)"). Its content is that of `metadata.toml`, with the keys of the reference.

use serde_json::{Map, Value, json};

use crate::api::PlatformApi;
use crate::go_json;
use crate::group::GroupElement;
use crate::metadata_toml::{BuildMetadata, BuildpackBomEntry};

/// The name of the label.
pub const BUILD_METADATA_LABEL: &str = "io.buildpacks.build.metadata";

/// Which launcher is in the app image, and where its source is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LauncherMetadata {
    /// The launcher's version.
    pub version: String,
    /// The repository of its source.
    pub repository: String,
    /// The commit of its source.
    pub commit: String,
}

/// The content of the label.
///
/// # Errors
/// Never for values that were read from `metadata.toml`.
pub fn label(
    build: &BuildMetadata,
    launcher: &LauncherMetadata,
    platform_api: PlatformApi,
) -> Result<String, serde_json::Error> {
    let mut object = Map::new();
    if !platform_api.has_legacy_sbom_file() {
        object.insert("bom".to_owned(), legacy_bom(&build.bom));
    }
    object.insert("buildpacks".to_owned(), nil_when_empty(build.buildpacks.iter().map(element).collect()));
    if !build.extensions.is_empty() {
        object.insert("extensions".to_owned(), build.extensions.iter().map(element).collect());
    }
    let source = json!({"git": {"repository": launcher.repository, "commit": launcher.commit}});
    object.insert("launcher".to_owned(), json!({"version": launcher.version, "source": source}));
    let processes = build.processes.iter();
    let processes = processes.map(|process| process.clone().for_platform(platform_api).to_json(platform_api));
    // The builder always writes the list, so that Go reads it as empty rather than nil.
    object.insert("processes".to_owned(), processes.collect());
    if !build.buildpack_default_process_type.is_empty() {
        object.insert(
            "buildpack-default-process-type".to_owned(),
            Value::from(build.buildpack_default_process_type.clone()),
        );
    }
    go_json::to_string(&object)
}

/// The deprecated bill of materials, as in the label and in `sbom.legacy.json`: null when there is none.
#[must_use]
pub fn legacy_bom(entries: &[BuildpackBomEntry]) -> Value {
    nil_when_empty(entries.iter().map(bom_entry).collect())
}

fn element(element: &GroupElement) -> Value {
    let mut object = Map::new();
    object.insert("id".to_owned(), element.id.clone().into());
    object.insert("version".to_owned(), element.version.clone().into());
    if !element.homepage.is_empty() {
        object.insert("homepage".to_owned(), element.homepage.clone().into());
    }
    object.into()
}

fn bom_entry(entry: &BuildpackBomEntry) -> Value {
    let mut object = Map::new();
    object.insert("name".to_owned(), entry.entry.name.clone().into());
    if !entry.entry.version.is_empty() {
        object.insert("version".to_owned(), entry.entry.version.clone().into());
    }
    let mut metadata = Value::Null;
    if !entry.entry.metadata.is_empty() {
        metadata = go_json::from_toml(&toml::Value::Table(entry.entry.metadata.clone()));
        sort(&mut metadata);
    }
    object.insert("metadata".to_owned(), metadata);
    object.insert("buildpack".to_owned(), element(&entry.buildpack));
    object.into()
}

fn sort(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.sort_keys();
            object.values_mut().for_each(sort);
        }
        Value::Array(array) => array.iter_mut().for_each(sort),
        _ => {}
    }
}

fn nil_when_empty(values: Vec<Value>) -> Value {
    if values.is_empty() { Value::Null } else { Value::Array(values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"
buildpack-default-process-type = "web"
[[bom]]
name = "dep"
[bom.metadata]
z = 1
a = "x"
[bom.buildpack]
id = "acme/web"
version = "1.0"
[[buildpacks]]
id = "acme/web"
version = "1.0"
api = "0.10"
homepage = "https://acme.example/?a&b"
[[processes]]
type = "web"
command = ["run", "it"]
args = []
direct = true
buildpack-id = "acme/web"
[[processes]]
type = "job"
command = "job"
buildpack-id = "acme/web"
working-dir = "/srv"
"#;

    #[test]
    fn label_has_the_reference_bytes() {
        let build: BuildMetadata = toml::from_str(METADATA).unwrap();
        let launcher = LauncherMetadata {
            version: "1.2.3".to_owned(),
            repository: "github.com/acme".to_owned(),
            commit: String::new(),
        };
        let new = concat!(
            r#"{"buildpacks":[{"id":"acme/web","version":"1.0","homepage":"https://acme.example/?a\u0026b"}],"#,
            r#""launcher":{"version":"1.2.3","source":{"git":{"repository":"github.com/acme","commit":""}}},"#,
            r#""processes":[{"type":"web","command":["run","it"],"args":[],"direct":true,"buildpackID":"acme/web"},"#,
            r#"{"type":"job","command":["job"],"args":null,"direct":false,"buildpackID":"acme/web","#,
            r#""working-dir":"/srv"}],"buildpack-default-process-type":"web"}"#,
        );
        assert_eq!(label(&build, &launcher, PlatformApi::latest()).unwrap(), new);
        let old = label(&build, &launcher, PlatformApi::parse("0.8").unwrap()).unwrap();
        let bom = r#"{"bom":[{"name":"dep","metadata":{"a":"x","z":1},"buildpack":{"id":"acme/web","version":"1.0"}}],"#;
        assert!(old.starts_with(bom), "{old}");
        assert!(old.contains(r#""command":"run","args":["it"]"#), "{old}");
    }
}
