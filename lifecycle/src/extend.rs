//! Extension: applies the Dockerfiles of image extensions to the root filesystem that the process runs in, which is that
//! of the build or of the run image (image_extension.md "Phase: Extension", platform.md "`extender`").
//!
//! ```text
//! Dockerfile -> instructions -> configuration
//!                            -> RUN, COPY: cached layer, or: snapshot, do it, what changed -> layer
//! ```
//!
//! There is one stage and no other image than the one that is extended: whoever calls has started a container of it.

mod apply;
mod error;
mod files;
mod filesystem;
mod instruction;
mod layer_cache;
mod pattern;
mod run;
mod sources;
mod stage;
#[cfg(test)]
mod tests;
mod user;
mod words;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_cnb::PlatformApi;
use longshore_cnb::analyzed::Analyzed;
use longshore_cnb::group::Group;
use longshore_image::{
    BlobSource, Config, History, Image, ImageManifest, ImageStore as _, Layout, LayoutName, Manifest,
    ManifestFormat, MediaType, Platform, Reference,
};

use apply::Applier;
pub use error::{DockerfileProblem, ExtendError};
use filesystem::Filesystem;
use layer_cache::{CachedLayer, Key, LayerCache};
pub use run::{Execution, run_command};
pub use user::User;

use crate::default_created;

const REBASABLE_LABEL: &str = "io.buildpacks.rebasable";

/// Which image is extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendKind {
    /// The build image, for the build that follows.
    Build,
    /// The run image, for export.
    Run,
}

impl ExtendKind {
    /// `build` or `run`, as flags and files have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Run => "run",
        }
    }
}

/// What extension works on.
pub struct ExtendInput<'a> {
    /// The Platform API that the platform asked for.
    pub platform_api: PlatformApi,
    /// Which image is extended (`-kind`).
    pub kind: ExtendKind,
    /// What analyze found, and the restorer completed (`-analyzed`).
    pub analyzed: &'a Analyzed,
    /// The detected group (`-group`).
    pub group: &'a Group,
    /// The app directory (`-app`): the build context where extensions have made none.
    pub app: PathBuf,
    /// The Dockerfiles (`-generated`).
    pub generated: PathBuf,
    /// Where an extended run image is put (`-extended`).
    pub extended: PathBuf,
    /// What is known of the image, and the cache of layers (`<kaniko-dir>`).
    pub kaniko: PathBuf,
    /// How long layers are reused (`-kaniko-cache-ttl`).
    pub time_to_live: Duration,
    /// What else is no part of the image: volumes, which extensions may see and not change.
    pub volumes: Vec<PathBuf>,
    /// The root filesystem: `/`.
    pub root: PathBuf,
    /// The platform of the image.
    pub platform: Platform,
    /// How commands are run: [`run_command`].
    pub run: &'a Execution<'a>,
    /// Proxies and the like, which commands see without an `ARG`.
    pub environment: Vec<(String, String)>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct ExtendOutput {
    /// The configuration of the extended image.
    pub config: Config,
    /// How many layers it has above the original ones.
    pub layers: usize,
}

/// Extends the image.
///
/// # Errors
/// When what the restorer leaves is not there, a Dockerfile cannot be applied, or the result cannot be written. The root
/// filesystem has then changed, and is to be thrown away with its container.
pub fn extend(input: &ExtendInput<'_>) -> Result<ExtendOutput, ExtendError> {
    let base = base(input)?;
    let family = match base.manifest.media_type() {
        MediaType::Manifest(family) => *family,
        _ => ManifestFormat::Oci,
    };
    let cache = LayerCache::open(&input.kaniko, input.time_to_live)
        .map_err(file("use the cache of layers in", &input.kaniko))?;
    let filesystem = Filesystem::new(&input.root, excluded(input), family, cache);
    let mut applier = Applier::new(input, filesystem, base.config.clone(), Key::of(base.manifest.digest()));
    let original_user = base.config.user().to_owned();
    let mut rebasable = true;
    let mut manifest = base.manifest.clone();
    for source in sources::find(input)? {
        let stated = applier.apply(&source, manifest.digest())?;
        // Spec: all of them must set the label to true. The base image need not have it.
        rebasable &= stated == Some(true);
        applier.config.set_label(REBASABLE_LABEL, if rebasable { "true" } else { "false" });
        manifest = extended_manifest(&base, &mut applier, family);
        if is_root(&applier.config) {
            tracing::warn!(
                "{} leaves the user root; this must not be the last user: a following extension must reset it",
                source.path.display()
            );
        }
    }
    if is_root(&applier.config) && input.kind == ExtendKind::Run {
        return Err(ExtendError::RunsAsRoot);
    }
    if applier.config.user() != original_user {
        let user = applier.config.user();
        tracing::warn!("the original user was '{original_user}', and the last extension has left '{user}'");
    }
    match input.kind {
        ExtendKind::Build => applier.finish()?,
        ExtendKind::Run => {
            let image = Image { manifest, config: applier.config.clone(), ..base };
            write(&input.extended.join("run"), &image, &applier.layers)?;
        }
    }
    applier.collect();
    Ok(ExtendOutput { layers: applier.layers.len(), config: applier.config })
}

