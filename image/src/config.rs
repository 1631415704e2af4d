//! Image configurations (image-spec `config.md`), lossless: what we do not know survives a rewrite.

use serde_json::{Map, Value};

/// An image configuration: its fields in the order they were read.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    fields: Map<String, Value>,
}
