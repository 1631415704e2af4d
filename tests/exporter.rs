//! The phases of a build by themselves: what an unchanged export costs, and that its image depends on nothing but what is
//! exported.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use longshore_test_support::layout::{Layout, digest};
use longshore_test_support::registry::{Fault, Logged};
use longshore_test_support::tiny::TinyBuilder;
use longshore_test_support::{FaultyRegistry, Outcome, TestEnvironment, skopeo};

use crate::LONGSHORE;

const GROUP: &str = "[[group]]\nid = \"test/big\"\nversion = \"1.0.0\"\napi = \"0.10\"\n";
const METADATA: &str = "[[buildpacks]]\nid = \"test/big\"\nversion = \"1.0.0\"\napi = \"0.10\"\n\
     [[processes]]\ntype = \"web\"\ncommand = [\"run\"]\nargs = []\ndefault = true\nbuildpack-id = \"test/big\"\n\
     [[slices]]\npaths = [\"static/*\"]\n";
const TYPES: &str = "[types]\nlaunch = true\ncache = true\n";

/// How a phase is run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Way {
    /// On so many processors, if there are that many; on all when there is no number.
    processors: Option<usize>,
    /// As many threads make layers side by side; the library's choice when there is no number.
    threads: Option<u32>,
    /// Nothing that the stat index says is believed.
    paranoid: bool,
    /// On an emulated processor of this model, by QEMU's name.
    model: Option<&'static str>,
}

