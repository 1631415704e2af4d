//! The syntax of Dockerfiles: their instructions, with here-documents.

/// An instruction as it stands in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// The number of its first line.
    pub(crate) line: usize,
    /// Its name, in upper case.
    pub(crate) name: String,
    /// What follows the name, with continued lines joined.
    pub(crate) rest: String,
    /// The here-documents that it opens, in order.
    pub(crate) here_documents: Vec<HereDocument>,
}

/// A here-document: `<<WORD`, `<<-WORD`, with the word in quotes perhaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HereDocument {
    /// How it is opened, with everything before and after the word (`<<-"WORD"`).
    pub(crate) marker: String,
    /// The word that ends it.
    pub(crate) word: String,
    /// Whether variables in it are replaced: the word stands without quotes.
    pub(crate) expands: bool,
    strips_tabs: bool,
    /// Its lines.
    pub(crate) text: String,
}

impl HereDocument {
    fn ends(&self, line: &str) -> bool {
        self.stripped(line) == self.word
    }

    fn stripped<'a>(&self, line: &'a str) -> &'a str {
        if self.strips_tabs { line.trim_start_matches('\t') } else { line }
    }
}

/// Splits a Dockerfile into its instructions: comments and blank lines are left out, continued lines joined.
pub(crate) fn instructions(text: &str) -> Vec<Instruction> {
    let escape = escape_character(text);
    let mut lines = text.lines().enumerate();
    let mut instructions = Vec::new();
    while let Some((number, first)) = lines.next() {
        if is_comment_or_blank(first) {
            continue;
        }
        let mut joined = first.trim().to_owned();
        while let Some(begun) = joined.strip_suffix(escape) {
            joined = begun.to_owned();
            // Comments and blank lines within a continued instruction are left out as well.
            let Some((_, next)) = lines.by_ref().find(|(_, line)| !is_comment_or_blank(line)) else { break };
            joined.push_str(next.trim_end());
        }
        let joined = joined.trim();
        let (name, rest) = joined.split_once(char::is_whitespace).unwrap_or((joined, ""));
        let name = name.to_uppercase();
        let mut here_documents = Vec::new();
        if matches!(name.as_str(), "RUN" | "COPY" | "ADD") {
            here_documents = opened(rest);
            for document in &mut here_documents {
                for (_, line) in lines.by_ref() {
                    if document.ends(line) {
                        break;
                    }
                    document.text = format!("{}{}\n", document.text, document.stripped(line));
                }
            }
        }
        instructions.push(Instruction {
            line: number + 1,
            name,
            rest: rest.trim().to_owned(),
            here_documents,
        });
    }
    instructions
}

fn is_comment_or_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// The directive `# escape=` at the top of the file changes the character that continues a line.
pub(crate) fn escape_character(text: &str) -> char {
    for line in text.lines() {
        let Some(comment) = line.trim().strip_prefix('#') else { break };
        let Some((key, value)) = comment.split_once('=') else { break };
        if key.trim().eq_ignore_ascii_case("escape") && value.trim() == "`" {
            return '`';
        }
    }
    '\\'
}

/// The here-documents that an instruction opens.
fn opened(rest: &str) -> Vec<HereDocument> {
    rest.split_whitespace()
        .filter_map(|marker| {
            let word = marker.trim_start_matches(|character: char| character.is_ascii_digit());
            let word = word.strip_prefix("<<")?;
            let (word, strips_tabs) = word.strip_prefix('-').map_or((word, false), |word| (word, true));
            let bare = word.trim_matches(['"', '\'']);
            let is_word = |character: char| character.is_alphanumeric() || character == '_';
            (!bare.is_empty() && bare.chars().all(is_word)).then(|| HereDocument {
                marker: marker.to_owned(),
                word: bare.to_owned(),
                expands: bare == word,
                strips_tabs,
                text: String::new(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn here_documents_keep_their_text() {
        let text = "RUN <<EOF\na $b\n\n# no comment\nEOF\nCOPY <<-\"X\" <<Y /x/\n\tone\n\tX\ntwo\nY\nUSER 1";
        let found = instructions(text);
        let texts = |index: usize| -> Vec<(&str, bool)> {
            let documents = found[index].here_documents.iter();
            documents.map(|document| (document.text.as_str(), document.expands)).collect()
        };
        assert_eq!(texts(0), [("a $b\n\n# no comment\n", true)]);
        assert_eq!(texts(1), [("one\n", false), ("two\n", true)]);
        assert_eq!((found[2].name.as_str(), found[2].line), ("USER", 11));
        assert_eq!(found[1].here_documents[0].marker, "<<-\"X\"");
    }
}
