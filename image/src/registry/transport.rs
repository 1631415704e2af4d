//! Requests made with patience: again after failures that may pass, and through redirects.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;

use super::clients::{Clients, Trust};
use super::endpoint;
use super::error::RegistryError;
use super::pace::Pace;
use super::request::{Request, Timeouts};
use super::retry::{self, Next, RetryPolicy};

/// As many as browsers follow.
const MOST_REDIRECTS: usize = 10;
/// The part of an error's body that is read and shown.
const MESSAGE_LIMIT: usize = 64 << 10;

/// Whether the name of an insecure registry means that one: with its port, or without any for all of them. Platforms may
/// also name a repository in it.
fn names_registry(insecure: &str, registry: &str) -> bool {
    let insecure = insecure.split_once('/').map_or(insecure, |(host, _)| host);
    insecure == registry || registry.rsplit_once(':').is_some_and(|(host, _)| host == insecure)
}

/// How requests travel.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) clients: Clients,
    pub(super) timeouts: Timeouts,
    pub(super) retry: RetryPolicy,
    /// Registries whose certificates are not verified, as `HOST[:PORT]`.
    pub(super) insecure: Vec<String>,
}

impl Transport {
    pub(super) fn is_insecure(&self, registry: &str) -> bool {
        self.insecure.iter().any(|insecure| names_registry(insecure, registry))
    }

    fn trust(&self, url: &url::Url) -> Trust {
        let host = url.host_str().unwrap_or_default();
        let with_port = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if self.is_insecure(&with_port) { Trust::Unverified } else { Trust::Verified }
    }

    /// Makes a request once, through redirects. Credentials go to the first origin alone.
    pub(super) async fn once(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut request = request.clone();
        let first = request.url.clone();
        let mut authorization = authorization;
        for _ in 0..=MOST_REDIRECTS {
            let client = self.clients.for_url(&request.url, self.trust(&request.url))?;
            let answer = request.attempt(&client, authorization, &self.timeouts).await?;
            if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
                return Err(RegistryError::Proxy { request: request.name() });
            }
            let Some(location) = redirect(&request.method, &answer) else { return Ok(answer) };
            let refused = |reason| RegistryError::Location {
                request: request.name(),
                location: location.split('?').next().unwrap_or_default().to_owned(),
                reason,
            };
            let next = endpoint::resolve_location(&request.url, &location).map_err(refused)?;
            if !endpoint::same_origin(&first, &next) {
                authorization = None;
            }
            request.url = next;
        }
        Err(RegistryError::Protocol { request: request.name(), what: "it redirects without end".to_owned() })
    }

    /// Makes a request until it is answered, for as long as the policy allows. The answer may have any status that
    /// does not pass by waiting.
    pub(super) async fn patiently(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
        registry: &str,
    ) -> Result<Response, RegistryError> {
        let mut attempt = 1;
        loop {
            let outcome = self.once(request, authorization).await;
            let (error, retry_after) = match outcome {
                Ok(answer) if retry::is_transient(answer.status()) => {
                    let wait = retry::retry_after(answer.headers(), Timestamp::now());
                    (status_error(answer, request).await, wait)
                }
                Err(error) if error.is_transient() => (error, None),
                other => return other,
            };
            self.wait(registry, attempt, error, retry_after).await?;
            attempt += 1;
        }
    }

    /// Waits before the next attempt, or gives up with `error`.
    pub(super) async fn wait(
        &self,
        registry: &str,
        attempt: u32,
        error: RegistryError,
        retry_after: Option<Duration>,
    ) -> Result<(), RegistryError> {
        let policy = match error {
            // Somebody waits for this answer, and a registry that is not there seldom appears.
            RegistryError::Unanswered { ref source, .. } if source.is_connect() => {
                RetryPolicy { attempts: self.retry.attempts.min(3), ..self.retry }
            }
            _ => self.retry,
        };
        match policy.next(attempt, retry_after, retry::random()) {
            Next::Wait(time) => {
                tracing::debug!("{error}; attempt {} in {} ms", attempt + 1, time.as_millis());
                tokio::time::sleep(time).await;
                Ok(())
            }
            Next::GiveUp => Err(error),
            Next::TooLong(wait) => Err(RegistryError::Busy { registry: registry.to_owned(), wait }),
        }
    }
}

