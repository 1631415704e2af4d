//! Blobs that arrive in a file which outlives the process: what broke is gone on with, and verified as a whole.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::Sha256;

use crate::blob_file::{FileError, TEMPORARY};
use crate::verify::unwrap_error;
use crate::{BlobOpener, Descriptor, Digest, StoreError};

/// A blob that is downloaded into a file which others may read behind the writer. What arrives before the download breaks
/// stays for the next time, also when it is that of another process.
pub struct Download {
    partial: Partial,
    blob: Descriptor,
}

impl Download {
    /// Opens the file for a blob in `directory`, with what has arrived before; `None` while somebody else is downloading it
    /// into the same directory.
    ///
    /// # Errors
    /// When the file cannot be opened or read.
    pub fn open(directory: &Path, blob: &Descriptor) -> Result<Option<Self>, StoreError> {
        let partial = Partial::open(directory, blob)?;
        Ok(partial.map(|partial| Self { partial, blob: blob.clone() }))
    }

    /// Another handle of the file, to be read at offsets: the position is that of the writer.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn file(&self) -> Result<File, StoreError> {
        self.partial.file.try_clone().map_err(StoreError::file(&self.partial.path))
    }

    /// Downloads what is missing, and tells `arrived` how many bytes are in the file. The error inside is that these are
    /// not the bytes of the blob; they are kept until [`Download::restart`].
    ///
    /// # Errors
    /// When the download breaks, or the file cannot be written.
    pub fn run(
        &mut self,
        opener: &BlobOpener,
        arrived: &mut dyn FnMut(u64),
    ) -> Result<Option<StoreError>, StoreError> {
        if self.partial.size > 0 {
            tracing::debug!("the download of {} goes on after {} bytes", self.blob.digest, self.partial.size);
        }
        self.partial.attempt(&self.blob, opener, arrived)
    }

    /// Forgets what has arrived. Nobody may be reading it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.partial.restart().map_err(StoreError::file(&self.partial.path))
    }

    /// Removes the file, which its other handles keep.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(self) -> Result<(), StoreError> {
        fs::remove_file(&self.partial.path).map_err(StoreError::file(&self.partial.path))
    }
}

/// `.longshore-HEX.partial`: the first bytes of a blob. Nobody else writes it while this value lives.
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    size: u64,
}

