//! The pace of an answer's body: one that all but stands still is given up.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Response;

use super::error::RegistryError;
use super::request::{Request, Timeouts};

/// Counts the bytes and the waiting of the current period.
#[derive(Debug)]
pub(super) struct Pace {
    timeouts: Timeouts,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self { timeouts, waited: Duration::ZERO, bytes: 0 }
    }

    /// The next chunk of the body; `None` at its end.
    pub(super) async fn next_chunk(
        &mut self,
        answer: &mut Response,
        request: &Request,
    ) -> Result<Option<Bytes>, RegistryError> {
        // Only the time in which we wait for the other side counts: our own reader may be slow.
        let asked = Instant::now();
        let chunk = tokio::time::timeout(self.timeouts.stall, answer.chunk())
            .await
            .map_err(|_elapsed| self.timeouts.stalled(&request.name()))?
            .map_err(|source| request.unanswered(source))?;
        let length = chunk.as_ref().map_or(0, Bytes::len) as u64;
        if self.stalls(asked.elapsed(), length) && chunk.is_some() {
            return Err(self.timeouts.stalled(&request.name()));
        }
        Ok(chunk)
    }

    /// Counts a chunk; whether a period ends with it that had too few bytes.
    fn stalls(&mut self, waited: Duration, length: u64) -> bool {
        self.waited += waited;
        self.bytes += length;
        if self.waited < self.timeouts.stall {
            return false;
        }
        let stalled = self.bytes < self.timeouts.stall_bytes();
        self.waited = Duration::ZERO;
        self.bytes = 0;
        stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_stalls_and_a_stream_does_not() {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { stall: second * 30, stall_rate: 1024, ..Timeouts::default() };
        let first_stall = |length| {
            let mut pace = Pace::new(timeouts);
            (1..=120).find(|_| pace.stalls(second, length))
        };
        assert_eq!(first_stall(1), Some(30));
        assert_eq!(first_stall(1023), Some(30));
        assert_eq!(first_stall(1024), None);
    }
}
