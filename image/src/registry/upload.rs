//! Blobs on their way out: asked for, mounted, or sent in one piece (distribution spec, "Pushing blobs").
//!
//! One `PUT` is what every registry takes, except those that limit the size of a request: these get chunks.
//! What breaks is resumed from where the registry says it is, when that can be relied on, and else begun again.

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::error::RegistryError;
use super::payload::BlobPayload;
use super::remote::Remote;
use super::request::{Payload, Request};
use super::scope::{Access, Scope};
use super::transport::status_error;
use super::{Core, acceptable, endpoint, protocol};
use crate::{BlobOutcome, BlobSource, Descriptor, Digest, MediaType, Reference};

/// The largest blob that is sent with the request that opens an upload, in bytes. Where that is not known, it is sent twice.
const SMALL: u64 = 64 << 10;

/// An open upload of one blob.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) core: &'a Core,
    pub(super) remote: &'a Remote,
    pub(super) scope: Scope,
    /// Where the next request goes; it changes with each answer.
    pub(super) location: Url,
    /// The fewest bytes that the registry takes in a chunk that is not the last.
    pub(super) least_chunk: u64,
}

/// How an attempt to send a blob failed.
pub(super) enum Failed {
    /// The registry limits the size of a request.
    TooLarge(RegistryError),
    /// The registry took a chunk, and does not have it.
    LostChunk(RegistryError),
    /// Anything else.
    Other(RegistryError),
}

impl From<RegistryError> for Failed {
    fn from(error: RegistryError) -> Self {
        Self::Other(error)
    }
}

impl Core {
    /// Whether the blob is in the repository.
    pub(super) async fn has_blob(
        &self,
        reference: &Reference,
        digest: Digest,
        access: Access,
    ) -> Result<bool, RegistryError> {
        let remote = self.remote(reference).await?;
        let url = remote.url(reference.repository(), &format!("blobs/{digest}"));
        let request = Request::new(Method::HEAD, url);
        let scope = Scope::new(reference.repository(), access);
        let answer = remote.send(&request, &scope, self.context()).await?;
        match answer.status() {
            status if status.is_success() => Ok(true),
            // 405: the registry cannot be asked. To send what is there already is harmless.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(false),
            _ => Err(status_error(answer, &request).await),
        }
    }

