//! Manifests, tags, referrers and blobs on their way out.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::Fault;
use super::answers::{self, empty, error, set, with_body};
use super::state::{State, StoredManifest, digest};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(super) fn manifest(
    state: &mut State,
    method: &Method,
    (repository, name): (&str, &str),
    headers: &HeaderMap,
    body: &Bytes,
) -> Response<Body> {
    let key = (repository.to_owned(), name.to_owned());
    match *method {
        Method::GET | Method::HEAD => {
            let Some(stored) = state.manifests.get(&key) else {
                return error(404, "MANIFEST_UNKNOWN", "manifest unknown");
            };
            // Docker sends one header for each type.
            let mut accepted = headers.get_all("accept").iter().filter_map(|value| value.to_str().ok());
            if !accepted.any(|types| types.contains(&stored.media_type)) && !stored.media_type.is_empty() {
                return error(404, "MANIFEST_UNKNOWN", "not in a type that was asked for");
            }
            let mut response = with_body(200, &stored.media_type, stored.bytes.clone());
            let stated =
                if state.has(&Fault::WrongDigestHeader) { digest(b"other") } else { digest(&stored.bytes) };
            if !state.has(&Fault::NoDigestHeader) {
                set(response.headers_mut(), "docker-content-digest", &stated);
            }
            set(response.headers_mut(), "etag", &format!("\"{}\"", digest(&stored.bytes)));
            response
        }
        Method::PUT if !condition_holds(state.manifests.get(&key), headers) => {
            error(412, "CONDITION", "the tag has changed")
        }
        Method::PUT => put(state, &key, headers, body),
        Method::DELETE if state.has(&Fault::NoDelete) => error(405, "UNSUPPORTED", "no deletion here"),
        Method::DELETE => empty(if state.manifests.remove(&key).is_some() { 202 } else { 404 }),
        _ => error(405, "UNSUPPORTED", "method not allowed"),
    }
}

/// `If-Match` with the tag that was given, and `If-None-Match: *`.
fn condition_holds(stored: Option<&StoredManifest>, headers: &HeaderMap) -> bool {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let current = stored.map(|stored| format!("\"{}\"", digest(&stored.bytes)));
    let is_same = value("if-match").is_none_or(|tag| current.as_deref() == Some(tag));
    is_same && (value("if-none-match") != Some("*") || current.is_none())
}

fn put(state: &mut State, key: &(String, String), headers: &HeaderMap, body: &Bytes) -> Response<Body> {
    let media_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_oci = media_type.contains(".oci.");
    if (is_oci && state.has(&Fault::DockerOnly)) || (!is_oci && state.has(&Fault::OciOnly)) {
        return error(400, "MANIFEST_INVALID", "manifest type is not supported");
    }
    let Ok(manifest) = serde_json::from_slice::<Value>(body) else {
        return error(400, "MANIFEST_INVALID", "not JSON");
    };
    if let Some(reason) = refusal(&manifest) {
        return error(400, "MANIFEST_INVALID", reason);
    }
    let missing = state.missing(&key.0, &manifest);
    if !missing.is_empty() {
        return error(404, "MANIFEST_BLOB_UNKNOWN", &missing.join(" "));
    }
    let own = digest(body);
    if key.1.starts_with("sha256:") && key.1 != own {
        return error(400, "DIGEST_INVALID", "the digest is another");
    }
    let stored = StoredManifest { media_type: media_type.to_owned(), bytes: body.clone() };
    state.manifests.insert((key.0.clone(), own.clone()), stored.clone());
    state.manifests.insert(key.clone(), stored);
    let mut response = empty(201);
    set(response.headers_mut(), "location", &format!("/v2/{}/manifests/{own}", key.0));
    set(response.headers_mut(), "docker-content-digest", &own);
    if let Some(subject) = manifest["subject"]["digest"].as_str()
        && !state.has(&Fault::NoReferrers)
    {
        set(response.headers_mut(), "oci-subject", subject);
    }
    response
}

/// What at least one registry refuses: every image that a test pushes has to do without.
fn refusal(manifest: &Value) -> Option<&'static str> {
    let list = |name: &str| manifest[name].as_array().filter(|list| !list.is_empty());
    if manifest.get("manifests").is_some() {
        let is_layer = |child: &Value| child["mediaType"].as_str().is_some_and(|name| name.contains("tar"));
        return list("manifests")?.iter().any(is_layer).then_some("an index of layers");
    }
    if manifest["config"]["digest"].is_null() {
        return Some("no configuration");
    }
    let Some(layers) = list("layers") else { return Some("no layers") };
    let mut blobs = layers.iter().chain([&manifest["config"]]);
    blobs.any(|blob| blob["size"] == 0).then_some("a blob without bytes")
}

