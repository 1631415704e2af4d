//! `longshore rebase`: puts app images on newer run images, without building.

mod fleet;
mod outcome;
mod selection;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use longshore_cnb::PlatformApi;
use longshore_image::{ImageStore, InvalidFormat, LayerFormats, ManifestChoice, Platform, Reference};
use longshore_lifecycle::Identify;
use longshore_lifecycle::rebase::{Preview, RebaseError, RebaseInput, RebaseOutput, preview, rebase};

use super::UsageError;
use crate::directories::Directories;
use crate::images::{Images, Places, Remembered};
use crate::known_registries::KnownRegistries;
use crate::output;
use crate::settings::{PullPolicy, Settings};

/// The arguments of `rebase`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["images", "all", "from_file"])))]
pub(crate) struct RebaseArguments {
    /// The app images
    #[arg(value_name = "IMAGE")]
    images: Vec<Reference>,
    /// All images whose names match, such as `registry.example/team/*` in a registry, or `*` in the local store; may be
    /// given several times
    #[arg(long, value_name = "PATTERN")]
    all: Vec<String>,
    /// Images that a file names, one in each line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Another name for the rebased image; may be given several times
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<Reference>,
    /// The run image instead of the one that the app image was built on
    #[arg(long, value_name = "NAME")]
    run_image: Option<Reference>,
    /// The image to rebase, when it has another name than the result
    #[arg(long, value_name = "NAME")]
    previous_image: Option<Reference>,
    /// Rebase the images in their registries instead of those in the local store
    #[arg(long)]
    publish: bool,
    /// Rebase even where the run image may not fit
    #[arg(long)]
    force: bool,
    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// How many images are rebased at once
    #[arg(long, value_name = "NUMBER", default_value = "8")]
    jobs: NonZeroUsize,
    /// How the results are printed
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: outcome::Format,
    /// When a registry is asked for a run image that the local store has [default: always with --publish, else
    /// if-not-present]
    #[arg(long, value_enum, value_name = "POLICY")]
    pull_policy: Option<PullPolicy>,
    /// Write report.toml into this directory
    #[arg(long, value_name = "DIRECTORY")]
    report_output_dir: Option<PathBuf>,
    /// A registry without valid certificates; may be given several times
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,
    /// How layers are compressed: keep, as they are; or tar, tar+gzip, tar+zstd or dual, for all of them [default: keep]
    #[arg(long, value_name = "FORMAT", env = "LONGSHORE_LAYER_FORMAT")]
    layer_format: Option<RebasedLayers>,
    /// Whose media types the manifest has: oci, docker, or auto for OCI's unless the registry refuses them
    /// [default: those that it had]
    #[arg(long, value_name = "FORMAT", env = "LONGSHORE_MANIFEST_FORMAT")]
    manifest_format: Option<ManifestChoice>,
}

/// How layers of a rebased image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RebasedLayers {
    /// As they are.
    Kept,
    /// All in a format.
    In(LayerFormats),
}

impl FromStr for RebasedLayers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "keep" => Ok(Self::Kept),
            other => {
                other.parse().map(Self::In).map_err(|error: InvalidFormat| format!("{error}, or `keep`"))
            }
        }
    }
}

/// What became of the flags and the settings for the layers of a rebased image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wanted {
    /// The format of all layers; each stays as it is without one.
    all: Option<LayerFormats>,
    /// What the run image's new layers must at least be readable for.
    readable: Option<LayerFormats>,
}

impl Wanted {
    /// A rebase converts nothing that it was not told to: the format of the settings is for new images. But whoever
    /// chose one for clients that do not read zstd must not get it from a run image.
    const fn new(flag: Option<RebasedLayers>, setting: Option<LayerFormats>) -> Self {
        match flag {
            Some(RebasedLayers::In(formats)) => Self { all: Some(formats), readable: None },
            Some(RebasedLayers::Kept) => Self { all: None, readable: None },
            None => Self { all: None, readable: setting },
        }
    }
}

impl RebaseArguments {
    /// Whether standard output is for machines.
    pub(crate) const fn prints_json(&self) -> bool {
        matches!(self.format, outcome::Format::Json)
    }

    /// Whether one image was named, and nothing is wanted but that.
    fn is_plain(&self) -> bool {
        let is_one = self.images.len() == 1 && self.all.is_empty() && self.from_file.is_none();
        is_one && !self.dry_run && !self.prints_json()
    }

    /// Refuses what makes sense for one image only.
    fn check(&self) -> Result<(), UsageError> {
        let given = [
            (!self.tag.is_empty(), "--tag"),
            (self.previous_image.is_some(), "--previous-image"),
            (self.report_output_dir.is_some(), "--report-output-dir"),
        ];
        let is_one = self.images.len() == 1 && self.all.is_empty() && self.from_file.is_none();
        match given.iter().find(|(given, _)| *given && !is_one) {
            Some((_, flag)) => Err(UsageError(format!(
                "`{flag}` is for one image; `--format json` tells what became of several"
            ))),
            None => Ok(()),
        }
    }
}

/// Rebases. What became of each of several images is printed; the exit code is 72 when one of them failed.
pub(crate) fn run(arguments: &RebaseArguments) -> anyhow::Result<ExitCode> {
    arguments.check()?;
    let directories = Directories::of_user()?;
    let settings = Settings::read(&directories)?;
    let mut images = Images::open(&directories, &settings)?;
    images.allow_insecure(&arguments.insecure_registry);
    let rebaser = Rebaser::new(arguments, &directories, &settings, images)?;
    if arguments.is_plain() {
        return run_one(arguments, &rebaser);
    }
    let selection = selection::select(arguments, &rebaser.images)?;
    let outcomes = fleet::run(&rebaser, selection);
    outcome::print(&outcomes, arguments.format)?;
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_failure()).count();
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    tracing::error!("{failed} of {} images could not be rebased; the table says why", outcomes.len());
    Ok(ExitCode::from(REBASE_FAILED))
}

