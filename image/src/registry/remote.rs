//! One registry: how it is reached, what it asks for, and what was learnt about it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;
use reqwest::{Method, Response, StatusCode};
use tokio::sync::OnceCell;
use url::Url;

use super::auth::{Asker, Authenticator};
use super::challenge::Challenge;
use super::endpoint;
use super::error::RegistryError;
use super::profile::Portions;
use super::request::Request;
use super::scope::{Access, Scope};
use super::transport::{Transport, status_message};

/// A registry that answered.
#[derive(Debug)]
pub(super) struct Remote {
    /// As in references: `docker.io`.
    registry: String,
    /// The base of the API: `https://registry-1.docker.io/v2/`.
    url: Url,
    challenge: Mutex<Option<Challenge>>,
    /// What it answered when it was asked what it wants; not asked yet while empty.
    ping: OnceCell<Option<Challenge>>,
    /// Whether it refused a blob in one piece, and wants chunks.
    wants_chunks: AtomicBool,
    /// Whether it took chunks and lost them.
    loses_chunks: AtomicBool,
    /// Whether it did not take a blob that was sent while it was made.
    refuses_streams: AtomicBool,
    /// Whether it opened an upload where a blob was to be mounted.
    refuses_mounts: AtomicBool,
    /// Whether it opened an upload where a blob came with the request that opens one.
    wants_uploads: AtomicBool,
    portions: Portions,
}

impl Remote {
    /// Finds out how the registry is reached. Where a credential is known for it, it will ask for that, and is asked how
    /// with `GET /v2/` (distribution spec, end-1); else the first request finds out whether it does.
    pub(super) async fn connect(
        registry: &str,
        transport: &Transport,
        credential_known: bool,
    ) -> Result<Self, RegistryError> {
        let base = |scheme: &str| {
            Url::parse(&format!("{scheme}://{}/v2/", endpoint::api_host(registry))).map_err(|source| {
                RegistryError::Setup {
                    registry: registry.to_owned(),
                    what: "its name is not a host with an optional port",
                    source: source.into(),
                }
            })
        };
        let plain_allowed = endpoint::may_be_plain(registry) || transport.is_insecure(registry);
        let encrypted = base("https")?;
        if !plain_allowed {
            let remote = Self::new(registry, encrypted);
            return if credential_known { remote.asked(transport).await } else { Ok(remote) };
        }
        // Only an attempt shows whether it knows TLS.
        let ping = Request::new(Method::GET, encrypted.clone());
        let failure = match transport.once(&ping, None).await {
            Ok(answer) => return Ok(Self::answered(registry, encrypted, &answer)),
            Err(error) => error,
        };
        if !endpoint::may_do_without_tls(&encrypted, &failure) {
            return Err(failure);
        }
        tracing::debug!("{failure}; trying without TLS");
        let remote = Self::new(registry, base("http")?);
        if credential_known { remote.asked(transport).await } else { Ok(remote) }
    }

    fn new(registry: &str, url: Url) -> Self {
        Self {
            registry: registry.to_owned(),
            url,
            challenge: Mutex::new(None),
            ping: OnceCell::new(),
            wants_chunks: AtomicBool::new(false),
            loses_chunks: AtomicBool::new(false),
            refuses_mounts: AtomicBool::new(false),
            refuses_streams: AtomicBool::new(false),
            wants_uploads: AtomicBool::new(false),
            portions: Portions::of(registry),
        }
    }

    async fn asked(self, transport: &Transport) -> Result<Self, RegistryError> {
        let ping = Request::new(Method::GET, self.url.clone());
        let answer = transport.patiently(&ping, None, &self.registry).await?;
        Ok(Self::answered(&self.registry, self.url, &answer))
    }

    fn answered(registry: &str, url: Url, answer: &Response) -> Self {
        let challenge = challenge_of(answer);
        let remote = Self::new(registry, url);
        Self { ping: OnceCell::new_with(Some(challenge.clone())), challenge: Mutex::new(challenge), ..remote }
    }

    /// What the registry asks for, where an answer without it may come from not having been shown anything: some hide what
    /// strangers may not see, and some refuse without saying what they want.
    async fn ask(&self, transport: &Transport) -> Option<Challenge> {
        let ask = async || {
            let ping = Request::new(Method::GET, self.url.clone());
            Ok::<_, RegistryError>(challenge_of(&transport.patiently(&ping, None, &self.registry).await?))
        };
        let answer = self.ping.get_or_try_init(ask).await;
        // The answer that led here says more than this failure.
        answer.inspect_err(|error| tracing::debug!("{error}")).ok().cloned().flatten()
    }

    pub(super) fn registry(&self) -> &str {
        &self.registry
    }

