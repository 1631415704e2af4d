//! From connections to answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, Response};
use axum::serve::Listener;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::answers::{self, error};
use super::state::State;
use super::{Fault, Logged, authentication, manifests, uploads};

type Shared = Arc<Mutex<State>>;

pub(super) async fn serve<L: Listener<Addr: std::fmt::Debug>>(listener: L, state: Shared) {
    let router = Router::new().fallback(move |request| answer(Arc::clone(&state), request));
    axum::serve(listener, router).await.expect("the registry runs");
}

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(state: Shared, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let query = head.uri.query().unwrap_or_default().to_owned();
    let mut logged = Logged {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query,
        authorization: authentication::authorization(&head.headers),
        range: header("range"),
        if_range: header("if-range"),
        received: 0,
        status: 0,
    };
    let early = before_body(&mut lock(&state), &head, &logged);
    if let Some(early) = early {
        logged.status = early.as_ref().map_or(0, |response| response.status().as_u16());
        let is_patient = early.is_some() && !lock(&state).has(&Fault::AnswersEarly);
        // An answer before the end of the body may not reach a client that still sends.
        let mut chunks = body.into_data_stream();
        while let Some(Ok(chunk)) = if is_patient { chunks.next().await } else { None } {
            logged.received += chunk.len() as u64;
        }
        lock(&state).log.push(logged);
        return early.unwrap_or_else(|| cut_connection());
    }
    let body = match read(&state, &head.method, head.uri.path(), body).await {
        Ok(body) => body,
        Err(received) => {
            logged.received = received as u64;
            lock(&state).log.push(logged);
            cut_connection()
        }
    };
    logged.received = body.len() as u64;
    let mut state = lock(&state);
    let response = route(&mut state, &head, &logged.query, &body);
    logged.status = response.status().as_u16();
    state.log.push(logged);
    response
}

/// Ends the task of the connection, and with it the connection; the hook that prints panics is not called.
fn cut_connection() -> ! {
    std::panic::resume_unwind(Box::new("the connection is cut"))
}

/// Faults and refusals that need no body; an inner `None` cuts the connection.
fn before_body(
    state: &mut State,
    head: &axum::http::request::Parts,
    logged: &Logged,
) -> Option<Option<Response<Body>>> {
    let meant =
        |method: &str, path: &str| (method.is_empty() || head.method == method) && logged.path.contains(path);
    let is_reset = |fault: &Fault| matches!(fault, Fault::Reset { method, path, .. } if meant(method, path));
    if Fault::strikes(&mut state.faults, is_reset).is_some() {
        return Some(None);
    }
    let is_status =
        |fault: &Fault| matches!(fault, Fault::Status { method, path, .. } if meant(method, path));
    if let Some(Fault::Status { status, retry_after, .. }) = Fault::strikes(&mut state.faults, is_status) {
        let mut response = error(status, "FAULT", "as told");
        if let Some(when) = retry_after {
            answers::retry_after(response.headers_mut(), when);
        }
        return Some(Some(response));
    }
    if logged.path.starts_with("/token") {
        return None;
    }
    let repository = repository_and_rest(&logged.path).map(|(repository, _)| repository);
    let actions = if matches!(head.method, Method::GET | Method::HEAD) { "pull" } else { "pull,push" };
    let scope = repository.map(|repository| format!("repository:{repository}:{actions}"));
    authentication::refuse(state, &head.headers, &scope.unwrap_or_default()).map(Some)
}

/// The body, unless the connection is to be cut in it: then how much arrived, which is kept by the upload.
async fn read(state: &Shared, method: &Method, path: &str, body: Body) -> Result<Bytes, usize> {
    let upload = path.split("/blobs/uploads/").nth(1).filter(|id| !id.is_empty());
    let breaks = upload.filter(|_| matches!(*method, Method::PUT | Method::PATCH)).and_then(|_| {
        let is_meant = |fault: &Fault| matches!(fault, Fault::CutUpload { .. } | Fault::StallsUpload { .. });
        match Fault::strikes(&mut lock(state).faults, is_meant)? {
            Fault::CutUpload { after, .. } => Some((after, false)),
            Fault::StallsUpload { after, .. } => Some((after, true)),
            _ => None,
        }
    });
    let mut bytes = BytesMut::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.map_err(|_client_is_gone| bytes.len())?);
        if let Some((limit, stalls)) = breaks.filter(|(limit, _)| bytes.len() >= *limit) {
            if let Some(arrived) = lock(state).uploads.get_mut(upload.unwrap_or_default()) {
                arrived.extend_from_slice(&bytes[..limit]);
            }
            if stalls {
                std::future::pending::<()>().await;
            }
            return Err(limit);
        }
    }
    Ok(bytes.freeze())
}

/// `/v2/NAME/KIND/REST`, where the name may have slashes.
fn repository_and_rest(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("/v2/")?;
    ["/manifests/", "/blobs/", "/tags/", "/referrers/"]
        .iter()
        .find_map(|kind| path.rfind(kind).map(|at| (&path[..at], &path[at + 1..])))
}

fn route(state: &mut State, head: &axum::http::request::Parts, query: &str, body: &Bytes) -> Response<Body> {
    let path = head.uri.path();
    if path == "/token" {
        return authentication::token(state, &head.headers, body);
    }
    if path == "/v2/" {
        return answers::with_body(200, "application/json", "{}");
    }
    if path == "/v2/_catalog" {
        return manifests::catalog(state, query);
    }
    let Some((repository, rest)) = repository_and_rest(path) else {
        return error(404, "NOT_FOUND", "no such path");
    };
    let method = &head.method;
    match rest.split_once('/') {
        Some(("manifests", name)) => {
            manifests::manifest(state, method, (repository, name), &head.headers, body)
        }
        Some(("tags", "list")) => manifests::tags(state, repository, query),
        Some(("referrers", subject)) => manifests::referrers(state, repository, subject),
        Some(("blobs", "uploads/")) => uploads::open(state, repository, query, body),
        Some(("blobs", name)) => match name.strip_prefix("uploads/") {
            Some(id) => uploads::proceed(state, method, (repository, id), query, &head.headers, body),
            None => manifests::blob(state, method, (repository, name), &head.headers),
        },
        _ => error(404, "NOT_FOUND", "no such path"),
    }
}
