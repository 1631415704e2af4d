//! Whether an app image fits onto a run image, and what it then looks like. Nothing is read or written here.

use longshore_cnb::PlatformApi;
use longshore_cnb::go_json;
use longshore_cnb::lifecycle_metadata::{LIFECYCLE_METADATA_LABEL, LifecycleMetadata};
use longshore_cnb::target::Target;
use longshore_image::{Config, History, Reference};
use serde_json::{Map, Value, json};

use crate::analyze::target;
use crate::run_image::{has_name, has_repository};

const REBASABLE_LABEL: &str = "io.buildpacks.rebasable";
const STACK_ID_LABEL: &str = "io.buildpacks.stack.id";
const MIXINS_LABEL: &str = "io.buildpacks.stack.mixins";

/// What is to be decided.
pub struct Request<'a> {
    /// The app image's configuration.
    pub app: &'a Config,
    /// Its lifecycle metadata.
    pub metadata: &'a LifecycleMetadata,
    /// The Platform API that it was built with, if it says so.
    pub app_api: Option<PlatformApi>,
    /// The Platform API that the platform asked for.
    pub platform_api: PlatformApi,
    /// The new run image's configuration.
    pub base: &'a Config,
    /// The name of the new run image, as given.
    pub run_image: &'a str,
    /// What identifies the new run image.
    pub reference: &'a str,
    /// Rebase although the images may not fit.
    pub force: bool,
    /// Whether another tag of a run image that the app image knows will do, or a digest instead of one.
    pub any_tag: bool,
}

/// The rebased image.
#[derive(Debug)]
pub struct Plan {
    /// Its configuration.
    pub config: Config,
    /// How many of the app image's layers were the old run image's.
    pub kept_from: usize,
    /// What does not fit and was forced.
    pub warnings: Vec<String>,
    /// Whether the app image stands on this very run image already. The configuration may differ all the same, as who
    /// made it may write it in another way.
    pub is_current: bool,
}

