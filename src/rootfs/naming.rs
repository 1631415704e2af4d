//! The end of an unpacked layer: it gets its name when its content is on the disk.
//!
//! A name that survives a power loss which the content did not survive would be believed. One call brings whatever the file
//! system has to the disk, so the layers that are done at the moment share it, and others are unpacked meanwhile.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use anyhow::Context;
use longshore_sandbox::remove_tree;

/// A layer that was unpacked and verified, and has no name yet. Dropped, it is removed.
pub(super) struct Finished {
    directory: PathBuf,
    name: PathBuf,
    is_named: bool,
    /// Held until the layer has its name, or is gone.
    _lock: File,
}

impl Finished {
    pub(super) fn new(directory: PathBuf, name: PathBuf, lock: File) -> Self {
        Self { directory, name, is_named: false, _lock: lock }
    }

    /// Where it is until it has its name.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        if !self.is_named
            && let Err(error) = remove_tree(&self.directory)
        {
            tracing::warn!("cannot remove `{}`: {error}", self.directory.display());
        }
    }
}

/// Names layers in `directory` as they come, until no more will.
///
/// # Errors
/// When they cannot be brought to the disk or named; those that have no name are removed.
pub(super) fn name(directory: &Path, finished: &Receiver<Finished>) -> anyhow::Result<()> {
    let file = fs_err::File::open(directory)?;
    while let Ok(first) = finished.recv() {
        let mut layers = vec![first];
        layers.extend(finished.try_iter());
        rustix::fs::syncfs(&file)
            .with_context(|| format!("cannot bring `{}` to the disk", directory.display()))?;
        for layer in &mut layers {
            fs_err::rename(&layer.directory, &layer.name)?;
            layer.is_named = true;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_is_not_named_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let finished = |from: &str, to: &str| {
            std::fs::create_dir(at(from)).unwrap();
            Finished::new(at(from), at(to), File::create(at("lock")).unwrap())
        };
        let (sender, receiver) = mpsc::channel();
        sender.send(finished("a", "one")).unwrap();
        // There is no such place.
        sender.send(finished("b", "none/two")).unwrap();
        sender.send(finished("c", "three")).unwrap();
        drop(sender);
        name(folder.path(), &receiver).unwrap_err();
        drop(receiver);
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|child| child.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["lock", "one"]);
    }
}
