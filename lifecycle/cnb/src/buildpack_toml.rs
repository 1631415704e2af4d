//! `buildpack.toml` and `extension.toml`: what a module is and what it supports.
//!
//! Spec: buildpack.md "buildpack.toml (TOML)", image_extension.md "extension.toml (TOML)".

use serde::Deserialize;
use thiserror::Error;

use crate::api::{ApiError, BuildpackApi};
use crate::group::ModuleKind;
use crate::order::OrderGroup;
use crate::target::{Distribution, SupportedTarget};

/// The stack that descriptors may still name instead of targets.
const BIONIC_STACK: &str = "io.buildpacks.stacks.bionic";

/// The IDs that are taken by directories of the lifecycle's own.
const RESERVED_IDS: [&str; 4] = ["app", "config", "generated", "sbom"];

/// Why a descriptor is not usable.
#[derive(Debug, Error)]
pub enum DescriptorError {
    /// It is not TOML, or a key is missing or has a value of the wrong type.
    #[error("the descriptor is not valid")]
    Parse(#[source] Box<toml::de::Error>),
    /// There is no `[buildpack]` or `[extension]` table.
    #[error("the descriptor has no [{table}] table")]
    NoTable {
        /// The table that is missing.
        table: &'static str,
    },
    /// The ID may not be used.
    #[error("the ID '{id}' is not allowed: {reason}")]
    Id {
        /// The ID.
        id: String,
        /// Why.
        reason: &'static str,
    },
    /// It declares an API version that the lifecycle does not support.
    #[error("{id} declares an API version that cannot be used")]
    Api {
        /// The ID of the module.
        id: String,
        /// Why.
        source: ApiError,
    },
}

/// A `buildpack.toml` or `extension.toml`.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Which of the two it is.
    pub kind: ModuleKind,
    /// The Buildpack API that the module implements, as declared.
    pub api_text: String,
    /// The Buildpack API that the module implements.
    pub api: BuildpackApi,
    /// The tables `[buildpack]` or `[extension]`.
    pub info: ModuleInfo,
    /// The targets it declares, or those its stacks stand for; empty when it declares neither.
    pub targets: Vec<SupportedTarget>,
    /// The stacks it declares (deprecated).
    pub stacks: Vec<Stack>,
    /// The order that a composite buildpack stands for; empty for all others.
    pub order: Vec<OrderGroup>,
    /// Data of the module's own.
    pub metadata: toml::Table,
}

/// The `[buildpack]` or `[extension]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModuleInfo {
    /// The globally unique ID.
    pub id: String,
    /// The version.
    #[serde(default)]
    pub version: String,
    /// The name for people.
    #[serde(default)]
    pub name: String,
    /// Where to read more.
    #[serde(default)]
    pub homepage: String,
    /// What it does, in a sentence.
    #[serde(default)]
    pub description: String,
    /// Words to find it by.
    #[serde(default)]
    pub keywords: Vec<String>,
    /// The licenses of the module.
    #[serde(default)]
    pub licenses: Vec<License>,
    /// Whether variables of the user are kept out of its environment.
    #[serde(default)]
    pub clear_env: bool,
    /// The SBOM media types it may write.
    #[serde(default)]
    pub sbom_formats: Vec<String>,
    /// The execution environments it supports; empty means all.
    #[serde(default)]
    exec_env: Vec<ExecEnv>,
}

/// A license of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct License {
    /// An SPDX expression, usually.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Where its text is.
    #[serde(default)]
    pub uri: String,
}

/// A stack that a descriptor declares (deprecated).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Stack {
    /// The stack ID.
    #[serde(default)]
    pub id: String,
    /// The mixins that the module needs.
    #[serde(default)]
    pub mixins: Vec<String>,
}

/// The spec has tables with a name, the reference lifecycle has strings.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum ExecEnv {
    Name(String),
    Table { name: String },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    api: String,
    buildpack: Option<ModuleInfo>,
    extension: Option<ModuleInfo>,
    #[serde(default)]
    targets: Vec<SupportedTarget>,
    #[serde(default)]
    stacks: Vec<Stack>,
    #[serde(default)]
    order: Vec<OrderGroup>,
    #[serde(default)]
    metadata: toml::Table,
}

