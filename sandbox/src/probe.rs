//! What this machine allows, found out by doing it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::confinement::{landlock_version, scopes_are_supported};
use crate::error::SandboxError;
use crate::init::PROBE_NAME;
use crate::mapping::IdMapping;
use crate::ownership::remove_tree;
use crate::run::{Stdio, start};
use crate::spec::{Mount, Network, SandboxSpec};

/// The result of one check.
#[derive(Debug)]
pub struct Probe {
    /// What was checked.
    pub name: &'static str,
    /// What was found, or why it does not work.
    pub finding: Result<String, SandboxError>,
    /// Why it matters and what to do, if something can be done.
    pub advice: Option<String>,
    /// Whether builds need it.
    pub required: bool,
}

/// All that was checked.
#[derive(Debug)]
pub struct ProbeReport {
    /// The checks, the most basic first.
    pub probes: Vec<Probe>,
}

impl ProbeReport {
    /// Whether sandboxes work on this machine.
    pub fn is_usable(&self) -> bool {
        self.probes.iter().all(|probe| !probe.required || probe.finding.is_ok())
    }
}

/// Checks what sandboxes need by starting some; `scratch` is a directory on the file system that builds would use.
pub fn probe(scratch: &Path) -> ProbeReport {
    let mut probes = vec![probe_ids()];
    let sandbox = try_sandbox(scratch, Network::Host);
    let works = sandbox.is_ok();
    probes.push(Probe {
        name: "sandbox",
        finding: sandbox
            .map(|()| "namespaces, id map, overlay, mounts and system call filter work".to_owned()),
        advice: None,
        required: true,
    });
    if works {
        probes.push(Probe {
            name: "network none",
            finding: try_sandbox(scratch, Network::None).map(|()| "a network namespace works".to_owned()),
            advice: None,
            required: false,
        });
    }
    probes.push(probe_landlock());
    if !rustix::process::geteuid().is_root() {
        probes.push(probe_subordinate_ids());
    }
    ProbeReport { probes }
}

fn probe_ids() -> Probe {
    let finding = match IdMapping::detect(1000, 1000) {
        IdMapping::Shifted { base: 0, count } => format!("{count} ids, those of the surrounding container"),
        IdMapping::Shifted { base, count } => format!("{count} ids, from {base} on the host"),
        IdMapping::Single { host_uid, host_gid, .. } => {
            format!("one user and one group, {host_uid}:{host_gid} on the host")
        }
    };
    Probe { name: "ids", finding: Ok(finding), advice: None, required: false }
}

fn probe_landlock() -> Probe {
    let finding = match landlock_version() {
        Some(version) => format!("version {version} of its interface"),
        None => "not in this kernel, or not switched on".to_owned(),
    };
    let advice = (!scopes_are_supported()).then(|| {
        "without version 6 (Linux 6.12) a build with the host's network can reach abstract Unix sockets of the host; \
         build with `--network none` if you do not trust a buildpack"
            .to_owned()
    });
    Probe { name: "landlock", finding: Ok(finding), advice, required: false }
}

fn probe_subordinate_ids() -> Probe {
    let tool = ["/usr/bin/newuidmap", "/bin/newuidmap"].iter().find(|path| Path::new(path).exists());
    let finding = match tool {
        Some(tool) => format!("{tool} is there"),
        None => "newuidmap is not there".to_owned(),
    };
    let advice = "builds do not need it; image extensions that install packages need more than one id, and run as root"
        .to_owned();
    Probe { name: "subordinate ids", finding: Ok(finding), advice: Some(advice), required: false }
}

/// Starts this very program in a sandbox of nothing else, where it ends at once.
fn try_sandbox(scratch: &Path, network: Network) -> Result<(), SandboxError> {
    let directory = scratch.join(format!("probe-{}", std::process::id()));
    let result = try_sandbox_in(&directory, network);
    remove_tree(&directory).map_err(SandboxError::Helper)?;
    result
}

fn try_sandbox_in(directory: &Path, network: Network) -> Result<(), SandboxError> {
    let layer = directory.join("layer");
    fs::create_dir_all(&layer).map_err(SandboxError::Helper)?;
    let program = fs::read_link("/proc/self/exe").unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let mut spec = SandboxSpec::new(vec![layer], directory.join("scratch"), vec!["/probe".into()]);
    spec.argument_zero = Some(PROBE_NAME.into());
    spec.mounts.push(Mount::read_only(program, "/probe"));
    spec.network = network;
    let status = start(&spec, &IdMapping::detect(spec.uid, spec.gid), Stdio::Null)?.wait()?;
    if status.success() { Ok(()) } else { Err(SandboxError::HelperDied(status)) }
}
