//! The project descriptor, `project.toml` (schemas 0.1, 0.2 and 0.3), and which files of the app are used.

mod descriptor;
mod filter;
mod schema;

#[cfg(test)]
pub(crate) use descriptor::Variable;
pub(crate) use descriptor::{ModuleLocator, ProjectDescriptor, Script};
pub(crate) use filter::FileFilter;
