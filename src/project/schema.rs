//! Which keys the schemas of `project.toml` know, so that a typing mistake does not go unnoticed.

use toml::{Table, Value};

/// A schema of `project.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// `[project]` and `[build]`; what a file without a version is.
    V01,
    /// `[_]` and `[io.buildpacks]`.
    V02,
    /// As 0.2, with `exec-env`.
    V03,
}

impl Schema {
    /// The schema of a version; `None` for one that does not exist.
    pub(super) fn of(version: &str) -> Option<Self> {
        match version {
            "0.1" => Some(Self::V01),
            "0.2" => Some(Self::V02),
            "0.3" => Some(Self::V03),
            _ => None,
        }
    }

    /// The version in the file.
    pub(super) const fn version(self) -> &'static str {
        match self {
            Self::V01 => "0.1",
            Self::V02 => "0.2",
            Self::V03 => "0.3",
        }
    }

    /// The keys that the schema does not know, where it owns the table they are in. Other tools may have tables of
    /// their own in the file.
    pub(super) fn unknown_keys(self, file: &Table) -> Vec<String> {
        let mut keys = Vec::new();
        collect("", file, &mut keys);
        keys.retain(|key| self.owns(key) && !self.knows(key));
        keys.sort();
        keys.dedup();
        keys
    }

    fn owns(self, key: &str) -> bool {
        let under = |table: &str| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        match self {
            Self::V01 => under("project") || under("build") || under("io.buildpacks"),
            Self::V02 | Self::V03 => {
                under("io.buildpacks") || (under("_") && !under("_.metadata") && key != "_.metadata")
            }
        }
    }

    fn knows(self, key: &str) -> bool {
        const PROJECT: &[&str] = &[
            "id",
            "name",
            "version",
            "authors",
            "documentation-url",
            "source-url",
            "licenses.type",
            "licenses.uri",
        ];
        const MODULE: &[&str] = &["id", "version", "uri", "script.api", "script.inline", "script.shell"];
        let one_of =
            |prefix: &str, list: &[&str]| key.strip_prefix(prefix).is_some_and(|rest| list.contains(&rest));
        let module =
            |prefix: &str| one_of(prefix, MODULE) || (self == Self::V03 && one_of(prefix, &["exec-env"]));
        let variable = |prefix: &str| {
            one_of(prefix, &["name", "value"]) || (self == Self::V03 && one_of(prefix, &["exec-env"]))
        };
        match self {
            Self::V01 => {
                one_of("project.", PROJECT)
                    || one_of("build.", &["include", "exclude", "builder"])
                    || module("build.buildpacks.")
                    || variable("build.env.")
                    || module("build.pre.group.")
                    || module("build.post.group.")
            }
            Self::V02 | Self::V03 => {
                one_of("_.", PROJECT)
                    || key == "_.schema-version"
                    || one_of("io.buildpacks.", &["include", "exclude", "builder"])
                    || module("io.buildpacks.group.")
                    || module("io.buildpacks.pre.group.")
                    || module("io.buildpacks.post.group.")
                    || variable("io.buildpacks.build.env.")
                    || (self == Self::V02 && variable("io.buildpacks.env.build."))
            }
        }
    }
}

/// The paths of all leaves, without the positions in lists: `io.buildpacks.group.id`.
fn collect(prefix: &str, table: &Table, keys: &mut Vec<String>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) => collect(&path, inner, keys),
            Value::Array(items) if items.iter().any(Value::is_table) => {
                for inner in items.iter().filter_map(Value::as_table) {
                    collect(&path, inner, keys);
                }
            }
            _ => keys.push(path),
        }
    }
}
