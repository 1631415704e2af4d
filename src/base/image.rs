//! The configuration of a base image (platform spec, "Build Image", "Run Image" and "Target Data").

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use longshore_cnb::target::{Distribution, distribution_from_os_release};
use longshore_image::{Config, Platform};

use super::configuration::{BaseConfiguration, Role};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of one of the images.
pub(crate) fn config(
    base: &BaseConfiguration,
    role: Role,
    platform: &Platform,
    distribution: Option<&Distribution>,
) -> Config {
    let image = base.image(role);
    let mut config = Config::new(platform);
    config.set_env("PATH", PATH);
    if role == Role::Build {
        config.set_env("CNB_USER_ID", &image.uid.to_string());
        config.set_env("CNB_GROUP_ID", &image.gid.to_string());
    }
    for (name, value) in &image.env {
        config.set_env(name, value);
    }
    config.set_user(&format!("{}:{}", image.uid, image.gid));
    let labels = [
        ("id", base.id.as_ref()),
        ("description", base.description.as_ref()),
        ("maintainer", base.maintainer.as_ref()),
        ("homepage", base.homepage.as_ref()),
        ("released", base.released.as_ref()),
        ("distro.name", distribution.map(|distribution| &distribution.name)),
        ("distro.version", distribution.map(|distribution| &distribution.version)),
    ];
    for (name, value) in labels {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            config.set_label(&format!("io.buildpacks.base.{name}"), value);
        }
    }
    if role == Role::Run {
        config.set_label("io.buildpacks.rebasable", "true");
    }
    for (name, value) in &image.labels {
        config.set_label(name, value);
    }
    config
}

/// The distribution that `etc/os-release` in a root filesystem's tar names.
///
/// # Errors
/// When the tar cannot be read.
pub(crate) fn distribution(tar: &Path) -> anyhow::Result<Option<Distribution>> {
    let mut archive = tar::Archive::new(std::io::BufReader::new(File::open(tar)?));
    for entry in archive.entries().context("cannot read the root filesystem")? {
        let mut entry = entry.context("cannot read the root filesystem")?;
        let path = entry.path()?.into_owned();
        let is_os_release = ["etc/os-release", "usr/lib/os-release"].iter().any(|name| path.ends_with(name));
        if is_os_release && entry.header().entry_type().is_file() {
            let mut text = String::new();
            entry.read_to_string(&mut text).context("cannot read `os-release`")?;
            return Ok(distribution_from_os_release(&text));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_is_met() {
        let base: BaseConfiguration = toml::from_str(
            "id = \"io.example.x\"\ndescription = \"d\"\n[build]\nuid = 1001\nenv = { LANG = \"C.UTF-8\" }\n\
             [run]\nuid = 1002\nlabels = { team = \"a\" }\n",
        )
        .unwrap();
        let debian = Distribution { name: "debian".to_owned(), version: "12".to_owned() };
        let platform = Platform::linux("arm64");
        let build = config(&base, Role::Build, &platform, Some(&debian));
        assert_eq!(build.user(), "1001:1000");
        assert_eq!(build.env_value("CNB_USER_ID").as_deref(), Some("1001"));
        assert_eq!(build.env_value("CNB_GROUP_ID").as_deref(), Some("1000"));
        assert_eq!(build.env_value("LANG").as_deref(), Some("C.UTF-8"));
        assert!(build.env_value("PATH").is_some());
        assert_eq!((build.os(), build.architecture()), ("linux", "arm64"));
        assert_eq!(build.label("io.buildpacks.base.distro.name"), Some("debian"));
        assert_eq!(build.label("io.buildpacks.base.distro.version"), Some("12"));
        let run = config(&base, Role::Run, &platform, Some(&debian));
        assert_eq!(run.user(), "1002:1000");
        assert_eq!(run.env_value("CNB_USER_ID"), None);
        assert_eq!(run.label("io.buildpacks.base.id"), Some("io.example.x"));
        assert_eq!(run.label("io.buildpacks.rebasable"), Some("true"));
        assert_eq!(run.label("team"), Some("a"));
    }
}
