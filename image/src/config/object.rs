//! An object of a configuration: its known fields as values, and all others as their text.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::fields::members;
use crate::{Fields, json};

/// The fields that an object is known to have, in the order in which they are written.
pub(super) type Schema = [Known];

/// A known field.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) empty: Empty,
}

/// What a known field holds. If it holds something else, that is kept as a value.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Value,
    /// An object whose names are free; they are written in their order.
    Map,
    Object(&'static Schema),
    /// Objects.
    List(&'static Schema),
}

/// What is written for a known field that says no more than a missing one does.
#[derive(Clone, Copy)]
pub(super) enum Empty {
    Omitted,
    /// What it holds, if it is there.
    Kept,
    /// This, whether it is there or not.
    Written(&'static str),
}

/// An object of which nothing is lost. Each known field is in one of the maps.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Object {
    values: BTreeMap<&'static str, Value>,
    maps: BTreeMap<&'static str, Map<String, Value>>,
    objects: BTreeMap<&'static str, Self>,
    lists: BTreeMap<&'static str, Vec<Self>>,
    other: Fields,
}

impl Object {
    /// Reads an object. Of a known field that is there twice the last counts.
    pub(super) fn read(schema: &Schema, text: &str) -> serde_json::Result<Self> {
        let mut object = Self::default();
        for (name, key, value) in members(text)? {
            match schema.iter().find(|known| known.name == name) {
                Some(known) => object.read_known(known, value.get())?,
                None => object.other.push(name, key, value),
            }
        }
        Ok(object)
    }

    fn read_known(&mut self, known: &Known, text: &str) -> serde_json::Result<()> {
        self.remove_known(known.name);
        match known.kind {
            Kind::Map if text.starts_with('{') => {
                self.maps.insert(known.name, serde_json::from_str(text)?);
            }
            Kind::Object(schema) if text.starts_with('{') => {
                self.objects.insert(known.name, Self::read(schema, text)?);
            }
            Kind::List(schema) if text.starts_with('[') => {
                let entries: Vec<&RawValue> = serde_json::from_str(text)?;
                let entries = entries.iter().map(|entry| Self::read(schema, entry.get()));
                self.lists.insert(known.name, entries.collect::<Result<_, _>>()?);
            }
            _ => {
                self.values.insert(known.name, serde_json::from_str(text)?);
            }
        }
        Ok(())
    }

    /// The text that it is written as: known fields in the order of the schema, then the others as they stood.
    pub(super) fn text(&self, schema: &Schema) -> String {
        let mut fields = Fields::default();
        for known in schema {
            let text = self.text_of(known);
            let is_empty = text.as_ref().is_none_or(|text| is_empty(text));
            let written = match known.empty {
                Empty::Omitted => text.filter(|_| !is_empty),
                Empty::Kept => text,
                Empty::Written(default) if is_empty => Some(default.to_owned()),
                Empty::Written(_) => text,
            };
            if let Some(text) = written {
                fields.push_text(known.name, text);
            }
        }
        let mut text = fields.to_text();
        self.other.append_to(&mut text);
        text
    }

    fn text_of(&self, known: &Known) -> Option<String> {
        let as_kind = match known.kind {
            Kind::Value => None,
            Kind::Map => self.maps.get(known.name).map(|map| go_text(&Value::Object(json::sort(map)))),
            Kind::Object(schema) => self.objects.get(known.name).map(|object| object.text(schema)),
            Kind::List(schema) => self.lists.get(known.name).map(|entries| {
                let entries: Vec<String> = entries.iter().map(|entry| entry.text(schema)).collect();
                format!("[{}]", entries.join(","))
            }),
        };
        as_kind.or_else(|| self.values.get(known.name).map(go_text))
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    pub(super) fn map(&self, name: &str) -> Option<&Map<String, Value>> {
        self.maps.get(name)
    }

    pub(super) fn object(&self, name: &str) -> Option<&Self> {
        self.objects.get(name)
    }

    pub(super) fn list(&self, name: &str) -> &[Self] {
        self.lists.get(name).map_or(&[], Vec::as_slice)
    }

    /// Sets a known field. An empty value removes it.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        if is_empty(&value.to_string()) {
            self.values.remove(name);
        } else {
            self.put(name, value);
        }
    }

    /// Sets a known field, also to an empty value.
    pub(super) fn put(&mut self, name: &'static str, value: Value) {
        self.values.insert(name, value);
    }

    /// The object with free names at `name`; whatever else stood there is replaced by an empty one.
    pub(super) fn map_mut(&mut self, name: &'static str) -> &mut Map<String, Value> {
        self.values.remove(name);
        self.maps.entry(name).or_default()
    }

    /// The object at `name`; whatever else stood there is replaced by an empty one.
    pub(super) fn object_mut(&mut self, name: &'static str) -> &mut Self {
        self.values.remove(name);
        self.objects.entry(name).or_default()
    }

    pub(super) fn set_list(&mut self, name: &'static str, list: Vec<Self>) {
        self.values.remove(name);
        self.lists.insert(name, list);
    }

    /// Removes a field; whether it was there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let was_known = self.remove_known(name);
        self.other.remove(name) || was_known
    }

    fn remove_known(&mut self, name: &str) -> bool {
        let in_values = self.values.remove(name).is_some();
        let in_maps = self.maps.remove(name).is_some();
        let in_objects = self.objects.remove(name).is_some();
        self.lists.remove(name).is_some() || in_objects || in_maps || in_values
    }
}

fn go_text(value: &Value) -> String {
    json::escape_as_go(value.to_string())
}

/// Whether a value says no more than a missing field does.
fn is_empty(text: &str) -> bool {
    matches!(text, "null" | "false" | r#""""# | "[]" | "{}")
}
