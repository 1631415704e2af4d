//! Analyze: finds the previous image and the run image, and whether the app image can be written (platform.md
//! "`analyzer`").

mod access;
mod sbom;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use longshore_cnb::PlatformApi;
use longshore_cnb::analyzed::{Analyzed, ImageIdentifier, RunImage};
use longshore_cnb::lifecycle_metadata::{LIFECYCLE_METADATA_LABEL, LifecycleMetadata};
use longshore_cnb::target::Target;
use longshore_image::{Config, Image, ImageStore, InvalidReference, Platform, Reference, StoreError};

use crate::ExitCode;
use crate::directory::{MappedDirectory, Owner};
use crate::image_identifier::{Identify, identifier};
use crate::restore::ExtractError;
use crate::run_image::{self, RunImages};

/// What analyze works on.
pub struct AnalyzeInput<'a> {
    /// The Platform API that the platform asked for.
    pub platform_api: PlatformApi,
    /// The app image (`<image>`).
    pub image: &'a str,
    /// Its further names (`-tag`).
    pub tags: &'a [String],
    /// The image of the previous build (`-previous-image`); the app image when `None`.
    pub previous_image: Option<&'a str>,
    /// The run image (`-run-image`); chosen from `run_images` when `None`.
    pub run_image: Option<&'a str>,
    /// The run images that the platform offers (`-run`, `-stack`).
    pub run_images: &'a RunImages,
    /// The cache image and where it is (`-cache-image`).
    pub cache_image: Option<(&'a str, Arc<dyn ImageStore>)>,
    /// The layers directory (`-layers`).
    pub layers: MappedDirectory,
    /// Do not restore SBOM files of the previous image (`-skip-layers`).
    pub skip_layers: bool,
    /// To whom restored files shall belong; the user who restores them when `None`.
    pub owner: Option<Owner>,
    /// The platform of the app image.
    pub platform: Platform,
    /// Where the app image goes, and where the previous image is.
    pub target: Arc<dyn ImageStore>,
    /// Where run images are.
    pub run_image_store: Arc<dyn ImageStore>,
    /// How images are identified there.
    pub identify: Identify,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct AnalyzeOutput {
    /// The content of `analyzed.toml`.
    pub analyzed: Analyzed,
    /// The run image.
    pub run_image: Image,
    /// The previous image, if there is one that can be used.
    pub previous_image: Option<Image>,
}

/// Why the build cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnalyzeError {
    /// A name is not a reference.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The names of the app image are on several registries.
    #[error("`{image}` and `{tag}` are on different registries; a build writes to one registry")]
    SeveralRegistries {
        /// The app image.
        image: String,
        /// The other name.
        tag: String,
    },
    /// No run image was named and the platform offers none.
    #[error(
        "no run image was given and the platform offers none; name one with -run-image, or provide it in {file}"
    )]
    NoRunImage {
        /// `run.toml` or `stack.toml`.
        file: &'static str,
    },
    /// None of the offered run images can be read.
    #[error("none of the run images can be read: {}", tried.join("; "))]
    NoAccessibleRunImage {
        /// Each name and why it cannot be read.
        tried: Vec<String>,
    },
    /// The run image does not exist.
    #[error("the run image `{reference}` does not exist; check its name, or name another with -run-image")]
    RunImageNotFound {
        /// The run image.
        reference: String,
    },
    /// The run image is for another platform.
    #[error(
        "the run image `{reference}` is for {found}, and the app is built for {wanted}; \
         use a run image for {wanted}, or a builder for {found}"
    )]
    OtherPlatform {
        /// The run image.
        reference: String,
        /// Its platform.
        found: Box<Platform>,
        /// The platform of the app image.
        wanted: Box<Platform>,
    },
    /// An image cannot be read.
    #[error("cannot read the {what} `{reference}`")]
    Read {
        /// Which image: "run image", "previous image", "cache image".
        what: &'static str,
        /// Its name.
        reference: String,
        /// Why not.
        #[source]
        source: Box<StoreError>,
    },
    /// An image cannot be written.
    #[error("cannot write to `{reference}`")]
    Write {
        /// Its name.
        reference: String,
        /// Why not.
        #[source]
        source: Box<StoreError>,
    },
    /// The directory for SBOM files cannot be made.
    #[error("cannot write `{path}` in the layers directory")]
    Layers {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The SBOM files of the previous image cannot be extracted.
    #[error("cannot restore the SBOM files of the previous image")]
    Sbom(#[source] ExtractError),
}

impl AnalyzeError {
    /// The exit code of the analyzer.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            // The reference finds these while it reads its arguments.
            Self::Reference(_)
            | Self::SeveralRegistries { .. }
            | Self::NoRunImage { .. }
            | Self::NoAccessibleRunImage { .. } => ExitCode::InvalidArguments,
            _ => ExitCode::Analyze,
        }
    }

    fn read(what: &'static str, reference: &Reference) -> impl FnOnce(StoreError) -> Self + use<> {
        let reference = reference.familiar();
        move |source| Self::Read { what, reference, source: Box::new(source) }
    }
}

