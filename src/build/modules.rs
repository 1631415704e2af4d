//! Which buildpacks a build uses: the builder's order, or what the user and the project name instead of it or around it.

use std::path::Path;

use anyhow::{Context, ensure};
use longshore_cnb::group::ModuleKind;
use longshore_cnb::order::{OrderEntry, OrderGroup};

use crate::builder::{BuilderImage, Module, ModuleId, local_directory, resolve_version};
use crate::project::{ModuleLocator, Script};

/// The buildpacks of a build.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The order, when it is not the builder's.
    pub(crate) order: Option<Vec<OrderGroup>>,
    /// Buildpacks that the builder does not have.
    pub(crate) modules: Vec<Module>,
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The only group.
    pub(crate) group: &'a [ModuleLocator],
    /// Before every group of the builder.
    pub(crate) pre: &'a [ModuleLocator],
    /// After every group of the builder.
    pub(crate) post: &'a [ModuleLocator],
    /// Where relative paths begin.
    pub(crate) base: &'a Path,
    /// Where buildpacks made of scripts are written.
    pub(crate) scratch: &'a Path,
}

/// Finds the buildpacks.
///
/// # Errors
/// When a buildpack does not exist or is not valid, or the builder's order is spliced in twice.
pub(crate) fn select(wanted: Wanted<'_>, builder: &BuilderImage) -> anyhow::Result<Selection> {
    let mut finder = Finder { wanted, known: builder.buildpack_ids(), modules: Vec::new() };
    let order = if !wanted.group.is_empty() {
        Some(finder.group(wanted.group, builder)?)
    } else if !wanted.pre.is_empty() || !wanted.post.is_empty() {
        let (pre, post) = (finder.entries(wanted.pre)?, finder.entries(wanted.post)?);
        Some(around(&pre, &builder.order, &post))
    } else {
        None
    };
    Ok(Selection { order, modules: finder.modules })
}

fn around(pre: &[OrderEntry], order: &[OrderGroup], post: &[OrderEntry]) -> Vec<OrderGroup> {
    let group = |group: &OrderGroup| OrderGroup {
        group: pre.iter().chain(&group.group).chain(post).cloned().collect(),
    };
    order.iter().map(group).collect()
}

struct Finder<'a> {
    wanted: Wanted<'a>,
    known: Vec<ModuleId>,
    modules: Vec<Module>,
}

impl Finder<'_> {
    /// The groups that a list stands for: one, or the builder's with the rest of the list around them.
    fn group(&mut self, list: &[ModuleLocator], builder: &BuilderImage) -> anyhow::Result<Vec<OrderGroup>> {
        let is_builder = |locator: &ModuleLocator| matches!(locator, ModuleLocator::Uri(uri) if uri == "from=builder" || uri == "urn:cnb:builder");
        let Some(at) = list.iter().position(is_builder) else {
            return Ok(vec![OrderGroup { group: self.entries(list)? }]);
        };
        let (before, after) = (&list[..at], &list[at + 1..]);
        ensure!(!after.iter().any(is_builder), "the buildpacks of the builder can be named once");
        let (before, after) = (self.entries(before)?, self.entries(after)?);
        Ok(around(&before, &builder.order, &after))
    }

    fn entries(&mut self, list: &[ModuleLocator]) -> anyhow::Result<Vec<OrderEntry>> {
        list.iter().map(|locator| self.entry(locator)).collect()
    }

    fn entry(&mut self, locator: &ModuleLocator) -> anyhow::Result<OrderEntry> {
        let id = match locator {
            ModuleLocator::Id { id, version } => {
                self.of_builder(id, version.as_deref().unwrap_or_default())?
            }
            ModuleLocator::Script(script) => {
                let directory = write_script(script, self.wanted.scratch, self.modules.len())?;
                self.add(&directory)?
            }
            ModuleLocator::Uri(uri) => match self.reference(uri) {
                Some((id, version)) => self.of_builder(id, version)?,
                None => {
                    let directory = local_directory(uri, self.wanted.base)
                        .with_context(|| format!("cannot find the buildpack `{uri}`"))?;
                    self.add(&directory)?
                }
            },
        };
        Ok(OrderEntry { id: id.id, version: id.version, ..OrderEntry::default() })
    }

    /// The id and version in a text that does not name a directory.
    fn reference<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str)> {
        let (text, explicit) =
            match text.strip_prefix("from=builder:").or(text.strip_prefix("urn:cnb:builder:")) {
                Some(rest) => (rest, true),
                None => (text, false),
            };
        let (id, version) = text.split_once('@').unwrap_or((text, ""));
        let is_directory = self.wanted.base.join(text).is_dir();
        let is_known = self.known.iter().any(|known| known.id == id);
        let looks_like_id = !version.is_empty() && !text.contains("://") && !text.starts_with(['.', '/']);
        (explicit || (!is_directory && (is_known || looks_like_id))).then_some((id, version))
    }

    fn of_builder(&self, id: &str, version: &str) -> anyhow::Result<ModuleId> {
        let version = resolve_version(id, version, &self.known)?;
        Ok(ModuleId { id: id.to_owned(), version })
    }

    fn add(&mut self, directory: &Path) -> anyhow::Result<ModuleId> {
        let module = Module::read(ModuleKind::Buildpack, directory)
            .with_context(|| format!("cannot use the buildpack in `{}`", directory.display()))?;
        let id = module.id();
        self.modules.push(module);
        Ok(id)
    }
}

/// A buildpack that always takes part and runs a script of the project descriptor.
fn write_script(script: &Script, scratch: &Path, number: usize) -> anyhow::Result<std::path::PathBuf> {
    #[derive(serde::Serialize)]
    struct File<'a> {
        api: &'a str,
        buildpack: Buildpack<'a>,
        targets: [std::collections::BTreeMap<&'a str, &'a str>; 1],
    }
    #[derive(serde::Serialize)]
    struct Buildpack<'a> {
        id: &'a str,
        version: &'a str,
    }
    let directory = scratch.join(format!("script-{number}"));
    fs_err::create_dir_all(directory.join("bin"))?;
    let descriptor = File {
        api: &script.api,
        buildpack: Buildpack { id: &script.id, version: &script.version },
        targets: [std::collections::BTreeMap::from([("os", "linux")])],
    };
    let text = toml::to_string(&descriptor).context("cannot write buildpack.toml")?;
    fs_err::write(directory.join("buildpack.toml"), text)?;
    let build = format!("#!{}\n\n{}\n", script.shell, script.inline);
    for (name, text) in [("detect", "#!/bin/sh\nexit 0\n"), ("build", build.as_str())] {
        let path = directory.join("bin").join(name);
        fs_err::write(&path, text)?;
        fs_err::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    Ok(directory)
}

#[cfg(test)]
#[path = "modules_tests.rs"]
mod tests;
