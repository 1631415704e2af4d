//! `longshore image attach` and `longshore image referrers`: artifacts about images.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use longshore_image::artifact::{EMPTY, artifact, empty_descriptor};
use longshore_image::{BlobSource, Descriptor, Digest, Fields, ImageStore as _, Reference};

use crate::command::inspect::Format;
use crate::images::Images;
use crate::output;
use crate::pretty_json::pretty;

/// The arguments of `image attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct AttachArguments {
    /// The image, in its registry
    image: Reference,
    /// The file
    file: PathBuf,
    /// What the artifact is, as a media type: application/spdx+json, ...
    #[arg(long, value_name = "TYPE")]
    artifact_type: String,
    /// What the file is, as a media type [default: the artifact's type]
    #[arg(long, value_name = "TYPE")]
    media_type: Option<String>,
    /// An annotation, as NAME=VALUE; may be given several times
    #[arg(long, value_name = "ANNOTATION", value_parser = crate::command::shared::name_and_value)]
    annotation: Vec<(String, String)>,
}

/// Pushes the file and a manifest that says which image it is about.
pub(crate) fn attach(images: &Images, arguments: &AttachArguments) -> anyhow::Result<()> {
    let registry = images.registry()?;
    let subject = subject(images, &arguments.image)?;
    let bytes = fs_err::read(&arguments.file)?;
    // Some registries answer a blob without bytes with 500.
    ensure!(!bytes.is_empty(), "`{}` is empty; registries do not take empty blobs", arguments.file.display());
    let media_type = arguments.media_type.as_deref().unwrap_or(&arguments.artifact_type);
    let mut blob = Descriptor::new(media_type.into(), Digest::of(&bytes), bytes.len() as u64);
    if let Some(name) = arguments.file.file_name().and_then(std::ffi::OsStr::to_str) {
        blob.annotations.insert("org.opencontainers.image.title".to_owned(), name.to_owned());
    }
    let annotations: BTreeMap<_, _> = arguments.annotation.iter().cloned().collect();
    let manifest = artifact(&arguments.artifact_type, vec![blob.clone()], &subject, annotations);
    let name = arguments.image.with_digest(manifest.digest());
    registry.write_blob(&name, &blob, &BlobSource::Bytes(bytes.into()), None)?;
    registry.write_blob(&name, &empty_descriptor(), &BlobSource::Bytes(EMPTY.into()), None)?;
    registry.put_manifest(&name, &manifest)?;
    output::result(name);
    Ok(())
}

fn subject(images: &Images, image: &Reference) -> anyhow::Result<Descriptor> {
    let found = images.registry()?.manifest_descriptor(image)?;
    found.with_context(|| format!("there is no image `{}` in its registry", image.familiar()))
}

/// The arguments of `image referrers`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReferrersArguments {
    /// The image, in its registry
    image: Reference,
    /// List only artifacts of this type
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    /// How they are printed
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human-readable")]
    output: Format,
}

/// Lists.
pub(crate) fn referrers(images: &Images, arguments: &ReferrersArguments) -> anyhow::Result<()> {
    let subject = subject(images, &arguments.image)?;
    let wanted = arguments.artifact_type.as_deref();
    let found = images.registry()?.referrers(&arguments.image, subject.digest, wanted)?;
    let type_of = |referrer: &Descriptor| referrer.other.get::<String>("artifactType").unwrap_or_default();
    match arguments.output {
        Format::Json => {
            let mut shown = Fields::default();
            shown.insert("subject", &subject.digest);
            shown.insert("referrers", &found);
            output::result(pretty(&shown)?);
        }
        Format::HumanReadable => {
            let mut rows = vec![["DIGEST", "TYPE", "SIZE"].map(str::to_owned)];
            rows.extend(found.iter().map(|one| [one.digest.to_string(), type_of(one), one.size.to_string()]));
            output::table(&rows);
        }
    }
    Ok(())
}
