//! Running `bin/build` and `bin/generate`, whose output is streamed.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use longshore_cnb::environment::Environment;

/// Runs an executable of a module in the app directory, with three positional arguments, and waits for its end.
///
/// Standard output and error become one stream, as in the reference: a log in which warnings stand where they belong.
/// It goes to `output`, or to this process's standard output.
pub(crate) fn run(
    executable: &Path,
    arguments: [&Path; 3],
    app: &Path,
    environment: &Environment,
    output: Option<&File>,
) -> io::Result<ExitStatus> {
    let stream = || match output {
        Some(file) => file.try_clone().map(Stdio::from),
        None => io::stdout().as_fd().try_clone_to_owned().map(Stdio::from),
    };
    Command::new(executable)
        .args(arguments)
        .current_dir(app)
        .env_clear()
        .envs(environment.iter())
        .stdin(Stdio::null())
        .stdout(stream()?)
        .stderr(stream()?)
        .status()
}

/// How a process ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// What to add to "cannot start": that a file was not found is said of a script's interpreter as well, and puzzles when
/// the script is there.
pub(crate) fn missing_interpreter(executable: &Path, error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound && executable.exists() {
        " (the interpreter that its first line names is missing)"
    } else {
        ""
    }
}
