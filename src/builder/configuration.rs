//! `builder.toml`: what a builder is made of, in the format of pack.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use longshore_cnb::order::OrderGroup;
use longshore_cnb::system::SystemBuildpacks;
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BuilderConfiguration {
    /// What the builder is for.
    #[serde(default)]
    pub(crate) description: String,
    /// The buildpacks in it.
    #[serde(default)]
    pub(crate) buildpacks: Vec<ModuleConfiguration>,
    /// The image extensions in it.
    #[serde(default)]
    pub(crate) extensions: Vec<ModuleConfiguration>,
    /// The groups of buildpacks, tried in order.
    #[serde(default)]
    pub(crate) order: Vec<OrderGroup>,
    /// The groups of image extensions.
    #[serde(default)]
    pub(crate) order_extensions: Vec<OrderGroup>,
    #[serde(default)]
    stack: StackTable,
    /// Which lifecycle goes into it; left out, this program.
    #[serde(default)]
    pub(crate) lifecycle: LifecycleConfiguration,
    #[serde(default)]
    run: RunTable,
    #[serde(default)]
    build: BuildTable,
    /// The platforms to make it for; only the first is used without `--target`.
    #[serde(default)]
    pub(crate) targets: Vec<TargetConfiguration>,
    /// Buildpacks before and after every group.
    #[serde(default)]
    pub(crate) system: SystemBuildpacks,
}

/// A buildpack or image extension.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct ModuleConfiguration {
    /// The id that it must have.
    pub(crate) id: String,
    /// The version that it must have.
    pub(crate) version: String,
    /// Where it is: a path relative to the file, or a URL.
    pub(crate) uri: String,
    /// The image that it is in.
    pub(crate) image: String,
}

