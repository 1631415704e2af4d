//! The phases in order, and what goes from one to the next.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use longshore_cnb::PlatformApi;
use longshore_cnb::analyzed::Analyzed;
use longshore_cnb::api::SUPPORTED_PLATFORM_APIS;
use longshore_cnb::build_metadata::LauncherMetadata;
use longshore_cnb::group::Group;
use longshore_cnb::lifecycle_metadata::RunImageNames;
use longshore_cnb::run::Run;
use longshore_cnb::toml_file;
use longshore_image::layer::{Ownership, ParentOwnership};
use longshore_image::{ImageStore, LocalStore, Platform, Reference, StatIndex};
use longshore_lifecycle::analyze::{AnalyzeInput, analyze};
use longshore_lifecycle::cache::{LockedCache, TreeCache, Trust};
use longshore_lifecycle::export::{
    CacheInput, ExportInput, ExportOutput, LayerDigests, export, export_cache,
};
use longshore_lifecycle::restore::{RestoreInput, restore};
use longshore_lifecycle::run_image::{RunImages, for_export};
use longshore_lifecycle::{Identify, MappedDirectory, Owner};
use longshore_sandbox::IdMapping;

use super::detection::{Detected, Detection};
use super::modules::{self, Selection, Wanted};
use super::request::{BuildRequest, BuiltImage};
use super::work_directory::WorkDirectory;
use super::{app, names, published};
use crate::builder::BuilderImage;
use crate::directories::Directories;
use crate::images::{FoundImage, Images, Places, Remembered};
use crate::rootfs::RootFilesystems;
use crate::{output, programs};

/// Builds.
///
/// # Errors
/// When something that was asked for does not exist or a phase fails. No name of the app image was moved then.
pub(crate) fn build(
    request: &BuildRequest,
    directories: &Directories,
    images: &Images,
) -> anyhow::Result<BuiltImage> {
    let platform = Platform::host();
    let found = images.get(&request.builder, &platform, request.pull_policy, "builder")?;
    let mut builder = BuilderImage::read(&found.image.config)
        .with_context(|| format!("`{}` cannot be used as a builder", request.builder))?;
    (builder.uid, builder.gid) = (request.uid.unwrap_or(builder.uid), request.gid.unwrap_or(builder.gid));
    let run_images = run_images(request, &builder)?;
    let run_image_names: Vec<_> = run_images.iter().flat_map(RunImageNames::all).map(str::to_owned).collect();
    let run_image_names = run_image_names.iter().map(|name| name.parse()).collect::<Result<Vec<_>, _>>()?;
    names::check(std::iter::once(&request.image).chain(&request.tags), &request.builder, &run_image_names)?;

    let cache = directories.app_caches().join(names::cache_name(&request.image));
    let index = cache.join("stat-index");
    let cache = LockedCache::wait(cache, &request.image.familiar())?;
    let work = WorkDirectory::new(&directories.builds(), &cache)?;
    let selection = select(request, &builder, &work)?;
    app::copy(&request.app, &request.filter, &work.workspace())?;
    work.write_root(&selection.modules, selection.order.as_deref(), &request.variables)?;

    if request.clear_cache {
        cache.clear().context("cannot clear the cache")?;
    }
    let layers = MappedDirectory { host: work.layers(), name: "/layers".into() };
    let ownership = ownership(&builder);
    let trust = if request.is_paranoid { Trust::Content } else { Trust::Attributes };
    let build = Build {
        request,
        platform,
        builder: &builder,
        mapping: IdMapping::detect(builder.uid, builder.gid),
        platform_api: PlatformApi::latest(),
        names: std::iter::once(&request.image).chain(&request.tags).map(ToString::to_string).collect(),
        target: images.destination(request.publish)?,
        run_image_store: Arc::new(Remembered::new(Arc::new(Places::new(images, request.pull_policy)?))),
        run_images: RunImages::Run(Run { images: run_images }),
        selection: &selection,
        index,
        cache: TreeCache::new(cache, layers, ownership, trust)?,
        ownership,
        launcher: programs::launcher(directories)?,
        local: Arc::clone(images.local()),
        work: &work,
    };
    build.run(&found, directories)
}

/// The run images of the app, the default first.
fn run_images(request: &BuildRequest, builder: &BuilderImage) -> anyhow::Result<Vec<RunImageNames>> {
    if let Some(run_image) = &request.run_image {
        return Ok(vec![RunImageNames { image: run_image.to_string(), mirrors: Vec::new() }]);
    }
    let images = builder.run_images()?.into_iter();
    Ok(images.map(|image| RunImageNames { image: image.image, mirrors: image.mirrors }).collect())
}

