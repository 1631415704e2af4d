//! `longshore rebase`: puts an app image on a newer run image, without building.

use std::path::PathBuf;
use std::sync::Arc;

use longshore_cnb::PlatformApi;
use longshore_image::{CopyRequest, Digest, Platform, Reference};
use longshore_lifecycle::Identify;
use longshore_lifecycle::rebase::{RebaseInput, rebase};

use super::shared::FormatArguments;
use crate::directories::Directories;
use crate::images::{Images, Places};
use crate::known_registries::KnownRegistries;
use crate::output;
use crate::settings::{PullPolicy, Settings};

/// The arguments of `rebase`.
#[derive(Debug, clap::Args)]
pub(crate) struct RebaseArguments {
    /// The app image
    image: Reference,
    /// Another name for the rebased image; may be given several times
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<Reference>,
    /// The run image instead of the one that the app image was built on
    #[arg(long, value_name = "NAME")]
    run_image: Option<Reference>,
    /// The image to rebase, when it has another name than the result
    #[arg(long, value_name = "NAME")]
    previous_image: Option<Reference>,
    /// Rebase the image in its registry instead of the one in the local store
    #[arg(long)]
    publish: bool,
    /// Rebase even where the run image may not fit
    #[arg(long)]
    force: bool,
    /// When the registry is asked for a run image that the local store has
    #[arg(long, value_enum, value_name = "POLICY")]
    pull_policy: Option<PullPolicy>,
    /// Write report.toml into this directory
    #[arg(long, value_name = "DIRECTORY")]
    report_output_dir: Option<PathBuf>,
    /// A registry without valid certificates; may be given several times
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,
    #[command(flatten)]
    formats: FormatArguments,
}

/// Rebases.
pub(crate) fn run(arguments: &RebaseArguments) -> anyhow::Result<()> {
    let directories = Directories::of_user()?;
    let settings = Settings::read(&directories)?;
    let mut images = Images::open(&directories, &settings)?;
    images.allow_insecure(&arguments.insecure_registry);
    let policy = arguments.pull_policy.or(settings.pull_policy).unwrap_or_default();
    let names: Vec<_> =
        std::iter::once(&arguments.image).chain(&arguments.tag).map(ToString::to_string).collect();
    let text = |reference: &Option<Reference>| reference.as_ref().map(ToString::to_string);
    let (previous, run_image) = (text(&arguments.previous_image), text(&arguments.run_image));
    let rebased = rebase(&RebaseInput {
        platform_api: PlatformApi::latest(),
        images: &names,
        previous_image: previous.as_deref(),
        run_image: run_image.as_deref(),
        force: arguments.force,
        platform: Platform::host(),
        target: images.destination(arguments.publish)?,
        run_image_store: Arc::new(Places::new(&images, policy)?),
        identify: Identify::ByDigest,
    })?;
    let names = || std::iter::once(&arguments.image).chain(&arguments.tag);
    let digest = converted(&images, &directories, arguments, names())?.unwrap_or(rebased.manifest.digest());
    if let Some(directory) = &arguments.report_output_dir {
        fs_err::create_dir_all(directory)?;
        fs_err::write(directory.join("report.toml"), rebased.report.to_document())?;
    }
    tracing::info!("Run image {}", output::symbol(&rebased.run_image));
    output::result(format_args!(
        "Successfully rebased image {} {}",
        output::symbol(arguments.image.familiar()),
        digest
    ));
    Ok(())
}

/// Gives the rebased images the formats that were asked for; the digest then. Without any, they keep those they had.
fn converted<'a>(
    images: &Images,
    directories: &Directories,
    arguments: &RebaseArguments,
    names: impl Iterator<Item = &'a Reference>,
) -> anyhow::Result<Option<Digest>> {
    let FormatArguments { layer_format, manifest_format } = arguments.formats;
    if layer_format.is_none() && manifest_format.is_none() {
        return Ok(None);
    }
    let store = images.destination(arguments.publish)?;
    let mut known = KnownRegistries::read(directories)?;
    let mut digest = None;
    for name in names {
        let (layer_format, manifest_format) = match manifest_format {
            Some(choice) if arguments.publish => known.formats(name.registry(), layer_format, choice),
            choice => (layer_format, choice),
        };
        let copied = longshore_image::copy(&CopyRequest {
            source: &store,
            from: name,
            target: store.as_ref(),
            to: name,
            platform: None,
            layers: layer_format,
            manifest: manifest_format,
            sink: &images.local().sink(),
            same_place: true,
        })?;
        if arguments.publish
            && let Some(choice) = manifest_format
        {
            known.learn(name.registry(), choice, &copied)?;
        }
        digest.get_or_insert(copied.digest());
    }
    Ok(digest)
}
