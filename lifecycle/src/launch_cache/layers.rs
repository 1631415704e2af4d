//! Layers as uncompressed tars, by DiffID.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_image::Sha256;
use longshore_image::{Descriptor, Digest, StoreError};

const BUFFER: usize = 1 << 20;

/// The file of a layer, whether it exists or not.
pub(super) fn path(directory: &Path, diff_id: Digest) -> PathBuf {
    directory.join("committed").join(format!("{diff_id}.tar"))
}

/// The file of a layer, if it is there and whole; it is removed when it is damaged.
pub(super) fn open(path: &Path, blob: &Descriptor) -> Option<Box<dyn Read + Send>> {
    let mut file = File::open(path).ok()?;
    let is_whole = hash(&mut file).is_ok_and(|digest| digest == blob.digest) && file.rewind().is_ok();
    if is_whole {
        return Some(Box::new(file));
    }
    tracing::warn!("'{}' of the launch cache is damaged: it is removed", path.display());
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!("it could not be removed: {error}");
    }
    None
}

fn hash(file: &mut File) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_hasher(hasher)),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Puts a whole layer, which was just made, into the cache.
pub(super) fn add(path: &Path, layer: &Path) -> io::Result<()> {
    let folder = parent(path)?;
    match fs::hard_link(layer, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(_) => {
            // On another file system.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            io::copy(&mut File::open(layer)?, &mut file)?;
            file.persist(path).map(drop).map_err(|error| error.error)
        }
        Ok(()) => Ok(()),
    }
}

/// Reads a layer into the cache, and opens it there. Where nothing can be written, it is only read.
pub(super) fn fill(
    path: &Path,
    blob: &Descriptor,
    mut reader: Box<dyn Read + Send>,
) -> Result<Box<dyn Read + Send>, StoreError> {
    let at = |source| StoreError::File { path: path.to_owned(), source };
    let mut file = match parent(path).and_then(tempfile::NamedTempFile::new_in) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!("'{}' cannot be written: {error}", path.display());
            return Ok(reader);
        }
    };
    let mut buffer = vec![0; BUFFER];
    loop {
        // The reader checks the digest at its end.
        match reader.read(&mut buffer).map_err(at)? {
            0 => break,
            count => file.write_all(&buffer[..count]).map_err(at)?,
        }
    }
    tracing::debug!("the layer {} is in the launch cache now", blob.digest);
    let mut file = file.persist(path).map_err(|error| at(error.error))?;
    file.rewind().map_err(at)?;
    Ok(Box::new(file))
}

fn parent(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().ok_or(ErrorKind::NotFound)?;
    fs::create_dir_all(folder)?;
    Ok(folder)
}

/// Removes all layers but these.
pub(super) fn retain(directory: &Path, layers: &[Descriptor]) -> io::Result<()> {
    let wanted: BTreeSet<String> = layers.iter().map(|layer| format!("{}.tar", layer.digest)).collect();
    remove(&directory.join("committed"), |name| !wanted.contains(name))
}

/// Removes the files of a folder whose names are unwanted.
pub(super) fn remove(folder: &Path, is_unwanted: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() && is_unwanted(&entry.file_name().to_string_lossy()) {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes folders that processes which were killed have left: no build takes a day.
pub(super) fn remove_old_scratch(directory: &Path) -> io::Result<()> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
        let is_old = age.is_ok_and(|age| age.is_ok_and(|age| age > DAY));
        if is_old && entry.file_name().to_string_lossy().starts_with(super::SCRATCH) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
