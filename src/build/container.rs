//! The sandbox that detect and build run in: the builder's root filesystem, the CNB user, and this program as the
//! lifecycle.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use longshore_image::Config;
use longshore_sandbox::{
    IdMapping, Mount, Network, SandboxSpec, Stream, host_network_mounts, run_with_lines,
};

use super::failure::PhaseFailed;
use super::request::{BuildRequest, NetworkAccess};
use super::work_directory::WorkDirectory;
use crate::container::User;
use crate::{output, programs};

/// Where this program is in the sandbox. It is called by the name of a phase.
const PROGRAM: &str = "/cnb/longshore/lifecycle";
/// Tells the detector in which stage it is: how many groups there are layers for. A builder has no say in that.
pub(super) const DETECT_GROUPS: &str = "CNB_DETECT_GROUPS";
/// Where Debian, and most others, keep the certificates that programs trust.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What the sandboxes of a build have in common.
pub(crate) struct BuildContainer<'a> {
    /// What was asked for.
    pub(crate) request: &'a BuildRequest,
    /// The configuration of the builder.
    pub(crate) config: &'a Config,
    /// The unpacked layers of the builder, lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// The directories of the build.
    pub(crate) work: &'a WorkDirectory,
    /// How ids inside relate to ids outside.
    pub(crate) mapping: IdMapping,
    /// The user of the build.
    pub(crate) user: User,
    /// The Platform API that the lifecycle is asked for.
    pub(crate) platform_api: &'a str,
}

impl BuildContainer<'_> {
    /// Runs a phase, which sees `layers` as `/layers`, to its end.
    ///
    /// # Errors
    /// When it fails, with its exit code, or the sandbox cannot be made.
    pub(crate) fn run(&self, phase: &'static str, layers: &Path) -> anyhow::Result<()> {
        let mut hidden = Vec::new();
        let code = self.run_with(phase, layers, None, &mut hidden)?;
        if code == 0 {
            return Ok(());
        }
        for line in hidden {
            anstream::eprintln!("{line}");
        }
        Err(PhaseFailed { phase, code }.into())
    }

    /// Runs a phase with one more variable, and tells its exit code. What would be shown without `--quiet` is added to
    /// `hidden`.
    ///
    /// # Errors
    /// When the sandbox cannot be made.
    pub(crate) fn run_with(
        &self,
        phase: &'static str,
        layers: &Path,
        variable: Option<(&str, String)>,
        hidden: &mut Vec<String>,
    ) -> anyhow::Result<u8> {
        let mut spec = self.spec(phase, layers)?;
        spec.environment.extend(variable.map(|(name, value)| (name.into(), value.into())));
        let quiet = self.request.quiet;
        let status = run_with_lines(&spec, &self.mapping, |stream, line| {
            let line = String::from_utf8_lossy(line);
            match stream {
                Stream::Error => anstream::eprintln!("{line}"),
                Stream::Output if quiet => hidden.push(line.into_owned()),
                Stream::Output => tracing::info!("{line}"),
            }
        })?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }

    fn spec(&self, phase: &'static str, layers: &Path) -> anyhow::Result<SandboxSpec> {
        let mut lower = self.layers.clone();
        lower.push(self.work.root());
        let mut spec = SandboxSpec::new(lower, self.work.scratch(), vec![PROGRAM.into()]);
        spec.argument_zero = Some(format!("/cnb/lifecycle/{phase}").into());
        spec.command.push("-app".into());
        spec.command.push(self.request.workspace.clone().into());
        (spec.uid, spec.gid) = (self.user.uid, self.user.gid);
        spec.working_directory = PathBuf::from("/layers");
        spec.mounts = self.mounts(layers)?;
        spec.network = match self.request.network {
            NetworkAccess::Host => Network::Host,
            NetworkAccess::None => Network::None,
        };
        spec.environment = self.environment(&spec.hostname);
        Ok(spec)
    }

    fn mounts(&self, layers: &Path) -> anyhow::Result<Vec<Mount>> {
        let mut mounts = vec![
            Mount::read_only(programs::lifecycle()?, PROGRAM),
            Mount::read_write(self.work.workspace(), &self.request.workspace),
            Mount::read_write(layers, "/layers"),
        ];
        if self.request.network == NetworkAccess::Host {
            mounts.extend(host_network_mounts());
        }
        if let Some(certificates) = &self.request.ca_certificates {
            mounts.push(Mount::read_only(certificates, CERTIFICATES));
        }
        mounts.extend(self.request.volumes.iter().map(|volume| volume.0.clone()));
        Ok(mounts)
    }

    /// The builder's variables, what tells the lifecycle about the build, and proxies. Nothing else of this process's
    /// environment, where credentials may be.
    fn environment(&self, hostname: &str) -> Vec<(OsString, OsString)> {
        let request = self.request;
        let level = match request {
            BuildRequest { verbose: true, .. } => "debug",
            BuildRequest { quiet: true, .. } => "warn",
            _ => "info",
        };
        let mut variables: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: OsString| {
            variables.retain(|(known, _)| known != name);
            variables.push((name.into(), value));
        };
        set("HOME", self.user.home.clone().into());
        set("HOSTNAME", hostname.into());
        for (name, value) in self.config.env().into_iter().filter(|(name, _)| name != DETECT_GROUPS) {
            set(&name, value.into());
        }
        set("CNB_PLATFORM_API", self.platform_api.into());
        set("CNB_EXEC_ENV", request.exec_env.clone().into());
        set("CNB_LOG_LEVEL", level.into());
        if output::is_coloured() {
            set("CLICOLOR_FORCE", "1".into());
        } else {
            set("CNB_NO_COLOR", "true".into());
        }
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"] {
            if let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) {
                set(name, value);
            }
        }
        variables
    }
}
