//! The files that a buildpack leaves behind beside its layers.
//!
//! Spec: buildpack.md "Build" and "Unmet Buildpack Plan Entries".

use std::path::Path;

use longshore_cnb::build_toml::{BuildToml, Unmet};
use longshore_cnb::group::GroupElement;
use longshore_cnb::launch_toml::LaunchToml;
use longshore_cnb::metadata_toml::BuildpackBomEntry;
use longshore_cnb::plan::BuildpackPlan;
use longshore_cnb::store_toml::StoreToml;
use longshore_cnb::toml_file;

use super::bill_of_materials;
use super::error::BuildError;
use super::layers::Layer;
use super::sbom::{self, SbomFile};
use crate::module_store::Module;

/// What one buildpack left behind.
#[derive(Debug)]
pub(super) struct Outputs {
    pub(super) launch: LaunchToml,
    pub(super) launch_bom: Vec<BuildpackBomEntry>,
    pub(super) build_bom: Vec<BuildpackBomEntry>,
    /// The names of the plan entries that it met.
    pub(super) met: Vec<String>,
    pub(super) sbom_files: Vec<SbomFile>,
}

impl Outputs {
    /// Reads and checks the files in the buildpack's directory.
    pub(super) fn read(
        element: &GroupElement,
        module: &Module,
        directory: &Path,
        plan: &BuildpackPlan,
        layers: &[Layer],
    ) -> Result<Self, BuildError> {
        let invalid =
            |source| BuildError::OutputFile { buildpack: element.to_string(), source: Box::new(source) };
        let build_path = directory.join("build.toml");
        let build: BuildToml = toml_file::read_optional(&build_path).map_err(invalid)?.unwrap_or_default();
        let met = met(plan, &build.unmet).map_err(|rule| BuildError::rule(&build_path, rule))?;
        toml_file::read_optional::<StoreToml>(&directory.join("store.toml")).map_err(invalid)?;
        let launch_path = directory.join("launch.toml");
        let mut launch =
            LaunchToml::read(&launch_path, module.descriptor.api, &element.id).map_err(|source| {
                BuildError::Launch { buildpack: element.to_string(), source: Box::new(source) }
            })?;
        let sbom_files = sbom::find(element, directory, layers, &module.descriptor.info.sbom_formats)?;
        let launch_bom = std::mem::take(&mut launch.bom);
        Ok(Self {
            launch_bom: bill_of_materials::entries(element, launch_bom, &launch_path)?,
            build_bom: bill_of_materials::entries(element, build.bom, &build_path)?,
            launch,
            met,
            sbom_files,
        })
    }
}

/// The names of the plan entries that are not unmet.
fn met(plan: &BuildpackPlan, unmet: &[Unmet]) -> Result<Vec<String>, String> {
    for Unmet { name } in unmet {
        if name.is_empty() {
            return Err("every entry of 'unmet' needs a 'name'".to_owned());
        }
        if !plan.entries.iter().any(|entry| entry.name == *name) {
            return Err(format!("'unmet' names '{name}', which is not in the buildpack plan"));
        }
    }
    let is_met = |name: &String| !unmet.iter().any(|unmet| unmet.name == *name);
    Ok(plan.entries.iter().map(|entry| entry.name.clone()).filter(is_met).collect())
}

#[cfg(test)]
mod tests {
    use longshore_cnb::plan::Require;

    use super::*;

    #[test]
    fn what_is_not_unmet_is_met() {
        type Case<'a> = (&'a [&'a str], &'a [&'a str], Result<&'a [&'a str], &'a str>);
        let cases: &[Case<'_>] = &[
            (&["a", "b"], &[], Ok(&["a", "b"])),
            (&["a", "b"], &["a"], Ok(&["b"])),
            (&["a", "a"], &["a"], Ok(&[])),
            (&["a"], &["c"], Err("'c', which is not in the buildpack plan")),
            (&["a"], &[""], Err("needs a 'name'")),
            (&[], &[], Ok(&[])),
        ];
        for (entries, unmet, expected) in cases {
            let plan = BuildpackPlan {
                entries: entries
                    .iter()
                    .map(|name| Require { name: (*name).to_owned(), ..Require::default() })
                    .collect(),
            };
            let unmet: Vec<_> = unmet.iter().map(|name| Unmet { name: (*name).to_owned() }).collect();
            match (met(&plan, &unmet), expected) {
                (Ok(met), Ok(expected)) => assert_eq!(met, *expected, "{entries:?} {unmet:?}"),
                (Err(rule), Err(expected)) => assert!(rule.contains(expected), "{rule}"),
                (actual, _) => panic!("{entries:?} {unmet:?}: {actual:?}"),
            }
        }
    }
}
