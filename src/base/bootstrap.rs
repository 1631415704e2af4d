//! A root filesystem out of Debian packages, made by `mmdebstrap`.
//!
//! `mmdebstrap` makes the same archive of the same packages when `SOURCE_DATE_EPOCH` is set: it sorts the entries, caps
//! their times, and removes logs, caches and the machine's identity. What it takes from this machine
//! (`resolv.conf`, `hostname`) is replaced here.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::configuration::{Distribution, Image, Role};

/// What to put into the root filesystem.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BootstrapRequest<'a> {
    /// Which image it is for: a build image has a package manager.
    pub(crate) role: Role,
    /// Where the packages come from.
    pub(crate) distribution: &'a Distribution,
    /// The packages and the user.
    pub(crate) image: &'a Image,
    /// The architecture in OCI's words.
    pub(crate) architecture: &'a str,
    /// Seconds since 1970: no file in the archive is newer.
    pub(crate) epoch: i64,
}

/// Writes the root filesystem to a tar file.
///
/// # Errors
/// When `mmdebstrap` is not installed, or fails; its last lines are in the error.
pub(crate) fn bootstrap(request: &BootstrapRequest<'_>, tar: &Path) -> anyhow::Result<()> {
    let output = Command::new("mmdebstrap")
        .args(arguments(request, tar))
        .env_clear()
        .envs(environment(request.epoch, std::env::vars_os()))
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "`mmdebstrap` is not installed; it makes base images. On Debian and Ubuntu: \
             apt-get install mmdebstrap debian-archive-keyring"
        ),
        output => output.context("cannot start `mmdebstrap`")?,
    };
    let log = String::from_utf8_lossy(&output.stderr);
    for line in log.lines() {
        tracing::debug!("[{}] {line}", request.role.name());
    }
    if !output.status.success() {
        bail!(
            "`mmdebstrap` could not make the {} image ({}); its last lines were:\n{}",
            request.role.name(),
            output.status,
            last_lines(&log, 15)
        );
    }
    Ok(())
}

