//! What a build that pushes its image leaves in the local store: the blobs of its layers, which the next one finds through
//! the stat index when the registry does not have them. No image of the store names them, so the cache of the app does.

use std::collections::BTreeSet;

use longshore_image::{Descriptor, Digest, LocalStore};
use longshore_lifecycle::cache::TreeCache;

use crate::directories::Directories;
use crate::spared::spared;

/// Notes the blobs after a build that has `made` blobs, or found that they are known, and has `pushed` an image with these
/// layers, or failed. Removes those of earlier builds that nobody can be about to use, and after a failure damaged ones: it
/// may be for them that the registry refused the image, and would do so again.
///
/// # Errors
/// When the store or the cache cannot be read or written. What was not removed is tried again by the next build.
pub(super) fn settle(
    cache: &TreeCache,
    store: &LocalStore,
    directories: &Directories,
    pushed: Option<&[Descriptor]>,
    made: BTreeSet<Digest>,
) -> anyhow::Result<()> {
    let checked = if pushed.is_none() { store.remove_damaged(&made) } else { Ok(()) };
    let sink = store.sink();
    let is_there = |layer: &&Descriptor| sink.kept(layer.digest, layer.size).is_some();
    let pushed =
        pushed.map(|layers| layers.iter().filter(is_there).map(|layer| (layer.digest, layer.size)).collect());
    let before = cache.published()?;
    let mut blobs = before.clone().after(pushed, made);
    let mut spared = spared(directories, Some(cache.directory()))?;
    spared.used.extend(blobs.used.keys());
    let removed = store.remove_blobs(&blobs.left, &spared).map(|young| blobs.left = young);
    if blobs != before {
        cache.set_published(&blobs)?;
    }
    Ok(checked.and(removed)?)
}
