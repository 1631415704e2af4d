//! The launcher as an app image starts it.

#![allow(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A layers directory, an app directory, and links to the launcher.
struct App {
    root: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

const METADATA: &str = r#"
[[buildpacks]]
id = "example/first"
version = "1"
api = "0.10"

[[buildpacks]]
id = "second"
version = "1"
api = "0.8"

[[processes]]
type = "web"
command = ["printenv"]
args = ["VALUE"]
direct = true
buildpack-id = "example/first"

[[processes]]
type = "where"
command = ["pwd"]
direct = true
working-dir = "sub"
buildpack-id = "example/first"

[[processes]]
type = "shell"
command = "echo $VALUE $PROFILE; pwd"
direct = false
buildpack-id = "second"

[[processes]]
type = "words"
command = "printf"
args = ["%s|", "$VALUE", "-n"]
direct = false
buildpack-id = "second"

[[processes]]
type = "seven"
command = ["sh", "-c", "exit 7"]
direct = true
buildpack-id = "example/first"

[[processes]]
type = "killed"
command = ["sh", "-c", "kill -TERM $$"]
direct = true
buildpack-id = "example/first"

[[processes]]
type = "test-only"
command = ["true"]
direct = true
exec-env = ["test"]
buildpack-id = "example/first"
"#;

impl App {
    fn new() -> Self {
        let app = Self { root: tempfile::tempdir().expect("temporary directory"), variables: Vec::new() };
        app.file("layers/config/metadata.toml", METADATA);
        app.file("app/sub/.keep", "");
        app
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    fn file(&self, relative: &str, contents: &str) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("has one")).expect("created");
        fs::write(&path, contents).expect("written");
        path
    }