    /// Puts a blob into the repository in the cheapest way there is.
    pub(super) async fn write_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&Reference>,
    ) -> Result<BlobOutcome, RegistryError> {
        if let Some(reason) = acceptable::refusal_of_blob(blob) {
            return Err(RegistryError::Unacceptable { reference: reference.familiar(), reason });
        }
        if let Some(outcome) = self.streamed(reference, blob).await {
            return Ok(outcome);
        }
        let remote = self.remote(reference).await?;
        let is_elsewhere = |from: &&Reference| {
            from.registry() == reference.registry() && from.repository() != reference.repository()
        };
        let mut from = mount_from.filter(is_elsewhere);
        let mut session = None;
        if let Some(from) = from.take_if(|_| remote.mounts()) {
            // What is there already can be mounted too.
            match self.mount(&remote, reference, blob.digest, from.repository()).await {
                Begun::Done => return Ok(BlobOutcome::Mounted),
                Begun::Upload(open) => session = open,
            }
            remote.note_refuses_mounts();
        }
        // A configuration that was made is a new one, and to send it costs no more than to ask for it.
        let is_new = matches!((&blob.media_type, source), (MediaType::Config(_), BlobSource::Bytes(_)));
        if !is_new && self.has_blob(reference, blob.digest, Access::Push).await? {
            if let Some(session) = session {
                session.cancel().await;
            }
            return Ok(BlobOutcome::Present);
        }
        if let Some(from) = from {
            match self.mount(&remote, reference, blob.digest, from.repository()).await {
                Begun::Done => return Ok(BlobOutcome::Mounted),
                Begun::Upload(open) => session = open,
            }
        }
        let payload = BlobPayload::whole(source, blob).await?;
        let fits_one = payload.length <= SMALL && session.is_none() && remote.takes_single_posts();
        let is_done = fits_one
            && match self.post(&remote, reference, blob, &payload).await? {
                Begun::Done => true,
                Begun::Upload(open) => {
                    session = open;
                    false
                }
            };
        if !is_done {
            self.send_blob(&remote, reference, blob, &payload, session).await?;
        }
        self.keep(blob, &payload).await;
        Ok(BlobOutcome::Written)
    }

    /// Keeps a configuration that was sent, wherever it is from: the next rebase of its image begins with it.
    async fn keep(&self, blob: &Descriptor, payload: &BlobPayload) {
        if matches!(blob.media_type, MediaType::Config(_)) && self.configs.takes(blob) {
            match payload.bytes().await {
                Ok(bytes) => self.configs.put(blob, &bytes),
                Err(error) => tracing::debug!("{} is not kept: {error}", blob.digest),
            }
        }
    }

    /// Asks for a blob of another repository. Whatever goes wrong, the blob can still be sent.
    async fn mount<'a>(
        &'a self,
        remote: &'a Remote,
        reference: &Reference,
        digest: Digest,
        from: &str,
    ) -> Begun<'a> {
        let mut url = remote.url(reference.repository(), "blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        let request = Request::new(Method::POST, url);
        let scope = Scope::mounting_from(reference.repository(), from);
        match remote.send_once(&request, &scope, self.context()).await {
            Ok(answer) if answer.status() == StatusCode::CREATED => Begun::Done,
            Ok(answer) if answer.status() == StatusCode::ACCEPTED => {
                let scope = Scope::new(reference.repository(), Access::Push);
                Begun::Upload(self.session(remote, scope, &request, &answer).ok())
            }
            Ok(answer) => {
                tracing::debug!("mounting {digest} from `{from}` was answered with {}", answer.status());
                Begun::Upload(None)
            }
            Err(error) => {
                tracing::debug!("mounting {digest} from `{from}` failed: {error}");
                Begun::Upload(None)
            }
        }
    }

    /// Sends a small blob with the request that opens the upload (distribution spec, "Single POST"). Registries that do
    /// not know that open an upload all the same.
    async fn post<'a>(
        &'a self,
        remote: &'a Remote,
        reference: &Reference,
        blob: &Descriptor,
        payload: &BlobPayload,
    ) -> Result<Begun<'a>, RegistryError> {
        let mut url = remote.url(reference.repository(), "blobs/uploads/");
        url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let request = Request::new(Method::POST, url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .payload(Payload::Blob(payload.clone()));
        let scope = Scope::new(reference.repository(), Access::Push);
        let answer = remote.send(&request, &scope, self.context()).await?;
        if answer.status() == StatusCode::CREATED {
            check_stored(remote, &scope, blob.digest, answer.headers())?;
            return Ok(Begun::Done);
        }
        remote.note_wants_uploads();
        tracing::debug!("{} wants uploads in two steps: status {}", remote.registry(), answer.status());
        if answer.status() == StatusCode::ACCEPTED {
            return Ok(Begun::Upload(self.session(remote, scope, &request, &answer).ok()));
        }
        Ok(Begun::Upload(None))
    }

    async fn send_blob<'a>(
        &'a self,
        remote: &'a Remote,
        reference: &Reference,
        blob: &Descriptor,
        payload: &BlobPayload,
        mut session: Option<Session<'a>>,
    ) -> Result<(), RegistryError> {
        let mut attempt = 1;
        loop {
            let mut open = match session.take() {
                Some(session) => session,
                None => self.open_upload(remote, reference).await?,
            };
            let was_split = remote.splits(payload.length);
            let error = match open.send(blob, payload).await {
                Ok(()) => return Ok(()),
                Err(Failed::TooLarge(error)) => {
                    remote.note_wants_chunks();
                    if was_split || !remote.splits(payload.length) {
                        return open.abandon(error).await;
                    }
                    tracing::debug!("{error}; sending in chunks from now on");
                    open.cancel().await;
                    continue;
                }
                Err(Failed::LostChunk(error)) => {
                    tracing::debug!("{error}; sending in one request from now on");
                    remote.note_loses_chunks();
                    open.cancel().await;
                    continue;
                }
                Err(Failed::Other(error)) if is_passing(&error) => error,
                Err(Failed::Other(error)) => return open.abandon(error).await,
            };
            self.transport.wait(reference.registry(), attempt, error, None).await?;
            attempt += 1;
            // The answer may have been lost after the blob had arrived.
            if self.has_blob(reference, blob.digest, Access::Push).await? {
                return Ok(());
            }
            match open.resume(blob, payload).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => tracing::debug!("the upload of {} starts again: {error}", blob.digest),
            }
        }
    }

    /// `POST /blobs/uploads/`.
    pub(super) async fn open_upload<'a>(
        &'a self,
        remote: &'a Remote,
        reference: &Reference,
    ) -> Result<Session<'a>, RegistryError> {
        let request = Request::new(Method::POST, remote.url(reference.repository(), "blobs/uploads/"));
        let scope = Scope::new(reference.repository(), Access::Push);
        let answer = remote.send(&request, &scope, self.context()).await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(status_error(answer, &request).await);
        }
        self.session(remote, scope, &request, &answer)
    }

    pub(super) fn session<'a>(
        &'a self,
        remote: &'a Remote,
        scope: Scope,
        request: &Request,
        answer: &Response,
    ) -> Result<Session<'a>, RegistryError> {
        let location = location(request, answer)?
            .ok_or_else(|| protocol(request, "no Location of the upload".to_owned()))?;
        let least_chunk = number(answer.headers(), "oci-chunk-min-length").unwrap_or(0);
        Ok(Session { core: self, remote, scope, location, least_chunk })
    }
}

