//! `project-metadata.toml` and the `io.buildpacks.project.metadata` label: where the app's source is from
//! (platform.md "`project-metadata.toml` (TOML)", "`io.buildpacks.project.metadata` (JSON)").

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::go_json;

/// The name of the label.
pub const PROJECT_METADATA_LABEL: &str = "io.buildpacks.project.metadata";

/// The content of file and label.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ProjectMetadata {
    /// The source, if anything is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ProjectSource>,
}

/// Where the source is from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ProjectSource {
    /// The kind of place: `git`, `project`, ...
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What identifies the version.
    #[serde(serialize_with = "go_json::sorted", skip_serializing_if = "is_empty")]
    pub version: Value,
    /// Anything else.
    #[serde(serialize_with = "go_json::sorted", skip_serializing_if = "is_empty")]
    pub metadata: Value,
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_none_or(Map::is_empty)
}

impl ProjectMetadata {
    /// Reads the file's content.
    ///
    /// # Errors
    /// When it is not TOML, or a value has the wrong type.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        #[derive(Deserialize)]
        struct File {
            source: Option<Source>,
        }
        #[derive(Deserialize)]
        #[serde(default)]
        struct Source {
            r#type: String,
            version: toml::Table,
            metadata: toml::Table,
        }
        impl Default for Source {
            fn default() -> Self {
                Self { r#type: String::new(), version: toml::Table::new(), metadata: toml::Table::new() }
            }
        }
        let file: File = toml::from_str(text)?;
        let json = |table| go_json::from_toml(&toml::Value::Table(table));
        Ok(Self {
            source: file.source.map(|source| ProjectSource {
                kind: source.r#type,
                version: json(source.version),
                metadata: json(source.metadata),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_the_json_of_the_file() {
        let table = [
            ("", "{}"),
            ("[source]\n", r#"{"source":{}}"#),
            (
                "[source]\ntype = \"git\"\n[source.version]\ndescribe = \"v1<2\"\ncommit = \"abc\"\n[source.metadata]\nrefs = [\"main\"]\n",
                r#"{"source":{"type":"git","version":{"commit":"abc","describe":"v1\u003c2"},"metadata":{"refs":["main"]}}}"#,
            ),
        ];
        for (file, label) in table {
            let metadata = ProjectMetadata::parse(file).unwrap();
            assert_eq!(go_json::to_string(&metadata).unwrap(), label);
        }
        assert!(ProjectMetadata::parse("[source]\nversion = 1\n").is_err());
    }
}
