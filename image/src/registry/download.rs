//! Blobs on their way in: streamed, resumed where they broke, and verified (distribution spec, "Pulling blobs").

use std::io::{self, Read};
use std::sync::Arc;

use crate::Sha256;
use bytes::{Buf as _, Bytes};
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use super::error::RegistryError;
use super::pace::Pace;
use super::request::Request;
use super::scope::{Access, Scope};
use super::transport::status_error;
use super::{Core, protocol};
use crate::{Descriptor, Digest, Reference};

/// How many chunks are received ahead of the reader.
const AHEAD: usize = 32;

/// After so many bytes the attempts are counted anew; fewer may be what a connection that never works lets through.
const PROGRESS: u64 = 1 << 20;

type Chunk = Result<Bytes, RegistryError>;

impl Core {
    /// The registry's answer to a request for a blob from an offset on, and how much of it is to be skipped.
    async fn blob_from(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
        validator: Option<&HeaderValue>,
    ) -> Result<(Request, Response, u64), RegistryError> {
        let remote = self.remote(reference).await?;
        let url = remote.url(reference.repository(), &format!("blobs/{}", blob.digest));
        let scope = Scope::new(reference.repository(), Access::Pull);
        let whole = Request::new(Method::GET, url);
        let mut request = whole.clone();
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            request =
                request.header(RANGE, range.unwrap_or_else(|_never| HeaderValue::from_static("bytes=0-")));
            if let Some(validator) = validator {
                request = request.header(IF_RANGE, validator.clone());
            }
        }
        let mut answer = remote.send(&request, &scope, self.context()).await?;
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            request = whole;
            answer = remote.send(&request, &scope, self.context()).await?;
        }
        match answer.status() {
            StatusCode::OK => Ok((request, answer, offset)),
            StatusCode::PARTIAL_CONTENT if range_start(answer.headers()) == Some(offset) => {
                Ok((request, answer, 0))
            }
            StatusCode::PARTIAL_CONTENT => {
                Err(protocol(&request, "another range than was asked for".to_owned()))
            }
            _ => Err(status_error(answer, &request).await),
        }
    }

    /// Sends a blob's bytes, from an offset to the last, however often the connection breaks: from a mirror, from another
    /// one when that fails, and at last from the registry itself.
    async fn stream_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        mut offset: u64,
        sender: &mpsc::Sender<Chunk>,
    ) -> Result<(), RegistryError> {
        let mut places = self.places(reference)?.into_iter().peekable();
        while let Some(place) = places.next() {
            match self.stream_from(&place, blob, &mut offset, sender).await {
                Err(error) if places.peek().is_some() => self.note_failed_mirror(&place, &error),
                other => return other,
            }
        }
        Ok(())
    }

    async fn stream_from(
        &self,
        place: &Reference,
        blob: &Descriptor,
        offset: &mut u64,
        sender: &mpsc::Sender<Chunk>,
    ) -> Result<(), RegistryError> {
        let mut attempt = 1;
        let mut validator = None;
        loop {
            let before = *offset;
            let error = match self.stream_part(place, blob, offset, &mut validator, sender).await {
                Err(error) if error.is_transient() => error,
                other => return other,
            };
            if *offset - before >= PROGRESS {
                attempt = 1;
            }
            self.transport.wait(place.registry(), attempt, error, None).await?;
            attempt += 1;
        }
    }

    async fn stream_part(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: &mut u64,
        validator: &mut Option<HeaderValue>,
        sender: &mpsc::Sender<Chunk>,
    ) -> Result<(), RegistryError> {
        let (request, mut answer, mut skip) =
            self.blob_from(reference, blob, *offset, validator.as_ref()).await?;
        *validator = strong_validator(answer.headers());
        let announced = answer.content_length().map(|length| length + *offset - skip);
        let wrong_size = |what| RegistryError::Content {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            expected: blob.digest,
            what,
        };
        if let Some(announced) = announced.filter(|announced| *announced != blob.size) {
            return Err(wrong_size(format!("it has {announced} bytes, not {}", blob.size)));
        }
        let mut pace = Pace::new(self.transport.timeouts);
        while let Some(mut chunk) = pace.next_chunk(&mut answer, &request).await? {
            let skipped = skip.min(chunk.len() as u64);
            chunk.advance(usize::try_from(skipped).unwrap_or(chunk.len()));
            skip -= skipped;
            *offset += chunk.len() as u64;
            if *offset > blob.size {
                return Err(wrong_size(format!("it has more than {} bytes", blob.size)));
            }
            if !chunk.is_empty() && sender.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
        }
        if *offset < blob.size {
            return Err(wrong_size(format!("it has {offset} bytes, not {}", blob.size)));
        }
        Ok(())
    }

    /// A reader of a blob from an offset on, fed by a task of the runtime.
    pub(super) fn blob_reader(
        self: &Arc<Self>,
        runtime: &tokio::runtime::Handle,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> BlobReader {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (core, owned_reference, owned_blob) = (Arc::clone(self), reference.clone(), blob.clone());
        runtime.spawn(async move {
            if let Err(error) = core.stream_blob(&owned_reference, &owned_blob, offset, &sender).await {
                // The reader was dropped when this fails: nobody is left to tell.
                let _reader_is_gone = sender.send(Err(error)).await;
            }
        });
        BlobReader {
            receiver,
            chunk: Bytes::new(),
            check: if offset == 0 { Check::Digest(Box::new(Sha256::new())) } else { Check::Length },
            left: blob.size.saturating_sub(offset),
            core: Arc::clone(self),
            reference: reference.clone(),
            expected: blob.digest,
        }
    }
}

/// The first byte of `Content-Range: bytes FIRST-LAST/SIZE`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

/// An `ETag` that names these very bytes (RFC 9110, section 8.8.3): only such a one may stand in `If-Range`.
fn strong_validator(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned()
}

/// Reads a blob, and fails at its end when it is not the one that was asked for.
#[derive(Debug)]
pub(super) struct BlobReader {
    receiver: mpsc::Receiver<Chunk>,
    chunk: Bytes,
    check: Check,
    left: u64,
    reference: Reference,
    expected: Digest,
    core: Arc<Core>,
}

/// What is checked at the end.
#[derive(Debug)]
enum Check {
    Digest(Box<Sha256>),
    /// The digest is that of the whole, and this is a part.
    Length,
    Done,
}

impl BlobReader {
    fn verify(&mut self) -> io::Result<()> {
        let what = match std::mem::replace(&mut self.check, Check::Done) {
            Check::Digest(hasher) => match Digest::from_hasher(*hasher) {
                found if found == self.expected && self.left == 0 => return Ok(()),
                found => format!("its digest is {found}"),
            },
            Check::Length if self.left > 0 => format!("{} bytes are missing", self.left),
            Check::Length | Check::Done => return Ok(()),
        };
        let error = RegistryError::Content {
            registry: self.reference.registry().to_owned(),
            repository: self.reference.repository().to_owned(),
            expected: self.expected,
            what,
        };
        self.core.distrust_mirrors(&self.reference, &error);
        Err(io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk.map_err(io::Error::other)?,
                None => return self.verify().map(|()| 0),
            }
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk[..count]);
        if let Check::Digest(hasher) = &mut self.check {
            hasher.update(&buffer[..count]);
        }
        self.chunk.advance(count);
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let table = [("bytes 5-9/10", Some(5)), ("bytes 0-0/*", Some(0)), ("bytes */10", None), ("x", None)];
        for (text, expected) in table {
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, text.parse().unwrap())]);
            assert_eq!(range_start(&headers), expected, "{text}");
        }
    }
}
