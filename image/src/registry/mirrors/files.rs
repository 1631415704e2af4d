//! The files of other programs: `registries.conf` of the containers libraries (its version 2), and Docker's `daemon.json`.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Mirror, Mirrors, MirrorsError, Place, Rule, Serves};
use crate::DOCKER_HUB;

#[derive(Deserialize)]
struct RegistriesConf {
    #[serde(default)]
    registry: Vec<RegistryTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RegistryTable {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DaemonJson {
    #[serde(default)]
    registry_mirrors: Vec<String>,
    #[serde(default)]
    insecure_registries: Vec<String>,
}

impl Mirrors {
    /// What this machine's users and administrators have set for the containers libraries and for Docker.
    ///
    /// # Errors
    /// When a file is there, and cannot be read or is not valid.
    pub fn from_environment() -> Result<Self, MirrorsError> {
        Self::from_variables(|name| std::env::var_os(name), Path::new("/etc"))
    }

    /// As [`Mirrors::from_environment`], with variables and a directory in place of `/etc`.
    fn from_variables(variable: impl Fn(&str) -> Option<OsString>, etc: &Path) -> Result<Self, MirrorsError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let configuration = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        let users = configuration.map(|directory| directory.join("containers/registries.conf"));
        let file = set("CONTAINERS_REGISTRIES_CONF")
            .or_else(|| users.filter(|path| path.is_file()))
            .unwrap_or_else(|| etc.join("containers/registries.conf"));
        let mut rules = Vec::new();
        for path in drop_ins(&etc.join("containers/registries.conf.d"))?.into_iter().rev().chain([file]) {
            if let Some(text) = read(&path)? {
                rules.extend(registries_conf(&path, &text)?);
            }
        }
        let path = etc.join("docker/daemon.json");
        let docker = read(&path)?.map_or_else(|| Ok(Vec::new()), |text| daemon_json(&path, &text))?;
        Ok(Self { groups: vec![rules, docker] })
    }
}

/// The files of a directory in their order; none when it is not there.
fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, MirrorsError> {
    let unreadable = |source| MirrorsError::Read { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(unreadable)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(unreadable)?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Option<String>, MirrorsError> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(MirrorsError::Read { path: path.to_owned(), source }),
        Ok(text) => Ok(Some(text)),
    }
}

fn invalid(path: &Path) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> MirrorsError {
    move |source| MirrorsError::Invalid { path: path.to_owned(), source }
}

fn registries_conf(path: &Path, text: &str) -> Result<Vec<Rule>, MirrorsError> {
    let parsed: RegistriesConf = toml::from_str(text).map_err(|error| invalid(path)(error.into()))?;
    parsed.registry.into_iter().map(|table| table.rule(path)).collect()
}

impl RegistryTable {
    fn rule(self, path: &Path) -> Result<Rule, MirrorsError> {
        let prefix = if self.prefix.is_empty() { &self.location } else { &self.prefix };
        if prefix.is_empty() {
            return Err(invalid(path)("a [[registry]] has neither `prefix` nor `location`".into()));
        }
        let mut mirrors = Vec::new();
        for mirror in &self.mirror {
            let serves = match mirror.pull_from_mirror.as_str() {
                "" if self.mirror_by_digest_only => Serves::Digests,
                "" | "all" => Serves::All,
                "digest-only" => Serves::Digests,
                "tag-only" => Serves::Tags,
                other => {
                    return Err(invalid(path)(format!("`pull-from-mirror` cannot be `{other}`").into()));
                }
            };
            mirrors.push(Mirror { place: Place::parse(&mirror.location, mirror.insecure)?, serves });
        }
        // Without a location, what is insecure is the registry of the prefix itself.
        let own = if self.location.is_empty() { prefix } else { &self.location };
        let has_wildcard = own.starts_with('*');
        let location = (!has_wildcard).then(|| Place::parse(own, self.insecure)).transpose()?;
        Ok(Rule { prefix: super::canonical(prefix), location, is_blocked: self.blocked, mirrors })
    }
}

fn daemon_json(path: &Path, text: &str) -> Result<Vec<Rule>, MirrorsError> {
    let parsed: DaemonJson = serde_json::from_str(text).map_err(|error| invalid(path)(error.into()))?;
    let mut rules = Vec::new();
    if !parsed.registry_mirrors.is_empty() {
        let mut mirrors = Vec::new();
        for url in &parsed.registry_mirrors {
            mirrors.push(Mirror { place: Place::parse(url, false)?, serves: Serves::All });
        }
        rules.push(Rule { prefix: DOCKER_HUB.to_owned(), location: None, is_blocked: false, mirrors });
    }
    // Networks (`10.0.0.0/8`) are no hosts; private ones may be plain anyway.
    for host in parsed.insecure_registries.iter().filter(|host| !host.contains('/')) {
        let location = Some(Place::parse(host, true)?);
        rules.push(Rule { prefix: host.clone(), location, is_blocked: false, mirrors: Vec::new() });
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
        unqualified-search-registries = ["docker.io"]
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example/hub"
        [[registry.mirror]]
        location = "digests.example:5000"
        insecure = true
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/team"
        location = "inner.example/our"
        [[registry]]
        prefix = "*.blocked.example"
        blocked = true
        location = "elsewhere.example"
    "#;

    fn places(mirrors: &Mirrors, reference: &str) -> Vec<String> {
        let sources = mirrors.sources(&reference.parse().unwrap());
        sources.mirrors.iter().chain([&sources.origin]).map(ToString::to_string).collect()
    }

    #[test]
    fn files_are_read_in_their_order() {
        let etc = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = etc.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let load = || Mirrors::from_variables(|_| None, etc.path());
        assert_eq!(places(&load().unwrap(), "app"), ["docker.io/library/app"]);
        write("containers/registries.conf", CONF);
        write(
            "docker/daemon.json",
            r#"{"registry-mirrors": ["https://docker.example/"], "insecure-registries": ["plain.example:5000", "10.0.0.0/8"]}"#,
        );
        let mirrors = load().unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        let table = [
            (
                "app:1".to_owned(),
                vec![
                    "mirror.example/hub/library/app:1".to_owned(),
                    "docker.example/library/app:1".to_owned(),
                    "docker.io/library/app:1".to_owned(),
                ],
            ),
            (
                "team/app".to_owned(),
                vec!["docker.example/team/app".to_owned(), "inner.example/our/app".to_owned()],
            ),
            ("plain.example:5000/a".to_owned(), vec!["plain.example:5000/a".to_owned()]),
        ];
        for (reference, expected) in table {
            assert_eq!(places(&mirrors, &reference), expected, "{reference}");
        }
        let by_digest = places(&mirrors, &format!("app@{digest}"));
        assert_eq!(by_digest[1], format!("digests.example:5000/library/app@{digest}"));
        assert_eq!(mirrors.insecure().collect::<Vec<_>>(), ["digests.example:5000", "plain.example:5000"]);
        assert!(mirrors.sources(&"a.blocked.example/x".parse().unwrap()).is_blocked);

        write(
            "containers/registries.conf.d/10.conf",
            "[[registry]]\nlocation = 'docker.io'\n[[registry.mirror]]\nlocation = 'first.example'\n",
        );
        let own = etc.path().join("own.conf");
        std::fs::write(&own, "").unwrap();
        let variable =
            |name: &str| (name == "CONTAINERS_REGISTRIES_CONF").then(|| own.clone().into_os_string());
        let mirrors = Mirrors::from_variables(variable, etc.path()).unwrap();
        assert_eq!(places(&mirrors, "app")[0], "first.example/library/app");
    }

    #[test]
    fn files_that_are_not_valid_are_named() {
        let path = Path::new("/etc/file");
        for text in [
            "[[registry]]\n",
            "registry = 1",
            "[[registry]]\nlocation = 'a b'",
            "[[registry]]\nlocation='a.b'\n[[registry.mirror]]\nlocation='c.d'\npull-from-mirror='never'",
        ] {
            assert!(registries_conf(path, text).is_err(), "{text}");
        }
        let error = daemon_json(path, "{").unwrap_err();
        assert!(error.to_string().contains("/etc/file"));
        assert!(daemon_json(path, r#"{"registry-mirrors": ["mirror"]}"#).is_err());
    }
}
