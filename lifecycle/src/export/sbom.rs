//! The SBOM files of the lifecycle and the launcher (platform.md "`exporter`": `<launcher-sbom>`).

use std::fs;
use std::path::{Path, PathBuf};

use super::{ExportError, ExportInput};

const EXTENSIONS: [&str; 3] = ["sbom.cdx.json", "sbom.spdx.json", "sbom.syft.json"];
const DEFAULT_DIRECTORY: &str = "/cnb/lifecycle";

/// Copies them into `<layers>/sbom`, from where they go into the SBOM layer.
pub(super) fn copy_launcher_sbom(input: &ExportInput<'_>) -> Result<(), ExportError> {
    let Some(from) = &input.launcher_sbom else { return Ok(()) };
    let sbom = input.layers.host.join("sbom");
    let launcher = sbom.join("launch/buildpacksio_lifecycle/launcher");
    copy_component(Path::new(DEFAULT_DIRECTORY), "lifecycle", &sbom.join("build/buildpacksio_lifecycle"))?;
    // An empty name stands for the default, as in the reference.
    if from.as_os_str().is_empty() || from == Path::new(DEFAULT_DIRECTORY) {
        return copy_component(Path::new(DEFAULT_DIRECTORY), "launcher", &launcher);
    }
    // Whatever looks like an SBOM in a directory that the platform provides. The directory for it is made in any case, as
    // in the reference: it is in the SBOM layer.
    fs::create_dir_all(&launcher).map_err(failed(&launcher))?;
    let entries = fs::read_dir(from).map_err(failed(from))?;
    for entry in entries {
        let entry = entry.map_err(failed(from))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if EXTENSIONS.iter().any(|extension| name.ends_with(extension)) {
            copy(&entry.path(), &launcher.join(name))?;
        }
    }
    Ok(())
}

fn copy_component(from: &Path, component: &str, to: &Path) -> Result<(), ExportError> {
    for extension in EXTENSIONS {
        let file = from.join(format!("{component}.{extension}"));
        if file.exists() {
            copy(&file, &to.join(extension))?;
        } else {
            tracing::debug!("there is no SBOM file {}", file.display());
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), ExportError> {
    let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(from, to));
    copied.map(drop).map_err(failed(from))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> ExportError + use<> {
    let path: PathBuf = path.to_owned();
    move |source| ExportError::Sbom { path, source }
}
