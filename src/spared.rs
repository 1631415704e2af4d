//! What stays in the local store although no image there needs it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use longshore_image::Spared;
use longshore_lifecycle::cache::published_blobs;

use crate::build::oldest_running;
use crate::directories::Directories;

/// Blobs that were written lately may belong to somebody who has not named his image yet.
pub(crate) const GRACE: Duration = Duration::from_secs(3600);

/// What builds have pushed whose caches are there, and what somebody may be about to need. The cache in the directory
/// `except` does not count.
///
/// A build may take longer than [`GRACE`], and send a blob for most of it. So nothing goes that was written or used since
/// the oldest build began that still runs. It is looked for before the lists are read: a build that ends in between has
/// either been seen, or has written its list.
///
/// # Errors
/// When the directories of builds or caches cannot be read.
pub(crate) fn spared(directories: &Directories, except: Option<&Path>) -> anyhow::Result<Spared> {
    let lately = SystemTime::now().checked_sub(GRACE).unwrap_or(SystemTime::UNIX_EPOCH);
    let begun = oldest_running(&directories.builds())?;
    let used = published_blobs(&directories.app_caches(), except)?;
    Ok(Spared { used, since: begun.map_or(lately, |begun| begun.min(lately)) })
}
