//! `system.toml`: buildpacks that the operator adds before and after every group.
//!
//! Spec: platform.md "`system.toml` (TOML)".

use serde::{Deserialize, Serialize};

use crate::order::{OrderEntry, OrderGroup};

/// The contents of `system.toml`. The spec nests the tables in `system`; the reference lifecycle reads them from the
/// top level. Both are understood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemToml {
    /// The spec's form.
    #[serde(default)]
    pub system: SystemBuildpacks,
    /// The reference's form, merged after the spec's.
    #[serde(default, flatten)]
    top_level: SystemBuildpacks,
}

/// Buildpacks before and after each group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemBuildpacks {
    /// Placed before the members of each group.
    #[serde(default, skip_serializing_if = "SystemGroup::is_empty")]
    pub pre: SystemGroup,
    /// Placed after the members of each group.
    #[serde(default, skip_serializing_if = "SystemGroup::is_empty")]
    pub post: SystemGroup,
}

/// A list of system buildpacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemGroup {
    /// The buildpacks, in order.
    #[serde(default)]
    pub buildpacks: Vec<OrderEntry>,
}

impl SystemGroup {
    fn is_empty(&self) -> bool {
        self.buildpacks.is_empty()
    }
}

impl From<SystemBuildpacks> for SystemToml {
    fn from(system: SystemBuildpacks) -> Self {
        Self { system, top_level: SystemBuildpacks::default() }
    }
}

impl SystemToml {
    /// Adds the system buildpacks to each group, apart from those whose ID the group already names.
    pub fn merge_into(&self, order: &[OrderGroup]) -> Vec<OrderGroup> {
        let all = |which: fn(&SystemBuildpacks) -> &SystemGroup| {
            which(&self.system).buildpacks.iter().chain(&which(&self.top_level).buildpacks)
        };
        order
            .iter()
            .map(|group| {
                let is_new = |entry: &&OrderEntry| group.group.iter().all(|member| member.id != entry.id);
                let members = all(|system| &system.pre)
                    .filter(is_new)
                    .chain(&group.group)
                    .chain(all(|system| &system.post).filter(is_new));
                OrderGroup { group: members.cloned().collect() }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(groups: &[OrderGroup]) -> Vec<Vec<String>> {
        groups
            .iter()
            .map(|group| {
                group
                    .group
                    .iter()
                    .map(|entry| format!("{entry}{}", if entry.optional { "?" } else { "" }))
                    .collect()
            })
            .collect()
    }

    fn order() -> Vec<OrderGroup> {
        let text = "
            [[order]]
            group = [{ id = 'a', version = '1' }, { id = 'post', version = '9' }]
            [[order]]
            group = [{ id = 'b', version = '1' }]
        ";
        toml::from_str::<crate::order::OrderToml>(text).expect("valid").order
    }

    #[test]
    fn system_buildpacks_surround_each_group_unless_named_there() {
        let spec = "
            [[system.pre.buildpacks]]
            id = 'pre'
            version = '1'
            optional = true
            [[system.post.buildpacks]]
            id = 'post'
            version = '1'
        ";
        for text in [spec.to_owned(), spec.replace("system.", "")] {
            let system: SystemToml = toml::from_str(&text).expect("valid");
            assert_eq!(
                ids(&system.merge_into(&order())),
                [vec!["pre@1?", "a@1", "post@9"], vec!["pre@1?", "b@1", "post@1"]],
                "{text}"
            );
        }
    }

    #[test]
    fn no_system_buildpacks_leave_the_order_alone() {
        assert_eq!(SystemToml::default().merge_into(&order()), order());
    }
}
