//! Manifests, tags and indexes (distribution spec, "Pulling manifests", "Pushing Manifests").

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};

use super::error::RegistryError;
use super::remote::Remote;
use super::request::{Payload, Request};
use super::scope::{Access, Scope};
use super::transport::{read_limited, status_error};
use super::{Core, acceptable};
use crate::{Descriptor, Digest, MANIFEST_LIMIT, Manifest, MediaType, Reference};

const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";
const OCI_SUBJECT: &str = "oci-subject";

/// How many manifests are known at most.
const MOST_KNOWN: usize = 1000;

/// Manifests that this process read or wrote, by repository and digest.
#[derive(Debug, Default)]
pub(super) struct KnownManifests(Mutex<HashMap<(String, Digest), Manifest>>);

impl KnownManifests {
    fn get(&self, reference: &Reference, digest: Digest) -> Option<Manifest> {
        self.map().get(&(reference.name(), digest)).cloned()
    }

    fn put(&self, reference: &Reference, manifest: &Manifest) {
        let mut map = self.map();
        if map.len() >= MOST_KNOWN {
            map.clear();
        }
        map.insert((reference.name(), manifest.digest()), manifest.clone());
    }

    fn forget(&self) {
        self.map().clear();
    }

    fn map(&self) -> MutexGuard<'_, HashMap<(String, Digest), Manifest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// The manifest or index of that name, from a mirror or the registry itself; `None` when there is none.
    pub(super) async fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, RegistryError> {
        self.ask_places(reference, async |place| self.manifest_at(&place).await).await
    }

    /// The manifest or index of that name in that very registry; `None` when there is none.
    pub(super) async fn manifest_at(&self, reference: &Reference) -> Result<Option<Manifest>, RegistryError> {
        // A digest means one manifest for ever; the registry gave this one just now.
        if let Some(known) = reference.digest().and_then(|digest| self.manifests.get(reference, digest)) {
            return Ok(Some(known));
        }
        let found = self.tagged_manifest(reference).await?.map(|(manifest, _)| manifest);
        if let Some(manifest) = &found {
            self.manifests.put(reference, manifest);
        }
        Ok(found)
    }

