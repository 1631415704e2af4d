//! The history of an image: one entry per layer or change of the configuration.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::object::Object;
use super::schema::HISTORY;
use crate::Fields;
use crate::fields::lossless;

/// One entry of an image's history (image-spec `config.md`, "history").
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct History {
    /// Who made the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When, in RFC 3339; kept as text so that entries of base images stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command or tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the entry stands for no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// All other fields, kept as they are.
    #[serde(skip)]
    pub other: Fields,
}

lossless!(History);

impl History {
    /// The entry of a layer.
    #[must_use]
    pub fn new(created: Timestamp, created_by: &str) -> Self {
        Self {
            created: Some(created.to_string()),
            created_by: Some(created_by.to_owned()).filter(|text| !text.is_empty()),
            ..Self::default()
        }
    }

    /// Writing and reading plain fields cannot fail.
    pub(super) fn to_object(&self) -> Object {
        let text = serde_json::to_string(self).unwrap_or_default();
        Object::read(HISTORY, &text).unwrap_or_default()
    }
}