/// Variables of this machine that `mmdebstrap` and apt need.
const KEPT: [&str; 11] = [
    "HOME",
    "LOGNAME",
    "PATH",
    "TMPDIR",
    "USER",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// The environment of `mmdebstrap`, which the scripts of packages see too: a variable of this machine must not decide what
/// they write. Python's caches of modules are the example: a script that is merely run leaves some with times in them,
/// and whether it does depends on `PYTHONDONTWRITEBYTECODE`; those that packages compile on purpose have no times.
fn environment(
    epoch: i64,
    host: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    let own = [
        ("SOURCE_DATE_EPOCH", epoch.to_string()),
        ("LC_ALL", "C.UTF-8".to_owned()),
        ("TZ", "UTC".to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ("PYTHONHASHSEED", "0".to_owned()),
    ];
    host.filter(|(name, _)| KEPT.iter().any(|kept| name == kept))
        .chain(own.map(|(name, value)| (name.into(), value.into())))
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(count);
    lines.iter().skip(from).map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn arguments(request: &BootstrapRequest<'_>, tar: &Path) -> Vec<OsString> {
    let variant = match request.role {
        Role::Build => "apt",
        Role::Run => "essential",
    };
    let mut arguments: Vec<OsString> = vec![
        format!("--variant={variant}").into(),
        format!("--architectures={}", debian_architecture(request.architecture)).into(),
        // Device nodes: whoever runs the image mounts its own /dev, and only root could unpack them.
        "--skip=output/dev".into(),
        "--format=tar".into(),
        "--aptopt=Acquire::Languages \"none\"".into(),
        "--aptopt=Acquire::Retries \"3\"".into(),
        "--aptopt=APT::Install-Recommends \"false\"".into(),
        format!("--customize-hook={}", customise(request.image)).into(),
    ];
    if !request.distribution.documentation {
        for directory in ["doc", "doc-base", "info", "lintian", "locale", "man"] {
            arguments.push(format!("--dpkgopt=path-exclude=/usr/share/{directory}/*").into());
        }
        arguments.push("--dpkgopt=path-include=/usr/share/doc/*/copyright".into());
    }
    if !request.image.packages.is_empty() {
        arguments.push(format!("--include={}", request.image.packages.join(",")).into());
    }
    arguments.push(request.distribution.suite.clone().into());
    arguments.push(tar.into());
    arguments.extend(request.distribution.sources().into_iter().map(OsString::from));
    arguments
}

/// What the shell does in the finished root filesystem: the group, the user and the home, without the tools for it, which
/// a run image need not have. Names and ids were checked when the configuration was read.
fn customise(image: &Image) -> String {
    let Image { user, group, uid, gid, .. } = image;
    format!(
        r#"set -eu
grep -q '^{group}:' "$1/etc/group" || echo '{group}:x:{gid}:' >> "$1/etc/group"
echo '{user}:x:{uid}:{gid}:Cloud Native Buildpacks:/home/{user}:/bin/sh' >> "$1/etc/passwd"
if [ -e "$1/etc/shadow" ]; then echo '{user}:!*:3650:0:99999:7:::' >> "$1/etc/shadow"; fi
if [ -e "$1/etc/gshadow" ]; then echo '{group}:!::' >> "$1/etc/gshadow"; fi
mkdir -p "$1/home/{user}"
chown {uid}:{gid} "$1/home/{user}"
chmod 0755 "$1/home/{user}"
rm -f "$1/etc/passwd-" "$1/etc/group-" "$1/etc/shadow-" "$1/etc/gshadow-" "$1/etc/resolv.conf"
: > "$1/etc/resolv.conf"
echo localhost > "$1/etc/hostname"
rm -rf "$1/var/cache/ldconfig" "$1/var/lib/apt/lists"/* "$1/var/cache/apt"/*.bin"#
    )
}

/// Debian's name for an architecture of OCI.
fn debian_architecture(architecture: &str) -> &str {
    match architecture {
        "386" => "i386",
        "arm" => "armhf",
        "ppc64le" => "ppc64el",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn image() -> Image {
        Image {
            packages: vec!["curl".to_owned(), "ca-certificates".to_owned()],
            user: "cnb".to_owned(),
            group: "cnb".to_owned(),
            uid: 1002,
            gid: 1000,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn packages_suite_and_sources_reach_mmdebstrap() {
        let (distribution, image) = (Distribution::default(), image());
        let request = BootstrapRequest {
            role: Role::Run,
            distribution: &distribution,
            image: &image,
            architecture: "ppc64le",
            epoch: 1,
        };
        let arguments = arguments(&request, Path::new("/tmp/x.tar"));
        let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
        assert!(has("--variant=essential") && has("--architectures=ppc64el"));
        assert!(has("--include=curl,ca-certificates") && has("--skip=output/dev"));
        let tail: Vec<_> = arguments.iter().rev().take(5).rev().collect();
        assert_eq!(tail[0], "bookworm");
        assert_eq!(tail[1], "/tmp/x.tar");
        assert_eq!(tail[2], "deb http://deb.debian.org/debian bookworm main");
    }

    #[test]
    fn variables_of_this_machine_decide_nothing() {
        let host = |dont_write: &str| {
            [("PATH", "/bin"), ("TZ", "Asia/Tokyo"), ("PYTHONDONTWRITEBYTECODE", dont_write), ("LANG", "de")]
                .map(|(name, value)| (OsString::from(name), OsString::from(value)))
        };
        let seen: Vec<_> = environment(7, host("1").into_iter()).collect();
        assert_eq!(seen, environment(7, host("").into_iter()).collect::<Vec<_>>());
        let value =
            |wanted: &str| seen.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        assert_eq!(value("PATH"), Some("/bin".into()));
        assert_eq!(value("SOURCE_DATE_EPOCH"), Some("7".into()));
        assert_eq!(value("TZ"), Some("UTC".into()));
        assert_eq!(value("LANG"), None);
    }

    #[test]
    fn the_user_is_written_without_tools_of_the_image() {
        let root = tempfile::tempdir().unwrap();
        fs_err::create_dir(root.path().join("etc")).unwrap();
        fs_err::write(root.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs_err::write(root.path().join("etc/group"), "root:x:0:\n").unwrap();
        // The ids of whoever runs the test: an ordinary user cannot give files away.
        let owner = std::os::unix::fs::MetadataExt::uid(&fs_err::metadata(root.path()).unwrap());
        let group = std::os::unix::fs::MetadataExt::gid(&fs_err::metadata(root.path()).unwrap());
        let script = customise(&Image { uid: owner, gid: group, ..image() });
        let status = Command::new("sh").args(["-c", &script, "exec"]).arg(root.path()).status().unwrap();
        assert!(status.success());
        let passwd = fs_err::read_to_string(root.path().join("etc/passwd")).unwrap();
        assert!(
            passwd.ends_with(&format!("cnb:x:{owner}:{group}:Cloud Native Buildpacks:/home/cnb:/bin/sh\n"))
        );
        assert_eq!(fs_err::read_to_string(root.path().join("etc/hostname")).unwrap(), "localhost\n");
        assert!(root.path().join("home/cnb").is_dir());
    }
}