    /// As [`Core::manifest_at`], with the `ETag` that names the state of the tag.
    pub(super) async fn tagged_manifest(
        &self,
        reference: &Reference,
    ) -> Result<Option<(Manifest, Option<HeaderValue>)>, RegistryError> {
        let remote = self.remote(reference).await?;
        let request = manifest_request(&remote, Method::GET, reference);
        let scope = Scope::new(reference.repository(), Access::Pull);
        let answer = remote.send(&request, &scope, self.context()).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::OK => {}
            _ => return Err(status_error(answer, &request).await),
        }
        let declared = text(answer.headers(), CONTENT_TYPE.as_str()).map(MediaType::from);
        let announced = content_digest(answer.headers());
        let tag = answer.headers().get(ETAG).cloned();
        let raw = read_limited(answer, &request, &self.transport.timeouts, MANIFEST_LIMIT).await?;
        let found = Digest::of(&raw);
        for expected in reference.digest().into_iter().chain(announced) {
            if expected != found {
                let reference = reference.familiar();
                return Err(RegistryError::ManifestDigest { reference, expected, found });
            }
        }
        Manifest::parse(raw, declared.as_ref())
            .map(|manifest| Some((manifest, tag)))
            .map_err(|source| RegistryError::Manifest { reference: reference.familiar(), source })
    }

    /// Type, digest and size of a manifest, without its bytes where the registry says them in headers.
    pub(super) async fn manifest_descriptor(
        &self,
        reference: &Reference,
    ) -> Result<Option<Descriptor>, RegistryError> {
        self.ask_places(reference, async |place| self.manifest_descriptor_at(&place).await).await
    }

    /// The digest of what the name points to in that very registry, without its bytes where a header says it: a mirror may
    /// be behind. Whatever else the registry answers, the manifest itself decides, and its failure has words.
    pub(super) async fn digest_at(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        let announced = match self.ask_for_headers(reference).await {
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => return Ok(None),
            Ok(answer) if answer.status() == StatusCode::OK => content_digest(answer.headers()),
            Ok(_) | Err(RegistryError::Denied { .. }) => None,
            Err(error) => return Err(error),
        };
        match announced {
            Some(digest) => Ok(Some(digest)),
            None => Ok(self.manifest_at(reference).await?.map(|manifest| manifest.digest())),
        }
    }

    async fn ask_for_headers(&self, reference: &Reference) -> Result<Response, RegistryError> {
        let remote = self.remote(reference).await?;
        let request = manifest_request(&remote, Method::HEAD, reference);
        let scope = Scope::new(reference.repository(), Access::Pull);
        remote.send(&request, &scope, self.context()).await
    }

    async fn manifest_descriptor_at(
        &self,
        reference: &Reference,
    ) -> Result<Option<Descriptor>, RegistryError> {
        let remote = self.remote(reference).await?;
        let request = manifest_request(&remote, Method::HEAD, reference);
        let scope = Scope::new(reference.repository(), Access::Pull);
        let answer = remote.send(&request, &scope, self.context()).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::OK => {}
            StatusCode::METHOD_NOT_ALLOWED => {
                return Ok(self.manifest_at(reference).await?.map(|manifest| manifest.descriptor()));
            }
            _ => return Err(status_error(answer, &request).await),
        }
        let headers = answer.headers();
        let size = text(headers, "content-length").and_then(|text| text.parse().ok());
        let media_type = text(headers, CONTENT_TYPE.as_str()).map(MediaType::from);
        match (media_type, content_digest(headers), size) {
            (Some(media_type), Some(digest), Some(size)) => {
                Ok(Some(Descriptor::new(media_type, digest, size)))
            }
            _ => Ok(self.manifest_at(reference).await?.map(|manifest| manifest.descriptor())),
        }
    }

    /// Pushes a manifest; whether the registry itself lists it under its subject.
    pub(super) async fn put_manifest(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<bool, RegistryError> {
        self.put_manifest_if(reference, manifest, None).await
    }

    /// As [`Core::put_manifest`], when a condition holds (RFC 9110, section 13.1); else the answer is status 412.
    pub(super) async fn put_manifest_if(
        &self,
        reference: &Reference,
        manifest: &Manifest,
        condition: Option<(HeaderName, HeaderValue)>,
    ) -> Result<bool, RegistryError> {
        if let Some(reason) = acceptable::refusal(manifest) {
            return Err(RegistryError::Unacceptable { reference: reference.familiar(), reason });
        }
        let own = manifest.digest();
        let mismatch = |expected, found| RegistryError::ManifestDigest {
            reference: reference.familiar(),
            expected,
            found,
        };
        if let Some(expected) = reference.digest().filter(|expected| *expected != own) {
            return Err(mismatch(expected, own));
        }
        let remote = self.remote(reference).await?;
        let identifier = reference.tag().map_or_else(|| reference.identifier(), str::to_owned);
        let url = remote.url(reference.repository(), &format!("manifests/{identifier}"));
        let media_type = HeaderValue::from_str(manifest.media_type().as_str()).map_err(|_not_a_header| {
            RegistryError::Manifest {
                reference: reference.familiar(),
                source: crate::InvalidManifest::Unsupported(manifest.media_type().to_string()),
            }
        })?;
        let mut request = Request::new(Method::PUT, url)
            .header(CONTENT_TYPE, media_type)
            .payload(Payload::Bytes(manifest.raw().clone()));
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        let scope = Scope::new(reference.repository(), Access::Push);
        let answer = remote.send(&request, &scope, self.context()).await?;
        if !answer.status().is_success() {
            return Err(status_error(answer, &request).await);
        }
        if let Some(stored) = content_digest(answer.headers()).filter(|stored| *stored != own) {
            return Err(mismatch(own, stored));
        }
        self.manifests.put(reference, manifest);
        Ok(answer.headers().contains_key(OCI_SUBJECT))
    }

    /// Deletes a manifest by digest, or a tag.
    pub(super) async fn delete_manifest(&self, reference: &Reference) -> Result<bool, RegistryError> {
        let remote = self.remote(reference).await?;
        let path = format!("manifests/{}", reference.identifier());
        let request = Request::new(Method::DELETE, remote.url(reference.repository(), &path));
        let scope = Scope::new(reference.repository(), Access::Delete);
        let answer = remote.send(&request, &scope, self.context()).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => {
                // A tag may take its manifest with it.
                self.manifests.forget();
                Ok(true)
            }
            _ => Err(status_error(answer, &request).await),
        }
    }
}

fn manifest_request(remote: &Remote, method: Method, reference: &Reference) -> Request {
    let path = format!("manifests/{}", reference.identifier());
    // Without all four types, registries convert or hide manifests.
    Request::new(method, remote.url(reference.repository(), &path))
        .header(ACCEPT, HeaderValue::from_static(MediaType::ACCEPTED_MANIFESTS))
}

/// The registry's digest of the content; other algorithms than ours cannot be compared.
fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    text(headers, DOCKER_CONTENT_DIGEST)?.parse().ok()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
