//! Where the repository's own files are, seen from a test.

use std::path::{Path, PathBuf};

use crate::process::Outcome;

/// The root of the repository.
///
/// # Panics
/// When this crate is not two folders below it.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository's root")
}

/// The fixture `name`, such as `apps/python-web`.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(name)
}

/// The bundled buildpack `name`.
#[must_use]
pub fn buildpack(name: &str) -> PathBuf {
    root().join("buildpacks").join(name)
}

/// Copies a folder with its modes to a folder that does not exist yet.
///
/// # Panics
/// When it cannot be copied.
pub fn copy_folder(source: &Path, target: &Path) {
    Outcome::of(std::process::Command::new("cp").arg("-a").arg(source).arg(target)).success();
}