/// The exit code of the rebaser.
const REBASE_FAILED: u8 = 72;

fn run_one(arguments: &RebaseArguments, rebaser: &Rebaser<'_>) -> anyhow::Result<ExitCode> {
    let Some(image) = arguments.images.first() else { return Ok(ExitCode::SUCCESS) };
    let rebased = rebaser.rebase(image, arguments.publish)?;
    if let Some(directory) = &arguments.report_output_dir {
        fs_err::create_dir_all(directory)?;
        fs_err::write(directory.join("report.toml"), rebased.report.to_document())?;
    }
    tracing::info!("Run image {}", output::symbol(&rebased.run_image));
    let (name, digest) = (output::symbol(image.familiar()), rebased.manifest.digest());
    if rebased.is_unchanged {
        output::result(format_args!("Image {name} is up to date {digest}"));
    } else {
        output::result(format_args!("Successfully rebased image {name} {digest}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Rebases one image after the other, or several at once.
struct Rebaser<'a> {
    arguments: &'a RebaseArguments,
    layers: Wanted,
    manifest_format: Option<ManifestChoice>,
    images: Images,
    run_images: [Arc<dyn ImageStore>; 2],
    known: Mutex<KnownRegistries>,
}

impl<'a> Rebaser<'a> {
    fn new(
        arguments: &'a RebaseArguments,
        directories: &Directories,
        settings: &Settings,
        images: Images,
    ) -> anyhow::Result<Self> {
        let asked = arguments.pull_policy.or(settings.pull_policy);
        // Whoever rebases a published image wants the run image that is published.
        let places = |default| -> anyhow::Result<Arc<dyn ImageStore>> {
            let places = Places::new(&images, asked.unwrap_or(default))?;
            Ok(Arc::new(Remembered::new(Arc::new(places))))
        };
        let run_images = [places(PullPolicy::IfNotPresent)?, places(PullPolicy::Always)?];
        Ok(Self {
            arguments,
            layers: Wanted::new(arguments.layer_format, settings.layer_format),
            manifest_format: arguments.manifest_format.or(settings.manifest_format),
            images,
            run_images,
            known: Mutex::new(KnownRegistries::read(directories)?),
        })
    }

    /// Rebases an image in the local store, or in its registry.
    fn rebase(&self, image: &Reference, publish: bool) -> anyhow::Result<RebaseOutput> {
        let rebased = self.with_input(image, publish, rebase)?;
        if publish && let Some(choice) = self.manifest_format {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.learn(image.registry(), choice, &rebased.manifest)?;
        }
        Ok(rebased)
    }

    /// Says what that would do.
    fn preview(&self, image: &Reference, publish: bool) -> anyhow::Result<Preview> {
        self.with_input(image, publish, preview)
    }

    fn with_input<T>(
        &self,
        image: &Reference,
        publish: bool,
        act: impl FnOnce(&RebaseInput<'_>) -> Result<T, RebaseError>,
    ) -> anyhow::Result<T> {
        let names: Vec<String> =
            std::iter::once(image).chain(&self.arguments.tag).map(ToString::to_string).collect();
        let text = |reference: &Option<Reference>| reference.as_ref().map(ToString::to_string);
        let previous = text(&self.arguments.previous_image);
        let run_image = text(&self.arguments.run_image);
        let (layer_format, manifest_format) = self.formats(image, publish);
        Ok(act(&RebaseInput {
            platform_api: PlatformApi::latest(),
            images: &names,
            previous_image: previous.as_deref(),
            run_image: run_image.as_deref(),
            force: self.arguments.force,
            platform: Platform::host(),
            target: self.images.destination(publish)?,
            run_image_store: Arc::clone(&self.run_images[usize::from(publish)]),
            identify: Identify::ByDigest,
            any_tag: true,
            keep_current: true,
            layer_format,
            readable: self.layers.readable,
            manifest_format,
            sink: self.images.local().sink(),
        })?)
    }

    /// The formats that were asked for, as far as the registry is known to take them.
    fn formats(&self, image: &Reference, publish: bool) -> (Option<LayerFormats>, Option<ManifestChoice>) {
        let layer_format = self.layers.all;
        match self.manifest_format {
            Some(choice) if publish => {
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.formats(image.registry(), layer_format, choice)
            }
            choice => (layer_format, choice),
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_image::LayerFormat;

    use super::*;

    /// A `layer-format` of the settings made each rebase compress all layers of images of other formats again.
    #[test]
    fn the_settings_convert_nothing_of_the_app() {
        let gzip = LayerFormats::One(LayerFormat::TarGzip);
        let kept = Wanted::default();
        let readable = Wanted { readable: Some(gzip), ..kept };
        let converted = Wanted { all: Some(LayerFormats::Dual), ..kept };
        for (flag, setting, expected) in [
            (None, None, kept),
            (None, Some(gzip), readable),
            (Some("keep"), Some(gzip), kept),
            (Some("dual"), Some(gzip), converted),
            (Some("dual"), None, converted),
        ] {
            let flag = flag.map(|text| text.parse().unwrap());
            assert_eq!(Wanted::new(flag, setting), expected, "{flag:?} {setting:?}");
        }
        let error = "zip".parse::<RebasedLayers>().unwrap_err();
        assert!(error.contains("tar+zstd") && error.contains("keep"), "{error}");
    }
}
