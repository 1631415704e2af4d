//! References to modules, and the versions an order leaves out.

use std::fmt;

use anyhow::{bail, ensure};
use longshore_cnb::order::{OrderEntry, OrderGroup};

/// Which module: an id and a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ModuleId {
    /// The id.
    pub(crate) id: String,
    /// The version.
    pub(crate) version: String,
}

impl fmt::Display for ModuleId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.id, self.version)
    }
}

/// The order with all versions: one that is left out is that of the only module with the id.
///
/// # Errors
/// When the builder does not have a module, or has several versions and none is named.
pub(crate) fn resolve_order(order: &[OrderGroup], known: &[ModuleId]) -> anyhow::Result<Vec<OrderGroup>> {
    let resolve = |group: &OrderGroup| {
        let members = group.group.iter().map(|entry| {
            let version = resolve_version(&entry.id, &entry.version, known)?;
            Ok(OrderEntry { version, ..entry.clone() })
        });
        Ok(OrderGroup { group: members.collect::<anyhow::Result<_>>()? })
    };
    order.iter().map(resolve).collect()
}

/// The version of a module of the builder: the one that is named, or the only one.
///
/// # Errors
/// When there is no such module, or none is named and there are several.
pub(crate) fn resolve_version(id: &str, version: &str, known: &[ModuleId]) -> anyhow::Result<String> {
    let mut versions: Vec<_> =
        known.iter().filter(|module| module.id == id).map(|module| module.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if version.is_empty() {
        return match versions.as_slice() {
            [only] => Ok((*only).to_owned()),
            [] => bail!("the builder has no buildpack `{id}`; it has {}", list(known)),
            several => bail!(
                "the builder has several versions of `{id}` ({}); name one as `{id}@VERSION`",
                several.join(", ")
            ),
        };
    }
    ensure!(!versions.is_empty(), "the builder has no buildpack `{id}`; it has {}", list(known));
    ensure!(
        versions.contains(&version),
        "the builder has no buildpack `{id}@{version}`; it has version {}",
        versions.join(", ")
    );
    Ok(version.to_owned())
}

fn list(known: &[ModuleId]) -> String {
    let names: Vec<_> = known.iter().map(|module| format!("`{module}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<ModuleId> {
        [("a", "1"), ("b", "1"), ("b", "2")]
            .map(|(id, version)| ModuleId { id: id.to_owned(), version: version.to_owned() })
            .to_vec()
    }

    #[test]
    fn versions_are_found_or_asked_for() {
        for (id, version, expected) in [
            ("a", "", Ok("1")),
            ("b", "2", Ok("2")),
            ("b", "", Err("several versions")),
            ("c", "", Err("no buildpack `c`")),
            ("c", "1", Err("no buildpack `c`")),
            ("a", "2", Err("it has version 1")),
        ] {
            match (resolve_version(id, version, &known()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(reason)) => assert!(error.to_string().contains(reason), "{error}"),
                (found, _) => panic!("{id}@{version}: {found:?}"),
            }
        }
    }

    #[test]
    fn an_order_keeps_what_else_its_entries_say() {
        let entry = OrderEntry { id: "a".to_owned(), optional: true, ..OrderEntry::default() };
        let order = [OrderGroup { group: vec![entry] }];
        let resolved = resolve_order(&order, &known()).unwrap();
        assert_eq!(resolved[0].group[0].to_string(), "a@1");
        assert!(resolved[0].group[0].optional);
    }
}
