//! Exports into a local store: first build, unchanged rebuild, changed rebuild, and what must be refused.

mod delta;
mod formats;
mod registry;
mod sending;
mod unchanged;

use std::fs;
use std::path::Path;

use longshore_cnb::analyzed::{ImageIdentifier, RunImage};
use longshore_cnb::group::GroupElement;
use longshore_cnb::lifecycle_metadata::{LIFECYCLE_METADATA_LABEL, LifecycleMetadata};
use longshore_image::layer::{self, Entry, LayerSource, ParentOwnership};
use longshore_image::{
    BlobSource, Config, Descriptor, Digest, ImageManifest, LayerFormat, LocalStore, ManifestFormat, MediaType,
};

use super::*;

pub(crate) const OWNERSHIP: Ownership =
    Ownership { uid: 1001, gid: 1000, parents: ParentOwnership::Fixed { uid: 1001, gid: 1000, mode: 0o755 } };

/// A store with a run image, and what a build leaves.
pub(crate) struct Fixture {
    pub(crate) root: tempfile::TempDir,
    pub(crate) store: Arc<LocalStore>,
    pub(crate) group: Group,
    pub(crate) analyzed: Analyzed,
}

/// Puts an image of one layer into a store.
pub(crate) fn base_image(
    store: &LocalStore,
    name: &str,
    content: &str,
    change: impl FnOnce(&mut Config),
) -> Image {
    let reference: Reference = name.parse().unwrap();
    let source = LayerSource::entries(vec![Entry::file("/base", 0o644, content.to_owned())]);
    let layer = layer::build(&source, LayerFormat::TarGzip, ManifestFormat::Oci, &store.sink()).unwrap();
    let mut config = Config::new(&Platform::linux("amd64"));
    config.set_diff_ids(&[layer.diff_id]);
    config.set_env("PATH", "/usr/bin:/opt/a=b");
    config.set_env("KEPT", "yes");
    config.set_label("io.buildpacks.base.distro.name", "debian");
    config.set_user("1001:1000");
    change(&mut config);
    let bytes = config.to_bytes();
    let descriptor =
        Descriptor::new(MediaType::Config(ManifestFormat::Oci), Digest::of(&bytes), bytes.len() as u64);
    store.write_blob(&reference, &layer.descriptor, &BlobSource::File(layer.path), None).unwrap();
    store.write_blob(&reference, &descriptor, &BlobSource::Bytes(bytes), None).unwrap();
    let manifest =
        Manifest::image(ImageManifest::new(ManifestFormat::Oci, descriptor, vec![layer.descriptor]));
    store.put_manifest(&reference, &manifest).unwrap();
    store.resolve(&reference, &Platform::linux("amd64")).unwrap().unwrap()
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Arc::new(LocalStore::open(&root.path().join("store")).unwrap());
        let base = base_image(&store, "run:1", "one", |_| {});
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("layers/acme_web/deps/bin/tool", "tool");
        write("layers/acme_web/deps.toml", "[types]\nlaunch = true\n[metadata]\nversion = 3\n");
        write("layers/acme_web/cached/x", "x");
        write("layers/acme_web/cached.toml", "[types]\ncache = true\n");
        write("layers/acme_web/store.toml", "[metadata]\nn = 1\n");
        write("layers/sbom/launch/acme_web/sbom.cdx.json", "{}");
        write(
            "layers/config/metadata.toml",
            "buildpack-default-process-type = \"web\"\n[[buildpacks]]\nid = \"acme/web\"\nversion = \"1.0\"\n\
             [[processes]]\ntype = \"web\"\ncommand = [\"run\"]\nargs = []\ndirect = true\nbuildpack-id = \"acme/web\"\n\
             [[labels]]\nkey = \"mine\"\nvalue = \"<1>\"\n[[slices]]\npaths = [\"static\"]\n",
        );
        write("app/main.py", "print()");
        write("app/static/a.css", "a");
        write("launcher", "launcher");
        let element =
            GroupElement { id: "acme/web".to_owned(), version: "1.0".to_owned(), ..GroupElement::default() };
        let run_image = RunImage {
            reference: format!("run@{}", base.manifest.digest()),
            image: "run:1".to_owned(),
            ..RunImage::default()
        };
        Self {
            root,
            store,
            group: Group { buildpacks: vec![element], ..Group::default() },
            analyzed: Analyzed { run_image: Some(run_image), ..Analyzed::default() },
        }
    }

    fn mapped(&self, host: &str, name: &str) -> MappedDirectory {
        MappedDirectory { host: self.root.path().join(host), name: name.into() }
    }

    pub(crate) fn input<'a>(&'a self, images: &'a [String]) -> ExportInput<'a> {
        let store: Arc<dyn ImageStore> = self.store.clone();
        ExportInput {
            platform_api: PlatformApi::parse("0.12").unwrap(),
            images,
            layers: self.mapped("layers", "/layers"),
            app: self.mapped("app", "/workspace"),
            group: &self.group,
            analyzed: &self.analyzed,
            run_image_names: RunImageNames {
                image: "run:1".to_owned(),
                mirrors: vec!["localhost/run:1".to_owned()],
            },
            extended: self.root.path().join("layers/extended"),
            launcher: self.root.path().join("launcher"),
            launcher_sbom: None,
            launcher_metadata: LauncherMetadata::default(),
            process_type: None,
            project: ProjectMetadata::default(),
            exec_env: Some("production".to_owned()),
            ownership: OWNERSHIP,
            created: crate::default_created(),
            app_layer: AppLayer::Full,
            layer_format: Some(LayerFormat::TarZstd.into()),
            manifest_format: None,
            platform: Platform::linux("amd64"),
            target: store.clone(),
            run_images: store,
            identify: Identify::ByDigest,
            sink: self.store.sink(),
            tars: None,
            index: None,
        }
    }

    pub(crate) fn export(&self) -> ExportOutput {
        export(&self.input(&["app:1".to_owned()])).unwrap()
    }

    pub(crate) fn image(&self, name: &str) -> Image {
        self.store.resolve(&name.parse().unwrap(), &Platform::linux("amd64")).unwrap().unwrap()
    }

    /// What the next build's analyze finds.
    pub(crate) fn analyze(&mut self, name: &str) {
        let image = self.image(name);
        self.analyzed.metadata =
            serde_json::from_str(image.config.label(LIFECYCLE_METADATA_LABEL).unwrap()).unwrap();
        let reference = image.reference.with_digest(image.manifest.digest()).to_string();
        self.analyzed.previous_image = Some(ImageIdentifier { reference });
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }
}

