//! A root filesystem of busybox, and commands in it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use longshore_sandbox::{IdMapping, Output, SandboxSpec, Stdio, start};
use tempfile::TempDir;

pub(crate) const UID: u32 = 1000;
pub(crate) const GID: u32 = 1001;

/// A layer with busybox, and directories for what runs.
pub(crate) struct Machine {
    pub(crate) directory: TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|path| fs::exists(path).unwrap())
            .expect("the tests need a static busybox: `apt-get install busybox-static`");
        let directory = tempfile::tempdir().unwrap();
        // As /root is: only its owner passes.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let bin = directory.path().join("layer/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(busybox, bin.join("busybox")).unwrap();
        for applet in [
            "sh", "id", "cat", "ls", "sleep", "hostname", "env", "touch", "mkdir", "stat", "kill", "mount",
            "ps",
        ] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn spec(&self, command: &[&str]) -> SandboxSpec {
        let command = command.iter().map(OsString::from).collect();
        let mut spec = SandboxSpec::new(vec![self.path("layer")], self.path("scratch"), command);
        spec.environment = vec![("PATH".into(), "/bin".into())];
        spec.uid = UID;
        spec.gid = GID;
        spec
    }

    pub(crate) fn shell(&self, script: &str) -> SandboxSpec {
        self.spec(&["sh", "-c", script])
    }
}

pub(crate) fn mapping(spec: &SandboxSpec) -> IdMapping {
    IdMapping::detect(spec.uid, spec.gid)
}

pub(crate) fn output(spec: &SandboxSpec) -> Output {
    match start(spec, &mapping(spec), Stdio::Capture) {
        Ok(running) => running.wait_with_output().unwrap(),
        Err(error) => panic!("{}", chain(&error)),
    }
}

/// What a command prints that must succeed.
pub(crate) fn text(spec: &SandboxSpec) -> String {
    let output = output(spec);
    let error = String::from_utf8_lossy(&output.error);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.output).unwrap().trim_end().to_owned()
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
