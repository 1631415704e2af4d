//! Reading and writing the TOML files that phases, buildpacks and platforms exchange.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// Why a TOML file could not be read or written.
#[derive(Debug, Error)]
pub enum TomlFileError {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or a key has a value of the wrong type, or a required key is missing.
    #[error("{} is not valid", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Reads a TOML file that must exist.
///
/// # Errors
///
/// When the file cannot be read or is not a valid `T`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, TomlFileError> {
    let bytes =
        std::fs::read(path).map_err(|source| TomlFileError::Read { path: path.to_owned(), source })?;
    parse(path, &bytes)
}

/// Reads a TOML file that need not exist.
///
/// # Errors
///
/// When the file exists and cannot be read or is not a valid `T`.
pub fn read_optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, TomlFileError> {
    match std::fs::read(path) {
        Ok(bytes) => parse(path, &bytes).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TomlFileError::Read { path: path.to_owned(), source }),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, TomlFileError> {
    toml::from_slice(bytes)
        .map_err(|source| TomlFileError::Parse { path: path.to_owned(), source: Box::new(source) })
}

/// Writes a document, and the directories above it when they are missing.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(path: &Path, document: &str) -> Result<(), TomlFileError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|source| TomlFileError::Write { path: parent.to_owned(), source })?;
    }
    std::fs::write(path, document).map_err(|source| TomlFileError::Write { path: path.to_owned(), source })
}
