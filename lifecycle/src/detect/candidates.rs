//! Resolving an order: which groups of component buildpacks and extensions it stands for.
//!
//! Spec: buildpack.md "Order Resolution".

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use longshore_cnb::buildpack_toml::applies_in;
use longshore_cnb::group::ModuleKind;
use longshore_cnb::order::{OrderEntry, OrderGroup};

use super::error::DetectError;
use super::member::Member;
use crate::module_store::Module;

/// An order, with what is needed to resolve it.
pub(super) struct Orders<'a> {
    /// The groups of buildpacks.
    pub(super) buildpacks: &'a [OrderGroup],
    /// The groups of image extensions; each is tried before every group of buildpacks, and none of them as well.
    pub(super) extensions: &'a [OrderGroup],
    /// The execution environment, when the platform knows any.
    pub(super) exec_env: Option<&'a str>,
}

/// What an order is resolved against.
pub(super) trait Candidates {
    /// What ends the search.
    type Found;

    /// Looks a module up. Only called when the module's turn comes: what follows a group that passes is never read.
    fn module(&mut self, kind: ModuleKind, entry: &OrderEntry) -> Result<Arc<Module>, DetectError>;

    /// Tries a candidate group; breaks if it passes.
    fn try_group(&mut self, members: &[Member]) -> ControlFlow<Self::Found>;
}

impl Orders<'_> {
    /// Tries the candidate groups in order until one passes. Composite buildpacks are expanded depth-first.
    pub(super) fn search<C: Candidates>(&self, candidates: &mut C) -> Result<Option<C::Found>, DetectError> {
        let mut walk = Walk { candidates, exec_env: self.exec_env };
        for group in self.buildpacks {
            let mut pending = Vec::new();
            if !self.extensions.is_empty() {
                pending.push(Pending::Extensions(self.extensions.into()));
            }
            pending.extend(Pending::entries(group, ModuleKind::Buildpack, None));
            if let ControlFlow::Break(found) = walk.group(&pending, Vec::new())? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// What is still to come in a group.
#[derive(Clone)]
enum Pending {
    Extensions(Rc<[OrderGroup]>),
    Entry { kind: ModuleKind, entry: OrderEntry, inside: Option<Rc<Composite>> },
}

impl Pending {
    fn entries(
        group: &OrderGroup,
        kind: ModuleKind,
        inside: Option<&Rc<Composite>>,
    ) -> impl Iterator<Item = Self> {
        group.group.iter().map(move |entry| {
            let mut entry = entry.clone();
            entry.optional |= kind == ModuleKind::Extension;
            Self::Entry { kind, entry, inside: inside.cloned() }
        })
    }
}

/// A composite buildpack that is being expanded, inside another one perhaps.
struct Composite {
    name: String,
    inside: Option<Rc<Composite>>,
}

impl Composite {
    /// The composites from the outermost one to this one.
    fn path(self: &Rc<Self>) -> Vec<String> {
        let mut names = Vec::new();
        let mut next = Some(self);
        while let Some(composite) = next {
            names.push(composite.name.clone());
            next = composite.inside.as_ref();
        }
        names.reverse();
        names
    }
}

struct Walk<'a, C> {
    candidates: &'a mut C,
    exec_env: Option<&'a str>,
}

impl<C: Candidates> Walk<'_, C> {
    /// Expands `pending` after the members in `done`, up to the first element that stands for an order.
    fn group(
        &mut self,
        pending: &[Pending],
        mut done: Vec<Member>,
    ) -> Result<ControlFlow<C::Found>, DetectError> {
        for (index, next) in pending.iter().enumerate() {
            let rest = &pending[index + 1..];
            let (kind, entry, inside) = match next {
                Pending::Extensions(order) => {
                    return self.order(order, ModuleKind::Extension, None, &done, rest, true);
                }
                Pending::Entry { kind, entry, inside } => (*kind, entry, inside),
            };
            // The first of several versions of a module in a group takes part.
            if done.iter().any(|member| member.kind == kind && member.id == entry.id) {
                continue;
            }
            if !self.applies(entry.exec_env.iter().map(String::as_str)) {
                tracing::debug!("Skipping {entry}: its group has it for other execution environments");
                continue;
            }
            let module = self.candidates.module(kind, entry)?;
            if self.exec_env.is_some_and(|exec_env| !module.descriptor.supports_exec_env(exec_env)) {
                tracing::debug!("Skipping {entry}: it is for other execution environments");
                continue;
            }
            if module.descriptor.is_composite() {
                let composite = enter(entry, inside.as_ref())?;
                let order = &module.descriptor.order;
                return self.order(order, kind, Some(&composite), &done, rest, entry.optional);
            }
            done.push(Member::new(kind, entry, module));
        }
        Ok(self.candidates.try_group(&done))
    }

    /// Expands an order in the place of one element of a group.
    fn order(
        &mut self,
        order: &[OrderGroup],
        kind: ModuleKind,
        inside: Option<&Rc<Composite>>,
        done: &[Member],
        rest: &[Pending],
        optional: bool,
    ) -> Result<ControlFlow<C::Found>, DetectError> {
        for group in order {
            let mut pending: Vec<_> = Pending::entries(group, kind, inside).collect();
            pending.extend_from_slice(rest);
            if let found @ ControlFlow::Break(_) = self.group(&pending, done.to_vec())? {
                return Ok(found);
            }
        }
        if optional { self.group(rest, done.to_vec()) } else { Ok(ControlFlow::Continue(())) }
    }

    fn applies<'b>(&self, list: impl IntoIterator<Item = &'b str>) -> bool {
        self.exec_env.is_none_or(|exec_env| applies_in(list, exec_env))
    }
}

/// Goes into a composite buildpack, unless it is inside itself.
fn enter(entry: &OrderEntry, inside: Option<&Rc<Composite>>) -> Result<Rc<Composite>, DetectError> {
    let name = entry.to_string();
    let composite = Rc::new(Composite { name: name.clone(), inside: inside.cloned() });
    if inside.is_some_and(|outer| outer.path().contains(&name)) {
        return Err(DetectError::Cycle { path: composite.path() });
    }
    Ok(composite)
}

#[cfg(test)]
mod tests;