impl Descriptor {
    /// Reads the text of a `buildpack.toml` or an `extension.toml`.
    ///
    /// # Errors
    ///
    /// When the text is not a descriptor of that kind, its ID is not allowed, or its API is not supported.
    pub fn parse(kind: ModuleKind, text: &str) -> Result<Self, DescriptorError> {
        let file: File = toml::from_str(text).map_err(|error| DescriptorError::Parse(Box::new(error)))?;
        let (info, table) = match kind {
            ModuleKind::Buildpack => (file.buildpack, "buildpack"),
            ModuleKind::Extension => (file.extension, "extension"),
        };
        let info = info.ok_or(DescriptorError::NoTable { table })?;
        check_id(&info.id)?;
        let api = BuildpackApi::parse(&file.api)
            .map_err(|source| DescriptorError::Api { id: info.id.clone(), source })?;
        let targets = if file.targets.is_empty() && kind == ModuleKind::Buildpack {
            targets_of_stacks(&file.stacks, api)
        } else {
            file.targets
        };
        Ok(Self {
            kind,
            api_text: file.api,
            api,
            info,
            targets,
            stacks: file.stacks,
            order: if kind == ModuleKind::Buildpack { file.order } else { Vec::new() },
            metadata: file.metadata,
        })
    }

    /// Whether it is a composite buildpack: one that stands for an order and has no executables.
    pub fn is_composite(&self) -> bool {
        !self.order.is_empty()
    }

    /// Whether the module can take part in a build for `exec_env`.
    pub fn supports_exec_env(&self, exec_env: &str) -> bool {
        !self.api.has_exec_env() || applies_in(self.info.exec_env(), exec_env)
    }
}

/// Whether a list of execution environments includes `exec_env`: an empty list and `*` stand for all of them.
pub fn applies_in<'a>(list: impl IntoIterator<Item = &'a str>, exec_env: &str) -> bool {
    let mut list = list.into_iter().peekable();
    exec_env.is_empty() || list.peek().is_none() || list.any(|name| name == "*" || name == exec_env)
}

impl ModuleInfo {
    /// The names of the execution environments it supports; empty means all.
    pub fn exec_env(&self) -> impl Iterator<Item = &str> {
        self.exec_env.iter().map(|exec_env| match exec_env {
            ExecEnv::Name(name) | ExecEnv::Table { name } => name.as_str(),
        })
    }
}

fn check_id(id: &str) -> Result<(), DescriptorError> {
    let refuse = |reason| Err(DescriptorError::Id { id: id.to_owned(), reason });
    if id.is_empty() {
        return refuse("it is empty");
    }
    if RESERVED_IDS.contains(&id) {
        return refuse("the lifecycle uses a directory of that name itself");
    }
    // An underscore is not in the spec's list, but published buildpacks have it; what matters is that the ID stays
    // one directory name once its slashes are replaced.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'-' | b'_');
    if !id.bytes().all(is_plain) {
        return refuse("it may only have letters, digits, '.', '/' and '-'");
    }
    if matches!(id, "." | "..") {
        return refuse("it is the name of a parent directory");
    }
    Ok(())
}

