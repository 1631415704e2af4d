//! A place of its own for each test: home, data, caches and settings in a temporary folder.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use base64::Engine as _;

use crate::layout::Layout;
use crate::process::{Outcome, Server};
use crate::{OrdinaryUser, repository};

/// Variables of the machine that a build may need to reach the network.
const PASSED_ON: [&str; 8] = [
    "SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "RUST_BACKTRACE",
];

/// A temporary folder, and the program under test run in it.
#[derive(Debug)]
pub struct TestEnvironment {
    directory: TempDir,
    longshore: PathBuf,
    user: OrdinaryUser,
}

impl TestEnvironment {
    /// A place for `longshore`, the path of the program, run by whoever runs the tests.
    ///
    /// # Panics
    /// When the folder cannot be made.
    #[must_use]
    pub fn new(longshore: impl AsRef<Path>) -> Self {
        Self::with_user(longshore.as_ref().to_path_buf(), OrdinaryUser::Current)
    }

    /// The same, run by an ordinary user.
    ///
    /// # Panics
    /// When there is no such user and none can be made.
    #[must_use]
    pub fn for_ordinary_user(longshore: impl AsRef<Path>) -> Self {
        Self::with_user(longshore.as_ref().to_path_buf(), OrdinaryUser::get())
    }

    fn with_user(longshore: PathBuf, user: OrdinaryUser) -> Self {
        let directory =
            tempfile::Builder::new().prefix("longshore-test-").tempdir().expect("a temporary folder");
        let mut environment = Self { directory, longshore, user };
        for folder in ["home", "data", "cache", "config", "runtime", "tmp"] {
            std::fs::create_dir(environment.path(folder)).expect("a folder of the test");
        }
        std::fs::set_permissions(environment.path("runtime"), PermissionsExt::from_mode(0o700))
            .expect("the mode of the runtime folder");
        if environment.user != OrdinaryUser::Current {
            environment.copy_program();
        }
        environment.hand_over();
        environment
    }

    /// The folder that Cargo builds in may be closed to other users. The launcher is beside the program.
    fn copy_program(&mut self) {
        let folder = self.path("bin");
        std::fs::create_dir(&folder).expect("a folder for the program");
        for name in ["longshore", "launcher", "longshore-launcher"] {
            let source = self.longshore.with_file_name(name);
            if source.exists() {
                std::fs::copy(&source, folder.join(name)).expect("a copy of the program");
            }
        }
        self.longshore = folder.join("longshore");
    }

    /// Gives everything that was written here by the test to the user who runs the program.
    pub fn hand_over(&self) {
        self.user.own(self.directory.path());
    }

    /// A path in the test's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The folder of the local store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path("data").join("longshore").join("store")
    }

    /// How skopeo names an image of the local store.
    #[must_use]
    pub fn stored(&self, name: &str) -> String {
        format!("oci:{}:{name}", self.store().display())
    }

    /// Writes a file and the folders that it needs.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn write(&self, name: &str, contents: &str) -> PathBuf {
        let file = self.path(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("the file's folder");
        std::fs::write(&file, contents)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        self.hand_over();
        file
    }

    /// Copies the fixture app `name` into the test's folder.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn app(&self, name: &str) -> PathBuf {
        let target = self.path(name);
        repository::copy_folder(&repository::fixture("apps").join(name), &target);
        self.hand_over();
        target
    }

    /// The program with nothing of the machine's environment but what reaches the network.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = self.user.command(&self.longshore);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .env("NO_COLOR", "1")
            .current_dir(self.directory.path());
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// Starts an image with `longshore run` and PORT set to `port`.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn serve(&self, image: &str, port: u16) -> Server {
        let port = format!("PORT={port}");
        let log = self.path(&format!("run-{port}.log"));
        Server::start(self.command().args(["run", image, "--env", &port]), &log)
    }

    /// The digest of the manifest of `name` in the local store.
    ///
    /// # Panics
    /// When there is no such image.
    #[must_use]
    pub fn digest(&self, name: &str) -> String {
        self.find(name).unwrap_or_else(|| panic!("there is no {name} in the local store"))
    }

    /// The same, or `None` when there is no such image.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<String> {
        let index = Layout::open(&self.store()).index();
        let full = format!("docker.io/library/{name}:latest");
        let mut manifests = index["manifests"].as_array()?.iter();
        let found = manifests.find(|manifest| {
            let stored = &manifest["annotations"]["org.opencontainers.image.ref.name"];
            *stored == name || *stored == full.as_str()
        })?;
        found["digest"].as_str().map(str::to_owned)
    }

    /// Writes credentials for a registry where Docker keeps them.
    ///
    /// # Panics
    /// When that fails.
    pub fn log_in(&self, host: &str, user: &str, password: &str) {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let config = serde_json::json!({"auths": {host: {"auth": auth}}});
        let _ = self.write("home/.docker/config.json", &config.to_string());
    }

    /// Runs the program to its end.
    #[must_use]
    pub fn longshore(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command().args(arguments))
    }
}
