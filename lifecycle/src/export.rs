//! Export: makes the app image out of the run image and what the buildpacks left (platform.md "`exporter`").
//!
//! ```text
//! layers, app, launcher -> planned layers -> known DiffID: the previous image's blob
//!                                         -> new DiffID: a new blob
//! run image layers + those -> configuration -> manifest -> blobs, configuration, manifest, then the names
//! ```
//!
//! No name moves before everything it needs is there. Layers of the run image are never read when they are where the app
//! image goes, or can be mounted there.

mod ahead;
mod app;
mod assemble;
mod base;
mod cache;
mod config;
mod extended;
mod form;
mod layers;
mod made;
mod normalise;
mod plan;
mod sbom;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_cnb::PlatformApi;
use longshore_cnb::analyzed::Analyzed;
use longshore_cnb::build_metadata::LauncherMetadata;
use longshore_cnb::build_toml::BuildToml;
use longshore_cnb::go_toml;
use longshore_cnb::group::{Group, GroupElement, directory_name};
use longshore_cnb::lifecycle_metadata::RunImageNames;
use longshore_cnb::metadata_toml::{BuildMetadata, BuildpackBomEntry};
use longshore_cnb::project_metadata::ProjectMetadata;
use longshore_cnb::report::{ImageReport, Report};
use longshore_cnb::toml_file::{self, TomlFileError};
use longshore_image::convert::ConvertError;
use longshore_image::layer::{LayerError, Ownership};
use longshore_image::{
    BlobSink, Descriptor, Image, ImageStore, InvalidReference, LayerFormats, Manifest, ManifestChoice,
    Platform, Reference, StatIndex, StoreError, Timestamp,
};

use crate::ExitCode;
use crate::directory::{LayersDirectoryError, MalformedLayer, MappedDirectory};
use crate::image_identifier::Identify;
use ahead::Take;
pub use app::{AppLayer, InvalidAppLayer};
use assemble::Parts;
use base::Base;
pub use cache::{CacheInput, export_cache};
use extended::Extended;
use form::Form;

/// What export works on.
pub struct ExportInput<'a> {
    /// The Platform API that the platform asked for.
    pub platform_api: PlatformApi,
    /// The names of the app image, as given; the first is its own.
    pub images: &'a [String],
    /// The layers directory (`-layers`).
    pub layers: MappedDirectory,
    /// The app directory (`-app`).
    pub app: MappedDirectory,
    /// The detected group (`-group`).
    pub group: &'a Group,
    /// What analyze found (`-analyzed`).
    pub analyzed: &'a Analyzed,
    /// The names of the run image for the label: see [`crate::run_image::for_export`].
    pub run_image_names: RunImageNames,
    /// What the extender left, when the run image was extended (`-extended`).
    pub extended: PathBuf,
    /// The launcher on this machine (`-launcher`).
    pub launcher: PathBuf,
    /// Where the launcher's SBOM files are (`-launcher-sbom`).
    pub launcher_sbom: Option<PathBuf>,
    /// Which launcher it is, for the label.
    pub launcher_metadata: LauncherMetadata,
    /// The default process type that the user wants (`-process-type`).
    pub process_type: Option<String>,
    /// Where the source is from (`-project-metadata`).
    pub project: ProjectMetadata,
    /// The execution environment of the build (`CNB_EXEC_ENV`).
    pub exec_env: Option<String>,
    /// To whom the files in new layers belong.
    pub ownership: Ownership,
    /// When the image says it was created; see [`crate::default_created`].
    pub created: Timestamp,
    /// How the app directory goes into layers.
    pub app_layer: AppLayer,
    /// How new layers are stored; as the run image's when `None`.
    pub layer_format: Option<LayerFormats>,
    /// Whose media types the manifest has; the run image's when `None`.
    pub manifest_format: Option<ManifestChoice>,
    /// The platform of the app image.
    pub platform: Platform,
    /// Where the app image goes, and where the previous image is.
    pub target: Arc<dyn ImageStore>,
    /// Where the run image is.
    pub run_images: Arc<dyn ImageStore>,
    /// How images are identified there.
    pub identify: Identify,
    /// Where blobs of new layers are written, and where those of earlier builds may be.
    pub sink: BlobSink,
    /// Where the tars of cached layers are written with them, as their cache wants: [`crate::cache::Cache::tars`].
    pub tars: Option<&'a Path>,
    /// What the layers were at the last build, opened after the buildpacks have ended; all are read when `None`.
    pub index: Option<&'a StatIndex>,
}