/// What came of a request that may do without an upload.
enum Begun<'a> {
    /// The blob is there.
    Done,
    /// It is to be sent; perhaps the registry opened an upload.
    Upload(Option<Session<'a>>),
}

/// Whether the registry stored what it was sent, where it says what that is.
fn check_stored(
    remote: &Remote,
    scope: &Scope,
    digest: Digest,
    headers: &HeaderMap,
) -> Result<(), RegistryError> {
    let stored = headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
    match stored.and_then(|text| text.parse::<Digest>().ok()) {
        Some(stored) if stored != digest => Err(RegistryError::Content {
            registry: remote.registry().to_owned(),
            repository: scope.repository.clone(),
            expected: digest,
            what: format!("it stored {stored}"),
        }),
        _ => Ok(()),
    }
}

/// Failures of an upload after which another attempt makes sense: also a session that the registry lost.
fn is_passing(error: &RegistryError) -> bool {
    match error {
        RegistryError::Status { status, .. } => {
            *status == StatusCode::NOT_FOUND || super::retry::is_transient(*status)
        }
        other => other.is_transient(),
    }
}

impl Session<'_> {
    async fn send(&mut self, blob: &Descriptor, payload: &BlobPayload) -> Result<(), Failed> {
        if self.remote.splits(payload.length) {
            self.send_chunks(payload, 0).await?;
            return self.close(blob.digest, None).await;
        }
        self.close(blob.digest, Some(payload)).await
    }

    /// The closing `PUT`, with the whole blob when nothing was sent before.
    pub(super) async fn close(
        &mut self,
        digest: Digest,
        payload: Option<&BlobPayload>,
    ) -> Result<(), Failed> {
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let mut request = Request::new(Method::PUT, url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Some(payload) = payload {
            request = request.payload(Payload::Blob(payload.clone()));
        }
        let answer = self.remote.send_once(&request, &self.scope, self.core.context()).await?;
        match answer.status() {
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Failed::TooLarge(status_error(answer, &request).await));
            }
            status if !status.is_success() => {
                return Err(Failed::Other(status_error(answer, &request).await));
            }
            _ => {}
        }
        Ok(check_stored(self.remote, &self.scope, digest, answer.headers())?)
    }

    /// Asks how much has arrived, and sends the rest; `false` when the upload has to start again.
    async fn resume(&mut self, blob: &Descriptor, payload: &BlobPayload) -> Result<bool, RegistryError> {
        if !self.remote.portions().chunks_allowed {
            self.cancel().await;
            return Ok(false);
        }
        let request = Request::new(Method::GET, self.location.clone());
        let answer = self.remote.send_once(&request, &self.scope, self.core.context()).await?;
        if answer.status() != StatusCode::NO_CONTENT {
            return Ok(false);
        }
        let Some(arrived) =
            arrived(answer.headers()).filter(|arrived| (1..=payload.length).contains(arrived))
        else {
            self.cancel().await;
            return Ok(false);
        };
        if let Some(location) = location(&request, &answer)? {
            self.location = location;
        }
        tracing::debug!("the upload of {} goes on after {arrived} bytes", blob.digest);
        let sent = match self.send_chunks(payload, arrived).await {
            Ok(()) => self.close(blob.digest, None).await,
            Err(failed) => Err(failed),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(Failed::TooLarge(error) | Failed::LostChunk(error) | Failed::Other(error)) => {
                tracing::debug!("{error}");
                self.cancel().await;
                Ok(false)
            }
        }
    }

    /// `DELETE` of the upload. A registry that does not know it forgets the upload by itself.
    pub(super) async fn cancel(&self) {
        let request = Request::new(Method::DELETE, self.location.clone());
        if let Err(error) = self.remote.send_once(&request, &self.scope, self.core.context()).await {
            tracing::debug!("{error}");
        }
    }

    async fn abandon(&self, error: RegistryError) -> Result<(), RegistryError> {
        self.cancel().await;
        Err(error)
    }

    /// Takes the location of the next request from an answer.
    pub(super) fn follow(&mut self, request: &Request, answer: &Response) -> Result<(), RegistryError> {
        if let Some(location) = location(request, answer)? {
            self.location = location;
        }
        Ok(())
    }
}

