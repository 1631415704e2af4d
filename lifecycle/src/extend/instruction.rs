//! Instructions of Dockerfiles with their arguments, before variables are replaced.

use super::DockerfileProblem;
use super::words;
use crate::dockerfile::{HereDocument, Instruction};

/// What an instruction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// `ARG name[=default] ...`
    Arg(Vec<(String, Option<String>)>),
    /// `ENV name=value ...`
    Env(Vec<(String, String)>),
    /// `LABEL name=value ...`
    Label(Vec<(String, String)>),
    /// `RUN`
    Run(Run),
    /// `COPY`, or `ADD`, which also unpacks archives.
    Copy(Copy),
    /// `USER name[:group]`
    User(String),
    /// `WORKDIR path`
    WorkDir(String),
    /// `SHELL ["program", ...]`
    Shell(Vec<String>),
    /// `CMD`
    Cmd(Command),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `EXPOSE port ...`
    Expose(Vec<String>),
    /// `VOLUME path ...`
    Volume(Vec<String>),
    /// `STOPSIGNAL signal`
    StopSignal(String),
    /// `MAINTAINER name`
    Maintainer(String),
}

/// A command in either form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// A program with its arguments: a list in JSON.
    Exec(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// `RUN`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) command: Command,
    pub(super) here_documents: Vec<HereDocument>,
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) unpacks: bool,
    pub(super) owner: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) sources: Vec<String>,
    pub(super) here_documents: Vec<HereDocument>,
    pub(super) target: String,
}

/// Reads an instruction; `None` for `FROM`, whose image is always the one that is extended.
pub(super) fn read(instruction: &Instruction, escape: char) -> Result<Option<Step>, DockerfileProblem> {
    let rest = instruction.rest.as_str();
    let words = || words::split(rest, escape);
    let some = |text: String| if text.is_empty() { Err(DockerfileProblem::NoArgument) } else { Ok(text) };
    Ok(Some(match instruction.name.as_str() {
        "FROM" => {
            let image = words().into_iter().find(|word| !word.starts_with("--"));
            if image.is_some_and(|image| image.eq_ignore_ascii_case("scratch")) {
                return Err(DockerfileProblem::Unsupported("FROM scratch"));
            }
            return Ok(None);
        }
        "ARG" => Step::Arg(arguments(&words())?),
        "ENV" => Step::Env(pairs(rest, &words())?),
        "LABEL" => Step::Label(pairs(rest, &words())?),
        "RUN" => Step::Run(run(instruction)?),
        "COPY" | "ADD" => Step::Copy(copy(instruction, escape)?),
        "USER" => Step::User(some(rest.to_owned())?),
        "WORKDIR" => Step::WorkDir(some(rest.to_owned())?),
        "SHELL" => match list(rest) {
            Some(shell) if !shell.is_empty() => Step::Shell(shell),
            _ => return Err(DockerfileProblem::Shell),
        },
        "CMD" => Step::Cmd(command(rest)),
        "ENTRYPOINT" => Step::Entrypoint(command(rest)),
        "EXPOSE" => Step::Expose(words()),
        "VOLUME" => Step::Volume(list(rest).unwrap_or_else(words)),
        "STOPSIGNAL" => Step::StopSignal(some(rest.to_owned())?),
        "MAINTAINER" => Step::Maintainer(some(rest.to_owned())?),
        "HEALTHCHECK" => return Err(DockerfileProblem::Unsupported("HEALTHCHECK")),
        "ONBUILD" => return Err(DockerfileProblem::Unsupported("ONBUILD")),
        other => return Err(DockerfileProblem::Unknown(other.to_owned())),
    }))
}

/// A list of texts in JSON, as the exec form of commands has it.
fn list(rest: &str) -> Option<Vec<String>> {
    serde_json::from_str(rest).ok()
}

fn command(rest: &str) -> Command {
    list(rest).map_or_else(|| Command::Shell(rest.to_owned()), Command::Exec)
}

fn arguments(words: &[String]) -> Result<Vec<(String, Option<String>)>, DockerfileProblem> {
    if words.is_empty() {
        return Err(DockerfileProblem::NoArgument);
    }
    Ok(words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
            None => (word.clone(), None),
        })
        .collect())
}

/// `name=value ...`, or `name value`, whose value is the rest of the line.
fn pairs(rest: &str, words: &[String]) -> Result<Vec<(String, String)>, DockerfileProblem> {
    let first = words.first().ok_or(DockerfileProblem::NoArgument)?;
    if !first.contains('=') {
        let value = rest[first.len()..].trim();
        return if value.is_empty() {
            Err(DockerfileProblem::NoValue(first.clone()))
        } else {
            Ok(vec![(first.clone(), value.to_owned())])
        };
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(DockerfileProblem::NoValue(word.clone())),
    };
    words.iter().map(pair).collect()
}

