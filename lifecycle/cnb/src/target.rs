//! Targets: the operating system, architecture and distribution of a base image, and what buildpacks support.
//!
//! Spec: platform.md "Target Data", buildpack.md "buildpack.toml (TOML)" "Targets".

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// An operating system distribution: `$ID` and `$VERSION_ID` of `/etc/os-release`. Empty fields are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Distribution {
    /// For example `ubuntu`.
    #[serde(default)]
    pub name: String,
    /// For example `24.04`.
    #[serde(default)]
    pub version: String,
}

/// What a base image is: the target that an app is built for. Empty fields are unknown.
///
/// Written with the variant under both `variant` (the spec's key) and `arch-variant` (the reference lifecycle's), so
/// that phases of either kind can read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
pub struct Target {
    /// The target ID of the run image (`io.buildpacks.base.id`).
    #[serde(default)]
    pub id: String,
    /// For example `linux`.
    #[serde(default)]
    pub os: String,
    /// For example `amd64`.
    #[serde(default)]
    pub arch: String,
    /// For example `v8`.
    #[serde(default, rename = "variant")]
    spec_variant: String,
    #[serde(default, rename = "arch-variant")]
    reference_variant: String,
    /// The distribution, when it is known.
    #[serde(default)]
    pub distro: Option<Distribution>,
}

impl Target {
    /// A target of an operating system and an architecture; an empty variant is an unknown one.
    pub fn new(os: impl Into<String>, arch: impl Into<String>, variant: impl Into<String>) -> Self {
        Self { os: os.into(), arch: arch.into(), spec_variant: variant.into(), ..Self::default() }
    }

    /// The same target with a distribution.
    #[must_use]
    pub fn with_distribution(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.distro = Some(Distribution { name: name.into(), version: version.into() });
        self
    }

    /// The variant of the architecture; empty when unknown.
    pub fn variant(&self) -> &str {
        if self.spec_variant.is_empty() { &self.reference_variant } else { &self.spec_variant }
    }

    /// The name of the distribution; empty when unknown.
    pub fn distribution_name(&self) -> &str {
        self.distro.as_ref().map_or("", |distro| &distro.name)
    }

    /// The version of the distribution; empty when unknown.
    pub fn distribution_version(&self) -> &str {
        self.distro.as_ref().map_or("", |distro| &distro.version)
    }

    /// The `CNB_TARGET_*` variables that describe this target to `bin/detect`, `bin/generate` and `bin/build`.
    ///
    /// Spec: buildpack.md "Environment" "Targets".
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("CNB_TARGET_OS", self.os.clone()), ("CNB_TARGET_ARCH", self.arch.clone())];
        let optional = [
            ("CNB_TARGET_ARCH_VARIANT", self.variant()),
            ("CNB_TARGET_DISTRO_NAME", self.distribution_name()),
            ("CNB_TARGET_DISTRO_VERSION", self.distribution_version()),
        ];
        variables.extend(
            optional
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name, value.to_owned())),
        );
        variables
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Target", 6)?;
        let mut field = |name: &'static str, value: &str| {
            if value.is_empty() { fields.skip_field(name) } else { fields.serialize_field(name, value) }
        };
        field("id", &self.id)?;
        field("os", &self.os)?;
        field("arch", &self.arch)?;
        field("arch-variant", self.variant())?;
        field("variant", self.variant())?;
        if let Some(distro) = &self.distro {
            fields.serialize_field("distro", distro)?;
        }
        fields.end()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        platform(formatter, &self.os, &self.arch, self.variant())?;
        match &self.distro {
            Some(distro) => write!(formatter, " {distro}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", or_any(&self.name), or_any(&self.version))
    }
}

fn or_any(text: &str) -> &str {
    if text.is_empty() { "*" } else { text }
}

fn platform(formatter: &mut fmt::Formatter<'_>, os: &str, arch: &str, variant: &str) -> fmt::Result {
    write!(formatter, "{}/{}", or_any(os), or_any(arch))?;
    if variant.is_empty() { Ok(()) } else { write!(formatter, "/{variant}") }
}

/// One entry of `[[targets]]` in a `buildpack.toml` or `extension.toml`: what a module supports. Empty fields match
/// anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct SupportedTarget {
    /// For example `linux`.
    #[serde(default)]
    pub os: String,
    /// For example `amd64`.
    #[serde(default)]
    pub arch: String,
    /// The spec's key for the variant.
    #[serde(default)]
    pub variant: String,
    /// The reference lifecycle's key for the variant.
    #[serde(default, rename = "arch-variant")]
    pub reference_variant: String,
    /// Supported distributions; empty means all of them.
    #[serde(default)]
    pub distros: Vec<Distribution>,
}

impl SupportedTarget {
    /// Whether a base image with `target` is supported.
    ///
    /// What either side leaves open matches, except that a module which names distributions needs an image whose
    /// distribution is known.
    pub fn supports(&self, target: &Target) -> bool {
        matches(&self.os, &target.os)
            && matches(&self.arch, &target.arch)
            && matches(self.variant(), target.variant())
            && (self.distros.is_empty()
                || target.distro.as_ref().is_some_and(|image| {
                    self.distros.iter().any(|distro| {
                        matches(&distro.name, &image.name) && matches(&distro.version, &image.version)
                    })
                }))
    }

