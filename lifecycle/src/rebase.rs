//! Rebase: puts an app image onto another run image without building it again (platform.md "`rebaser`").
//!
//! Only manifests and configurations are read where both images are in one place. An app image that is an index is
//! rebased for each of its platforms.

mod form;
mod plan;
mod read;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use longshore_cnb::PlatformApi;
use longshore_cnb::api::ApiError;
use longshore_cnb::lifecycle_metadata::LIFECYCLE_METADATA_LABEL;
use longshore_cnb::report::{ImageReport, Report};
use longshore_image::convert::ConvertError;
use longshore_image::{
    BlobSink, ImageStore, InvalidReference, LayerFormats, Manifest, ManifestChoice, Platform, Reference,
    StoreError,
};

use crate::ExitCode;
use crate::image_identifier::Identify;
use form::Form;
pub use plan::{Plan, Refusal, Request, plan};
use read::Reading;

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
    /// Whether another tag of a run image that the app image knows will do, or a digest instead of one.
    pub any_tag: bool,
    /// Leave an image as it is that stands on that very run image already; the reference writes it anew.
    pub keep_current: bool,
    /// How the app's layers are to be compressed, and those of the run image that not every client reads; as they are
    /// when `None`.
    pub layer_format: Option<LayerFormats>,
    /// What the clients of the image read, where `layer_format` says nothing: layers of the run image that they may not
    /// read are converted, and the app's stay as they are.
    pub readable: Option<LayerFormats>,
    /// Whose media types the manifest has; those that it had when `None`.
    pub manifest_format: Option<ManifestChoice>,
    /// Where layers lie that are compressed anew, until they are in the target.
    pub sink: BlobSink,
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
    /// What moved.
    pub change: Change,
    /// Whether the image that was rebased is what it was before.
    pub is_unchanged: bool,
}

/// From which run image to which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What identified the old one, as the app image recorded it.
    pub from: Option<String>,
    /// What identifies the new one.
    pub to: String,
    /// Whether the app image stood on it already.
    pub is_current: bool,
}

/// What [`rebase`] would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The run image that the app image would stand on.
    pub run_image: String,
    /// What would move.
    pub change: Change,
    /// What does not fit and would be forced.
    pub warnings: Vec<String>,
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
    /// The index has no image that can be rebased.
    #[error("the index `{reference}` has no image for a platform, so there is nothing to rebase")]
    EmptyIndex {
        /// The app image.
        reference: String,
    },
    /// The image cannot have the form that was asked for.
    #[error(transparent)]
    Convert(#[from] ConvertError),
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

    /// Whether the image is none that a lifecycle built, so that it is none to rebase.
    #[must_use]
    pub fn is_no_app(&self) -> bool {
        match self {
            Self::NoMetadata { .. } | Self::EmptyIndex { .. } => true,
            Self::Store { source, .. } => matches!(**source, StoreError::NotAnImage { .. }),
            _ => false,
        }
    }

    fn store(action: &'static str, reference: &Reference) -> impl FnOnce(StoreError) -> Self + use<> {
        let reference = reference.familiar();
        move |source| Self::Store { action, reference, source: Box::new(source) }
    }
}

/// Rebases.
///
/// # Errors
/// When the images do not fit, are missing, or a store cannot be read or written.
pub fn rebase(input: &RebaseInput<'_>) -> Result<RebaseOutput, RebaseError> {
    let reading = Reading::new(input)?;
    for warning in reading.warnings() {
        tracing::warn!("{warning}");
    }
    let change = reading.change();
    let stays = input.keep_current
        && change.is_current
        && input.layer_format.is_none()
        && input.manifest_format.is_none();
    let form = Form::of(input, &reading)?;
    let manifest = match form::publish(input, &reading, &form, stays) {
        Err(RebaseError::Store { source, reference, .. })
            if form.may_fall_back && source.is_rejected_manifest() =>
        {
            tracing::warn!("'{reference}' cannot be written with OCI media types; using Docker's ({source})");
            form::publish(input, &reading, &form.in_docker(), stays)?
        }
        other => other?,
    };
    let mut report = ImageReport { tags: input.images.to_vec(), ..ImageReport::default() };
    match &input.identify {
        Identify::ByImageId => {
            let config = manifest.as_image().map(|image| &image.config.digest);
            report.image_id = config.map(|digest| digest.hex());
        }
        Identify::ByDigest | Identify::ByPath(_) => {
            report.digest = Some(manifest.digest().to_string());
            report.manifest_size = Some(manifest.raw().len() as u64);
        }
    }
    let report = Report { image: report, ..Report::default() };
    let is_unchanged = manifest.digest() == reading.root.digest();
    Ok(RebaseOutput { report, manifest, run_image: reading.run_image, change, is_unchanged })
}

/// Says what [`rebase`] would do. Nothing is written.
///
/// # Errors
/// When the images do not fit, are missing, or a store cannot be read.
pub fn preview(input: &RebaseInput<'_>) -> Result<Preview, RebaseError> {
    let reading = Reading::new(input)?;
    Form::of(input, &reading)?;
    Ok(Preview {
        change: reading.change(),
        warnings: reading.warnings().map(str::to_owned).collect(),
        run_image: reading.run_image,
    })
}

/// The name of the run image that [`rebase`] will use.
///
/// # Errors
/// When the app image cannot be read, or none of the run images that it knows.
pub fn find_run_image(input: &RebaseInput<'_>) -> Result<String, RebaseError> {
    read::find_run_image(input)
}
