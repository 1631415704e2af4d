//! The programs that go into builders and app images: this one, as the lifecycle, and the launcher.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use longshore_image::Digest;

use crate::directories::Directories;

/// The launcher, when it was put into this program; see `build.rs`.
const LAUNCHER: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/launcher.rs"));

/// The programs as one is called for each phase of the lifecycle.
pub(crate) const PHASES: [&str; 8] =
    ["analyzer", "builder", "creator", "detector", "exporter", "extender", "rebaser", "restorer"];

/// The version of the reference lifecycle that ours stands for, with our own behind it. Platforms decide by it what a
/// builder's lifecycle can do.
pub(crate) const LIFECYCLE_VERSION: &str = concat!("0.21.0+longshore.", env!("CARGO_PKG_VERSION"));

/// This program, which is the lifecycle too.
///
/// # Errors
/// When the system does not tell where it is.
pub(crate) fn lifecycle() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot tell where this program is")
}

/// The launcher as a file.
///
/// # Errors
/// When it is not part of this program and not beside it either, or cannot be written to the cache.
pub(crate) fn launcher(directories: &Directories) -> anyhow::Result<PathBuf> {
    if let Some(bytes) = LAUNCHER {
        return embedded(bytes, &directories.cache.join("launcher"));
    }
    let program = lifecycle()?;
    let beside = program.parent().unwrap_or(Path::new("/"));
    let places = [beside.join("launcher"), beside.join("../lib/longshore/launcher")];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => Ok(place.clone()),
        None => bail!(
            "there is no launcher in this program or at `{}`; build it with `cargo build -p longshore-launcher`",
            places[0].display()
        ),
    }
}

/// The bytes in a file that is named by their digest, so that two versions of this program do not disturb each other.
fn embedded(bytes: &[u8], directory: &Path) -> anyhow::Result<PathBuf> {
    let path = directory.join(Digest::of(bytes).hex());
    if path.metadata().is_ok_and(|metadata| metadata.len() == bytes.len() as u64) {
        return Ok(path);
    }
    fs_err::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    std::io::Write::write_all(&mut file, bytes)?;
    fs_err::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    file.persist(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedded_launcher_becomes_an_executable_file_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = embedded(b"#!launcher", &directory.path().join("x")).unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"#!launcher");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs_err::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(embedded(b"#!launcher", &directory.path().join("x")).unwrap(), path);
    }
}