/// Takes `--name[=value]` from the beginning.
fn flags(mut rest: &str) -> (Vec<(&str, &str)>, &str) {
    let mut flags = Vec::new();
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, other) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        flags.push(flag.split_once('=').unwrap_or((flag, "")));
        rest = other.trim_start();
    }
    (flags, rest)
}

fn run(instruction: &Instruction) -> Result<Run, DockerfileProblem> {
    let (flags, rest) = flags(&instruction.rest);
    if let Some((name, value)) = flags.iter().find(|flag| **flag != ("network", "default")) {
        return Err(DockerfileProblem::Flag { name: (*name).to_owned(), value: (*value).to_owned() });
    }
    if rest.is_empty() {
        return Err(DockerfileProblem::NoArgument);
    }
    Ok(Run { command: command(rest), here_documents: instruction.here_documents.clone() })
}

fn copy(instruction: &Instruction, escape: char) -> Result<Copy, DockerfileProblem> {
    let (flags, rest) = flags(&instruction.rest);
    let (mut owner, mut mode) = (None, None);
    for (name, value) in flags {
        match name {
            "chown" => owner = Some(value.to_owned()),
            "chmod" => mode = Some(value.to_owned()),
            // How layers are put on one another: the files are the same.
            "link" => {}
            "from" => return Err(DockerfileProblem::From(value.to_owned())),
            _ => {
                return Err(DockerfileProblem::Flag { name: name.to_owned(), value: value.to_owned() });
            }
        }
    }
    let mut sources = list(rest).unwrap_or_else(|| words::split(rest, escape));
    let target = sources.pop().ok_or(DockerfileProblem::NoArgument)?;
    let documents = &instruction.here_documents;
    sources.retain(|source| !documents.iter().any(|document| document.marker == *source));
    if sources.is_empty() && documents.is_empty() {
        return Err(DockerfileProblem::NoArgument);
    }
    let unpacks = instruction.name == "ADD";
    let is_remote = |source: &&String| source.contains("://") || source.starts_with("git@");
    if let Some(remote) = sources.iter().find(is_remote).filter(|_| unpacks) {
        return Err(DockerfileProblem::Remote(remote.clone()));
    }
    Ok(Copy { unpacks, owner, mode, sources, here_documents: documents.clone(), target })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::instructions;

    fn step(text: &str) -> Result<Option<Step>, DockerfileProblem> {
        read(&instructions(text)[0], '\\')
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn instructions_are_read() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, expected) in [
            ("ARG a b=c", Step::Arg(vec![("a".to_owned(), None), ("b".to_owned(), Some("c".to_owned()))])),
            ("ENV a=b c=\"d e\"", Step::Env(vec![pair("a", "b"), pair("c", "\"d e\"")])),
            ("ENV a b c", Step::Env(vec![pair("a", "b c")])),
            ("LABEL a.b=c", Step::Label(vec![pair("a.b", "c")])),
            ("SHELL [\"/bin/bash\", \"-c\"]", Step::Shell(strings(&["/bin/bash", "-c"]))),
            ("CMD [\"a\"]", Step::Cmd(Command::Exec(strings(&["a"])))),
            ("ENTRYPOINT a b", Step::Entrypoint(Command::Shell("a b".to_owned()))),
            ("VOLUME /a /b", Step::Volume(strings(&["/a", "/b"]))),
            ("USER ${user_id}:${group_id}", Step::User("${user_id}:${group_id}".to_owned())),
        ] {
            assert_eq!(step(text).unwrap(), Some(expected), "{text}");
        }
        assert_eq!(step("FROM anything AS x").unwrap(), None);
        let Some(Step::Copy(copy)) = step("COPY --chown=1:2 --chmod=755 a \"b c\" /d/").unwrap() else {
            panic!("it copies")
        };
        assert_eq!((copy.owner.as_deref(), copy.mode.as_deref()), (Some("1:2"), Some("755")));
        assert_eq!((copy.sources, copy.target.as_str()), (strings(&["a", "\"b c\""]), "/d/"));
        let Some(Step::Copy(copy)) = step("COPY <<A <<B /d/\na\nA\nb\nB").unwrap() else {
            panic!("it copies")
        };
        assert!(copy.sources.is_empty() && copy.here_documents.len() == 2);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (text, part) in [
            ("RUN --mount=type=cache,target=/x true", "--mount"),
            ("COPY --from=builder /a /b", "--from"),
            ("COPY --parents a b", "--parents"),
            ("ADD https://example.com/x /x", "https://example.com/x"),
            ("HEALTHCHECK CMD true", "HEALTHCHECK"),
            ("ONBUILD RUN true", "ONBUILD"),
            ("FROM scratch", "scratch"),
            ("ENV a", "'a' has no value"),
            ("SHELL bash", "SHELL"),
            ("RUN", "argument"),
            ("COPY a", "argument"),
            ("WORKDIR", "argument"),
            ("NONSENSE x", "NONSENSE"),
        ] {
            let error = step(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
