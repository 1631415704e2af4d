//! What became of each image, for people and for machines.

use serde::Serialize;

use crate::output;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A table
    Text,
    /// A list of objects
    Json,
}

/// What became of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// It stands on the run image now.
    Rebased,
    /// It would.
    WouldBeRebased,
    /// It stood on it before.
    UpToDate,
    /// It matched a pattern and is none to rebase, or not onto this run image.
    Skipped,
    /// It could not be.
    Failed,
}

impl Kind {
    pub(super) const fn is_failure(self) -> bool {
        matches!(self, Self::Failed)
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Rebased => "rebased",
            Self::WouldBeRebased => "would be rebased",
            Self::UpToDate => "up to date",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// What became of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Outcome {
    pub(super) image: String,
    pub(super) result: Kind,
    /// The run image that it stands on, or would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run_image: Option<String>,
    /// What identified the old run image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    /// What identifies the new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
    /// The digest of the image's manifest or index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    /// Why it was skipped or failed, or what had to be forced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<String>,
}

impl Outcome {
    pub(super) fn new(image: String, result: Kind) -> Self {
        Self { image, result, run_image: None, from: None, to: None, digest: None, cause: None }
    }
}

/// Prints all, in the order in which they were named.
pub(super) fn print(outcomes: &[Outcome], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        output::result(serde_json::to_string_pretty(outcomes)?);
        return Ok(());
    }
    let header = ["IMAGE", "FROM", "TO", "RESULT"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header).chain(outcomes.iter().map(row)).collect();
    output::table(&rows);
    Ok(())
}

fn row(outcome: &Outcome) -> [String; 4] {
    let result = match &outcome.cause {
        Some(cause) => format!("{}: {cause}", outcome.result.words()),
        None => outcome.result.words().to_owned(),
    };
    [outcome.image.clone(), short(outcome.from.as_deref()), short(outcome.to.as_deref()), result]
}

/// The beginning of the digest in what identifies a run image.
fn short(reference: Option<&str>) -> String {
    let Some(reference) = reference else { return "-".to_owned() };
    let digest = reference.rsplit_once('@').map_or(reference, |(_, digest)| digest);
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_short_and_objects_are_whole() {
        let from = format!("r.io/run@sha256:{}", "ab".repeat(32));
        let outcome = Outcome {
            from: Some(from.clone()),
            cause: Some("no such image".to_owned()),
            ..Outcome::new("r.io/app:1".to_owned(), Kind::Failed)
        };
        assert_eq!(row(&outcome), ["r.io/app:1", "abababababab", "-", "failed: no such image"]);
        let json = serde_json::to_value(&outcome).unwrap();
        let expected = serde_json::json!(
            {"image": "r.io/app:1", "result": "failed", "from": from, "cause": "no such image"}
        );
        assert_eq!(json, expected);
    }
}
