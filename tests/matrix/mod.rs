//! What other projects' clients make of images, others' and ours. `make matrix` writes it into docs/registries.md.

mod archives;
mod column;
mod document;
mod outputs;
mod variants;