/// What deprecated stacks stand for. Spec: buildpack.md "buildpack.toml (TOML) `stacks` Array".
fn targets_of_stacks(stacks: &[Stack], api: BuildpackApi) -> Vec<SupportedTarget> {
    let target = |stack: &Stack| match stack.id.as_str() {
        "*" => Some(SupportedTarget::default()),
        // Before targets existed a list with other stacks beside bionic said nothing about the distribution.
        BIONIC_STACK if api.has_targets() || stacks.len() == 1 => Some(SupportedTarget {
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            distros: vec![Distribution { name: "ubuntu".to_owned(), version: "18.04".to_owned() }],
            ..SupportedTarget::default()
        }),
        _ => None,
    };
    stacks.iter().filter_map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buildpack(text: &str) -> Descriptor {
        Descriptor::parse(ModuleKind::Buildpack, text).expect("valid")
    }

    #[test]
    fn a_buildpack_descriptor_is_read() {
        let descriptor = buildpack(
            "
            api = '0.11'
            [buildpack]
            id = 'org/node'
            version = '1.2.3'
            name = 'Node'
            homepage = 'https://example.org'
            clear-env = true
            sbom-formats = ['application/spdx+json']
            licenses = [{ type = 'MIT' }]
            [[targets]]
            os = 'linux'
            [[targets.distros]]
            name = 'debian'
            version = '12'
            [metadata]
            anything = 1
            ",
        );
        assert_eq!(descriptor.info.id, "org/node");
        assert!(descriptor.info.clear_env);
        assert!(!descriptor.is_composite());
        assert_eq!(descriptor.targets[0].distros[0].name, "debian");
        assert_eq!(descriptor.api_text, "0.11");
    }

    #[test]
    fn stacks_stand_for_targets() {
        let any = vec!["*/*".to_owned()];
        let bionic = vec!["linux/amd64 ubuntu@18.04".to_owned()];
        let cases = [
            ("0.9", "[[stacks]]\nid = '*'", any.clone()),
            ("0.10", "[[stacks]]\nid = '*'", any),
            ("0.9", "[[stacks]]\nid = 'io.buildpacks.stacks.bionic'", bionic.clone()),
            (
                "0.9",
                "[[stacks]]\nid = 'io.buildpacks.stacks.bionic'\n[[stacks]]\nid = 'io.buildpacks.stacks.jammy'",
                vec![],
            ),
            (
                "0.10",
                "[[stacks]]\nid = 'io.buildpacks.stacks.bionic'\n[[stacks]]\nid = 'io.buildpacks.stacks.jammy'",
                bionic,
            ),
            ("0.9", "[[stacks]]\nid = 'other'", vec![]),
            ("0.10", "[[targets]]\nos = 'linux'\n[[stacks]]\nid = '*'", vec!["linux/*".to_owned()]),
        ];
        for (api, stacks, expected) in cases {
            let descriptor = buildpack(&format!("api = '{api}'\n[buildpack]\nid = 'a'\n{stacks}"));
            let targets: Vec<_> = descriptor.targets.iter().map(ToString::to_string).collect();
            assert_eq!(targets, expected, "{api} {stacks}");
        }
    }

    #[test]
    fn execution_environments_are_names_or_tables() {
        let cases = [
            ("0.12", "", "test", true),
            ("0.12", "exec-env = ['production']", "test", false),
            ("0.12", "exec-env = ['production', 'test']", "test", true),
            ("0.12", "exec-env = ['*']", "test", true),
            ("0.12", "exec-env = [{ name = 'test' }]", "test", true),
            ("0.12", "exec-env = [{ name = 'production' }]", "test", false),
            ("0.11", "exec-env = ['production']", "test", true),
        ];
        for (api, line, exec_env, expected) in cases {
            let descriptor = buildpack(&format!("api = '{api}'\n[buildpack]\nid = 'a'\n{line}"));
            assert_eq!(descriptor.supports_exec_env(exec_env), expected, "{api} {line}");
        }
    }

    #[test]
    fn ids_that_cannot_be_directories_are_refused() {
        for id in ["", "app", "config", "generated", "sbom", "a b", "a\\\\b", ".."] {
            let text = format!("api = '0.10'\n[buildpack]\nid = \"{id}\"");
            assert!(
                matches!(Descriptor::parse(ModuleKind::Buildpack, &text), Err(DescriptorError::Id { .. })),
                "{id:?}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let parse = |text: &str| Descriptor::parse(ModuleKind::Buildpack, text);
        assert!(matches!(parse("not toml"), Err(DescriptorError::Parse(_))));
        assert!(matches!(parse("api = '0.10'"), Err(DescriptorError::NoTable { table: "buildpack" })));
        assert!(matches!(
            parse("api = '0.10'\n[extension]\nid = 'a'"),
            Err(DescriptorError::NoTable { table: "buildpack" })
        ));
        assert!(matches!(parse("api = '9.9'\n[buildpack]\nid = 'a'"), Err(DescriptorError::Api { .. })));
        assert!(matches!(parse("[buildpack]\nid = 'a'"), Err(DescriptorError::Api { .. })));
    }
}
