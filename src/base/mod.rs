//! Base images: a build image and a run image out of Debian packages (platform spec, "Build Image" and "Run Image").

mod bootstrap;
mod configuration;
mod image;

pub(crate) use bootstrap::{BootstrapRequest, bootstrap};
pub(crate) use configuration::{BaseConfiguration, Role};
pub(crate) use image::{config, distribution};
