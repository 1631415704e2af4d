//! The directories in which buildpacks and image extensions lie.
//!
//! Spec: platform.md "Buildpacks Directory Layout" and "Image Extensions Directory Layout".

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use longshore_cnb::buildpack_toml::{Descriptor, DescriptorError};
use longshore_cnb::group::{ModuleKind, directory_name};
use longshore_cnb::target::SupportedTarget;
use thiserror::Error;

use crate::ExitCode;

/// The directories of buildpacks and image extensions: `<directory>/<id>/<version>/`.
#[derive(Debug, Clone)]
pub struct ModuleStore {
    /// The directory of the buildpacks.
    pub buildpacks: PathBuf,
    /// The directory of the image extensions.
    pub extensions: PathBuf,
}

/// A buildpack or an image extension on disk.
#[derive(Debug, Clone)]
pub struct Module {
    /// What it says about itself, with its targets inferred when it names none.
    pub descriptor: Descriptor,
    /// Its root directory, which has `bin/`.
    pub root: PathBuf,
}

/// Why a module cannot be used.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// There is no such module.
    #[error("there is no {kind} {id}@{version}: {} does not exist", path.display())]
    Missing {
        /// What was looked for.
        kind: ModuleKind,
        /// Its ID.
        id: String,
        /// Its version.
        version: String,
        /// Where its descriptor would be.
        path: PathBuf,
    },
    /// The reference cannot be a path.
    #[error("the order names the {kind} '{id}' with the version '{version}', which cannot be one")]
    Version {
        /// What was looked for.
        kind: ModuleKind,
        /// Its ID.
        id: String,
        /// Its version.
        version: String,
    },
    /// Its descriptor cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The descriptor.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its descriptor is not valid.
    #[error("cannot use {}", path.display())]
    Descriptor {
        /// The descriptor.
        path: PathBuf,
        /// Why.
        source: DescriptorError,
    },
}

impl ModuleError {
    /// The exit code for it, where `other` is the one for what has no code of its own.
    pub fn exit_code_or(&self, other: ExitCode) -> ExitCode {
        match self {
            Self::Descriptor { source: DescriptorError::Api { .. }, .. } => {
                ExitCode::IncompatibleBuildpackApi
            }
            _ => other,
        }
    }
}

impl ModuleStore {
    /// Reads the module of that kind, ID and version.
    ///
    /// # Errors
    ///
    /// When it does not exist, or its descriptor is unreadable, invalid or of an unsupported API.
    pub fn module(&self, kind: ModuleKind, id: &str, version: &str) -> Result<Module, ModuleError> {
        let (directory, file) = match kind {
            ModuleKind::Buildpack => (&self.buildpacks, "buildpack.toml"),
            ModuleKind::Extension => (&self.extensions, "extension.toml"),
        };
        if version.is_empty() || version.contains('/') || matches!(version, "." | "..") {
            return Err(ModuleError::Version { kind, id: id.to_owned(), version: version.to_owned() });
        }
        let root = directory.join(directory_name(id)).join(version);
        let path = root.join(file);
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let (id, version) = (id.to_owned(), version.to_owned());
                return Err(ModuleError::Missing { kind, id, version, path });
            }
            Err(source) => return Err(ModuleError::Read { path, source }),
        };
        let mut descriptor = Descriptor::parse(kind, &text)
            .map_err(|source| ModuleError::Descriptor { path: path.clone(), source })?;
        if descriptor.targets.is_empty() {
            descriptor.targets = inferred_targets(kind, &root);
        }
        let root = std::path::absolute(&root).map_err(|source| ModuleError::Read { path, source })?;
        Ok(Module { descriptor, root })
    }
}

/// A module that declares no target supports the system that its executables are for.
///
/// Spec: buildpack.md "Targets".
fn inferred_targets(kind: ModuleKind, root: &Path) -> Vec<SupportedTarget> {
    let executables: &[&str] = match kind {
        ModuleKind::Buildpack => &["build"],
        ModuleKind::Extension => &["detect", "generate"],
    };
    if executables.iter().any(|name| root.join("bin").join(name).exists()) {
        vec![SupportedTarget { os: "linux".to_owned(), ..SupportedTarget::default() }]
    } else {
        Vec::new()
    }
}
