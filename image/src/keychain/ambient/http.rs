//! The few requests that credentials take.

use std::time::Duration;

use reqwest::{Client, Method};
use url::Url;

use super::Failure;
use crate::registry::Names;

/// How long an endpoint may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the metadata service of a machine may take, which is near or not there at all.
pub(super) const NEAR: Duration = Duration::from_secs(1);
/// The largest answer, in bytes.
const LIMIT: usize = 1 << 20;

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
    pub(super) patience: Duration,
}

impl Request {
    pub(super) fn new(method: Method, url: &str) -> Result<Self, Failure> {
        let url = Url::parse(url).map_err(|error| Failure(format!("`{url}` is not a URL ({error})")))?;
        Ok(Self { method, url, headers: Vec::new(), body: String::new(), patience: PATIENCE })
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn form(self, fields: &[(&str, &str)]) -> Self {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Self { body, ..self }.header("content-type", "application/x-www-form-urlencoded")
    }

    pub(super) fn near(self) -> Self {
        Self { patience: NEAR, ..self }
    }

    /// Host and path: a query may hold what identifies us.
    pub(super) fn place(&self) -> String {
        format!("{}{}", self.url.host_str().unwrap_or_default(), self.url.path())
    }
}

/// Whoever makes requests.
pub(super) trait Http: Send + Sync {
    /// The body of an answer with status 200. What else comes is not shown, as it may hold what was sent.
    fn send(&self, request: &Request) -> Result<String, Failure>;
}

/// The network.
pub(super) struct Network;

impl Http for Network {
    fn send(&self, request: &Request) -> Result<String, Failure> {
        // The caller may be in a runtime, which must not wait for itself.
        let made = std::thread::scope(|scope| scope.spawn(|| send(request)).join());
        made.unwrap_or_else(|_panicked| Err(Failure(format!("asking {} failed", request.place()))))
    }
}

fn send(request: &Request) -> Result<String, Failure> {
    let failed = |what: &dyn std::fmt::Display| Failure(format!("asking {} failed: {what}", request.place()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    // The process may have chosen a provider before: then that one is used.
    let _already_chosen = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .timeout(request.patience)
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .dns_resolver(Names::default());
    if request.url.scheme() == "http" {
        // Metadata services, which no proxy can reach.
        builder = builder.no_proxy().tls_certs_only([]);
    }
    let client = builder.build().map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let mut sent = client.request(request.method.clone(), request.url.clone());
        for (name, value) in &request.headers {
            sent = sent.header(*name, value);
        }
        let sent = sent.body(request.body.clone()).send().await;
        let mut answer = sent.map_err(|error| failed(&error.without_url()))?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(failed(&format!("status {}", answer.status().as_u16())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error.without_url()))? {
            body.extend_from_slice(&chunk);
            if body.len() > LIMIT {
                return Err(failed(&"the answer is too long"));
            }
        }
        String::from_utf8(body).map_err(|_may_be_secret| failed(&"the answer is no text"))
    })
}

/// A field of an answer in JSON.
pub(super) fn field(answer: &str, name: &str, request: &str) -> Result<String, Failure> {
    let value: serde_json::Value = serde_json::from_str(answer).unwrap_or_default();
    let text = value.get(name).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| Failure(format!("the answer of {request} has no `{name}`")))
}
