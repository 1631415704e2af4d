//! End-to-end tests, through the binary, one module per area.

mod buildpacks;
mod surroundings;