/// Where an upload goes on: relative or absolute, with a query that is kept.
fn location(request: &Request, answer: &Response) -> Result<Option<Url>, RegistryError> {
    let Some(value) = answer.headers().get(LOCATION) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    endpoint::resolve_location(answer.url(), text).map(Some).map_err(|reason| RegistryError::Location {
        request: request.name(),
        location: text.split('?').next().unwrap_or_default().to_owned(),
        reason,
    })
}

/// How many bytes have arrived by `Range: 0-LAST`.
pub(super) fn arrived(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get("range")?.to_str().ok()?;
    let range = range.trim().strip_prefix("bytes=").unwrap_or(range.trim());
    let last: u64 = range.strip_prefix("0-")?.parse().ok()?;
    // An empty upload has `0-0`, as one of one byte has: the former is what registries mean.
    Some(if last == 0 { 0 } else { last + 1 })
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// `Content-Range: FIRST-LAST`, both inclusive.
pub(super) fn content_range(request: Request, first: u64, length: u64) -> Request {
    let range = format!("{first}-{}", first + length.saturating_sub(1));
    match HeaderValue::from_str(&range) {
        Ok(value) => request.header(CONTENT_RANGE, value),
        // Digits are a valid header.
        Err(_never) => request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_has_arrived() {
        let table = [("0-0", Some(0)), ("0-9", Some(10)), ("bytes=0-9", Some(10)), ("5-9", None), ("", None)];
        for (text, expected) in table {
            let headers = HeaderMap::from_iter([(reqwest::header::RANGE, text.parse().unwrap())]);
            assert_eq!(arrived(&headers), expected, "{text}");
        }
    }
}
