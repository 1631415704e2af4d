//! `report.toml`: what was exported, for the platform (platform.md "`report.toml` (TOML)").

use crate::go_toml::{Table, Value};

/// The content of `report.toml`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The legacy bill of materials of the build, before Platform API 0.9.
    pub build_bom: Vec<Table>,
    /// The exported image.
    pub image: ImageReport,
}

/// The exported image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageReport {
    /// The names it was exported to, as they were given.
    pub tags: Vec<String>,
    /// The image id, when it was exported to a daemon.
    pub image_id: Option<String>,
    /// The manifest's digest, when it was exported to a registry.
    pub digest: Option<String>,
    /// The manifest's size in bytes.
    pub manifest_size: Option<u64>,
}

impl Report {
    /// The file's content.
    #[must_use]
    pub fn to_document(&self) -> String {
        let size = self.image.manifest_size.and_then(|size| i64::try_from(size).ok());
        let image = Table::new()
            .with("tags", self.image.tags.as_slice())
            .with_some("image-id", self.image.image_id.as_ref())
            .with_some("digest", self.image.digest.as_ref())
            .with_some("manifest-size", size);
        let bom: Vec<Value> = self.build_bom.iter().cloned().map(Value::Table).collect();
        let build = Table::new().with_filled("bom", bom);
        Table::new().with_filled("build", build).with("image", image).to_document()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_of_a_registry_export() {
        let report = Report {
            image: ImageReport {
                tags: vec!["app:1".to_owned(), "app:2".to_owned()],
                digest: Some("sha256:1".to_owned()),
                manifest_size: Some(42),
                image_id: None,
            },
            ..Report::default()
        };
        assert_eq!(
            report.to_document(),
            "[image]\n  tags = [\"app:1\", \"app:2\"]\n  digest = \"sha256:1\"\n  manifest-size = 42\n"
        );
    }
}
