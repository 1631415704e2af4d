//! What a Dockerfile of an image extension does to its base.
//!
//! Only the structure of the file is read: its stages and the names of its instructions.
//! Spec: image_extension.md "Dockerfile Requirements".

use thiserror::Error;

use crate::dockerfile::{Instruction, instructions};

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
        for Instruction { line, name, rest, .. } in instructions(text) {
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
