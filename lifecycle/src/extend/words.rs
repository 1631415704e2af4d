//! Variables and quotes in instructions, as Dockerfiles mean them.

use std::collections::BTreeMap;

use super::DockerfileProblem;

/// Values of variables.
pub(super) type Variables = BTreeMap<String, String>;

/// Replaces variables in a text and removes quotes: one word.
pub(super) fn expand(text: &str, variables: &Variables, escape: char) -> Result<String, DockerfileProblem> {
    let mut reader = Reader { rest: text.chars().peekable(), variables, escape };
    let mut word = String::new();
    reader.word(&mut word, |_| false)?;
    Ok(word)
}

/// Replaces variables in a text whose quotes are its own: a here-document.
pub(super) fn expand_text(
    text: &str,
    variables: &Variables,
    escape: char,
) -> Result<String, DockerfileProblem> {
    let mut reader = Reader { rest: text.chars().peekable(), variables, escape };
    let mut expanded = String::new();
    while let Some(character) = reader.rest.next() {
        match character {
            '$' => reader.variable(&mut expanded)?,
            _ if character == escape && reader.rest.peek() == Some(&'$') => {
                expanded.extend(reader.rest.next());
            }
            _ => expanded.push(character),
        }
    }
    Ok(expanded)
}

/// The words of a text, split at blanks outside quotes, with quotes and variables as they stand.
pub(super) fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match quote {
            None if character.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if matches!(character, '"' | '\'') => quote = Some(character),
            Some(open) if character == open => quote = None,
            _ => {}
        }
        word.push(character);
        if character == escape && quote != Some('\'') {
            word.extend(characters.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    variables: &'a Variables,
    escape: char,
}

impl Reader<'_> {
    /// Reads until the end, or a character that `ends`, which is left.
    fn word(&mut self, word: &mut String, ends: impl Fn(char) -> bool) -> Result<(), DockerfileProblem> {
        while let Some(&character) = self.rest.peek() {
            if ends(character) {
                return Ok(());
            }
            self.rest.next();
            match character {
                '\'' => loop {
                    match self.rest.next() {
                        Some('\'') => break,
                        Some(other) => word.push(other),
                        None => return Err(DockerfileProblem::OpenQuote),
                    }
                },
                '"' => self.double_quoted(word)?,
                '$' => self.variable(word)?,
                _ if character == self.escape => word.extend(self.rest.next()),
                _ => word.push(character),
            }
        }
        Ok(())
    }

    fn double_quoted(&mut self, word: &mut String) -> Result<(), DockerfileProblem> {
        loop {
            match self.rest.next() {
                Some('"') => return Ok(()),
                Some('$') => self.variable(word)?,
                Some(character) if character == self.escape => match self.rest.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => word.push(next),
                    next => {
                        word.push(character);
                        word.extend(next);
                    }
                },
                Some(character) => word.push(character),
                None => return Err(DockerfileProblem::OpenQuote),
            }
        }
    }

    /// What follows a `$`.
    fn variable(&mut self, word: &mut String) -> Result<(), DockerfileProblem> {
        let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
        if self.rest.peek() != Some(&'{') {
            let mut name = String::new();
            while let Some(character) = self.rest.next_if(|character| is_name(*character)) {
                name.push(character);
            }
            match name.is_empty() {
                true => word.push('$'),
                false => word.push_str(self.value(&name).unwrap_or_default()),
            }
            return Ok(());
        }
        self.rest.next();
        let mut name = String::new();
        while let Some(character) = self.rest.next_if(|character| is_name(*character)) {
            name.push(character);
        }
        let invalid = |what: &str| DockerfileProblem::Substitution(format!("${{{name}{what}"));
        let value = self.value(&name).map(str::to_owned);
        if name.is_empty() {
            return Err(invalid(""));
        }
        let counts_empty = self.rest.next_if_eq(&':').is_some();
        let is_set = value.as_ref().is_some_and(|value| !counts_empty || !value.is_empty());
        let operator = self.rest.next();
        match operator {
            Some('}') if !counts_empty => {
                word.push_str(&value.unwrap_or_default());
                return Ok(());
            }
            Some('-' | '+' | '?') => {}
            other => return Err(invalid(&other.map(String::from).unwrap_or_default())),
        }
        let mut other = String::new();
        self.word(&mut other, |character| character == '}')?;
        if self.rest.next() != Some('}') {
            return Err(invalid(""));
        }
        match (operator, is_set) {
            (Some('-' | '?'), true) => word.push_str(&value.unwrap_or_default()),
            (Some('?'), false) => return Err(DockerfileProblem::Unset { name, text: other }),
            (Some('-'), false) | (Some('+'), true) => word.push_str(&other),
            _ => {}
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        [("A", "one"), ("EMPTY", ""), ("P", "/bin:/usr")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn variables_and_quotes() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A-${A}", "one-one"),
            ("$MISSING.", "."),
            ("a$", "a$"),
            ("${A:-x}${EMPTY:-x}${EMPTY-x}${MISSING:-${A}}", "onexone"),
            ("${A:+x}${EMPTY:+x}${EMPTY+y}${MISSING+z}", "xy"),
            (r#""a b $A"'$A'"#, "a b one$A"),
            (r"\$A \a", "$A a"),
            (r#""\$A \" \a""#, r#"$A " \a"#),
            ("/opt:$P", "/opt:/bin:/usr"),
        ] {
            assert_eq!(expand(text, &variables(), '\\').unwrap(), expected, "{text}");
        }
        assert_eq!(expand("`$A \\", &variables(), '`').unwrap(), "$A \\");
        for text in ["${A", "${", "${A:x}", "\"a", "'a", "${MISSING:?why}"] {
            assert!(expand(text, &variables(), '\\').is_err(), "{text}");
        }
    }

    #[test]
    fn here_documents_keep_their_quotes() {
        let text = "\"$A\" '${A}' \\$A \\n\n";
        assert_eq!(expand_text(text, &variables(), '\\').unwrap(), "\"one\" 'one' $A \\n\n");
    }

    #[test]
    fn words_are_split_outside_quotes() {
        let words = split(r#"a "b c"=d  e\ f 'g "h'  "#, '\\');
        assert_eq!(words, ["a", "\"b c\"=d", "e\\ f", "'g \"h'"]);
    }
}
