//! The `io.buildpacks.lifecycle.metadata` label: which layers of an app image are what (platform.md
//! "`io.buildpacks.lifecycle.metadata` (JSON)"), and the cache's own metadata, which has the same parts.
//!
//! The label is JSON; the same data stands as TOML, under other keys, in `analyzed.toml`. Both are read with the same
//! types. Fields are declared in the order in which the reference writes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{go_json, go_toml};

/// The name of the label.
pub const LIFECYCLE_METADATA_LABEL: &str = "io.buildpacks.lifecycle.metadata";

/// The name of the label of a cache image, and of the file in a cache directory, that holds [`CacheMetadata`].
pub const CACHE_METADATA_LABEL: &str = "io.buildpacks.lifecycle.cache.metadata";

/// The content of the label.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifecycleMetadata {
    /// The app's slices, in order; the last is what no slice took.
    #[serde(serialize_with = "nil_when_empty", deserialize_with = "nil_is_default")]
    pub app: Vec<LayerSha>,
    /// The layer of launch SBOM files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbom: Option<LayerSha>,
    /// The launch layers of each buildpack of the group, in its order.
    #[serde(serialize_with = "nil_when_empty", deserialize_with = "nil_is_default")]
    pub buildpacks: Vec<BuildpackLayers>,
    /// The layer of `<layers>/config`.
    pub config: LayerSha,
    /// The layer of the launcher.
    pub launcher: LayerSha,
    /// The layer of `/cnb/process`; empty when there are no processes.
    #[serde(rename = "process-types")]
    pub process_types: LayerSha,
    /// The run image that the app image stands on.
    #[serde(rename = "runImage", alias = "run-image")]
    pub run_image: RunImageMetadata,
    /// The names of the run image once more, for platforms before 0.12.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackMetadata>,
}

impl LifecycleMetadata {
    /// What is known of a buildpack's layers.
    #[must_use]
    pub fn buildpack(&self, id: &str) -> Option<&BuildpackLayers> {
        self.buildpacks.iter().find(|buildpack| buildpack.key == id)
    }

    /// Under which names the run image is known: `runImage`, or `stack.runImage` of older platforms.
    #[must_use]
    pub fn run_image_names(&self) -> Option<&RunImageNames> {
        let stack = self.stack.as_ref().map(|stack| &stack.run_image);
        [Some(&self.run_image.names), stack].into_iter().flatten().find(|names| !names.image.is_empty())
    }

    /// The table of `analyzed.toml`.
    pub(crate) fn to_toml(&self) -> go_toml::Table {
        let layers = |layers: &[LayerSha]| layers.iter().map(LayerSha::to_toml).collect::<Vec<_>>();
        let run_image = go_toml::Table::new()
            .with("top-layer", &self.run_image.top_layer)
            .with("reference", &self.run_image.reference);
        go_toml::Table::new()
            .with_filled("app", layers(&self.app))
            .with_some("sbom", self.sbom.as_ref().map(LayerSha::to_toml))
            .with_filled(
                "buildpacks",
                self.buildpacks.iter().map(BuildpackLayers::to_toml).collect::<Vec<_>>(),
            )
            .with("config", self.config.to_toml())
            .with("launcher", self.launcher.to_toml())
            .with("process-types", self.process_types.to_toml())
            .with("run-image", self.run_image.names.add_to(run_image))
            .with_some(
                "stack",
                self.stack.as_ref().map(|stack| {
                    go_toml::Table::new().with("run-image", stack.run_image.add_to(go_toml::Table::new()))
                }),
            )
    }
}

/// A layer by its DiffID; empty when there is no such layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerSha {
    /// `sha256:<hex>`.
    #[serde(deserialize_with = "nil_is_default")]
    pub sha: String,
}

impl LayerSha {
    fn to_toml(&self) -> go_toml::Table {
        go_toml::Table::new().with("sha", &self.sha)
    }
}

/// What one buildpack left: its layers and its persistent metadata.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildpackLayers {
    /// The buildpack's id.
    pub key: String,
    /// The buildpack's version.
    pub version: String,
    /// The layers by name.
    #[serde(deserialize_with = "nil_is_default")]
    pub layers: BTreeMap<String, LayerMetadata>,
    /// `store.toml`, if the buildpack wrote one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
}