impl Way {
    /// What starts a program so.
    fn command(self, program: &Path) -> Command {
        let mut words = Vec::new();
        if let Some(count) = self.processors {
            words.extend(["taskset".into(), "-c".into(), processors(count)]);
        }
        if let Some(model) = self.model {
            words.extend(["qemu-x86_64".into(), "-cpu".into(), model.into()]);
        }
        words.push(program.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

/// What buildpacks left, and a registry with the run image.
pub(crate) struct Machine {
    pub(crate) environment: TestEnvironment,
    pub(crate) registry: FaultyRegistry,
    format: &'static str,
    app_layer: &'static str,
}

impl Machine {
    fn new(format: &'static str) -> Self {
        let machine = Self::without_layer(format);
        machine.write_layer(&machine.path("layers/test_big/deps"));
        machine.environment.hand_over();
        machine
    }

    /// The directory of the cached layer `test_big/deps` is still to be made.
    pub(crate) fn without_layer(format: &'static str) -> Self {
        let environment = TestEnvironment::new(LONGSHORE);
        let registry = FaultyRegistry::start([]);
        let machine = Self { environment, registry, format, app_layer: "full" };
        TinyBuilder::new(Vec::new()).write_run_image(&Layout::open(&machine.path("images")), "run");
        let source = format!("oci:{}:run", machine.path("images").display());
        skopeo::copy(&source, &format!("docker://{}", machine.name("run:1")));
        for (name, text) in [
            ("layers/group.toml", GROUP),
            ("layers/config/metadata.toml", METADATA),
            ("layers/test_big/deps.toml", TYPES),
            ("app/server", "serve\n"),
            ("app/static/page", "hello\n"),
            ("launcher", "launcher"),
        ] {
            let _ = machine.environment.write(name, text);
        }
        std::fs::create_dir(machine.path("phases")).unwrap();
        for phase in ["analyzer", "restorer", "exporter"] {
            symlink(LONGSHORE, machine.path("phases").join(phase)).unwrap();
        }
        machine.environment.hand_over();
        machine
    }

    /// Files of 12 MiB: more than one chunk of the tar in one file, many files in one chunk, and what does and what does
    /// not become smaller.
    fn write_layer(&self, folder: &Path) {
        for folder_number in 0..40 {
            let folder = folder.join(format!("small-{folder_number}"));
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..50 {
                let text = format!("{folder_number} {number}\n").repeat(number * 4);
                std::fs::write(folder.join(format!("file-{number}")), text).unwrap();
            }
        }
        std::fs::write(folder.join("noise"), noise(5 << 20)).unwrap();
        std::fs::write(folder.join("text"), "the same line again\n".repeat(250_000)).unwrap();
        symlink("noise", folder.join("link")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.environment.path(name)
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.host())
    }

    fn phase(&self, phase: &str, way: Way, arguments: &[&str]) -> Command {
        let mut command = way.command(&self.path("phases").join(phase));
        let owner = self.path("layers").metadata().unwrap();
        for (name, value) in self.environment.command().get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
            .args(arguments)
            .env("CNB_PLATFORM_API", "0.13")
            .env("CNB_LAYERS_DIR", self.path("layers"))
            .env("CNB_APP_DIR", self.path("app"))
            .env("CNB_USER_ID", owner.uid().to_string())
            .env("CNB_GROUP_ID", owner.gid().to_string())
            .env("CNB_LAYER_FORMAT", self.format)
            .env("CNB_APP_LAYER", self.app_layer)
            .current_dir(self.path("."));
        if let Some(threads) = way.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        if way.paranoid {
            command.env("CNB_PARANOID", "true");
        }
        command
    }

    pub(crate) fn analyze(&self, image: &str, way: Way) {
        let mut phase = self.phase("analyzer", way, &["-run-image", &self.name("run:1"), &self.name(image)]);
        Outcome::of(&mut phase).success();
    }

    /// The exporter, which writes a cache.
    pub(crate) fn exporter(&self, image: &str, cache: &str, way: Way) -> Command {
        let (launcher, cache) = (self.path("launcher"), self.path(cache));
        std::fs::create_dir_all(&cache).unwrap();
        let (launcher, cache) = (launcher.display().to_string(), cache.display().to_string());
        self.phase("exporter", way, &["-launcher", &launcher, "-cache-dir", &cache, &self.name(image)])
    }

    fn export(&self, image: &str, cache: &str, way: Way) {
        Outcome::of(&mut self.exporter(image, cache, way)).success();
    }

    /// The restorer, which reads a cache.
    pub(crate) fn restorer(&self, cache: &str, way: Way) -> Command {
        self.phase("restorer", way, &["-cache-dir", &self.path(cache).display().to_string()])
    }

    /// The digest of the image of a build with that cache.
    pub(crate) fn build(&self, image: &str, cache: &str, way: Way) -> String {
        self.analyze(image, way);
        self.export(image, cache, way);
        self.digest(image)
    }

    /// As a build in a new container, which has nothing but the cache.
    fn build_after_restore(&self, image: &str, cache: &str, way: Way) -> String {
        std::fs::remove_dir_all(self.path("layers/test_big")).unwrap();
        self.analyze(image, way);
        Outcome::of(&mut self.restorer(cache, way)).success();
        assert!(self.path("layers/test_big/deps/noise").exists(), "the layer is restored");
        // What the buildpack says of its layer again.
        let _ = self.environment.write("layers/test_big/deps.toml", TYPES);
        self.export(image, cache, way);
        self.digest(image)
    }

    pub(crate) fn digest(&self, image: &str) -> String {
        let (repository, tag) = image.split_once(':').unwrap();
        digest(&self.registry.manifest(repository, tag).expect("an image"))
    }
}

/// Bytes that no compression makes small, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).take(length / 8).flatten().collect()
}

/// The numbers of some of the processors that this test may use, as `taskset` wants them.
fn processors(count: usize) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let ranges = list.trim().split(',').map(|range| range.split_once('-').unwrap_or((range, range)));
    let numbers = ranges.flat_map(|(first, last)| first.parse::<u32>().unwrap()..=last.parse().unwrap());
    numbers.take(count).map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

/// All ways to make the same image.
fn one_digest(format: &'static str) {
    let machine = Machine::new(format);
    let mut digests = Vec::new();
    for (processors, threads) in [(1, 1), (1, 7), (2, 7), (4, 1)] {
        let way = Way { processors: Some(processors), threads: Some(threads), ..Way::default() };
        let name = format!("app-{processors}-{threads}");
        let (image, cache) = (format!("{name}:1"), format!("caches/{name}"));
        let mut note = |what, digest| digests.push((digest, what, way));
        note("cold", machine.build(&image, &cache, way));
        note("with the index", machine.build(&image, &cache, way));
        note("paranoid", machine.build(&image, &cache, Way { paranoid: true, ..way }));
        note("after a restore", machine.build_after_restore(&image, &cache, way));
        note("without a previous image", machine.build(&format!("{name}-other:1"), &cache, way));
        note("with another cache", machine.build(&image, &format!("{cache}-other"), way));
        // What is sent while it is made does not arrive, and is sent again from its file.
        machine.registry.set_faults([Fault::DropsStreams { tells: false }]);
        note("spooled", machine.build(&format!("{name}-spooled:1"), &format!("{cache}-spooled"), way));
        machine.registry.set_faults([]);
    }
    machine.registry.assert_tags_are_complete();
    let (first, ..) = &digests[0];
    let others: Vec<_> = digests.iter().filter(|(digest, ..)| digest != first).collect();
    assert!(others.is_empty(), "not {first}: {others:#?}");
}

#[test]
fn neither_processors_nor_threads_nor_what_is_known_change_an_image_of_zstd() {
    one_digest("tar+zstd");
}

#[test]
fn neither_processors_nor_threads_nor_what_is_known_change_an_image_of_gzip() {
    one_digest("tar+gzip");
}

/// The digest and the configuration of an image made on each of these models of processors, in the order of their names.
#[cfg(target_arch = "x86_64")]
fn on_models(format: &'static str, models: &[Option<&'static str>]) -> Vec<(String, serde_json::Value)> {
    let machine = Machine::new(format);
    let build = |model: &Option<&'static str>| {
        let (way, name) = (Way { model: *model, ..Way::default() }, model.unwrap_or("native"));
        let name = format!("app-{}", name.to_lowercase());
        // The image is read on the machine as it is: what an emulated processor decides is the bytes of layers.
        machine.analyze(&format!("{name}:1"), Way::default());
        machine.export(&format!("{name}:1"), &format!("caches/{name}"), way);
        let configuration =
            skopeo::manifest(&format!("docker://{}", machine.name(&format!("{name}:1"))))["config"].clone();
        (machine.digest(&format!("{name}:1")), configuration)
    };
    models.iter().map(build).collect()
}

