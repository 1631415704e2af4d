//! Fields of JSON documents that this program has no name for, kept as the text that they were read from.
//!
//! A number that no machine has, an escape that nobody needs and the spaces of whoever wrote it: as a
//! [`serde_json::Value`] each of them would be written in another way than it was read, and what somebody signed or
//! compares would be something else.
//!
//! [`lossless!`](crate::fields::lossless) puts this beside what serde derives for the fields that are known. In a document
//! that is written again, these come first, in the order of the struct, and then the others as they stood. Of a known field
//! that is there twice the last counts, as for Go; an unknown one stays there twice, so that it means to others what it
//! meant before.

use std::fmt;

use serde::de::value::MapDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer, ser};
use serde_json::value::RawValue;

/// The fields of an object, in their order, each as the text that it was read from.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<Field>);

#[derive(Clone, PartialEq, Eq)]
struct Field {
    name: String,
    /// The name as it is written, with its quotes and escapes.
    key: Box<str>,
    value: Box<str>,
}

impl Fields {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a field of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|field| field.name == name)
    }

    /// The value of a field, the last of this name, when it is there and is a `T`.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let field = self.0.iter().rev().find(|field| field.name == name)?;
        serde_json::from_str(&field.value).ok()
    }

    /// Sets a field: in the place of the first of this name if there is one, else at the end.
    pub fn insert<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        // Serialising our own types cannot fail: their keys are strings and their values are plain.
        let text = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
        let first = self.0.iter().position(|field| field.name == name);
        self.0.retain(|field| field.name != name);
        self.0.insert(first.unwrap_or(self.0.len()), Field::new(name, text));
    }

    /// Adds a field of a name that is not there yet, with a value that is JSON already.
    pub(crate) fn push_text(&mut self, name: &str, text: String) {
        self.0.push(Field::new(name, text));
    }

    /// Removes all fields of this name; whether there was one.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|field| field.name != name);
        self.0.len() < before
    }

    pub(crate) fn push(&mut self, name: String, key: &RawValue, value: &RawValue) {
        self.0.push(Field { name, key: key.get().into(), value: value.get().into() });
    }

    /// Writes these fields behind those of an object, which ends with its brace.
    pub(crate) fn append_to(&self, object: &mut String) {
        object.pop();
        for field in &self.0 {
            let separator = if object.ends_with('{') { "" } else { "," };
            for part in [separator, &field.key, ":", &field.value] {
                object.push_str(part);
            }
        }
        object.push('}');
    }

    /// All fields as an object.
    pub(crate) fn to_text(&self) -> String {
        let mut object = "{}".to_owned();
        self.append_to(&mut object);
        object
    }
}

impl Field {
    fn new(name: &str, text: String) -> Self {
        let key = serde_json::Value::from(name).to_string();
        Self { name: name.to_owned(), key: key.into(), value: text.into() }
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_text())
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_text()).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let mut fields = Self::default();
        for (name, key, value) in members(text.get()).map_err(de::Error::custom)? {
            fields.push(name, key, value);
        }
        Ok(fields)
    }
}

/// What a field is called, its name as it is written, and its value.
pub(crate) type Member<'a> = (String, &'a RawValue, &'a RawValue);

/// The fields of an object's text.
pub(crate) fn members(text: &str) -> serde_json::Result<Vec<Member<'_>>> {
    struct Members<'a>(Vec<Member<'a>>);

    impl<'de> Deserialize<'de> for Members<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Reader)
        }
    }

    struct Reader;

    impl<'de> Visitor<'de> for Reader {
        type Value = Members<'de>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                let name = serde_json::from_str(key.get()).map_err(de::Error::custom)?;
                members.push((name, key, value));
            }
            Ok(Members(members))
        }
    }

    serde_json::from_str::<Members<'_>>(text).map(|Members(members)| members)
}

/// Gives the fields that a struct knows to what serde derived for it, and puts the others aside.
pub(crate) struct Sorter<'de, 'other> {
    pub(crate) text: &'de str,
    pub(crate) other: &'other mut Fields,
}

