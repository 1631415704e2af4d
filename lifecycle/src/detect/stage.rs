//! Detection in stages: over the first groups of an order, and over the next ones when none of those passed.
//!
//! A platform that has the buildpacks of the first groups only need not get the others when one of those groups passes:
//! groups are tried one after the other, and the first that passes is selected (buildpack.md "Order Resolution"). What one
//! stage found out goes to the next, so all stages together run each `bin/detect` once, and select and report what a single
//! detection would.

use std::path::PathBuf;

use longshore_cnb::toml_file::{self, TomlFileError};
use serde::{Deserialize, Serialize};

use super::error::DetectError;
use super::member::ModuleKey;
use super::report::Report;
use super::run::DetectRun;

/// One of several detections over the same order and app, each of which goes on where the one before it ended.
#[derive(Debug, Clone)]
pub struct Stage {
    /// How many groups of the order, from the first one on, there are buildpacks for.
    pub groups: usize,
    /// The file that is left to the next stage. The first stage finds none.
    pub progress: PathBuf,
}

/// What earlier stages found out.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// How many groups did not pass.
    pub(super) groups: usize,
    /// What each `bin/detect` said.
    pub(super) runs: Vec<(ModuleKey, DetectRun)>,
    /// What will be shown when no group passes.
    pub(super) report: Report,
}

impl Stage {
    pub(super) fn read(&self) -> Result<Progress, TomlFileError> {
        Ok(toml_file::read_optional(&self.progress)?.unwrap_or_default())
    }

    pub(super) fn write(&self, progress: &Progress) -> Result<(), DetectError> {
        let document = toml::to_string(progress)
            .map_err(|error| DetectError::Progress { path: self.progress.clone(), source: error })?;
        Ok(toml_file::write(&self.progress, &document)?)
    }
}

#[cfg(test)]
mod tests {
    use longshore_cnb::group::ModuleKind;
    use longshore_cnb::plan::BuildPlan;

    use super::super::report::{DetectResult, GroupResult, ModuleResult};
    use super::super::run::Outcome;
    use super::*;

    #[test]
    fn the_next_stage_reads_what_was_found_out_to_the_last_character() {
        let plan = "
            [[provides]]
            name = 'a'
            [[or]]
            [[or.requires]]
            name = 'b'
            metadata = { at = 1979-05-27T07:32:00Z, deep = [{ n = 1.0 }, { n = inf }], text = \"\\r\\n\" }
        ";
        let plan: BuildPlan = toml::from_str(plan).unwrap();
        let odd = "\r\n  \u{1b}[31m\"'''\"\"\"\u{0}\u{7f}\u{85}\u{fffd} \\u0041\t\r";
        let run = |kind, id: &str, outcome| {
            let key = (kind, id.to_owned(), "1".to_owned());
            (key, DetectRun { outcome, output: odd.to_owned() })
        };
        let progress = Progress {
            groups: 3,
            runs: vec![
                run(ModuleKind::Buildpack, "a", Outcome::Pass(plan.into_alternatives())),
                run(ModuleKind::Extension, "a", Outcome::Fail),
                run(ModuleKind::Buildpack, "b", Outcome::Error(odd.to_owned())),
            ],
            report: Report {
                modules: vec![ModuleResult {
                    kind: ModuleKind::Buildpack,
                    name: "a@1".to_owned(),
                    result: DetectResult::NotRun,
                    reason: odd.to_owned(),
                    output: String::new(),
                }],
                groups: vec![GroupResult { members: Vec::new(), reasons: vec![odd.to_owned()] }],
            },
        };
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage { groups: 3, progress: folder.path().join("progress.toml") };
        assert_eq!(stage.read().unwrap(), Progress::default());
        stage.write(&progress).unwrap();
        assert_eq!(stage.read().unwrap(), progress);
        fs_err::write(&stage.progress, "groups = 3").unwrap();
        assert!(stage.read().is_err());
    }
}