/// Compressors choose their code by what the processor can do: SSE 4.2, AVX, AVX2, AVX-512.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_model_of_the_processor_does_not_change_an_image() {
    for format in ["tar+gzip", "tar+zstd"] {
        let images = on_models(format, &[None, Some("Nehalem"), Some("SandyBridge"), Some("Haswell")]);
        assert!(images.iter().all(|image| *image == images[0]), "{format}: {images:#?}");
    }
}

/// The one exception of docs/guide.md. What identifies the image stays the same: its configuration, with the DiffIDs.
#[cfg(target_arch = "x86_64")]
#[test]
fn without_sse_4_2_only_the_compressed_bytes_of_gzip_are_others() {
    let images = on_models("tar+gzip", &[Some("Nehalem"), Some("kvm64"), Some("Conroe")]);
    assert_ne!(images[0].0, images[1].0);
    assert_eq!(images[1].0, images[2].0);
    assert!(images.iter().all(|image| image.1 == images[0].1), "{images:#?}");
    let images = on_models("tar+zstd", &[Some("Nehalem"), Some("kvm64")]);
    assert_eq!(images[0], images[1]);
}

/// An export that changes nothing asks what it has to compare, and then whether the name is that image already.
#[test]
fn an_unchanged_export_ends_after_comparing() {
    let machine = Machine::new("tar+zstd");
    let (image, way) = ("app:1", Way::default());
    let first = machine.build(image, "cache", way);
    machine.analyze(image, way);
    let before = machine.registry.requests().len();
    machine.export(image, "cache", way);
    let requests = machine.registry.requests().split_off(before);
    assert_eq!(machine.digest(image), first);

    let shown = format!("{requests:#?}");
    println!("{shown}");
    let of = |is: &dyn Fn(&Logged) -> bool| requests.iter().filter(|request| is(request)).count();
    assert_eq!(of(&|request| !matches!(request.method.as_str(), "GET" | "HEAD")), 0, "{shown}");
    assert_eq!(of(&|request| request.received > 0), 0, "{shown}");
    // The name itself is asked for its digest alone, and once.
    assert_eq!(of(&|request| request.path.ends_with("/app/manifests/1") && request.method == "GET"), 0);
    assert_eq!(of(&|request| request.path.ends_with("/app/manifests/1") && request.method == "HEAD"), 1);
    let manifests = of(&|request| request.path.contains("/manifests/sha256:") && request.method == "GET");
    assert!(manifests <= 2, "those of the run image and of the previous image: {shown}");
    // The configurations are beside the cache: one was written from here, the other read at the first build.
    assert_eq!(of(&|request| request.path.contains("/blobs/")), 0, "{shown}");

    // Without a cache there is no place for them.
    let before = machine.registry.requests().len();
    let launcher = machine.path("launcher").display().to_string();
    let arguments = ["-launcher", &launcher, &machine.name(image)];
    Outcome::of(&mut machine.phase("exporter", way, &arguments)).success();
    let requests = machine.registry.requests().split_off(before);
    let shown = format!("{requests:#?}");
    let blobs: Vec<_> = requests.iter().filter(|request| request.path.contains("/blobs/")).collect();
    let config = |repository: &str, name: &str| -> String {
        let manifest = machine.registry.manifest(repository, name).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        format!("/v2/{repository}/blobs/{}", manifest["config"]["digest"].as_str().unwrap())
    };
    let configs = [config("app", "1"), config("run", "1")];
    assert_eq!(blobs.len(), 2, "{shown}");
    assert!(blobs.iter().all(|request| configs.contains(&request.path)), "{shown}");
}