/// Why an app image does not fit onto a run image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The label `io.buildpacks.rebasable` says so.
    #[error("app image is not marked as rebasable; please provide -force to override")]
    NotRebasable,
    /// The target is another one.
    #[error(
        "unable to satisfy target os/arch constraints; new run image: {base}, old run image: {app}; \
         please provide -force to override"
    )]
    Target {
        /// The new run image's target.
        base: String,
        /// The app image's target.
        app: String,
    },
    /// The app image does not know the run image.
    #[error(
        "new base image '{run_image}' not found in existing run image metadata: {known}; please provide -force to override"
    )]
    UnknownRunImage {
        /// The new run image.
        run_image: String,
        /// The names that the app image knows, as JSON.
        known: String,
    },
    /// An image of a stack does not name it.
    #[error("stack not defined on {0}")]
    NoStack(&'static str),
    /// The stacks differ.
    #[error("incompatible stack: '{base}' is not compatible with '{app}'")]
    Stack {
        /// The new run image's stack.
        base: String,
        /// The app image's stack.
        app: String,
    },
    /// A mixins label is no list of strings.
    #[error("the label {MIXINS_LABEL} of the {0} is not a JSON list of strings")]
    InvalidMixins(&'static str),
    /// The new run image lacks mixins.
    #[error("missing required mixin(s): {}", .0.join(", "))]
    Mixins(Vec<String>),
    /// The layer that ends the old run image is not there.
    #[error("could not find base layer in image: it has no layer {0}")]
    NoTopLayer(String),
    /// The new run image has no layers.
    #[error("the new run image has no layers")]
    NoBaseLayers,
    /// The label could not be written.
    #[error("the new lifecycle metadata cannot be written: {0}")]
    Label(String),
}

/// Decides.
///
/// # Errors
/// When the images do not fit.
pub fn plan(request: &Request<'_>) -> Result<Plan, Refusal> {
    let mut warnings = Vec::new();
    if request.app_api.is_some_and(PlatformApi::has_targets) {
        for refusal in target_problems(request) {
            overrule(request, refusal, &mut warnings)?;
        }
    } else {
        check_stack(request)?;
    }
    let naming = naming(request);
    if naming == Naming::Unknown {
        overrule(request, unknown_run_image(request), &mut warnings)?;
    }
    let top_layer = &request.metadata.run_image.top_layer;
    let diff_ids = request.app.diff_ids();
    let top = diff_ids.iter().position(|diff_id| diff_id.to_string() == *top_layer);
    let kept_from = top.ok_or_else(|| Refusal::NoTopLayer(top_layer.clone()))? + 1;
    let config = rebased_config(request, kept_from, naming != Naming::Known)?;
    let recorded = digest_of(&request.metadata.run_image.reference);
    let is_current = naming == Naming::Known
        && diff_ids[..kept_from] == request.base.diff_ids()
        && recorded.is_some()
        && recorded == digest_of(request.reference);
    Ok(Plan { config, kept_from, warnings, is_current })
}

/// The digest in what identifies an image; image ids of daemons have none.
pub(super) fn digest_of(reference: &str) -> Option<&str> {
    reference.rsplit_once('@').map(|(_, digest)| digest)
}

fn overrule(request: &Request<'_>, refusal: Refusal, warnings: &mut Vec<String>) -> Result<(), Refusal> {
    if !request.force {
        return Err(refusal);
    }
    let text = refusal.to_string();
    warnings.push(text.strip_suffix("; please provide -force to override").unwrap_or(&text).to_owned());
    Ok(())
}

fn target_problems(request: &Request<'_>) -> Vec<Refusal> {
    let mut problems = Vec::new();
    if request.app.label(REBASABLE_LABEL) == Some("false") {
        problems.push(Refusal::NotRebasable);
    }
    let (base, app) = (target(request.base), target(request.app));
    if !fits(&base, &app) {
        problems.push(Refusal::Target { base: base.to_string(), app: app.to_string() });
    }
    problems
}

/// Operating system and architecture must be the same; a variant that either leaves out, or a part of the distribution
/// that the new run image leaves out, matches any.
fn fits(base: &Target, app: &Target) -> bool {
    let wildcard = |base: &str, app: &str| base.is_empty() || app.is_empty() || base == app;
    let distribution = base.distro.as_ref().is_none_or(|base| {
        app.distro.as_ref().is_some_and(|app| {
            (base.name.is_empty() || base.name == app.name)
                && (base.version.is_empty() || base.version == app.version)
        })
    });
    base.os == app.os && base.arch == app.arch && wildcard(base.variant(), app.variant()) && distribution
}

fn check_stack(request: &Request<'_>) -> Result<(), Refusal> {
    let app = request.app.label(STACK_ID_LABEL).filter(|id| !id.is_empty());
    let app = app.ok_or(Refusal::NoStack("app image"))?;
    let base = request.base.label(STACK_ID_LABEL).filter(|id| !id.is_empty());
    let base = base.ok_or(Refusal::NoStack("new base image"))?;
    if app != base {
        return Err(Refusal::Stack { base: base.to_owned(), app: app.to_owned() });
    }
    let offered = mixins(request.base).ok_or(Refusal::InvalidMixins("run image"))?;
    let mut missing = mixins(request.app).ok_or(Refusal::InvalidMixins("app image"))?;
    missing.retain(|mixin| !offered.contains(mixin));
    missing.sort();
    missing.dedup();
    if missing.is_empty() { Ok(()) } else { Err(Refusal::Mixins(missing)) }
}

/// The mixins of an image, without the `build:` and `run:` that say at which stage they are wanted.
fn mixins(config: &Config) -> Option<Vec<String>> {
    let Some(label) = config.label(MIXINS_LABEL).filter(|label| !label.is_empty()) else {
        return Some(Vec::new());
    };
    let mixins: Vec<String> = serde_json::from_str(label).ok()?;
    let plain = |mixin: String| mixin.split_once(':').map_or(mixin.clone(), |(_, name)| name.to_owned());
    Some(mixins.into_iter().map(plain).collect())
}

/// Whether the app image knows the name of the new run image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// Under this name, which stays what it is.
    Known,
    /// Under another tag: it gets this one, or the next rebase would lead back.
    OtherTag,
    /// Under no name.
    Unknown,
}

