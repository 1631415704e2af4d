//! What a Dockerfile of an image extension does to its base.
//!
//! Only the structure of the file is read: its stages and the names of its instructions.
//! Spec: image_extension.md "Dockerfile Requirements".

use thiserror::Error;

/// The argument that stands for the base image, and the reference to it that `FROM` must have.
const BASE_ARGUMENT: &str = "base_image";
const BASE_REFERENCE: &str = "${base_image}";

/// Instructions that extensions may use.
const RECOMMENDED: [&str; 10] =
    ["FROM", "ADD", "ARG", "COPY", "ENV", "LABEL", "RUN", "SHELL", "USER", "WORKDIR"];

/// Instructions that exist, but that extensions should not use.
const DISCOURAGED: [&str; 8] =
    ["CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "MAINTAINER", "ONBUILD", "STOPSIGNAL", "VOLUME"];

/// Which image a Dockerfile is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DockerfileKind {
    /// `build.Dockerfile`
    Build,
    /// `run.Dockerfile`
    Run,
}

impl DockerfileKind {
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Build => "build.Dockerfile",
            Self::Run => "run.Dockerfile",
        }
    }

    pub(super) fn directory_name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Run => "run",
        }
    }
}

/// Why a Dockerfile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DockerfileError {
    /// An instruction that does not exist.
    #[error("line {line}: there is no instruction '{name}'")]
    UnknownInstruction {
        /// The line of the instruction.
        line: usize,
        /// Its name.
        name: String,
    },
    /// An instruction that stands before the first `FROM`.
    #[error("line {line}: '{name}' stands before the first FROM")]
    BeforeStage {
        /// The line of the instruction.
        line: usize,
        /// Its name.
        name: String,
    },
    /// `FROM` without an image.
    #[error("line {line}: FROM names no image")]
    NoBase {
        /// The line of the instruction.
        line: usize,
    },
    /// There is no `FROM`.
    #[error("it has no FROM")]
    NoStage,
    /// There is more than one `FROM`.
    #[error("it has more than one FROM; extensions cannot use several stages")]
    SeveralStages,
    /// `build.Dockerfile` has another beginning.
    #[error("it must begin with 'ARG base_image' and 'FROM ${{base_image}}'")]
    Preamble,
}

/// What a Dockerfile does to its base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dockerfile {
    /// The image it switches to, if it does.
    pub(super) new_base: Option<String>,
    /// Whether anything follows `FROM`.
    pub(super) extends: bool,
    /// Lines and names of instructions that extensions should not use.
    pub(super) discouraged: Vec<(usize, String)>,
}

impl Dockerfile {
    pub(super) fn parse(kind: DockerfileKind, text: &str) -> Result<Self, DockerfileError> {
        let mut arguments = Vec::new();
        let mut bases = Vec::new();
        let mut extends = false;
        let mut discouraged = Vec::new();
        for Instruction { line, name, rest } in instructions(text) {
            if DISCOURAGED.contains(&name.as_str()) {
                discouraged.push((line, name.clone()));
            } else if !RECOMMENDED.contains(&name.as_str()) {
                return Err(DockerfileError::UnknownInstruction { line, name });
            }
            match name.as_str() {
                "FROM" => bases.push(base(&rest).ok_or(DockerfileError::NoBase { line })?),
                "ARG" if bases.is_empty() => arguments.push(rest),
                _ if bases.is_empty() => return Err(DockerfileError::BeforeStage { line, name }),
                _ => extends = true,
            }
        }
        let base = match bases.as_slice() {
            [] => return Err(DockerfileError::NoStage),
            [base] => base,
            _ => return Err(DockerfileError::SeveralStages),
        };
        let keeps_base = base == BASE_REFERENCE;
        if kind == DockerfileKind::Build && !(keeps_base && is_base_argument(&arguments)) {
            return Err(DockerfileError::Preamble);
        }
        Ok(Self { new_base: (!keeps_base).then(|| base.clone()), extends, discouraged })
    }
}

/// `ARG base_image`, with a default perhaps, and nothing else.
fn is_base_argument(arguments: &[String]) -> bool {
    let [argument] = arguments else { return false };
    argument.split('=').next().map(str::trim) == Some(BASE_ARGUMENT)
}

/// The image of `FROM [--flag=value ...] image [AS name]`.
fn base(rest: &str) -> Option<String> {
    rest.split_whitespace().find(|word| !word.starts_with("--")).map(str::to_owned)
}

struct Instruction {
    line: usize,
    name: String,
    rest: String,
}

/// Splits a Dockerfile into its instructions: comments and blank lines are left out, continued lines joined, and the
/// contents of here-documents skipped.
fn instructions(text: &str) -> Vec<Instruction> {
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
        if matches!(name.as_str(), "RUN" | "COPY" | "ADD") {
            for end in here_documents(rest) {
                let _ = lines.by_ref().find(|(_, line)| end.ends(line));
            }
        }
        instructions.push(Instruction { line: number + 1, name, rest: rest.trim().to_owned() });
    }
    instructions
}

