//! Buildpacks out of two shell scripts, for tests.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::layout::Files;

/// A buildpack whose programs are scripts for `/bin/sh`, or a composite one.
#[derive(Debug, Clone)]
pub struct ShellBuildpack {
    /// The id, such as `test/hello`.
    pub id: String,
    /// The version.
    pub version: String,
    /// The Buildpack API.
    pub api: String,
    /// The script of `bin/detect`, without its first line.
    pub detect: String,
    /// The script of `bin/build`, without its first line.
    pub build: String,
    /// The ids of the members of its only group, if it is a composite buildpack. They have version 1.0.0.
    pub members: Vec<String>,
}

impl ShellBuildpack {
    /// Version 1.0.0 of a buildpack of Buildpack API 0.10 that always passes detection.
    #[must_use]
    pub fn new(id: &str, build: &str) -> Self {
        Self {
            id: id.to_owned(),
            version: "1.0.0".to_owned(),
            api: "0.10".to_owned(),
            detect: "exit 0".to_owned(),
            build: build.to_owned(),
            members: Vec::new(),
        }
    }

    /// Version 1.0.0 of a composite buildpack of these others.
    #[must_use]
    pub fn composite(id: &str, members: &[&str]) -> Self {
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        Self { members, ..Self::new(id, "") }
    }

    /// The same with another `bin/detect`.
    #[must_use]
    pub fn detect(mut self, script: &str) -> Self {
        script.clone_into(&mut self.detect);
        self
    }

    /// The contents of `buildpack.toml`.
    #[must_use]
    pub fn descriptor(&self) -> String {
        let mut text = format!(
            "api = \"{}\"\n\n[buildpack]\nid = \"{}\"\nversion = \"{}\"\nname = \"{}\"\n\n",
            self.api, self.id, self.version, self.id
        );
        if self.members.is_empty() {
            text.push_str("[[targets]]\nos = \"linux\"\n");
        } else {
            text.push_str("[[order]]\n");
        }
        for member in &self.members {
            text.push_str(&format!("[[order.group]]\nid = \"{member}\"\nversion = \"1.0.0\"\n"));
        }
        text
    }

    /// Writes the buildpack into `folder`, as `--buildpack` takes it.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder.join("bin")).expect("the buildpack's folder");
        std::fs::write(folder.join("buildpack.toml"), self.descriptor()).expect("buildpack.toml");
        for (name, script) in [("detect", &self.detect), ("build", &self.build)] {
            let file = folder.join("bin").join(name);
            std::fs::write(&file, script_of(script)).expect("a program of the buildpack");
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("its mode");
        }
    }

    /// The buildpack's layer of a builder image (platform specification, "Build Image").
    #[must_use]
    pub fn layer(&self) -> Vec<u8> {
        let folder = format!("cnb/buildpacks/{}/{}", self.id.replace('/', "_"), self.version);
        let mut files = Files::default();
        for ancestor in Path::new(&folder).ancestors().filter(|path| !path.as_os_str().is_empty()) {
            files.folder(&ancestor.display().to_string(), 0o755, (0, 0));
        }
        files
            .folder(&format!("{folder}/bin"), 0o755, (0, 0))
            .file(&format!("{folder}/buildpack.toml"), 0o644, self.descriptor())
            .file(&format!("{folder}/bin/detect"), 0o755, script_of(&self.detect))
            .file(&format!("{folder}/bin/build"), 0o755, script_of(&self.build));
        files.archive()
    }

    /// The buildpack's entry of the label `io.buildpacks.buildpack.layers`, under id and version.
    #[must_use]
    pub fn label(&self, diff_id: &str) -> Value {
        let mut label = json!({
            "api": self.api,
            "targets": [{"os": "linux"}],
            "layerDiffID": diff_id,
            "name": self.id,
        });
        if !self.members.is_empty() {
            let member = |id: &String| json!({"id": id, "version": "1.0.0"});
            label["order"] = json!([{"group": self.members.iter().map(member).collect::<Vec<_>>()}]);
        }
        label
    }
}

fn script_of(body: &str) -> String {
    format!("#!/bin/sh\nset -eu\n{body}\n")
}