fn select(request: &BuildRequest, builder: &BuilderImage, work: &WorkDirectory) -> anyhow::Result<Selection> {
    let mut selection = modules::select(
        Wanted {
            group: &request.group,
            pre: &request.pre,
            post: &request.post,
            base: &request.modules_base,
            scratch: &work.scripts(),
        },
        builder,
    )?;
    ensure!(
        selection.order.is_some() || !builder.order.is_empty(),
        "the builder `{}` has no order; name the buildpacks with `--buildpack`",
        request.builder
    );
    if !builder.order_extensions.is_empty() {
        tracing::warn!("the builder has image extensions, which `build` does not run: they are left out");
        selection.order.get_or_insert_with(|| builder.order.clone());
    }
    Ok(selection)
}

/// Layers say the same whoever builds: the ids on disk are those of this machine.
const fn ownership(builder: &BuilderImage) -> Ownership {
    let (uid, gid) = (builder.uid, builder.gid);
    Ownership { uid, gid, parents: ParentOwnership::Fixed { uid, gid, mode: 0o755 } }
}

/// A build whose inputs were all found.
struct Build<'a> {
    request: &'a BuildRequest,
    platform: Platform,
    builder: &'a BuilderImage,
    mapping: IdMapping,
    platform_api: PlatformApi,
    names: Vec<String>,
    target: Arc<dyn ImageStore>,
    run_image_store: Arc<dyn ImageStore>,
    run_images: RunImages,
    selection: &'a Selection,
    cache: TreeCache,
    ownership: Ownership,
    /// Where the stat index of the app is.
    index: PathBuf,
    launcher: PathBuf,
    local: Arc<LocalStore>,
    work: &'a WorkDirectory,
}