impl Partial {
    /// Opens the file of a blob with what has arrived before; `None` while somebody else is downloading it.
    pub(crate) fn open(directory: &Path, blob: &Descriptor) -> Result<Option<Self>, FileError> {
        let path = directory.join(format!("{TEMPORARY}{}.partial", blob.digest.hex()));
        let at = |error| FileError::at(&path)(error);
        let file =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(at)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(at(source)),
        }
        // Whoever had it may just have given it its name.
        let inode = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        match fs::metadata(&path) {
            Ok(named) if inode(&named) == inode(&file.metadata().map_err(at)?) => {}
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(error)),
            _ => return Ok(None),
        }
        let mut partial = Self { path: path.clone(), file, hasher: Sha256::new(), size: 0 };
        partial.read_again(blob.size).map_err(FileError::at(&path))?;
        Ok(Some(partial))
    }

    /// Hashes what is there. More than the blob has is none of it.
    fn read_again(&mut self, limit: u64) -> io::Result<()> {
        if self.file.metadata()?.len() > limit {
            return self.restart();
        }
        let mut buffer = vec![0; 1 << 20];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(()),
                count => {
                    self.hasher.update(&buffer[..count]);
                    self.size += count as u64;
                }
            }
        }
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.hasher = Sha256::new();
        self.size = 0;
        Ok(())
    }

    /// Downloads what is missing, and gives the file its name when it is the blob, `durable` on the disk. When it is not,
    /// the whole is downloaded once more; after that nothing is kept. What broke stays for the next time.
    pub(crate) fn complete(
        mut self,
        blob: &Descriptor,
        opener: &BlobOpener,
        name: &Path,
    ) -> Result<(), StoreError> {
        if self.size > 0 {
            tracing::debug!("the download of {} goes on after {} bytes", blob.digest, self.size);
        }
        let mut failure = match self.attempt(blob, opener, &mut |_| {})? {
            None => return self.finish(name),
            Some(failure) => failure,
        };
        tracing::debug!("{failure}; downloading it once more");
        self.restart().map_err(StoreError::file(&self.path))?;
        match self.attempt(blob, opener, &mut |_| {})? {
            None => return self.finish(name),
            Some(again) => failure = again,
        }
        fs::remove_file(&self.path).map_err(StoreError::file(&self.path))?;
        Err(failure)
    }

    /// Downloads to the end; the error inside is that these are not the right bytes.
    fn attempt(
        &mut self,
        blob: &Descriptor,
        opener: &BlobOpener,
        arrived: &mut dyn FnMut(u64),
    ) -> Result<Option<StoreError>, StoreError> {
        arrived(self.size);
        if self.size < blob.size
            && let Some(failure) = self.fill(blob, opener, arrived)?
        {
            return Ok(Some(failure));
        }
        let place = self.path.display().to_string();
        let (digest, actual) = (blob.digest, Digest::from_hasher(self.hasher.clone()));
        Ok((actual != digest).then_some(StoreError::DigestMismatch { place, digest, actual }))
    }

    fn fill(
        &mut self,
        blob: &Descriptor,
        opener: &BlobOpener,
        arrived: &mut dyn FnMut(u64),
    ) -> Result<Option<StoreError>, StoreError> {
        let mut reader = opener.open_from(self.size)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    return Ok(Some(unwrap_error(error, &self.path)));
                }
                Err(error) => return Err(unwrap_error(error, &self.path)),
            };
            self.file.write_all(&buffer[..count]).map_err(StoreError::file(&self.path))?;
            self.hasher.update(&buffer[..count]);
            self.size += count as u64;
            if self.size > blob.size {
                break;
            }
            arrived(self.size);
        }
        let (place, digest) = (self.path.display().to_string(), blob.digest);
        let (expected, actual) = (blob.size, self.size);
        Ok((actual != expected).then_some(StoreError::SizeMismatch { place, digest, expected, actual }))
    }

    fn finish(self, name: &Path) -> Result<(), StoreError> {
        self.file.sync_all().map_err(StoreError::file(&self.path))?;
        fs::rename(&self.path, name).map_err(StoreError::file(name))?;
        if let Some(directory) = name.parent() {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(StoreError::file(directory))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{MediaType, StoreError};

    /// Gives the bytes from the offset that is asked for, each time those of the next element; an error after them when
    /// they are too few.
    fn opener(answers: Vec<&'static [u8]>, asked: &Arc<Mutex<usize>>) -> BlobOpener {
        let asked = Arc::clone(asked);
        BlobOpener::new(move || {
            let mut asked = asked.lock().unwrap();
            let bytes = answers[*asked];
            *asked += 1;
            let broken = Broken(bytes.len() < 8);
            Ok(Box::new(Cursor::new(bytes).chain(broken)))
        })
    }

    struct Broken(bool);

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            if self.0 { Err(io::Error::other("the connection broke")) } else { Ok(0) }
        }
    }

    #[test]
    fn downloads_end_whole_or_not_at_all() {
        // The answers, whether the blob is there in the end, and the size of what is kept when it is not.
        type Case = (Vec<&'static [u8]>, bool, Option<u64>);
        let blob = Descriptor::new(MediaType::Empty, Digest::of(b"12345678"), 8);
        let table: [Case; 6] = [
            (vec![b"12345678"], true, None),
            (vec![b"12345"], false, Some(5)),
            (vec![b"12xx5678", b"12345678"], true, None),
            (vec![b"12xx5678", b"12xx5678"], false, None),
            (vec![b"12345678x", b"12345678"], true, None),
            (vec![b"12xx5678", b"1234"], false, Some(4)),
        ];
        for (answers, is_there, kept) in table {
            let directory = tempfile::tempdir().unwrap();
            let name = directory.path().join("blob");
            let asked = Arc::new(Mutex::new(0));
            let partial = Partial::open(directory.path(), &blob).unwrap().unwrap();
            let path = partial.path.clone();
            let result = partial.complete(&blob, &opener(answers.clone(), &asked), &name);
            assert_eq!(result.is_ok(), is_there, "{answers:?} {result:?}");
            assert_eq!(name.exists(), is_there, "{answers:?}");
            assert_eq!(fs::metadata(&path).ok().map(|metadata| metadata.len()), kept, "{answers:?}");
            assert_eq!(*asked.lock().unwrap(), answers.len());
        }
    }

    #[test]
    fn a_download_goes_on_where_another_process_left_it() {
        let blob = Descriptor::new(MediaType::Empty, Digest::of(b"12345678"), 8);
        for (kept, asked_from) in [("12345", Some(5)), ("12345678", None), ("123456789", Some(0))] {
            let directory = tempfile::tempdir().unwrap();
            let name = directory.path().join("blob");
            let path = directory.path().join(format!("{TEMPORARY}{}.partial", blob.digest.hex()));
            fs::write(&path, kept).unwrap();
            let partial = Partial::open(directory.path(), &blob).unwrap().unwrap();
            assert!(Partial::open(directory.path(), &blob).unwrap().is_none(), "it is locked");
            let asked = Arc::new(Mutex::new(None));
            let seen = Arc::clone(&asked);
            let opener = BlobOpener::from_offset(move |offset| {
                *seen.lock().unwrap() = Some(offset);
                Ok(Box::new(Cursor::new(&b"12345678"[offset as usize..])))
            });
            partial.complete(&blob, &opener, &name).unwrap();
            assert_eq!(fs::read(&name).unwrap(), b"12345678");
            assert_eq!(*asked.lock().unwrap(), asked_from);
        }
    }

    #[test]
    fn what_was_kept_damaged_is_not_used() {
        let blob = Descriptor::new(MediaType::Empty, Digest::of(b"12345678"), 8);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(format!("{TEMPORARY}{}.partial", blob.digest.hex()));
        fs::write(&path, "xxxx").unwrap();
        let asked = Arc::new(Mutex::new(0));
        let opener = opener(vec![b"12345678", b"12345678"], &asked);
        let partial = Partial::open(directory.path(), &blob).unwrap().unwrap();
        partial.complete(&blob, &opener, &directory.path().join("blob")).unwrap();
        assert_eq!(*asked.lock().unwrap(), 2);
        let missing = BlobOpener::new(|| Err(StoreError::ReadOnly { place: "x".to_owned() }));
        let partial = Partial::open(directory.path(), &blob).unwrap().unwrap();
        assert!(partial.complete(&blob, &missing, &directory.path().join("other")).is_err());
    }
}
