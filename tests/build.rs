//! `longshore build` and `longshore run` with a tiny builder and the local store.

use std::time::Duration;

use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::layout::Layout;
use longshore_test_support::tiny::{TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{TestEnvironment, http, skopeo};

use crate::LONGSHORE;

const LIMIT: Duration = Duration::from_secs(30);

/// A buildpack with a launch layer that it keeps while the app's file `key` is the same.
pub(crate) fn caching_buildpack() -> ShellBuildpack {
    ShellBuildpack::new(
        "test/caching",
        r#"layer=$CNB_LAYERS_DIR/dependencies
key=$(cat key)
if grep -q "key = \"$key\"" "$layer.toml" 2>/dev/null && [ -f "$layer/installed" ]; then
    echo "keeping dependencies"
else
    echo "installing dependencies"
    rm -rf "$layer"
    mkdir -p "$layer"
    echo "$key" > "$layer/installed"
fi
printf '[types]\nlaunch = true\nbuild = true\ncache = true\n[metadata]\nkey = "%s"\n' "$key" > "$layer.toml""#,
    )
}

#[test]
fn an_app_is_built_and_answers() {
    let environment = TestEnvironment::new(LONGSHORE);
    TinyBuilder::new(vec![web_buildpack()]).install(&environment);
    web_app(&environment.path("app"), "hello\n");
    environment.longshore(&["build", "web", "--path", "app", "--builder", "tiny-builder"]).success();

    let port = http::free_port();
    let _server = environment.serve("web", port);
    assert_eq!(http::get(port, "/", LIMIT), "hello\n");
}

#[test]
fn the_image_is_what_the_platform_specification_asks() {
    let environment = TestEnvironment::new(LONGSHORE);
    TinyBuilder::new(vec![web_buildpack()]).install(&environment);
    web_app(&environment.path("app"), "hello\n");
    environment.longshore(&["build", "web", "--path", "app", "--builder", "tiny-builder"]).success();

    let stored = environment.stored("docker.io/library/web:latest");
    let config = skopeo::configuration(&stored);
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/cnb/process/web"]));
    assert_eq!(config["config"]["WorkingDir"], "/workspace");
    assert_eq!(config["config"]["User"], "1002:1000");
    assert_eq!(config["created"], "1980-01-01T00:00:01Z");
    let label = config["config"]["Labels"]["io.buildpacks.build.metadata"].as_str().unwrap();
    let metadata: serde_json::Value = serde_json::from_str(label).unwrap();
    assert_eq!(metadata["buildpacks"][0]["id"], "test/web");
    assert_eq!(metadata["processes"][0]["type"], "web");

    let manifest = skopeo::manifest(&stored);
    for layer in manifest["layers"].as_array().unwrap().iter().skip(1) {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    }
}

#[test]
fn a_second_build_installs_nothing_and_gives_the_same_image() {
    let environment = TestEnvironment::new(LONGSHORE);
    TinyBuilder::new(vec![caching_buildpack(), web_buildpack()]).install(&environment);
    web_app(&environment.path("app"), "hello\n");
    let _ = environment.write("app/key", "1");
    let build = ["build", "web", "--path", "app", "--builder", "tiny-builder"];
    environment.longshore(&build).success().says("installing dependencies");
    let first = environment.digest("web");
    environment.longshore(&build).success().says("keeping dependencies");
    assert_eq!(environment.digest("web"), first);

    let _ = environment.write("app/key", "2");
    environment.longshore(&build).success().says("installing dependencies");
    assert_ne!(environment.digest("web"), first);
}

#[test]
fn clearing_the_cache_installs_again() {
    let environment = TestEnvironment::new(LONGSHORE);
    TinyBuilder::new(vec![caching_buildpack(), web_buildpack()]).install(&environment);
    web_app(&environment.path("app"), "hello\n");
    let _ = environment.write("app/key", "1");
    let build = ["build", "web", "--path", "app", "--builder", "tiny-builder"];
    environment.longshore(&build).success();
    environment
        .longshore(&[&build[..], &["--clear-cache"]].concat())
        .success()
        .says("installing dependencies");
}

#[test]
fn a_builder_may_be_an_oci_layout() {
    let environment = TestEnvironment::new(LONGSHORE);
    let builder = TinyBuilder::new(vec![web_buildpack()]);
    builder.install(&environment);
    builder.write_builder(&Layout::open(&environment.path("layout")), "builder");
    web_app(&environment.path("app"), "hello\n");
    let reference = format!("oci:{}", environment.path("layout").display());
    environment.longshore(&["build", "web", "--path", "app", "--builder", &reference]).success();
    assert!(environment.find("web").is_some());
}

#[test]
fn variables_reach_the_build_and_nothing_else_of_the_machine_does() {
    let environment = TestEnvironment::new(LONGSHORE);
    let show = ShellBuildpack::new(
        "test/show",
        r#"echo "GREETING=${GREETING:-} SECRET=${SECRET:-} user=$(id -u):$(id -g) pwd=$(pwd)"
cat "$CNB_PLATFORM_DIR/env/GREETING"
if [ -e "$HOST_FILE" ]; then echo "the host shows"; fi"#,
    );
    TinyBuilder::new(vec![show, web_buildpack()]).install(&environment);
    web_app(&environment.path("app"), "hello\n");
    let host_file = format!("HOST_FILE={}", environment.write("secret", "x").display());
    let build = [
        "build",
        "web",
        "--path",
        "app",
        "--builder",
        "tiny-builder",
        "--env",
        "GREETING=hi",
        "--env",
        &host_file,
    ];
    let mut command = environment.command();
    command.env("SECRET", "do not show").args(build);
    longshore_test_support::Outcome::of(&mut command)
        .success()
        .says("GREETING=hi SECRET= user=1001:1000 pwd=/workspace")
        .does_not_say("the host shows");
}

#[test]
fn a_buildpack_may_come_from_a_folder() {
    let environment = TestEnvironment::new(LONGSHORE);
    TinyBuilder::new(vec![web_buildpack()]).install(&environment);
    let extra = ShellBuildpack::new("test/extra", "echo the extra buildpack was here");
    extra.write(&environment.path("extra"));
    web_app(&environment.path("app"), "hello\n");
    let build =
        ["build", "web", "--path", "app", "--builder", "tiny-builder", "-b", "extra", "-b", "test/web@1.0.0"];
    environment.longshore(&build).success().says("the extra buildpack was here");
}

#[test]
fn run_keeps_the_exit_code_and_passes_arguments() {
    let environment = TestEnvironment::new(LONGSHORE);
    let shell = ShellBuildpack::new(
        "test/shell",
        r#"cat > "$CNB_LAYERS_DIR/launch.toml" <<'END'
[[processes]]
type = "web"
command = ["sh", "-c", "echo \"arguments: $*\"; exit 7", "sh"]
default = true
[[processes]]
type = "other"
command = ["echo", "the other process"]
END"#,
    );
    TinyBuilder::new(vec![shell]).install(&environment);
    web_app(&environment.path("app"), "hello\n");
    environment.longshore(&["build", "app", "--path", "app", "--builder", "tiny-builder"]).success();
    environment.longshore(&["run", "app", "--", "one", "two"]).fails_with(7).says("arguments: one two");
    environment.longshore(&["run", "app", "--process", "other"]).success().says("the other process");
}
