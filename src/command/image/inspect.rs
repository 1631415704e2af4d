//! `longshore image inspect`.

use std::io::{Read as _, Write as _};

use anyhow::{Context, bail};
use longshore_image::{Descriptor, Manifest, ManifestContent, MediaType, Platform};
use serde_json::{Value, json};

use crate::command::shared::parse_platform;
use crate::images::{Images, Location, Opened};
use crate::output;
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
        output::result(serde_json::to_string_pretty(&json!({
            "name": arguments.image.to_string(),
            "digest": root.digest().to_string(),
            "artifactType": artifact,
            "manifest": document(&root)?,
        }))?);
        return Ok(());
    }
    let image = opened.store.resolve(&opened.reference, &platform)?;
    let image = image.with_context(|| format!("there is no image `{}`", arguments.image))?;
    if arguments.config {
        return bytes(&config(&opened, &image.manifest)?);
    }
    let mut shown = json!({
        "name": arguments.image.to_string(),
        "digest": root.digest().to_string(),
        "mediaType": root.media_type().to_string(),
        "platform": image.config.platform().to_string(),
        "manifest": document(&image.manifest)?,
        "config": serde_json::from_slice::<Value>(&image.config.to_bytes())?,
    });
    if image.index.is_some() {
        shown["index"] = document(&root)?;
    }
    output::result(serde_json::to_string_pretty(&shown)?);
    Ok(())
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

fn document(manifest: &Manifest) -> anyhow::Result<Value> {
    Ok(match manifest.content() {
        ManifestContent::Image(image) => serde_json::to_value(image)?,
        ManifestContent::Index(index) => serde_json::to_value(index)?,
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