fn is_comment_or_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// The directive `# escape=` at the top of the file changes the character that continues a line.
fn escape_character(text: &str) -> char {
    for line in text.lines() {
        let Some(comment) = line.trim().strip_prefix('#') else { break };
        let Some((key, value)) = comment.split_once('=') else { break };
        if key.trim().eq_ignore_ascii_case("escape") && value.trim() == "`" {
            return '`';
        }
    }
    '\\'
}

struct HereDocument<'a> {
    word: &'a str,
    strips_tabs: bool,
}

impl HereDocument<'_> {
    fn ends(&self, line: &str) -> bool {
        let line = if self.strips_tabs { line.trim_start_matches('\t') } else { line };
        line == self.word
    }
}

/// The here-documents that an instruction opens: `<<WORD`, `<<-WORD`, with the word in quotes perhaps.
fn here_documents(rest: &str) -> Vec<HereDocument<'_>> {
    rest.split_whitespace()
        .filter_map(|word| {
            let word = word.trim_start_matches(|character: char| character.is_ascii_digit());
            let word = word.strip_prefix("<<")?;
            let (word, strips_tabs) = word.strip_prefix('-').map_or((word, false), |word| (word, true));
            let word = word.trim_matches(['"', '\'']);
            let is_word = |character: char| character.is_alphanumeric() || character == '_';
            (!word.is_empty() && word.chars().all(is_word)).then_some(HereDocument { word, strips_tabs })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(FROM|RUN|ARG|#|<<|A|\\\\|`|\\n| |\t|é|escape=|\\$\\{base_image\\}){0,40}") {
            // The number of instructions never exceeds the number of lines.
            prop_assert!(instructions(&text).len() <= text.lines().count());
            if let Ok(dockerfile) = Dockerfile::parse(DockerfileKind::Run, &text) {
                prop_assert!(dockerfile.new_base.as_deref() != Some(""));
            }
        }
    }

    #[test]
    fn dockerfiles_are_understood() {
        type Case<'a> = (&'a str, Result<(Option<&'a str>, bool), &'a str>);
        let cases: &[Case<'_>] = &[
            ("FROM run:new", Ok((Some("run:new"), false))),
            ("from run:new as x", Ok((Some("run:new"), false))),
            ("FROM --platform=linux/amd64 run:new\nRUN true", Ok((Some("run:new"), true))),
            ("ARG base_image\nFROM ${base_image}", Ok((None, false))),
            ("ARG base_image\nFROM ${base_image}\nRUN true", Ok((None, true))),
            ("# comment\n\nARG base_image=x\nFROM ${base_image}\n  # c\nUSER root", Ok((None, true))),
            ("ARG base_image\nFROM \\\n# comment\n  ${base_image}\nRUN a && \\\n\n FROM", Ok((None, true))),
            ("# escape=`\nARG base_image\nFROM `\n${base_image}\nRUN dir C:\\", Ok((None, true))),
            (
                "ARG base_image\nFROM ${base_image}\nRUN <<EOF cat\nFROM x\nNONSENSE\nEOF\nRUN true",
                Ok((None, true)),
            ),
            (
                "ARG base_image\nFROM ${base_image}\nCOPY <<-\"A\" <<B /x/\nNO\n\tA\nNO\nB\nRUN true",
                Ok((None, true)),
            ),
            ("FROM a\nFROM b", Err("more than one FROM")),
            ("", Err("no FROM")),
            ("ARG x", Err("no FROM")),
            ("RUN true\nFROM a", Err("line 1: 'RUN' stands before")),
            ("FROM a\nRUNN true", Err("line 2: there is no instruction 'RUNN'")),
            ("FROM", Err("line 1: FROM names no image")),
            ("FROM --platform=x", Err("line 1: FROM names no image")),
        ];
        for (text, expected) in cases {
            match (Dockerfile::parse(DockerfileKind::Run, text), expected) {
                (Ok(dockerfile), Ok((base, extends))) => {
                    assert_eq!(dockerfile.new_base.as_deref(), *base, "{text}");
                    assert_eq!(dockerfile.extends, *extends, "{text}");
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
                (actual, _) => panic!("{text}: {actual:?}"),
            }
        }
    }

    #[test]
    fn a_build_dockerfile_begins_with_its_base() {
        let cases = [
            ("ARG base_image\nFROM ${base_image}\nRUN true", true),
            ("ARG base_image=default\nFROM ${base_image}", true),
            ("FROM ${base_image}", false),
            ("ARG other\nFROM ${base_image}", false),
            ("ARG base_image\nARG other\nFROM ${base_image}", false),
            ("ARG base_image\nFROM $base_image", false),
            ("ARG base_image\nFROM debian", false),
        ];
        for (text, expected) in cases {
            let parsed = Dockerfile::parse(DockerfileKind::Build, text);
            assert_eq!(parsed.is_ok(), expected, "{text}: {parsed:?}");
        }
    }

    #[test]
    fn discouraged_instructions_are_named_with_their_line() {
        let text = "FROM a\nRUN true\nexpose 80\n\nCMD x";
        let dockerfile = Dockerfile::parse(DockerfileKind::Run, text).expect("valid");
        assert_eq!(dockerfile.discouraged, [(3, "EXPOSE".to_owned()), (5, "CMD".to_owned())]);
    }
}
