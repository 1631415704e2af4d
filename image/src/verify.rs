//! A reader that ends with an error when what it read is not what was asked for.

use std::io::{self, Read};

use crate::Sha256;

use crate::{Descriptor, Digest, StoreError};

/// Passes bytes on, and fails at their end when their digest or number is not that of the descriptor. It never gives more
/// bytes than the descriptor has.
pub(crate) struct VerifiedReader<R> {
    inner: R,
    place: String,
    digest: Digest,
    expected: u64,
    read: u64,
    hasher: Option<Sha256>,
    /// Called when the bytes are others.
    when_damaged: Option<Box<dyn FnOnce() + Send>>,
}

impl<R: Read> VerifiedReader<R> {
    /// `place` is the image or file that the blob is read from, for the error.
    pub(crate) fn new(inner: R, blob: &Descriptor, place: impl Into<String>) -> Self {
        Self {
            inner,
            place: place.into(),
            digest: blob.digest,
            expected: blob.size,
            read: 0,
            hasher: Some(Sha256::new()),
            when_damaged: None,
        }
    }

    /// The same, and `act` is called when the bytes are others than the digest says.
    pub(crate) fn when_damaged(mut self, act: impl FnOnce() + Send + 'static) -> Self {
        self.when_damaged = Some(Box::new(act));
        self
    }

    fn wrong_size(&self) -> io::Error {
        let place = self.place.clone();
        let (digest, expected, actual) = (self.digest, self.expected, self.read);
        io::Error::new(
            io::ErrorKind::InvalidData,
            StoreError::SizeMismatch { place, digest, expected, actual },
        )
    }
}

impl<R: Read> Read for VerifiedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        if self.read > self.expected {
            return Err(self.wrong_size());
        }
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
            return Ok(count);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.read < self.expected {
            return Err(self.wrong_size());
        }
        match self.hasher.take().map(Digest::from_hasher) {
            Some(actual) if actual != self.digest => {
                if let Some(act) = self.when_damaged.take() {
                    act();
                }
                let (place, digest) = (self.place.clone(), self.digest);
                Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    StoreError::DigestMismatch { place, digest, actual },
                ))
            }
            _ => Ok(0),
        }
    }
}

/// The digest of all that a reader gives.
pub(crate) fn digest_of(reader: &mut dyn Read) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(Digest::from_hasher(hasher)),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The error that a [`VerifiedReader`] gave, or the I/O error of `place`.
pub(crate) fn unwrap_error(error: io::Error, place: &std::path::Path) -> StoreError {
    match error.downcast::<StoreError>() {
        Ok(error) => error,
        Err(source) => StoreError::File { path: place.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaType;

    fn read(bytes: &[u8], blob: &Descriptor) -> Result<Vec<u8>, StoreError> {
        let mut out = Vec::new();
        let mut reader = VerifiedReader::new(bytes, blob, "app");
        match reader.read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(error) => Err(unwrap_error(error, std::path::Path::new("blob"))),
        }
    }

    #[test]
    fn only_the_very_bytes_are_read() {
        let blob = Descriptor::new(MediaType::Empty, Digest::of(b"hello"), 5);
        assert_eq!(read(b"hello", &blob).unwrap(), b"hello");
        assert!(matches!(read(b"hallo", &blob), Err(StoreError::DigestMismatch { .. })));
        assert!(matches!(read(b"hell", &blob), Err(StoreError::SizeMismatch { actual: 4, .. })));
        assert!(matches!(read(b"hello!", &blob), Err(StoreError::SizeMismatch { expected: 5, .. })));
    }
}
