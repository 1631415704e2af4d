//! The labels of builders, as pack writes and reads them.

use std::collections::BTreeMap;

use longshore_cnb::api::{SUPPORTED_BUILDPACK_APIS, SUPPORTED_PLATFORM_APIS};
use longshore_cnb::buildpack_toml::Descriptor;
use longshore_cnb::order::OrderGroup;
use longshore_cnb::target::SupportedTarget;
use serde::{Deserialize, Deserializer, Serialize};

use super::configuration::RunImageConfiguration;
use super::order::ModuleId;
use crate::programs::LIFECYCLE_VERSION;

/// The label with [`BuilderMetadata`].
pub(super) const METADATA: &str = "io.buildpacks.builder.metadata";
/// The label with the [`ModuleLayers`] of buildpacks.
pub(super) const BUILDPACK_LAYERS: &str = "io.buildpacks.buildpack.layers";
/// The label with the [`ModuleLayers`] of image extensions.
pub(super) const EXTENSION_LAYERS: &str = "io.buildpacks.extension.layers";
/// The label with the order of buildpacks.
pub(super) const ORDER: &str = "io.buildpacks.buildpack.order";
/// The label with the order of image extensions.
pub(super) const ORDER_EXTENSIONS: &str = "io.buildpacks.buildpack.order-extensions";
/// The label with the system buildpacks.
pub(super) const SYSTEM: &str = "io.buildpacks.buildpack.system";
/// The label with the id of the stack (deprecated).
pub(super) const STACK_ID: &str = "io.buildpacks.stack.id";
/// The label with the mixins of the stack (deprecated).
pub(super) const STACK_MIXINS: &str = "io.buildpacks.stack.mixins";

/// What is in a builder. Go writes an empty list as `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BuilderMetadata {
    /// What the builder is for.
    #[serde(deserialize_with = "or_default")]
    pub(crate) description: String,
    /// The buildpacks.
    #[serde(deserialize_with = "or_default")]
    pub(crate) buildpacks: Vec<ModuleMetadata>,
    /// The image extensions.
    #[serde(deserialize_with = "or_default")]
    pub(crate) extensions: Vec<ModuleMetadata>,
    /// The default run image once more, for old platforms.
    #[serde(deserialize_with = "or_default")]
    pub(crate) stack: StackMetadata,
    /// The lifecycle.
    #[serde(deserialize_with = "or_default")]
    pub(crate) lifecycle: LifecycleMetadata,
    /// Which program made the builder.
    #[serde(rename = "createdBy", deserialize_with = "or_default")]
    pub(crate) created_by: Creator,
    /// The run images.
    #[serde(deserialize_with = "or_default")]
    pub(crate) images: Vec<RunImageMetadata>,
}

/// A module of a builder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ModuleMetadata {
    /// Its id.
    pub(crate) id: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) version: String,
    /// Where to read more.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) homepage: String,
}

/// The default run image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StackMetadata {
    /// The image.
    #[serde(rename = "runImage", deserialize_with = "or_default")]
    pub(crate) run_image: RunImageMetadata,
}

/// A run image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunImageMetadata {
    /// Its name.
    pub(crate) image: String,
    /// Other names of the same image.
    #[serde(deserialize_with = "or_default")]
    pub(crate) mirrors: Vec<String>,
}

impl From<&RunImageConfiguration> for RunImageMetadata {
    fn from(configuration: &RunImageConfiguration) -> Self {
        Self { image: configuration.image.clone(), mirrors: configuration.mirrors.clone() }
    }
}

/// The lifecycle of a builder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LifecycleMetadata {
    /// Its version.
    pub(crate) version: String,
    /// The oldest APIs, for old platforms.
    pub(crate) api: OldestApis,
    /// All APIs.
    pub(crate) apis: Apis,
}

/// The oldest APIs of a lifecycle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OldestApis {
    /// The Buildpack API.
    pub(crate) buildpack: String,
    /// The Platform API.
    pub(crate) platform: String,
}

/// The APIs of a lifecycle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Apis {
    /// Buildpack APIs.
    pub(crate) buildpack: ApiVersions,
    /// Platform APIs.
    pub(crate) platform: ApiVersions,
}

/// Versions of an API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ApiVersions {
    /// Those that will go.
    #[serde(deserialize_with = "or_default")]
    pub(crate) deprecated: Vec<String>,
    /// Those that stay.
    #[serde(deserialize_with = "or_default")]
    pub(crate) supported: Vec<String>,
}

/// The program that made a builder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Creator {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
}

/// The layers of modules: by id, then version.
pub(crate) type ModuleLayers = BTreeMap<String, BTreeMap<String, ModuleLayer>>;

/// The layer of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ModuleLayer {
    /// The Buildpack API.
    pub(crate) api: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    stacks: Vec<StackLabel>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    targets: Vec<TargetLabel>,
    /// What a composite buildpack stands for.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub(crate) order: Vec<OrderGroup>,
    /// The layer.
    #[serde(rename = "layerDiffID")]
    pub(crate) layer_diff_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    homepage: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct StackLabel {
    id: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    mixins: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct TargetLabel {
    os: String,
    arch: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    distros: Vec<DistributionLabel>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct DistributionLabel {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
}

impl ModuleLayer {
    /// What the label says of a module.
    pub(super) fn new(descriptor: &Descriptor, diff_id: String) -> Self {
        let stack = |stack: &longshore_cnb::buildpack_toml::Stack| StackLabel {
            id: stack.id.clone(),
            mixins: stack.mixins.clone(),
        };
        Self {
            api: descriptor.api_text.clone(),
            stacks: descriptor.stacks.iter().map(stack).collect(),
            targets: descriptor.targets.iter().map(target).collect(),
            order: descriptor.order.clone(),
            layer_diff_id: diff_id,
            homepage: descriptor.info.homepage.clone(),
            name: descriptor.info.name.clone(),
        }
    }
}

fn target(target: &SupportedTarget) -> TargetLabel {
    let distribution = |distribution: &longshore_cnb::target::Distribution| DistributionLabel {
        name: distribution.name.clone(),
        version: distribution.version.clone(),
    };
    TargetLabel {
        os: target.os.clone(),
        arch: target.arch.clone(),
        variant: target.variant().to_owned(),
        distros: target.distros.iter().map(distribution).collect(),
    }
}

/// The ids and versions in a label.
pub(super) fn module_ids(layers: &ModuleLayers) -> Vec<ModuleId> {
    let versions = layers.iter().flat_map(|(id, versions)| {
        versions.keys().map(move |version| ModuleId { id: id.clone(), version: version.clone() })
    });
    versions.collect()
}

/// Our own lifecycle.
pub(super) fn our_lifecycle() -> LifecycleMetadata {
    let oldest = |versions: &[&str]| versions.first().map_or_else(String::new, |first| (*first).to_owned());
    let all = |versions: &[&str]| ApiVersions {
        deprecated: Vec::new(),
        supported: versions.iter().map(|version| (*version).to_owned()).collect(),
    };
    LifecycleMetadata {
        version: LIFECYCLE_VERSION.to_owned(),
        api: OldestApis {
            buildpack: oldest(SUPPORTED_BUILDPACK_APIS),
            platform: oldest(SUPPORTED_PLATFORM_APIS),
        },
        apis: Apis { buildpack: all(SUPPORTED_BUILDPACK_APIS), platform: all(SUPPORTED_PLATFORM_APIS) },
    }
}

/// Go's `null` for what is empty.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
