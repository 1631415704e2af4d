//! The surroundings of one case: a folder, a registry, and the programs of the lifecycle.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use longshore_test_support::registry::Fault;
use longshore_test_support::user::is_root;
use longshore_test_support::{Dockerd, FaultyRegistry, OrdinaryUser, Outcome, PulledImage};
use tempfile::TempDir;

use super::case::{Case, ImageSpec, Module, Step};
use super::{images, modules};

/// The programs under their phases' names, for all cases.
pub(super) struct Programs {
    folder: TempDir,
    user: OrdinaryUser,
    /// Started by the first case that needs it.
    dockerd: OnceLock<Dockerd>,
}

const PHASES: &[&str] = &[
    "analyzer",
    "detector",
    "restorer",
    "builder",
    "extender",
    "exporter",
    "creator",
    "rebaser",
    "lifecycle",
];

impl Programs {
    /// Copies, because the folder that Cargo builds in may be closed to other users.
    pub(super) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("longshore-phases-").tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("its mode");
        for name in ["longshore", "launcher"] {
            let source = Path::new(crate::LONGSHORE).with_file_name(name);
            assert!(source.exists(), "{} is missing: run `cargo build --workspace --bins`", source.display());
            std::fs::copy(source, folder.path().join(name)).expect("a copy of a program");
        }
        for phase in PHASES {
            symlink("longshore", folder.path().join(phase)).expect("a link to the program");
        }
        Self { folder, user: OrdinaryUser::get(), dockerd: OnceLock::new() }
    }
}

/// The folder and the registry of a case.
pub(super) struct World<'a> {
    programs: &'a Programs,
    case: &'a Case,
    folder: TempDir,
    pub(super) registry: FaultyRegistry,
}

impl<'a> World<'a> {
    pub(super) fn new(programs: &'a Programs, case: &'a Case) -> Self {
        let folder = tempfile::Builder::new().prefix("longshore-case-").tempdir().expect("a folder");
        let world = Self { programs, case, folder, registry: FaultyRegistry::start([]) };
        world.push_images();
        world.push_indexes();
        world.write_layouts();
        world.write_folders();
        for image in case.images.keys().filter(|_| case.daemon) {
            world.docker(&["pull", &format!("{{registry}}/{image}")]);
        }
        world.registry.set_faults(faults(case));
        world
    }

