//! What the other tests stand on: does it stand by itself?

use std::time::Duration;

use longshore_test_support::layout::Layout;
use longshore_test_support::tiny::{TinyBuilder, web_buildpack};
use longshore_test_support::{DockerRegistry, Dockerd, OrdinaryUser, Outcome, Podman, http, skopeo};

/// A run image in a registry; its shell is started with a command, as nothing has been built into it.
fn tiny_image(registry: &DockerRegistry) -> String {
    let _ = TinyBuilder::new(vec![web_buildpack()]).publish(registry);
    registry.reference("tiny-run:latest")
}

#[test]
fn the_tiny_builder_says_what_the_platform_specification_asks() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path());
    TinyBuilder::new(vec![web_buildpack()]).write_builder(&layout, "tiny");
    let config = skopeo::configuration(&format!("oci:{}:tiny", folder.path().display()));
    let order = config["config"]["Labels"]["io.buildpacks.buildpack.order"].as_str().unwrap();
    assert_eq!(order, r#"[{"group":[{"id":"test/web","version":"1.0.0"}]}]"#);
    assert_eq!(config["config"]["User"], "1001:1000");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(3));
}

#[test]
fn dockerd_pulls_from_the_registry_and_runs() {
    let registry = DockerRegistry::start();
    let image = tiny_image(&registry);
    let dockerd = Dockerd::start();
    dockerd.docker(&["pull", &image]).success();
    let run = ["run", "--rm", "--network=host", &image, "sh", "-c", "id -u; cat /etc/os-release"];
    dockerd.docker(&run).success().says("1002").says("ID=tiny");
    assert!(!registry.requests("\"GET /v2/tiny-run/blobs/").is_empty(), "the registry has served no blob");
}

#[test]
fn podman_pulls_from_the_registry_and_runs_a_server() {
    let registry = DockerRegistry::start_with_password("user", "secret");
    let image = registry.reference("web:latest");
    let folder = tempfile::tempdir().unwrap();
    TinyBuilder::new(vec![web_buildpack()]).write_run_image(&Layout::open(folder.path()), "run");
    let source = format!("oci:{}:run", folder.path().display());
    let copy = ["copy", "--quiet", "--dest-tls-verify=false", "--dest-creds=user:secret", &source];
    skopeo::skopeo(&[&copy[..], &[&format!("docker://{image}")]].concat()).success();

    let podman = Podman::new();
    podman.pull(&image, Some(("user", "secret")));
    let port = http::free_port();
    let serve = format!("echo from podman > /tmp/index.html; exec httpd -f -p 127.0.0.1:{port} -h /tmp");
    let arguments = ["run", "--detach", "--pull=never", "--network=host", &image, "sh", "-c", &serve];
    let container = podman.podman(&arguments).success().stdout;
    let answer = http::get(port, "/", Duration::from_secs(20));
    podman.podman(&["rm", "--force", "--time=1", container.trim()]).success();
    assert_eq!(answer, "from podman\n");
}

#[test]
fn a_registry_with_a_password_turns_strangers_away() {
    let mut registry = DockerRegistry::start_with_password("user", "secret");
    assert_eq!(http::get_once(registry.port(), "/v2/").unwrap().status, 401);
    registry.stop();
    assert!(http::get_once(registry.port(), "/v2/").is_err(), "the registry still answers");
}

#[test]
fn the_ordinary_user_is_not_root() {
    let outcome = Outcome::of(OrdinaryUser::get().command("id".as_ref()).arg("-u")).success();
    assert_ne!(outcome.stdout.trim(), "0");
}
