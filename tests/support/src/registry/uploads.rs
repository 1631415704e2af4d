//! Blobs on their way in.

use axum::body::Body;
use axum::http::{HeaderMap, Method, Response};
use bytes::Bytes;

use super::Fault;
use super::answers::{empty, error, set};
use super::state::{State, digest};

/// `POST /v2/NAME/blobs/uploads/`.
pub(super) fn open(state: &mut State, repository: &str, query: &str, body: &Bytes) -> Response<Body> {
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
    };
    if let Some((mount, from)) = parameter("mount").zip(parameter("from"))
        && !state.has(&Fault::NoMount)
        && let Some(bytes) = state.blobs.get(&(from, mount.clone())).cloned()
    {
        state.blobs.insert((repository.to_owned(), mount.clone()), bytes);
        let mut response = empty(201);
        set(response.headers_mut(), "location", &format!("/v2/{repository}/blobs/{mount}"));
        return response;
    }
    let id = format!("upload-{}", state.next_serial());
    state.uploads.insert(id.clone(), Vec::new());
    if query.contains("digest=") && state.has(&Fault::SinglePost) {
        return put(state, (repository, &id), query, body);
    }
    in_progress(state, repository, &id, 202)
}

/// The state of an upload, and where it goes on.
fn in_progress(state: &State, repository: &str, id: &str, status: u16) -> Response<Body> {
    let arrived = state.uploads.get(id).map_or(0, Vec::len);
    let path = format!("/v2/{repository}/blobs/uploads/{id}");
    let query = if state.has(&Fault::QueryLocation) { "?state=known%2F1" } else { "" };
    let location = if state.has(&Fault::RelativeLocation) {
        format!("{path}{query}")
    } else {
        format!("{}{path}{query}", state.origin())
    };
    let mut response = empty(status);
    set(response.headers_mut(), "location", &location);
    set(response.headers_mut(), "range", &format!("0-{}", arrived.saturating_sub(1)));
    response
}

/// `GET`, `PATCH`, `PUT` and `DELETE` of an upload whose body has been read.
pub(super) fn proceed(
    state: &mut State,
    method: &Method,
    (repository, id): (&str, &str),
    query: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response<Body> {
    if state.has(&Fault::QueryLocation) && !query.contains("state=known%2F1") {
        return error(404, "BLOB_UPLOAD_UNKNOWN", "the state is missing");
    }
    if !state.uploads.contains_key(id) {
        return error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
    }
    match *method {
        Method::GET => in_progress(state, repository, id, 204),
        Method::DELETE => {
            state.uploads.remove(id);
            empty(204)
        }
        Method::PATCH if state.has(&Fault::NoChunks) => error(405, "UNSUPPORTED", "no chunks here"),
        Method::PATCH => patch(state, (repository, id), headers, body),
        Method::PUT => put(state, (repository, id), query, body),
        _ => error(405, "UNSUPPORTED", "method not allowed"),
    }
}

fn patch(
    state: &mut State,
    (repository, id): (&str, &str),
    headers: &HeaderMap,
    body: &Bytes,
) -> Response<Body> {
    if is_over(
        state,
        body.len(),
        |fault| if let Fault::ChunkLimit(limit) = fault { Some(*limit) } else { None },
    ) {
        return error(416, "BLOB_UPLOAD_INVALID", "the chunk is too large");
    }
    let arrived = state.uploads.get(id).map_or(0, Vec::len);
    let first = headers.get("content-range").and_then(|value| value.to_str().ok());
    let first = first.and_then(|range| range.split('-').next()?.parse::<usize>().ok());
    if first.is_some_and(|first| first != arrived) {
        return error(416, "RANGE_INVALID", "the chunk is out of order");
    }
    let is_stream = !headers.contains_key("content-length") && first.is_none();
    let drops_streams = state.find(|fault| match fault {
        Fault::DropsStreams { tells } if is_stream => Some(*tells),
        _ => None,
    });
    let dropped = (arrived > 0 && state.has(&Fault::DropsChunks)) || drops_streams.is_some();
    if let Some(upload) = state.uploads.get_mut(id).filter(|_| !dropped) {
        upload.extend_from_slice(body);
    }
    let mut response = in_progress(state, repository, id, 202);
    if drops_streams == Some(false) {
        set(response.headers_mut(), "range", &format!("0-{}", body.len().saturating_sub(1)));
    }
    response
}

fn put(state: &mut State, (repository, id): (&str, &str), query: &str, body: &Bytes) -> Response<Body> {
    if is_over(
        state,
        body.len(),
        |fault| if let Fault::ChunkLimit(limit) = fault { Some(*limit) } else { None },
    ) {
        return error(416, "BLOB_UPLOAD_INVALID", "the body is too large");
    }
    if is_over(
        state,
        body.len(),
        |fault| if let Fault::WholeLimit(limit) = fault { Some(*limit) } else { None },
    ) {
        return error(413, "SIZE_INVALID", "the body is too large");
    }
    let mut bytes = state.uploads.remove(id).unwrap_or_default();
    bytes.extend_from_slice(body);
    let own = digest(&bytes);
    let stated = query.split('&').find_map(|pair| pair.strip_prefix("digest=")).map(decoded);
    if stated.as_ref() != Some(&own) {
        return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
    }
    if bytes.is_empty() {
        return error(500, "UNKNOWN", "a blob without bytes");
    }
    state.blobs.insert((repository.to_owned(), own.clone()), bytes.into());
    let mut response = empty(201);
    set(response.headers_mut(), "location", &format!("/v2/{repository}/blobs/{own}"));
    let is_wrong = |fault: &Fault| matches!(fault, Fault::WrongBlobDigest { .. });
    let stated = if Fault::strikes(&mut state.faults, is_wrong).is_some() { digest(b"other") } else { own };
    set(response.headers_mut(), "docker-content-digest", &stated);
    response
}

fn is_over(state: &State, length: usize, limit: impl Fn(&Fault) -> Option<u64>) -> bool {
    state.find(limit).is_some_and(|limit| length as u64 > limit)
}

/// What digests and names need: a colon and a slash.
fn decoded(text: &str) -> String {
    text.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/").replace("%2f", "/")
}
