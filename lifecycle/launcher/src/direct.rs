//! Starting a process without a shell.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use longshore_cnb::environment::Environment;

use crate::error::LaunchError;
use crate::select::Start;

/// Becomes the process.
pub(crate) fn exec(start: &Start, environment: &Environment) -> Result<Infallible, LaunchError> {
    std::env::set_current_dir(&start.working_directory)
        .map_err(|source| LaunchError::WorkingDirectory { path: start.working_directory.clone(), source })?;
    let search = environment.get("PATH").unwrap_or_default();
    let path = find(&start.command, search)
        .ok_or_else(|| LaunchError::NotInPath { name: start.command.clone(), search: search.to_owned() })?;
    let source = Command::new(&path)
        .arg0(&start.command)
        .args(&start.args)
        .env_clear()
        .envs(environment.iter())
        .exec();
    Err(LaunchError::Exec { path, source })
}

/// The path to the executable: a name with a slash is one already; others are searched for in the absolute
/// directories of `PATH`.
fn find(command: &OsStr, search: &OsStr) -> Option<PathBuf> {
    if command.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(command));
    }
    std::env::split_paths(search)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(command))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_in_absolute_directories_of_the_path() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let executable = directory.path().join("run");
        fs::write(&executable, "").expect("written");
        fs::write(directory.path().join("plain"), "").expect("written");
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).expect("changed");
        let path = format!(":relative:/does/not/exist:{}", directory.path().display());
        for (name, expected) in [
            ("run", Some(executable)),
            ("plain", None),
            ("absent", None),
            ("./run", Some("./run".into())),
            ("/x/run", Some("/x/run".into())),
        ] {
            assert_eq!(find(OsStr::new(name), OsStr::new(&path)), expected, "{name}");
        }
        assert_eq!(find(OsStr::new("run"), OsStr::new("")), None);
    }
}
