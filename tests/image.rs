//! `longshore image`: copies between all places and forms, and what other projects' tools make of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use longshore_test_support::layout::{Files, Layout};
use longshore_test_support::registry::{Fault, FaultyRegistry};
use longshore_test_support::tiny::{TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{DockerRegistry, Dockerd, Podman, TestEnvironment, skopeo};
use serde_json::{Value, json};

use crate::LONGSHORE;

/// An image of one layer with a file, in the local store as `app`; its text is in the file, for that of each test.
fn environment(text: &str) -> TestEnvironment {
    let environment = TestEnvironment::new(LONGSHORE);
    let mut files = Files::default();
    files.folder("etc", 0o755, (0, 0)).file("etc/text", 0o644, text).file("etc/other", 0o600, "other");
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Env": ["A=1"], "Cmd": ["/x"]}});
    let layout = Layout::open(&environment.store());
    let _ = layout.image("docker.io/library/app:latest", config, &[files.archive()]);
    environment.hand_over();
    environment
}

fn types(manifest: &Value) -> Vec<&str> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    let mut types: Vec<&str> = layers.map(|layer| layer["mediaType"].as_str().unwrap()).collect();
    types.push(manifest["config"]["mediaType"].as_str().unwrap());
    types.push(manifest["mediaType"].as_str().unwrap());
    types
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_copy_is_the_same_wherever_it_goes() {
    let environment = environment("a copy is the same");
    let registry = DockerRegistry::start();
    let digest = environment.digest("app");
    let places = [
        format!("docker://{}", registry.reference("team/app:v1")),
        "oci:layout:app:v1".to_owned(),
        "oci-archive:oci.tar:docker.io/library/app:v1".to_owned(),
        "docker-archive:docker.tar:app:v1".to_owned(),
        "back".to_owned(),
    ];
    let mut from = "app".to_owned();
    for place in &places {
        environment.longshore(&["image", "copy", &from, place]).success().says(&digest);
        environment.longshore(&["image", "digest", place]).success().says(&digest);
        from.clone_from(place);
    }
    assert_eq!(environment.digest("back"), digest);
    let path = |name: &str| environment.path(name).display().to_string();
    let found = [
        format!("docker://{}", registry.reference("team/app:v1")),
        format!("oci:{}:app:v1", path("layout")),
        format!("oci-archive:{}", path("oci.tar")),
    ];
    for source in &found {
        assert_eq!(skopeo::inspect(source)["Digest"], digest.as_str(), "{source}");
    }
    // Of this one skopeo makes a manifest of its own.
    skopeo::copy(&format!("docker-archive:{}", path("docker.tar")), &format!("oci:{}:x", path("out")));
    environment.longshore(&["image", "copy", "gone", "oci:x"]).fails_with(1).says("gone");
}

#[test]
fn archives_and_storages_of_docker_and_podman() {
    let environment = environment("archives and storages");
    environment.longshore(&["image", "copy", "app", "docker-archive:app.tar:app:v1"]).success();
    let archive = environment.path("app.tar").display().to_string();
    let podman = Podman::new();
    podman.podman(&["load", "--quiet", "--input", &archive]).success().says("docker.io/library/app:v1");
    let dockerd = Dockerd::start();
    dockerd.docker(&["load", "--quiet", "--input", &archive]).success().says("app:v1");
    let socket = format!("unix://{}", dockerd.socket().display());
    let longshore = |arguments: &[&str]| {
        let mut command = environment.command();
        longshore_test_support::Outcome::of(command.env("DOCKER_HOST", &socket).args(arguments))
    };
    longshore(&["image", "copy", "app", "docker-daemon:copied:v2"]).success();
    dockerd.docker(&["image", "inspect", "copied:v2"]).success();
    longshore(&["image", "copy", "docker-daemon:copied:v2", "back"]).success();
    let config = |name: &str| environment.longshore(&["image", "inspect", "--config", name]).success().stdout;
    assert_eq!(
        config("back"),
        config("app"),
        "the image is the same, whatever the daemon makes of its manifest"
    );
}

/// From every place to every place: the configuration, and so the layers, are the same. What a daemon makes of the manifest is
/// its own.
#[test]
fn every_place_is_a_source_and_a_destination() {
    let environment = environment("every place");
    let registry = DockerRegistry::start();
    let dockerd = Dockerd::start();
    let socket = format!("unix://{}", dockerd.socket().display());
    let graph = environment.path("graph");
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        graph.display(),
        environment.path("runroot").display()
    );
    let storage = environment.write("storage.conf", &storage);
    let engine = environment.write("containers.conf", "[engine]\nevents_logger = \"file\"\n");
    let longshore = |arguments: &[&str]| {
        let mut command = environment.command();
        command.env("DOCKER_HOST", &socket).env("CONTAINERS_STORAGE_CONF", &storage);
        let outcome =
            longshore_test_support::Outcome::of(command.env("CONTAINERS_CONF", &engine).args(arguments));
        outcome.success().stdout
    };
    let place = |transport: &str, name: &str| match transport {
        "" => name.to_owned(),
        "docker" => format!("docker://{}", registry.reference(&format!("{name}:v1"))),
        "oci" => format!("oci:{name}.layout:v1"),
        "docker-daemon" | "containers-storage" => format!("{transport}:{name}:v1"),
        _ => format!("{transport}:{name}.tar:docker.io/library/{name}:v1"),
    };
    let transports =
        ["", "docker", "oci", "oci-archive", "docker-archive", "docker-daemon", "containers-storage"];
    let config = longshore(&["image", "inspect", "--config", "app"]);
    for (index, transport) in transports.iter().enumerate() {
        longshore(&["image", "copy", "app", &place(transport, &format!("first{index}"))]);
    }
    for (index, from) in transports.iter().enumerate() {
        for (number, to) in transports.iter().enumerate() {
            let (from, to) =
                (place(from, &format!("first{index}")), place(to, &format!("copy{index}{number}")));
            longshore(&["image", "copy", &from, &to]);
            assert_eq!(longshore(&["image", "inspect", "--config", &to]), config, "from {from} to {to}");
        }
    }
    // The storage driver leaves its folder mounted on itself, and then it could not be removed.
    let _ = Command::new("umount").arg("--lazy").arg(graph.join("vfs")).output();
}

