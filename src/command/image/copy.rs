//! `longshore image copy`.

use std::sync::Arc;

use longshore_image::{CopyRequest, Platform};

use crate::command::shared::{FormatArguments, parse_platform};
use crate::directories::Directories;
use crate::images::{Images, Location};
use crate::known_registries::KnownRegistries;
use crate::output;
use crate::settings::Settings;

/// The arguments of `image copy`.
#[derive(Debug, clap::Args)]
pub(crate) struct CopyArguments {
    /// The image
    from: Location,
    /// Where it goes
    to: Location,
    /// Copy all that an index has, not only the image for one platform
    #[arg(long, conflicts_with = "platform")]
    all: bool,
    /// Which image of an index is copied [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    formats: FormatArguments,
}

/// Copies, and prints the digest of the copy.
pub(crate) fn run(
    images: &Images,
    directories: &Directories,
    settings: &Settings,
    arguments: &CopyArguments,
) -> anyhow::Result<()> {
    let policy = settings.pull_policy.unwrap_or_default();
    let formats = arguments.formats.or(settings);
    let platform = arguments.platform.as_deref().map(parse_platform).transpose()?;
    let platform = platform.unwrap_or_else(Platform::host);
    let source = images.open_source(&arguments.from, policy)?;
    let target = images.open_destination(&arguments.to, source.name())?;
    let in_registry = |location: &Location, store: &Arc<dyn longshore_image::ImageStore>| {
        let local = Arc::clone(images.local()) as Arc<dyn longshore_image::ImageStore>;
        match location {
            Location::Registry(_) => true,
            Location::Reference(_) => !Arc::ptr_eq(store, &local),
            _ => false,
        }
    };
    let publishes = in_registry(&arguments.to, &target.store);
    let mut known = KnownRegistries::read(directories)?;
    let registry = target.reference.registry();
    let (layers, manifest) = match formats.manifest_format {
        Some(choice) if publishes => known.formats(registry, formats.layer_format, choice),
        choice => (formats.layer_format, choice),
    };
    let copied = longshore_image::copy(&CopyRequest {
        source: &source.store,
        from: &source.reference,
        target: target.store.as_ref(),
        to: &target.reference,
        platform: (!arguments.all).then_some(&platform),
        layers,
        manifest,
        sink: &images.local().sink(),
        same_place: publishes && in_registry(&arguments.from, &source.store),
    })?;
    if publishes && let Some(choice) = manifest {
        known.learn(registry, choice, &copied)?;
    }
    output::result(copied.digest());
    Ok(())
}