#[test]
fn first_export_has_all_layers_and_configuration() {
    let fixture = Fixture::new();
    let output = fixture.export();
    let image = fixture.image("app:1");
    assert_eq!(image.manifest.digest(), output.manifest.digest());
    let config = &image.config;
    let history: Vec<_> =
        config.history().into_iter().map(|entry| entry.created_by.unwrap_or_default()).collect();
    assert_eq!(
        history,
        [
            "",
            "Layer: 'deps', Created by buildpack: acme/web@1.0",
            "Software Bill-of-Materials",
            "Application Slice: 1",
            "Application Slice: 2",
            "Buildpacks Application Launcher",
            "Buildpacks Launcher Config",
            "Buildpacks Process Types"
        ]
    );
    assert_eq!((output.reused_layers, output.added_layers), (0, 7));
    assert_eq!(config.diff_ids().len(), 8);
    assert_eq!(config.entrypoint(), ["/cnb/process/web"]);
    assert_eq!((config.cmd(), config.working_dir()), (Vec::new(), "/workspace"));
    let env: Vec<String> = config.env().iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        env,
        [
            "PATH=/cnb/process:/cnb/lifecycle:/usr/bin:/opt/a=b",
            "KEPT=yes",
            "CNB_LAYERS_DIR=/layers",
            "CNB_APP_DIR=/workspace",
            "CNB_PLATFORM_API=0.12",
            "CNB_DEPRECATION_MODE=quiet"
        ]
    );
    assert_eq!((config.user(), config.label("mine")), ("1001:1000", Some("<1>")));
    assert_eq!(config.label("io.buildpacks.project.metadata"), Some("{}"));
    assert_eq!(config.label("io.buildpacks.exec-env"), None, "only since Platform API 0.15");
    let types: Vec<_> =
        image.manifest.as_image().unwrap().layers.iter().map(|layer| layer.media_type.to_string()).collect();
    assert!(
        types[0].ends_with("+gzip")
            && types[1..].iter().all(|text| text.ends_with("oci.image.layer.v1.tar+zstd"))
    );
    assert_eq!(
        output.report.image,
        ImageReport {
            tags: vec!["app:1".to_owned()],
            digest: Some(output.manifest.digest().to_string()),
            manifest_size: Some(output.manifest.raw().len() as u64),
            image_id: None
        }
    );
}

