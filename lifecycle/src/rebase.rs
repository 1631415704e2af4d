//! Rebase: puts an app image onto another run image without building it again (platform.md "`rebaser`").
//!
//! Only manifests and configurations are read where both images are in one place. An app image that is an index is
//! rebased for each of its platforms.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use longshore_cnb::PlatformApi;
use longshore_cnb::api::ApiError;
use longshore_cnb::lifecycle_metadata::{LIFECYCLE_METADATA_LABEL, LifecycleMetadata, RunImageNames};
use longshore_cnb::report::{ImageReport, Report};
use longshore_image::{
    Config, Descriptor, Image, ImageManifest, ImageStore, IndexManifest, InvalidReference, LayerFormat,
    Manifest, ManifestContent, ManifestFormat, MediaType, Platform, Reference, StoreError,
};

use crate::ExitCode;
use crate::image_identifier::{Identify, identifier};
use crate::image_layers;
use crate::publish::{self, Publication, PublishError, Upload};
use crate::run_image;
pub use plan::{Plan, Refusal, Request, plan};

/// What rebase works on.
pub struct RebaseInput<'a> {
    /// The Platform API that the platform asked for.
    pub platform_api: PlatformApi,
    /// The names of the rebased image, as given.
    pub images: &'a [String],
    /// The image to rebase (`-previous-image`); the first of `images` when `None`.
    pub previous_image: Option<&'a str>,
    /// The new run image (`-run-image`); from the app image's label when `None`.
    pub run_image: Option<&'a str>,
    /// Rebase although the images may not fit (`-force`).
    pub force: bool,
    /// Which image of an index to rebase first; all others follow.
    pub platform: Platform,
    /// Where the app image is and goes.
    pub target: Arc<dyn ImageStore>,
    /// Where run images are.
    pub run_image_store: Arc<dyn ImageStore>,
    /// How images are identified there.
    pub identify: Identify,
}

/// What was rebased.
#[derive(Debug, Clone)]
pub struct RebaseOutput {
    /// The content of `report.toml`.
    pub report: Report,
    /// The manifest, or the index, that the names are now.
    pub manifest: Manifest,
    /// The run image that it stands on.
    pub run_image: String,
}

/// Why an image was not rebased. No name of the image was moved, unless it says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebaseError {
    /// No name was given.
    #[error("no image was given; name the app image to rebase")]
    NoImage,
    /// A name is not a reference.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The names are on several registries.
    #[error("`{first}` and `{other}` are on different registries; rebase to one registry at a time")]
    SeveralRegistries {
        /// One name.
        first: String,
        /// Another.
        other: String,
    },
    /// An image does not exist.
    #[error("the {what} `{reference}` does not exist")]
    NotFound {
        /// "app image" or "run image".
        what: &'static str,
        /// Its name.
        reference: String,
    },
    /// The app image was not built by a lifecycle.
    #[error(
        "`{reference}` cannot be rebased: it has no usable label `{LIFECYCLE_METADATA_LABEL}`, so no buildpack built it"
    )]
    NoMetadata {
        /// The app image.
        reference: String,
        /// Why the label cannot be read, when there is one.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// No run image was named and the app image knows none.
    #[error("the app image does not name a run image; name one with -run-image")]
    NoRunImage,
    /// None of the run images that the app image knows can be read.
    #[error("none of the run images of the app image can be read: {}", tried.join("; "))]
    NoAccessibleRunImage {
        /// Each name and why it cannot be read.
        tried: Vec<String>,
    },
    /// The Platform API that the app image was built with cannot be read.
    #[error("`{reference}` says that it was built with an unreadable Platform API")]
    PlatformApi {
        /// The app image.
        reference: String,
        /// Why it is unreadable.
        #[source]
        source: ApiError,
    },
    /// The images do not fit.
    #[error("`{reference}` cannot be rebased onto `{run_image}`")]
    Refused {
        /// The app image.
        reference: String,
        /// The run image.
        run_image: String,
        /// Why not.
        #[source]
        source: Box<Refusal>,
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
}

impl RebaseError {
    /// The exit code of the rebaser.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoImage | Self::Reference(_) | Self::NoRunImage | Self::SeveralRegistries { .. } => {
                ExitCode::InvalidArguments
            }
            _ => ExitCode::Rebase,
        }
    }

    fn store(action: &'static str, reference: &Reference) -> impl FnOnce(StoreError) -> Self + use<> {
        let reference = reference.familiar();
        move |source| Self::Store { action, reference, source: Box::new(source) }
    }
}

impl From<PublishError> for RebaseError {
    fn from(PublishError { action, reference, written, source }: PublishError) -> Self {
        if written.is_empty() {
            Self::Store { action, reference, source }
        } else {
            Self::Name { reference, written, source }
        }
    }
}