/// Where the lifecycle comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct LifecycleConfiguration {
    /// A directory or archive of another lifecycle.
    pub(crate) uri: String,
    /// The version of another lifecycle.
    pub(crate) version: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct StackTable {
    id: String,
    build_image: String,
    run_image: String,
    run_image_mirrors: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RunTable {
    images: Vec<RunImageConfiguration>,
}

/// A run image and where else it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RunImageConfiguration {
    /// The name of the image.
    pub(crate) image: String,
    /// Other names of the same image.
    pub(crate) mirrors: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BuildTable {
    image: String,
    env: Vec<VariableTable>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct VariableTable {
    name: String,
    value: String,
    #[serde(default)]
    suffix: String,
    #[serde(default)]
    delim: String,
    #[serde(default)]
    exec_env: Vec<String>,
}

/// A platform to make the builder for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct TargetConfiguration {
    /// The operating system.
    pub(crate) os: String,
    /// The architecture.
    pub(crate) arch: String,
    /// The variant of the architecture.
    pub(crate) variant: String,
}

impl BuilderConfiguration {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or says something that cannot be.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs_err::read_to_string(path)?;
        Self::parse(&text)
            .with_context(|| format!("`{}` is not a valid builder configuration", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let configuration: Self = toml::from_str(text)?;
        configuration.check()?;
        Ok(configuration)
    }

    /// The image that builds run in.
    pub(crate) fn build_image(&self) -> &str {
        if self.build.image.is_empty() { &self.stack.build_image } else { &self.build.image }
    }

    /// The images that apps run on, the default first.
    pub(crate) fn run_images(&self) -> Vec<RunImageConfiguration> {
        if self.run.images.is_empty() {
            vec![RunImageConfiguration {
                image: self.stack.run_image.clone(),
                mirrors: self.stack.run_image_mirrors.clone(),
            }]
        } else {
            self.run.images.clone()
        }
    }

    /// The id of the stack, which is deprecated and usually not there.
    pub(crate) fn stack_id(&self) -> Option<&str> {
        Some(self.stack.id.as_str()).filter(|id| !id.is_empty())
    }

    /// The files of `/cnb/build-config/env`: `NAME[.SUFFIX]` and `NAME.delim` (platform spec, "Operator-Defined
    /// Variables").
    pub(crate) fn build_env(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut files = BTreeMap::new();
        for variable in &self.build.env {
            let VariableTable { name, value, suffix, delim, .. } = variable;
            ensure!(
                !name.is_empty() && !name.contains(['/', '\0']),
                "`{name}` in `[[build.env]]` is not a name for a variable"
            );
            let file = match suffix.as_str() {
                "" => name.clone(),
                "default" | "override" | "append" | "prepend" => format!("{name}.{suffix}"),
                other => bail!(
                    "the suffix `{other}` of `{name}` in `[[build.env]]` is not known; \
                     known are default, override, append and prepend"
                ),
            };
            if !delim.is_empty() {
                files.insert(format!("{name}.delim"), delim.clone());
            }
            if files.insert(file, value.clone()).is_some() {
                tracing::warn!("`[[build.env]]` sets `{name}` twice; the last value counts");
            }
        }
        for name in files.keys() {
            let base = name.strip_suffix(".append").or_else(|| name.strip_suffix(".prepend"));
            if let Some(base) = base {
                ensure!(
                    files.contains_key(&format!("{base}.delim")),
                    "`{base}` in `[[build.env]]` needs a `delim` for its suffix"
                );
            }
        }
        Ok(files)
    }

    fn check(&self) -> anyhow::Result<()> {
        let agree = |new: &str, old: &str| new.is_empty() || old.is_empty() || new == old;
        ensure!(!self.build_image().is_empty(), "`[build]` needs `image`, the image that builds run in");
        ensure!(
            agree(&self.build.image, &self.stack.build_image),
            "`build.image` and `stack.build-image` name different images"
        );
        let run_images = self.run_images();
        ensure!(
            run_images.iter().all(|run| !run.image.is_empty()),
            "`[[run.images]]` with `image`, the image that apps run on, is needed"
        );
        ensure!(
            run_images.first().is_some_and(|run| agree(&run.image, &self.stack.run_image)),
            "`run.images` and `stack.run-image` name different images"
        );
        for module in self.buildpacks.iter().chain(&self.extensions) {
            ensure!(
                module.uri.is_empty() != module.image.is_empty(),
                "buildpack `{}` needs either `uri` or `image`",
                module.id
            );
        }
        ensure!(
            self.lifecycle.uri.is_empty() || self.lifecycle.version.is_empty(),
            "`[lifecycle]` has both `uri` and `version`; give one of them"
        );
        self.build_env()?;
        if self.order.is_empty() {
            tracing::warn!("the builder has no `[[order]]`: builds will have to name their buildpacks");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[build]\nimage = \"b\"\n[[run.images]]\nimage = \"r\"\nmirrors = [\"m\"]\n";

    #[test]
    fn images_come_from_build_and_run_or_from_the_stack() {
        let new = BuilderConfiguration::parse(SMALL).unwrap();
        assert_eq!(new.build_image(), "b");
        assert_eq!(new.run_images()[0].mirrors, ["m"]);
        assert_eq!(new.stack_id(), None);
        let old = BuilderConfiguration::parse(
            "[stack]\nid = \"s\"\nbuild-image = \"b\"\nrun-image = \"r\"\nrun-image-mirrors = [\"m\"]\n",
        )
        .unwrap();
        assert_eq!(old.build_image(), "b");
        assert_eq!(old.run_images(), new.run_images());
        assert_eq!(old.stack_id(), Some("s"));
    }

    #[test]
    fn variables_become_files() {
        let configuration = BuilderConfiguration::parse(&format!(
            "{SMALL}[[build.env]]\nname = \"A\"\nvalue = \"1\"\n\
             [[build.env]]\nname = \"P\"\nvalue = \"/x\"\nsuffix = \"append\"\ndelim = \":\"\n"
        ))
        .unwrap();
        let files = configuration.build_env().unwrap();
        let pairs: Vec<_> = files.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("P.append", "/x"), ("P.delim", ":")]);
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, reason) in [
            ("[[run.images]]\nimage = \"r\"\n", "`[build]` needs `image`"),
            ("[build]\nimage = \"b\"\n", "`[[run.images]]`"),
            ("[build]\nimage = \"b\"\n[stack]\nbuild-image = \"c\"\n", "different images"),
            ("[build]\nimage = \"b\"\nimgae = 1\n", "imgae"),
        ] {
            let error = BuilderConfiguration::parse(text).unwrap_err();
            assert!(format!("{error:#}").contains(reason), "{text}: {error:#}");
        }
        for (more, reason) in [
            ("[[buildpacks]]\nid = \"x\"\n", "either `uri` or `image`"),
            ("[lifecycle]\nuri = \"x\"\nversion = \"1\"\n", "both"),
            ("[[build.env]]\nname = \"A\"\nvalue = \"1\"\nsuffix = \"append\"\n", "needs a `delim`"),
            ("[[build.env]]\nname = \"A\"\nvalue = \"1\"\nsuffix = \"x\"\n", "not known"),
            ("[[build.env]]\nname = \"a/b\"\nvalue = \"1\"\n", "not a name"),
        ] {
            let error = BuilderConfiguration::parse(&format!("{SMALL}{more}")).unwrap_err();
            assert!(format!("{error:#}").contains(reason), "{more}: {error:#}");
        }
    }
}
