//! A builder of two megabytes: busybox, a CNB user and buildpacks out of shell scripts. Most end-to-end tests need no
//! more, and are quick with it.

use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::buildpack::ShellBuildpack;
use crate::layout::{Files, Layout, digest};
use crate::process::{Outcome, require_tool};
use crate::skopeo;
use crate::{DockerRegistry, TestEnvironment};

/// Where the builder is kept in the local store, and the name to build with.
pub const BUILDER: &str = "docker.io/library/tiny-builder:latest";
/// The run image that [`TinyBuilder::new`] names.
pub const RUN_IMAGE: &str = "docker.io/library/tiny-run:latest";

const GROUP: u64 = 1000;
const BUILD_USER: u64 = 1001;
const RUN_USER: u64 = 1002;

/// A builder image and its run image.
#[derive(Debug, Clone)]
pub struct TinyBuilder {
    /// The buildpacks.
    pub buildpacks: Vec<ShellBuildpack>,
    /// The order: groups of buildpacks as (id, optional); the version is the first one of that id.
    pub order: Vec<Vec<(String, bool)>>,
    /// The name under which the builder says that its run image is found.
    pub run_image: String,
    /// The architecture of the run image, in OCI's words.
    pub run_architecture: String,
}

impl TinyBuilder {
    /// A builder with one group of all these buildpacks in their order.
    #[must_use]
    pub fn new(buildpacks: Vec<ShellBuildpack>) -> Self {
        let group = buildpacks.iter().map(|buildpack| (buildpack.id.clone(), false)).collect();
        Self {
            buildpacks,
            order: vec![group],
            run_image: RUN_IMAGE.to_owned(),
            run_architecture: architecture().to_owned(),
        }
    }

    /// Puts builder and run image into the local store of `environment`, which has not been used yet.
    pub fn install(&self, environment: &TestEnvironment) {
        let layout = Layout::open(&environment.store());
        self.write_builder(&layout, BUILDER);
        self.write_run_image(&layout, &self.run_image);
        environment.hand_over();
    }

