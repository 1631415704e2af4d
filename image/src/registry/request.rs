//! One request: built anew for each attempt, and watched so that it cannot hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response};
use url::Url;

use super::endpoint;
use super::error::RegistryError;
use super::failure::Failure;
use super::payload::BlobPayload;
use super::stream::Tail;

/// How long is waited for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, its TLS handshake included.
    pub connect: Duration,
    /// For the answer to a request whose body has been sent.
    pub answer: Duration,
    /// Over which the bytes per second of a transfer are counted.
    pub stall: Duration,
    /// The bytes per second below which a transfer has stalled.
    pub stall_rate: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            // Registries on object storage copy large blobs before they answer.
            answer: Duration::from_secs(300),
            stall: Duration::from_secs(30),
            stall_rate: 1024,
        }
    }
}

impl Timeouts {
    /// The bytes that a transfer moves at least per stall period.
    pub(super) fn stall_bytes(&self) -> u64 {
        (self.stall.as_secs_f64() * self.stall_rate as f64) as u64
    }

    pub(super) fn stalled(&self, request: &str) -> RegistryError {
        RegistryError::Stalled { request: request.to_owned(), period: self.stall, rate: self.stall_rate }
    }
}

/// What is sent with a request.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    None,
    Bytes(Bytes),
    Form(Vec<(&'static str, String)>),
    Blob(BlobPayload),
    Growing(Tail),
}

/// A request that can be made several times.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
}

impl Request {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), payload: Payload::None }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.insert(name, value.into());
        self
    }

    pub(super) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// Method and URL, for people.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, endpoint::without_query(&self.url))
    }

    /// Makes the request once; the answer may have any status.
    pub(super) async fn attempt(
        &self,
        client: &Client,
        authorization: Option<&HeaderValue>,
        timeouts: &Timeouts,
    ) -> Result<Response, RegistryError> {
        let mut builder = client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        if let Some(value) = authorization {
            builder = builder.header(AUTHORIZATION, value.clone());
        }
        let sent = Arc::new(AtomicU64::new(0));
        let mut expected = 0;
        let alive = Arc::new(());
        builder = match &self.payload {
            // Some registries want a length even of nothing.
            Payload::None if matches!(self.method, Method::GET | Method::HEAD) => builder,
            Payload::None => builder.header(CONTENT_LENGTH, 0),
            Payload::Bytes(bytes) => builder.body(bytes.clone()),
            Payload::Form(fields) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                form.extend_pairs(fields);
                builder
                    .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.finish())
            }
            Payload::Blob(blob) => {
                expected = blob.length;
                let stream = blob.stream(Arc::clone(&sent))?;
                builder.header(CONTENT_LENGTH, blob.length).body(reqwest::Body::wrap_stream(stream))
            }
            Payload::Growing(tail) => {
                builder.body(reqwest::Body::wrap_stream(tail.stream(Arc::downgrade(&alive))))
            }
        };
        let watch = self.watch(&sent, expected, timeouts);
        tokio::select! {
            // A transfer that ends in the moment it is given up has ended.
            biased;
            answer = builder.send() => answer.map_err(|source| self.unanswered(source)),
            error = watch => Err(error),
        }
    }

    /// Ends with an error when the request stalls.
    async fn watch(&self, sent: &AtomicU64, expected: u64, timeouts: &Timeouts) -> RegistryError {
        if let Payload::Growing(tail) = &self.payload {
            let period = tail.stalls(timeouts).await;
            return RegistryError::Stalled { request: self.name(), period, rate: timeouts.stall_rate };
        }
        let mut before = 0;
        while before < expected {
            tokio::time::sleep(timeouts.stall).await;
            let now = sent.load(Ordering::Relaxed);
            if now < expected && now - before < timeouts.stall_bytes() {
                return timeouts.stalled(&self.name());
            }
            before = now;
        }
        tokio::time::sleep(timeouts.answer).await;
        RegistryError::Stalled { request: self.name(), period: timeouts.answer, rate: 1 }
    }

    pub(super) fn unanswered(&self, source: reqwest::Error) -> RegistryError {
        let reason = Failure::of(&source).reason();
        RegistryError::Unanswered { request: self.name(), reason, source: source.without_url() }
    }
}
