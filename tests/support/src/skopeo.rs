//! Skopeo, the judge of what Longshore writes to registries and layouts.

use std::process::Command;

use serde_json::Value;

use crate::process::{Outcome, require_tool};

/// Runs skopeo with `arguments`. Every image is accepted, whoever signed it.
///
/// # Panics
/// When `skopeo` is not installed.
#[must_use]
pub fn skopeo(arguments: &[&str]) -> Outcome {
    require_tool("/usr/bin/skopeo", "skopeo");
    Outcome::of(Command::new("/usr/bin/skopeo").arg("--insecure-policy").args(arguments))
}

/// The manifest of `reference`, such as `oci:DIR:NAME` or `docker://127.0.0.1:5000/app`.
///
/// # Panics
/// When skopeo cannot read it.
#[must_use]
pub fn manifest(reference: &str) -> Value {
    json(&["inspect", "--tls-verify=false", "--raw", reference])
}

/// The configuration of the image `reference`.
///
/// # Panics
/// When skopeo cannot read it.
#[must_use]
pub fn configuration(reference: &str) -> Value {
    json(&["inspect", "--tls-verify=false", "--raw", "--config", reference])
}

/// The digest of the manifest of `reference`, and what skopeo finds in the image.
///
/// # Panics
/// When skopeo cannot read it.
#[must_use]
pub fn inspect(reference: &str) -> Value {
    json(&["inspect", "--tls-verify=false", reference])
}

/// Copies an image; `source` and `target` may be on loopback without TLS.
///
/// # Panics
/// When skopeo refuses.
pub fn copy(source: &str, target: &str) {
    skopeo(&["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", source, target])
        .success();
}

fn json(arguments: &[&str]) -> Value {
    let outcome = skopeo(arguments).success();
    serde_json::from_str(&outcome.stdout).expect("JSON from skopeo")
}