    /// Pushes both to `registry`, the run image too, and returns the builder's reference.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn publish(&self, registry: &DockerRegistry) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let builder = Self { run_image: registry.reference("tiny-run:latest"), ..self.clone() };
        let layout = Layout::open(folder.path());
        builder.write_builder(&layout, "builder");
        builder.write_run_image(&layout, "run");
        let reference = registry.reference("tiny-builder:latest");
        for (name, target) in [("builder", &reference), ("run", &builder.run_image)] {
            skopeo::copy(&format!("oci:{}:{name}", folder.path().display()), &format!("docker://{target}"));
        }
        reference
    }

    /// Writes the builder as `name` into a layout.
    ///
    /// # Panics
    /// When an order names a buildpack that is not there.
    pub fn write_builder(&self, layout: &Layout, name: &str) {
        let mut layers = vec![base_layer(BUILD_USER), self.platform_layer()];
        let mut label: Map<String, Value> = Map::new();
        for buildpack in &self.buildpacks {
            let layer = buildpack.layer();
            let versions = label.entry(buildpack.id.clone()).or_insert_with(|| json!({}));
            versions[&buildpack.version] = buildpack.label(&digest(&layer));
            layers.push(layer);
        }
        let metadata = json!({
            "description": "busybox and shell scripts",
            "buildpacks": self.buildpacks.iter()
                .map(|buildpack| json!({"id": buildpack.id, "version": buildpack.version}))
                .collect::<Vec<_>>(),
            "stack": {"runImage": {"image": self.run_image}},
            "images": [{"image": self.run_image}],
            "lifecycle": {
                "version": "0.20.0",
                "api": {"buildpack": "0.7", "platform": "0.7"},
                "apis": {
                    "buildpack": {"deprecated": [], "supported": ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12"]},
                    "platform": {"deprecated": [], "supported": ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14"]},
                },
            },
            "createdBy": {"name": "longshore-test-support", "version": "0.1.0"},
        });
        let order: Vec<Value> = self.order.iter().map(|group| json!({"group": self.group(group)})).collect();
        let mut config = config(architecture(), BUILD_USER);
        config["config"]["Labels"] = json!({
            "io.buildpacks.base.id": "tiny",
            "io.buildpacks.base.distro.name": "tiny",
            "io.buildpacks.base.distro.version": "1",
            "io.buildpacks.builder.metadata": metadata.to_string(),
            "io.buildpacks.buildpack.layers": Value::Object(label).to_string(),
            "io.buildpacks.buildpack.order": json!(order).to_string(),
        });
        let _ = layout.image(name, config, &layers);
    }

    /// Writes the run image as `name` into a layout.
    pub fn write_run_image(&self, layout: &Layout, name: &str) {
        self.write_run_layers(layout, name, &[base_layer(RUN_USER)]);
    }

    /// Writes a newer run image as `name` into a layout: one with another layer, which has `/etc/patched` with
    /// this text.
    pub fn write_patched_run_image(&self, layout: &Layout, name: &str, text: &str) {
        let mut patch = Files::default();
        patch.folder("etc", 0o755, (0, 0)).file("etc/patched", 0o644, text);
        self.write_run_layers(layout, name, &[base_layer(RUN_USER), patch.archive()]);
    }

    fn write_run_layers(&self, layout: &Layout, name: &str, layers: &[Vec<u8>]) {
        let mut config = config(&self.run_architecture, RUN_USER);
        config["config"]["Labels"] = json!({
            "io.buildpacks.base.id": "tiny",
            "io.buildpacks.base.distro.name": "tiny",
            "io.buildpacks.base.distro.version": "1",
            "io.buildpacks.rebasable": "true",
        });
        let _ = layout.image(name, config, layers);
    }

    /// Writes the image that a builder can be made on, as `name` into a layout.
    pub fn write_build_image(layout: &Layout, name: &str) {
        let mut config = config(architecture(), BUILD_USER);
        config["config"]["Labels"] = json!({
            "io.buildpacks.base.id": "tiny",
            "io.buildpacks.base.distro.name": "tiny",
            "io.buildpacks.base.distro.version": "1",
        });
        let _ = layout.image(name, config, &[base_layer(BUILD_USER)]);
    }

    fn version(&self, id: &str) -> &str {
        let buildpack = self.buildpacks.iter().find(|buildpack| buildpack.id == id);
        &buildpack.unwrap_or_else(|| panic!("the order names {id}, which is not there")).version
    }

    fn group(&self, group: &[(String, bool)]) -> Vec<Value> {
        let entry = |(id, optional): &(String, bool)| {
            if *optional {
                json!({"id": id, "version": self.version(id), "optional": true})
            } else {
                json!({"id": id, "version": self.version(id)})
            }
        };
        group.iter().map(entry).collect()
    }

    fn platform_layer(&self) -> Vec<u8> {
        let mut order = String::new();
        for group in &self.order {
            order.push_str("[[order]]\n");
            for (id, optional) in group {
                let version = self.version(id);
                order.push_str(&format!(
                    "[[order.group]]\nid = \"{id}\"\nversion = \"{version}\"\noptional = {optional}\n"
                ));
            }
        }
        let run = format!("[[images]]\nimage = \"{}\"\n", self.run_image);
        let stack = format!("[run-image]\nimage = \"{}\"\n", self.run_image);
        let builder = (BUILD_USER, GROUP);
        let mut files = Files::default();
        files
            .folder("cnb", 0o755, (0, 0))
            .folder("cnb/buildpacks", 0o755, (0, 0))
            .folder("cnb/lifecycle", 0o755, (0, 0))
            .file("cnb/order.toml", 0o644, order)
            .file("cnb/run.toml", 0o644, run)
            .file("cnb/stack.toml", 0o644, stack)
            .folder("layers", 0o755, builder)
            .folder("platform", 0o755, (0, 0))
            .folder("platform/env", 0o755, (0, 0))
            .folder("workspace", 0o755, builder);
        files.archive()
    }
}

/// The architecture of this machine in OCI's words.
#[must_use]
pub fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn config(architecture: &str, user: u64) -> Value {
    json!({
        "created": "1980-01-01T00:00:01Z",
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": format!("{user}:{GROUP}"),
            "Env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                format!("CNB_USER_ID={user}"),
                format!("CNB_GROUP_ID={GROUP}"),
            ],
        },
    })
}

fn base_layer(user: u64) -> Vec<u8> {
    require_tool("/bin/busybox", "busybox-static");
    let busybox = std::fs::read("/bin/busybox").expect("busybox");
    let applets = Outcome::of(Command::new("/bin/busybox").arg("--list")).success().stdout;
    let mut files = Files::default();
    for (folder, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sbin", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("usr/bin", 0o755),
        ("var", 0o755),
    ] {
        files.folder(folder, mode, (0, 0));
    }
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        files.link(&format!("bin/{applet}"), "busybox");
    }
    files
        .file("bin/busybox", 0o755, busybox)
        .link("usr/bin/env", "/bin/busybox")
        .file(
            "etc/passwd",
            0o644,
            format!("root:x:0:0:root:/root:/bin/sh\ncnb:x:{user}:{GROUP}::/home/cnb:/bin/sh\n"),
        )
        .file("etc/group", 0o644, format!("root:x:0:\ncnb:x:{GROUP}:\n"))
        .file("etc/os-release", 0o644, "ID=tiny\nVERSION_ID=1\n")
        .folder("home/cnb", 0o755, (user, GROUP));
    files.archive()
}

/// A buildpack that serves the app's folder over HTTP on `$PORT` with busybox.
#[must_use]
pub fn web_buildpack() -> ShellBuildpack {
    ShellBuildpack::new(
        "test/web",
        r#"cat > "$CNB_LAYERS_DIR/launch.toml" <<'END'
[[processes]]
type = "web"
command = ["sh", "-c", "exec httpd -f -p \"127.0.0.1:${PORT:-8080}\" -h /workspace"]
default = true
END"#,
    )
}

/// The folder of an app with one page, `index.html`.
pub fn web_app(folder: &Path, text: &str) {
    std::fs::create_dir_all(folder).expect("the app's folder");
    std::fs::write(folder.join("index.html"), text).expect("the app's page");
}