impl Build<'_> {
    fn run(&self, builder: &FoundImage, directories: &Directories) -> anyhow::Result<BuiltImage> {
        let analyzed = timed("ANALYZING", || self.analyze())?;
        WorkDirectory::give(&self.work.root(), &self.mapping, 0, 0)?;
        self.give(&self.work.workspace())?;
        self.give(&self.work.detected())?;
        let Detected { container, syncing: _syncing } = self.detection(builder, directories).run()?;
        self.work.take_detected()?;
        let group: Group = toml_file::read(&self.work.layers().join("group.toml"))?;
        timed("RESTORING", || self.restore(&group, &analyzed))?;
        let restored = self.cache.restored();
        WorkDirectory::give_except(
            &self.work.layers(),
            &self.mapping,
            self.builder.uid,
            self.builder.gid,
            &restored,
        )?;
        timed("BUILDING", || container.run("builder", &self.work.layers()))?;
        let index = StatIndex::open(&self.index, self.request.is_paranoid);
        let exported = timed("EXPORTING", || self.export(&group, &analyzed, &index));
        // Also when it failed: what was made then need not be made again.
        if let Err(error) = index.save() {
            tracing::warn!("the next build reads all layers: {:#}", anyhow::Error::new(error));
        }
        if self.request.publish {
            let pushed = exported.as_ref().ok().map(|exported| exported.layers.as_slice());
            if let Err(error) =
                published::settle(&self.cache, &self.local, directories, pushed, index.blobs())
            {
                tracing::warn!("the blobs of earlier builds stay in the local store: {error:#}");
            }
        }
        let exported = exported?;
        // Before the cache takes directories away.
        let reported = self.write_reports(&exported);
        self.export_cache(&group, &exported.layer_digests);
        reported?;
        Ok(BuiltImage { manifest: exported.manifest })
    }

    fn detection<'a>(&'a self, builder: &'a FoundImage, directories: &Directories) -> Detection<'a> {
        Detection {
            request: self.request,
            found: builder,
            builder: self.builder,
            selection: self.selection,
            unpacked: RootFilesystems::new(&directories.unpacked(), self.mapping),
            local: &self.local,
            work: self.work,
            mapping: self.mapping,
            platform_api: SUPPORTED_PLATFORM_APIS.last().unwrap_or(&"0.15"),
        }
    }

    fn layers(&self) -> MappedDirectory {
        MappedDirectory { host: self.work.layers(), name: "/layers".into() }
    }

    fn give(&self, path: &Path) -> anyhow::Result<()> {
        WorkDirectory::give(path, &self.mapping, self.builder.uid, self.builder.gid)
    }

    /// To whom files belong that are restored, when they do not belong to whoever restores them.
    fn owner(&self) -> Option<Owner> {
        let ids = self.mapping.host_uid(self.builder.uid).zip(self.mapping.host_gid(self.builder.gid));
        ids.filter(|_| !self.mapping.is_single()).map(|(uid, gid)| Owner { uid, gid })
    }

    fn analyze(&self) -> anyhow::Result<Analyzed> {
        let name = |reference: &Option<Reference>| reference.as_ref().map(ToString::to_string);
        let (previous, run_image) = (name(&self.request.previous_image), name(&self.request.run_image));
        let analyzed = analyze(&AnalyzeInput {
            platform_api: self.platform_api,
            image: &self.names[0],
            tags: &self.names[1..],
            previous_image: previous.as_deref(),
            run_image: run_image.as_deref(),
            run_images: &self.run_images,
            cache_image: None,
            layers: self.layers(),
            skip_layers: self.request.clear_cache,
            owner: self.owner(),
            platform: self.platform.clone(),
            target: Arc::clone(&self.target),
            run_image_store: Arc::clone(&self.run_image_store),
            identify: Identify::ByDigest,
        })?;
        let text = analyzed.analyzed.to_document();
        for directory in [self.work.layers(), self.work.detected()] {
            fs_err::write(directory.join("analyzed.toml"), &text)?;
        }
        Ok(analyzed.analyzed)
    }

    fn restore(&self, group: &Group, analyzed: &Analyzed) -> anyhow::Result<()> {
        restore(&RestoreInput {
            platform_api: self.platform_api,
            layers: self.layers(),
            group,
            metadata: &analyzed.metadata,
            cache: Some(&self.cache),
            skip_layers: self.request.clear_cache,
            owner: self.owner(),
        })?;
        Ok(())
    }

    fn export(&self, group: &Group, analyzed: &Analyzed, index: &StatIndex) -> anyhow::Result<ExportOutput> {
        let image = analyzed.run_image.as_ref().map(|run_image| run_image.image.as_str()).unwrap_or_default();
        let exported = export(&ExportInput {
            platform_api: self.platform_api,
            images: &self.names,
            layers: self.layers(),
            app: MappedDirectory { host: self.work.workspace(), name: self.request.workspace.clone() },
            group,
            analyzed,
            run_image_names: for_export(&self.run_images, image, false, self.platform_api),
            extended: self.work.layers().join("extended"),
            launcher: self.launcher.clone(),
            launcher_sbom: None,
            launcher_metadata: LauncherMetadata {
                version: programs::LIFECYCLE_VERSION.to_owned(),
                repository: String::new(),
                commit: String::new(),
            },
            process_type: self.request.default_process.clone(),
            project: self.request.project.clone(),
            exec_env: Some(self.request.exec_env.clone()),
            ownership: self.ownership,
            created: self.request.created,
            app_layer: self.request.app_layer,
            layer_format: Some(self.request.layer_format),
            manifest_format: Some(self.request.manifest_format),
            platform: self.platform.clone(),
            target: Arc::clone(&self.target),
            run_images: Arc::clone(&self.run_image_store),
            identify: Identify::ByDigest,
            sink: self.local.sink(),
            tars: None,
            index: Some(index),
        })?;
        Ok(exported)
    }

    /// Keeps the cached layers for the next build. The image is there already, so a failure is no more than a warning.
    fn export_cache(&self, group: &Group, layer_digests: &LayerDigests) {
        let exported = export_cache(&CacheInput {
            platform_api: self.platform_api,
            layers: self.layers(),
            group,
            cache: &self.cache,
            ownership: self.ownership,
            layer_digests,
            // This cache knows by itself which directories are what they were.
            index: None,
        });
        if let Err(error) = exported {
            tracing::warn!("the next build has no cache: {:#}", anyhow::Error::new(error));
        }
    }

    fn write_reports(&self, exported: &ExportOutput) -> anyhow::Result<()> {
        if let Some(directory) = &self.request.report_directory {
            fs_err::create_dir_all(directory)?;
            fs_err::write(directory.join("report.toml"), exported.report.to_document())?;
        }
        let sbom = self.work.layers().join("sbom");
        if let Some(directory) = self.request.sbom_directory.as_ref().filter(|_| sbom.is_dir()) {
            fs_err::create_dir_all(directory)?;
            app::copy(&sbom, &crate::project::FileFilter::All, directory)?;
        }
        Ok(())
    }
}

/// Runs a phase under its heading, and tells how long it took.
pub(super) fn timed<T>(name: &str, phase: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    output::phase(name);
    let started = Instant::now();
    let result = phase()?;
    output::took(&name.to_lowercase(), started.elapsed());
    Ok(result)
}