    /// A path of the case: absolute, or below the root.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(self.expand(path))
    }

    /// Replaces `{root}`, `{layers}`, `{app}`, `{registry}`, `{digest IMAGE}`, `{diff-id IMAGE PATH}`, and
    /// `{image-id IMAGE}` for the
    /// digits of an image of the daemon.
    pub(super) fn expand(&self, text: &str) -> String {
        let root = self.folder.path().display().to_string();
        let mut text = text
            .replace("{root}", &root)
            .replace("{layers}", &format!("{root}/layers"))
            .replace("{app}", &format!("{root}/workspace"))
            .replace("{registry}", &self.registry.host());
        for kind in ["{digest ", "{diff-id ", "{image-id "] {
            while let Some(start) = text.find(kind) {
                let end = start + text[start..].find('}').expect("the end of a placeholder");
                let value = self.computed(&text[start + 1..end]);
                text.replace_range(start..=end, &value);
            }
        }
        text
    }

    fn computed(&self, placeholder: &str) -> String {
        let words: Vec<_> = placeholder.split(' ').collect();
        if let ["image-id", name] = words[..] {
            let name = format!("{{registry}}/{name}");
            let id = self.docker(&["image", "inspect", "--format", "{{.Id}}", &name]);
            return id.trim_start_matches("sha256:").to_owned();
        }
        let image = self.image(words[1]).unwrap_or_else(|| panic!("there is no image {}", words[1]));
        match words[..] {
            ["digest", _] => image.digest,
            ["diff-id", _, "top"] => image.layers.last().expect("a layer").diff_id.clone(),
            ["diff-id", _, path] => {
                image.layer_with(path).unwrap_or_else(|| panic!("no layer has {path}")).diff_id.clone()
            }
            _ => panic!("{{{placeholder}}} is not known"),
        }
    }

    /// What Docker answers.
    fn docker(&self, arguments: &[&str]) -> String {
        let dockerd = self.programs.dockerd.get_or_init(Dockerd::start);
        let arguments: Vec<_> = arguments.iter().map(|argument| self.expand(argument)).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        dockerd.docker(&arguments).success().stdout.trim().to_owned()
    }

    /// An image of the registry by `repository` or `repository:tag`, or a layout by its path.
    pub(super) fn image(&self, name: &str) -> Option<PulledImage> {
        if name.contains("layout/") {
            return PulledImage::of_layout(&self.path(name));
        }
        let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
        PulledImage::of_registry(&self.registry, repository, tag)
    }

    fn push_images(&self) {
        for (name, spec) in &self.case.images {
            let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
            let labels = spec.labels.iter().map(|(label, text)| (label.clone(), self.expand(text))).collect();
            images::push(&self.registry, repository, tag, &ImageSpec { labels, ..spec.clone() });
        }
    }

    fn push_indexes(&self) {
        for (name, images) in &self.case.indexes {
            let (repository, tag) = name.split_once(':').expect("repository:tag");
            let images = images.iter().map(|image| self.image(image).expect("an image of the index"));
            images::push_index(&self.registry, repository, tag, images);
        }
    }

    fn write_layouts(&self) {
        for (path, spec) in &self.case.layouts {
            images::write(&self.path(path), spec);
        }
    }

    fn write_folders(&self) {
        let case = self.case;
        for folder in [
            "layers/config",
            "workspace",
            "platform/env",
            "build-config/env",
            "buildpacks",
            "extensions",
            "cnb",
            "home",
            "cache",
            "launch-cache",
        ] {
            std::fs::create_dir_all(self.path(folder)).expect("a folder of the case");
        }
        std::fs::set_permissions(self.folder.path(), PermissionsExt::from_mode(0o755)).expect("its mode");
        self.write("cnb/launcher", "the launcher", 0o755);
        for folder in &case.folders {
            std::fs::create_dir_all(self.path(folder)).expect("a folder of the case");
        }
        for (kind, modules) in [("buildpack", &case.buildpacks), ("extension", &case.extensions)] {
            for (name, module) in modules {
                self.write_module(kind, name, module);
            }
        }
        if !case.order.is_empty() || !case.order_extensions.is_empty() {
            self.write("cnb/order.toml", &modules::order(&case.order, &case.order_extensions), 0o644);
        }
        if !case.group.is_empty() {
            let group = modules::group(case);
            self.write("layers/group.toml", &group, 0o644);
            self.write("layers/plan.toml", "", 0o644);
            self.write("layers/config/metadata.toml", &group.replace("[[group", "[[buildpacks"), 0o644);
        }
        if case.images.contains_key("run") {
            let analyzed = "[run-image]\nreference = \"{registry}/run@{digest run}\"\nimage = \"{registry}/run\"\n\
                            [run-image.target]\nos = \"linux\"\narch = \"{arch}\"\n";
            let analyzed = analyzed.replace("{arch}", longshore_test_support::tiny::architecture());
            self.write("layers/analyzed.toml", &self.expand(&analyzed), 0o644);
            self.write("cnb/run.toml", &self.expand("[[images]]\nimage = \"{registry}/run\"\n"), 0o644);
            self.write("cnb/stack.toml", &self.expand("[run-image]\nimage = \"{registry}/run\"\n"), 0o644);
        }
        self.write_all(&case.files, 0o644);
        self.write_all(&case.executables, 0o755);
        for (path, target) in &case.links {
            let path = self.path(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of a link");
            symlink(self.expand(target), path).expect("a link");
        }
        self.programs.user.own(self.folder.path());
    }

    fn write_module(&self, kind: &str, name: &str, module: &Module) {
        let (id, version) = name.split_once('@').expect("id@version");
        let root = format!("{kind}s/{}/{version}", id.replace('/', "_"));
        let descriptor = modules::descriptor(kind, (id, version), module);
        self.write(&format!("{root}/{kind}.toml"), &descriptor, 0o644);
        if module.order.is_some() {
            return;
        }
        for (program, script) in modules::programs(kind, module) {
            if let Some(script) = script {
                let script = self.expand(&script);
                self.write(&format!("{root}/bin/{program}"), &format!("#!/bin/sh\n{script}\n"), 0o755);
            }
        }
    }

    fn write_all(&self, files: &BTreeMap<String, String>, mode: u32) {
        for (path, text) in files {
            self.write(path, &self.expand(text), mode);
        }
    }

    fn write(&self, path: &str, text: &str, mode: u32) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of a file");
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("the mode of a file");
    }

    /// Runs a step to its end.
    pub(super) fn run(&self, step: &Step) -> Outcome {
        for path in &step.remove {
            let path = self.path(path);
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            removed.expect("a path that can be removed");
        }
        self.write_all(&step.files, 0o644);
        self.write_all(&step.executables, 0o755);
        if !step.files.is_empty() || !step.executables.is_empty() {
            self.programs.user.own(self.folder.path());
        }
        Outcome::of(&mut self.command(step))
    }

    fn command(&self, step: &Step) -> Command {
        let phase = step.phase.as_deref().or_else(|| self.case.name.split('/').next()).expect("a phase");
        let mut program = self.programs.folder.path().join(phase);
        if let Some(process) = &step.process {
            let link = self.path(&format!("cnb/process/{process}"));
            std::fs::create_dir_all(link.parent().expect("a folder")).expect("the folder of a link");
            if !link.exists() {
                symlink(program, &link).expect("a link to the launcher");
            }
            program = link;
        }
        let mut command = if !step.root {
            self.programs.user.command(&program)
        } else if is_root() {
            Command::new(program)
        } else {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--"]).arg(program);
            command
        };
        if matches!(phase, "exporter" | "creator") {
            command.arg("-launcher").arg(self.path("cnb/launcher"));
        }
        command.args(step.arguments.iter().map(|argument| self.expand(argument)));
        self.environment(&mut command);
        if let Some(dockerd) = self.programs.dockerd.get().filter(|_| self.case.daemon) {
            command.env("DOCKER_HOST", format!("unix://{}", dockerd.socket().display()));
        }
        for (name, value) in self.case.env.iter().chain(&step.env) {
            command.env(name, self.expand(value));
        }
        for name in &step.unset {
            command.env_remove(name);
        }
        command.current_dir(self.path(step.working_dir.as_deref().unwrap_or_default()));
        command
    }

    /// The user of the build image: whoever runs the phases that do not run as root.
    pub(super) fn owner(&self) -> (u32, u32) {
        let layers = self.path("layers").metadata().expect("the layers directory");
        (layers.uid(), layers.gid())
    }

    fn environment(&self, command: &mut Command) {
        let (uid, gid) = self.owner();
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.path("home"))
            .env("CNB_PLATFORM_API", &self.case.platform_api)
            .env("CNB_USER_ID", uid.to_string())
            .env("CNB_GROUP_ID", gid.to_string())
            .env("CNB_NO_COLOR", "true");
        for (name, path) in [
            ("LAYERS_DIR", "layers"),
            ("APP_DIR", "workspace"),
            ("PLATFORM_DIR", "platform"),
            ("BUILD_CONFIG_DIR", "build-config"),
            ("BUILDPACKS_DIR", "buildpacks"),
            ("EXTENSIONS_DIR", "extensions"),
            ("ORDER_PATH", "cnb/order.toml"),
            ("RUN_PATH", "cnb/run.toml"),
            ("STACK_PATH", "cnb/stack.toml"),
            ("SYSTEM_PATH", "cnb/system.toml"),
        ] {
            command.env(format!("CNB_{name}"), self.path(path));
        }
    }
}

fn faults(case: &Case) -> Vec<Fault> {
    // Faults have their texts for as long as the program runs.
    let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    let basic = case.registry.basic.as_deref().map(|credentials| {
        let (user, password) = credentials.split_once(':').expect("user:password");
        Fault::Basic(leak(user), leak(password))
    });
    let status = case.registry.status.iter().map(|(method, path, status)| Fault::Status {
        method: leak(method),
        path: leak(path),
        status: *status,
        retry_after: None,
        times: u32::MAX,
    });
    basic.into_iter().chain(status).collect()
}
