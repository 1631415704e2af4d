//! When and how long to wait before a request is made again.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// How often and how patiently requests are made again after failures that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The number of attempts, the first included.
    pub attempts: u32,
    /// The upper bound of the first wait; it doubles with each attempt.
    pub first_wait: Duration,
    /// The upper bound of any wait that we choose.
    pub longest_wait: Duration,
    /// The longest `Retry-After` that is obeyed; longer ones are an error at once.
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            longest_retry_after: Duration::from_secs(60),
        }
    }
}

/// What to do after a failure that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Try again after this time.
    Wait(Duration),
    /// The attempts are used up.
    GiveUp,
    /// The registry wants more patience than the policy has.
    TooLong(Duration),
}

impl RetryPolicy {
    /// What to do after attempt number `attempt` (from 1) failed; `random` is from 0 to 1: full jitter.
    pub(super) fn next(&self, attempt: u32, retry_after: Option<Duration>, random: f64) -> Next {
        match retry_after {
            Some(wait) if wait > self.longest_retry_after => Next::TooLong(wait),
            _ if attempt >= self.attempts => Next::GiveUp,
            Some(wait) => Next::Wait(wait),
            None => {
                let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
                let bound = self.first_wait.saturating_mul(factor).min(self.longest_wait);
                Next::Wait(bound.mul_f64(random.clamp(0.0, 1.0)))
            }
        }
    }
}

/// Whether a status may be another one in a moment. 501, 505 and 507 will not.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504 | 520..=524)
}

/// `Retry-After` in either form: seconds or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    // jiff's RFC 2822 parser reads `GMT`, which HTTP dates end with.
    let date = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// A random number from 0 to 1. Jitter needs no more than what the standard library seeds its maps with.
pub(super) fn random() -> f64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn decisions() {
        let policy = RetryPolicy::default();
        let table = [
            (1, None, 1.0, Next::Wait(SECOND / 2)),
            (1, None, 0.5, Next::Wait(SECOND / 4)),
            (3, None, 1.0, Next::Wait(SECOND * 2)),
            (5, None, 0.0, Next::Wait(Duration::ZERO)),
            (6, None, 1.0, Next::GiveUp),
            (1, Some(SECOND * 2), 0.0, Next::Wait(SECOND * 2)),
            (1, Some(SECOND * 60), 0.0, Next::Wait(SECOND * 60)),
            (1, Some(SECOND * 3600), 0.0, Next::TooLong(SECOND * 3600)),
            (6, Some(SECOND), 0.0, Next::GiveUp),
        ];
        for (attempt, after, random, expected) in table {
            assert_eq!(policy.next(attempt, after, random), expected, "{attempt} {after:?}");
        }
        let many = RetryPolicy { attempts: 100, ..policy };
        assert_eq!(many.next(99, None, 1.0), Next::Wait(policy.longest_wait));
    }

    #[test]
    fn retry_after_has_two_forms() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let table = [
            ("2", Some(SECOND * 2)),
            ("Sat, 21 Nov 2026 10:00:30 GMT", Some(SECOND * 30)),
            ("Sat, 21 Nov 2026 09:00:00 GMT", Some(Duration::ZERO)),
            ("soon", None),
        ];
        for (text, expected) in table {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), expected, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn statuses() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_transient(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [200, 307, 400, 401, 403, 404, 405, 416, 501, 507] {
            assert!(!is_transient(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }

    #[test]
    fn jitter_is_spread() {
        let numbers: Vec<f64> = (0..100).map(|_| random()).collect();
        assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number < 0.5) && numbers.iter().any(|number| *number > 0.5));
    }
}