/// What changed in the app is a layer on top of those of the previous image, where the cache directory has a record of it.
#[test]
fn an_exporter_makes_deltas_of_an_app() {
    let machine = Machine { app_layer: "delta", ..Machine::new("tar+zstd") };
    let (without_slices, _) = METADATA.split_once("[[slices]]").unwrap();
    let _ = machine.environment.write("layers/config/metadata.toml", without_slices);
    std::fs::write(machine.path("app/large"), noise(1 << 20)).unwrap();
    let (image, way) = ("app:1", Way::default());
    let app_layers = || -> Vec<String> {
        let read = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        let manifest = read(machine.registry.manifest("app", "1").unwrap());
        let config = manifest["config"]["digest"].as_str().unwrap();
        let config = read(machine.registry.blob("app", config).unwrap());
        let label = config["config"]["Labels"]["io.buildpacks.lifecycle.metadata"].as_str().unwrap();
        let label: serde_json::Value = serde_json::from_str(label).unwrap();
        label["app"].as_array().unwrap().iter().map(|layer| layer["sha"].to_string()).collect()
    };
    let sent = || -> u64 {
        let requests = machine.registry.requests().into_iter();
        requests.filter(|request| request.path.contains("/app/blobs/")).map(|request| request.received).sum()
    };
    machine.build(image, "cache", way);
    let first = app_layers();
    assert_eq!(first.len(), 1);
    let before = sent();
    assert!(before > 1 << 20);

    let _ = machine.environment.write("app/server", "serve something else\n");
    let changed = machine.build(image, "cache", way);
    let second = app_layers();
    assert!(second.len() == 2 && second[0] == first[0], "{second:?}");
    assert!(sent() - before < 20_000, "{} bytes were sent", sent() - before);
    assert_eq!(machine.build(image, "cache", way), changed, "nothing has changed");

    // A cache that knows nothing of the app: all of it is a layer again.
    machine.build(image, "other-cache", way);
    assert_eq!(app_layers().len(), 1);
    machine.registry.assert_tags_are_complete();
}