#[test]
fn the_label_tells_each_layer() {
    let fixture = Fixture::new();
    fixture.export();
    let image = fixture.image("app:1");
    let label = image.config.label(LIFECYCLE_METADATA_LABEL).unwrap();
    let metadata: LifecycleMetadata = serde_json::from_str(label).unwrap();
    let ids: Vec<String> = image.config.diff_ids().iter().map(ToString::to_string).collect();
    let deps = &metadata.buildpacks[0].layers["deps"];
    assert_eq!((deps.sha.as_str(), deps.data.to_string().as_str()), (ids[1].as_str(), r#"{"version":3}"#));
    assert_eq!(metadata.buildpacks[0].layers.len(), 1, "only launch layers");
    assert_eq!(metadata.sbom.unwrap().sha, ids[2]);
    assert_eq!(metadata.app.iter().map(|layer| layer.sha.as_str()).collect::<Vec<_>>(), [&ids[3], &ids[4]]);
    assert_eq!([metadata.launcher.sha, metadata.config.sha, metadata.process_types.sha], ids[5..8]);
    assert_eq!(metadata.run_image.top_layer, ids[0]);
    let base = fixture.image("run:1").manifest.digest();
    assert_eq!(metadata.run_image.reference, format!("index.docker.io/library/run@{base}"));
    assert_eq!(metadata.run_image.names.mirrors, ["localhost/run:1"]);
    assert!(label.contains(r#""store":{"metadata":{"n":1}}"#));
    assert!(label.ends_with(r#""stack":{"runImage":{"image":"run:1","mirrors":["localhost/run:1"]}}}"#));
}

#[test]
fn an_unchanged_build_gives_the_same_image_and_writes_nothing() {
    let mut fixture = Fixture::new();
    let first = fixture.export();
    fixture.analyze("app:1");
    let blobs = || fs::read_dir(fixture.path("store/blobs/sha256")).unwrap().count();
    let before = blobs();
    let second = fixture.export();
    assert_eq!(second.manifest.digest(), first.manifest.digest());
    assert_eq!((second.reused_layers, second.added_layers), (7, 0));
    assert_eq!(blobs(), before);
}

#[test]
fn what_changed_is_new_and_the_rest_is_reused() {
    let mut fixture = Fixture::new();
    fixture.export();
    fixture.analyze("app:1");
    fs::write(fixture.path("app/main.py"), "print(2)").unwrap();
    fs::remove_dir_all(fixture.path("layers/acme_web/deps")).unwrap();
    let output = fixture.export();
    assert_eq!((output.reused_layers, output.added_layers), (6, 1));
}

#[test]
fn a_launch_layer_without_directory_must_be_in_the_previous_image() {
    let mut fixture = Fixture::new();
    let message = |fixture: &Fixture| export(&fixture.input(&["app:2".to_owned()])).unwrap_err().to_string();
    fs::remove_dir_all(fixture.path("layers/acme_web/deps")).unwrap();
    assert_eq!(
        message(&fixture),
        "the launch layer `acme/web:deps` has no directory, and the previous image has no metadata for it"
    );
    fs::write(fixture.path("layers/acme_web/deps.toml"), "[types]\nlaunch = true\ncache = true\n").unwrap();
    assert!(message(&fixture).ends_with("it is a cached layer, which must have one"));
    fixture.analyzed.previous_image = None;
    fs::write(fixture.path("layers/acme_web/deps.toml"), "launch = true\n").unwrap();
    assert_eq!(message(&fixture), "the metadata of the layer `acme/web:deps` cannot be used");
}

#[test]
fn bad_input_is_refused_and_moves_no_name() {
    let mut fixture = Fixture::new();
    let images = ["app:3".to_owned()];
    invalid(&fixture.input(&[]), "no image name");
    invalid(&fixture.input(&["a/b:c:d".to_owned()]), "not an image reference");
    invalid(&fixture.input(&["app".to_owned(), "localhost/app".to_owned()]), "different registries");
    let wanted = Some("worker".to_owned());
    refused(&ExportInput { process_type: wanted, ..fixture.input(&images) }, "the buildpacks provide: web");
    let arm = Platform::linux("arm64");
    refused(&ExportInput { platform: arm, ..fixture.input(&images) }, "arm64");
    fixture.analyzed.run_image.as_mut().unwrap().reference = "gone:1".to_owned();
    refused(&fixture.input(&images), "the run image `gone:1` does not exist");
    fixture.analyzed.run_image = None;
    refused(&fixture.input(&images), "analyzed.toml has no [run-image]");
    let app = "app:3".parse().unwrap();
    assert!(fixture.store.resolve(&app, &Platform::linux("amd64")).unwrap().is_none());
}

#[test]
fn every_name_gets_the_image_and_the_family_follows_the_layers() {
    let fixture = Fixture::new();
    let images = ["app:1".to_owned(), "app:2".to_owned(), "other/app:1".to_owned()];
    let output = export(&ExportInput {
        layer_format: None,
        process_type: Some("web".to_owned()),
        ..fixture.input(&images)
    })
    .unwrap();
    for name in &images {
        assert_eq!(fixture.image(name).manifest.digest(), output.manifest.digest());
    }
    let layers = &output.manifest.as_image().unwrap().layers;
    assert!(layers.iter().all(|layer| layer.media_type.as_str().ends_with("layer.v1.tar+gzip")));
    assert_eq!(output.report.image.tags, images);
}

/// Docker 20.10 reads no zstd: a run image with such layers must not end up below layers that it can read.
#[test]
fn layers_of_the_run_image_are_converted_when_the_format_demands_it() {
    let mut fixture = Fixture::new();
    let zstd = ["zstd:1".to_owned()];
    export(&fixture.input(&zstd)).unwrap();
    let base = fixture.image("zstd:1");
    fixture.analyzed.run_image.as_mut().unwrap().reference = "zstd:1".to_owned();
    let images = ["app:1".to_owned()];
    let gzip = |fixture: &Fixture| {
        let input = ExportInput { layer_format: Some(LayerFormat::TarGzip.into()), ..fixture.input(&images) };
        export(&input).unwrap().manifest
    };
    let first = gzip(&fixture);
    let image = fixture.image("app:1");
    let types = image.manifest.as_image().unwrap().layers.iter().map(|layer| layer.media_type.to_string());
    assert!(types.into_iter().all(|text| text.ends_with("layer.v1.tar+gzip")));
    let below = base.config.diff_ids().len();
    assert_eq!(image.config.diff_ids()[..below], base.config.diff_ids());
    fixture.analyze("app:1");
    assert_eq!(gzip(&fixture).digest(), first.digest());
}

#[test]
fn before_history_entries_are_anonymous() {
    let fixture = Fixture::new();
    let images = ["app:1".to_owned()];
    let old = PlatformApi::parse("0.11").unwrap();
    export(&ExportInput { platform_api: old, ..fixture.input(&images) }).unwrap();
    let config = fixture.image("app:1").config;
    assert_eq!(config.history().len(), 8);
    assert!(config.history().iter().all(|entry| entry.created_by.is_none()));
    assert_eq!(config.env_value("CNB_PLATFORM_API").as_deref(), Some("0.11"));
}

#[test]
fn cached_layers_are_written_once() {
    let fixture = Fixture::new();
    let output = fixture.export();
    fs::create_dir(fixture.path("cache")).unwrap();
    let cache = crate::cache::DirectoryCache::open(fixture.path("cache")).unwrap();
    let write = || {
        export_cache(&CacheInput {
            platform_api: PlatformApi::latest(),
            layers: fixture.mapped("layers", "/layers"),
            group: &fixture.group,
            cache: &cache,
            ownership: OWNERSHIP,
            layer_digests: &output.layer_digests,
            index: None,
        })
        .unwrap();
    };
    write();
    let sha = |name: &str| {
        let metadata = crate::cache::Cache::metadata(&cache).unwrap().unwrap();
        metadata.buildpacks[0].layers[name].sha.clone()
    };
    let file = |sha: &str| fixture.path("cache/committed").join(format!("{sha}.tar"));
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let first = inode(&file(&sha("cached")));
    write();
    assert_eq!(inode(&file(&sha("cached"))), first, "reused, not written anew");
    fs::write(fixture.path("layers/acme_web/cached/x"), "y").unwrap();
    let old = file(&sha("cached"));
    write();
    assert!(file(&sha("cached")).exists() && !old.exists());
}

#[test]
fn the_legacy_bill_of_materials_is_in_the_report_of_older_platforms() {
    let fixture = Fixture::new();
    let text = "[[bom]]\nname = \"dep\"\n[bom.metadata]\nversion = \"1\"\n";
    fs::write(fixture.path("layers/acme_web/build.toml"), text).unwrap();
    let images = ["app:1".to_owned()];
    let report = |api| {
        let platform_api = PlatformApi::parse(api).unwrap();
        export(&ExportInput { platform_api, ..fixture.input(&images) }).unwrap().report.to_document()
    };
    let expected = concat!(
        "[build]\n\n  [[build.bom]]\n    name = \"dep\"\n    [build.bom.metadata]\n      version = \"1\"\n",
        "    [build.bom.buildpack]\n      id = \"acme/web\"\n      version = \"1.0\"\n\n[image]\n",
    );
    assert!(report("0.8").starts_with(expected), "{}", report("0.8"));
    assert!(report("0.9").starts_with("[image]\n"));
}

fn fails(input: &ExportInput<'_>, expected: &str, code: ExitCode) {
    let error = export(input).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(error.exit_code(), code);
}

fn invalid(input: &ExportInput<'_>, expected: &str) {
    fails(input, expected, ExitCode::InvalidArguments);
}

fn refused(input: &ExportInput<'_>, expected: &str) {
    fails(input, expected, ExitCode::Export);
}
