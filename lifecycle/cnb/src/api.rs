//! API versions of the platform and buildpack interfaces, and what each of them allows.
//!
//! This is the only place that compares versions: everything else asks a [`PlatformApi`] or a [`BuildpackApi`]
//! a question by name. Spec: platform.md "Platform API Version" and "Platform API Compatibility", buildpack.md
//! "Buildpack API Version" and "Buildpack API Compatibility".

use std::fmt;

use thiserror::Error;

/// The Platform API versions that the lifecycle supports, oldest first.
pub const SUPPORTED_PLATFORM_APIS: &[&str] =
    &["0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"];

/// The Buildpack API versions that the lifecycle supports, oldest first.
pub const SUPPORTED_BUILDPACK_APIS: &[&str] = &["0.7", "0.8", "0.9", "0.10", "0.11", "0.12"];

/// Why a text is not a usable API version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApiError {
    /// No version was given at all.
    #[error("no {kind} API version is set; set one of {}", supported.join(", "))]
    Missing {
        /// "Platform" or "Buildpack".
        kind: &'static str,
        /// What may be set.
        supported: &'static [&'static str],
    },
    /// The text is not `<major>.<minor>`.
    #[error("'{text}' is not a {kind} API version; it must look like '{}'", supported.last().unwrap_or(&""))]
    Invalid {
        /// "Platform" or "Buildpack".
        kind: &'static str,
        /// The text as given.
        text: String,
        /// What may be set.
        supported: &'static [&'static str],
    },
    /// The version is well formed, but the lifecycle does not implement it.
    #[error(
        "{kind} API version '{text}' is incompatible with the lifecycle, which supports {}",
        supported.join(", ")
    )]
    Unsupported {
        /// "Platform" or "Buildpack".
        kind: &'static str,
        /// The text as given.
        text: String,
        /// What may be set.
        supported: &'static [&'static str],
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// Accepts what the reference does: an optional `v`, digits, and optionally a dot and more digits.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (major, minor) = text.split_once('.').unwrap_or((text, ""));
        Some(Self { major: number(major)?, minor: if minor.is_empty() { 0 } else { number(minor)? } })
    }

    fn at_least(self, minor: u32) -> bool {
        self >= Self { major: 0, minor }
    }
}

/// Digits only: `str::parse` would also take a sign.
fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn parse_supported(
    kind: &'static str,
    supported: &'static [&'static str],
    text: &str,
) -> Result<Version, ApiError> {
    if text.trim().is_empty() {
        return Err(ApiError::Missing { kind, supported });
    }
    let version =
        Version::parse(text).ok_or_else(|| ApiError::Invalid { kind, text: text.to_owned(), supported })?;
    if supported.iter().any(|supported| Version::parse(supported) == Some(version)) {
        Ok(version)
    } else {
        Err(ApiError::Unsupported { kind, text: text.to_owned(), supported })
    }
}