impl<'de> Deserializer<'de> for Sorter<'de, '_> {
    type Error = serde_json::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let mut known: Vec<Option<&RawValue>> = vec![None; names.len()];
        for (name, key, value) in members(self.text)? {
            match names.iter().position(|known| *known == name) {
                Some(index) => known[index] = Some(value),
                None => self.other.push(name, key, value),
            }
        }
        let known = names.iter().zip(known).filter_map(|(name, value)| Some((*name, value?)));
        visitor.visit_map(MapDeserializer::new(known))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("what is read is no struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Reads and writes a struct with `#[serde(remote = "Self")]`, all fields of which are known but those in its `other`, which
/// is `#[serde(skip)]`. What serde derives then is no implementation of its traits but functions of the same names, which
/// know nothing of `other`: these two add it.
macro_rules! lossless {
    ($type:ty) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
                let mut other = $crate::fields::Fields::default();
                let sorter = $crate::fields::Sorter { text: text.get(), other: &mut other };
                let known = <$type>::deserialize(sorter).map_err(serde::de::Error::custom)?;
                Ok(Self { other, ..known })
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if self.other.is_empty() {
                    return <$type>::serialize(self, serializer);
                }
                let mut known = Vec::new();
                <$type>::serialize(self, &mut serde_json::Serializer::new(&mut known))
                    .map_err(serde::ser::Error::custom)?;
                let text =
                    $crate::fields::with_others(known, &self.other).map_err(serde::ser::Error::custom)?;
                serde::Serialize::serialize(&text, serializer)
            }
        }
    };
}
pub(crate) use lossless;

/// The text of an object with other fields behind its own.
pub(crate) fn with_others(object: Vec<u8>, other: &Fields) -> serde_json::Result<Box<RawValue>> {
    let mut text = String::from_utf8(object).map_err(ser::Error::custom)?;
    other.append_to(&mut text);
    RawValue::from_string(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// JSON as somebody may write it: with the order, spaces, escapes and numbers that they chose.
    pub(crate) fn any_json() -> impl Strategy<Value = String> {
        let fixed = prop::sample::select(vec![
            "null",
            "true",
            "123456789012345678901234567890",
            "1e999",
            "-0.0",
            "1.10",
            "1E+2",
            r#""\u00e9""#,
            r#""é<&>\/\u2028""#,
            r#""\ud83d\ude00 \ud800""#,
            "{ }",
            "[ \n]",
            r#"{"a":1,"a":2}"#,
        ]);
        let number = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?";
        let text = ".{0,8}".prop_map(|text| serde_json::Value::from(text).to_string());
        let leaf = prop_oneof![fixed.prop_map(str::to_owned), number, text];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let spaced =
                ("[ \n\r\t]{0,2}", inner, "[ \n\r\t]{0,2}").prop_map(|(a, value, b)| a + &value + &b);
            let field = ("\"([a-z]|\\\\u00e9|\\\\/){0,3}\"[ \n]?", spaced.clone());
            let fields = prop::collection::vec(field.prop_map(|(key, value)| format!("{key}:{value}")), 0..4);
            prop_oneof![
                prop::collection::vec(spaced, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
                fields.prop_map(|fields| format!("{{{}}}", fields.join(","))),
            ]
        })
    }

    #[test]
    fn fields_are_found_set_and_removed_by_what_their_names_mean() {
        let text = r#"{"a":1e999,"\u0062":[ 1.10 ],"c":"x","b" : 2}"#;
        let mut fields: Fields = serde_json::from_str(text).unwrap();
        assert_eq!(fields.get::<u32>("b"), Some(2), "the last counts");
        assert_eq!(
            (fields.get::<f64>("a"), fields.contains("a")),
            (None, true),
            "no machine has this number"
        );
        assert_eq!((fields.get::<String>("x"), fields.get::<u8>("c")), (None, None));
        assert_eq!(fields.to_text(), r#"{"a":1e999,"\u0062":[ 1.10 ],"c":"x","b":2}"#);
        fields.insert("b", "new");
        fields.insert("d", &[1]);
        assert_eq!(fields.to_text(), r#"{"a":1e999,"b":"new","c":"x","d":[1]}"#);
        assert!(fields.remove("a") && !fields.remove("a") && !fields.contains("a"));
        assert_eq!(format!("{fields:?}"), serde_json::to_string(&fields).unwrap());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "1", "{", r#"{"a"}"#, r#"{"a":1}x"#, r#"{"\ud800":1}"#] {
            assert!(serde_json::from_str::<Fields>(text).is_err(), "{text}");
        }
    }

    /// Of what is known, as of what Go reads, the last counts.
    #[test]
    fn what_is_known_is_there_once() {
        let text = r#"{"os":"a","x":1,"architecture":"b","o\u0073":"c","x":2}"#;
        let platform: crate::Platform = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&platform).unwrap(), r#"{"architecture":"b","os":"c","x":1,"x":2}"#);
        let value = serde_json::to_value(&platform).unwrap();
        assert_eq!(serde_json::from_value::<crate::Platform>(value).unwrap().other.get::<u8>("x"), Some(2));
    }

    proptest! {
        #[test]
        fn objects_are_what_they_were(one in any_json(), two in any_json()) {
            let text = format!(r#"{{"a":{one},"\u00e9":{two},"":{one},"a":{two}}}"#);
            let fields: Fields = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(fields.to_text(), text);
        }
    }
}
