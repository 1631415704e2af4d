//! The patterns of slices: Go's `filepath.Match`, which knows no `**` and whose `*` and `?` stop at `/`.

use std::path::{Component, Path, PathBuf};

use super::error::LayerError;

enum Token {
    Star,
    AnyCharacter,
    Character(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// A compiled pattern.
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    /// Compiles a pattern, relative to the application directory; `./a/` is `a`.
    pub(super) fn new(text: &str) -> Result<Self, LayerError> {
        let invalid = |reason| LayerError::Pattern { pattern: text.to_owned(), reason };
        let clean = clean(text);
        let mut characters = clean.chars().peekable();
        let mut tokens = Vec::new();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Star,
                '?' => Token::AnyCharacter,
                '\\' => Token::Character(characters.next().ok_or_else(|| invalid("it ends with `\\`"))?),
                '[' => class(&mut characters).ok_or_else(|| invalid("a `[` has no valid end"))?,
                other => Token::Character(other),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether a whole path matches. `reachable[i]` says whether the first `i` characters can be matched so far.
    pub(super) fn matches(&self, path: &str) -> bool {
        let characters: Vec<char> = path.chars().collect();
        let mut reachable = vec![false; characters.len() + 1];
        reachable[0] = true;
        for token in &self.0 {
            let mut next = vec![false; characters.len() + 1];
            for (index, _) in reachable.iter().enumerate().filter(|(_, reached)| **reached) {
                if let Token::Star = token {
                    let run = characters[index..].iter().take_while(|character| **character != '/').count();
                    next[index..=index + run].fill(true);
                } else if characters.get(index).is_some_and(|character| token.accepts(*character)) {
                    next[index + 1] = true;
                }
            }
            reachable = next;
        }
        reachable.last().copied().unwrap_or(false)
    }
}

impl Token {
    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Star => false,
            Self::AnyCharacter => character != '/',
            Self::Character(wanted) => *wanted == character,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&&character)) != *negated
            }
        }
    }
}

fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && characters.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let low = class_character(characters)?;
        let high = match characters.next_if_eq(&'-') {
            Some(_) => class_character(characters)?,
            None => low,
        };
        ranges.push((low, high));
    }
}

fn class_character(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match characters.next()? {
        '-' | ']' => None,
        '\\' => characters.next(),
        other => Some(other),
    }
}

/// The path without `.`, doubled slashes and what `..` takes back, as Go's `filepath.Clean`.
fn clean(text: &str) -> String {
    let mut cleaned = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(cleaned.components().next_back(), Some(Component::Normal(_))) =>
            {
                cleaned.pop();
            }
            Component::ParentDir if cleaned.has_root() => {}
            other => cleaned.push(other),
        }
    }
    if cleaned.as_os_str().is_empty() { ".".to_owned() } else { cleaned.to_string_lossy().into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        let table = [
            ("a", "a", true),
            ("./a/", "a", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("**", "a/b", false),
            ("a/*", "a/b", true),
            ("a/*/c", "a/b/c", true),
            ("*.py", "main.py", true),
            ("*.py", "src/main.py", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "zx", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("x/../a", "a", true),
            ("/a", "a", false),
            ("ü?", "üé", true),
            ("[\\]]", "]", true),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(Pattern::new(pattern).unwrap().matches(path), expected, "{pattern} on {path}");
        }
        for pattern in ["[", "[]a]", "[a", "a\\", "[-x]", "[a-]"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }
}
