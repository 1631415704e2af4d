//! `longshore image append`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::ensure;
use longshore_image::snapshot::{LayerOwner, Scope, Snapshot, layer_of};
use longshore_image::{ManifestFormat, Platform, Reference, layer};

use crate::command::UsageError;
use crate::command::shared::{FormatArguments, parse_platform};
use crate::creation_time::{CreationTime, creation_time};
use crate::directories::Directories;
use crate::images::{Images, Location, NewImage};
use crate::known_registries::KnownRegistries;
use crate::output;
use crate::settings::Settings;

/// The arguments of `image append`.
#[derive(Debug, clap::Args)]
pub(crate) struct AppendArguments {
    /// The image that the layers are put on
    #[arg(long, value_name = "IMAGE")]
    from: Location,
    /// A directory, and what it is in the image: DIRECTORY[:/DESTINATION]; each becomes a layer
    #[arg(required = true, value_name = "DIRECTORY[:/DESTINATION]")]
    directories: Vec<Addition>,
    /// A name for the image; may be given several times
    #[arg(short, long, value_name = "NAME", required = true)]
    tag: Vec<Reference>,
    /// Push the image to its registry instead of keeping it in the local store
    #[arg(long)]
    publish: bool,
    /// Only what changed in the directory since this snapshot, with what was removed
    #[arg(long, value_name = "SNAPSHOT")]
    since: Option<PathBuf>,
    /// To whom the files belong: `keep` or UID:GID [default: 0:0, and keep with --since]
    #[arg(long, value_name = "OWNER", value_parser = owner)]
    owner: Option<LayerOwner>,
    /// A file or directory that is left out; may be given several times
    #[arg(long, value_name = "PATH")]
    exclude: Vec<PathBuf>,
    /// Which image of an index is put layers on [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// When the image says it was made: `now` or seconds since 1970
    #[arg(long, value_name = "TIME")]
    creation_time: Option<CreationTime>,
    #[command(flatten)]
    formats: FormatArguments,
}

/// A directory and what it is in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Addition {
    directory: PathBuf,
    destination: PathBuf,
}

impl FromStr for Addition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (directory, destination) = match text.rsplit_once(":/") {
            Some((directory, destination)) => (directory, format!("/{destination}")),
            None => (text, "/".to_owned()),
        };
        let destination: PathBuf = Path::new(&destination).components().collect();
        let is_plain = !destination.components().any(|part| part == std::path::Component::ParentDir);
        if directory.is_empty() || !is_plain {
            return Err("it is not DIRECTORY or DIRECTORY:/DESTINATION".to_owned());
        }
        Ok(Self { directory: directory.into(), destination })
    }
}

fn owner(text: &str) -> Result<LayerOwner, String> {
    let parsed = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    match (text, parsed) {
        ("keep", _) => Ok(LayerOwner::Keep),
        (_, Some((uid, gid))) => Ok(LayerOwner::Fixed { uid, gid }),
        _ => Err("it is neither `keep` nor UID:GID".to_owned()),
    }
}

/// Makes the layers and the image.
pub(crate) fn run(
    images: &Images,
    directories: &Directories,
    settings: &Settings,
    arguments: &AppendArguments,
) -> anyhow::Result<()> {
    let policy = settings.pull_policy.unwrap_or_default();
    let (layers, choice) = arguments.formats.or(settings).chosen();
    if arguments.since.is_some() && arguments.directories.len() != 1 {
        return Err(UsageError("`--since` compares with one directory; name one".to_owned()).into());
    }
    let platform = arguments.platform.as_deref().map(parse_platform).transpose()?;
    let base = images.get(&arguments.from, &platform.unwrap_or_else(Platform::host), policy, "image")?;
    let default = match &arguments.since {
        Some(_) => LayerOwner::Keep,
        None => LayerOwner::Fixed { uid: 0, gid: 0 },
    };
    let old = arguments.since.as_deref().map(Snapshot::read).transpose()?.unwrap_or_else(Snapshot::empty);
    let mut image = NewImage::on(&base, creation_time(arguments.creation_time)?)?;
    for Addition { directory, destination } in &arguments.directories {
        let mut excluded = arguments.exclude.clone();
        excluded.extend(arguments.since.clone());
        let scope = Scope::new(directory, &excluded)?;
        ensure!(scope.root().is_dir(), "`{}` is not a directory", directory.display());
        let changes = old.changes(&scope)?;
        for change in changes.iter().filter(|_| arguments.since.is_some()) {
            tracing::info!("{:?} {}", change.kind, change.path());
        }
        let source = layer_of(&changes, scope.root(), destination, arguments.owner.unwrap_or(default))?;
        if source.is_empty() {
            tracing::info!("Nothing changed in {}", output::symbol(directory.display()));
            continue;
        }
        let layer = layer::build(&source, layers.first(), ManifestFormat::Oci, &images.local().sink())?;
        image.add(&layer, "longshore image append");
    }
    let store = images.destination(arguments.publish)?;
    let mut known = KnownRegistries::read(directories)?;
    for name in &arguments.tag {
        let formats = match arguments.publish {
            true => known.formats(name.registry(), Some(layers), choice),
            false => (Some(layers), Some(choice)),
        };
        let formats = (formats.0.unwrap_or(layers), formats.1.unwrap_or(choice));
        let written = image.put_as(store.as_ref(), name, formats, &images.local().sink())?;
        if arguments.publish {
            known.learn(name.registry(), choice, &written)?;
        }
        output::result(format_args!("{}@{}", name.familiar(), written.digest()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_have_destinations() {
        let table = [("a", "a", "/"), ("a:/b", "a", "/b"), ("a:b:/c/d/", "a:b", "/c/d"), ("/a:/", "/a", "/")];
        for (text, directory, destination) in table {
            let expected = Addition { directory: directory.into(), destination: destination.into() };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", ":/a", "a:/../b"] {
            assert!(text.parse::<Addition>().is_err(), "{text}");
        }
    }

    #[test]
    fn owners_are_read() {
        assert_eq!(owner("keep"), Ok(LayerOwner::Keep));
        assert_eq!(owner("1:2"), Ok(LayerOwner::Fixed { uid: 1, gid: 2 }));
        assert!(owner("root").is_err());
    }
}
