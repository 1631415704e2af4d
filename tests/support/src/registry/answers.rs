//! Answers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::stream;

use super::RetryAfter;

/// An answer without a body.
pub(super) fn empty(status: u16) -> Response<Body> {
    with_body(status, "text/plain", Body::empty())
}

pub(super) fn with_body(status: u16, media_type: &str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    set(response.headers_mut(), "content-type", media_type);
    response
}

/// An error in the words of the distribution spec.
pub(super) fn error(status: u16, code: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
    with_body(status, "application/json", body.to_string())
}

pub(super) fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("a header"));
}

pub(super) fn retry_after(headers: &mut HeaderMap, when: RetryAfter) {
    let text = match when {
        RetryAfter::Seconds(seconds) => seconds.to_string(),
        RetryAfter::Date(seconds) => http_date(SystemTime::now() + Duration::from_secs(seconds)),
    };
    set(headers, "retry-after", &text);
}

/// A date as HTTP writes it (days since 1970 to a date: the usual civil calendar, shifted to March).
fn http_date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let days = seconds / 86_400;
    let weekday =
        ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from(days % 7).expect("small")];
    let shifted = days + 719_468;
    let era_day = shifted % 146_097;
    let year_of_era = (era_day - era_day / 1460 + era_day / 36_524 - era_day / 146_096) / 365;
    let day_of_year = era_day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = shifted / 146_097 * 400 + year_of_era + u64::from(month <= 2);
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = names[usize::try_from(month - 1).expect("small")];
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {day:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// A body that announces all bytes and breaks after some.
pub(super) fn cut(bytes: &Bytes, after: usize) -> Body {
    let sent = bytes.slice(..after.min(bytes.len()));
    let chunks = vec![Ok(sent), Err(std::io::Error::other("cut"))];
    // The pause lets the bytes leave before the connection goes.
    Body::from_stream(stream::unfold(chunks.into_iter(), |mut chunks| async move {
        let chunk = chunks.next()?;
        if chunk.is_err() {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Some((chunk, chunks))
    }))
}

/// A body that comes byte by byte.
pub(super) fn trickle(bytes: Bytes, milliseconds: u64) -> Body {
    Body::from_stream(stream::unfold((bytes, 0), move |(bytes, at)| async move {
        if at >= bytes.len() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        Some((Ok::<_, std::io::Error>(bytes.slice(at..=at)), (bytes, at + 1)))
    }))
}

/// The first byte of `Range: bytes=FIRST-`.
pub(super) fn range_start(headers: &HeaderMap) -> Option<usize> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http() {
        let at = |seconds| http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(1_795_255_230), "Sat, 21 Nov 2026 10:00:30 GMT");
        assert_eq!(at(1_709_164_800), "Thu, 29 Feb 2024 00:00:00 GMT");
    }
}
