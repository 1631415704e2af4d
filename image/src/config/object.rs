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

/// An object of which nothing is lost.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Object {
    known: BTreeMap<&'static str, Held>,
    other: Fields,
}

#[derive(Debug, Clone, PartialEq)]
enum Held {
    Value(Value),
    Object(Object),
    List(Vec<Object>),
}

impl Object {
    /// Reads an object. Of a known field that is there twice the last counts.
    pub(super) fn read(schema: &Schema, text: &str) -> serde_json::Result<Self> {
        let mut object = Self::default();
        for (name, key, value) in members(text)? {
            match schema.iter().find(|known| known.name == name) {
                Some(known) => drop(object.known.insert(known.name, Held::read(known.kind, value)?)),
                None => object.other.push(name, key, value),
            }
        }
        Ok(object)
    }

    /// The text that it is written as: known fields in the order of the schema, then the others as they stood.
    pub(super) fn text(&self, schema: &Schema) -> String {
        let mut fields = Fields::default();
        for known in schema {
            let text = self.known.get(known.name).map(|held| held.text(known.kind));
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

    /// The value of a known field that is no object of known fields.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        match self.known.get(name)? {
            Held::Value(value) => Some(value),
            Held::Object(_) | Held::List(_) => None,
        }
    }

    /// Sets a known field. An empty value removes it.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        if is_empty(&value.to_string()) {
            self.known.remove(name);
        } else {
            self.put(name, value);
        }
    }

    /// Sets a known field, also to an empty value.
    pub(super) fn put(&mut self, name: &'static str, value: Value) {
        self.known.insert(name, Held::Value(value));
    }

    /// Removes a field; whether it was there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let was_known = self.known.remove(name).is_some();
        self.other.remove(name) || was_known
    }

    pub(super) fn object(&self, name: &str) -> Option<&Self> {
        match self.known.get(name)? {
            Held::Object(object) => Some(object),
            Held::Value(_) | Held::List(_) => None,
        }
    }

    /// The object at `name`; whatever else stood there is replaced by an empty one.
    pub(super) fn object_mut(&mut self, name: &'static str) -> &mut Self {
        let held = self.known.entry(name).or_insert_with(|| Held::Object(Self::default()));
        if !matches!(held, Held::Object(_)) {
            *held = Held::Object(Self::default());
        }
        match held {
            Held::Object(object) => object,
            #[expect(clippy::unreachable, reason = "it was made an object above")]
            Held::Value(_) | Held::List(_) => unreachable!(),
        }
    }

    /// The object with free names at `name`; whatever else stood there is replaced by an empty one.
    pub(super) fn map_mut(&mut self, name: &'static str) -> &mut Map<String, Value> {
        let held = self.known.entry(name).or_insert(Held::Value(Value::Null));
        if !matches!(held, Held::Value(Value::Object(_))) {
            *held = Held::Value(Value::Object(Map::new()));
        }
        match held {
            Held::Value(Value::Object(map)) => map,
            #[expect(clippy::unreachable, reason = "it was made an object above")]
            _ => unreachable!(),
        }
    }

    pub(super) fn list(&self, name: &str) -> &[Self] {
        match self.known.get(name) {
            Some(Held::List(list)) => list,
            _ => &[],
        }
    }

    pub(super) fn set_list(&mut self, name: &'static str, list: Vec<Self>) {
        self.known.insert(name, Held::List(list));
    }
}

impl Held {
    fn read(kind: Kind, value: &RawValue) -> serde_json::Result<Self> {
        let text = value.get();
        Ok(match kind {
            Kind::Object(schema) if text.starts_with('{') => Self::Object(Object::read(schema, text)?),
            Kind::List(schema) if text.starts_with('[') => {
                let list: Vec<&RawValue> = serde_json::from_str(text)?;
                let objects = list.iter().map(|entry| Object::read(schema, entry.get()));
                Self::List(objects.collect::<Result<_, _>>()?)
            }
            _ => Self::Value(serde_json::from_str(text)?),
        })
    }

    fn text(&self, kind: Kind) -> String {
        match (self, kind) {
            (Self::Value(Value::Object(map)), Kind::Map) => {
                json::escape_as_go(Value::Object(json::sort(map)).to_string())
            }
            (Self::Value(value), _) => json::escape_as_go(value.to_string()),
            (Self::Object(object), Kind::Object(schema)) => object.text(schema),
            (Self::Object(object), _) => object.text(&[]),
            (Self::List(list), kind) => {
                let schema = if let Kind::List(schema) = kind { schema } else { &[] };
                let entries: Vec<String> = list.iter().map(|entry| entry.text(schema)).collect();
                format!("[{}]", entries.join(","))
            }
        }
    }
}

/// Whether a value says no more than a missing field does.
fn is_empty(text: &str) -> bool {
    matches!(text, "null" | "false" | r#""""# | "[]" | "{}")
}
