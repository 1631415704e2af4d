//! What the launcher is given: its name, its arguments and the environment of the container.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use longshore_cnb::PlatformApi;
use longshore_cnb::environment::Environment;
use longshore_cnb::process::DEFAULT_EXEC_ENV;

use crate::error::LaunchError;

/// Variables for the launcher that the process does not see. Spec: platform.md "Launch Environment"; the last two are
/// the reference's.
const NOT_PASSED: &[&str] =
    &["CNB_APP_DIR", "CNB_LAYERS_DIR", "CNB_PROCESS_TYPE", "CNB_PLATFORM_API", "CNB_DEPRECATION_MODE"];

/// Directories that the exporter put into `PATH` so that the launcher is found.
const LAUNCHER_PATHS: &[&[u8]] = &[b"/cnb/process", b"/cnb/lifecycle"];

/// Spec: platform.md "`launcher`", "Inputs".
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    pub(crate) platform_api: PlatformApi,
    pub(crate) layers: PathBuf,
    pub(crate) app: PathBuf,
    pub(crate) exec_env: String,
    /// How the launcher was called; its last element may name a process type.
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    /// Whether the platform relies on `CNB_PROCESS_TYPE`, which no supported API knows.
    pub(crate) has_process_type: bool,
}

impl Inputs {
    pub(crate) fn from_environment() -> Result<Self, LaunchError> {
        let platform_api = PlatformApi::parse(&env::var("CNB_PLATFORM_API").unwrap_or_default())
            .map_err(LaunchError::PlatformApi)?;
        let mut arguments = env::args_os();
        let program = arguments.next().unwrap_or_default();
        Ok(Self {
            platform_api,
            layers: absolute(set("CNB_LAYERS_DIR").unwrap_or_else(|| "/layers".into()))?,
            app: absolute(set("CNB_APP_DIR").unwrap_or_else(|| "/workspace".into()))?,
            exec_env: set("CNB_EXEC_ENV")
                .map_or_else(|| DEFAULT_EXEC_ENV.to_owned(), |value| value.to_string_lossy().into_owned()),
            program,
            arguments: arguments.collect(),
            has_process_type: set("CNB_PROCESS_TYPE").is_some(),
        })
    }

    /// The process type that the name of the program asks for, if a process has that type.
    pub(crate) fn program_name(&self) -> Option<&str> {
        Path::new(&self.program).file_name().and_then(OsStr::to_str)
    }
}

/// The value of a variable, unless it is unset or empty.
fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether a variable is one of the words that Go takes for true.
pub(crate) fn is_true(name: &str) -> bool {
    set(name).is_some_and(|value| ["1", "t", "T", "TRUE", "true", "True"].iter().any(|word| value == *word))
}

/// Paths must survive the change to the app directory.
fn absolute(path: OsString) -> Result<PathBuf, LaunchError> {
    let path = PathBuf::from(path);
    std::path::absolute(&path).map_err(|source| LaunchError::Directory { path, source })
}

/// What of the container's environment the process sees.
pub(crate) fn launch_environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Environment {
    let mut environment: Environment =
        variables.filter(|(name, _)| !NOT_PASSED.iter().any(|listed| name == *listed)).collect();
    if let Some(path) = environment.get("PATH") {
        let kept: Vec<_> = path
            .as_bytes()
            .split(|byte| *byte == b':')
            .filter(|part| !LAUNCHER_PATHS.contains(part))
            .collect();
        let kept = OsString::from_vec(kept.join(&b':'));
        environment.set("PATH", kept);
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_of_the_container_is_passed_without_what_is_for_the_launcher() {
        let variables = [
            ("CNB_APP_DIR", "/workspace"),
            ("CNB_LAYERS_DIR", "/layers"),
            ("CNB_PROCESS_TYPE", "web"),
            ("CNB_PLATFORM_API", "0.12"),
            ("CNB_DEPRECATION_MODE", "quiet"),
            ("CNB_EXEC_ENV", "test"),
            ("HOME", "/home/app"),
        ];
        let environment =
            launch_environment(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        let names: Vec<_> = environment.iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["CNB_EXEC_ENV", "HOME"]);
    }

    #[test]
    fn the_launchers_directories_leave_the_path() {
        for (before, after) in [
            ("/cnb/process:/cnb/lifecycle:/usr/bin:/bin", "/usr/bin:/bin"),
            ("/usr/bin:/cnb/process", "/usr/bin"),
            ("/cnb/process/x:/bin", "/cnb/process/x:/bin"),
            ("/cnb/process", ""),
            ("", ""),
        ] {
            let environment = launch_environment(std::iter::once(("PATH".into(), before.into())));
            assert_eq!(environment.get("PATH"), Some(OsStr::new(after)), "{before}");
        }
    }
}
