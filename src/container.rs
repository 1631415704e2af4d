//! Containers of app images: what an image's configuration and the user's options make of a sandbox.

mod environment;
mod user;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::bail;
use longshore_image::Config;
use longshore_sandbox::{Capabilities, Network, SandboxSpec, host_network_mounts};

pub(crate) use environment::{Assignment, read_environment_file};
pub(crate) use user::{User, find_user};

/// Where programs are when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the user asks for beyond the image.
#[derive(Debug, Default)]
pub(crate) struct ContainerOptions {
    /// The process type that is started instead of the default one.
    pub(crate) process: Option<String>,
    /// Variables on top of the image's.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Arguments in place of the image's.
    pub(crate) arguments: Vec<OsString>,
    /// Whether the container has no network.
    pub(crate) isolated: bool,
}

/// The sandbox for an image that was unpacked into `layers`.
///
/// # Errors
/// When the image has nothing to start.
pub(crate) fn sandbox_of(
    config: &Config,
    user: &User,
    layers: Vec<PathBuf>,
    scratch: &Path,
    options: ContainerOptions,
) -> anyhow::Result<SandboxSpec> {
    let mut spec = SandboxSpec::new(layers, scratch, command(config, &options)?);
    spec.working_directory = match config.working_dir() {
        "" => PathBuf::from("/"),
        directory => PathBuf::from(directory),
    };
    (spec.uid, spec.gid) = (user.uid, user.gid);
    spec.capabilities = Capabilities::Container;
    spec.network = if options.isolated { Network::None } else { Network::Host };
    if !options.isolated {
        spec.mounts = host_network_mounts();
    }
    spec.environment = variables(config, user, &spec.hostname, options.environment);
    Ok(spec)
}

/// The entrypoint and its arguments: those of the user replace `Cmd`, and a process type the entrypoint (platform
/// specification, "Launch": `/cnb/process/<type>`).
fn command(config: &Config, options: &ContainerOptions) -> anyhow::Result<Vec<OsString>> {
    let mut command: Vec<OsString> = match &options.process {
        Some(process) => vec![format!("/cnb/process/{process}").into()],
        None => config.entrypoint().into_iter().map(OsString::from).collect(),
    };
    if !options.arguments.is_empty() {
        command.extend(options.arguments.iter().cloned());
    } else if options.process.is_none() {
        command.extend(config.cmd().into_iter().map(OsString::from));
    }
    if command.is_empty() {
        bail!("the image has no entrypoint and no command; give one after `--`");
    }
    Ok(command)
}

/// What container engines set, then the image's variables, then the user's.
fn variables(
    config: &Config,
    user: &User,
    hostname: &str,
    options: Vec<(OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = vec![
        ("PATH".into(), DEFAULT_PATH.into()),
        ("HOME".into(), user.home.clone().into_os_string()),
        ("HOSTNAME".into(), hostname.into()),
    ];
    let image = config.env().into_iter().map(|(name, value)| (name.into(), value.into()));
    for (name, value) in image.chain(options) {
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some(variable) => variable.1 = value,
            None => variables.push((name, value)),
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        let json = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{json},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        Config::parse(json).unwrap()
    }

    #[test]
    fn commands() {
        let app = r#"{"Entrypoint":["/cnb/process/web"],"Cmd":["a"]}"#;
        let check = |json: &str, process: Option<&str>, arguments: &[&str], expected: &[&str]| {
            let options = ContainerOptions {
                process: process.map(str::to_owned),
                arguments: arguments.iter().map(OsString::from).collect(),
                ..ContainerOptions::default()
            };
            assert_eq!(
                command(&config(json), &options).unwrap(),
                expected,
                "{json} {process:?} {arguments:?}"
            );
        };
        check(app, None, &[], &["/cnb/process/web", "a"]);
        check(app, None, &["b", "c"], &["/cnb/process/web", "b", "c"]);
        check(app, Some("worker"), &[], &["/cnb/process/worker"]);
        check(app, Some("worker"), &["b"], &["/cnb/process/worker", "b"]);
        check(r#"{"Cmd":["sh"]}"#, None, &[], &["sh"]);
        assert!(command(&config("{}"), &ContainerOptions::default()).is_err());
    }

    #[test]
    fn later_variables_win() {
        let user = User { uid: 1, gid: 1, home: "/home/app".into() };
        let config = config(r#"{"Env":["PATH=/cnb/bin","A=1"]}"#);
        let options = vec![("A".into(), "2".into()), ("HOME".into(), "/x".into())];
        let expected = [("PATH", "/cnb/bin"), ("HOME", "/x"), ("HOSTNAME", "h"), ("A", "2")];
        let expected: Vec<(OsString, OsString)> =
            expected.iter().map(|(name, value)| (name.into(), value.into())).collect();
        assert_eq!(variables(&config, &user, "h", options), expected);
    }
}
