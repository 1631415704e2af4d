//! In what two images differ: layers, files, and fields of their configurations.

mod files;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::Value;

use crate::{Config, DiffId, Image, ImageStore, StoreError, UnpackError};
use files::Files;

/// In what two images differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageDiff {
    /// How many layers they begin with that are the same.
    pub common_layers: usize,
    /// The other layers.
    pub layers: Vec<Difference>,
    /// Fields of the configuration, as paths (`config.Env.PATH`).
    pub config: Vec<Difference>,
    /// Files of the whole images.
    pub files: Vec<Difference>,
}

/// Something that is not the same in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Which layer, field or file.
    pub name: String,
    /// What the first image has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What the second image has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Why images could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// A layer cannot be read.
    #[error("cannot read the layer {diff_id} of `{reference}`")]
    Read {
        /// The image.
        reference: String,
        /// The layer.
        diff_id: DiffId,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// A layer is no tar, or not the one that the configuration names.
    #[error("the layer {diff_id} of `{reference}` cannot be read")]
    Layer {
        /// The image.
        reference: String,
        /// The layer.
        diff_id: DiffId,
        /// Why.
        #[source]
        source: Box<UnpackError>,
    },
    /// Configuration and manifest do not fit.
    #[error("`{reference}` does not have as many layers as its configuration names")]
    Layers {
        /// The image.
        reference: String,
    },
}

/// An image, and where its layers can be read.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The image.
    pub image: &'a Image,
    /// Where it is.
    pub store: &'a dyn ImageStore,
}

/// Compares two images. Layers are read only when there are some that are not the same; those that are the same are read
/// once.
///
/// # Errors
/// When a layer cannot be read or is not what it should be.
pub fn diff(before: Side<'_>, after: Side<'_>) -> Result<ImageDiff, DiffError> {
    let (old, new) = (before.image.config.diff_ids(), after.image.config.diff_ids());
    let common_layers = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let mut files = Vec::new();
    if old != new {
        let mut base = Files::default();
        for index in 0..common_layers {
            before.apply(index, &mut base)?;
        }
        let (mut first, mut second) = (base.clone(), base);
        for index in common_layers..old.len() {
            before.apply(index, &mut first)?;
        }
        for index in common_layers..new.len() {
            after.apply(index, &mut second)?;
        }
        files = files::compare(&first, &second);
    }
    Ok(ImageDiff {
        common_layers,
        layers: layers(&old, &new, common_layers),
        config: configs(&before.image.config, &after.image.config),
        files,
    })
}

impl Side<'_> {
    fn apply(&self, index: usize, files: &mut Files) -> Result<(), DiffError> {
        let reference = self.image.reference.familiar();
        let diff_ids = self.image.config.diff_ids();
        let blobs = self.image.manifest.as_image().map(|image| image.layers.as_slice()).unwrap_or_default();
        let (Some(diff_id), Some(blob), true) =
            (diff_ids.get(index).copied(), blobs.get(index), blobs.len() == diff_ids.len())
        else {
            return Err(DiffError::Layers { reference });
        };
        let reader = self.store.open_blob(&self.image.reference, blob);
        let reader = reader.map_err(|source| DiffError::Read {
            reference: reference.clone(),
            diff_id,
            source: Box::new(source),
        })?;
        files.apply(reader, diff_id).map_err(|source| DiffError::Layer {
            reference,
            diff_id,
            source: Box::new(source),
        })
    }
}

fn layers(old: &[DiffId], new: &[DiffId], common: usize) -> Vec<Difference> {
    let rest = |list: &[DiffId], index: usize| list.get(index).map(ToString::to_string);
    (common..old.len().max(new.len()))
        .map(|index| (index, rest(old, index), rest(new, index)))
        .filter(|(_, before, after)| before != after)
        .map(|(index, before, after)| Difference { name: format!("layer {}", index + 1), before, after })
        .collect()
}

/// Layers are compared elsewhere, and their history says nothing that they do not.
const NOT_COMPARED: [&str; 2] = ["rootfs", "history"];

fn configs(before: &Config, after: &Config) -> Vec<Difference> {
    let value = |config: &Config| serde_json::from_slice(&config.to_bytes()).unwrap_or(Value::Null);
    let mut differences = Vec::new();
    values(String::new(), Some(&value(before)), Some(&value(after)), &mut differences);
    differences.retain(|difference: &Difference| {
        let first = difference.name.split('.').next().unwrap_or_default();
        !NOT_COMPARED.contains(&first)
    });
    differences
}

fn values(name: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    let within = |field: &str| if name.is_empty() { field.to_owned() } else { format!("{name}.{field}") };
    match (before, after) {
        (Some(old), Some(new)) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|field| !old.contains_key(*field));
            let mut fields: Vec<&String> = old.keys().chain(added).collect();
            fields.sort();
            for field in fields {
                values(within(field), old.get(field), new.get(field), found);
            }
        }
        // Each variable of the environment for itself.
        (Some(Value::Array(old)), Some(Value::Array(new))) if name.ends_with("Env") => {
            let (old, new) = (variables(old), variables(new));
            values(name, Some(&Value::Object(old)), Some(&Value::Object(new)), found);
        }
        (old, new) => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            found.push(Difference { name, before: old.map(text), after: new.map(text) });
        }
    }
}

fn variables(list: &[Value]) -> serde_json::Map<String, Value> {
    let pairs = list.iter().filter_map(Value::as_str).map(|text| text.split_once('=').unwrap_or((text, "")));
    pairs.map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}
