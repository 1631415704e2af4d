//! `<layer>.toml`: the types and the metadata of a layer.
//!
//! Spec: buildpack.md "Layer Content Metadata (TOML)" and "Layer Types".

use serde::{Deserialize, Serialize};

/// The contents of `<layers>/<buildpack>/<layer>.toml`. Values keep their types: an integer stays an integer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerToml {
    /// What the layer is for. Never restored from a previous build.
    #[serde(default, skip_serializing_if = "LayerTypes::is_ignored")]
    pub types: LayerTypes,
    /// Whatever the buildpack wants to know about the layer in the next build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<toml::Value>,
    /// Keys of the format of Buildpack API 0.5, which the lifecycle must refuse.
    #[serde(flatten)]
    top_level: TopLevelTypes,
}

/// The `[types]` of a layer; all false when it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LayerTypes {
    /// Part of the app image.
    #[serde(default)]
    pub launch: bool,
    /// Available to later buildpacks of the same build.
    #[serde(default)]
    pub build: bool,
    /// Kept for the next build.
    #[serde(default)]
    pub cache: bool,
}

impl LayerTypes {
    /// Whether the layer is for nothing: it is then set aside when its buildpack is done.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub fn is_ignored(&self) -> bool {
        !self.launch && !self.build && !self.cache
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct TopLevelTypes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    launch: Option<toml::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    build: Option<toml::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache: Option<toml::Value>,
}

impl LayerToml {
    /// A layer with types and metadata.
    pub fn new(types: LayerTypes, metadata: Option<toml::Value>) -> Self {
        Self { types, metadata, top_level: TopLevelTypes::default() }
    }

    /// Whether `launch`, `build` or `cache` stand outside `[types]`, where they have no meaning any more.
    pub fn has_top_level_types(&self) -> bool {
        self.top_level != TopLevelTypes::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_default_to_false_and_metadata_keep_their_types() {
        let cases = [
            ("", LayerTypes::default(), None),
            (
                "[types]\nlaunch = true\n[metadata]\nn = 3\nf = 3.0\n",
                LayerTypes { launch: true, ..LayerTypes::default() },
                Some("n = 3\nf = 3.0\n"),
            ),
            (
                "[types]\nbuild = true\ncache = true\n",
                LayerTypes { build: true, cache: true, launch: false },
                None,
            ),
        ];
        for (text, types, metadata) in cases {
            let layer: LayerToml = toml::from_str(text).expect("valid");
            assert_eq!(layer.types, types, "{text}");
            let written = layer.metadata.as_ref().map(|value| toml::to_string(value).expect("serializable"));
            assert_eq!(written.as_deref(), metadata, "{text}");
            assert!(!layer.has_top_level_types(), "{text}");
        }
    }

    #[test]
    fn types_outside_their_table_are_noticed() {
        for text in ["launch = true", "build = false", "cache = 'yes'\n[types]\ncache = true"] {
            assert!(toml::from_str::<LayerToml>(text).expect("valid").has_top_level_types(), "{text}");
        }
    }

    #[test]
    fn a_type_that_is_no_boolean_is_refused() {
        assert!(toml::from_str::<LayerToml>("[types]\nlaunch = 'true'").is_err());
    }

    #[test]
    fn restored_metadata_are_written_without_types() {
        let layer = LayerToml::new(LayerTypes::default(), Some(toml::Value::Table(toml::toml! { n = 3 })));
        assert_eq!(toml::to_string(&layer).expect("serializable"), "[metadata]\nn = 3\n");
    }
}
