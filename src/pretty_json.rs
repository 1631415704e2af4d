//! JSON for people to read, with every number and text as it is.

use serde::Serialize;

/// A document with a line for each field and item. It is made of the document's text, because a value of JSON would hold
/// numbers of this machine, which those in manifests of others need not be.
pub(crate) fn pretty<T: Serialize>(document: &T) -> serde_json::Result<String> {
    serde_json::to_string(document).map(|text| with_lines(&text))
}

fn with_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() * 2);
    let mut strings = Strings::default();
    let mut depth = 0;
    let mut has_just_begun = false;
    for character in text.chars() {
        let is_text = strings.holds(character);
        if !is_text && matches!(character, ' ' | '\n' | '\r' | '\t') {
            continue;
        }
        let is_end = !is_text && matches!(character, '}' | ']');
        depth -= usize::from(is_end);
        // What is empty begins and ends on one line.
        if has_just_begun != is_end {
            line(&mut shown, depth);
        }
        has_just_begun = !is_text && matches!(character, '{' | '[');
        depth += usize::from(has_just_begun);
        shown.push(character);
        match character {
            ',' if !is_text => line(&mut shown, depth),
            ':' if !is_text => shown.push(' '),
            _ => {}
        }
    }
    shown
}

fn line(shown: &mut String, depth: usize) {
    shown.push('\n');
    shown.extend(std::iter::repeat_n("  ", depth));
}

/// Whether characters are within strings, told one after the other.
#[derive(Default)]
struct Strings {
    is_inside: bool,
    is_escaped: bool,
}

impl Strings {
    /// Whether a character belongs to a string, its quotes among it.
    fn holds(&mut self, character: char) -> bool {
        let was_inside = self.is_inside;
        let was_escaped = std::mem::take(&mut self.is_escaped);
        match character {
            '"' if !was_escaped => self.is_inside = !was_inside,
            '\\' => self.is_escaped = was_inside && !was_escaped,
            _ => {}
        }
        was_inside || self.is_inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_as_serde_writes_it() {
        for text in [
            "1",
            r#""a\\\"{b: [ ,}""#,
            "[]",
            "{}",
            r#"{"a":[1,{"b":{},"c":[[]]}],"\"":" \\","d":null}"#,
            "[ [ ] , { } , \"\\\\\" , \"x  y\" ]",
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(with_lines(text), serde_json::to_string_pretty(&value).unwrap());
        }
    }

    #[test]
    fn numbers_and_texts_stay_as_they_are() {
        let text = r#"{"a": 1e999,"b":[123456789012345678901234567890, -0.0],"c":"\u00e9"}"#;
        let expected = "{\n  \"a\": 1e999,\n  \"b\": [\n    123456789012345678901234567890,\n    -0.0\n  ],\n  \"c\": \"\\u00e9\"\n}";
        assert_eq!(with_lines(text), expected);
    }
}
