//! The layers that the lifecycle makes up: the launcher and the links of the process types (platform spec, "Launch").

use std::path::Path;

use super::LayerSource;
use super::entry::Entry;

const LAUNCHER: &str = "/cnb/lifecycle/launcher";

/// The layer with the launcher at `/cnb/lifecycle/launcher`.
#[must_use]
pub fn launcher(host: &Path) -> LayerSource {
    LayerSource::entries(vec![
        Entry::directory("/cnb", 0o755),
        Entry::directory("/cnb/lifecycle", 0o755),
        Entry::host_file(LAUNCHER, 0o755, host),
    ])
}

/// The layer with one link to the launcher per process type, at `/cnb/process/TYPE`, in the order given.
#[must_use]
pub fn process_types<'a>(types: impl IntoIterator<Item = &'a str>) -> LayerSource {
    let directories = [Entry::directory("/cnb", 0o755), Entry::directory("/cnb/process", 0o755)];
    let link = |process: &str| {
        let link = Entry::symlink(format!("/cnb/process/{process}"), LAUNCHER);
        // The reference lifecycle gives these links a mode that links on disk never have.
        Entry { mode: 0o755, ..link }
    };
    LayerSource::entries(directories.into_iter().chain(types.into_iter().map(link)).collect())
}
