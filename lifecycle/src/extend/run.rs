//! Running commands on the root filesystem.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use super::User;
use super::words::Variables;

/// How a command is run: with its program and arguments, in a directory, with these variables, as a user.
pub type Execution<'a> =
    dyn Fn(&[String], &Path, &[(String, String)], &User) -> io::Result<ExitStatus> + Sync + 'a;

/// Runs a command of a Dockerfile in this root filesystem, and waits for its end. Its output goes to standard output, its
/// errors among it, where they belong.
///
/// # Errors
/// When it cannot be started.
pub fn run_command(
    command: &[String],
    directory: &Path,
    environment: &[(String, String)],
    user: &User,
) -> io::Result<ExitStatus> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let stream = || io::stdout().as_fd().try_clone_to_owned().map(Stdio::from);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(stream()?)
        .stderr(stream()?);
    // The groups of this process are given up with the user.
    if user.uid != 0 || user.gid != 0 {
        command.uid(user.uid).gid(user.gid);
    }
    command.status()
}

/// The variables that a command sees: those of the image, and arguments beside them.
pub(super) fn environment(
    image: Vec<(String, String)>,
    arguments: Variables,
    user: &User,
) -> Vec<(String, String)> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut variables = Variables::new();
    variables.insert("PATH".to_owned(), PATH.to_owned());
    variables.insert("HOME".to_owned(), user.home.display().to_string());
    variables.extend(arguments);
    variables.extend(image);
    variables.into_iter().collect()
}
