//! JSON as Go's `encoding/json` writes it, where other tools compare bytes or digests.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Compact JSON as Go writes it.
pub(crate) fn to_go_bytes<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    serde_json::to_string(value).map(|text| escape_as_go(text).into_bytes())
}

/// JSON with `<`, `>`, `&`, U+2028 and U+2029 escaped, which Go does and serde does not. These characters occur only within
/// strings, so replacing them in the text is safe.
pub(crate) fn escape_as_go(text: String) -> String {
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 64);
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Go writes what is empty as null, where others leave it out: for `deserialize_with`.
pub(crate) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The fields sorted by name.
pub(crate) fn sort(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    sorted.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_go_does() {
        let bytes = to_go_bytes(&"<a href=\"x\">&\u{2028}\u{2029}ü\u{8}\u{c}\u{1}\u{7f}").unwrap();
        let expected = "\"\\u003ca href=\\\"x\\\"\\u003e\\u0026\\u2028\\u2029ü\\b\\f\\u0001\u{7f}\"";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
