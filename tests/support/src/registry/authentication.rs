//! Who may do what: everybody, or one user, by password or token.

use axum::body::Body;
use axum::http::{HeaderMap, Response, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Fault;
use super::answers;
use super::state::State;

pub(super) fn authorization(headers: &HeaderMap) -> Option<String> {
    headers.get(header::AUTHORIZATION)?.to_str().ok().map(str::to_owned)
}

/// The refusal of a request, if it is refused.
pub(super) fn refuse(state: &mut State, headers: &HeaderMap, scope: &str) -> Option<Response<Body>> {
    let given = authorization(headers).unwrap_or_default();
    let basic = state.find(|fault| match fault {
        Fault::Basic(user, password) => Some(given == basic_header(user, password)),
        _ => None,
    });
    if basic == Some(false) {
        return Some(challenge("Basic realm=\"faulty\""));
    }
    let wants_token = state.find(|fault| matches!(fault, Fault::Bearer(..)).then_some(()));
    wants_token?;
    let token = given.strip_prefix("Bearer ").unwrap_or_default();
    if let Some(left) = state.tokens.get_mut(token).filter(|left| **left > 0) {
        *left -= 1;
        return None;
    }
    let own = format!("{}/token", state.origin());
    let realm = state.find(|fault| if let Fault::Realm(realm) = fault { Some(realm.clone()) } else { None });
    let realm = realm.unwrap_or(own);
    Some(challenge(&format!("Bearer realm=\"{realm}\",service=\"faulty\",scope=\"{scope}\"")))
}

fn challenge(text: &str) -> Response<Body> {
    let mut response = answers::error(401, "UNAUTHORIZED", "authentication required");
    answers::set(response.headers_mut(), "www-authenticate", text);
    response
}

/// The token endpoint: a GET with a password, or a POST with a refresh token.
pub(super) fn token(state: &mut State, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
    let given = authorization(headers);
    let body = String::from_utf8_lossy(body);
    let allowed = state.find(|fault| match fault {
        Fault::Bearer(user, password) => Some(
            given.as_ref() == Some(&basic_header(user, password))
                || body.contains(&format!("refresh_token={password}")),
        ),
        _ => None,
    });
    // A token endpoint of another registry: it takes whatever it is shown.
    if allowed == Some(false) {
        return answers::with_body(
            401,
            "application/json",
            r#"{"details":"incorrect username or password"}"#,
        );
    }
    let uses = state.find(|fault| if let Fault::TokenUses(uses) = fault { Some(*uses) } else { None });
    let token = format!("token-{}", state.next_serial());
    state.tokens.insert(token.clone(), uses.unwrap_or(u32::MAX));
    answers::with_body(200, "application/json", format!(r#"{{"token":"{token}","expires_in":300}}"#))
}

fn basic_header(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