impl BuildpackLayers {
    fn to_toml(&self) -> go_toml::Table {
        let layers = self
            .layers
            .iter()
            .fold(go_toml::Table::new(), |table, (name, layer)| table.with(name, layer.to_toml()));
        go_toml::Table::new()
            .with("key", &self.key)
            .with("version", &self.version)
            .with("layers", layers)
            .with_some("store", self.store.as_ref().map(Store::to_toml))
    }
}

/// One layer of a buildpack: its DiffID and its layer content metadata (buildpack.md "Layer Content Metadata").
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerMetadata {
    /// The DiffID.
    #[serde(deserialize_with = "nil_is_default")]
    pub sha: String,
    /// The buildpack's own data, null when there is none.
    #[serde(alias = "metadata", serialize_with = "go_json::sorted", deserialize_with = "free_form")]
    pub data: Value,
    /// Whether it was available to later buildpacks.
    pub build: bool,
    /// Whether it is in the app image.
    pub launch: bool,
    /// Whether it is in the cache.
    pub cache: bool,
}

impl LayerMetadata {
    fn to_toml(&self) -> go_toml::Table {
        let data = (!self.data.is_null()).then(|| go_toml::Value::from(&self.data));
        go_toml::Table::new()
            .with("sha", &self.sha)
            .with_some("metadata", data)
            .with("build", self.build)
            .with("launch", self.launch)
            .with("cache", self.cache)
    }
}

/// A buildpack's persistent metadata, as in `store.toml` (buildpack.md "store.toml (TOML)").
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Store {
    /// The buildpack's own data.
    #[serde(serialize_with = "go_json::sorted", deserialize_with = "free_form")]
    pub metadata: Value,
}

impl Store {
    fn to_toml(&self) -> go_toml::Table {
        let metadata = (!self.metadata.is_null()).then(|| go_toml::Value::from(&self.metadata));
        go_toml::Table::new().with_some("metadata", metadata)
    }

    /// The bytes of `store.toml`.
    #[must_use]
    pub fn to_document(&self) -> String {
        self.to_toml().to_document()
    }
}

/// The run image in the label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunImageMetadata {
    /// The DiffID of its uppermost layer.
    #[serde(rename = "topLayer", alias = "top-layer")]
    pub top_layer: String,
    /// What identifies it: a digest reference, or an image id in a daemon.
    pub reference: String,
    /// The names it is known under.
    #[serde(flatten)]
    pub names: RunImageNames,
}

/// The names of a run image: where it is, and where else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunImageNames {
    /// A tag reference; empty when unknown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Where the same image can be had.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nil_is_default")]
    pub mirrors: Vec<String>,
}

impl RunImageNames {
    /// All names, the first choice first.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.image).chain(&self.mirrors).map(String::as_str).filter(|name| !name.is_empty())
    }

    fn add_to(&self, table: go_toml::Table) -> go_toml::Table {
        table.with_filled("image", &self.image).with_filled("mirrors", self.mirrors.as_slice())
    }
}

/// The deprecated `stack` key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StackMetadata {
    /// The same names as in [`RunImageMetadata`].
    #[serde(rename = "runImage", alias = "run-image")]
    pub run_image: RunImageNames,
}

/// What a cache says about its layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheMetadata {
    /// The layer of SBOM files of cached layers; empty when there is none.
    pub sbom: LayerSha,
    /// The cached layers of each buildpack.
    #[serde(serialize_with = "nil_when_empty", deserialize_with = "nil_is_default")]
    pub buildpacks: Vec<BuildpackLayers>,
}

impl CacheMetadata {
    /// What is known of a buildpack's layers.
    #[must_use]
    pub fn buildpack(&self, id: &str) -> Option<&BuildpackLayers> {
        self.buildpacks.iter().find(|buildpack| buildpack.key == id)
    }
}

/// Go writes a slice that was never appended to as `null`.
fn nil_when_empty<T: Serialize, S: serde::Serializer>(
    values: &Vec<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if values.is_empty() { serializer.serialize_none() } else { values.serialize(serializer) }
}

/// Go reads `null` as the zero value.
fn nil_is_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Free-form data from JSON or TOML. The `toml` crate passes a date as a map with one private key.
fn free_form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let mut value = Value::deserialize(deserializer)?;
    dates_to_text(&mut value);
    Ok(value)
}

