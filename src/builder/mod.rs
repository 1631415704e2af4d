//! Builders: images with buildpacks, an order and a lifecycle on top of a build image.

mod assembly;
mod configuration;
mod image;
mod labels;
mod locator;
mod module;
mod needed;
mod order;
mod tree;

pub(crate) use assembly::{BuilderRequest, assemble};
pub(crate) use configuration::{BuilderConfiguration, ModuleConfiguration};
pub(crate) use image::BuilderImage;
pub(crate) use locator::local_directory;
pub(crate) use module::Module;
pub(crate) use needed::Needs;
pub(crate) use order::{ModuleId, resolve_version};
pub(crate) use tree::{Depth, order_tree};