macro_rules! capabilities {
    ($($(#[$meta:meta])* $name:ident: $minor:literal),+ $(,)?) => {
        $($(#[$meta])*
        pub fn $name(self) -> bool {
            self.0.at_least($minor)
        })+
    };
}

/// A Platform API version that the lifecycle supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlatformApi(Version);

impl PlatformApi {
    /// Reads the version a platform asks for (`CNB_PLATFORM_API`).
    ///
    /// # Errors
    ///
    /// When the text is empty, not a version, or a version that is not in [`SUPPORTED_PLATFORM_APIS`].
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        parse_supported("Platform", SUPPORTED_PLATFORM_APIS, text).map(Self)
    }

    /// Reads the version recorded in an app image, which may be older or newer than what is supported: `rebase`
    /// chooses its checks by it.
    ///
    /// # Errors
    ///
    /// When the text is empty or not a version.
    pub fn parse_recorded(text: &str) -> Result<Self, ApiError> {
        let (kind, supported) = ("Platform", SUPPORTED_PLATFORM_APIS);
        if text.is_empty() {
            return Err(ApiError::Missing { kind, supported });
        }
        Version::parse(text).map(Self).ok_or_else(|| ApiError::Invalid {
            kind,
            text: text.to_owned(),
            supported,
        })
    }

    /// The newest supported version.
    pub fn latest() -> Self {
        Self(Version { major: 0, minor: 15 })
    }

    capabilities! {
        /// SBOM layers are restored, exported and cached.
        has_sbom_layers: 8,
        /// The legacy bill of materials is a file in the SBOM layer, not a label and a key of `report.toml`.
        has_legacy_sbom_file: 9,
        /// `SOURCE_DATE_EPOCH` sets the creation time of the exported image.
        has_source_date_epoch: 9,
        /// The analyzer takes `-launch-cache` and `-skip-layers`.
        has_analyzer_launch_cache: 9,
        /// `command` is a list in `metadata.toml` and in the build metadata label.
        has_command_arrays: 10,
        /// Arguments of the user replace the process's `args` rather than being appended to them.
        has_overridable_args: 10,
        /// Image extensions take part in detection and the build image can be extended.
        has_extensions: 10,
        /// The detector reads and updates `analyzed.toml`.
        has_analyzed_in_detector: 10,
        /// The restorer takes `-build-image`.
        has_build_image: 10,
        /// The restorer records a digest reference of the run image in `analyzed.toml`.
        has_run_image_digest_in_restorer: 10,
        /// `-skip-restore` of the creator still restores `store.toml`.
        restores_store_when_skipping: 10,
        /// Operators provide environment variables through `<build-config>/env`.
        has_build_config: 11,
        /// The exporter adds the launcher's own SBOM.
        has_launcher_sbom: 11,
        /// The rebaser takes `-previous-image`.
        has_rebase_previous_image: 11,
        /// Run images are described by `run.toml`; before, by `stack.toml`.
        has_run_toml: 12,
        /// Images are matched by target (os, architecture, distribution); before, by stack.
        has_targets: 12,
        /// The exported image has history entries for the layers of the build.
        has_history: 12,
        /// The run image can be extended.
        has_run_image_extension: 12,
        /// Images can be read from and written to OCI layouts (experimental).
        has_layout: 12,
        /// The rebaser takes `-force`.
        has_force_rebase: 12,
        /// The builder reads `analyzed.toml` for the target.
        has_analyzed_in_builder: 12,
        /// The restorer takes `-daemon`.
        has_daemon_in_restorer: 12,
        /// Registries can be declared insecure.
        has_insecure_registries: 13,
        /// Image extensions are no longer experimental.
        has_stable_extensions: 13,
        /// Image extensions bring build contexts, and their output has the layout `<id>/<kind>.Dockerfile`.
        has_extension_contexts: 13,
        /// The previous cache image is left in the registry when a new one replaces it.
        keeps_previous_cache_image: 13,
        /// The restorer checks the run image again and may choose another mirror.
        rechecks_run_image: 14,
        /// Metadata of layers that are both launch and cache layers come from the cache when the app image lacks them.
        restores_launch_metadata_from_cache: 14,
        /// `system.toml` adds buildpacks before and after every group.
        has_system_toml: 15,
        /// Builds and processes are bound to an execution environment (`CNB_EXEC_ENV`).
        has_exec_env: 15,
    }
}

/// A Buildpack API version that the lifecycle supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BuildpackApi(Version);

impl BuildpackApi {
    /// Reads the version a buildpack or an image extension declares (`api` in its descriptor).
    ///
    /// # Errors
    ///
    /// When the text is empty, not a version, or a version that is not in [`SUPPORTED_BUILDPACK_APIS`].
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        parse_supported("Buildpack", SUPPORTED_BUILDPACK_APIS, text).map(Self)
    }

    /// The newest supported version.
    pub fn latest() -> Self {
        Self(Version { major: 0, minor: 12 })
    }

    capabilities! {
        /// Paths are passed as `CNB_BUILDPACK_DIR`, `CNB_LAYERS_DIR` and so on, beside the positional arguments.
        has_path_variables: 8,
        /// A process may name its working directory.
        has_process_working_directory: 8,
        /// `command` is a list and `direct` is not allowed: processes are always direct.
        has_command_arrays: 9,
        /// `args` are defaults that the user's arguments replace.
        has_overridable_args: 9,
        /// `CNB_TARGET_*` variables describe the target.
        has_target_variables: 10,
        /// Image extensions exist, and `stacks` in `buildpack.toml` give way to `targets`.
        has_targets: 10,
        /// Image extensions may bring build contexts.
        has_extension_contexts: 11,
        /// `exec-env` and `CNB_EXEC_ENV` bind buildpacks and processes to an execution environment.
        has_exec_env: 12,
    }
}

macro_rules! texts {
    ($($name:ident),+) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}.{}", self.0.major, self.0.minor)
            }
        }

        impl std::str::FromStr for $name {
            type Err = ApiError;

            fn from_str(text: &str) -> Result<Self, ApiError> {
                Self::parse(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        })+
    };
}