#[test]
fn podmans_storage_is_read_and_written() {
    let environment = environment("podman's storage");
    let path = |name: &str| environment.path(name).display().to_string();
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        path("graph"),
        path("runroot")
    );
    let storage = environment.write("storage.conf", &storage);
    let engine = environment.write("containers.conf", "[engine]\nevents_logger = \"file\"\n");
    let longshore = |arguments: &[&str]| {
        let mut command = environment.command();
        command.env("CONTAINERS_STORAGE_CONF", &storage).env("CONTAINERS_CONF", &engine).args(arguments);
        longshore_test_support::Outcome::of(&mut command)
    };
    longshore(&["image", "copy", "app", "containers-storage:stored:v1"]).success();
    longshore(&["image", "copy", "containers-storage:stored:v1", "back"]).success();
    longshore(&["image", "copy", "containers-storage:gone:v1", "back"]).fails_with(1).says("podman");
    let config = |name: &str| environment.longshore(&["image", "inspect", "--config", name]).success().stdout;
    assert_eq!(config("back"), config("app"));
    // The storage driver leaves its folder mounted on itself, and then it could not be removed.
    let _ = Command::new("umount").arg(path("graph/vfs")).output();
}

#[test]
fn dual_is_pulled_by_everybody() {
    let environment = environment("dual is pulled by everybody");
    let registry = DockerRegistry::start();
    let name = registry.reference("dual:v1");
    let target = format!("docker://{name}");
    environment.longshore(&["image", "copy", "app", &target, "--layer-format", "dual"]).success();
    let index = skopeo::manifest(&target);
    let children = index["manifests"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    assert_eq!(children[0]["annotations"], Value::Null);
    assert_eq!(children[1]["annotations"]["io.github.containers.compression.zstd"], "true");
    let child = |index: usize| {
        let digest = children[index]["digest"].as_str().unwrap();
        skopeo::manifest(&format!("docker://{}@{digest}", registry.reference("dual")))
    };
    assert!(types(&child(0))[0].ends_with("tar+gzip") && types(&child(1))[0].ends_with("tar+zstd"));
    assert_eq!(child(0)["config"]["digest"], child(1)["config"]["digest"]);
    Podman::new().pull(&name, None);
    Dockerd::start().docker(&["pull", "--quiet", &name]).success();
    environment.longshore(&["image", "copy", &target, "oci:whole:x", "--all"]).success();
    let whole = format!("oci:{}:x", environment.path("whole").display());
    assert_eq!(skopeo::manifest(&whole), index);
}

#[test]
fn builds_and_rebases_have_formats() {
    let registry = DockerRegistry::start();
    let environment = TestEnvironment::new(LONGSHORE);
    let builder = TinyBuilder::new(vec![web_buildpack()]).publish(&registry);
    web_app(&environment.path("app"), "hello\n");
    let name = registry.reference("web:dual");
    let source = format!("docker://{name}");
    let build =
        ["build", &name, "--path", "app", "--builder", &builder, "--publish", "--layer-format", "dual"];
    environment.longshore(&build).success();
    let index = skopeo::manifest(&source);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let uploads = registry.requests("\"PUT /v2/web/").len();
    environment.longshore(&build).success().does_not_say("Converting layer");
    assert_eq!(registry.requests("\"PUT /v2/web/").len(), uploads, "the second build sends nothing");
    assert_eq!(skopeo::manifest(&source), index);

    environment.longshore(&["rebase", &name, "--publish"]).success();
    assert_eq!(skopeo::manifest(&source), index, "on the same run image both stay what they are");
    environment.longshore(&["rebase", &name, "--publish", "--layer-format", "tar+gzip"]).success();
    let converted = skopeo::manifest(&source);
    let children = converted["manifests"].as_array().unwrap();
    assert_eq!(children.len(), 1);
    assert_eq!(children[0]["digest"], index["manifests"][0]["digest"], "the same gzip manifest as before");
}

#[test]
fn appended_layers_have_formats() {
    let environment = environment("appended layers have formats");
    let registry = FaultyRegistry::start([Fault::DockerOnly]);
    let append = |name: &str, more: &[&str]| {
        let _ = environment.write("files/page", name);
        let append = ["image", "append", "--from", "app", "files:/srv", "--tag", name];
        environment.longshore(&[&append[..], more].concat())
    };
    let manifest =
        |name: &str| parse(&environment.longshore(&["image", "inspect", "--raw", name]).success().stdout);
    append("dual", &["--layer-format", "dual"]).success();
    let index = manifest("dual");
    let children = index["manifests"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    assert_eq!(children[1]["annotations"]["io.github.containers.compression.zstd"], "true");
    append("docker", &["--manifest-format", "docker"]).success();
    assert!(types(&manifest("docker")).iter().all(|text| text.contains("docker")));
    append("x", &["--manifest-format", "docker", "--layer-format", "tar+zstd"]).fails_with(1).says("zstd");
    let target = format!("{}/team/app:1", registry.host());
    append(&target, &["--publish"]).success().says("using Docker's");
    registry.assert_tags_are_complete();
    let _ = environment.write("config/longshore/config.toml", "layer-format = \"tar+gzip\"\n");
    append("gzip", &[]).success();
    let gzip = manifest("gzip");
    let types = types(&gzip);
    assert!(types.iter().any(|text| text.ends_with("tar+gzip")), "{types:?}");
    assert!(types.iter().all(|text| !text.contains("zstd")), "{types:?}");
}

/// Numbers that no machine has made an image unreadable; others were written as floats, and escapes undone.
#[test]
fn what_nobody_knows_is_shown_and_kept_as_it_is() {
    let environment = TestEnvironment::new(LONGSHORE);
    let registry = FaultyRegistry::start([]);
    let unknown = r#""_x\u00e9":{ "n" : [1e999,123456789012345678901234567890, -0.0]}"#;
    let config = format!(
        r#"{{{unknown},"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}}}}"#
    );
    let (digest, size) = (registry.put_blob("app", config.as_bytes()), config.len());
    let config_type = "application/vnd.oci.image.config.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,{unknown},"config":{{"mediaType":"{config_type}","digest":"{digest}","size":{size}}},"layers":[]}}"#
    );
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    registry.put_manifest("app", "v1", manifest_type, manifest.as_bytes());
    let name = format!("{}/app:v1", registry.host());
    let shown = environment.longshore(&["image", "inspect", &format!("docker://{name}")]).success().stdout;
    assert_eq!(shown.matches("123456789012345678901234567890,\n").count(), 2, "{shown}");
    let _ = environment.write("files/page", "page");
    environment.longshore(&["image", "append", "--from", &name, "files:/srv", "--tag", "more"]).success();
    let config = environment.longshore(&["image", "inspect", "--config", "more"]).success().stdout;
    assert!(config.contains(unknown) && config.contains("sha256:"), "{config}");
}

#[test]
fn families_do_not_mix_and_auto_falls_back() {
    let environment = environment("families do not mix");
    let copy = |target: &str, more: &[&str]| {
        environment.longshore(&[&["image", "copy", "app", target][..], more].concat())
    };
    copy("docker", &["--manifest-format", "docker"]).success();
    let manifest = environment.longshore(&["image", "inspect", "--raw", "docker"]).success().stdout;
    assert!(types(&parse(&manifest)).iter().all(|text| text.contains("docker")), "{manifest}");
    copy("x", &["--manifest-format", "docker", "--layer-format", "tar+zstd"]).fails_with(1).says("zstd");
    copy("x", &["--manifest-format", "docker", "--layer-format", "dual"]).fails_with(1).says("dual");

    let registry = FaultyRegistry::start([Fault::DockerOnly]);
    let target = format!("docker://{}/app:v1", registry.host());
    copy(&target, &[]).fails_with(1).says("manifest type is not supported");
    let auto = ["--manifest-format", "auto", "--layer-format", "tar+zstd"];
    copy(&target, &auto).success().says("using Docker's");
    registry.assert_tags_are_complete();
    let manifests = || registry.requests_of("PUT", "/manifests/").len();
    let before = manifests();
    copy(&target, &auto).success().says("only Docker's media types before");
    assert_eq!(manifests() - before, 1, "it is remembered, so OCI's types are not tried again");
}

#[test]
fn a_snapshot_makes_a_layer_of_what_changed() {
    let environment = environment("a snapshot makes a layer");
    let root = environment.path("root");
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("etc/text", "old");
    write("etc/gone", "old");
    write("tree/a/b", "old");
    write("mode", "same");
    let append = |name: &str, from: &str, more: &[&str]| {
        let arguments = [&["image", "append", "--from", from, "--tag", name, "root"][..], more].concat();
        environment.longshore(&arguments).success()
    };
    append("before", "app", &["--owner", "keep"]);
    environment.longshore(&["image", "snapshot", "root", "-o", "before.snapshot"]).success();
    write("etc/text", "new");
    write("added/x", "new");
    std::fs::set_permissions(root.join("mode"), PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::remove_file(root.join("etc/gone")).unwrap();
    std::fs::remove_dir_all(root.join("tree")).unwrap();
    append("after", "before", &["--since", "before.snapshot"]).says("Removed tree");

    // Another tool puts the layers over each other.
    let diff = environment.longshore(&["image", "diff", "before", "after", "-o", "json"]).success().stdout;
    let diff = parse(&diff);
    let names: Vec<_> = diff["files"].as_array().unwrap().iter().map(|file| file["name"].clone()).collect();
    assert_eq!(
        names,
        ["/added", "/added/x", "/etc/gone", "/etc/text", "/mode", "/tree", "/tree/a", "/tree/a/b"]
    );
    assert_eq!(diff["commonLayers"], 2);
    let podman = Podman::new();
    environment.longshore(&["image", "copy", "after", "oci-archive:after.tar:after"]).success();
    let archive = environment.path("after.tar").display().to_string();
    podman.podman(&["load", "--quiet", "--input", &archive]).success();
    let out = environment.path("out.tar").display().to_string();
    let container = podman.podman(&["create", "after", "/x"]).success().stdout;
    podman.podman(&["export", "--output", &out, container.trim()]).success();
    let unpacked = environment.path("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let status = Command::new("tar").args(["-xf", &out, "-C"]).arg(&unpacked).status().unwrap();
    assert!(status.success());
    same_tree(&root, &unpacked, Path::new(""));
    for gone in ["etc/gone", "tree"] {
        assert!(!unpacked.join(gone).exists(), "{gone}");
    }
    environment.longshore(&["image", "diff", "after", "after"]).success().says("the same layers");
}

/// Everything of `expected` is in `actual`.
fn same_tree(expected: &Path, actual: &Path, below: &Path) {
    for child in std::fs::read_dir(expected.join(below)).unwrap() {
        let name = below.join(child.unwrap().file_name());
        let (left, right) = (expected.join(&name), actual.join(&name));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&left), mode(&right), "{}", name.display());
        if left.is_dir() {
            same_tree(expected, actual, &name);
        } else {
            assert_eq!(std::fs::read(&left).unwrap(), std::fs::read(&right).unwrap(), "{}", name.display());
        }
    }
}

#[test]
fn artifacts_are_attached_and_found() {
    let environment = environment("artifacts are attached");
    let sbom = environment.write("sbom.json", r#"{"spdxVersion":"SPDX-2.3"}"#).display().to_string();
    let registry = DockerRegistry::start();
    let faulty = FaultyRegistry::start([]);
    // Debian's registry has no referrers API, the other one has.
    for name in [registry.reference("app:v1"), format!("{}/app:v1", faulty.host())] {
        environment.longshore(&["image", "copy", "app", &format!("docker://{name}")]).success();
        let attach = ["image", "attach", &name, &sbom, "--artifact-type", "application/spdx+json"];
        let tagged =
            environment.longshore(&["image", "digest", &format!("docker://{name}")]).success().stdout;
        environment.longshore(&attach).success();
        let after = environment.longshore(&["image", "digest", &format!("docker://{name}")]).success().stdout;
        assert_eq!(after, tagged, "artifacts are never tagged over images");
        let list = environment.longshore(&["image", "referrers", &name, "-o", "json"]).success().stdout;
        let list = parse(&list);
        assert_eq!(list["referrers"].as_array().unwrap().len(), 1, "{name}");
        assert_eq!(list["referrers"][0]["artifactType"], "application/spdx+json");
        let other = ["image", "referrers", &name, "--artifact-type", "text/plain"];
        environment.longshore(&other).success().does_not_say("spdx");
        let artifact =
            format!("{}@{}", name.trim_end_matches(":v1"), list["referrers"][0]["digest"].as_str().unwrap());
        environment.longshore(&["run", &artifact]).fails_with(1).says("application/spdx+json");
    }
    let empty = environment.write("empty", "").display().to_string();
    let attach = ["image", "attach", &registry.reference("app:v1"), &empty, "--artifact-type", "text/plain"];
    environment.longshore(&attach).fails_with(1).says("empty");
}

#[test]
fn a_cache_of_buildkit_is_called_by_its_name() {
    let environment = environment("a cache of BuildKit");
    let layout = Layout::open(&environment.path("cache"));
    let config = layout.blob("application/vnd.buildkit.cacheconfig.v0", b"{\"layers\":[],\"records\":[]}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [],
    });
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let descriptor = layout.blob("application/vnd.oci.image.manifest.v1+json", &bytes);
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    std::fs::write(environment.path("cache/index.json"), index.to_string()).unwrap();
    environment.longshore(&["run", "oci:cache"]).fails_with(1).says("the build cache of BuildKit");
}
