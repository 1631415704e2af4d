//! The files that an image extension leaves behind.
//!
//! Spec: image_extension.md "Phase: Generation" and "extend-config.toml (TOML)".

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use longshore_cnb::extend_config::ExtendConfig;
use longshore_cnb::group::GroupElement;
use longshore_cnb::toml_file;

use super::dockerfile::{Dockerfile, DockerfileKind};
use super::error::GenerateError;

/// Build arguments that the lifecycle provides.
const OWN_ARGUMENTS: [&str; 3] = ["build_id", "user_id", "group_id"];

/// The build contexts of one image.
const SPECIFIC_CONTEXTS: [&str; 2] = ["context.build", "context.run"];

/// A Dockerfile that an image extension wrote.
#[derive(Debug)]
pub(super) struct Generated {
    pub(super) extension_id: String,
    pub(super) kind: DockerfileKind,
    pub(super) path: PathBuf,
    pub(super) dockerfile: Dockerfile,
}

/// Reads and checks the files in the output directory of an extension.
pub(super) fn read(element: &GroupElement, directory: &Path) -> Result<Vec<Generated>, GenerateError> {
    check_config(&directory.join("extend-config.toml"))?;
    check_contexts(element, directory)?;
    let mut generated = Vec::new();
    for kind in [DockerfileKind::Run, DockerfileKind::Build] {
        let path = directory.join(kind.file_name());
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(GenerateError::io("read", &path, error)),
        };
        let dockerfile = Dockerfile::parse(kind, &text).map_err(|source| GenerateError::Dockerfile {
            extension: element.to_string(),
            path: path.clone(),
            source,
        })?;
        for (line, name) in &dockerfile.discouraged {
            tracing::warn!(
                "{} of {element}: {name} on line {line} is not recommended in image extensions",
                kind.file_name()
            );
        }
        generated.push(Generated { extension_id: element.id.clone(), kind, path, dockerfile });
    }
    Ok(generated)
}

fn check_config(path: &Path) -> Result<(), GenerateError> {
    let config: ExtendConfig = toml_file::read_optional(path)?.unwrap_or_default();
    let own = config
        .build
        .args
        .into_iter()
        .chain(config.run.args)
        .find(|argument| OWN_ARGUMENTS.contains(&argument.name.as_str()));
    match own {
        Some(argument) => Err(GenerateError::Argument { path: path.to_owned(), name: argument.name }),
        None => Ok(()),
    }
}

fn check_contexts(element: &GroupElement, directory: &Path) -> Result<(), GenerateError> {
    if !directory.join("context").is_dir() {
        return Ok(());
    }
    match SPECIFIC_CONTEXTS.into_iter().find(|context| directory.join(context).is_dir()) {
        Some(specific) => Err(GenerateError::Contexts { extension: element.to_string(), specific }),
        None => Ok(()),
    }
}
