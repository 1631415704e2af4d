//! Patterns of names: in `COPY`, and in `.dockerignore`.

/// Whether a path, with `/` between its parts, matches a pattern: `*` and `?` for characters of one part, `[a-z]` for one
/// of some, `**` for any number of parts.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let parts = |text: &str| -> Vec<Vec<char>> {
        text.split('/').filter(|part| !part.is_empty()).map(|part| part.chars().collect()).collect()
    };
    matches_parts(&parts(pattern), &parts(path))
}

/// Whether it is more than a plain name.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn matches_parts(pattern: &[Vec<char>], path: &[Vec<char>]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first == &['*', '*'] => {
            (0..=path.len()).any(|skipped| matches_parts(rest, &path[skipped..]))
        }
        Some((first, rest)) => path
            .split_first()
            .is_some_and(|(part, others)| matches_part(first, part) && matches_parts(rest, others)),
    }
}

fn matches_part(pattern: &[char], part: &[char]) -> bool {
    match pattern.split_first() {
        None => part.is_empty(),
        Some(('*', rest)) => (0..=part.len()).any(|skipped| matches_part(rest, &part[skipped..])),
        Some(('?', rest)) => part.split_first().is_some_and(|(_, others)| matches_part(rest, others)),
        Some(('[', rest)) => {
            let Some(end) = rest.iter().skip(1).position(|character| *character == ']') else { return false };
            let (class, rest) = (&rest[..=end], &rest[end + 2..]);
            part.split_first()
                .is_some_and(|(first, others)| in_class(class, *first) && matches_part(rest, others))
        }
        Some(('\\', rest)) if !rest.is_empty() => literal(rest[0], &rest[1..], part),
        Some((character, rest)) => literal(*character, rest, part),
    }
}

fn literal(character: char, rest: &[char], part: &[char]) -> bool {
    part.split_first().is_some_and(|(first, others)| *first == character && matches_part(rest, others))
}

fn in_class(class: &[char], character: char) -> bool {
    let (class, expected) = match class.split_first() {
        Some(('^' | '!', rest)) => (rest, false),
        _ => (class, true),
    };
    let mut rest = class;
    let mut found = false;
    while let Some((first, others)) = rest.split_first() {
        rest = match others {
            ['-', last, others @ ..] => {
                found |= (*first..=*last).contains(&character);
                others
            }
            others => {
                found |= *first == character;
                others
            }
        };
    }
    found == expected
}

/// What `.dockerignore` leaves out of a context.
#[derive(Debug, Clone, Default)]
pub(super) struct Ignored(Vec<(String, bool)>);

impl Ignored {
    /// Reads the text of the file.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(
            lines
                .map(|line| match line.strip_prefix('!') {
                    Some(kept) => (kept.trim().to_owned(), false),
                    None => (line.to_owned(), true),
                })
                .collect(),
        )
    }

    /// Whether a path is left out: the last line that fits it, or a directory above it, decides.
    pub(super) fn has(&self, path: &str) -> bool {
        let above = |pattern: &str| {
            let ends = path.match_indices('/').map(|(index, _)| index).chain([path.len()]);
            ends.into_iter().any(|end| matches(pattern, &path[..end]))
        };
        let decisive = self.0.iter().rev().find(|(pattern, _)| above(pattern));
        decisive.is_some_and(|(_, ignored)| *ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("a", "a", true),
            ("a*", "abc", true),
            ("a*", "a/b", false),
            ("*.txt", "x.txt", true),
            ("?.txt", "xy.txt", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("**/x", "a/b/x", true),
            ("**/x", "x", true),
            ("a/**", "a/b/c", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[a", "a", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn ignored_files() {
        let ignored = Ignored::parse("# comment\n*.log\nnode_modules\n!keep.log\n/build/**\n!build/x\n");
        for (path, expected) in [
            ("a.log", true),
            ("keep.log", false),
            ("dir/a.log", false),
            ("node_modules/a/b", true),
            ("build/a", true),
            ("build/x", false),
            ("src/a", false),
        ] {
            assert_eq!(ignored.has(path), expected, "{path}");
        }
    }
}
