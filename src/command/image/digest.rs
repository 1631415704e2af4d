//! `longshore image digest`.

use anyhow::Context;

use crate::images::{Images, Location};
use crate::output;
use crate::settings::PullPolicy;

/// The arguments of `image digest`.
#[derive(Debug, clap::Args)]
pub(crate) struct DigestArguments {
    /// The image, wherever `image copy` could read it from
    image: Location,
    /// Print the name with the digest, in the form that pulls exactly this image
    #[arg(long)]
    full: bool,
}

/// Prints the digest of what the name points to: an index, where it is one.
pub(crate) fn run(images: &Images, arguments: &DigestArguments, policy: PullPolicy) -> anyhow::Result<()> {
    let opened = images.open_source(&arguments.image, policy)?;
    let manifest = opened.store.manifest(&opened.reference)?;
    let manifest = manifest.with_context(|| format!("there is no image `{}`", arguments.image))?;
    match opened.name().filter(|_| arguments.full) {
        Some(name) => output::result(name.with_digest(manifest.digest())),
        None => output::result(manifest.digest()),
    }
    Ok(())
}
