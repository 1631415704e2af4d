//! `analyzed.toml`: what is known of the previous image and the run image (platform.md "`analyzed.toml` (TOML)").

use serde::Deserialize;

use crate::go_toml::Table;
use crate::lifecycle_metadata::LifecycleMetadata;
use crate::target::{Distribution, Target};

/// The content of `analyzed.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Analyzed {
    /// The previous image; its reference is empty when there is none.
    #[serde(rename = "image")]
    pub previous_image: Option<ImageIdentifier>,
    /// The build image, when it is to be extended.
    pub build_image: Option<ImageIdentifier>,
    /// What the previous image says about its layers.
    pub metadata: LifecycleMetadata,
    /// The run image.
    pub run_image: Option<RunImage>,
}

impl Analyzed {
    /// Reads the file's content.
    ///
    /// # Errors
    /// When it is not TOML, or a value has the wrong type.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The file's content.
    #[must_use]
    pub fn to_document(&self) -> String {
        let identifier = |image: &ImageIdentifier| Table::new().with("reference", &image.reference);
        Table::new()
            .with_some("image", self.previous_image.as_ref().map(identifier))
            .with_some("build-image", self.build_image.as_ref().map(identifier))
            .with("metadata", self.metadata.to_toml())
            .with_some("run-image", self.run_image.as_ref().map(RunImage::to_toml))
            .to_document()
    }

    /// What identifies the previous image, if there was one.
    #[must_use]
    pub fn previous_reference(&self) -> Option<&str> {
        self.previous_image.as_ref().map(|image| image.reference.as_str()).filter(|text| !text.is_empty())
    }
}

/// What identifies an image: a digest reference, an image id in a daemon, or a path to a layout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ImageIdentifier {
    /// The reference; empty when there is no such image.
    pub reference: String,
}

/// The run image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RunImage {
    /// What identifies it.
    pub reference: String,
    /// The name that the platform or an extension gave.
    pub image: String,
    /// Whether extensions are to extend it.
    pub extend: bool,
    /// What it runs on.
    pub target: Option<Target>,
}

impl RunImage {
    fn to_toml(&self) -> Table {
        Table::new()
            .with("reference", &self.reference)
            .with_filled("image", &self.image)
            .with_filled("extend", self.extend)
            .with_some("target", self.target.as_ref().map(target_to_toml))
    }
}

fn target_to_toml(target: &Target) -> Table {
    let distro =
        |distro: &Distribution| Table::new().with("name", &distro.name).with("version", &distro.version);
    Table::new()
        .with_filled("id", &target.id)
        .with("os", &target.os)
        .with("arch", &target.arch)
        .with_filled("arch-variant", target.variant())
        .with_filled("variant", target.variant())
        .with_some("distro", target.distro.as_ref().map(distro))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Analyzed {
        Analyzed {
            previous_image: Some(ImageIdentifier { reference: "app@sha256:1".to_owned() }),
            run_image: Some(RunImage {
                reference: "run@sha256:2".to_owned(),
                image: "run:latest".to_owned(),
                extend: false,
                target: Some(Target::new("linux", "arm64", "v8").with_distribution("debian", "13")),
            }),
            ..Analyzed::default()
        }
    }

    #[test]
    fn document_has_the_reference_layout() {
        let expected = concat!(
            "[image]\n  reference = \"app@sha256:1\"\n",
            "\n[metadata]\n  [metadata.config]\n    sha = \"\"\n  [metadata.launcher]\n    sha = \"\"\n",
            "  [metadata.process-types]\n    sha = \"\"\n",
            "  [metadata.run-image]\n    top-layer = \"\"\n    reference = \"\"\n",
            "\n[run-image]\n  reference = \"run@sha256:2\"\n  image = \"run:latest\"\n",
            "  [run-image.target]\n    os = \"linux\"\n    arch = \"arm64\"\n",
            "    arch-variant = \"v8\"\n    variant = \"v8\"\n",
            "    [run-image.target.distro]\n      name = \"debian\"\n      version = \"13\"\n",
        );
        assert_eq!(example().to_document(), expected);
    }

    #[test]
    fn either_key_of_the_variant_is_read() {
        for text in ["arch-variant = \"v8\"", "variant = \"v8\"", "arch-variant = \"v8\"\nvariant = \"v8\""] {
            let analyzed = Analyzed::parse(&format!("[run-image.target]\nos = \"linux\"\n{text}\n")).unwrap();
            assert_eq!(analyzed.run_image.unwrap().target.unwrap().variant(), "v8", "{text}");
        }
    }

    #[test]
    fn reads_back_what_it_writes() {
        let document = example().to_document();
        assert_eq!(Analyzed::parse(&document).unwrap().to_document(), document);
        assert_eq!(Analyzed::parse("").unwrap(), Analyzed::default());
        assert!(Analyzed::parse("run-image = 1").is_err());
    }
}