fn dates_to_text(value: &mut Value) {
    let date = value.as_object().filter(|object| object.len() == 1);
    if let Some(date) = date.and_then(|object| object.get("$__toml_private_datetime")).cloned() {
        *value = date;
        return;
    }
    match value {
        Value::Object(object) => object.values_mut().for_each(dates_to_text),
        Value::Array(array) => array.iter_mut().for_each(dates_to_text),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> LifecycleMetadata {
        let layer = LayerMetadata {
            sha: "sha256:1".to_owned(),
            data: serde_json::json!({"z": 1, "a": {"d": 1.5, "b": "<&>"}}),
            build: false,
            launch: true,
            cache: true,
        };
        let names = RunImageNames { image: "run:1".to_owned(), mirrors: vec!["m/run:1".to_owned()] };
        LifecycleMetadata {
            app: vec![LayerSha { sha: "sha256:2".to_owned() }],
            sbom: Some(LayerSha { sha: "sha256:3".to_owned() }),
            buildpacks: vec![BuildpackLayers {
                key: "acme/web".to_owned(),
                version: "1.0".to_owned(),
                layers: BTreeMap::from([("deps".to_owned(), layer)]),
                store: Some(Store { metadata: serde_json::json!({"n": 3}) }),
            }],
            run_image: RunImageMetadata {
                top_layer: "sha256:4".to_owned(),
                reference: "run@sha256:5".to_owned(),
                names: names.clone(),
            },
            stack: Some(StackMetadata { run_image: names }),
            ..LifecycleMetadata::default()
        }
    }

    #[test]
    fn label_has_the_reference_bytes() {
        let expected = concat!(
            r#"{"app":[{"sha":"sha256:2"}],"sbom":{"sha":"sha256:3"},"#,
            r#""buildpacks":[{"key":"acme/web","version":"1.0","layers":{"deps":{"sha":"sha256:1","#,
            r#""data":{"a":{"b":"\u003c\u0026\u003e","d":1.5},"z":1},"build":false,"launch":true,"cache":true}},"#,
            r#""store":{"metadata":{"n":3}}}],"config":{"sha":""},"launcher":{"sha":""},"#,
            r#""process-types":{"sha":""},"runImage":{"topLayer":"sha256:4","reference":"run@sha256:5","#,
            r#""image":"run:1","mirrors":["m/run:1"]},"stack":{"runImage":{"image":"run:1","mirrors":["m/run:1"]}}}"#,
        );
        let text = go_json::to_string(&example()).unwrap();
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<LifecycleMetadata>(&text).unwrap(), example());
    }

    #[test]
    fn go_nil_is_written_and_read() {
        let text = go_json::to_string(&CacheMetadata::default()).unwrap();
        assert_eq!(text, r#"{"sbom":{"sha":""},"buildpacks":null}"#);
        assert_eq!(serde_json::from_str::<CacheMetadata>(&text).unwrap(), CacheMetadata::default());
        let label = r#"{"app":null,"buildpacks":[{"key":"a","layers":{"l":{"data":null}}}],"unknown":1}"#;
        let metadata: LifecycleMetadata = serde_json::from_str(label).unwrap();
        assert_eq!(metadata.buildpacks[0].layers["l"], LayerMetadata::default());
    }

    #[test]
    fn toml_form_reads_back_with_integers_kept() {
        let document = example().to_toml().to_document();
        assert!(document.contains("[buildpacks.layers.deps.metadata]"), "{document}");
        assert_eq!(toml::from_str::<LifecycleMetadata>(&document).unwrap(), example());
    }

    #[test]
    fn dates_in_toml_become_text() {
        let layer: LayerMetadata = toml::from_str("[metadata]\nd = 1979-05-27\n").unwrap();
        assert_eq!(layer.data, serde_json::json!({"d": "1979-05-27"}));
    }

    #[test]
    fn run_image_names_fall_back_to_the_stack() {
        let mut metadata = example();
        assert_eq!(metadata.run_image_names().unwrap().image, "run:1");
        metadata.run_image.names = RunImageNames::default();
        assert_eq!(metadata.run_image_names().unwrap().image, "run:1");
        metadata.stack = None;
        assert_eq!(metadata.run_image_names(), None);
    }
}
