//! Detection, with no more layers of the builder than it needs.
//!
//! The layers of buildpacks that only groups behind the selected one reach are not needed, and which one that is only
//! detection finds out. So it runs in stages (`longshore_lifecycle::detect::Stage`): the first one has the groups whose layers
//! are unpacked already, or the first group; each further one has one more group that must be fetched, and those behind it
//! whose layers are there. Where all layers are there, there is one stage, and nothing is as it would not be without them.
//!
//! One group more each time, rather than twice as many as before: a sandbox takes some milliseconds, and a group of a usual
//! builder has tens of megabytes, whose layers come side by side. No less than a group: its members are tried side by side.

use std::collections::BTreeSet;

use longshore_image::LocalStore;
use longshore_lifecycle::ExitCode;
use longshore_sandbox::IdMapping;

use super::container::{BuildContainer, DETECT_GROUPS};
use super::failure::PhaseFailed;
use super::modules::Selection;
use super::phases::timed;
use super::request::BuildRequest;
use super::work_directory::WorkDirectory;
use crate::builder::{BuilderImage, Needs};
use crate::container::find_user;
use crate::images::FoundImage;
use crate::rootfs::{RootFilesystems, Syncing};

/// The program that detects.
const DETECTOR: &str = "detector";

/// What detection runs on.
pub(crate) struct Detection<'a> {
    /// What was asked for.
    pub(crate) request: &'a BuildRequest,
    /// The builder as it was found.
    pub(crate) found: &'a FoundImage,
    /// What it says of itself.
    pub(crate) builder: &'a BuilderImage,
    /// The buildpacks that were chosen.
    pub(crate) selection: &'a Selection,
    /// Where its layers are unpacked.
    pub(crate) unpacked: RootFilesystems,
    /// Where blobs of layers may be.
    pub(crate) local: &'a LocalStore,
    /// The directories of the build.
    pub(crate) work: &'a WorkDirectory,
    /// How ids inside relate to ids outside.
    pub(crate) mapping: IdMapping,
    /// The Platform API that the lifecycle is asked for.
    pub(crate) platform_api: &'static str,
}

/// A container for the phases behind detection.
pub(crate) struct Detected<'a> {
    /// It has the layers that detection needed.
    pub(crate) container: BuildContainer<'a>,
    /// These are being brought to the disk.
    pub(crate) syncing: Vec<Syncing>,
}

/// How far a detection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Over all groups, without anything left out.
    Whole,
    /// Over so many groups, from where the last stage ended.
    Stage(usize),
}

impl<'a> Detection<'a> {
    /// Detects. `group.toml` and `plan.toml` are in the directory for them then.
    ///
    /// # Errors
    /// When layers cannot be had, or the detector fails: with its exit code.
    pub(crate) fn run(&self) -> anyhow::Result<Detected<'a>> {
        let layers = self.found.image.config.diff_ids();
        let order = self.selection.order.as_deref();
        let needs = Needs::new(self.builder, &layers, order, &self.selection.modules);
        let mut syncing = Vec::new();
        let mut extent = self.next(&needs, 0);
        let mut container = self.container(&needs, extent, &mut syncing)?;
        timed("DETECTING", || {
            let mut hidden = Vec::new();
            loop {
                let variable = match extent {
                    Extent::Whole => None,
                    Extent::Stage(groups) => Some((DETECT_GROUPS, groups.to_string())),
                };
                let code = container.run_with(DETECTOR, &self.work.detected(), variable, &mut hidden)?;
                let next = match self.after(&needs, extent, code) {
                    Some(next) => next,
                    None if code == 0 => return Ok(Detected { container, syncing }),
                    None => {
                        hidden.iter().for_each(|line| anstream::eprintln!("{line}"));
                        return Err(PhaseFailed { phase: DETECTOR, code }.into());
                    }
                };
                if next == Extent::Whole {
                    // All of it is said again.
                    hidden.clear();
                }
                extent = next;
                container = self.container(&needs, extent, &mut syncing)?;
            }
        })
    }

    fn next(&self, needs: &Needs, tried: usize) -> Extent {
        let end = needs.next_stage(tried, |layer| self.unpacked.has(layer));
        let is_whole = tried == 0 && end >= needs.groups() && needs.spared(end).is_empty();
        if is_whole { Extent::Whole } else { Extent::Stage(end) }
    }

    /// What comes after a detection that ended with this exit code, if anything does.
    fn after(&self, needs: &Needs, extent: Extent, code: u8) -> Option<Extent> {
        let Extent::Stage(tried) = extent else { return None };
        let groups = needs.groups();
        if code == u8::from(ExitCode::Undecided) && tried < groups {
            let next = tried + 1;
            tracing::info!(
                "No group passed so far; group {next} of {groups} needs more layers of the builder"
            );
            return Some(self.next(needs, tried));
        }
        // Another order than in the labels, or a composite buildpack that names others. A builder that is like that gets a
        // detection as if nothing had been.
        let is_other = [ExitCode::Undecided, ExitCode::NotThere].map(u8::from).contains(&code);
        is_other.then(|| {
            tracing::debug!("The labels of the builder say less than its files: all its layers are used");
            Extent::Whole
        })
    }

    /// The container with the layers that a detection needs.
    fn container(
        &self,
        needs: &Needs,
        extent: Extent,
        syncing: &mut Vec<Syncing>,
    ) -> anyhow::Result<BuildContainer<'a>> {
        let spared = match extent {
            Extent::Whole => BTreeSet::new(),
            Extent::Stage(groups) => needs.spared(groups),
        };
        if !spared.is_empty() {
            tracing::debug!(
                "Left out {} layers of the builder that the order does not reach so far",
                spared.len()
            );
        }
        let layers = self.unpacked.layers(self.found, self.local, &self.request.builder, &spared)?;
        // The phases take longer.
        syncing.push(layers.sync());
        let mut user = find_user(&self.builder.uid.to_string(), &layers.paths)?;
        user.gid = self.builder.gid;
        Ok(BuildContainer {
            request: self.request,
            config: &self.found.image.config,
            layers: layers.paths,
            work: self.work,
            mapping: self.mapping,
            user,
            platform_api: self.platform_api,
        })
    }
}
