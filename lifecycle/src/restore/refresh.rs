//! Brings `analyzed.toml` up to date after detection: image extensions may have chosen another run image (platform.md
//! "`restorer`", "Outputs").

use std::path::PathBuf;
use std::sync::Arc;

use longshore_cnb::PlatformApi;
use longshore_cnb::analyzed::{Analyzed, ImageIdentifier};
use longshore_cnb::group::Group;
use longshore_image::{
    Image, ImageStore, InvalidReference, Layout, LayoutName, Platform, Reference, StoreError,
};

use crate::ExitCode;
use crate::analyze::target;
use crate::image_identifier::{Identify, identifier};
use crate::run_image::RunImages;

/// What is needed to bring `analyzed.toml` up to date.
pub struct RefreshInput<'a> {
    /// The Platform API that the platform asked for.
    pub platform_api: PlatformApi,
    /// The run images that the platform offers (`-run`).
    pub run_images: &'a RunImages,
    /// The detected group (`-group`).
    pub group: &'a Group,
    /// The build image, when it is to be extended (`-build-image`).
    pub build_image: Option<&'a str>,
    /// The platform of the app image.
    pub platform: Platform,
    /// Where the images are.
    pub store: Arc<dyn ImageStore>,
    /// Where images that are to be extended are: the extender reads a registry, also when the app is built for a daemon.
    pub registry: Arc<dyn ImageStore>,
    /// How images are identified there.
    pub identify: Identify,
    /// What is known of images that are to be extended is put below it, for the extender, which has no network. Nothing is
    /// when it does not exist.
    pub kaniko: PathBuf,
}

/// Why `analyzed.toml` could not be brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// A name is not a reference.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// An image does not exist.
    #[error("the {what} `{reference}` does not exist")]
    NotFound {
        /// "run image" or "build image".
        what: &'static str,
        /// Its name.
        reference: String,
    },
    /// An image cannot be read.
    #[error("the {what} `{reference}` is not accessible")]
    Read {
        /// "run image" or "build image".
        what: &'static str,
        /// Its name.
        reference: String,
        /// Why not.
        #[source]
        source: Box<StoreError>,
    },
    /// What is known of an image that is to be extended cannot be kept.
    #[error("cannot keep the manifest of the {what} `{reference}` for the extender")]
    Keep {
        /// "run image" or "build image".
        what: &'static str,
        /// Its name.
        reference: String,
        /// Why not.
        #[source]
        source: Box<StoreError>,
    },
}

impl RefreshError {
    /// The exit code of the restorer.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::Failed
    }
}

/// Records the build image, checks that the run image can still be read, and completes what is known of it.
///
/// # Errors
/// When an image cannot be read or is not there.
pub fn refresh(input: &RefreshInput<'_>, analyzed: &mut Analyzed) -> Result<(), RefreshError> {
    let api = input.platform_api;
    if let Some(name) = input.build_image.filter(|_| api.has_build_image()) {
        let image = resolve(input, &input.registry, "build image", name)?;
        keep(input, "build image", &image)?;
        let reference = identifier(&image, &Identify::ByDigest);
        analyzed.build_image = Some(ImageIdentifier { reference });
    }
    let Some(run_image) = &mut analyzed.run_image else { return Ok(()) };
    // Analyze chose among mirrors; a run image that an extension chose is not among them.
    let chosen_by_analyze = input.run_images.contains(&run_image.image);
    let check = api.rechecks_run_image() && chosen_by_analyze;
    let is_known = run_image.target.as_ref().is_some_and(|target| !target.os.is_empty());
    let complete = api.has_run_image_digest_in_restorer()
        && (run_image.extend || (!input.group.extensions.is_empty() && !is_known));
    if !(check || complete) || run_image.image.is_empty() {
        return Ok(());
    }
    let (store, identify) = match run_image.extend {
        true => (&input.registry, &Identify::ByDigest),
        false => (&input.store, &input.identify),
    };
    let image = resolve(input, store, "run image", &run_image.image)?;
    if run_image.extend && api.has_run_image_extension() {
        keep(input, "run image", &image)?;
    }
    if complete {
        run_image.reference = identifier(&image, identify);
        run_image.target = api.has_targets().then(|| target(&image.config));
    }
    Ok(())
}

