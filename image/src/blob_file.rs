//! Files that appear under their names only when they are complete: temporary file, sync, rename.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::Sha256;
use tempfile::NamedTempFile;

use crate::{Digest, StoreError};

/// How many bytes are written before the disk is asked to begin with them.
const FLUSHED: u64 = 8 << 20;

/// The start of the names of temporary files; what is left of a killed process is found by it.
pub(crate) const TEMPORARY: &str = ".longshore-";

/// A file that could not be used.
#[derive(Debug)]
pub(crate) struct FileError {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl FileError {
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { path: path.to_owned(), source }
    }
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        Self::File { path: error.path, source: error.source }
    }
}

/// A file that is being written and hashed; dropped before its end, it leaves nothing.
pub(crate) struct BlobFile {
    directory: PathBuf,
    temporary: NamedTempFile,
    hasher: Sha256,
    size: u64,
    /// How many bytes the disk was asked to begin with; `None` when it need not.
    flushed: Option<u64>,
}

impl BlobFile {
    pub(crate) fn begin(directory: &Path) -> Result<Self, FileError> {
        let temporary = temporary(directory)?;
        Ok(Self { directory: directory.to_owned(), temporary, hasher: Sha256::new(), size: 0, flushed: None })
    }

    /// A file that will be on the disk when it gets its name: the disk begins while more is written, so that there is
    /// little left to wait for in the end.
    pub(crate) fn begin_durable(directory: &Path) -> Result<Self, FileError> {
        Ok(Self { flushed: Some(0), ..Self::begin(directory)? })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.temporary.as_file_mut().write_all(bytes).map_err(FileError::at(self.temporary.path()))?;
        self.flush();
        Ok(())
    }

    /// Linux begins to write dirty pages that are said not to be needed, and keeps them until they are written.
    fn flush(&mut self) {
        let Some(flushed) = self.flushed.filter(|flushed| self.size - flushed >= FLUSHED) else { return };
        let length = NonZeroU64::new(self.size - flushed);
        // Only advice: where it is refused, all is written at the end.
        let _ = rustix::fs::fadvise(self.temporary.as_file(), flushed, length, rustix::fs::Advice::DontNeed);
        self.flushed = Some(self.size);
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::from_hasher(self.hasher.clone())
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Another handle of the file, for who reads it behind the writer.
    pub(crate) fn handle(&self) -> Result<File, FileError> {
        self.temporary.as_file().try_clone().map_err(FileError::at(self.temporary.path()))
    }

    /// Gives the file its name; with `durable`, only after its bytes are on the disk.
    pub(crate) fn finish(self, name: &str, durable: bool) -> Result<PathBuf, FileError> {
        let path = self.directory.join(name);
        if durable {
            self.temporary.as_file().sync_all().map_err(FileError::at(&path))?;
        }
        self.temporary
            .persist(&path)
            .map_err(|error| FileError { path: path.clone(), source: error.error })?;
        if durable {
            sync_directory(&self.directory)?;
        }
        Ok(path)
    }
}

/// A new file that [`remove_abandoned`] leaves there while this process lives.
pub(crate) fn temporary(directory: &Path) -> Result<NamedTempFile, FileError> {
    loop {
        let made = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(directory)
            .map_err(FileError::at(directory))?;
        if claim(made.as_file()).map_err(FileError::at(made.path()))? {
            return Ok(made);
        }
    }
}

/// Brings the names in a directory to the disk.
pub(crate) fn sync_directory(path: &Path) -> Result<(), FileError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|directory| directory.sync_all()).map_err(FileError::at(path))
}

/// Locks a new temporary file, which tells that its process lives; whether nobody removed it before that.
fn claim(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(false),
        // A file system without locks: what is left of a killed process stays there for longer.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    Ok(file.metadata()?.nlink() > 0)
}

/// Removes the temporary files in a directory whose processes are no more; how many bytes they had. What is left of a
/// download is not meant: it is gone on with.
pub(crate) fn remove_abandoned(directory: &Path) -> Result<u64, FileError> {
    let mut bytes = 0;
    for child in fs::read_dir(directory).map_err(FileError::at(directory))? {
        let child = child.map_err(FileError::at(directory))?;
        let (name, path) = (child.file_name(), child.path());
        let is_temporary = name.to_string_lossy().starts_with(TEMPORARY);
        if !is_temporary || path.extension().is_some_and(|extension| extension == "partial") {
            continue;
        }
        // It may be given its name, or removed, at this moment.
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() {
            bytes += file.metadata().map_or(0, |metadata| metadata.len());
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(FileError { path, source });
                }
                _ => {}
            }
        }
    }
    Ok(bytes)
}

/// Replaces a file at once: a reader sees the old bytes or the new ones.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = BlobFile::begin(directory)?;
    file.write(bytes)?;
    file.finish(name, true).map(drop)
}
