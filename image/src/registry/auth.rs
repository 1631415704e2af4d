//! Who asks: the `Authorization` of each request (distribution "Token Authentication Specification").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use super::challenge::{BearerChallenge, Challenge};
use super::endpoint;
use super::error::RegistryError;
use super::request::{Payload, Request};
use super::scope::Scope;
use super::transport::{Transport, read_limited, status_message};
use crate::keychain::{Credential, Keychain, Secret};

/// What a token endpoint means when it says nothing of the time.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token with less time left is renewed before a request, which may take that long.
const RENEWAL: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Token {
    header: HeaderValue,
    renew_at: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// Access tokens by registry and scope, each asked for once at a time.
#[derive(Debug)]
pub(super) struct Authenticator {
    keychain: Keychain,
    tokens: Mutex<HashMap<(String, Scope), Slot>>,
}

/// The side that asks for credentials.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) registry: &'a str,
    pub(super) url: &'a Url,
    pub(super) transport: &'a Transport,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

impl Authenticator {
    pub(super) fn new(keychain: Keychain) -> Self {
        Self { keychain, tokens: Mutex::default() }
    }

    /// Whether a credential may be known for the registry; no helper is asked yet.
    pub(super) fn may_know(&self, registry: &str) -> bool {
        self.keychain.may_know(registry)
    }

    /// The header that answers a challenge; `refused` is one that the registry did not take.
    pub(super) async fn authorization(
        &self,
        asker: Asker<'_>,
        challenge: &Challenge,
        scope: &Scope,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let credential = self.credential(asker.registry, &scope.repository)?;
        let header = match (challenge, credential) {
            (_, Credential::BearerToken(token)) => Some(secret_header("Bearer ", token.expose(), asker)?),
            (Challenge::Basic, Credential::Password { username, password }) => {
                Some(basic(&username, &password, asker)?)
            }
            (Challenge::Basic, Credential::IdentityToken(_) | Credential::Anonymous) => None,
            (Challenge::Bearer(challenge), credential) => {
                return self.token(asker, challenge, scope, &credential, refused).await.map(Some);
            }
        };
        Ok(header.filter(|header| Some(header) != refused))
    }

    fn credential(&self, registry: &str, repository: &str) -> Result<Credential, RegistryError> {
        // A helper is a program, and may ask a person: the runtime must not wait for it on this thread alone.
        let look_up = || self.keychain.credential(registry, repository);
        Ok(tokio::task::block_in_place(look_up)?)
    }

    async fn token(
        &self,
        asker: Asker<'_>,
        challenge: &BearerChallenge,
        scope: &Scope,
        credential: &Credential,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, RegistryError> {
        let slot = {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(tokens.entry((asker.registry.to_owned(), scope.clone())).or_default())
        };
        let mut token = slot.lock().await;
        if let Some(token) = token.as_ref()
            && token.renew_at > Instant::now()
            && Some(&token.header) != refused
        {
            return Ok(token.header.clone());
        }
        let fresh = fetch(asker, challenge, scope, credential).await?;
        let header = fresh.header.clone();
        *token = Some(fresh);
        Ok(header)
    }
}

async fn fetch(
    asker: Asker<'_>,
    challenge: &BearerChallenge,
    scope: &Scope,
    credential: &Credential,
) -> Result<Token, RegistryError> {
    let realm =
        endpoint::check_realm(&challenge.realm, asker.url).map_err(|reason| RegistryError::Realm {
            registry: asker.registry.to_owned(),
            realm: challenge.realm.chars().take(200).collect(),
            reason,
        })?;
    let (request, authorization) = token_request(&realm, asker, challenge, scope, credential)?;
    let asked = Instant::now();
    let answer = asker.transport.patiently(&request, authorization.as_ref(), asker.registry).await?;
    let answer = accepted(answer, &request, asker, scope).await?;
    let unusable = || RegistryError::Token {
        registry: asker.registry.to_owned(),
        realm: endpoint::without_query(&realm),
    };
    let body = read_limited(answer, &request, &asker.transport.timeouts, 1 << 20).await?;
    let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_may_hold_the_token| unusable())?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() {
        return Err(unusable());
    }
    let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
    Ok(Token {
        header: secret_header("Bearer ", &token, asker)?,
        // Tokens that live for a minute would never be used if all of it were held back.
        renew_at: asked + lifetime - RENEWAL.min(lifetime / 4),
    })
}

/// A GET with the password, or a POST with the refresh token (distribution "OAuth2 Token Authentication").
fn token_request(
    realm: &Url,
    asker: Asker<'_>,
    challenge: &BearerChallenge,
    scope: &Scope,
    credential: &Credential,
) -> Result<(Request, Option<HeaderValue>), RegistryError> {
    let scopes = scope.parameters(&challenge.scopes);
    if let Credential::IdentityToken(token) = credential {
        let mut form = vec![
            ("grant_type", "refresh_token".to_owned()),
            ("client_id", "longshore".to_owned()),
            ("scope", scopes.into_iter().collect::<Vec<_>>().join(" ")),
            ("refresh_token", token.expose().to_owned()),
        ];
        form.extend(challenge.service.iter().map(|service| ("service", service.clone())));
        let request = Request::new(Method::POST, realm.clone()).payload(Payload::Form(form));
        return Ok((request, None));
    }
    let mut url = realm.clone();
    if let Some(service) = &challenge.service {
        url.query_pairs_mut().append_pair("service", service);
    }
    for scope in scopes {
        url.query_pairs_mut().append_pair("scope", &scope);
    }
    let authorization = match credential {
        Credential::Password { username, password } => Some(basic(username, password, asker)?),
        _ => None,
    };
    Ok((Request::new(Method::GET, url), authorization))
}

async fn accepted(
    answer: Response,
    request: &Request,
    asker: Asker<'_>,
    scope: &Scope,
) -> Result<Response, RegistryError> {
    match answer.status() {
        status if status.is_success() => Ok(answer),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(RegistryError::Denied {
            registry: asker.registry.to_owned(),
            repository: scope.repository.clone(),
            action: scope.access.verb(),
            message: status_message(answer, request).await,
        }),
        status => {
            let message = status_message(answer, request).await;
            Err(RegistryError::Status { request: request.name(), status, message })
        }
    }
}

fn basic(username: &str, password: &Secret, asker: Asker<'_>) -> Result<HeaderValue, RegistryError> {
    let encoded = STANDARD.encode(format!("{username}:{}", password.expose()));
    secret_header("Basic ", &encoded, asker)
}

fn secret_header(scheme: &str, value: &str, asker: Asker<'_>) -> Result<HeaderValue, RegistryError> {
    let mut header = HeaderValue::from_str(&format!("{scheme}{value}")).map_err(|_would_show_it| {
        RegistryError::Token { registry: asker.registry.to_owned(), realm: asker.url.to_string() }
    })?;
    header.set_sensitive(true);
    Ok(header)
}
