//! Process types: what an app image can be started as.
//!
//! Spec: buildpack.md "launch.toml (TOML)", platform.md "`metadata.toml` (TOML)" and "`launcher`".

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::api::PlatformApi;
use crate::{go_json, go_toml};

/// The execution environment when the platform names none.
pub const DEFAULT_EXEC_ENV: &str = "production";

/// A process that a buildpack contributed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Process {
    /// The identifier by which a user selects the process.
    #[serde(default, rename = "type")]
    pub process_type: String,
    /// The executable, followed by arguments that are always passed.
    #[serde(default, deserialize_with = "text_or_list")]
    pub command: Vec<String>,
    /// Further arguments. Absent and empty are kept apart, because the reference writes them differently.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// Whether the process is started without a shell.
    #[serde(default)]
    pub direct: bool,
    /// Whether the process type is the buildpack's choice for the default.
    #[serde(default)]
    pub default: bool,
    /// The buildpack that contributed the process.
    #[serde(default)]
    pub buildpack_id: String,
    /// Where the process starts; the app directory when empty.
    #[serde(default, rename = "working-dir")]
    pub working_directory: String,
    /// The execution environments the process is for; all of them when empty.
    #[serde(default)]
    pub exec_env: Vec<String>,
}

impl Process {
    /// Whether the process may run in the execution environment. Spec: platform.md "`launcher`", "Inputs".
    pub fn is_eligible(&self, exec_env: &str) -> bool {
        self.exec_env.is_empty() || self.exec_env.iter().any(|listed| listed == "*" || listed == exec_env)
    }

    /// Says so when the process is for all execution environments (platform.md "`metadata.toml` (TOML)").
    fn for_all_environments(mut self, platform_api: PlatformApi) -> Self {
        if platform_api.has_exec_env() && self.exec_env.is_empty() {
            self.exec_env.push("*".to_owned());
        }
        self
    }

    /// The process as the platform's API can express it: before command lists, what follows the executable moves to
    /// the arguments.
    #[must_use]
    pub fn for_platform(mut self, platform_api: PlatformApi) -> Self {
        if !platform_api.has_command_arrays() && !self.command.is_empty() {
            let mut args = self.command.split_off(1);
            args.extend(self.args.take().unwrap_or_default());
            self.args = Some(args);
        }
        self
    }

    /// The entry of `metadata.toml`, with the keys in the order of the reference.
    #[must_use]
    pub fn to_toml(&self, platform_api: PlatformApi) -> go_toml::Table {
        go_toml::Table::new()
            .with("type", &self.process_type)
            .with("command", go_toml::Value::Raw(self.command_text(platform_api)))
            .with_some("args", self.args.as_deref())
            .with("direct", self.direct)
            .with_filled("default", self.default)
            .with("buildpack-id", &self.buildpack_id)
            .with_filled("working-dir", &self.working_directory)
            .with_filled("exec-env", self.exec_env.as_slice())
    }

    /// The reference writes the strings of `command` as JSON in TOML files too.
    fn command_text(&self, platform_api: PlatformApi) -> String {
        let quoted = |text: &String| go_json::to_string(text).unwrap_or_default();
        if platform_api.has_command_arrays() {
            format!("[{}]", self.command.iter().map(quoted).collect::<Vec<_>>().join(", "))
        } else {
            self.command.first().map(quoted).unwrap_or_default()
        }
    }

    /// The entry of the label `io.buildpacks.build.metadata`, with the keys in the order of the reference.
    #[must_use]
    pub fn to_json(&self, platform_api: PlatformApi) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        let command = if platform_api.has_command_arrays() {
            self.command.clone().into()
        } else {
            self.command.first().cloned().into()
        };
        object.insert("type".into(), self.process_type.clone().into());
        object.insert("command".into(), command);
        object.insert("args".into(), self.args.clone().into());
        object.insert("direct".into(), self.direct.into());
        if self.default {
            object.insert("default".into(), true.into());
        }
        object.insert("buildpackID".into(), self.buildpack_id.clone().into());
        if !self.working_directory.is_empty() {
            object.insert("working-dir".into(), self.working_directory.clone().into());
        }
        if !self.exec_env.is_empty() {
            object.insert("exec-env".into(), self.exec_env.clone().into());
        }
        object.into()
    }
}

/// `command` is a text before Platform API 0.10 and a list since. Written by hand because what serde derives for it would
/// be a twentieth of the launcher.
fn text_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Command;

    impl<'de> Visitor<'de> for Command {
        type Value = Vec<String>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a string or a list of strings")
        }

        fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut words = Vec::new();
            while let Some(word) = list.next_element()? {
                words.push(word);
            }
            Ok(words)
        }
    }
    deserializer.deserialize_any(Command)
}

/// The processes of all buildpacks of a build, merged as they run.
///
/// Spec: buildpack.md "launch.toml (TOML)": the last definition of a type wins, the last default wins, and redefining
/// the default type without `default` leaves the image without a default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessList {
    processes: BTreeMap<String, Process>,
    default_type: Option<String>,
}

