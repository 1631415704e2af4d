use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use longshore_image::{Config, LocalStore, Platform, Reference};

use super::*;
use crate::builder::BuilderImage;

fn build_image(store: &Arc<LocalStore>) -> FoundImage {
    let platform = Platform::linux("amd64");
    let mut config = Config::new(&platform);
    config.set_env("CNB_USER_ID", "1001");
    config.set_env("CNB_GROUP_ID", "1000");
    let reference: Reference = "base".parse().unwrap();
    let created = Timestamp::from_second(1).unwrap();
    NewImage::new(config, created).put(store.as_ref(), &reference).unwrap();
    let image = longshore_image::ImageStore::resolve(store.as_ref(), &reference, &platform).unwrap().unwrap();
    FoundImage { image, store: Arc::clone(store) as _ }
}

fn buildpack(root: &Path, id: &str, more: &str) -> Module {
    let directory = root.join(id);
    fs_err::create_dir_all(directory.join("bin")).unwrap();
    let text = format!("api = \"0.10\"\n[buildpack]\nid = \"{id}\"\nversion = \"1\"\n{more}");
    fs_err::write(directory.join("buildpack.toml"), text).unwrap();
    for program in ["bin/detect", "bin/build"] {
        fs_err::write(directory.join(program), "#!/bin/sh\n").unwrap();
        fs_err::set_permissions(directory.join(program), PermissionsExt::from_mode(0o755)).unwrap();
    }
    Module::read(ModuleKind::Buildpack, &directory).unwrap()
}

fn configuration(more: &str) -> BuilderConfiguration {
    let text = format!(
        "description = \"d\"\n{more}\n[build]\nimage = \"base\"\n[[build.env]]\nname = \"A\"\nvalue = \"1\"\n\
         [[run.images]]\nimage = \"run\"\n"
    );
    toml::from_str(&text).unwrap()
}

fn create(
    root: &Path,
    modules: Vec<Module>,
    configuration: &BuilderConfiguration,
) -> anyhow::Result<FoundImage> {
    let store = Arc::new(LocalStore::open(&root.join("store")).unwrap());
    let program = root.join("program");
    fs_err::write(&program, "program").unwrap();
    let request = BuilderRequest {
        configuration,
        build_image: &build_image(&store),
        modules,
        lifecycle: &program,
        launcher: &program,
        created: Timestamp::from_second(1).unwrap(),
        format: LayerFormat::TarZstd,
        sink: &store.sink(),
    };
    let reference: Reference = "builder".parse()?;
    assemble(&request)?.put(store.as_ref(), &reference)?;
    let platform = Platform::linux("amd64");
    let image = longshore_image::ImageStore::resolve(store.as_ref(), &reference, &platform)?.unwrap();
    Ok(FoundImage { image, store: store as _ })
}

fn names(image: &FoundImage) -> Vec<String> {
    let mut names = Vec::new();
    for layer in &image.image.manifest.as_image().unwrap().layers {
        let blob = image.store.open_blob(&image.image.reference, layer).unwrap();
        let mut archive = tar::Archive::new(longshore_image::decompress(blob).unwrap());
        for entry in archive.entries().unwrap() {
            names.push(entry.unwrap().path().unwrap().to_string_lossy().into_owned());
        }
    }
    names
}

#[test]
fn a_builder_has_the_files_and_labels_that_platforms_look_for() {
    let root = tempfile::tempdir().unwrap();
    let configuration = configuration("[[order]]\n[[order.group]]\nid = \"x\"\noptional = true\n");
    let modules = vec![buildpack(root.path(), "x", "homepage = \"h\"\n")];
    let builder = create(root.path(), modules, &configuration).unwrap();
    let names = names(&builder);
    for name in [
        "/cnb/order.toml",
        "/cnb/run.toml",
        "/cnb/stack.toml",
        "/cnb/lifecycle/lifecycle",
        "/cnb/lifecycle/launcher",
        "/cnb/lifecycle/detector",
        "/cnb/build-config/env/A",
        "/cnb/buildpacks/x/1/buildpack.toml",
        "/cnb/buildpacks/x/1/bin/build",
        "/platform/env",
        "/workspace",
        "/layers",
        "/lifecycle",
    ] {
        let found =
            names.iter().any(|found| found.trim_end_matches('/').trim_start_matches('/') == &name[1..]);
        assert!(found, "{name} is not in {names:?}");
    }
    let config = &builder.image.config;
    assert_eq!(config.working_dir(), "/layers");
    let read = BuilderImage::read(config).unwrap();
    assert_eq!((read.uid, read.gid), (1001, 1000));
    assert_eq!(read.metadata.description, "d");
    assert_eq!(read.run_images().unwrap()[0].image, "run");
    assert_eq!(read.order[0].group[0].version, "1");
    assert!(read.order[0].group[0].optional);
    let layer = &read.buildpacks["x"]["1"];
    assert!(config.diff_ids().iter().any(|diff_id| diff_id.to_string() == layer.layer_diff_id));
}

#[test]
fn the_same_builder_has_the_same_digest_whatever_the_order_of_its_buildpacks() {
    let digest = |reverse: bool| {
        let root = tempfile::tempdir().unwrap();
        let mut modules = vec![buildpack(root.path(), "x", ""), buildpack(root.path(), "y", "")];
        if reverse {
            modules.reverse();
        }
        create(root.path(), modules, &configuration("")).unwrap().image.manifest.digest()
    };
    assert_eq!(digest(false), digest(true));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    for (more, buildpack_toml, reason) in [
        ("[[order]]\n[[order.group]]\nid = \"z\"\n", "", "no buildpack `z`"),
        ("", "[[order]]\n[[order.group]]\nid = \"z\"\nversion = \"1\"\n", "no buildpack `z`"),
        ("", "[[targets]]\nos = \"linux\"\narch = \"s390x\"\n", "s390x"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let modules = vec![buildpack(root.path(), "x", buildpack_toml)];
        let Err(error) = create(root.path(), modules, &configuration(more)) else {
            panic!("{more}{buildpack_toml} was accepted");
        };
        assert!(format!("{error:#}").contains(reason), "{error:#}");
    }
}