    /// The variant of the architecture; empty when any will do.
    pub fn variant(&self) -> &str {
        if self.variant.is_empty() { &self.reference_variant } else { &self.variant }
    }
}

impl fmt::Display for SupportedTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        platform(formatter, &self.os, &self.arch, self.variant())?;
        for (index, distro) in self.distros.iter().enumerate() {
            write!(formatter, "{}{distro}", if index == 0 { " " } else { " or " })?;
        }
        Ok(())
    }
}

fn matches(supported: &str, actual: &str) -> bool {
    supported.is_empty() || actual.is_empty() || supported == actual
}

/// Reads the distribution out of the contents of `/etc/os-release`.
pub fn distribution_from_os_release(contents: &str) -> Option<Distribution> {
    let mut distribution = Distribution::default();
    for line in contents.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim_matches(|character| matches!(character, '"' | '\'' | ' '));
        match key.trim() {
            "ID" => value.clone_into(&mut distribution.name),
            "VERSION_ID" => value.clone_into(&mut distribution.version),
            _ => {}
        }
    }
    (distribution != Distribution::default()).then_some(distribution)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supported(os: &str, arch: &str, variant: &str, distros: &[(&str, &str)]) -> SupportedTarget {
        SupportedTarget {
            os: os.to_owned(),
            arch: arch.to_owned(),
            variant: variant.to_owned(),
            distros: distros
                .iter()
                .map(|(name, version)| Distribution { name: (*name).into(), version: (*version).into() })
                .collect(),
            ..SupportedTarget::default()
        }
    }

    #[test]
    fn what_either_side_leaves_open_matches() {
        let plain = Target::new("linux", "amd64", "");
        let noble = plain.clone().with_distribution("ubuntu", "24.04");
        let arm = Target::new("linux", "arm64", "v8");
        let cases: &[(SupportedTarget, &Target, bool)] = &[
            (supported("", "", "", &[]), &plain, true),
            (supported("linux", "", "", &[]), &plain, true),
            (supported("linux", "amd64", "", &[]), &plain, true),
            (supported("windows", "", "", &[]), &plain, false),
            (supported("linux", "arm64", "", &[]), &plain, false),
            (supported("linux", "amd64", "v2", &[]), &plain, true),
            (supported("linux", "arm64", "v8", &[]), &arm, true),
            (supported("linux", "arm64", "v7", &[]), &arm, false),
            (supported("linux", "amd64", "", &[("ubuntu", "24.04")]), &noble, true),
            (supported("linux", "amd64", "", &[("ubuntu", "")]), &noble, true),
            (supported("linux", "amd64", "", &[("", "24.04")]), &noble, true),
            (supported("linux", "amd64", "", &[("debian", "12"), ("ubuntu", "24.04")]), &noble, true),
            (supported("linux", "amd64", "", &[("ubuntu", "22.04")]), &noble, false),
            (supported("linux", "amd64", "", &[("ubuntu", "24.04")]), &plain, false),
        ];
        for (module, image, expected) in cases {
            assert_eq!(module.supports(image), *expected, "{module} against {image}");
        }
    }

    #[test]
    fn the_variant_is_read_and_written_under_both_keys() {
        for text in ["os = 'linux'\narch = 'arm64'\nvariant = 'v8'", "arch-variant = 'v8'"] {
            let target: Target = toml::from_str(text).expect("valid");
            assert_eq!(target.variant(), "v8");
        }
        let text = toml::to_string(&Target::new("linux", "arm64", "v8")).expect("serializable");
        assert_eq!(text, "os = \"linux\"\narch = \"arm64\"\narch-variant = \"v8\"\nvariant = \"v8\"\n");
    }

    #[test]
    fn variables_leave_out_what_is_unknown() {
        let names = |target: &Target| target.variables().iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(&Target::new("linux", "amd64", "")), ["CNB_TARGET_OS", "CNB_TARGET_ARCH"]);
        assert_eq!(
            names(&Target::new("linux", "arm64", "v8").with_distribution("debian", "12")),
            [
                "CNB_TARGET_OS",
                "CNB_TARGET_ARCH",
                "CNB_TARGET_ARCH_VARIANT",
                "CNB_TARGET_DISTRO_NAME",
                "CNB_TARGET_DISTRO_VERSION"
            ]
        );
    }

    #[test]
    fn the_distribution_comes_from_os_release() {
        let cases = [
            ("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n", Some(("ubuntu", "24.04"))),
            ("ID='alpine'\nVERSION_ID=3.20.1", Some(("alpine", "3.20.1"))),
            ("ID=arch\n", Some(("arch", ""))),
            ("# nothing\n", None),
            ("", None),
        ];
        for (contents, expected) in cases {
            let expected =
                expected.map(|(name, version)| Distribution { name: name.into(), version: version.into() });
            assert_eq!(distribution_from_os_release(contents), expected, "{contents:?}");
        }
    }
}