    /// `/v2/REPOSITORY/PATH`. Both are made of characters that need no escaping in paths.
    pub(super) fn url(&self, repository: &str, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("/v2/{repository}/{path}"));
        url
    }

    /// Where it lists its repositories.
    pub(super) fn catalog_url(&self) -> Url {
        let mut url = self.url.clone();
        url.set_path("/v2/_catalog");
        url.set_query(Some("n=1000"));
        url
    }

    /// In what portions it takes blobs, by what is known and what was learnt.
    pub(super) fn portions(&self) -> Portions {
        let chunks_allowed = self.portions.chunks_allowed && !self.loses_chunks.load(Ordering::Relaxed);
        Portions { chunks_allowed, ..self.portions }
    }

    /// Whether a blob is sent in chunks.
    pub(super) fn splits(&self, length: u64) -> bool {
        self.portions().splits(length, self.wants_chunks.load(Ordering::Relaxed))
    }

    pub(super) fn note_wants_chunks(&self) {
        self.wants_chunks.store(true, Ordering::Relaxed);
    }

    pub(super) fn note_loses_chunks(&self) {
        self.loses_chunks.store(true, Ordering::Relaxed);
    }

    /// Whether a blob may be sent while it is made.
    pub(super) fn streams(&self) -> bool {
        let portions = self.portions();
        let refuses =
            self.refuses_streams.load(Ordering::Relaxed) || self.wants_chunks.load(Ordering::Relaxed);
        portions.streams && portions.chunks_allowed && !refuses
    }

    pub(super) fn note_refuses_streams(&self) {
        self.refuses_streams.store(true, Ordering::Relaxed);
    }

    /// Whether mounting is tried before the registry is asked for the blob.
    pub(super) fn mounts(&self) -> bool {
        !self.refuses_mounts.load(Ordering::Relaxed)
    }

    pub(super) fn note_refuses_mounts(&self) {
        self.refuses_mounts.store(true, Ordering::Relaxed);
    }

    /// Whether a blob may come with the request that opens an upload.
    pub(super) fn takes_single_posts(&self) -> bool {
        !self.wants_uploads.load(Ordering::Relaxed)
    }

    pub(super) fn note_wants_uploads(&self) {
        self.wants_uploads.store(true, Ordering::Relaxed);
    }

    fn challenge(&self) -> Option<Challenge> {
        self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a request, with patience and with what it takes to be allowed to.
    pub(super) async fn send(
        &self,
        request: &Request,
        scope: &Scope,
        context: Context<'_>,
    ) -> Result<Response, RegistryError> {
        self.authorized(request, scope, context, true).await
    }

    /// As [`Remote::send`], but a failure that may pass is the caller's to handle: what is sent has an effect.
    pub(super) async fn send_once(
        &self,
        request: &Request,
        scope: &Scope,
        context: Context<'_>,
    ) -> Result<Response, RegistryError> {
        self.authorized(request, scope, context, false).await
    }

    async fn authorized(
        &self,
        request: &Request,
        scope: &Scope,
        context: Context<'_>,
        patient: bool,
    ) -> Result<Response, RegistryError> {
        // An upload location on another host is signed by itself.
        let ours = endpoint::same_origin(&self.url, &request.url);
        let mut refused: Option<HeaderValue> = None;
        let mut challenge = self.challenge().filter(|_| ours);
        for renewal in 0.. {
            let authorization = self.header(challenge.as_ref(), scope, refused.as_ref(), context).await?;
            let answer = if patient {
                context.transport.patiently(request, authorization.as_ref(), &self.registry).await?
            } else {
                context.transport.once(request, authorization.as_ref()).await?
            };
            let status = answer.status();
            let is_ours = ours && endpoint::same_origin(&self.url, answer.url());
            let asked_anew = match status {
                StatusCode::UNAUTHORIZED if is_ours => Challenge::from_headers(answer.headers()),
                StatusCode::FORBIDDEN | StatusCode::NOT_FOUND if is_ours && challenge.is_none() => {
                    self.ask(context.transport).await
                }
                _ => None,
            };
            match asked_anew {
                // First none, then one that ran out, then one that does not suffice.
                Some(asked) if renewal < 2 && (authorization.is_some() || challenge.is_none()) => {
                    *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(asked.for_all_repositories());
                    challenge = Some(asked);
                    refused = authorization;
                }
                _ if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    return Err(RegistryError::Denied {
                        registry: self.registry.clone(),
                        repository: scope.repository.clone(),
                        action: scope.access.verb(),
                        message: status_message(answer, request).await,
                    });
                }
                _ => {
                    if challenge.is_none() && scope.access == Access::Push && status.is_success() {
                        // Who may write without a token is not shown less for want of one.
                        let _asked_already = self.ping.set(None);
                    }
                    return Ok(answer);
                }
            }
        }
        Err(RegistryError::Protocol {
            request: request.name(),
            what: "it asks for credentials without end".to_owned(),
        })
    }

    async fn header(
        &self,
        challenge: Option<&Challenge>,
        scope: &Scope,
        refused: Option<&HeaderValue>,
        context: Context<'_>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let Some(challenge) = challenge else { return Ok(None) };
        let asker = Asker { registry: &self.registry, url: &self.url, transport: context.transport };
        context.authenticator.authorization(asker, challenge, scope, refused).await
    }
}

fn challenge_of(answer: &Response) -> Option<Challenge> {
    let asks = answer.status() == StatusCode::UNAUTHORIZED;
    asks.then(|| Challenge::from_headers(answer.headers())).flatten()
}

/// What all requests share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) transport: &'a Transport,
    pub(super) authenticator: &'a Authenticator,
}
