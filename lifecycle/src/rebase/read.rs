//! What is read before anything is written: manifests and configurations of the app image and its new run image.

use std::sync::Arc;

use longshore_cnb::PlatformApi;
use longshore_cnb::lifecycle_metadata::{LIFECYCLE_METADATA_LABEL, LifecycleMetadata};
use longshore_image::{
    Descriptor, Image, ImageStore, Manifest, ManifestContent, MediaType, Platform, Reference, ZSTD_ANNOTATION,
};

use super::plan::{Plan, Request, plan};
use super::{Change, RebaseError, RebaseInput};
use crate::image_identifier::identifier;
use crate::run_image;

/// All that is known before anything is written.
pub(super) struct Reading {
    /// The names that the rebased image gets.
    pub(super) names: Vec<Reference>,
    /// The name of the image that is rebased.
    pub(super) app: Reference,
    /// What that name points to.
    pub(super) root: Manifest,
    /// The new run image.
    pub(super) run_image: String,
    /// The images: one, or those of an index.
    pub(super) leaves: Vec<Leaf>,
}

/// An app image for one platform, and what becomes of it.
pub(super) struct Leaf {
    /// Its descriptor, in an index.
    pub(super) listed: Option<Descriptor>,
    pub(super) image: Image,
    /// The same image in the other formats of an index.
    pub(super) others: Vec<Image>,
    pub(super) base: Image,
    pub(super) plan: Plan,
    change: Change,
}

impl Reading {
    pub(super) fn new(input: &RebaseInput<'_>) -> Result<Self, RebaseError> {
        let names = names(input)?;
        let (app, image) = app_image(input, &names)?;
        let mut chosen = choose_run_image(input, &app, &image)?;
        let root = image.index.clone().unwrap_or_else(|| image.manifest.clone());
        let leaves = match root.content() {
            ManifestContent::Image(_) => vec![Leaf::new(input, &app, None, image, &mut chosen)?],
            ManifestContent::Index(index) => {
                leaves_of_index(input, &app, &index.manifests, &image, &mut chosen)?
            }
        };
        if leaves.is_empty() {
            return Err(RebaseError::EmptyIndex { reference: app.familiar() });
        }
        Ok(Self { names, app, root, run_image: chosen.name, leaves })
    }

    /// What does not fit and is forced.
    pub(super) fn warnings(&self) -> impl Iterator<Item = &str> {
        self.leaves.iter().flat_map(|leaf| &leaf.plan.warnings).map(String::as_str)
    }

    /// The change of the first image; of an index that stands on the run image, all do.
    pub(super) fn change(&self) -> Change {
        let is_current = self.leaves.iter().all(|leaf| leaf.change.is_current);
        let change = self.leaves.first().map(|leaf| leaf.change.clone());
        let change = change.unwrap_or(Change { from: None, to: String::new(), is_current });
        Change { is_current, ..change }
    }
}

/// A run image that was chosen, and what was read of it by that.
struct Chosen {
    name: String,
    images: Vec<(Platform, Image)>,
}

impl Chosen {
    /// The run image for a platform, read once.
    fn image(&mut self, input: &RebaseInput<'_>, platform: &Platform) -> Result<Image, RebaseError> {
        if let Some((_, image)) = self.images.iter().find(|(known, _)| known == platform) {
            return Ok(image.clone());
        }
        let image = resolve(&input.run_image_store, "run image", &self.name.parse()?, platform)?;
        self.images.push((platform.clone(), image.clone()));
        Ok(image)
    }
}

/// The images of an index. What is no image for a platform (attestations) is left out, because it describes the old ones.
fn leaves_of_index(
    input: &RebaseInput<'_>,
    app: &Reference,
    children: &[Descriptor],
    found: &Image,
    chosen: &mut Chosen,
) -> Result<Vec<Leaf>, RebaseError> {
    let mut leaves: Vec<Leaf> = Vec::new();
    for child in children {
        let is_for_none = child.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
        if is_for_none || matches!(child.media_type, MediaType::Other(_)) {
            tracing::info!("Leaving out {}, which is about the old image", child.digest);
            continue;
        }
        if child.annotations.contains_key(ZSTD_ANNOTATION) && !leaves.is_empty() {
            let by_digest = app.with_digest(child.digest);
            let manifest = input.target.child(app, child).map_err(RebaseError::store("read", &by_digest))?;
            let config = manifest.as_image().map(|image| image.config.digest);
            let same = leaves.iter_mut().find(|leaf| config.is_some() && config == config_of(&leaf.image));
            if let Some(leaf) = same {
                let config = leaf.image.config.clone();
                leaf.others.push(Image { reference: by_digest, manifest, config, index: None });
                continue;
            }
        }
        let image = if found.manifest.digest() == child.digest {
            found.clone()
        } else {
            let platform = child.platform.as_ref().unwrap_or(&input.platform);
            resolve(&input.target, "app image", &app.with_digest(child.digest), platform)?
        };
        leaves.push(Leaf::new(input, app, Some(child.clone()), image, chosen)?);
    }
    Ok(leaves)
}

