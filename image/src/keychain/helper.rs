//! Credential helpers: programs named `docker-credential-NAME` that keep credentials elsewhere.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{Credential, KeychainError};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks the helper `docker-credential-NAME` of `PATH` for a server's credential; `None` when it has none.
pub(super) fn ask(name: &str, server: &str) -> Result<Option<Credential>, KeychainError> {
    let program = format!("docker-credential-{name}");
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        let reason = "its name is not that of a program".to_owned();
        return Err(KeychainError::Helper { helper: program, server: server.to_owned(), reason });
    }
    ask_program(&program, server)
}

/// What the helper prints is not part of any error: it may be a secret.
pub(super) fn ask_program(program: &str, server: &str) -> Result<Option<Credential>, KeychainError> {
    let failed = |reason: String| KeychainError::Helper {
        helper: program.to_owned(),
        server: server.to_owned(),
        reason,
    };
    let start =
        |source| KeychainError::HelperStart { helper: program.to_owned(), server: server.to_owned(), source };
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read its input says why with its exit status, below.
        input.write_all(server.as_bytes()).or_else(ignore_broken_pipe).map_err(start)?;
    }
    let output = child.wait_with_output().map_err(start)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(format!("it ended with {}", output.status)));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|error| failed(format!("its answer is not JSON at column {}", error.column())))?;
    if answer.username.is_empty() && answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(Credential::password(&answer.username, &answer.secret)))
}

fn ignore_broken_pipe(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}