/// Rebases.
///
/// # Errors
/// When the images do not fit, are missing, or a store cannot be read or written.
pub fn rebase(input: &RebaseInput<'_>) -> Result<RebaseOutput, RebaseError> {
    let names = names(input)?;
    let (app, image) = app_image(input, &names)?;
    let run_image = choose_run_image(input, &app, &image)?;
    let (manifest, image_id) = match &image.index {
        Some(index) => (rebase_index(input, &names, &app, index, &run_image)?, None),
        None => {
            let rebased = Rebased::new(input, &app, &image, &run_image)?;
            let uploads = rebased.uploads(input);
            let publication = Publication { root: &rebased.manifest, children: &[], uploads: &uploads };
            publish::publish(&input.target, &names, &publication)?;
            (rebased.manifest, Some(rebased.config.image_id()))
        }
    };
    let mut report = ImageReport { tags: input.images.to_vec(), ..ImageReport::default() };
    match &input.identify {
        Identify::ByImageId => report.image_id = image_id.map(|id| id.to_string()),
        Identify::ByDigest | Identify::ByPath(_) => {
            report.digest = Some(manifest.digest().to_string());
            report.manifest_size = Some(manifest.raw().len() as u64);
        }
    }
    Ok(RebaseOutput { report: Report { image: report, ..Report::default() }, manifest, run_image })
}

/// The name of the run image that [`rebase`] will use.
///
/// # Errors
/// When the app image cannot be read, or none of the run images that it knows.
pub fn find_run_image(input: &RebaseInput<'_>) -> Result<String, RebaseError> {
    let (app, image) = app_image(input, &names(input)?)?;
    choose_run_image(input, &app, &image)
}

fn app_image(input: &RebaseInput<'_>, names: &[Reference]) -> Result<(Reference, Image), RebaseError> {
    let app = match input.previous_image {
        Some(name) => name.parse()?,
        None => names.first().cloned().ok_or(RebaseError::NoImage)?,
    };
    let image = resolve(&input.target, "app image", &app, &input.platform)?;
    Ok((app, image))
}

fn names(input: &RebaseInput<'_>) -> Result<Vec<Reference>, RebaseError> {
    let names = input.images.iter().map(|name| name.parse()).collect::<Result<Vec<Reference>, _>>()?;
    let first = names.first().ok_or(RebaseError::NoImage)?;
    match names.iter().find(|name| name.registry() != first.registry()) {
        Some(other) if !input.identify.mixes_registries() => {
            Err(RebaseError::SeveralRegistries { first: first.familiar(), other: other.familiar() })
        }
        _ => Ok(names),
    }
}

fn resolve(
    store: &Arc<dyn ImageStore>,
    what: &'static str,
    reference: &Reference,
    platform: &Platform,
) -> Result<Image, RebaseError> {
    let image = store.resolve(reference, platform).map_err(RebaseError::store("read", reference))?;
    image.ok_or_else(|| RebaseError::NotFound { what, reference: reference.familiar() })
}

fn metadata(app: &Reference, image: &Image) -> Result<LifecycleMetadata, RebaseError> {
    let missing = |source| RebaseError::NoMetadata { reference: app.familiar(), source };
    let label = image.config.label(LIFECYCLE_METADATA_LABEL).ok_or_else(|| missing(None))?;
    // The `app` key had other types in old images, and is of no interest here.
    let mut value: serde_json::Value = serde_json::from_str(label).map_err(|error| missing(Some(error)))?;
    if let Some(object) = value.as_object_mut() {
        object.remove("app");
    }
    serde_json::from_value(value).map_err(|error| missing(Some(error)))
}

fn choose_run_image(input: &RebaseInput<'_>, app: &Reference, image: &Image) -> Result<String, RebaseError> {
    if let Some(name) = input.run_image.filter(|name| !name.is_empty()) {
        return Ok(name.to_owned());
    }
    let metadata = metadata(app, image)?;
    let names: &RunImageNames = metadata.run_image_names().ok_or(RebaseError::NoRunImage)?;
    let platform = image.config.platform();
    let mut tried = Vec::new();
    let mut can_read = |reference: &Reference| match input.run_image_store.resolve(reference, &platform) {
        Ok(Some(_)) => true,
        Ok(None) => {
            tried.push(format!("`{}` does not exist", reference.familiar()));
            false
        }
        Err(error) => {
            tried.push(format!("`{}`: {error}", reference.familiar()));
            false
        }
    };
    let name = run_image::accessible(names, app, &mut can_read).map(str::to_owned);
    name.ok_or(RebaseError::NoAccessibleRunImage { tried })
}

/// One image on its new run image.
struct Rebased {
    app: Reference,
    base: Reference,
    manifest: Manifest,
    config: Config,
    family: ManifestFormat,
    base_layers: Vec<Descriptor>,
    app_layers: Vec<Descriptor>,
}