texts!(PlatformApi, BuildpackApi);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_reference_reads_them() {
        for (text, expected) in [
            ("0.7", Some("0.7")),
            ("v0.10", Some("0.10")),
            ("0.15", Some("0.15")),
            ("0.010", Some("0.10")),
            ("0.6", None),
            ("0.16", None),
            ("1.0", None),
            ("1", None),
            ("", None),
            (" ", None),
            ("0.+9", None),
            ("-0.9", None),
            ("0.9.1", None),
            ("latest", None),
            ("99999999999.1", None),
        ] {
            let parsed = PlatformApi::parse(text).ok().map(|api| api.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn errors_tell_missing_from_malformed_from_unsupported() {
        assert!(matches!(PlatformApi::parse(""), Err(ApiError::Missing { .. })));
        assert!(matches!(PlatformApi::parse("bad"), Err(ApiError::Invalid { .. })));
        assert!(matches!(PlatformApi::parse("9.9"), Err(ApiError::Unsupported { .. })));
        assert_eq!(
            BuildpackApi::parse("0.2").map_err(|error| error.to_string()),
            Err("Buildpack API version '0.2' is incompatible with the lifecycle, \
                 which supports 0.7, 0.8, 0.9, 0.10, 0.11, 0.12"
                .to_owned())
        );
    }

    #[test]
    fn recorded_versions_need_not_be_supported() {
        assert!(PlatformApi::parse_recorded("0.4").is_ok_and(|api| !api.has_targets()));
        assert!(PlatformApi::parse_recorded("1.2").is_ok_and(PlatformApi::has_targets));
        assert!(PlatformApi::parse_recorded("").is_err());
    }

    #[test]
    fn every_listed_version_is_supported_and_the_last_is_the_latest() {
        for text in SUPPORTED_PLATFORM_APIS {
            assert_eq!(PlatformApi::parse(text).map(|api| api.to_string()), Ok((*text).to_owned()));
        }
        for text in SUPPORTED_BUILDPACK_APIS {
            assert_eq!(BuildpackApi::parse(text).map(|api| api.to_string()), Ok((*text).to_owned()));
        }
        assert_eq!(SUPPORTED_PLATFORM_APIS.last(), Some(&PlatformApi::latest().to_string().as_str()));
        assert_eq!(SUPPORTED_BUILDPACK_APIS.last(), Some(&BuildpackApi::latest().to_string().as_str()));
    }

    #[test]
    fn capabilities_begin_with_their_version() {
        let platform = |text: &str| PlatformApi::parse(text).expect("supported");
        assert!(!platform("0.9").has_overridable_args() && platform("0.10").has_overridable_args());
        assert!(!platform("0.14").has_exec_env() && platform("0.15").has_exec_env());
        let buildpack = |text: &str| BuildpackApi::parse(text).expect("supported");
        assert!(!buildpack("0.8").has_command_arrays() && buildpack("0.9").has_command_arrays());
        assert!(!buildpack("0.11").has_exec_env() && buildpack("0.12").has_exec_env());
    }
}