pub(super) fn referrers(state: &State, repository: &str, subject: &str) -> Response<Body> {
    if state.has(&Fault::NoReferrers) {
        return error(404, "NOT_FOUND", "page not found");
    }
    let mut descriptors = Vec::new();
    for ((owner, name), stored) in &state.manifests {
        let manifest: Value = serde_json::from_slice(&stored.bytes).unwrap_or_default();
        if owner == repository && name.starts_with("sha256:") && manifest["subject"]["digest"] == subject {
            let artifact_type = match &manifest["artifactType"] {
                Value::Null => manifest["config"]["mediaType"].clone(),
                stated => stated.clone(),
            };
            descriptors.push(json!({
                "mediaType": stored.media_type, "digest": name, "size": stored.bytes.len(),
                "artifactType": artifact_type, "annotations": manifest["annotations"],
            }));
        }
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors});
    with_body(200, INDEX, index.to_string())
}

/// Pages of two tags, so that every list of more is followed.
pub(super) fn tags(state: &State, repository: &str, query: &str) -> Response<Body> {
    let all = state.tags(repository);
    if all.is_empty() {
        return error(404, "NAME_UNKNOWN", "repository name not known to registry");
    }
    let names = all.into_iter().map(|(tag, _)| tag);
    page(
        names,
        query,
        &format!("/v2/{repository}/tags/list"),
        |tags| json!({"name": repository, "tags": tags}),
    )
}

/// All repositories that have a tag, in pages of two as well.
pub(super) fn catalog(state: &State, query: &str) -> Response<Body> {
    if state.has(&Fault::NoCatalog) {
        return error(404, "NOT_FOUND", "no catalog here");
    }
    let repositories: BTreeSet<String> =
        state.manifests.keys().map(|(repository, _)| repository.clone()).collect();
    page(repositories.into_iter(), query, "/v2/_catalog", |names| json!({"repositories": names}))
}

fn page(
    names: impl Iterator<Item = String>,
    query: &str,
    path: &str,
    body: impl FnOnce(&[String]) -> Value,
) -> Response<Body> {
    let last = query.split('&').find_map(|pair| pair.strip_prefix("last=")).unwrap_or_default();
    let last = last.replace("%2F", "/");
    let mut rest = names.filter(|name| *name > last);
    let page: Vec<String> = rest.by_ref().take(2).collect();
    let mut response = with_body(200, "application/json", body(&page).to_string());
    if let Some((_, last)) = rest.next().zip(page.last()) {
        let link = format!("<{path}?n=2&last={}>; rel=\"next\"", last.replace('/', "%2F"));
        set(response.headers_mut(), "link", &link);
    }
    response
}

pub(super) fn blob(
    state: &mut State,
    method: &Method,
    (repository, name): (&str, &str),
    headers: &HeaderMap,
) -> Response<Body> {
    let Some(mut bytes) = state.blobs.get(&(repository.to_owned(), name.to_owned())).cloned() else {
        return error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    let size = bytes.len();
    let target = state.find(|fault| match fault {
        Fault::RedirectBlobs(base) => Some(format!("{base}/{name}")),
        _ => None,
    });
    if let Some(target) = target.filter(|_| method == Method::GET) {
        let mut response = empty(307);
        set(response.headers_mut(), "location", &target);
        return response;
    }
    let mut status = 200;
    let mut start = 0;
    let tag = if state.has(&Fault::WeakTags) { format!("W/\"{name}\"") } else { format!("\"{name}\"") };
    // RFC 9110, section 13.1.5: of something else than what the client has, it gets all.
    let is_same = headers.get("if-range").is_none_or(|known| known.as_bytes() == tag.as_bytes());
    let takes_ranges = is_same && !state.has(&Fault::IgnoresRange);
    if let Some(asked) = answers::range_start(headers).filter(|_| takes_ranges) {
        if asked >= size {
            return error(416, "RANGE_INVALID", "nothing there");
        }
        (status, start) = (206, asked);
    }
    if method == Method::GET {
        let flips = Fault::strikes(&mut state.faults, |fault| matches!(fault, Fault::FlipsBits { .. }));
        if flips.is_some() {
            let mut changed = bytes.to_vec();
            changed[size / 2] ^= 1;
            bytes = changed.into();
        }
    }
    let part = bytes.slice(start..);
    let length = part.len();
    let body = outgoing(state, method, part);
    let mut response = with_body(status, "application/octet-stream", body);
    set(response.headers_mut(), "content-length", &length.to_string());
    set(response.headers_mut(), "docker-content-digest", name);
    set(response.headers_mut(), "etag", &tag);
    if status == 206 {
        let range = format!("bytes {start}-{}/{size}", size - 1);
        set(response.headers_mut(), "content-range", &range);
    }
    response
}

fn outgoing(state: &mut State, method: &Method, part: Bytes) -> Body {
    if method == Method::HEAD {
        return Body::empty();
    }
    let is_cut = |fault: &Fault| matches!(fault, Fault::CutDownload { .. });
    if let Some(Fault::CutDownload { after, .. }) = Fault::strikes(&mut state.faults, is_cut) {
        return answers::cut(&part, after);
    }
    match state.find(|fault| if let Fault::Trickle(pause) = fault { Some(*pause) } else { None }) {
        Some(pause) => answers::trickle(part, pause),
        None => Body::from(part),
    }
}
