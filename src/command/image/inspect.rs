//! `longshore image inspect`.

use std::io::{Read as _, Write as _};

use anyhow::{Context, bail};
use longshore_image::{Descriptor, Fields, Manifest, ManifestContent, MediaType, Platform};
use serde_json::value::{RawValue, to_raw_value};

use crate::command::shared::parse_platform;
use crate::images::{Images, Location, Opened};
use crate::output;
use crate::pretty_json::pretty;
use crate::settings::PullPolicy;

/// The arguments of `image inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArguments {
    /// The image, wherever `image copy` could read it from
    image: Location,
    /// Print the manifest or index as it is, to the byte
    #[arg(long)]
    raw: bool,
    /// Print the configuration as it is, to the byte
    #[arg(long, conflicts_with = "raw")]
    config: bool,
    /// Which image of an index is shown [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

/// Prints.
pub(crate) fn run(images: &Images, arguments: &InspectArguments, policy: PullPolicy) -> anyhow::Result<()> {
    let platform = arguments.platform.as_deref().map(parse_platform).transpose()?;
    let platform = platform.unwrap_or_else(Platform::host);
    let opened = images.open_source(&arguments.image, policy)?;
    let root = opened.store.manifest(&opened.reference)?;
    let root = root.with_context(|| format!("there is no image `{}`", arguments.image))?;
    if arguments.raw {
        return bytes(root.raw());
    }
    if let Some(artifact) = artifact(&root) {
        if arguments.config {
            bail!(
                "`{}` is an artifact of type {artifact}, which has no configuration of an image",
                arguments.image
            );
        }
        let mut shown = begin(arguments, &root);
        shown.insert("artifactType", &artifact);
        shown.insert("manifest", &document(&root)?);
        output::result(pretty(&shown)?);
        return Ok(());
    }
    let image = opened.store.resolve(&opened.reference, &platform)?;
    let image = image.with_context(|| format!("there is no image `{}`", arguments.image))?;
    if arguments.config {
        return bytes(&config(&opened, &image.manifest)?);
    }
    let mut shown = begin(arguments, &root);
    shown.insert("mediaType", root.media_type());
    shown.insert("platform", &image.config.platform().to_string());
    shown.insert("manifest", &document(&image.manifest)?);
    shown.insert("config", serde_json::from_slice::<&RawValue>(&image.config.to_bytes())?);
    if image.index.is_some() {
        shown.insert("index", &document(&root)?);
    }
    output::result(pretty(&shown)?);
    Ok(())
}

fn begin(arguments: &InspectArguments, root: &Manifest) -> Fields {
    let mut shown = Fields::default();
    shown.insert("name", &arguments.image.to_string());
    shown.insert("digest", &root.digest());
    shown
}

/// The type of what is no image, if it is none.
fn artifact(manifest: &Manifest) -> Option<String> {
    let image = manifest.as_image()?;
    let declared = image.other.get("artifactType");
    match &image.config.media_type {
        MediaType::Config(_) => None,
        other => Some(declared.unwrap_or_else(|| other.to_string())),
    }
}

fn document(manifest: &Manifest) -> anyhow::Result<Box<RawValue>> {
    Ok(match manifest.content() {
        ManifestContent::Image(image) => to_raw_value(image)?,
        ManifestContent::Index(index) => to_raw_value(index)?,
    })
}

fn config(opened: &Opened, manifest: &Manifest) -> anyhow::Result<Vec<u8>> {
    let blob: &Descriptor = &manifest.as_image().context("an index has no configuration")?.config;
    let mut bytes = Vec::new();
    opened.store.open_blob(&opened.reference, blob)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    std::io::stdout().write_all(bytes).context("cannot write to standard output")
}
