//! The layers of the app: all of it anew, in slices, or what changed since the previous image on top of that one's.

use std::str::FromStr;

use longshore_cnb::metadata_toml::BuildMetadata;
use longshore_image::layer::{self, AppChange, AppRecord, AppTree};
use longshore_image::{DiffId, Image, LayerSource};
use serde::{Deserialize, Serialize};

use super::form::Form;
use super::made::Made;
use super::plan::{self, Content, Planned, Role};
use super::{ExportError, ExportInput};
use crate::image_layers;

/// More layers than this are made one again: each of them costs whoever pulls the image or starts it.
const LONGEST: usize = 16;

/// How the app directory goes into the image. The spec does not have this choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppLayer {
    /// All of it, whatever the previous image has: the image depends on what was built alone.
    #[default]
    Full,
    /// What changed since the previous image, on top of that one's app layers.
    Delta,
}

/// A text that is no [`AppLayer`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a way to make app layers; there are full and delta")]
pub struct InvalidAppLayer(String);

impl FromStr for AppLayer {
    type Err = InvalidAppLayer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "full" => Ok(Self::Full),
            "delta" => Ok(Self::Delta),
            other => Err(InvalidAppLayer(other.to_owned())),
        }
    }
}

/// The app as it was read for delta layers, and the sizes of the tars of its layers in bytes: for the next build's record.
pub(super) struct ReadApp {
    tree: AppTree,
    sizes: Vec<u64>,
}

impl ReadApp {
    /// Notes what the app is, now that the image with its layers is there.
    pub(super) fn note(&self, input: &ExportInput<'_>, made: &[Made]) {
        let Some(index) = input.index else { return };
        let layers = made.iter().filter(|layer| matches!(layer.role, Role::App)).map(|layer| layer.diff_id);
        let layers = layers.zip(self.sizes.iter().copied()).collect();
        if let Err(error) = index.note_app(&self.tree, layers) {
            tracing::warn!("the next build makes a full app layer: {error}");
        }
    }
}

/// Plans the layers of the app.
pub(super) fn plan(
    input: &ExportInput<'_>,
    build: &BuildMetadata,
    previous: Option<&Image>,
    form: Form,
) -> Result<(Vec<Planned>, Option<ReadApp>), ExportError> {
    let is_delta = match (input.app_layer, input.index) {
        (AppLayer::Full, _) => false,
        (AppLayer::Delta, _) if !build.slices.is_empty() => {
            tracing::debug!("The app has slices: its layers are full");
            false
        }
        (AppLayer::Delta, None) => {
            tracing::debug!("There is no cache to keep a record of the app in: its layer is full");
            false
        }
        (AppLayer::Delta, Some(_)) => true,
    };
    if !is_delta {
        return Ok((slices(input, build)?, None));
    }
    let tree = AppTree::read(&input.app.host, &input.app.name, &input.ownership);
    let tree = tree.map_err(plan::failed("app"))?;
    let (sizes, delta) = match delta(input, &tree, previous, form) {
        Ok(Delta { record, source }) => (record, source),
        Err(reason) => {
            tracing::debug!("The app's layer is full: {reason}");
            let layer = planned(0, Content::Source { source: tree.full(), directory: None });
            let had_previous = !input.analyzed.metadata.app.is_empty();
            let sizes = vec![tree.size()];
            return Ok((vec![Planned { had_previous, ..layer }], Some(ReadApp { tree, sizes })));
        }
    };
    let kept = sizes.iter().map(|(diff_id, _)| Content::Previous(*diff_id));
    let source = delta.into_iter();
    let mut sizes: Vec<u64> = sizes.iter().map(|(_, size)| *size).collect();
    let new = source.map(|(source, size)| {
        sizes.push(size);
        Content::Source { source, directory: None }
    });
    let layers = kept.chain(new).enumerate().map(|(index, content)| planned(index, content)).collect();
    Ok((layers, Some(ReadApp { tree, sizes })))
}

/// The layers of the previous image, and what comes on top of them, if anything, with the size of its tar.
struct Delta {
    record: Vec<(DiffId, u64)>,
    source: Option<(LayerSource, u64)>,
}

/// What changed since the previous image; why all of the app is needed, when it is.
fn delta(
    input: &ExportInput<'_>,
    tree: &AppTree,
    previous: Option<&Image>,
    form: Form,
) -> Result<Delta, &'static str> {
    let previous = previous.ok_or("there is no previous image")?;
    let record = input.index.and_then(longshore_image::StatIndex::app).ok_or("there is no record of it")?;
    if !is_of(&record, input) {
        return Err("the record of it is not that of the previous image");
    }
    let is_there = |diff_id| {
        let found = image_layers::find(previous, diff_id);
        let found = found.map(|descriptor| image_layers::in_family(descriptor, form.family).media_type);
        found == Some(longshore_image::MediaType::Layer(form.family, form.layers.first()))
    };
    if !record.layers().iter().all(|(diff_id, _)| is_there(*diff_id)) {
        return Err("the previous image does not have its layers, or not in this format");
    }
    let source = match tree.since(&record) {
        AppChange::Nothing => None,
        AppChange::Some(source, size) => Some((source, size)),
        AppChange::Inexpressible(reason) => return Err(reason),
    };
    let record = record.layers().to_vec();
    if let Some((_, size)) = &source {
        let deltas = record.iter().skip(1).map(|(_, size)| size).sum::<u64>() + size;
        if record.len() >= LONGEST {
            return Err("the previous image has as many app layers as are allowed");
        }
        if deltas > tree.size() / 2 {
            return Err("what changed since the last full layer is more than half of it");
        }
    }
    Ok(Delta { record, source })
}

/// Whether the layers of a record are those of the previous image's label.
fn is_of(record: &AppRecord, input: &ExportInput<'_>) -> bool {
    let known = &input.analyzed.metadata.app;
    let layers = record.layers().iter().map(|(diff_id, _)| diff_id.to_string());
    !known.is_empty() && layers.eq(known.iter().map(|layer| layer.sha.clone()))
}

/// A layer by its place above the full one, which is 0.
fn planned(index: usize, content: Content) -> Planned {
    let created_by = match index {
        0 => "Application Layer".to_owned(),
        _ => format!("Application Layer: Change {index}"),
    };
    let identifier = if index == 0 { "slice-1".to_owned() } else { format!("app-change-{index}") };
    Planned { identifier, created_by, role: Role::App, content, had_previous: false }
}

/// One layer for each slice, and one for what remains.
fn slices(input: &ExportInput<'_>, build: &BuildMetadata) -> Result<Vec<Planned>, ExportError> {
    let slices: Vec<Vec<String>> =
        build.slices.iter().map(|slice| slice.paths.clone().unwrap_or_default()).collect();
    let sources = layer::slices(&input.app.host, &input.app.name, &slices, &input.ownership);
    let sources = sources.map_err(plan::failed("app"))?.into_iter().enumerate();
    let layers = sources.map(|(index, source)| Planned {
        identifier: format!("slice-{}", index + 1),
        created_by: if slices.is_empty() {
            "Application Layer".to_owned()
        } else {
            format!("Application Slice: {}", index + 1)
        },
        role: Role::App,
        content: Content::Source { source, directory: None },
        had_previous: !input.analyzed.metadata.app.is_empty(),
    });
    Ok(layers.collect())
}
