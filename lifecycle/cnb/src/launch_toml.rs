//! `launch.toml`: what a buildpack contributes to the app image apart from its layers.
//!
//! Spec: buildpack.md "launch.toml (TOML)".

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::TomlFileError;
use crate::api::BuildpackApi;
use crate::build_toml::BomEntry;
use crate::process::Process;
use crate::toml_file;

/// A `launch.toml` that cannot be used.
#[derive(Debug, Error)]
pub enum LaunchTomlError {
    /// It cannot be read, or is not TOML of the expected form.
    #[error(transparent)]
    File(#[from] TomlFileError),
    /// It breaks a rule of the buildpack's API.
    #[error("'{}' is not valid for Buildpack API {api}: {reason}", path.display())]
    Rule {
        /// The file.
        path: PathBuf,
        /// The API the buildpack declares.
        api: BuildpackApi,
        /// The rule, and where it is broken.
        reason: String,
    },
}

/// The contents of `<layers>/<buildpack>/launch.toml`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaunchToml {
    /// The deprecated unstructured bill of materials of the app.
    pub bom: Vec<BomEntry>,
    /// Labels of the app image.
    pub labels: Vec<Label>,
    /// Process types.
    pub processes: Vec<Process>,
    /// Parts of the app directory that become layers of their own.
    pub slices: Vec<Slice>,
}

