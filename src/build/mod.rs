//! `longshore build`: the phases of the lifecycle, in order. Analyze, restore and export run in this process, with the
//! credentials; detect and build run in a sandbox made of the builder image, without them.

mod app;
mod container;
mod detection;
mod failure;
mod modules;
mod names;
mod phases;
mod published;
mod request;
mod work_directory;

pub(crate) use failure::lifecycle_code;
pub(crate) use phases::build;
pub(crate) use request::{BuildRequest, NetworkAccess, Volume};
pub(crate) use work_directory::{clear_abandoned, oldest_running};
