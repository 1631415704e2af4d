//! JSON as Go's `encoding/json` writes it.
//!
//! Labels are compared byte for byte between builds, and an image id is the digest of a configuration that holds
//! them. So labels are written exactly as the reference lifecycle's Go writes them: no spaces, `<`, `>`, `&`,
//! U+2028 and U+2029 escaped, control characters as `\u00XX`, and the keys of free-form maps sorted by their bytes.

use std::fmt::Write as _;
use std::io;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::ser::{CharEscape, Formatter};

/// Serialises a value as Go would: fields in the order of the struct, maps of [`Sorted`] values by key.
///
/// # Errors
/// When a map key is not a string or a `Serialize` implementation fails; never for the types of this crate.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::with_capacity(256);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, GoFormatter))?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// Free-form data with the keys of every map sorted, whatever order they were read in.
#[derive(Debug, Clone, Copy)]
pub struct Sorted<'a>(pub &'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(object) => {
                let mut keys: Vec<_> = object.iter().collect();
                keys.sort_unstable_by_key(|(key, _)| *key);
                let mut map = serializer.serialize_map(Some(keys.len()))?;
                for (key, value) in keys {
                    map.serialize_entry(key, &Sorted(value))?;
                }
                map.end()
            }
            Value::Array(array) => {
                let mut sequence = serializer.serialize_seq(Some(array.len()))?;
                for value in array {
                    sequence.serialize_element(&Sorted(value))?;
                }
                sequence.end()
            }
            plain => plain.serialize(serializer),
        }
    }
}

/// For `#[serde(serialize_with = "go_json::sorted")]` on free-form data.
///
/// # Errors
/// As the serialiser's.
pub fn sorted<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    Sorted(value).serialize(serializer)
}

/// Free-form data of a TOML file as JSON. Dates become strings, as Go's `time.Time` does; so do the numbers that
/// JSON has no words for (`nan`, `inf`).
#[must_use]
pub fn from_toml(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text.clone()),
        toml::Value::Integer(integer) => Value::from(*integer),
        toml::Value::Float(float) => serde_json::Number::from_f64(*float)
            .map_or_else(|| Value::String(float.to_string().to_lowercase()), Value::Number),
        toml::Value::Boolean(boolean) => Value::Bool(*boolean),
        toml::Value::Datetime(datetime) => Value::String(datetime.to_string()),
        toml::Value::Array(array) => Value::Array(array.iter().map(from_toml).collect()),
        toml::Value::Table(table) => {
            Value::Object(table.iter().map(|(key, value)| (key.clone(), from_toml(value))).collect())
        }
    }
}

/// Writes compact JSON with Go's escapes and Go's floats.
struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut written = 0;
        for (index, character) in fragment.char_indices() {
            let escape: &[u8] = match character {
                '<' => b"\\u003c",
                '>' => b"\\u003e",
                '&' => b"\\u0026",
                '\u{2028}' => b"\\u2028",
                '\u{2029}' => b"\\u2029",
                _ => continue,
            };
            writer.write_all(&fragment.as_bytes()[written..index])?;
            writer.write_all(escape)?;
            written = index + character.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[written..])
    }

    fn write_char_escape<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let text: &[u8] = match escape {
            CharEscape::Quote => b"\\\"",
            CharEscape::ReverseSolidus => b"\\\\",
            CharEscape::Solidus => b"/",
            CharEscape::Backspace => b"\\b",
            CharEscape::FormFeed => b"\\f",
            CharEscape::LineFeed => b"\\n",
            CharEscape::CarriageReturn => b"\\r",
            CharEscape::Tab => b"\\t",
            CharEscape::AsciiControl(byte) => return write!(writer, "\\u{byte:04x}"),
        };
        writer.write_all(text)
    }

    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float(value).as_bytes())
    }
}

/// A float as Go's `encoding/json` writes it, except that a whole number keeps its `.0`: Go would write `1.0` as `1`,
/// and a buildpack that stored a float would get an integer back.
fn float(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => format!("{mantissa}e+{exponent}"),
            _ => text,
        };
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(text, "{value}");
    if !text.contains('.') {
        text.push_str(".0");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_go_escapes() {
        let table = [
            ("a<b>&c", r#""a\u003cb\u003e\u0026c""#),
            ("\u{2028}\u{2029}é/", "\"\\u2028\\u2029é/\""),
            ("\"\\\n\r\t", r#""\"\\\n\r\t""#),
            ("\u{8}\u{c}\u{1}\u{1f}\u{7f}", "\"\\b\\f\\u0001\\u001f\u{7f}\""),
        ];
        for (text, expected) in table {
            assert_eq!(to_string(text).unwrap(), expected);
        }
    }

    #[test]
    fn keys_are_escaped_and_sorted_by_bytes() {
        let value: Value = serde_json::from_str(r#"{"b<":1,"B":[{"z":null,"a":true}],"a":{}}"#).unwrap();
        assert_eq!(to_string(&Sorted(&value)).unwrap(), r#"{"B":[{"a":true,"z":null}],"a":{},"b\u003c":1}"#);
    }

    #[test]
    fn numbers_keep_their_type() {
        let table = [
            ("1", "1"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1.0", "1.0"),
            ("0.1", "0.1"),
            ("1e21", "1e+21"),
            ("1e20", "100000000000000000000.0"),
            ("0.000001", "0.000001"),
            ("1.5e-7", "1.5e-7"),
        ];
        for (text, expected) in table {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(to_string(&Sorted(&value)).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn toml_keeps_integers_and_writes_dates_as_text() {
        let table: toml::Table =
            toml::from_str("i = 3\nf = 3.0\nd = 1979-05-27T07:32:00Z\nn = nan\n").unwrap();
        let value = from_toml(&toml::Value::Table(table));
        assert_eq!(
            to_string(&Sorted(&value)).unwrap(),
            r#"{"d":"1979-05-27T07:32:00Z","f":3.0,"i":3,"n":"nan"}"#
        );
    }
}