/// Analyzes.
///
/// # Errors
/// When an image cannot be read or written, the run image is missing or for another platform, or the layers directory
/// cannot be written. A previous image that is missing or corrupt is no error.
pub fn analyze(input: &AnalyzeInput<'_>) -> Result<AnalyzeOutput, AnalyzeError> {
    let image: Reference = input.image.parse()?;
    let tags = access::tags(input, &image)?;
    let previous = input.identify.parse(input.previous_image.unwrap_or(input.image))?;
    access::check_write(input, &image, &tags)?;
    let previous = previous_image(input, &previous)?;
    let (name, run_image) = find_run_image(input, &image)?;
    let metadata = previous.as_ref().map(metadata).unwrap_or_default();
    let usable = previous.filter(|_| metadata.is_some());
    let metadata = metadata.unwrap_or_default();
    if let Some(previous) =
        usable.as_ref().filter(|_| input.platform_api.has_sbom_layers() && !input.skip_layers)
    {
        sbom::restore_sbom(input, previous, &metadata)?;
    }
    let reference = usable.as_ref().map(|image| identifier(image, &input.identify)).unwrap_or_default();
    let target = input.platform_api.has_targets().then(|| target(&run_image.config));
    let analyzed = Analyzed {
        previous_image: Some(ImageIdentifier { reference }),
        build_image: None,
        metadata,
        run_image: Some(RunImage {
            reference: identifier(&run_image, &input.identify),
            image: if input.platform_api.has_targets() { name } else { String::new() },
            extend: false,
            target,
        }),
    };
    Ok(AnalyzeOutput { analyzed, run_image, previous_image: usable })
}

/// The previous image, if it exists and is whole. One that cannot be read because it is broken is treated as absent; one
/// that the store refuses to give is an error.
fn previous_image(input: &AnalyzeInput<'_>, reference: &Reference) -> Result<Option<Image>, AnalyzeError> {
    match input.target.resolve(reference, &input.platform) {
        Ok(Some(image)) => {
            tracing::debug!("the previous image `{}` is {}", reference.familiar(), image.manifest.digest());
            Ok(Some(image))
        }
        Ok(None) => {
            tracing::info!("Image with name \"{}\" not found", reference.familiar());
            Ok(None)
        }
        Err(
            error @ (StoreError::InvalidConfig { .. }
            | StoreError::InvalidManifest { .. }
            | StoreError::Contradiction { .. }
            | StoreError::DigestMismatch { .. }
            | StoreError::SizeMismatch { .. }
            | StoreError::NotFoundBlob { .. }
            | StoreError::NoPlatform { .. }),
        ) => {
            tracing::info!("Ignoring image \"{}\": {error}", reference.familiar());
            Ok(None)
        }
        Err(source) => Err(AnalyzeError::read("previous image", reference)(source)),
    }
}

/// What the previous image says about its layers: nothing when no lifecycle built it, and `None` when it says nonsense.
fn metadata(image: &Image) -> Option<LifecycleMetadata> {
    let label = image.config.label(LIFECYCLE_METADATA_LABEL).filter(|label| !label.is_empty());
    let Some(label) = label else { return Some(LifecycleMetadata::default()) };
    match serde_json::from_str(label) {
        Ok(metadata) => Some(metadata),
        Err(error) => {
            tracing::info!(
                "Ignoring image \"{}\": its label cannot be read: {error}",
                image.reference.familiar()
            );
            None
        }
    }
}

fn find_run_image(input: &AnalyzeInput<'_>, app: &Reference) -> Result<(String, Image), AnalyzeError> {
    let name = match input.run_image.filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => choose_run_image(input, app)?,
    };
    let reference: Reference = name.parse()?;
    let familiar = reference.familiar();
    let image = match input.run_image_store.resolve(&reference, &input.platform) {
        Ok(image) => image.ok_or(AnalyzeError::RunImageNotFound { reference: familiar.clone() })?,
        Err(source) => return Err(AnalyzeError::read("run image", &reference)(source)),
    };
    let found = image.config.platform();
    if !input.platform.accepts(&found) {
        return Err(AnalyzeError::OtherPlatform {
            reference: familiar,
            found: Box::new(found),
            wanted: Box::new(input.platform.clone()),
        });
    }
    Ok((name, image))
}

fn choose_run_image(input: &AnalyzeInput<'_>, app: &Reference) -> Result<String, AnalyzeError> {
    let file = if input.platform_api.has_run_toml() { "run.toml" } else { "stack.toml" };
    let names = input.run_images.first().ok_or(AnalyzeError::NoRunImage { file })?;
    let mut tried = Vec::new();
    let mut can_read = |reference: &Reference| match input.run_image_store.resolve(reference, &input.platform)
    {
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
    name.ok_or(AnalyzeError::NoAccessibleRunImage { tried })
}

/// Target data of an image (platform.md "Target Data").
#[must_use]
pub fn target(config: &Config) -> Target {
    let mut target = Target::new(config.os(), config.architecture(), config.variant().unwrap_or_default());
    target.id = config.label("io.buildpacks.base.id").unwrap_or_default().to_owned();
    let name = config.label("io.buildpacks.base.distro.name");
    let version = config.label("io.buildpacks.base.distro.version");
    if name.is_none() && version.is_none() {
        return target;
    }
    target.with_distribution(name.unwrap_or_default(), version.unwrap_or_default())
}
