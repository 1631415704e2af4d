//! Reading a builder: what its labels and environment say (platform spec, "Build Image").

use anyhow::{Context, bail, ensure};
use longshore_cnb::order::OrderGroup;
use longshore_cnb::system::SystemBuildpacks;
use longshore_cnb::target::Target;
use longshore_image::Config;
use serde::de::DeserializeOwned;

use super::labels::{self, BuilderMetadata, ModuleLayers, RunImageMetadata};
use super::order::ModuleId;

/// What a builder says of itself.
#[derive(Debug, Clone)]
pub(crate) struct BuilderImage {
    /// The id of the user that builds run as.
    pub(crate) uid: u32,
    /// The id of the user's group.
    pub(crate) gid: u32,
    /// What is in the builder.
    pub(crate) metadata: BuilderMetadata,
    /// The layers of its buildpacks.
    pub(crate) buildpacks: ModuleLayers,
    /// The layers of its image extensions.
    pub(crate) extensions: ModuleLayers,
    /// The buildpacks before and after every group.
    pub(crate) system: SystemBuildpacks,
    /// The groups of buildpacks.
    pub(crate) order: Vec<OrderGroup>,
    /// The groups of image extensions.
    pub(crate) order_extensions: Vec<OrderGroup>,
}

impl BuilderImage {
    /// Reads the configuration of a builder.
    ///
    /// # Errors
    /// When a label that builders have is missing or not valid, or the user ids are.
    pub(crate) fn read(config: &Config) -> anyhow::Result<Self> {
        let metadata = label(config, labels::METADATA)?
            .with_context(|| format!("it has no label `{}`, so it is not a builder", labels::METADATA))?;
        let (uid, gid) = build_ids(config)?;
        Ok(Self {
            uid,
            gid,
            metadata,
            buildpacks: label(config, labels::BUILDPACK_LAYERS)?.unwrap_or_default(),
            // They only tell what a build does not need, which the builder's files confirm.
            extensions: label(config, labels::EXTENSION_LAYERS).ok().flatten().unwrap_or_default(),
            system: label(config, labels::SYSTEM).ok().flatten().unwrap_or_default(),
            order: label(config, labels::ORDER)?.unwrap_or_default(),
            order_extensions: label(config, labels::ORDER_EXTENSIONS)?.unwrap_or_default(),
        })
    }

    /// The ids and versions of its buildpacks.
    pub(crate) fn buildpack_ids(&self) -> Vec<ModuleId> {
        labels::module_ids(&self.buildpacks)
    }

    /// Its run images, the default first. Old builders have one in `stack` only.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) fn run_images(&self) -> anyhow::Result<Vec<RunImageMetadata>> {
        let mut images = self.metadata.images.clone();
        if images.is_empty() {
            images.push(self.metadata.stack.run_image.clone());
        }
        images.retain(|image| !image.image.is_empty());
        if images.is_empty() {
            bail!("the builder names no run image; name one with `--run-image`");
        }
        Ok(images)
    }
}

/// The ids that a build image says builds run as.
pub(super) fn build_ids(config: &Config) -> anyhow::Result<(u32, u32)> {
    let id = |name: &str| {
        let text = config.env_value(name).with_context(|| format!("it does not set `{name}`"))?;
        let id: u32 =
            text.trim().parse().with_context(|| format!("its `{name}` is `{text}`, not a number"))?;
        ensure!(id != 0, "its `{name}` is 0, but builds must not run as root");
        Ok(id)
    };
    Ok((id("CNB_USER_ID")?, id("CNB_GROUP_ID")?))
}

/// The platform and distribution of a base image.
pub(super) fn target_of(config: &Config) -> Target {
    let target = Target::new(config.os(), config.architecture(), config.variant().unwrap_or_default());
    let name = config.label("io.buildpacks.base.distro.name").unwrap_or_default();
    let version = config.label("io.buildpacks.base.distro.version").unwrap_or_default();
    if name.is_empty() { target } else { target.with_distribution(name, version) }
}

/// A label with JSON; `null` is as good as none.
fn label<T: DeserializeOwned>(config: &Config, name: &str) -> anyhow::Result<Option<T>> {
    let Some(text) = config.label(name) else { return Ok(None) };
    serde_json::from_str(text).with_context(|| format!("its label `{name}` is not valid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_image::Platform;

    /// The labels of builders that pack made: Go's `null` for empty lists, and keys that we do not know.
    #[test]
    fn a_builder_of_pack_is_read() {
        let mut config = Config::new(&Platform::linux("amd64"));
        config.set_env("CNB_USER_ID", "1002");
        config.set_env("CNB_GROUP_ID", "1000");
        config.set_label(
            labels::METADATA,
            r#"{"description":"x","buildpacks":[{"id":"heroku/python","version":"1.0","homepage":"h"}],
               "extensions":null,"stack":{"runImage":{"image":"heroku/heroku:24","mirrors":null}},
               "lifecycle":{"version":"0.20.0","api":{"buildpack":"0.7","platform":"0.7"},
               "apis":{"buildpack":{"deprecated":[],"supported":["0.7"]},
               "platform":{"deprecated":null,"supported":["0.7","0.14"]}}},
               "createdBy":{"name":"Pack CLI","version":"0.35"},"images":null,"more":1}"#,
        );
        config.set_label(
            labels::BUILDPACK_LAYERS,
            r#"{"heroku/python":{"1.0":{"api":"0.10","layerDiffID":"sha256:00","stacks":null}}}"#,
        );
        config.set_label(labels::ORDER, r#"[{"group":[{"id":"heroku/python","version":"1.0"}]}]"#);
        config.set_label(labels::ORDER_EXTENSIONS, "null");
        let builder = BuilderImage::read(&config).unwrap();
        assert_eq!((builder.uid, builder.gid), (1002, 1000));
        assert_eq!(builder.run_images().unwrap()[0].image, "heroku/heroku:24");
        assert_eq!(builder.metadata.lifecycle.apis.platform.supported, ["0.7", "0.14"]);
        assert_eq!(builder.buildpack_ids()[0].to_string(), "heroku/python@1.0");
        assert_eq!(builder.order[0].group[0].id, "heroku/python");
        assert!(builder.order_extensions.is_empty());
    }

    #[test]
    fn what_is_no_builder_is_refused() {
        let mut config = Config::new(&Platform::linux("amd64"));
        assert!(BuilderImage::read(&config).unwrap_err().to_string().contains("not a builder"));
        config.set_label(labels::METADATA, "{}");
        assert!(BuilderImage::read(&config).unwrap_err().to_string().contains("CNB_USER_ID"));
        config.set_env("CNB_USER_ID", "0");
        config.set_env("CNB_GROUP_ID", "0");
        assert!(BuilderImage::read(&config).unwrap_err().to_string().contains("root"));
        config.set_env("CNB_USER_ID", "1");
        config.set_env("CNB_GROUP_ID", "1");
        assert!(BuilderImage::read(&config).unwrap().run_images().is_err());
        config.set_label(labels::METADATA, "[");
        assert!(BuilderImage::read(&config).unwrap_err().to_string().contains("not valid"));
    }
}