/// Puts manifest and configuration of an image where the extender looks for them, as the reference does:
/// `<kaniko-dir>/cache/base/<digest>`.
fn keep(input: &RefreshInput<'_>, what: &'static str, image: &Image) -> Result<(), RefreshError> {
    if !input.kaniko.is_dir() {
        tracing::debug!("'{}' does not exist: nothing can be extended", input.kaniko.display());
        return Ok(());
    }
    let place = input.kaniko.join("cache/base").join(image.manifest.digest().to_string());
    let layout = Layout::create(&place, LayoutName::Only);
    let kept = layout.and_then(|layout| layout.put_sparse(&image.reference, image));
    let reference = image.reference.familiar();
    kept.map_err(|source| RefreshError::Keep { what, reference, source: Box::new(source) })
}

fn resolve(
    input: &RefreshInput<'_>,
    store: &Arc<dyn ImageStore>,
    what: &'static str,
    name: &str,
) -> Result<Image, RefreshError> {
    let reference: Reference = name.parse()?;
    let image = store.resolve(&reference, &input.platform).map_err(|source| RefreshError::Read {
        what,
        reference: reference.familiar(),
        source: Box::new(source),
    })?;
    image.ok_or_else(|| RefreshError::NotFound { what, reference: reference.familiar() })
}

#[cfg(test)]
mod tests {
    use longshore_cnb::analyzed::RunImage;
    use longshore_cnb::group::GroupElement;
    use longshore_cnb::lifecycle_metadata::RunImageNames;
    use longshore_cnb::run::Run;

    use super::*;
    use crate::export::tests::Fixture;

    fn refreshed(api: &str, image: &str, extend: bool, extensions: bool) -> Result<RunImage, RefreshError> {
        let fixture = Fixture::new();
        let extension = GroupElement { id: "acme/ext".to_owned(), ..GroupElement::default() };
        let extensions = if extensions { vec![extension] } else { Vec::new() };
        let names = RunImageNames { image: "offered:1".to_owned(), mirrors: Vec::new() };
        let input = RefreshInput {
            platform_api: PlatformApi::parse(api).unwrap(),
            run_images: &RunImages::Run(Run { images: vec![names] }),
            group: &Group { extensions, ..Group::default() },
            build_image: Some("run:1"),
            platform: Platform::linux("amd64"),
            store: Arc::clone(&fixture.store) as Arc<dyn ImageStore>,
            registry: fixture.store,
            identify: Identify::ByImageId,
            kaniko: PathBuf::from("/does/not/exist"),
        };
        let run_image = RunImage { image: image.to_owned(), extend, ..RunImage::default() };
        let mut analyzed = Analyzed { run_image: Some(run_image), ..Analyzed::default() };
        refresh(&input, &mut analyzed)?;
        assert!(analyzed.build_image.is_none_or(|image| image.reference.contains("/run@sha256:")));
        Ok(analyzed.run_image.unwrap())
    }

    #[test]
    fn what_extensions_chose_is_completed() {
        let digest = |image: &RunImage| image.reference.contains("@sha256:");
        let new = refreshed("0.12", "run:1", false, true).unwrap();
        assert!(!digest(&new) && new.reference.len() == 64, "a daemon's images have ids");
        assert_eq!(new.target.unwrap().os, "linux");
        let extended = refreshed("0.12", "run:1", true, true).unwrap();
        assert!(digest(&extended), "the extender reads a registry");
        assert_eq!(refreshed("0.12", "run:1", false, false).unwrap().reference, "");
        assert_eq!(refreshed("0.9", "run:1", true, true).unwrap().reference, "");
    }

    #[test]
    fn the_chosen_mirror_must_still_be_there() {
        assert!(refreshed("0.13", "offered:1", false, false).is_ok());
        let error = refreshed("0.14", "offered:1", false, false).unwrap_err();
        assert_eq!(error.to_string(), "the run image `offered:1` does not exist");
        assert_eq!(error.exit_code(), ExitCode::Failed);
        assert!(refreshed("0.14", "chosen-by-extension:1", false, false).is_ok());
    }
}
