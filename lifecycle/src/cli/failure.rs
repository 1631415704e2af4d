//! How a program of the lifecycle ends when it fails.

use std::error::Error;

use crate::ExitCode;

/// What is reported, and the exit code.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: ExitCode,
    pub(super) text: String,
}

impl Failure {
    /// An error and its causes on one line, after what could not be done.
    pub(super) fn new(code: ExitCode, action: &str, error: &dyn Error) -> Self {
        let mut text = format!("failed to {action}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(error.to_string().trim_end());
            cause = error.source();
        }
        Self { code, text }
    }

    pub(super) fn text(code: ExitCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}