/// A label that a buildpack adds to the app image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Label {
    /// The name of the label.
    #[serde(default)]
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// Parts of the app directory that become one layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Slice {
    /// Patterns of Go's `filepath.Match`, relative to the app directory or absolute. Absent and empty are kept apart,
    /// because the reference writes them differently.
    #[serde(default)]
    pub paths: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawLaunchToml {
    bom: Vec<BomEntry>,
    labels: Vec<Label>,
    processes: Vec<RawProcess>,
    slices: Vec<Slice>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct RawProcess {
    r#type: String,
    command: Option<toml::Value>,
    args: Option<Vec<String>>,
    direct: Option<bool>,
    default: bool,
    working_dir: String,
    exec_env: Vec<String>,
}

impl LaunchToml {
    /// Reads the file of a buildpack; one that does not exist contributes nothing.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not valid TOML, or breaks a rule of the buildpack's API.
    pub fn read(path: &Path, api: BuildpackApi, buildpack_id: &str) -> Result<Self, LaunchTomlError> {
        let raw = toml_file::read_optional::<RawLaunchToml>(path)?.unwrap_or_default();
        raw.check(api, buildpack_id).map_err(|reason| LaunchTomlError::Rule {
            path: path.to_owned(),
            api,
            reason,
        })
    }
}

impl RawLaunchToml {
    fn check(self, api: BuildpackApi, buildpack_id: &str) -> Result<LaunchToml, String> {
        let processes = self
            .processes
            .into_iter()
            .map(|process| process.check(api, buildpack_id))
            .collect::<Result<Vec<_>, _>>()?;
        if processes.iter().filter(|process| process.default).count() > 1 {
            return Err("only one process may have 'default = true'".to_owned());
        }
        check_types(&processes)?;
        Ok(LaunchToml { bom: self.bom, labels: self.labels, processes, slices: self.slices })
    }
}

/// Spec: the type "MUST NOT be identical to other process types provided by the same buildpack" and "MUST only contain
/// numbers, letters, and the characters ., _, and -".
fn check_types(processes: &[Process]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for Process { process_type, .. } in processes {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if process_type.is_empty() {
            return Err("a process has no 'type'".to_owned());
        }
        if !process_type.bytes().all(allowed) || process_type == "." || process_type == ".." {
            return Err(format!(
                "the process type '{process_type}' may only contain letters, digits, '.', '_' and '-'"
            ));
        }
        if !seen.insert(process_type) {
            return Err(format!("the process type '{process_type}' is defined twice"));
        }
    }
    Ok(())
}

impl RawProcess {
    fn check(self, api: BuildpackApi, buildpack_id: &str) -> Result<Process, String> {
        let (command, direct) = if api.has_command_arrays() {
            if self.direct.is_some() {
                return Err(format!(
                    "the process '{}' has 'direct', which this API does not know: processes are always direct",
                    self.r#type
                ));
            }
            (command_list(&self.r#type, self.command)?, true)
        } else {
            (command_text(&self.r#type, self.command)?, self.direct.unwrap_or(false))
        };
        let working_directory =
            if api.has_process_working_directory() { self.working_dir } else { String::new() };
        Ok(Process {
            process_type: self.r#type,
            command,
            args: self.args,
            direct,
            default: self.default,
            buildpack_id: buildpack_id.to_owned(),
            working_directory,
            exec_env: self.exec_env,
        })
    }
}

fn command_list(process_type: &str, command: Option<toml::Value>) -> Result<Vec<String>, String> {
    let invalid = || format!("'command' of the process '{process_type}' must be a list of strings");
    let Some(toml::Value::Array(words)) = command else {
        return Err(invalid());
    };
    if words.is_empty() {
        return Err(format!("'command' of the process '{process_type}' is empty"));
    }
    words.iter().map(|word| word.as_str().map(str::to_owned).ok_or_else(invalid)).collect()
}

fn command_text(process_type: &str, command: Option<toml::Value>) -> Result<Vec<String>, String> {
    match command {
        Some(toml::Value::String(text)) => Ok(vec![text]),
        _ => Err(format!("'command' of the process '{process_type}' must be a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(api: &str, text: &str) -> Result<LaunchToml, String> {
        let raw: RawLaunchToml = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        raw.check(BuildpackApi::parse(api).expect("supported"), "example/one")
    }

    #[test]
    fn commands_are_lists_since_0_9() {
        for (api, text, expected) in [
            ("0.8", "command = 'run it'", Ok((vec!["run it"], false))),
            ("0.8", "command = 'run it'\ndirect = true", Ok((vec!["run it"], true))),
            ("0.8", "command = ['run']", Err("must be a string")),
            ("0.8", "", Err("must be a string")),
            ("0.9", "command = ['run', 'it']", Ok((vec!["run", "it"], true))),
            ("0.9", "command = 'run'", Err("must be a list of strings")),
            ("0.9", "command = [1]", Err("must be a list of strings")),
            ("0.9", "command = []", Err("is empty")),
            ("0.12", "command = ['run']\ndirect = true", Err("'direct'")),
        ] {
            let parsed = parse(api, &format!("[[processes]]\ntype = 'web'\n{text}"));
            match (parsed, expected) {
                (Ok(launch), Ok((command, direct))) => {
                    assert_eq!(launch.processes[0].command, command, "{api} {text}");
                    assert_eq!(launch.processes[0].direct, direct, "{api} {text}");
                    assert_eq!(launch.processes[0].buildpack_id, "example/one");
                }
                (Err(message), Err(part)) => assert!(message.contains(part), "{api} {text}: {message}"),
                (parsed, expected) => panic!("{api} {text}: {parsed:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn working_directories_exist_since_0_8() {
        for (api, expected) in [("0.7", ""), ("0.8", "/here")] {
            let launch = parse(api, "[[processes]]\ntype = 'web'\ncommand = 'run'\nworking-dir = '/here'")
                .expect("valid");
            assert_eq!(launch.processes[0].working_directory, expected, "{api}");
        }
    }

    #[test]
    fn process_types_are_checked() {
        for (types, expected) in [
            (&["web", "Web.2_x-y"][..], None),
            (&["web", "web"], Some("twice")),
            (&["we/b"], Some("may only contain")),
            (&["wéb"], Some("may only contain")),
            (&[".."], Some("may only contain")),
            (&[""], Some("no 'type'")),
        ] {
            let text: String = types
                .iter()
                .map(|name| format!("[[processes]]\ntype = '{name}'\ncommand = ['x']\n"))
                .collect();
            match (parse("0.10", &text), expected) {
                (Ok(_), None) => {}
                (Err(message), Some(part)) => assert!(message.contains(part), "{types:?}: {message}"),
                (parsed, expected) => panic!("{types:?}: {parsed:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn only_one_process_is_the_default() {
        let one = "[[processes]]\ntype = 'a'\ncommand = ['x']\ndefault = true\n";
        assert!(parse("0.10", one).is_ok_and(|launch| launch.processes[0].default));
        let two = format!("{one}{}", one.replace("'a'", "'b'"));
        assert!(parse("0.10", &two).is_err_and(|message| message.contains("only one")));
    }

    #[test]
    fn labels_slices_and_the_bill_of_materials_are_read() {
        let launch = parse(
            "0.10",
            "unknown = 1\n[[labels]]\nkey = 'k'\nvalue = 'v'\n[[slices]]\npaths = ['a/*']\n[[slices]]\n\
             [[bom]]\nname = 'n'\n[bom.metadata]\nversion = '1'\n",
        )
        .expect("valid");
        assert_eq!(launch.labels, [Label { key: "k".into(), value: "v".into() }]);
        assert_eq!(launch.slices[0].paths, Some(vec!["a/*".to_owned()]));
        assert_eq!(launch.slices[1].paths, None);
        assert_eq!(launch.bom[0].name, "n");
    }

    #[test]
    fn a_missing_file_contributes_nothing() {
        let api = BuildpackApi::latest();
        let launch = LaunchToml::read(Path::new("/does/not/exist"), api, "a").expect("optional");
        assert_eq!(launch, LaunchToml::default());
    }
}