/// The image that is extended, as the restorer left it.
fn base(input: &ExtendInput<'_>) -> Result<Image, ExtendError> {
    let kind = input.kind.name();
    let (text, hint) = match input.kind {
        ExtendKind::Build => {
            (input.analyzed.build_image.as_ref().map(|image| image.reference.as_str()), ", with -build-image")
        }
        ExtendKind::Run => (input.analyzed.run_image.as_ref().map(|image| image.reference.as_str()), ""),
    };
    let reference = text.and_then(|text| text.parse::<Reference>().ok());
    let digest = reference.as_ref().and_then(Reference::digest);
    let (Some(reference), Some(digest)) = (reference, digest) else {
        return Err(ExtendError::NoImage { kind, hint });
    };
    let path = input.kaniko.join("cache/base").join(digest.to_string());
    let layout = Layout::open(&path, LayoutName::Only);
    let found = layout.and_then(|layout| layout.resolve(&reference, &input.platform));
    match found {
        Ok(Some(image)) => Ok(image),
        Ok(None) => Err(ExtendError::Base { kind, path, source: None }),
        Err(source) => Err(ExtendError::Base { kind, path, source: Some(Box::new(source)) }),
    }
}

/// What is there, and is no part of the image.
fn excluded(input: &ExtendInput<'_>) -> Vec<PathBuf> {
    let mut excluded: Vec<PathBuf> = ["cnb", "dev", "proc", "sys"].map(|name| input.root.join(name)).to_vec();
    let own = [&input.app, &input.generated, &input.extended, &input.kaniko];
    excluded.extend(own.into_iter().chain(&input.volumes).cloned());
    excluded
}

/// Adds the new layers to the base image, in the manifest and in the configuration.
fn extended_manifest(base: &Image, applier: &mut Applier<'_>, family: ManifestFormat) -> Manifest {
    let mut layers = base.manifest.as_image().map(|image| image.layers.clone()).unwrap_or_default();
    let mut diff_ids = base.config.diff_ids();
    let mut history: Vec<_> = base.config.history().into_iter().filter(|entry| !entry.empty_layer).collect();
    if history.len() != diff_ids.len() {
        history = vec![History::default(); diff_ids.len()];
    }
    for (layer, created_by) in &applier.layers {
        layers.push(layer.descriptor.clone());
        diff_ids.push(layer.diff_id);
        history.push(History::new(default_created(), created_by));
    }
    applier.config.set_diff_ids(&diff_ids);
    applier.config.set_history(&history);
    let (descriptor, _) = crate::publish::Upload::config(applier.config.to_bytes(), family);
    Manifest::image(ImageManifest::new(family, descriptor, layers))
}

/// Puts the extended image where the exporter looks for it, without the layers of its base.
fn write(directory: &Path, image: &Image, layers: &[(CachedLayer, String)]) -> Result<(), ExtendError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("remove", directory)(error));
        }
        _ => {}
    }
    let path = directory.join(image.manifest.digest().to_string());
    fs::create_dir_all(&path).map_err(file("create", &path))?;
    let written = Layout::create(&path, LayoutName::Only).and_then(|layout| {
        for (layer, _) in layers {
            let source = BlobSource::File(layer.path.clone());
            layout.write_blob(&image.reference, &layer.descriptor, &source, None)?;
        }
        layout.put_sparse(&image.reference, image)
    });
    written.map_err(|source| ExtendError::Write { path, source: Box::new(source) })
}

fn is_root(config: &Config) -> bool {
    let user = config.user().split(':').next().unwrap_or_default();
    user == "0" || user == "root"
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExtendError + use<> {
    let path = path.to_owned();
    move |source| ExtendError::File { action, path, source }
}

/// A duration in Go's notation: `336h`, `1h30m`, `90s`, `500ms`.
///
/// # Errors
/// When it is none.
pub fn duration(text: &str) -> Result<Duration, ExtendError> {
    let invalid = || ExtendError::Duration(text.to_owned());
    let mut total = Duration::ZERO;
    let mut rest = text;
    if text == "0" {
        return Ok(total);
    }
    while !rest.is_empty() {
        let end = rest.find(|character: char| !(character.is_ascii_digit() || character == '.'));
        let (number, tail) = rest.split_at(end.ok_or_else(invalid)?);
        let units =
            [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, seconds) =
            units.into_iter().find(|(unit, _)| tail.starts_with(unit)).ok_or_else(invalid)?;
        let number: f64 =
            number.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(invalid)?;
        total += Duration::try_from_secs_f64(number * seconds).ok().ok_or_else(invalid)?;
        rest = &tail[unit.len()..];
    }
    if text.is_empty() { Err(invalid()) } else { Ok(total) }
}