impl ProcessList {
    /// Adds the processes of the next buildpack. Returns the process type that was the default and no longer is,
    /// because this buildpack redefined it: worth a warning.
    pub fn add(&mut self, processes: Vec<Process>) -> Option<String> {
        let mut lost = None;
        for process in processes {
            if process.default {
                self.default_type = Some(process.process_type.clone());
                lost = None;
            } else if self.default_type.as_ref() == Some(&process.process_type) {
                lost = self.default_type.take();
            }
            self.processes.insert(process.process_type.clone(), process);
        }
        lost
    }

    /// The buildpacks' choice for the default process type.
    pub fn default_type(&self) -> Option<&str> {
        self.default_type.as_deref()
    }

    /// The processes for `metadata.toml`: sorted by type, none marked as default.
    pub fn into_processes(self, platform_api: PlatformApi) -> Vec<Process> {
        self.processes
            .into_values()
            .map(|process| Process { default: false, ..process.for_platform(platform_api) })
            .map(|process| process.for_all_environments(platform_api))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(process_type: &str, command: &[&str], default: bool) -> Process {
        Process {
            process_type: process_type.to_owned(),
            command: command.iter().map(ToString::to_string).collect(),
            default,
            ..Process::default()
        }
    }

    fn platform(text: &str) -> PlatformApi {
        PlatformApi::parse(text).expect("supported")
    }

    #[test]
    fn the_last_definition_and_the_last_default_win() {
        for (buildpacks, default_type, lost) in [
            (vec![vec![process("web", &["a"], true)]], Some("web"), None),
            (vec![vec![process("web", &["a"], true)], vec![process("job", &["b"], true)]], Some("job"), None),
            (
                vec![vec![process("web", &["a"], true)], vec![process("web", &["b"], false)]],
                None,
                Some("web"),
            ),
            (
                vec![
                    vec![process("web", &["a"], true)],
                    vec![process("web", &["b"], false), process("job", &["c"], true)],
                ],
                Some("job"),
                None,
            ),
            (vec![vec![process("web", &["a"], false)], vec![process("web", &["b"], false)]], None, None),
        ] {
            let mut list = ProcessList::default();
            let mut warning = None;
            for processes in buildpacks.clone() {
                warning = list.add(processes);
            }
            assert_eq!(list.default_type(), default_type, "{buildpacks:?}");
            assert_eq!(warning.as_deref(), lost, "{buildpacks:?}");
            let expected = &buildpacks.last().expect("not empty")[0].command;
            let merged = list.into_processes(platform("0.12"));
            let changed = merged
                .iter()
                .find(|merged| merged.process_type == buildpacks.last().expect("not empty")[0].process_type);
            assert_eq!(changed.map(|process| &process.command), Some(expected));
            assert!(merged.iter().all(|process| !process.default));
        }
    }

    #[test]
    fn processes_are_sorted_by_type() {
        let mut list = ProcessList::default();
        list.add(vec![process("web", &["a"], false), process("api", &["b"], false)]);
        let types: Vec<_> =
            list.into_processes(platform("0.12")).into_iter().map(|process| process.process_type).collect();
        assert_eq!(types, ["api", "web"]);
    }

    #[test]
    fn old_platforms_have_one_word_commands() {
        let new = Process { args: Some(vec!["c".into()]), ..process("web", &["a", "b"], false) };
        let old = new.clone().for_platform(platform("0.9"));
        assert_eq!((old.command, old.args), (vec!["a".into()], Some(vec!["b".into(), "c".into()])));
        let same = new.clone().for_platform(platform("0.10"));
        assert_eq!(same, new);
    }

    #[test]
    fn eligibility_follows_exec_env() {
        for (listed, exec_env, expected) in [
            (&[][..], "production", true),
            (&["production"][..], "production", true),
            (&["test"][..], "production", false),
            (&["*"][..], "anything", true),
            (&["test", "development"][..], "development", true),
        ] {
            let process =
                Process { exec_env: listed.iter().map(ToString::to_string).collect(), ..Process::default() };
            assert_eq!(process.is_eligible(exec_env), expected, "{listed:?} {exec_env}");
        }
    }

    #[test]
    fn json_has_the_fields_of_the_reference_in_its_order() {
        let minimal = Process { buildpack_id: "a/b".into(), direct: true, ..process("web", &["x<y"], false) };
        let text = go_json::to_string(&minimal.to_json(platform("0.10"))).expect("plain data");
        assert_eq!(
            text,
            r#"{"type":"web","command":["x\u003cy"],"args":null,"direct":true,"buildpackID":"a/b"}"#
        );
        let full = Process {
            args: Some(Vec::new()),
            working_directory: "/w".into(),
            exec_env: vec!["test".into()],
            ..minimal
        };
        let text = go_json::to_string(&full.to_json(platform("0.9"))).expect("plain data");
        assert_eq!(
            text,
            r#"{"type":"web","command":"x\u003cy","args":[],"direct":true,"buildpackID":"a/b","working-dir":"/w","exec-env":["test"]}"#
        );
    }
}
