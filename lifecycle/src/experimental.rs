//! Features that may change, and whether a platform accepts them.
//!
//! Spec: platform.md "Experimental Features".

use thiserror::Error;

/// What to do when an experimental feature is asked for (`CNB_EXPERIMENTAL_MODE`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExperimentalMode {
    /// Fail: also when nothing is set.
    #[default]
    Fail,
    /// Warn and continue.
    Warn,
    /// Continue.
    Silent,
}

/// An experimental feature was asked for, and the platform did not accept it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{feature} is experimental; set CNB_EXPERIMENTAL_MODE=warn to use it all the same")]
pub struct ExperimentalError {
    feature: &'static str,
}

impl ExperimentalMode {
    /// Reads the value of `CNB_EXPERIMENTAL_MODE`. The spec has `silent`, the reference `quiet`; an unknown value warns,
    /// as in the reference.
    pub fn parse(value: Option<&str>) -> Self {
        match value {
            None | Some("" | "error") => Self::Fail,
            Some("silent" | "quiet") => Self::Silent,
            Some(_) => Self::Warn,
        }
    }

    /// Lets an experimental feature pass, or not. `feature` is named at the beginning of the message.
    ///
    /// # Errors
    ///
    /// When the mode is to fail.
    pub fn guard(self, feature: &'static str) -> Result<(), ExperimentalError> {
        match self {
            Self::Fail => Err(ExperimentalError { feature }),
            Self::Warn => {
                tracing::warn!("{feature} is experimental");
                Ok(())
            }
            Self::Silent => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_explicit_mode_lets_features_pass() {
        let cases = [
            (None, ExperimentalMode::Fail),
            (Some(""), ExperimentalMode::Fail),
            (Some("error"), ExperimentalMode::Fail),
            (Some("warn"), ExperimentalMode::Warn),
            (Some("silent"), ExperimentalMode::Silent),
            (Some("quiet"), ExperimentalMode::Silent),
            (Some("other"), ExperimentalMode::Warn),
        ];
        for (value, expected) in cases {
            let mode = ExperimentalMode::parse(value);
            assert_eq!(mode, expected, "{value:?}");
            assert_eq!(mode.guard("It").is_ok(), expected != ExperimentalMode::Fail, "{value:?}");
        }
    }
}
