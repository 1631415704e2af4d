//! When an image says it was made.

use anyhow::Context;
use longshore_image::Timestamp;

/// The moment that all reproducible images of the CNB world carry: 1980-01-01T00:00:01Z.
pub(crate) const NORMALISED: i64 = 315_532_801;

/// What `--creation-time` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreationTime {
    /// The time of the build.
    Now,
    /// Seconds since 1970.
    Unix(i64),
}

impl std::str::FromStr for CreationTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "now" => Ok(Self::Now),
            seconds => {
                let parsed = seconds.parse().ok().filter(|seconds| Timestamp::from_second(*seconds).is_ok());
                parsed.map(Self::Unix).ok_or_else(|| "it is neither `now` nor seconds since 1970".to_owned())
            }
        }
    }
}

/// The time for an image: what was asked for, else `SOURCE_DATE_EPOCH`, else [`NORMALISED`].
///
/// # Errors
/// When `SOURCE_DATE_EPOCH` is not a number of seconds.
pub(crate) fn creation_time(wanted: Option<CreationTime>) -> anyhow::Result<Timestamp> {
    let seconds = match wanted {
        Some(CreationTime::Now) => Timestamp::now().as_second(),
        Some(CreationTime::Unix(seconds)) => seconds,
        None => match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) if !text.is_empty() => text
                .parse()
                .with_context(|| format!("SOURCE_DATE_EPOCH is `{text}`, not seconds since 1970"))?,
            _ => NORMALISED,
        },
    };
    Timestamp::from_second(seconds).context("the creation time is out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_and_seconds_are_understood() {
        assert_eq!("now".parse(), Ok(CreationTime::Now));
        assert_eq!("1641013200".parse(), Ok(CreationTime::Unix(1_641_013_200)));
        for wrong in ["", "yesterday", "1.5", "99999999999999999"] {
            assert!(wrong.parse::<CreationTime>().is_err(), "{wrong}");
        }
    }
}
