//! Build plans: what `bin/detect` writes, what detection resolves, and what `bin/build` reads.
//!
//! Spec: buildpack.md "Build Plan (TOML)" and "Buildpack Plan (TOML)", platform.md "`plan.toml` (TOML)".

use serde::{Deserialize, Serialize};

use crate::go_toml::Table;
use crate::group::ModuleKind;

/// What `bin/detect` writes to `$CNB_BUILD_PLAN_PATH`: one plan, and alternatives to it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct BuildPlan {
    /// What the module provides in the first alternative.
    #[serde(default)]
    provides: Vec<Provide>,
    /// What the module requires in the first alternative.
    #[serde(default)]
    requires: Vec<Require>,
    /// The other alternatives.
    #[serde(default)]
    or: Vec<PlanSections>,
}

/// One potential build plan of a module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanSections {
    /// The dependencies that the module can provide.
    #[serde(default)]
    pub provides: Vec<Provide>,
    /// The dependencies that the module needs.
    #[serde(default)]
    pub requires: Vec<Require>,
}

/// A dependency that a module can provide.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Provide {
    /// The name of the dependency.
    #[serde(default)]
    pub name: String,
}

/// A dependency that a module needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Require {
    /// The name of the dependency.
    #[serde(default)]
    pub name: String,
    /// Not allowed any more: `metadata.version` takes its place.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Whatever the provider should know.
    #[serde(default)]
    pub metadata: toml::Table,
}

impl BuildPlan {
    /// The potential plans, in the order in which they are tried.
    pub fn into_alternatives(self) -> Vec<PlanSections> {
        let mut alternatives = vec![PlanSections { provides: self.provides, requires: self.requires }];
        alternatives.extend(self.or);
        alternatives
    }
}

/// The contents of `plan.toml`: who provides what to whom.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// One entry per dependency.
    #[serde(default)]
    pub entries: Vec<PlanEntry>,
}

/// A dependency of the resolved build plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// The modules that provide it, in the order of the group.
    #[serde(default)]
    pub providers: Vec<Provider>,
    /// What was asked of it, in the order of the group. All have the same name.
    #[serde(default)]
    pub requires: Vec<Require>,
}

/// A buildpack or image extension that provides a dependency.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Provider {
    /// The ID of the module.
    pub id: String,
    /// The version of the module.
    pub version: String,
    /// Whether it is an image extension.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extension: bool,
}

/// What `bin/build` and `bin/generate` read at `$CNB_BP_PLAN_PATH`: the entries they are expected to meet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildpackPlan {
    /// The entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Require>,
}

impl Require {
    fn to_toml(&self) -> Table {
        Table::new()
            .with("name", &self.name)
            .with_filled("version", &self.version)
            .with_filled("metadata", Table::from(&self.metadata))
    }
}

impl PlanEntry {
    fn to_toml(&self) -> Table {
        let provider = |provider: &Provider| {
            Table::new()
                .with("id", &provider.id)
                .with("version", &provider.version)
                .with_filled("extension", provider.extension)
        };
        Table::new()
            .with_filled("providers", self.providers.iter().map(provider).collect::<Vec<_>>())
            .with_filled("requires", self.requires.iter().map(Require::to_toml).collect::<Vec<_>>())
    }
}

impl BuildpackPlan {
    /// The contents of the file, as the reference writes them.
    #[must_use]
    pub fn to_document(&self) -> String {
        let entries: Vec<_> = self.entries.iter().map(Require::to_toml).collect();
        Table::new().with_filled("entries", entries).to_document()
    }
}

impl Plan {
    /// The contents of the file, as the reference writes them.
    #[must_use]
    pub fn to_document(&self) -> String {
        let entries: Vec<_> = self.entries.iter().map(PlanEntry::to_toml).collect();
        Table::new().with_filled("entries", entries).to_document()
    }

    /// The entries that a module provides.
    pub fn for_module(&self, kind: ModuleKind, id: &str) -> BuildpackPlan {
        let extension = kind == ModuleKind::Extension;
        let entries = self.entries.iter().filter(|entry| {
            entry.providers.iter().any(|provider| provider.id == id && provider.extension == extension)
        });
        BuildpackPlan { entries: entries.flat_map(|entry| entry.requires.iter().cloned()).collect() }
    }

    /// The plan without the entries that have been met.
    #[must_use]
    pub fn without(mut self, met: &[String]) -> Self {
        self.entries.retain(|entry| !entry.requires.iter().any(|require| met.contains(&require.name)));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "
        [[entries]]
        providers = [{ id = 'ext', version = '1', extension = true }, { id = 'a', version = '1' }]
        requires = [{ name = 'x', metadata = { n = 1 } }, { name = 'x' }]
        [[entries]]
        providers = [{ id = 'a', version = '1' }, { id = 'b', version = '1' }]
        requires = [{ name = 'y' }]
    ";

    fn names(plan: &BuildpackPlan) -> Vec<&str> {
        plan.entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn a_module_sees_the_entries_it_provides() {
        let plan: Plan = toml::from_str(PLAN).expect("valid");
        let cases = [
            (ModuleKind::Buildpack, "a", vec!["x", "x", "y"]),
            (ModuleKind::Buildpack, "b", vec!["y"]),
            (ModuleKind::Buildpack, "ext", vec![]),
            (ModuleKind::Extension, "ext", vec!["x", "x"]),
            (ModuleKind::Extension, "a", vec![]),
        ];
        for (kind, id, expected) in cases {
            assert_eq!(names(&plan.for_module(kind, id)), expected, "{kind} {id}");
        }
    }

    #[test]
    fn entries_that_are_met_are_gone_for_everybody() {
        let plan: Plan = toml::from_str(PLAN).expect("valid");
        let plan = plan.without(&["x".to_owned()]);
        assert_eq!(names(&plan.for_module(ModuleKind::Buildpack, "a")), ["y"]);
        assert_eq!(names(&plan.clone().without(&[]).for_module(ModuleKind::Buildpack, "b")), ["y"]);
        assert!(plan.without(&["y".to_owned()]).entries.is_empty());
    }

    #[test]
    fn alternatives_come_in_order() {
        let plan: BuildPlan = toml::from_str(
            "
            provides = [{ name = 'a' }]
            [[or]]
            requires = [{ name = 'b', metadata = { version = '3' } }]
            [[or]]
            ",
        )
        .expect("valid");
        let alternatives = plan.into_alternatives();
        assert_eq!(alternatives.len(), 3);
        assert_eq!(alternatives[0].provides[0].name, "a");
        assert_eq!(alternatives[1].requires[0].name, "b");
        assert_eq!(alternatives[2], PlanSections::default());
    }
}