impl Rebased {
    fn new(
        input: &RebaseInput<'_>,
        app: &Reference,
        image: &Image,
        run_image: &str,
    ) -> Result<Self, RebaseError> {
        let base_name: Reference = run_image.parse()?;
        let base = resolve(&input.run_image_store, "run image", &base_name, &image.config.platform())?;
        let recorded = image.config.env_value("CNB_PLATFORM_API").filter(|text| !text.is_empty());
        let app_api = recorded.map(|text| PlatformApi::parse_recorded(&text)).transpose();
        let app_api =
            app_api.map_err(|source| RebaseError::PlatformApi { reference: app.familiar(), source })?;
        let refused = |source| RebaseError::Refused {
            reference: app.familiar(),
            run_image: run_image.to_owned(),
            source: Box::new(source),
        };
        let plan = plan(&Request {
            app: &image.config,
            metadata: &metadata(app, image)?,
            app_api,
            platform_api: input.platform_api,
            base: &base.config,
            run_image,
            reference: &identifier(&base, &input.identify),
            force: input.force,
        })
        .map_err(refused)?;
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }
        let base_layers = image_layers::pairs(&base).into_iter().map(|(_, descriptor)| descriptor).collect();
        let above = image_layers::pairs(image).into_iter().skip(plan.kept_from);
        Ok(Self::assemble(app, image, &base, base_layers, above.map(|(_, blob)| blob).collect(), plan.config))
    }

    fn assemble(
        app: &Reference,
        image: &Image,
        base: &Image,
        base_layers: Vec<Descriptor>,
        app_layers: Vec<Descriptor>,
        config: Config,
    ) -> Self {
        let family = family(image, base_layers.iter().chain(&app_layers));
        let normalise = |blobs: Vec<Descriptor>| -> Vec<Descriptor> {
            blobs.into_iter().map(|blob| image_layers::in_family(blob, family)).collect()
        };
        let (base_layers, app_layers) = (normalise(base_layers), normalise(app_layers));
        let (descriptor, _) = Upload::config(config.to_bytes(), family);
        let layers = [base_layers.as_slice(), app_layers.as_slice()].concat();
        let mut manifest = ImageManifest::new(family, descriptor, layers);
        if let Some(old) = image.manifest.as_image() {
            manifest.annotations.clone_from(&old.annotations);
        }
        Self {
            app: app.clone(),
            base: base.reference.clone(),
            manifest: Manifest::image(manifest),
            config,
            family,
            base_layers,
            app_layers,
        }
    }

    fn uploads(&self, input: &RebaseInput<'_>) -> Vec<Upload> {
        let base = self.base_layers.iter().cloned();
        let base = base.map(|blob| Upload::of_image(blob, &input.run_image_store, &self.base));
        let app = self.app_layers.iter().cloned();
        let app = app.map(|blob| Upload::of_image(blob, &input.target, &self.app));
        let (_, config) = Upload::config(self.config.to_bytes(), self.family);
        base.chain(app).chain([config]).collect()
    }
}

/// The app image's own family, unless a layer needs OCI's.
fn family<'a>(image: &Image, mut layers: impl Iterator<Item = &'a Descriptor>) -> ManifestFormat {
    let needs_oci = layers.any(|blob| matches!(blob.media_type, MediaType::Layer(_, LayerFormat::TarZstd)));
    match image.manifest.media_type() {
        MediaType::Manifest(family) if !needs_oci => *family,
        _ => ManifestFormat::Oci,
    }
}

/// Rebases every image of an index and makes the new index. What is no image for a platform (attestations) is left out,
/// because it describes the old images.
fn rebase_index(
    input: &RebaseInput<'_>,
    names: &[Reference],
    app: &Reference,
    index: &Manifest,
    run_image: &str,
) -> Result<Manifest, RebaseError> {
    let ManifestContent::Index(content) = index.content() else { return Err(RebaseError::NoImage) };
    let mut manifests = Vec::new();
    for old in &content.manifests {
        let Some(platform) = old.platform.as_ref().filter(|platform| platform.os != "unknown") else {
            continue;
        };
        let image = resolve(&input.target, "app image", &app.with_digest(old.digest), platform)?;
        let rebased = Rebased::new(input, app, &image, run_image)?;
        let uploads = rebased.uploads(input);
        for (position, name) in names.iter().enumerate() {
            if !names[..position].iter().any(|known| input.target.shares_blobs(known, name)) {
                publish::upload(&input.target, name, None, &uploads)?;
                let by_digest = name.with_digest(rebased.manifest.digest());
                input
                    .target
                    .put_manifest(&by_digest, &rebased.manifest)
                    .map_err(RebaseError::store("write", name))?;
            }
        }
        let mut descriptor = rebased.manifest.descriptor();
        descriptor.platform = Some(platform.clone());
        descriptor.annotations.clone_from(&old.annotations);
        manifests.push(descriptor);
    }
    let new = Manifest::index(IndexManifest { manifests, ..content.clone() });
    publish::put_names(&input.target, names, &new)?;
    Ok(new)
}
