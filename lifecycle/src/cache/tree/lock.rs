//! The lock of an app's cache. Layers are moved out of the cache while a build works on them, so a build holds it from
//! before restore to its end.
//!
//! It is the kernel's lock on an open file, which ends with the process that holds it, however that ends.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::CacheError;

const NAME: &str = "lock";

/// A lock that is held until it is dropped.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "it is held, not used"))]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the cache in `directory`, and waits for whoever holds it. `image` is what the cache is for.
    pub(super) fn take(directory: &Path, image: &str) -> Result<Self, CacheError> {
        loop {
            let mut file = open(directory)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    tracing::info!(
                        "Waiting for {}, which uses the cache of `{image}` too",
                        holder(&mut file)
                    );
                    file.lock().map_err(CacheError::file(directory.join(NAME)))?;
                }
                Err(TryLockError::Error(source)) => {
                    return Err(CacheError::File { path: directory.join(NAME), source });
                }
            }
            // Whoever removed the cache meanwhile removed this file with it.
            if is_in_place(directory, &file) {
                write_holder(&mut file).map_err(CacheError::file(directory.join(NAME)))?;
                return Ok(Self { file });
            }
        }
    }

    /// Ends the lock as the end of the process does.
    #[cfg(test)]
    pub(super) fn end(&self) {
        self.file.unlock().unwrap();
    }

    /// Takes the lock if nobody holds it. When the lock was last taken is left as it is.
    pub(super) fn try_take(directory: &Path) -> Result<Option<Self>, CacheError> {
        let file = open(directory)?;
        match file.try_lock() {
            Ok(()) => Ok(is_in_place(directory, &file).then_some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(CacheError::File { path: directory.join(NAME), source }),
        }
    }
}

fn open(directory: &Path) -> Result<File, CacheError> {
    fs::create_dir_all(directory).map_err(CacheError::file(directory))?;
    let path = directory.join(NAME);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    file.map_err(CacheError::file(&path))
}

fn is_in_place(directory: &Path, file: &File) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let in_place = fs::metadata(directory.join(NAME)).map(inode);
    matches!((in_place, file.metadata().map(inode)), (Ok(one), Ok(other)) if one == other)
}

/// Says who holds the lock. It is only for people: a text of somebody who is no more holds nothing.
fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "process {}", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(100).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("the build in {}", text.trim()),
        _ => "another build".to_owned(),
    }
}