fn naming(request: &Request<'_>) -> Naming {
    let stack = request.metadata.stack.as_ref().map(|stack| &stack.run_image);
    let known: Vec<_> = std::iter::once(&request.metadata.run_image.names).chain(stack).collect();
    let name = request.run_image;
    if !request.platform_api.has_run_toml() || known.iter().any(|names| has_name(names, name)) {
        return Naming::Known;
    }
    if !request.any_tag || !known.iter().any(|names| has_repository(names, name)) {
        return Naming::Unknown;
    }
    // A digest is for this time only.
    let has_tag = name.parse().is_ok_and(|reference: Reference| reference.tag().is_some());
    if has_tag { Naming::OtherTag } else { Naming::Known }
}

fn unknown_run_image(request: &Request<'_>) -> Refusal {
    let known = request.metadata.run_image_names().map(go_json::to_string);
    Refusal::UnknownRunImage {
        run_image: request.run_image.to_owned(),
        known: known.and_then(Result::ok).unwrap_or_else(|| "not found".to_owned()),
    }
}

fn rebased_config(request: &Request<'_>, kept_from: usize, rename: bool) -> Result<Config, Refusal> {
    let (app, base) = (request.app, request.base);
    let mut config = app.clone();
    let base_ids = base.diff_ids();
    let top_layer = base_ids.last().ok_or(Refusal::NoBaseLayers)?.to_string();
    let above = app.diff_ids().into_iter().skip(kept_from);
    let diff_ids: Vec<_> = base_ids.iter().copied().chain(above).collect();
    config.set_diff_ids(&diff_ids);
    config.set_history(&history(app, base, kept_from));
    config.set_created(crate::default_created());
    let mut platform = base.platform();
    platform.variant = platform.variant.or_else(|| app.platform().variant);
    config.set_platform(&platform);

    let is_base_label = |name: &str| {
        name.starts_with("io.buildpacks.stack.")
            || (request.platform_api.has_targets() && name.starts_with("io.buildpacks.base."))
    };
    for name in app.labels().keys().filter(|name| is_base_label(name)) {
        config.remove_label(name);
    }
    for (name, value) in base.labels().iter().filter(|(name, _)| is_base_label(name)) {
        config.set_label(name, value);
    }
    config.set_label(LIFECYCLE_METADATA_LABEL, &label(request, &top_layer, rename)?);
    Ok(config)
}

/// The new run image's entries and the app image's above the old run image, one for each layer.
fn history(app: &Config, base: &Config, kept_from: usize) -> Vec<History> {
    let of_layers = |config: &Config| {
        let layers = config.diff_ids().len();
        let entries: Vec<History> = config.history().into_iter().filter(|entry| !entry.empty_layer).collect();
        if entries.len() == layers { entries } else { vec![History::default(); layers] }
    };
    let above = of_layers(app).into_iter().skip(kept_from);
    let mut history: Vec<History> = of_layers(base).into_iter().chain(above).collect();
    for entry in &mut history {
        entry.created = Some(crate::default_created().to_string());
    }
    history
}

/// The label with the new run image; all else in it stays, also what we do not know.
fn label(request: &Request<'_>, top_layer: &str, rename: bool) -> Result<String, Refusal> {
    let text = request.app.label(LIFECYCLE_METADATA_LABEL).unwrap_or("{}");
    let mut label: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| Refusal::Label(error.to_string()))?;
    let run_image = label.entry("runImage").or_insert_with(|| json!({}));
    if !run_image.is_object() {
        *run_image = json!({});
    }
    if let Some(run_image) = run_image.as_object_mut() {
        run_image.insert("topLayer".to_owned(), top_layer.into());
        run_image.insert("reference".to_owned(), request.reference.into());
        if rename {
            run_image.insert("image".to_owned(), request.run_image.into());
            run_image.shift_remove("mirrors");
        }
    }
    if rename {
        label.insert("stack".to_owned(), json!({"runImage": {"image": request.run_image}}));
    }
    go_json::to_string(&label).map_err(|error| Refusal::Label(error.to_string()))
}

#[cfg(test)]
mod tests;