fn redirect(method: &Method, answer: &Response) -> Option<String> {
    let follow = match answer.status() {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
            matches!(*method, Method::GET | Method::HEAD)
        }
        _ => false,
    };
    let location = answer.headers().get(LOCATION).filter(|_| follow)?;
    location.to_str().ok().map(str::to_owned)
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
    // Token endpoints speak another dialect.
    #[serde(default)]
    details: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The registry's own words (distribution spec, "Error Codes"), led by `: `; empty when there are none.
pub(super) async fn status_message(answer: Response, request: &Request) -> String {
    // The status is the error; a body that cannot be read only leaves it without words.
    let timeouts = Timeouts::default();
    let body = read_limited(answer, request, &timeouts, MESSAGE_LIMIT).await.unwrap_or_default();
    words(&body).map_or_else(String::new, |words| format!(": {words}"))
}

fn words(body: &[u8]) -> Option<String> {
    let clean = |text: &str| -> String {
        text.chars().filter(|c| !c.is_control()).take(500).collect::<String>().trim().to_owned()
    };
    let text = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) if !body.errors.is_empty() => {
            let entries = body.errors.iter().take(3).map(|entry| match entry.code.as_str() {
                "" => entry.message.clone(),
                code if entry.message.is_empty() => code.to_owned(),
                code => format!("{} ({code})", entry.message),
            });
            entries.collect::<Vec<_>>().join(", ")
        }
        Ok(body) => format!("{}{}", body.details, body.message),
        Err(_not_json) => {
            let text = String::from_utf8_lossy(body);
            if text.trim_start().starts_with('<') { String::new() } else { text.into_owned() }
        }
    };
    Some(clean(&text)).filter(|text| !text.is_empty())
}

/// The error for a status that is none of success.
pub(super) async fn status_error(answer: Response, request: &Request) -> RegistryError {
    let status = answer.status();
    RegistryError::Status { request: request.name(), status, message: status_message(answer, request).await }
}

/// A body of at most `limit` bytes.
pub(super) async fn read_limited(
    mut answer: Response,
    request: &Request,
    timeouts: &Timeouts,
    limit: usize,
) -> Result<Bytes, RegistryError> {
    let mut body = bytes::BytesMut::new();
    let mut pace = Pace::new(*timeouts);
    while let Some(chunk) = pace.next_chunk(&mut answer, request).await? {
        if body.len() + chunk.len() > limit {
            let what = format!("more than {limit} bytes");
            return Err(RegistryError::Protocol { request: request.name(), what });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::{names_registry, words};

    #[test]
    fn the_words_of_registries() {
        let table = [
            (r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such"}]}"#, Some("no such (NAME_UNKNOWN)")),
            (r#"{"errors":[{"code":"A"},{"message":"b"}]}"#, Some("A, b")),
            (r#"{"details":"incorrect username or password"}"#, Some("incorrect username or password")),
            ("slow down\n", Some("slow down")),
            ("<html>gateway</html>", None),
            ("{}", None),
            ("", None),
        ];
        for (body, expected) in table {
            assert_eq!(words(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn insecure_registries_by_host_and_port() {
        for (insecure, registry, expected) in [
            ("r.io:5000", "r.io:5000", true),
            ("r.io:5000/team", "r.io:5000", true),
            ("r.io", "r.io:5000", true),
            ("r.io", "r.io", true),
            ("r.io:5000", "r.io:5001", false),
            ("r.io:5000", "r.io", false),
            ("r.io", "r.io.evil.org", false),
            ("", "r.io:5000", false),
            ("[::1]", "[::1]:5000", true),
        ] {
            assert_eq!(names_registry(insecure, registry), expected, "{insecure} {registry}");
        }
    }
}
