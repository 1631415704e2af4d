//! Names of files as text: they are bytes, and mostly UTF-8.

/// A name as text: bytes that are no UTF-8, and backslashes, become `\xNN`.
pub(crate) fn encode(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\x5c"));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The name; `None` when the text is not one that [`encode`] gives.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('\\');
    let mut name = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let hex = part.strip_prefix('x')?.get(..2)?;
        name.push(u8::from_str_radix(hex, 16).ok()?);
        name.extend_from_slice(&part.as_bytes()[3..]);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::prop_compose! {
        fn any_name()(name in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) -> Vec<u8> { name }
    }

    proptest::proptest! {
        #[test]
        fn names_come_back(name in any_name()) {
            proptest::prop_assert_eq!(decode(&encode(&name)), Some(name));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}") {
            let _ = decode(&text);
        }
    }
}
