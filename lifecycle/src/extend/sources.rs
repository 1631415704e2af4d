//! The Dockerfiles of the group's extensions, in order, with their arguments and build contexts.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use longshore_cnb::extend_config::ExtendConfig;
use longshore_cnb::group::directory_name;
use longshore_cnb::toml_file;

use super::{ExtendError, ExtendInput, ExtendKind, file};

/// A Dockerfile that is to be applied.
pub(super) struct Source {
    pub(super) extension: String,
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// From `extend-config.toml`.
    pub(super) arguments: Vec<(String, String)>,
    pub(super) context: PathBuf,
}

/// Finds the Dockerfiles for the kind.
pub(super) fn find(input: &ExtendInput<'_>) -> Result<Vec<Source>, ExtendError> {
    let mut sources = Vec::new();
    let kind = input.kind.name();
    for extension in &input.group.extensions {
        let name = directory_name(&extension.id);
        // Spec: Platform API 0.13 has one directory for an extension, and contexts.
        let (path, config, context) = if input.platform_api.has_extension_contexts() {
            let own = input.generated.join(name);
            let context = context(&own, kind).unwrap_or_else(|| input.app.clone());
            (own.join(format!("{kind}.Dockerfile")), own.join("extend-config.toml"), context)
        } else {
            let own = input.generated.join(kind).join(name);
            (own.join("Dockerfile"), own.join("extend-config.toml"), input.app.clone())
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(file("read", &path)(error)),
        };
        let config: ExtendConfig = toml_file::read_optional(&config)?.unwrap_or_default();
        let arguments = match input.kind {
            ExtendKind::Build => config.build.args,
            ExtendKind::Run => config.run.args,
        };
        let arguments = arguments.into_iter().map(|argument| (argument.name, argument.value)).collect();
        tracing::debug!("Found {kind} Dockerfile for extension '{}'", extension.id);
        sources.push(Source { extension: extension.id.clone(), path, text, arguments, context });
    }
    Ok(sources)
}

/// The build context that an extension made for this image, or for both.
fn context(own: &Path, kind: &str) -> Option<PathBuf> {
    [own.join(format!("context.{kind}")), own.join("context")].into_iter().find(|path| path.is_dir())
}
