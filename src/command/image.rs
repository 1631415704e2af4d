//! `longshore image`: the images of the local store and elsewhere.

mod append;
mod artifact;
mod copy;
mod diff;
mod digest;
mod inspect;
mod snapshot;

use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use longshore_image::{Digest, ImageStore, Platform, Reference};
use longshore_lifecycle::cache;

use crate::build::clear_abandoned;
use crate::directories::Directories;
use crate::images::Images;
use crate::output;
use crate::rootfs::clear_abandoned_layers;
use crate::settings::Settings;
use crate::spared::{GRACE, spared};

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List the images of the local store
    #[command(visible_alias = "list")]
    Ls,
    /// Remove names from the local store, and what no name needs any more
    Rm {
        /// The names
        #[arg(required = true)]
        names: Vec<Reference>,
    },
    /// Give an image of the local store another name
    Tag {
        /// The image
        image: Reference,
        /// Its further names
        #[arg(required = true)]
        names: Vec<Reference>,
    },
    /// Print what an image is made of as JSON, or its bytes as they are
    Inspect(inspect::InspectArguments),
    /// Print the digest of an image
    Digest(digest::DigestArguments),
    /// Copy an image
    ///
    /// A plain name is in the local store, and as a source also in a registry. Other places are docker://NAME (a registry),
    /// oci:DIRECTORY[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], docker-daemon:NAME and
    /// containers-storage:NAME (podman). Without a format, the copy is the same to the byte.
    Copy(copy::CopyArguments),
    /// Put directories as layers on an image, without buildpacks
    Append(append::AppendArguments),
    /// Write down what a directory has now, for `append --since`
    Snapshot(snapshot::SnapshotArguments),
    /// Show in which layers, files and configuration fields two images differ
    Diff(diff::DiffArguments),
    /// Push a file as an artifact about an image
    Attach(artifact::AttachArguments),
    /// List the artifacts about an image
    Referrers(artifact::ReferrersArguments),
    /// Remove what no name in the local store needs any more, and caches of builds that were not used for long
    Prune(PruneArguments),
}

/// Which caches of builds are removed.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArguments {
    /// Remove caches of app images that were not built for so many days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    cache_age: u64,
    /// Remove the caches not used for longest, until all have no more than so many gigabytes
    #[arg(long, value_name = "GB", default_value_t = 20)]
    cache_size: u64,
}

/// Runs the command.
pub(crate) fn run(command: ImageCommand) -> anyhow::Result<()> {
    let directories = Directories::of_user()?;
    let settings = Settings::read(&directories)?;
    let images = Images::open(&directories, &settings)?;
    let policy = settings.pull_policy.unwrap_or_default();
    match command {
        ImageCommand::Ls => list(&images),
        ImageCommand::Rm { names } => remove(&images, &directories, &names),
        ImageCommand::Tag { image, names } => {
            for name in names {
                images.local().tag(&image, &name)?;
            }
            Ok(())
        }
        ImageCommand::Inspect(arguments) => inspect::run(&images, &arguments, policy),
        ImageCommand::Digest(arguments) => digest::run(&images, &arguments, policy),
        ImageCommand::Copy(arguments) => copy::run(&images, &directories, &settings, &arguments),
        ImageCommand::Append(arguments) => append::run(&images, &directories, &settings, &arguments),
        ImageCommand::Snapshot(arguments) => snapshot::run(&arguments),
        ImageCommand::Diff(arguments) => diff::run(&images, &arguments, policy),
        ImageCommand::Attach(arguments) => artifact::attach(&images, &arguments),
        ImageCommand::Referrers(arguments) => artifact::referrers(&images, &arguments),
        ImageCommand::Prune(arguments) => {
            // Blobs that only these caches needed go with them.
            prune_caches(&directories, &arguments)?;
            prune(&images, &directories)
        }
    }
}

fn list(images: &Images) -> anyhow::Result<()> {
    let mut rows = vec![["NAME", "DIGEST", "PLATFORM", "SIZE"].map(str::to_owned)];
    for stored in images.local().list()? {
        let platform = Platform::host();
        let digest = stored.descriptor.digest;
        let (platforms, size) = match images.local().resolve(&stored.reference, &platform) {
            Ok(Some(image)) => {
                let layers = image.manifest.as_image().map(|manifest| manifest.layers.as_slice());
                let size = layers.unwrap_or_default().iter().map(|layer| layer.size).sum();
                (image.config.platform().to_string(), bytes(size))
            }
            _ => ("other".to_owned(), "-".to_owned()),
        };
        rows.push([stored.reference.familiar(), short(digest), platforms, size]);
    }
    output::table(&rows);
    Ok(())
}

fn short(digest: Digest) -> String {
    digest.hex().chars().take(12).collect()
}

/// A size as people say it.
fn bytes(size: u64) -> String {
    let size = size as f64;
    match size {
        ..1e3 => format!("{size} B"),
        ..1e6 => format!("{:.1} kB", size / 1e3),
        ..1e9 => format!("{:.1} MB", size / 1e6),
        _ => format!("{:.1} GB", size / 1e9),
    }
}

fn remove(images: &Images, directories: &Directories, names: &[Reference]) -> anyhow::Result<()> {
    for name in names {
        if !images.local().remove(name)? {
            bail!("there is no image `{}` in the local store", name.familiar());
        }
        tracing::info!("Removed {}", output::symbol(name.familiar()));
    }
    prune(images, directories)
}

fn prune(images: &Images, directories: &Directories) -> anyhow::Result<()> {
    let collected = images.local().collect(&spared(directories, None)?)?;
    if collected.blobs > 0 {
        tracing::info!("Freed {} of {} blobs", bytes(collected.bytes), collected.blobs);
    }
    if collected.used_blobs > 0 {
        let (size, count) = (bytes(collected.used_bytes), collected.used_blobs);
        tracing::info!("Kept {size} of {count} blobs for the next builds of pushed images");
    }
    Ok(())
}

fn prune_caches(directories: &Directories, arguments: &PruneArguments) -> anyhow::Result<()> {
    clear_abandoned(&directories.builds())?;
    clear_abandoned_layers(&directories.unpacked(), GRACE)?;
    let age = Duration::from_secs(arguments.cache_age.saturating_mul(24 * 60 * 60));
    let size = arguments.cache_size.saturating_mul(1_000_000_000);
    let collected = cache::collect(&directories.app_caches(), age, size)?;
    if collected.caches > 0 {
        tracing::info!("Freed {} of {} build caches", bytes(collected.bytes), collected.caches);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_500, "1.5 kB"),
            (82_000_000, "82.0 MB"),
            (3_000_000_000, "3.0 GB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }
}
