//! Starting a process through Bash, after the profile scripts.
//!
//! Spec: platform.md "`launcher`", "Execution": one shell sources the scripts, changes to the working directory, and is
//! replaced by the process.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use longshore_cnb::environment::Environment;

use crate::error::LaunchError;
use crate::layers::LaunchLayers;
use crate::select::Start;

const SHELL: &str = "/bin/bash";

/// The profile scripts of the layers, followed by the app's own.
pub(crate) fn profiles(
    layers: &LaunchLayers,
    app: &Path,
    process_type: Option<&str>,
) -> Result<Vec<PathBuf>, LaunchError> {
    let mut profiles = layers.files("profile.d", process_type)?;
    let path = app.join(".profile");
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => profiles.push(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(LaunchError::Directory { path, source }),
    }
    Ok(profiles)
}

/// Becomes the shell, which becomes the process.
pub(crate) fn exec(
    program: &OsStr,
    profiles: &[PathBuf],
    start: &Start,
    environment: &Environment,
) -> Result<Infallible, LaunchError> {
    let source = Command::new(SHELL)
        .arg0("bash")
        .arg("-c")
        .arg(script(profiles, &start.working_directory, start.args.len()))
        .arg(program)
        .arg(&start.command)
        .args(&start.args)
        .env_clear()
        .envs(environment.iter())
        .exec();
    Err(LaunchError::Shell { path: SHELL.into(), source })
}

/// The script of the outer shell. Its `$0` is the launcher, its `$1` the command, the rest the arguments.
///
/// A command without arguments is a line of shell. With arguments, the command and each argument are words: variables
/// and substitutions in them are expanded, but never split into more words.
fn script(profiles: &[PathBuf], working_directory: &Path, arguments: usize) -> OsString {
    let mut script = OsString::new();
    for profile in profiles {
        script.push("source ");
        script.push(quote(profile));
        script.push("\n");
    }
    script.push("cd ");
    script.push(quote(working_directory));
    script.push(" || exit 82\n");
    if arguments == 0 {
        script.push(r#"exec bash -c "$@""#);
    } else {
        // One simple command, so that the inner Bash replaces itself by the process.
        let words: Vec<_> = (0..=arguments)
            .map(|index| format!(r#""$(eval "set -- \"${{{index}}}\""; printf "%s\n" "$*")""#))
            .collect();
        script.push(format!(r#"exec bash -c '{}' "$@""#, words.join(" ")));
    }
    script
}

/// The path as one word that Bash takes literally.
fn quote(path: &Path) -> OsString {
    let mut quoted = OsString::from("'");
    for (index, part) in split_bytes(path.as_os_str(), b'\'').into_iter().enumerate() {
        if index > 0 {
            quoted.push(r"'\''");
        }
        quoted.push(part);
    }
    quoted.push("'");
    quoted
}

fn split_bytes(text: &OsStr, separator: u8) -> Vec<&OsStr> {
    use std::os::unix::ffi::OsStrExt;
    text.as_bytes().split(|byte| *byte == separator).map(OsStr::from_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the process of a script gets to see, one word per line.
    fn run(start: &[&str], directory: &str) -> String {
        let output = Command::new(SHELL)
            .arg("-c")
            .arg(script(&[], Path::new(directory), start.len() - 1))
            .arg("launcher")
            .args(start)
            .env("NAME", "two  words")
            .output()
            .expect("bash");
        String::from_utf8(output.stdout).expect("text")
    }

    #[test]
    fn words_are_expanded_but_not_split() {
        for (start, expected) in [
            (&["echo one; echo $NAME; pwd"][..], "one\ntwo words\n/\n"),
            (&["printf", "%s,", "$NAME", "plain"], "two  words,plain,"),
            (&["printf", "%s,", "$(echo sub)", "a;b", "-e", "-n"], "sub,a;b,-e,-n,"),
            (&["printf", "%s,", "\\$NAME", "it's"], "$NAME,it's,"),
            (&["printf", "%s,", "", "last"], ",last,"),
        ] {
            assert_eq!(run(start, "/"), expected, "{start:?}");
        }
    }

    #[test]
    fn paths_are_taken_literally() {
        assert_eq!(quote(Path::new("/a'b $c")), r"'/a'\''b $c'");
        assert_eq!(run(&["echo never"], "/does/not/exist"), "");
    }
}
