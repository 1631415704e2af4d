//! A build environment in a temporary directory, with buildpacks and extensions written in shell.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use longshore_cnb::PlatformApi;
use longshore_lifecycle::ModuleStore;
use longshore_lifecycle::build::BuildInput;
use longshore_lifecycle::detect::{DetectInput, DetectOutput};
use longshore_lifecycle::generate::GenerateInput;
use tempfile::TempDir;

/// A build environment.
pub(crate) struct World {
    directory: TempDir,
    pub(crate) platform_api: &'static str,
    pub(crate) exec_env: &'static str,
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            platform_api: "0.15",
            exec_env: "production",
            environment: vec![
                ("PATH".into(), std::env::var_os("PATH").expect("PATH is set")),
                ("HOME".into(), "/home/of/cnb".into()),
                ("CNB_REGISTRY_AUTH".into(), "must not be seen".into()),
            ],
        };
        for directory in ["app", "platform/env", "config/env", "buildpacks", "extensions", "layers", "log"] {
            fs_err::create_dir_all(world.path(directory)).expect("created");
        }
        world.write("os-release", "ID=debian\nVERSION_ID=\"13\"\n");
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: &str) {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().expect("files have parents")).expect("created");
        fs_err::write(path, contents).expect("written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A component buildpack `id@1` of API 0.12.
    pub(crate) fn buildpack(&self, id: &str, detect: &str, build: &str) {
        self.buildpack_with(id, "api = '0.12'", "", detect, build);
    }

    /// A component buildpack `id@1`, with `head` before its table and `body` at the end of it.
    pub(crate) fn buildpack_with(&self, id: &str, head: &str, body: &str, detect: &str, build: &str) {
        let root = format!("buildpacks/{}/1", id.replace('/', "_"));
        let text = format!("{head}\n[buildpack]\nid = '{id}'\nversion = '1'\n{body}\n");
        self.write(&format!("{root}/buildpack.toml"), &text);
        self.script(&format!("{root}/bin/detect"), detect);
        self.script(&format!("{root}/bin/build"), build);
    }

    /// A composite buildpack `id@1` whose groups are lists of `id`, or `id?` for optional ones.
    pub(crate) fn composite(&self, id: &str, groups: &[&[&str]]) {
        let text = format!("api = '0.12'\n[buildpack]\nid = '{id}'\nversion = '1'\n{}", order(groups));
        self.write(&format!("buildpacks/{id}/1/buildpack.toml"), &text);
    }

    /// An image extension `id@1`; a script that is empty is left out.
    pub(crate) fn extension(&self, id: &str, detect: &str, generate: &str) {
        let root = format!("extensions/{}/1", id.replace('/', "_"));
        let text = format!("api = '0.12'\n[extension]\nid = '{id}'\nversion = '1'\n");
        self.write(&format!("{root}/extension.toml"), &text);
        for (name, script) in [("detect", detect), ("generate", generate)] {
            if !script.is_empty() {
                self.script(&format!("{root}/bin/{name}"), script);
            }
        }
    }

    /// `order.toml` with groups of `id`, or `id?` for optional members.
    pub(crate) fn order(&self, groups: &[&[&str]]) {
        self.write("order.toml", &order(groups));
    }

    /// `order.toml` with groups of buildpacks and of extensions.
    pub(crate) fn order_with_extensions(&self, groups: &[&[&str]], extensions: &[&[&str]]) {
        let extensions = order(extensions).replace("[[order", "[[order-extensions");
        self.write("order.toml", &format!("{}{extensions}", order(groups)));
    }

    /// Writes an executable through another process: were the file open for writing here while another test forks, it
    /// could not be executed (ETXTBSY).
    pub(crate) fn script(&self, name: &str, body: &str) {
        self.script_of(name, "/bin/sh", body);
    }

    /// The same with another interpreter.
    pub(crate) fn script_of(&self, name: &str, interpreter: &str, body: &str) {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().expect("files have parents")).expect("created");
        let log = self.path("log").display().to_string();
        let text = format!("#!{interpreter}\nset -eu\nlog='{log}'\n{body}\n");
        let mut child = Command::new("install")
            .args(["-m", "755", "/dev/stdin"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("install starts");
        child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
        assert!(child.wait().expect("install ends").success());
    }

    pub(crate) fn modules(&self) -> ModuleStore {
        ModuleStore { buildpacks: self.path("buildpacks"), extensions: self.path("extensions") }
    }

    pub(crate) fn api(&self) -> PlatformApi {
        PlatformApi::parse(self.platform_api).expect("supported")
    }

    pub(crate) fn detect_input(&self) -> DetectInput {
        DetectInput {
            platform_api: self.api(),
            app: self.path("app"),
            platform: self.path("platform"),
            build_config: self.path("config"),
            modules: self.modules(),
            order: self.path("order.toml"),
            system: self.path("system.toml"),
            analyzed: self.path("layers/analyzed.toml"),
            exec_env: self.exec_env.to_owned(),
            os_release: self.path("os-release"),
            environment: self.environment.clone(),
            stage: None,
        }
    }
}

impl World {
    /// Writes `group.toml` with the buildpacks `id@1`, with the API of their descriptors.
    pub(crate) fn group(&self, ids: &[&str]) {
        let mut text = String::new();
        for id in ids {
            let root = format!("buildpacks/{}/1/buildpack.toml", id.replace('/', "_"));
            let api: String = self.read(&root).lines().next().unwrap_or_default().to_owned();
            text.push_str(&format!("[[group]]\nid = '{id}'\nversion = '1'\n{api}\n"));
        }
        self.write("layers/group.toml", &text);
        if !self.path("layers/plan.toml").exists() {
            self.write("layers/plan.toml", "");
        }
    }

    /// A file to which modules append their output: `log/output`.
    fn output(&self) -> Option<std::fs::File> {
        let output = fs_err::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log/output"))
            .expect("opened");
        Some(output.into())
    }

    pub(crate) fn generate_input(&self, detected: DetectOutput) -> GenerateInput {
        GenerateInput {
            platform_api: self.api(),
            app: self.path("app"),
            platform: self.path("platform"),
            build_config: self.path("config"),
            modules: self.modules(),
            generated: self.path("layers/generated"),
            analyzed: self.path("layers/analyzed.toml"),
            run: self.path("run.toml"),
            exec_env: self.exec_env.to_owned(),
            os_release: self.path("os-release"),
            environment: self.environment.clone(),
            output: self.output(),
            detected,
        }
    }

    /// The input of a build whose buildpacks write their output to `log/output`.
    pub(crate) fn build_input(&self) -> BuildInput {
        BuildInput {
            platform_api: self.api(),
            app: self.path("app"),
            platform: self.path("platform"),
            build_config: self.path("config"),
            modules: self.modules(),
            layers: self.path("layers"),
            group: self.path("layers/group.toml"),
            plan: self.path("layers/plan.toml"),
            analyzed: self.path("layers/analyzed.toml"),
            exec_env: self.exec_env.to_owned(),
            os_release: self.path("os-release"),
            environment: self.environment.clone(),
            output: self.output(),
        }
    }
}

fn order(groups: &[&[&str]]) -> String {
    let mut text = String::new();
    for group in groups {
        text.push_str("[[order]]\n");
        for member in *group {
            let id = member.trim_end_matches('?');
            let optional = member.ends_with('?');
            text.push_str(&format!("[[order.group]]\nid = '{id}'\nversion = '1'\noptional = {optional}\n"));
        }
    }
    text
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs_err::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