    fn script(&self, relative: &str, contents: &str) {
        let path = self.file(relative, &format!("#!/bin/bash\n{contents}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("changed");
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let link = self.path("cnb/process").join(name);
        fs::create_dir_all(link.parent().expect("has one")).expect("created");
        if !link.exists() {
            symlink(env!("CARGO_BIN_EXE_launcher"), &link).expect("linked");
        }
        let mut command = Command::new(&link);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/cnb/process:/cnb/lifecycle:/usr/bin:/bin")
            .env("CNB_PLATFORM_API", "0.12")
            .env("CNB_LAYERS_DIR", self.path("layers"))
            .env("CNB_APP_DIR", self.path("app"))
            .envs(self.variables.iter().cloned());
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Output {
        self.command(name, arguments).output().expect("started")
    }

    fn stdout(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.run(name, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The exit code and the error of a launch that fails.
    fn failure(&self, name: &str, arguments: &[&str]) -> (i32, String) {
        let output = self.run(name, arguments);
        let text = String::from_utf8(output.stderr).expect("text");
        (output.status.code().expect("not killed"), text)
    }
}

fn canonical(path: &Path) -> String {
    format!("{}\n", path.canonicalize().expect("exists").display())
}

#[test]
fn the_name_of_the_program_selects_the_process() {
    let app = App::new();
    app.file("layers/example_first/layer/env.launch/VALUE", "from the layer");
    assert_eq!(app.stdout("web", &[]), "from the layer\n");
}

#[test]
fn user_arguments_replace_default_arguments() {
    let app = App::new().with("OTHER", "other");
    assert_eq!(app.stdout("web", &["OTHER"]), "other\n");
}

#[test]
fn working_directories() {
    let app = App::new();
    assert_eq!(app.stdout("where", &[]), canonical(&app.path("app/sub")));
    assert_eq!(app.stdout("launcher", &["--", "pwd"]), canonical(&app.path("app")));
    assert_eq!(app.stdout("launcher", &["pwd"]), canonical(&app.path("app")));
}

#[test]
fn commands_of_the_user_with_and_without_a_shell() {
    let app = App::new().with("VALUE", "v");
    assert_eq!(app.stdout("launcher", &["--", "echo", "$VALUE"]), "$VALUE\n");
    assert_eq!(app.stdout("launcher", &["echo", "$VALUE"]), "v\n");
    assert_eq!(app.stdout("launcher", &["echo $VALUE | tr v w"]), "w\n");
}

#[test]
fn the_process_does_not_see_what_is_for_the_launcher() {
    let app = App::new().with("HOME", "/home/app").with("CNB_EXEC_ENV", "test");
    let seen = app.stdout("launcher", &["--", "env"]);
    let mut names: Vec<_> = seen.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["CNB_EXEC_ENV", "HOME", "PATH"]);
    assert!(seen.contains("PATH=/usr/bin:/bin\n"), "{seen}");
}

#[test]
fn environment_directories_apply_in_the_order_of_the_spec() {
    let app = App::new().with("VALUE", "base");
    for (path, contents) in [
        ("layers/example_first/a/env/VALUE.append", "a"),
        ("layers/example_first/a/env/VALUE.delim", ":"),
        ("layers/example_first/a/env.launch/VALUE.append", "b"),
        ("layers/example_first/a/env.launch/web/VALUE.append", "c"),
        ("layers/example_first/b/env.launch/VALUE.append", "d"),
        ("layers/example_first/a/env.build/VALUE", "never"),
        ("layers/second/a/env.launch/VALUE.append", "e"),
        ("layers/other/a/env.launch/VALUE", "not a buildpack of this image"),
    ] {
        app.file(path, contents);
    }
    assert_eq!(app.stdout("web", &[]), "base:abcde\n");
    assert_eq!(app.stdout("launcher", &["--", "printenv", "VALUE"]), "base:abde\n");
}

#[test]
fn layers_extend_the_search_paths() {
    let app = App::new();
    for path in ["example_first/a/bin", "example_first/b/bin", "second/c/bin", "second/c/lib"] {
        app.file(&format!("layers/{path}/.keep"), "");
    }
    app.script("layers/second/c/bin/own", "echo found");
    let layers = app.path("layers").display().to_string();
    assert_eq!(
        app.stdout("launcher", &["--", "printenv", "PATH", "LD_LIBRARY_PATH"]),
        format!(
            "{layers}/second/c/bin:{layers}/example_first/b/bin:{layers}/example_first/a/bin:/usr/bin:/bin\n\
             {layers}/second/c/lib\n"
        )
    );
    assert_eq!(app.stdout("launcher", &["--", "own"]), "found\n");
}

#[test]
fn exec_d_returns_variables_and_general_ones_come_first() {
    let app = App::new();
    app.script("layers/example_first/a/exec.d/web/1", "echo \"VALUE = '$VALUE:type-a'\" >&3");
    app.script("layers/example_first/a/exec.d/2", "echo \"VALUE = '$VALUE:a2'\" >&3");
    app.script("layers/example_first/a/exec.d/1", "echo \"VALUE = '$VALUE:a1'\" >&3; echo said; pwd");
    app.script("layers/second/b/exec.d/1", "echo \"VALUE = '$VALUE:b'\" >&3");
    let expected = format!("said\n{}:a1:a2:b:type-a\n", canonical(&app.path("app")));
    assert_eq!(app.stdout("web", &[]), expected);
}

#[test]
fn exec_d_failures_stop_the_launch() {
    for (script, part) in [
        ("exit 3", "exit status: 3"),
        ("echo 'VALUE = 1' >&3", "invalid type"),
        ("echo 'no toml' >&3", "not a set of variables"),
    ] {
        let app = App::new();
        app.script("layers/second/b/exec.d/one", script);
        let (code, text) = app.failure("web", &[]);
        assert_eq!(code, 82, "{script}");
        assert!(text.contains(part) && text.contains("exec.d/one"), "{script}: {text}");
    }
}

#[test]
fn shell_processes_source_profiles_of_layers_then_types_then_the_app() {
    let app = App::new();
    app.file("layers/second/a/profile.d/shell/1", "PROFILE=$PROFILE-type; export PROFILE");
    app.file("layers/second/b/profile.d/2", "PROFILE=$PROFILE-b2");
    app.file("layers/second/a/profile.d/1", "PROFILE=a1");
    app.file("app/.profile", "export VALUE=app");
    assert_eq!(app.stdout("shell", &[]), format!("app a1-b2-type\n{}", canonical(&app.path("app"))));
}

#[test]
fn arguments_of_shell_processes_are_words() {
    let app = App::new().with("VALUE", "two  words");
    assert_eq!(app.stdout("words", &[]), "two  words|-n|");
    assert_eq!(app.stdout("words", &["x y"]), "two  words|-n|x y|");
}

#[test]
fn exit_codes_and_signals_are_the_processs_own() {
    let app = App::new();
    assert_eq!(app.run("seven", &[]).status.code(), Some(7));
    assert_eq!(app.run("killed", &[]).status.signal(), Some(15));
    assert_eq!(app.run("launcher", &["exit 9"]).status.code(), Some(9));
    // The launcher and the shells have been replaced: the signal reaches the process itself.
    for arguments in [&["--", "sleep", "60"][..], &["sleep 60"], &["sleep", "60"]] {
        let mut child = app.command("launcher", arguments).spawn().expect("started");
        let name = format!("/proc/{}/comm", child.id());
        for _ in 0..500 {
            if fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(fs::read_to_string(&name).expect("runs"), "sleep\n", "{arguments:?}");
        child.kill().expect("killed");
        assert_eq!(child.wait().expect("ended").signal(), Some(9));
    }
}

#[test]
fn execution_environments() {
    assert!(App::new().run("test-only", &[]).status.success(), "not filtered before 0.15");
    let new = App::new().with("CNB_PLATFORM_API", "0.15");
    assert_eq!(new.failure("test-only", &[]).0, 82);
    assert!(new.with("CNB_EXEC_ENV", "test").run("test-only", &[]).status.success());
}

#[test]
fn incompatible_apis_and_broken_images() {
    for (api, part) in [("", "no Platform API version is set"), ("0.6", "incompatible"), ("x", "is not a")] {
        let (code, text) = App::new().with("CNB_PLATFORM_API", api).failure("web", &[]);
        assert_eq!(code, 11, "{api}");
        assert!(text.contains(part), "{api}: {text}");
    }
    let app = App::new();
    app.file("layers/config/metadata.toml", "[[buildpacks]]\nid = 'a'\nversion = '1'\napi = '0.99'\n");
    let (code, text) = app.failure("launcher", &["--", "true"]);
    assert_eq!(code, 12);
    assert!(text.contains("buildpack 'a'"), "{text}");
    app.file("layers/config/metadata.toml", "not TOML");
    assert_eq!(app.failure("launcher", &["--", "true"]).0, 82);
    fs::remove_file(app.path("layers/config/metadata.toml")).expect("removed");
    assert_eq!(app.failure("launcher", &["--", "true"]).0, 82);
}

#[test]
fn what_cannot_be_started() {
    let app = App::new();
    for (name, arguments, part) in [
        ("launcher", &[][..], "a command is required; the process types are: web, where"),
        ("launcher", &["--", "does-not-exist"], "no executable 'does-not-exist' in PATH"),
        ("launcher", &["--", "./absent"], "cannot start './absent'"),
    ] {
        let (code, text) = app.failure(name, arguments);
        assert_eq!(code, 82, "{arguments:?}");
        assert!(text.starts_with("ERROR: failed to launch: ") && text.contains(part), "{text}");
    }
    fs::remove_dir_all(app.path("app")).expect("removed");
    assert!(app.failure("web", &[]).1.contains("app directory"));
}

#[test]
fn the_arguments_name_is_what_selects_not_the_file() {
    let app = App::new().with("VALUE", "v");
    let mut command = app.command("launcher", &[]);
    let output = command.arg0("/anything/web").output().expect("started");
    assert_eq!(output.stdout, b"v\n");
}