impl ExportInput<'_> {
    /// Where blobs of new layers are written; from there they are on their way to the target before they are complete.
    fn sink(&self, name: &Reference) -> BlobSink {
        self.sink.clone().followed_by(self.target.follower(name))
    }
}

/// What was exported.
#[derive(Debug, Clone)]
pub struct ExportOutput {
    /// The content of `report.toml`.
    pub report: Report,
    /// The manifest of the app image.
    pub manifest: Manifest,
    /// The layers of the app image in all its formats, without those that are the run image's as they are.
    pub layers: Vec<Descriptor>,
    /// How many layers were taken from the previous image, without the run image's.
    pub reused_layers: usize,
    /// How many layers are new.
    pub added_layers: usize,
    /// How many directories and files were not read, because the index knows that they are unchanged.
    pub unread_layers: usize,
    /// Layers that were made, by directory: the cache need not read them again.
    pub layer_digests: LayerDigests,
}

use assemble::Published;
pub use made::LayerDigests;
use made::Place;

/// Why nothing was exported. No name of the image was moved, unless it says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The app image needs a name.
    #[error("no image name was given; name the image to export to")]
    NoImage,
    /// A name is not a reference.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The names are on several registries.
    #[error("`{first}` and `{other}` are on different registries; export to one registry at a time")]
    SeveralRegistries {
        /// One name.
        first: String,
        /// Another.
        other: String,
    },
    /// `analyzed.toml` names no run image.
    #[error("analyzed.toml has no [run-image] with a reference; run the analyzer first, with a run image")]
    NoRunImage,
    /// The run image does not exist.
    #[error("the run image `{reference}` does not exist; it was there when the build was analyzed")]
    RunImageNotFound {
        /// The run image.
        reference: String,
    },
    /// The run image cannot be built upon.
    #[error("the run image `{reference}` cannot be used: {reason}")]
    RunImage {
        /// The run image.
        reference: String,
        /// Why not.
        reason: String,
    },
    /// The run image was to be extended, and what the extender left cannot be used.
    #[error(
        "the extended run image in `{path}` cannot be used: {reason}; run the extender with `-kind run` first"
    )]
    Extended {
        /// Its directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Some names point to the new image, and one could not be written.
    #[error("cannot write `{reference}`; the new image is there as {}", written.join(", "))]
    Name {
        /// The name that could not be written.
        reference: String,
        /// The names that are the new image.
        written: Vec<String>,
        /// Why not.
        #[source]
        source: Box<StoreError>,
    },
    /// A store could not be read or written.
    #[error("cannot {action} `{reference}`")]
    Store {
        /// What was to be done.
        action: &'static str,
        /// With which image.
        reference: String,
        /// Why not.
        #[source]
        source: Box<StoreError>,
    },
    /// A file of the build cannot be used.
    #[error(transparent)]
    File(#[from] TomlFileError),
    /// A buildpack's directory cannot be used.
    #[error(transparent)]
    LayersDirectory(#[from] LayersDirectoryError),
    /// A buildpack left a `<layer>.toml` that cannot be used.
    #[error("the metadata of the layer `{layer}` cannot be used")]
    MalformedLayer {
        /// The layer.
        layer: String,
        /// Why not.
        #[source]
        source: MalformedLayer,
    },
    /// A launch layer has no directory and cannot be taken from the previous image.
    #[error("the launch layer `{layer}` has no directory, and {reason}")]
    NotReusable {
        /// The layer.
        layer: String,
        /// Why not.
        reason: &'static str,
    },
    /// A layer could not be made.
    #[error("cannot make the layer `{layer}`")]
    Layer {
        /// The layer.
        layer: String,
        /// Why not.
        #[source]
        source: LayerError,
    },
    /// The process type does not exist.
    #[error("there is no process type `{wanted}` to be the default; {}", known_types(known))]
    NoProcessType {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A process type cannot be the name of a file.
    #[error("the process type `{0}` is empty or has one of the characters `/><:|&\\`")]
    InvalidProcessType(String),
    /// SBOM files could not be copied.
    #[error("cannot copy the SBOM file `{path}`")]
    Sbom {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The image cannot have the form that was asked for.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// A label could not be written.
    #[error("cannot write the label `{label}`")]
    Label {
        /// The label.
        label: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

fn known_types(known: &[String]) -> String {
    if known.is_empty() {
        return "the buildpacks provide no process types".to_owned();
    }
    format!("the buildpacks provide: {}", known.join(", "))
}

impl ExportError {
    /// The exit code of the exporter.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoImage | Self::Reference(_) | Self::SeveralRegistries { .. } => ExitCode::InvalidArguments,
            _ => ExitCode::Export,
        }
    }

    pub(crate) fn store(
        action: &'static str,
        reference: &Reference,
    ) -> impl FnOnce(StoreError) -> Self + use<> {
        let reference = reference.familiar();
        move |source| Self::Store { action, reference, source: Box::new(source) }
    }
}

/// Exports the app image.
///
/// # Errors
/// When the build left something unusable, a store cannot be read or written, or the run image is missing.
pub fn export(input: &ExportInput<'_>) -> Result<ExportOutput, ExportError> {
    let names = names(input)?;
    let build = BuildMetadata::read(&input.layers.host)?;
    let build_bom = build_bom(input)?;
    let entrypoint = config::entrypoint(input.process_type.as_deref(), &build)?;
    if input.platform_api.has_launcher_sbom() {
        sbom::copy_launcher_sbom(input)?;
    }
    let base = Base::resolve(input)?;
    let (base_config, extension_layers) = match Extended::find(input, &base)? {
        Some(extended) => (extended.config, extended.layers),
        None => (base.image.config.clone(), Vec::new()),
    };
    let previous = previous(input)?;
    let form = Form::of(input.layer_format, input.manifest_format, &base)?;
    let image = previous.as_ref().map(|(_, image)| image);
    let (app_layers, read_app) = app::plan(input, &build, image, form)?;
    let planned = plan::plan(input, &build, image, app_layers)?;
    let first = names.first().ok_or(ExportError::NoImage)?;
    let sink = input.sink(first);
    let format = form.layers.first();
    let make =
        |take: &Take<'_>| layers::make(input, planned.layers, image, (form.family, format), &sink, take);
    let (made, ahead) = ahead::while_making(input, (&base, image), form, first, make)?;
    let made: Vec<_> = extension_layers.into_iter().chain(made).collect();
    let config = config::make(input, (&base, base_config), &build, planned.stores, &made, &entrypoint)?;
    let parts =
        Parts { base: &base, previous: previous.as_ref(), made: &made, ahead, config: config.to_bytes() };
    tracing::info!("Saving {}...", input.images[0]);
    let Published { manifest, layers } = match assemble::publish(input, &names, &parts, form) {
        Err(ExportError::Store { source, reference, .. })
            if form.may_fall_back && source.is_rejected_manifest() =>
        {
            tracing::warn!("'{reference}' cannot be written with OCI media types; using Docker's ({source})");
            assemble::publish(input, &names, &parts, form.in_docker())?
        }
        other => other?,
    };
    if let Some(app) = read_app {
        app.note(input, &made);
    }
    let place = Place {
        target: &input.target,
        image: first,
        previous: previous.as_ref().map(|(reference, _)| reference),
        mounts: matches!(input.identify, Identify::ByDigest),
    };
    let reused_layers = made.iter().filter(|layer| layer.is_reused()).count();
    log_images(&input.identify, &manifest, input.images);
    Ok(ExportOutput {
        report: Report { build_bom, image: report(input, &manifest, &config) },
        manifest,
        layers,
        reused_layers,
        added_layers: made.len() - reused_layers,
        unread_layers: made.iter().filter(|layer| layer.is_unread).count(),
        layer_digests: LayerDigests::of(&made, &place),
    })
}

/// Says what was written, in words that platforms look for.
pub(crate) fn log_images(identify: &Identify, manifest: &Manifest, names: &[String]) {
    match (identify, manifest.as_image()) {
        // Daemons' images have short names.
        (Identify::ByImageId, Some(image)) => {
            tracing::info!("*** Images ({:.12}):", image.config.digest.hex());
        }
        _ => tracing::info!("*** Images ({}):", manifest.digest()),
    }
    for name in names {
        tracing::info!("      {name}");
    }
}

fn report(input: &ExportInput<'_>, manifest: &Manifest, config: &longshore_image::Config) -> ImageReport {
    let tags = input.images.to_vec();
    match &input.identify {
        Identify::ByDigest | Identify::ByPath(_) => ImageReport {
            tags,
            digest: Some(manifest.digest().to_string()),
            manifest_size: Some(manifest.raw().len() as u64),
            image_id: None,
        },
        Identify::ByImageId => {
            ImageReport { tags, image_id: Some(config.image_id().hex()), ..ImageReport::default() }
        }
    }
}

/// The legacy bill of materials of the build, which older platforms find in `report.toml`.
fn build_bom(input: &ExportInput<'_>) -> Result<Vec<go_toml::Table>, ExportError> {
    let mut bom = Vec::new();
    if input.platform_api.has_legacy_sbom_file() {
        return Ok(bom);
    }
    for buildpack in &input.group.buildpacks {
        let path = input.layers.host.join(directory_name(&buildpack.id)).join("build.toml");
        let build: BuildToml = toml_file::read_optional(&path)?.unwrap_or_default();
        // The reference leaves these two out here.
        let buildpack = GroupElement { api: String::new(), homepage: String::new(), ..buildpack.clone() };
        bom.extend(
            build
                .bom
                .into_iter()
                .map(|entry| BuildpackBomEntry { entry, buildpack: buildpack.clone() }.to_toml()),
        );
    }
    Ok(bom)
}

fn names(input: &ExportInput<'_>) -> Result<Vec<Reference>, ExportError> {
    let names = input.images.iter().map(|name| name.parse()).collect::<Result<Vec<Reference>, _>>()?;
    let first = names.first().ok_or(ExportError::NoImage)?;
    match names.iter().find(|name| name.registry() != first.registry()) {
        Some(other) if !input.identify.mixes_registries() => {
            Err(ExportError::SeveralRegistries { first: first.familiar(), other: other.familiar() })
        }
        _ => Ok(names),
    }
}

/// The previous image, whose layers may be reused. One that has gone or cannot be read since analyze is no obstacle
/// unless a buildpack relies on it.
fn previous(input: &ExportInput<'_>) -> Result<Option<(Reference, Image)>, ExportError> {
    let Some(text) = input.analyzed.previous_reference() else { return Ok(None) };
    let reference = input.identify.parse(text)?;
    let found = input.target.resolve(&reference, &input.platform);
    match found {
        Ok(Some(image)) => {
            tracing::info!("Reusing layers from image '{}'", reference.familiar());
            Ok(Some((reference, image)))
        }
        Ok(None) => Ok(None),
        Err(source) => Err(ExportError::store("read the previous image", &reference)(source)),
    }
}
