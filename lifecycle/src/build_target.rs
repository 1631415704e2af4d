//! The target of a build: the run image's, completed from the build environment.

use std::path::Path;

use longshore_cnb::analyzed::Analyzed;
use longshore_cnb::target::{Target, distribution_from_os_release};

/// The target that modules are matched against and told about.
///
/// What `analyzed.toml` does not know of the run image is taken from the build environment, because build and run
/// image must agree. Spec: platform.md "Target Data" and "`analyzed.toml` (TOML)".
pub(crate) fn build_target(analyzed: &Analyzed, os_release: &Path) -> Target {
    let mut target =
        analyzed.run_image.as_ref().and_then(|run_image| run_image.target.clone()).unwrap_or_default();
    if target.os.is_empty() {
        "linux".clone_into(&mut target.os);
    }
    if target.arch.is_empty() {
        architecture().clone_into(&mut target.arch);
    }
    if target.distro.is_none() {
        tracing::debug!("The run image does not name its distribution; reading {}", os_release.display());
        match fs_err::read_to_string(os_release) {
            Ok(contents) => target.distro = distribution_from_os_release(&contents),
            Err(error) => tracing::debug!("The distribution is unknown: {error}"),
        }
    }
    target
}

/// The architecture of this machine in OCI's (Go's) words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
