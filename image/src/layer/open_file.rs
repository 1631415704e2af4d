//! Files that are read as a whole, and must not change while they are.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::error::LayerError;
use super::folder::{self, Folder};

pub(super) fn open(folder: Option<&Folder>, path: &Path) -> Result<File, LayerError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let (at, name) = folder::place(folder, path);
    let file = rustix::fs::openat(at, name, flags, Mode::empty());
    file.map(File::from).map_err(|errno| LayerError::read(path)(errno.into()))
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// An open file and its state when it was opened.
pub(super) struct OpenFile {
    path: PathBuf,
    file: File,
    state: State,
}

impl OpenFile {
    pub(super) fn open(path: &Path) -> Result<Self, LayerError> {
        Self::of(open(None, path)?, path)
    }

    pub(super) fn of(file: File, path: &Path) -> Result<Self, LayerError> {
        let state = state(&file, path)?;
        Ok(Self { path: path.to_owned(), file, state })
    }

    pub(super) fn size(&self) -> u64 {
        self.state.size
    }

    /// Fills `memory` with the next bytes of the file; one that ends before has changed.
    pub(super) fn read_to(&mut self, memory: &mut [u8]) -> Result<(), LayerError> {
        let changed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => LayerError::Changed { path: self.path.clone() },
            _ => LayerError::Read { path: self.path.clone(), source: error },
        };
        self.file.read_exact(memory).map_err(changed)
    }

    /// Checks that the file was not written to since it was opened.
    pub(super) fn finish(&self) -> Result<(), LayerError> {
        if state(&self.file, &self.path)? == self.state {
            return Ok(());
        }
        Err(LayerError::Changed { path: self.path.clone() })
    }
}

fn state(file: &File, path: &Path) -> Result<State, LayerError> {
    let metadata = file.metadata().map_err(LayerError::read(path))?;
    if !metadata.is_file() {
        return Err(LayerError::Changed { path: path.to_owned() });
    }
    Ok(State {
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that shrinks, grows or is written in place while it is read must not end up half old and half new.
    #[test]
    fn a_file_that_changes_is_found_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let changed = |result| matches!(result, Err(LayerError::Changed { .. }));
        std::fs::write(&path, "before").unwrap();
        let mut shrunk = OpenFile::open(&path).unwrap();
        std::fs::write(&path, "b").unwrap();
        assert!(changed(shrunk.read_to(&mut [0; 6])));
        let grown = OpenFile::open(&path).unwrap();
        std::fs::write(&path, "before and after").unwrap();
        assert!(changed(grown.finish()));
        let same = OpenFile::open(&path).unwrap();
        assert!(same.finish().is_ok());
        assert!(OpenFile::open(directory.path()).is_err());
    }
}
