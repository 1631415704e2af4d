//! Blobs that are sent while they are being made.
//!
//! One upload, one `PATCH` without a length that ends with the blob, and the closing `PUT` with its digest, as Docker's own
//! client does. It may fail for any reason, at any time: then the blob is sent from its file, as any other, and the registry
//! is not tried again. Nothing here is waited for by whoever makes the blob.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use tokio::sync::{Semaphore, oneshot};

use super::request::{Payload, Request, Timeouts};
use super::scope::{Access, Scope};
use super::transport::status_error;
use super::upload::{Failed, Session, arrived};
use super::{Core, protocol};
use crate::growing::{BlobFollower, GrowingBlob};
use crate::{BlobOutcome, Descriptor, Digest, Reference};

/// How many blobs are sent at once before they are complete. One whose turn comes later is sent from its file, which takes
/// no more requests.
const STREAMS: usize = 6;
/// How much is sent at once, as one chunk of HTTP.
const CHUNK: usize = 256 << 10;
/// How much must be left of a blob that is complete, so that the registry is asked whether it needs the rest.
const WORTH_ASKING: u64 = 16 << 20;

/// The blobs that are on their way.
#[derive(Debug)]
pub(super) struct Streams {
    running: Mutex<Vec<Running>>,
    permits: Semaphore,
}

impl Default for Streams {
    fn default() -> Self {
        Self { running: Mutex::default(), permits: Semaphore::new(STREAMS) }
    }
}

#[derive(Debug)]
struct Running {
    place: Reference,
    blob: GrowingBlob,
    outcome: oneshot::Receiver<Option<BlobOutcome>>,
}

/// Sends blobs to one repository.
pub(super) struct Sender {
    pub(super) core: Arc<Core>,
    pub(super) handle: tokio::runtime::Handle,
    pub(super) place: Reference,
}

impl BlobFollower for Sender {
    fn follow(&self, blob: GrowingBlob) {
        let (told, outcome) = oneshot::channel();
        let running = Running { place: self.place.clone(), blob: blob.clone(), outcome };
        self.core.streams.running.lock().unwrap_or_else(PoisonError::into_inner).push(running);
        let (core, place) = (Arc::clone(&self.core), self.place.clone());
        self.handle.spawn(async move { core.stream(&place, &blob, told).await });
    }
}

impl Streams {
    /// What became of a blob that was sent while it was made; `None` when it was not, or that failed.
    pub(super) async fn outcome(&self, place: &Reference, digest: Digest) -> Option<BlobOutcome> {
        let found = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let is_it = |stream: &Running| {
                stream.place.same_repository(place)
                    && stream.blob.complete().is_some_and(|(found, _)| found == digest)
            };
            running.iter().position(is_it).map(|index| running.swap_remove(index))
        };
        // A task that ended without a word has failed.
        found?.outcome.await.ok().flatten()
    }
}

/// How a stream ended when not with a blob in the registry.
enum Ended {
    /// It was not begun, or whoever makes the blob failed.
    NotSent,
    /// The registry has the blob already.
    Present,
    /// The registry, or the way there, does not take it.
    Failed(Failed),
}

impl<E: Into<Failed>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Core {
    async fn stream(
        &self,
        place: &Reference,
        blob: &GrowingBlob,
        told: oneshot::Sender<Option<BlobOutcome>>,
    ) {
        let mut session = None;
        let outcome = match self.try_stream(place, blob, &mut session).await {
            Ok(()) => {
                session = None;
                Some(BlobOutcome::Written)
            }
            Err(Ended::Present) => Some(BlobOutcome::Present),
            Err(Ended::NotSent) => None,
            Err(Ended::Failed(failed)) => {
                if let Ok(remote) = self.remote(place).await {
                    remote.note_refuses_streams();
                    match &failed {
                        Failed::TooLarge(_) => remote.note_wants_chunks(),
                        Failed::LostChunk(_) => remote.note_loses_chunks(),
                        Failed::Other(_) => {}
                    }
                }
                let (Failed::TooLarge(error) | Failed::LostChunk(error) | Failed::Other(error)) = failed;
                tracing::debug!("{error}; blobs are sent when they are complete from now on");
                None
            }
        };
        // Nobody may wait for it: the build failed, or found that it does not need the blob.
        let _nobody_waits = told.send(outcome);
        if let Some(location) = session {
            self.forget(place, location).await;
        }
    }

