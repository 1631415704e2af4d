//! `base.toml`: which distribution, packages, users and labels a pair of base images has.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BaseConfiguration {
    /// The target ID: the label `io.buildpacks.base.id`.
    pub(crate) id: Option<String>,
    /// The label `io.buildpacks.base.description`.
    pub(crate) description: Option<String>,
    /// The label `io.buildpacks.base.maintainer`.
    pub(crate) maintainer: Option<String>,
    /// The label `io.buildpacks.base.homepage`.
    pub(crate) homepage: Option<String>,
    /// The label `io.buildpacks.base.released`.
    pub(crate) released: Option<String>,
    /// The architecture in OCI's words (`amd64`, `arm64`); that of this machine where it is left out.
    pub(crate) architecture: Option<String>,
    /// Where the packages come from.
    #[serde(default)]
    pub(crate) distribution: Distribution,
    /// The image that builds run in.
    pub(crate) build: Image,
    /// The image that apps run on.
    pub(crate) run: Image,
}

/// Where the packages come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Distribution {
    /// The release: `bookworm`, `trixie`, `sid`, ...
    pub(crate) suite: String,
    /// The package archive.
    pub(crate) mirror: String,
    /// The archive of security updates; empty for none.
    pub(crate) security_mirror: String,
    /// The components of the archive.
    pub(crate) components: Vec<String>,
    /// Whether manuals, documentation and translations are kept. Licences always are.
    pub(crate) documentation: bool,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            suite: "bookworm".to_owned(),
            mirror: "http://deb.debian.org/debian".to_owned(),
            security_mirror: "http://deb.debian.org/debian-security".to_owned(),
            components: vec!["main".to_owned()],
            documentation: false,
        }
    }
}

impl Distribution {
    /// The lines of `sources.list`. Only stable releases have updates and security updates.
    pub(crate) fn sources(&self) -> Vec<String> {
        let components = self.components.join(" ");
        let rolling = matches!(self.suite.as_str(), "sid" | "unstable" | "experimental");
        let mut lines = vec![format!("deb {} {} {components}", self.mirror, self.suite)];
        if !rolling {
            lines.push(format!("deb {} {}-updates {components}", self.mirror, self.suite));
            if !self.security_mirror.is_empty() {
                lines.push(format!("deb {} {}-security {components}", self.security_mirror, self.suite));
            }
        }
        lines
    }
}

/// One of the two images.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Image {
    /// Packages besides the essential ones.
    #[serde(default)]
    pub(crate) packages: Vec<String>,
    /// The user's name.
    #[serde(default = "default_user")]
    pub(crate) user: String,
    /// The user's group.
    #[serde(default = "default_user")]
    pub(crate) group: String,
    /// The user's id.
    pub(crate) uid: u32,
    /// The group's id.
    #[serde(default = "default_gid")]
    pub(crate) gid: u32,
    /// Environment variables of the image.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Labels besides those of the specification.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

fn default_user() -> String {
    "cnb".to_owned()
}

const fn default_gid() -> u32 {
    1000
}

/// Which of the two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The image that builds run in.
    Build,
    /// The image that apps run on.
    Run,
}

impl Role {
    /// `build` or `run`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Run => "run",
        }
    }
}

impl BaseConfiguration {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or says something that cannot be.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs_err::read_to_string(path)?;
        Self::parse(&text).with_context(|| format!("`{}` is not a valid base configuration", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let configuration: Self = toml::from_str(text)?;
        configuration.check()?;
        Ok(configuration)
    }

    /// The image of a role.
    pub(crate) const fn image(&self, role: Role) -> &Image {
        match role {
            Role::Build => &self.build,
            Role::Run => &self.run,
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        if let Some(id) = &self.id {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-');
            ensure!(
                !id.is_empty() && id.chars().all(allowed),
                "`id = \"{id}\"` may have letters, digits, `.`, `/` and `-`"
            );
        }
        ensure!(
            self.build.uid != self.run.uid,
            "`build.uid` and `run.uid` are both {}; they must differ, so that an app cannot write what the build made",
            self.build.uid
        );
        let words = [&self.distribution.suite, &self.distribution.mirror, &self.distribution.security_mirror];
        for word in words.into_iter().chain(&self.distribution.components) {
            ensure!(!word.contains(char::is_whitespace), "`{word}` in `[distribution]` has a space in it");
        }
        for role in [Role::Build, Role::Run] {
            self.image(role).check().with_context(|| format!("in `[{}]`", role.name()))?;
        }
        Ok(())
    }
}

impl Image {
    fn check(&self) -> anyhow::Result<()> {
        for name in [&self.user, &self.group] {
            let mut characters = name.chars();
            let begins = characters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
            let rest =
                characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'));
            ensure!(
                begins && rest && name.len() <= 32,
                "`{name}` is not a name for a user or group: lower-case letters, digits, `_` and `-`, at most 32"
            );
        }
        ensure!(
            (1..=60_000).contains(&self.uid) && (1..=60_000).contains(&self.gid),
            "`uid = {}` and `gid = {}` must be from 1 to 60000: the specification forbids root",
            self.uid,
            self.gid
        );
        for package in &self.packages {
            let allowed =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | ':' | '=' | '~' | '/');
            ensure!(
                !package.is_empty() && !package.starts_with('-') && package.chars().all(allowed),
                "`{package}` is not the name of a Debian package"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[build]\nuid = 1001\npackages = [\"g++\"]\n[run]\nuid = 1002\n";

    #[test]
    fn most_of_the_file_has_defaults() {
        let base = BaseConfiguration::parse(SMALL).unwrap();
        assert_eq!(base.build.gid, 1000);
        assert_eq!(base.run.user, "cnb");
        assert_eq!(
            base.distribution.sources(),
            [
                "deb http://deb.debian.org/debian bookworm main",
                "deb http://deb.debian.org/debian bookworm-updates main",
                "deb http://deb.debian.org/debian-security bookworm-security main",
            ]
        );
    }

    #[test]
    fn unstable_has_no_updates() {
        let base = BaseConfiguration::parse(&format!("{SMALL}[distribution]\nsuite = \"sid\"\n")).unwrap();
        assert_eq!(base.distribution.sources(), ["deb http://deb.debian.org/debian sid main"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        for (text, reason) in [
            ("[build]\nuid = 1000\n[run]\nuid = 1000\n", "they must differ"),
            ("[build]\nuid = 0\n[run]\nuid = 1000\n", "forbids root"),
            ("[build]\nuid = 1\nuser = \"a b\"\n[run]\nuid = 2\n", "`a b` is not a name"),
            ("[build]\nuid = 1\npackages = [\"--x\"]\n[run]\nuid = 2\n", "`--x` is not the name"),
            ("[build]\nuid = 1\npakages = []\n[run]\nuid = 2\n", "pakages"),
            ("id = \"a b\"\n[build]\nuid = 1\n[run]\nuid = 2\n", "may have letters"),
            ("[build]\nuid = 1\n", "run"),
        ] {
            let error = BaseConfiguration::parse(text).unwrap_err();
            assert!(format!("{error:#}").contains(reason), "{text}: {error:#}");
        }
    }
}
