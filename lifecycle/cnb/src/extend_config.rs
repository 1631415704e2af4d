//! `extend-config.toml`: the arguments that an image extension gives to its Dockerfiles.
//!
//! Spec: image_extension.md "extend-config.toml (TOML)".

use serde::Deserialize;

/// The contents of `<output>/extend-config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ExtendConfig {
    /// For `build.Dockerfile`.
    pub build: Arguments,
    /// For `run.Dockerfile`.
    pub run: Arguments,
}

/// The build arguments of a Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Arguments {
    /// In the order of the file.
    pub args: Vec<Argument>,
}

/// A build argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Argument {
    /// The name of its `ARG`.
    pub name: String,
    /// What it is set to.
    pub value: String,
}
