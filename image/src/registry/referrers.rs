//! Artifacts that say which image they are about (distribution spec, "Listing Referrers" and "Pushing Manifests with
//! Subject"), with the tag that stands in where a registry has no referrers API.

use std::collections::BTreeMap;

use reqwest::header::{ACCEPT, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, StatusCode};

use super::error::RegistryError;
use super::request::Request;
use super::scope::{Access, Scope};
use super::transport::{read_limited, status_error};
use super::{Core, catalog};
use crate::{
    Descriptor, Digest, Fields, IndexManifest, MANIFEST_LIMIT, Manifest, ManifestContent, ManifestFormat,
    MediaType, Reference,
};

/// Pages of referrers that are followed at most.
const MOST_PAGES: usize = 100;

impl Core {
    /// The artifacts about a manifest; those of one type when it is given.
    pub(super) async fn referrers(
        &self,
        subject: &Reference,
        digest: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let mut found = match self.listed_referrers(subject, digest).await? {
            Some(found) => found,
            None => {
                let tagged = self.tagged_referrers(&fallback(subject, digest)).await?;
                tagged.map(|tagged| tagged.referrers).unwrap_or_default()
            }
        };
        // Filters of registries are optional, and ours does not depend on them.
        if let Some(wanted) = artifact_type {
            found.retain(|referrer| type_of(referrer).as_deref() == Some(wanted));
        }
        Ok(found)
    }

    /// By the API; `None` when the registry has none.
    async fn listed_referrers(
        &self,
        subject: &Reference,
        digest: Digest,
    ) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        let remote = self.remote(subject).await?;
        let scope = Scope::new(subject.repository(), Access::Pull);
        let mut url = remote.url(subject.repository(), &format!("referrers/{digest}"));
        let mut found = Vec::new();
        for _ in 0..MOST_PAGES {
            let accept = HeaderValue::from_static(MediaType::ACCEPTED_MANIFESTS);
            let request = Request::new(Method::GET, url.clone()).header(ACCEPT, accept);
            let answer = remote.send(&request, &scope, self.context()).await?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => return Ok(None),
                _ => return Err(status_error(answer, &request).await),
            }
            let next = catalog::next_page(answer.headers(), &url);
            let raw = read_limited(answer, &request, &self.transport.timeouts, MANIFEST_LIMIT).await?;
            let declared = MediaType::Index(ManifestFormat::Oci);
            let index = Manifest::parse(raw, Some(&declared))
                .map_err(|source| RegistryError::Manifest { reference: request.name(), source })?;
            found.extend(children(&index).unwrap_or_default());
            match next {
                Some(next) if next != url => url = next,
                _ => break,
            }
        }
        Ok(Some(found))
    }

    /// By the tag, with what names its state; `None` when there is none.
    async fn tagged_referrers(&self, tag: &Reference) -> Result<Option<Tagged>, RegistryError> {
        let Some((index, state)) = self.tagged_manifest(tag).await? else { return Ok(None) };
        let unexpected = || RegistryError::Manifest {
            reference: tag.familiar(),
            source: crate::InvalidManifest::Ambiguous("an image stands where a list of referrers should be"),
        };
        let referrers = children(&index).ok_or_else(unexpected)?;
        Ok(Some(Tagged { referrers, state }))
    }

    /// Adds a manifest to the list under the tag of its subject, once. Where the registry knows conditions, what others
    /// add at the same time is kept.
    pub(super) async fn tag_referrer(
        &self,
        reference: &Reference,
        subject: Digest,
        manifest: &Manifest,
    ) -> Result<(), RegistryError> {
        let tag = fallback(reference, subject);
        let mut attempt = 1;
        loop {
            let tagged = self.tagged_referrers(&tag).await?;
            let condition = match &tagged {
                None => Some((IF_NONE_MATCH, HeaderValue::from_static("*"))),
                Some(tagged) => tagged.state.clone().map(|state| (IF_MATCH, state)),
            };
            let mut manifests = tagged.map(|tagged| tagged.referrers).unwrap_or_default();
            if manifests.iter().any(|known| known.digest == manifest.digest()) {
                return Ok(());
            }
            manifests.push(listed(manifest));
            let index = IndexManifest {
                schema_version: 2,
                media_type: MediaType::Index(ManifestFormat::Oci),
                manifests,
                annotations: BTreeMap::new(),
                other: Fields::default(),
            };
            match self.put_manifest_if(&tag, &Manifest::index(index), condition).await {
                Err(error) if error.is_failed_condition() => {
                    self.transport.wait(tag.registry(), attempt, error, None).await?;
                    attempt += 1;
                }
                other => return other.map(drop),
            }
        }
    }
}

/// The list under a fallback tag.
struct Tagged {
    referrers: Vec<Descriptor>,
    /// Its `ETag`.
    state: Option<HeaderValue>,
}

/// `sha256-HEX` in the repository.
fn fallback(reference: &Reference, subject: Digest) -> Reference {
    reference.with_tag(&format!("sha256-{}", subject.hex()))
}

fn children(manifest: &Manifest) -> Option<Vec<Descriptor>> {
    match manifest.content() {
        ManifestContent::Index(index) => Some(index.manifests.clone()),
        ManifestContent::Image(_) => None,
    }
}

fn type_of(referrer: &Descriptor) -> Option<String> {
    referrer.other.get("artifactType")
}

/// The digest that a manifest is about.
pub(super) fn subject_of(manifest: &Manifest) -> Option<Digest> {
    let other = match manifest.content() {
        ManifestContent::Image(image) => &image.other,
        ManifestContent::Index(index) => &index.other,
    };
    other.get::<Fields>("subject")?.get("digest")
}

/// The entry for a manifest: its own type, or that of its configuration, and its annotations.
fn listed(manifest: &Manifest) -> Descriptor {
    let mut entry = manifest.descriptor();
    let (other, annotations, config) = match manifest.content() {
        ManifestContent::Image(image) => (&image.other, &image.annotations, Some(&image.config)),
        ManifestContent::Index(index) => (&index.other, &index.annotations, None),
    };
    let stated = other.get::<String>("artifactType").filter(|text| !text.is_empty());
    let artifact_type = stated.or_else(|| config.map(|config| config.media_type.to_string()));
    if let Some(artifact_type) = artifact_type {
        entry.other.insert("artifactType", &artifact_type);
    }
    entry.annotations.clone_from(annotations);
    entry
}
