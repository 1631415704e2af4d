//! What builds that were killed, or whose downloads broke, left among the unpacked layers.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use longshore_sandbox::remove_tree;

/// Removes layers that nobody is unpacking any more, and downloads that were not gone on with for `grace`.
///
/// # Errors
/// When a directory cannot be read or removed.
pub(crate) fn clear_abandoned_layers(directory: &Path, grace: Duration) -> anyhow::Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    for mapping in fs_err::read_dir(directory)? {
        for child in fs_err::read_dir(mapping?.path())? {
            let path = child?.path();
            if path.extension().is_none_or(|extension| extension != "partial") {
                continue;
            }
            // It may be given its name at this moment.
            let Ok(metadata) = fs_err::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                // Held until the layer has its name.
                let Ok(lock) = File::open(path.with_extension("lock")) else { continue };
                if lock.try_lock().is_ok() {
                    remove_tree(&path)?;
                }
            } else if SystemTime::now().duration_since(metadata.modified()?).is_ok_and(|age| age >= grace)
                && File::open(&path).is_ok_and(|download| download.try_lock().is_ok())
            {
                fs_err::remove_file(&path)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join("mapping").join(name);
        for name in ["held.partial", "left.partial", "whole"] {
            fs_err::create_dir_all(at(name).join("bin")).unwrap();
        }
        for name in [".longshore-held.partial", ".longshore-left.partial", "left.lock", "whole.lock"] {
            fs_err::write(at(name), "x").unwrap();
        }
        let lock = |name: &str| {
            let file = File::create(at(name)).unwrap();
            file.lock().unwrap();
            file
        };
        let held = [lock("held.lock"), lock(".longshore-held.partial")];
        let names = || {
            let names = fs_err::read_dir(folder.path().join("mapping")).unwrap();
            let mut names: Vec<_> =
                names.map(|child| child.unwrap().file_name().into_string().unwrap()).collect();
            names.retain(|name| !name.ends_with(".lock"));
            names.sort();
            names
        };
        let hour = Duration::from_secs(3600);
        clear_abandoned_layers(folder.path(), hour).unwrap();
        let downloads = [".longshore-held.partial", ".longshore-left.partial"];
        assert_eq!(names(), [&downloads[..], &["held.partial", "whole"]].concat());
        clear_abandoned_layers(folder.path(), Duration::ZERO).unwrap();
        assert_eq!(names(), [".longshore-held.partial", "held.partial", "whole"]);
        drop(held);
        clear_abandoned_layers(folder.path(), Duration::ZERO).unwrap();
        assert_eq!(names(), ["whole"]);
        clear_abandoned_layers(&folder.path().join("none"), hour).unwrap();
    }
}
