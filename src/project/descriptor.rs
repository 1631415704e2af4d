//! Reading `project.toml` into one form, whatever its schema.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::filter::FileFilter;
use super::schema::Schema;

/// What a project says about its build.
#[derive(Debug, Default)]
pub(crate) struct ProjectDescriptor {
    /// The builder to use.
    pub(crate) builder: Option<String>,
    /// Which files of the app are used.
    pub(crate) filter: FileFilter,
    /// The buildpacks, instead of the builder's order.
    pub(crate) group: Vec<ModuleLocator>,
    /// Buildpacks before every group of the builder's order.
    pub(crate) pre: Vec<ModuleLocator>,
    /// Buildpacks after every group of the builder's order.
    pub(crate) post: Vec<ModuleLocator>,
    /// Variables for the build.
    pub(crate) env: Vec<Variable>,
    /// The project's version, which only schema 0.1 passes on.
    pub(crate) version: Option<String>,
    /// Where the source is, which only schema 0.1 passes on.
    pub(crate) source_url: Option<String>,
}

/// A buildpack as a project names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModuleLocator {
    /// Of the builder, by id and perhaps version.
    Id {
        /// The id.
        id: String,
        /// The version; left out, the builder must have exactly one.
        version: Option<String>,
    },
    /// A directory, URL, image, or one of the special forms (`from=builder`).
    Uri(String),
    /// Made of a script in the descriptor.
    Script(Script),
}

/// A buildpack that is a script in `project.toml`. It always takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    /// The buildpack's id.
    pub(crate) id: String,
    /// The buildpack's version, `0.0.0` where it is left out.
    pub(crate) version: String,
    /// The Buildpack API.
    pub(crate) api: String,
    /// What `bin/build` runs.
    pub(crate) inline: String,
    /// What runs it.
    pub(crate) shell: String,
}

/// A variable for the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct ProjectTable {
    version: Option<String>,
    source_url: Option<String>,
    licenses: Vec<LicenseTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LicenseTable {
    r#type: String,
    uri: String,
}