    /// Sends the blob; `open` is where the upload is that has to be cancelled when that fails.
    async fn try_stream(
        &self,
        place: &Reference,
        blob: &GrowingBlob,
        open: &mut Option<url::Url>,
    ) -> Result<(), Ended> {
        let remote = self.remote(place).await?;
        let permit = self.streams.permits.acquire().await;
        if permit.is_err() || !remote.streams() || blob.complete().is_some() {
            return Err(Ended::NotSent);
        }
        let request = Request::new(Method::POST, remote.url(place.repository(), "blobs/uploads/"));
        let scope = Scope::new(place.repository(), Access::Push);
        let answer = remote.send_once(&request, &scope, self.context()).await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(status_error(answer, &request).await.into());
        }
        let mut session = self.session(&remote, scope, &request, &answer)?;
        *open = Some(session.location.clone());
        let tail = Tail { blob: blob.clone(), sent: Arc::default(), furthest: Arc::default() };
        tokio::select! {
            sent = session.send_tail(&tail) => sent?,
            () = self.is_there_before(place, &tail) => return Err(Ended::Present),
        }
        *open = Some(session.location.clone());
        let (digest, _) = blob.complete().ok_or(Ended::NotSent)?;
        Ok(session.close(digest, None).await?)
    }

    /// Ends when the blob is complete, much of it is still to be sent, and the registry has it.
    async fn is_there_before(&self, place: &Reference, tail: &Tail) {
        if let Ok((digest, size)) = tail.blob.completed().await
            && size.saturating_sub(tail.furthest.load(Ordering::Relaxed)) > WORTH_ASKING
            && matches!(self.has_blob(place, digest, Access::Push).await, Ok(true))
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    /// Cancels an upload that nobody needs any more.
    async fn forget(&self, place: &Reference, location: url::Url) {
        if let Ok(remote) = self.remote(place).await {
            let scope = Scope::new(place.repository(), Access::Push);
            Session { core: self, remote: &remote, scope, location, least_chunk: 0 }.cancel().await;
        }
    }

    /// What became of the blob when it was sent while it was made.
    pub(super) async fn streamed(&self, place: &Reference, blob: &Descriptor) -> Option<BlobOutcome> {
        self.streams.outcome(place, blob.digest).await
    }
}

impl Session<'_> {
    /// The `PATCH` with all there is and will be.
    async fn send_tail(&mut self, tail: &Tail) -> Result<(), Ended> {
        let request = Request::new(Method::PATCH, self.location.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .payload(Payload::Growing(tail.clone()));
        let answer = match self.remote.send_once(&request, &self.scope, self.core.context()).await {
            // The request broke because there is no more to be sent.
            Err(_) if tail.is_abandoned() => return Err(Ended::NotSent),
            other => other?,
        };
        match answer.status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED => {}
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Failed::TooLarge(status_error(answer, &request).await).into());
            }
            _ => return Err(status_error(answer, &request).await.into()),
        }
        let sent = tail.sent.load(Ordering::Relaxed);
        if tail.blob.complete().is_none_or(|(_, size)| size != sent) {
            return Err(protocol(&request, "it was answered before its end".to_owned()).into());
        }
        if let Some(arrived) = arrived(answer.headers()).filter(|arrived| *arrived != sent) {
            let what = format!("{arrived} bytes have arrived, {sent} were sent");
            return Err(Failed::LostChunk(protocol(&request, what)).into());
        }
        Ok(self.follow(&request, &answer)?)
    }
}

/// A blob from its start to its end, which is not there yet.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    blob: GrowingBlob,
    /// The bytes that the current request has taken.
    sent: Arc<AtomicU64>,
    /// The most that any request has taken: one that wanted another token is made again.
    furthest: Arc<AtomicU64>,
}

impl Tail {
    /// The bytes of one request, which ends with an error when nobody waits for its answer any more.
    pub(super) fn stream(&self, request: Weak<()>) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        self.sent.store(0, Ordering::Relaxed);
        let tail = self.clone();
        try_unfold(0, move |offset| {
            let (tail, request) = (tail.clone(), request.clone());
            async move {
                let bytes = tail.blob.next(offset, CHUNK).await?;
                if bytes.is_empty() {
                    return Ok(None);
                }
                if request.strong_count() == 0 {
                    return Err(io::Error::other("the request was answered before its end"));
                }
                let offset = offset + bytes.len() as u64;
                tail.sent.store(offset, Ordering::Relaxed);
                tail.furthest.fetch_max(offset, Ordering::Relaxed);
                Ok(Some((bytes, offset)))
            }
        })
    }

    fn is_abandoned(&self) -> bool {
        self.blob.is_abandoned()
    }

    /// How much could be sent and was not.
    fn backlog(&self) -> u64 {
        self.blob.size().saturating_sub(self.sent.load(Ordering::Relaxed))
    }

    /// Ends when the request stalls: there is something to be sent, and it is not, or all was sent and no answer comes.
    pub(super) async fn stalls(&self, timeouts: &Timeouts) -> Duration {
        loop {
            let (before, backlog) = (self.sent.load(Ordering::Relaxed), self.backlog());
            let is_waiting = self.blob.complete().is_some() && backlog == 0;
            let period = if is_waiting { timeouts.answer } else { timeouts.stall };
            tokio::time::sleep(period).await;
            let moved = self.sent.load(Ordering::Relaxed).saturating_sub(before);
            if is_waiting || moved < backlog.min(timeouts.stall_bytes()) {
                return period;
            }
        }
    }
}
