//! Lists in pages: the tags of a repository (distribution spec, "Listing Tags"), the repositories of a registry
//! (`_catalog` of Docker's registry API, which is in no later spec).

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::error::RegistryError;
use super::manifests::text;
use super::remote::Remote;
use super::request::Request;
use super::scope::{Access, Scope};
use super::transport::{read_limited, status_error};
use super::{Core, protocol};
use crate::Reference;

/// The largest page, in bytes.
const PAGE_LIMIT: usize = 16 << 20;

#[derive(Deserialize)]
struct Page {
    // Go writes an empty list as null.
    #[serde(alias = "repositories")]
    tags: Option<Vec<String>>,
}

impl Core {
    /// All tags of a repository, in the registry's order; none when there is no such repository.
    pub(super) async fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        let remote = self.remote(reference).await?;
        let scope = Scope::new(reference.repository(), Access::Pull);
        let url = remote.url(reference.repository(), "tags/list");
        match self.pages(&remote, &scope, url).await {
            Err(RegistryError::Status { status: StatusCode::NOT_FOUND, .. }) => Ok(Vec::new()),
            other => other,
        }
    }

    /// All repositories of a registry, in its order.
    pub(super) async fn repositories(&self, registry: &str) -> Result<Vec<String>, RegistryError> {
        let remote = self.remote_of(registry).await?;
        self.pages(&remote, &Scope::catalog(), remote.catalog_url()).await
    }

    async fn pages(
        &self,
        remote: &Remote,
        scope: &Scope,
        mut url: Url,
    ) -> Result<Vec<String>, RegistryError> {
        let mut all = Vec::new();
        loop {
            let request = Request::new(Method::GET, url.clone());
            let answer = remote.send(&request, scope, self.context()).await?;
            if answer.status() != StatusCode::OK {
                return Err(status_error(answer, &request).await);
            }
            let next = next_page(answer.headers(), &url);
            let body = read_limited(answer, &request, &self.transport.timeouts, PAGE_LIMIT).await?;
            let page: Page = serde_json::from_slice(&body)
                .map_err(|error| protocol(&request, format!("no list of names ({error})")))?;
            let page = page.tags.unwrap_or_default();
            let is_empty = page.is_empty();
            all.extend(page);
            match next {
                Some(next) if !is_empty && next != url => url = next,
                _ => return Ok(all),
            }
        }
    }
}

/// The next page by `Link: <URL>; rel="next"` (RFC 8288), on the same registry alone.
pub(super) fn next_page(headers: &HeaderMap, asked: &Url) -> Option<Url> {
    let link = text(headers, "link")?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let url = super::endpoint::resolve_location(asked, target).ok()?;
    (parameters.contains("next") && super::endpoint::same_origin(asked, &url)).then_some(url)
}
