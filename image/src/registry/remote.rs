//! One registry: how it is reached, what it asks for, and what was learnt about it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::auth::{Asker, Authenticator};
use super::challenge::Challenge;
use super::endpoint;
use super::error::RegistryError;
use super::profile::Portions;
use super::request::Request;
use super::scope::Scope;
use super::transport::{Transport, status_message};

/// A registry that answered.
#[derive(Debug)]
pub(super) struct Remote {
    /// As in references: `docker.io`.
    registry: String,
    /// The base of the API: `https://registry-1.docker.io/v2/`.
    url: Url,
    challenge: Mutex<Option<Challenge>>,
    /// Whether it refused a blob in one piece, and wants chunks.
    wants_chunks: AtomicBool,
    /// Whether it took chunks and lost them.
    loses_chunks: AtomicBool,
    portions: Portions,
}

impl Remote {
    /// Finds out how the registry is reached and what it asks for, with `GET /v2/` (distribution spec, end-1).
    pub(super) async fn connect(registry: &str, transport: &Transport) -> Result<Self, RegistryError> {
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
        let ping = Request::new(Method::GET, encrypted.clone());
        if !plain_allowed {
            let answer = transport.patiently(&ping, None, registry).await?;
            return Ok(Self::answered(registry, encrypted, &answer));
        }
        let failure = match transport.once(&ping, None).await {
            Ok(answer) => return Ok(Self::answered(registry, encrypted, &answer)),
            Err(error) => error,
        };
        if !endpoint::may_do_without_tls(&encrypted, &failure) {
            return Err(failure);
        }
        tracing::debug!("{failure}; trying without TLS");
        let plain = base("http")?;
        let ping = Request::new(Method::GET, plain.clone());
        let answer = transport.patiently(&ping, None, registry).await?;
        Ok(Self::answered(registry, plain, &answer))
    }

    fn answered(registry: &str, url: Url, answer: &Response) -> Self {
        let asks = answer.status() == StatusCode::UNAUTHORIZED;
        let challenge = asks.then(|| Challenge::from_headers(answer.headers())).flatten();
        Self {
            registry: registry.to_owned(),
            url,
            challenge: Mutex::new(challenge),
            wants_chunks: AtomicBool::new(false),
            loses_chunks: AtomicBool::new(false),
            portions: Portions::of(registry),
        }
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
            let asked_anew = (status == StatusCode::UNAUTHORIZED
                && ours
                && endpoint::same_origin(&self.url, answer.url()))
            .then(|| Challenge::from_headers(answer.headers()))
            .flatten();
            match asked_anew {
                // First none, then one that ran out, then one that does not suffice.
                Some(asked) if renewal < 2 && (authorization.is_some() || challenge.is_none()) => {
                    *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked.clone());
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
                _ => return Ok(answer),
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

/// What all requests share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) transport: &'a Transport,
    pub(super) authenticator: &'a Authenticator,
}