fn config_of(image: &Image) -> Option<longshore_image::Digest> {
    image.manifest.as_image().map(|image| image.config.digest)
}

impl Leaf {
    fn new(
        input: &RebaseInput<'_>,
        app: &Reference,
        listed: Option<Descriptor>,
        image: Image,
        chosen: &mut Chosen,
    ) -> Result<Self, RebaseError> {
        let metadata = metadata(app, &image)?;
        let base = chosen.image(input, &image.config.platform())?;
        let recorded = image.config.env_value("CNB_PLATFORM_API").filter(|text| !text.is_empty());
        let app_api = recorded.map(|text| PlatformApi::parse_recorded(&text)).transpose();
        let app_api =
            app_api.map_err(|source| RebaseError::PlatformApi { reference: app.familiar(), source })?;
        let reference = identifier(&base, &input.identify);
        let plan = plan(&Request {
            app: &image.config,
            metadata: &metadata,
            app_api,
            platform_api: input.platform_api,
            base: &base.config,
            run_image: &chosen.name,
            reference: &reference,
            force: input.force,
            any_tag: input.any_tag,
        })
        .map_err(|source| RebaseError::Refused {
            reference: app.familiar(),
            run_image: chosen.name.clone(),
            source: Box::new(source),
        })?;
        let from = Some(metadata.run_image.reference).filter(|from| !from.is_empty());
        let change = Change { from, to: reference, is_current: plan.is_current };
        Ok(Self { listed, image, others: Vec::new(), base, plan, change })
    }

    /// Its platform, as the index says it.
    pub(super) fn platform(&self) -> Platform {
        let listed = self.listed.as_ref().and_then(|listed| listed.platform.clone());
        listed.unwrap_or_else(|| self.image.config.platform())
    }
}

pub(super) fn find_run_image(input: &RebaseInput<'_>) -> Result<String, RebaseError> {
    let (app, image) = app_image(input, &names(input)?)?;
    Ok(choose_run_image(input, &app, &image)?.name)
}

fn app_image(input: &RebaseInput<'_>, names: &[Reference]) -> Result<(Reference, Image), RebaseError> {
    let app = match input.previous_image {
        Some(name) => name.parse()?,
        None => names.first().cloned().ok_or(RebaseError::NoImage)?,
    };
    let image = resolve(&input.target, "app image", &app, &input.platform)?;
    Ok((app, image))
}

fn names(input: &RebaseInput<'_>) -> Result<Vec<Reference>, RebaseError> {
    let names = input.images.iter().map(|name| name.parse()).collect::<Result<Vec<Reference>, _>>()?;
    let first = names.first().ok_or(RebaseError::NoImage)?;
    match names.iter().find(|name| name.registry() != first.registry()) {
        Some(other) if !input.identify.mixes_registries() => {
            Err(RebaseError::SeveralRegistries { first: first.familiar(), other: other.familiar() })
        }
        _ => Ok(names),
    }
}

fn resolve(
    store: &Arc<dyn ImageStore>,
    what: &'static str,
    reference: &Reference,
    platform: &Platform,
) -> Result<Image, RebaseError> {
    let image = store.resolve(reference, platform).map_err(RebaseError::store("read", reference))?;
    image.ok_or_else(|| RebaseError::NotFound { what, reference: reference.familiar() })
}

fn metadata(app: &Reference, image: &Image) -> Result<LifecycleMetadata, RebaseError> {
    let missing = |source| RebaseError::NoMetadata { reference: app.familiar(), source };
    let label = image.config.label(LIFECYCLE_METADATA_LABEL).ok_or_else(|| missing(None))?;
    // The `app` key had other types in old images, and is of no interest here.
    let mut value: serde_json::Value = serde_json::from_str(label).map_err(|error| missing(Some(error)))?;
    if let Some(object) = value.as_object_mut() {
        object.remove("app");
    }
    serde_json::from_value(value).map_err(|error| missing(Some(error)))
}

fn choose_run_image(input: &RebaseInput<'_>, app: &Reference, image: &Image) -> Result<Chosen, RebaseError> {
    if let Some(name) = input.run_image.filter(|name| !name.is_empty()) {
        return Ok(Chosen { name: name.to_owned(), images: Vec::new() });
    }
    let metadata = metadata(app, image)?;
    let names = metadata.run_image_names().ok_or(RebaseError::NoRunImage)?;
    let platform = image.config.platform();
    let mut found = Vec::new();
    let mut tried = Vec::new();
    let mut can_read = |reference: &Reference| match input.run_image_store.resolve(reference, &platform) {
        Ok(Some(image)) => {
            found.push((platform.clone(), image));
            true
        }
        Ok(None) => {
            tried.push(format!("`{}` does not exist", reference.familiar()));
            false
        }
        Err(error) => {
            tried.push(format!("`{}`: {error}", reference.familiar()));
            false
        }
    };
    let name = run_image::accessible(names, app, &mut can_read).map(str::to_owned);
    match name {
        Some(name) => Ok(Chosen { name, images: found }),
        None => Err(RebaseError::NoAccessibleRunImage { tried }),
    }
}