/// `[build]` of 0.1 and `[io.buildpacks]` of 0.2 and 0.3.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BuildTable {
    include: Option<Vec<String>>,
    exclude: Option<Vec<String>>,
    builder: Option<String>,
    #[serde(alias = "buildpacks")]
    group: Vec<ModuleTable>,
    pre: GroupTable,
    post: GroupTable,
    /// A list in 0.1, a table with `build` in early 0.2 files.
    env: EnvTable,
    build: InnerBuildTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GroupTable {
    group: Vec<ModuleTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InnerBuildTable {
    env: Option<Vec<VariableTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum EnvTable {
    List(Vec<VariableTable>),
    Build {
        #[serde(default)]
        build: Vec<VariableTable>,
    },
}

impl Default for EnvTable {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct VariableTable {
    name: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    exec_env: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct ModuleTable {
    id: String,
    version: String,
    uri: String,
    script: ScriptTable,
    exec_env: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ScriptTable {
    api: String,
    inline: String,
    shell: String,
}

impl ProjectDescriptor {
    /// Reads a descriptor for an execution environment (`production`, `test`, ...).
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, is of an unknown schema or contradicts itself.
    pub(crate) fn read(path: &Path, exec_env: &str) -> anyhow::Result<Self> {
        let text = fs_err::read_to_string(path)?;
        Self::parse(&text, exec_env)
            .with_context(|| format!("`{}` is not a valid project descriptor", path.display()))
    }

    fn parse(text: &str, exec_env: &str) -> anyhow::Result<Self> {
        let file: toml::Table = text.parse()?;
        let schema = schema_of(&file)?;
        let unknown = schema.unknown_keys(&file);
        if !unknown.is_empty() {
            tracing::warn!(
                "project.toml has keys that schema version {} does not know; they are ignored: {}",
                schema.version(),
                unknown.join(", ")
            );
        }
        let (project, build) = match schema {
            Schema::V01 => (file.get("project"), file.get("build")),
            Schema::V02 | Schema::V03 => (file.get("_"), file.get("io").and_then(|io| io.get("buildpacks"))),
        };
        let project: ProjectTable = table(project, "the project's table")?;
        let build: BuildTable = table(build, "the build's table")?;
        for license in &project.licenses {
            ensure!(
                !license.r#type.is_empty() || !license.uri.is_empty(),
                "every license needs a `type` or a `uri`"
            );
        }
        let mut descriptor = build.into_descriptor(exec_env)?;
        if schema == Schema::V01 {
            descriptor.version = project.version;
            descriptor.source_url = project.source_url;
        }
        Ok(descriptor)
    }
}

fn schema_of(file: &toml::Table) -> anyhow::Result<Schema> {
    let version = file.get("_").and_then(|table| table.get("schema-version"));
    match version.map(|version| version.as_str().unwrap_or_default()) {
        None if file.contains_key("io") => {
            bail!("`[io.buildpacks]` needs a schema version: add `[_]` with `schema-version = \"0.2\"`")
        }
        None => {
            tracing::warn!("project.toml has no schema version; it is read as version 0.1");
            Ok(Schema::V01)
        }
        Some(version) => Schema::of(version).with_context(|| {
            format!("`schema-version` is `{version}`; known are \"0.1\", \"0.2\" and \"0.3\"")
        }),
    }
}

fn table<T: serde::de::DeserializeOwned + Default>(
    value: Option<&toml::Value>,
    what: &'static str,
) -> anyhow::Result<T> {
    value.cloned().map_or_else(|| Ok(T::default()), |value| value.try_into().context(what))
}

impl BuildTable {
    fn into_descriptor(self, exec_env: &str) -> anyhow::Result<ProjectDescriptor> {
        let modules = |tables: Vec<ModuleTable>| -> anyhow::Result<Vec<ModuleLocator>> {
            let used = tables.into_iter().filter(|module| applies(&module.exec_env, exec_env));
            used.map(ModuleTable::into_locator).collect()
        };
        let variables = self.build.env.unwrap_or(match self.env {
            EnvTable::List(list) | EnvTable::Build { build: list } => list,
        });
        Ok(ProjectDescriptor {
            builder: self.builder.filter(|builder| !builder.is_empty()),
            filter: FileFilter::new(self.include.as_deref(), self.exclude.as_deref())?,
            group: modules(self.group)?,
            pre: modules(self.pre.group)?,
            post: modules(self.post.group)?,
            env: variables
                .into_iter()
                .filter(|variable| applies(&variable.exec_env, exec_env))
                .map(|variable| Variable { name: variable.name, value: variable.value })
                .collect(),
            version: None,
            source_url: None,
        })
    }
}

fn applies(list: &[String], exec_env: &str) -> bool {
    list.is_empty() || list.iter().any(|name| name == "*" || name == exec_env)
}

impl ModuleTable {
    fn into_locator(self) -> anyhow::Result<ModuleLocator> {
        let version = (!self.version.is_empty()).then_some(self.version);
        match (self.id.is_empty(), self.uri.is_empty()) {
            (true, true) => bail!("every buildpack needs an `id` or a `uri`"),
            (_, false) => {
                ensure!(
                    version.is_none(),
                    "buildpack `{}` has both `uri` and `version`; the version is that of the buildpack at the URI",
                    self.uri
                );
                Ok(ModuleLocator::Uri(self.uri))
            }
            (false, true) if !self.script.inline.is_empty() => {
                ensure!(
                    !self.script.api.is_empty(),
                    "the script of buildpack `{}` needs `api`, its Buildpack API version",
                    self.id
                );
                let shell =
                    if self.script.shell.is_empty() { "/bin/sh".to_owned() } else { self.script.shell };
                Ok(ModuleLocator::Script(Script {
                    id: self.id,
                    version: version.unwrap_or_else(|| "0.0.0".to_owned()),
                    api: self.script.api,
                    inline: self.script.inline,
                    shell,
                }))
            }
            (false, true) => Ok(ModuleLocator::Id { id: self.id, version }),
        }
    }
}

#[cfg(test)]
#[path = "descriptor_tests.rs"]
mod tests;
