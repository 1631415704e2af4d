//! The directory that a build works in: what the sandbox sees as `/workspace`, `/layers` and `/platform`.
//!
//! It is locked while the build runs, so that the next build can clear away what a killed one left.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use longshore_cnb::order::{OrderGroup, OrderToml};
use longshore_lifecycle::cache::LockedCache;
use longshore_sandbox::{IdMapping, give_tree_except, remove_tree};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tempfile::TempDir;

use crate::builder::Module;

const PREFIX: &str = "build-";
/// Locked as long as the build runs.
const LOCK: &str = "lock";
/// The journal: the directory of the cache whose layers are here while the build runs.
const CACHE: &str = "cache";

/// The directory of one build.
pub(crate) struct WorkDirectory {
    /// Removed with all in it at the end, also where only the sandbox's users may.
    directory: Option<TempDir>,
    path: PathBuf,
    _lock: File,
}

impl WorkDirectory {
    /// Makes a directory below `parent` for a build with this cache, and clears away those of builds that are no more.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn new(parent: &Path, cache: &LockedCache) -> anyhow::Result<Self> {
        fs_err::create_dir_all(parent)?;
        fs_err::set_permissions(parent, Permissions::from_mode(0o700))?;
        if let Err(error) = spread(parent) {
            tracing::debug!("work directories are not spread over the disk: {error}");
        }
        let (work, abandoned) = {
            let _lock = lock_parent(parent)?;
            let abandoned = Abandoned::find(parent);
            (Self::make(parent, cache)?, abandoned)
        };
        abandoned.into_iter().for_each(|build| build.clear(Some(cache)));
        Ok(work)
    }

    fn make(parent: &Path, cache: &LockedCache) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let path = directory.path().to_owned();
        let lock = fs_err::File::create(path.join(LOCK))?.into_parts().0;
        lock.try_lock().context("cannot lock the work directory")?;
        let work = Self { directory: Some(directory), path, _lock: lock };
        fs_err::write(work.join(CACHE), cache.directory().as_os_str().as_bytes())?;
        for name in ["workspace", "layers", "detected", "root", "scratch", "scripts"] {
            fs_err::create_dir(work.join(name))?;
            fs_err::set_permissions(work.join(name), Permissions::from_mode(0o755))?;
        }
        Ok(work)
    }

    /// The copy of the app.
    pub(crate) fn workspace(&self) -> PathBuf {
        self.join("workspace")
    }

    /// The layers directory of restore, build and export.
    pub(crate) fn layers(&self) -> PathBuf {
        self.join("layers")
    }

    /// The layers directory of detect: a program that runs then must not be able to put links where restore, which
    /// runs outside the sandbox, will write.
    pub(crate) fn detected(&self) -> PathBuf {
        self.join("detected")
    }

    /// The highest layer of the sandbox's root filesystem: what is added to the builder.
    pub(crate) fn root(&self) -> PathBuf {
        self.join("root")
    }

    /// Where the sandbox keeps what is written into its root filesystem.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.join("scratch")
    }

    /// Where buildpacks made of scripts are.
    pub(crate) fn scripts(&self) -> PathBuf {
        self.join("scripts")
    }

    fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes what is added to the builder: buildpacks, an order, variables.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write_root(
        &self,
        modules: &[Module],
        order: Option<&[OrderGroup]>,
        variables: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let root = self.root();
        for module in modules {
            module.install(&root)?;
        }
        if let Some(order) = order {
            let order = OrderToml { order: order.to_vec(), extensions: Vec::new() };
            let text = toml::to_string(&order).context("cannot write order.toml")?;
            write(&root.join("cnb/order.toml"), &text)?;
        }
        for (name, value) in variables {
            write(&root.join("platform/env").join(name), value)?;
        }
        open_up(&root)
    }

    /// Gives a directory to a user of the sandbox.
    ///
    /// # Errors
    /// When that is not allowed.
    pub(crate) fn give(path: &Path, mapping: &IdMapping, uid: u32, gid: u32) -> anyhow::Result<()> {
        Self::give_except(path, mapping, uid, gid, &BTreeSet::new())
    }

    /// Gives a directory to a user of the sandbox, except for some trees in it that belong to them already.
    ///
    /// # Errors
    /// When that is not allowed.
    pub(crate) fn give_except(
        path: &Path,
        mapping: &IdMapping,
        uid: u32,
        gid: u32,
        except: &BTreeSet<PathBuf>,
    ) -> anyhow::Result<()> {
        give_tree_except(path, mapping, uid, gid, except)
            .with_context(|| format!("cannot give `{}` to the user of the build", path.display()))
    }

    /// Takes over what detect found out: plain files only.
    ///
    /// # Errors
    /// When a file is missing or cannot be copied.
    pub(crate) fn take_detected(&self) -> anyhow::Result<()> {
        for name in ["group.toml", "plan.toml"] {
            let from = self.detected().join(name);
            let kind = fs_err::symlink_metadata(&from)?.file_type();
            anyhow::ensure!(kind.is_file(), "the detector left no file `{name}`");
            fs_err::copy(&from, self.layers().join(name))?;
        }
        Ok(())
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.take() {
            let path = directory.keep();
            if let Err(error) = remove_tree(&path) {
                tracing::warn!("cannot remove `{}`: {error}", path.display());
            }
        }
    }
}

/// Clears away the directories of builds that were killed, when no build is about to begin.
///
/// # Errors
/// When another process cannot be kept from making one meanwhile.
pub(crate) fn clear_abandoned(parent: &Path) -> anyhow::Result<()> {
    if !parent.is_dir() {
        return Ok(());
    }
    let abandoned = {
        let _lock = lock_parent(parent)?;
        Abandoned::find(parent)
    };
    abandoned.into_iter().for_each(|build| build.clear(None));
    Ok(())
}

/// When the build began that has run for longest of those below `parent`; `None` when none runs.
///
/// # Errors
/// When the directory cannot be read, or builds cannot be kept from beginning meanwhile.
pub(crate) fn oldest_running(parent: &Path) -> anyhow::Result<Option<SystemTime>> {
    if !parent.is_dir() {
        return Ok(None);
    }
    let _lock = lock_parent(parent)?;
    let mut oldest: Option<SystemTime> = None;
    for child in fs_err::read_dir(parent)? {
        // One that ends at this moment is none that runs.
        let Ok(lock) = File::open(child?.path().join(LOCK)) else { continue };
        if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            let begun = lock.metadata()?.modified()?;
            oldest = Some(oldest.map_or(begun, |oldest| oldest.min(begun)));
        }
    }
    Ok(oldest)
}

/// Lets each work directory begin in another part of the disk, where the file system knows that flag (ext4's `T`).
///
/// ext4 without a journal, which small virtual machines have, gives an inode that was just removed to nobody for some
/// minutes. Where a build puts its copy of the app beside the place of the last one, each new file steps over all that this
/// one left: 40,000 files then take ten seconds instead of one. Elsewhere nothing is lost by it.
fn spread(parent: &Path) -> io::Result<()> {
    let directory = File::open(parent)?;
    let flags = ioctl_getflags(&directory)?;
    if !flags.contains(IFlags::TOPDIR) {
        ioctl_setflags(&directory, flags | IFlags::TOPDIR)?;
    }
    Ok(())
}

/// Held while a work directory is made and has no lock yet.
fn lock_parent(parent: &Path) -> anyhow::Result<File> {
    let lock = fs_err::File::create(parent.join(LOCK))?;
    lock.file().lock().with_context(|| format!("cannot lock `{}`", parent.display()))?;
    Ok(lock.into_parts().0)
}

/// The directory of a build that was killed.
struct Abandoned {
    path: PathBuf,
    _lock: File,
}

impl Abandoned {
    /// All of them. Whatever fails here is tried again by the next build.
    fn find(parent: &Path) -> Vec<Self> {
        let Ok(children) = fs_err::read_dir(parent) else { return Vec::new() };
        let builds =
            children.flatten().filter(|child| child.file_name().as_bytes().starts_with(PREFIX.as_bytes()));
        let locked = builds.filter_map(|child| {
            let path = child.path();
            // One that was killed before it made its lock has none.
            let lock = File::options().write(true).create(true).truncate(false).open(path.join(LOCK)).ok()?;
            lock.try_lock().ok()?;
            Some(Self { path, _lock: lock })
        });
        locked.collect()
    }

    /// Gives the cached layers that it took back to their cache, and removes it.
    fn clear(self, cache: Option<&LockedCache>) {
        let layers = self.path.join("layers");
        if let Ok(name) = fs_err::read(self.path.join(CACHE)) {
            let directory = Path::new(OsStr::from_bytes(&name));
            match cache.filter(|cache| cache.directory() == directory) {
                Some(cache) => cache.take_back(&layers),
                None => match LockedCache::open_unused(directory) {
                    Ok(Some(other)) => other.take_back(&layers),
                    // Whoever uses the cache now, or next, comes by here too.
                    Ok(None) if directory.exists() => return,
                    Ok(None) => {}
                    Err(error) => tracing::debug!("cannot open `{}`: {error}", directory.display()),
                },
            }
        }
        tracing::debug!("removing `{}`, which a build that was killed left", self.path.display());
        if let Err(error) = remove_tree(&self.path) {
            tracing::debug!("cannot remove `{}`: {error}", self.path.display());
        }
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    fs_err::write(path, text)?;
    Ok(())
}

/// Lets every user of the sandbox read a tree, whatever the umask of this process.
fn open_up(path: &Path) -> anyhow::Result<()> {
    let metadata = fs_err::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let executable = metadata.is_dir() || metadata.permissions().mode() & 0o111 != 0;
    fs_err::set_permissions(path, Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
    if metadata.is_dir() {
        for child in fs_err::read_dir(path)? {
            open_up(&child?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_directory_goes_with_its_build_and_takes_abandoned_ones_along() {
        let parent = tempfile::tempdir().unwrap();
        let abandoned = parent.path().join("build-old");
        fs_err::create_dir(&abandoned).unwrap();
        fs_err::write(abandoned.join("lock"), "").unwrap();
        let unlocked = parent.path().join("build-killed-at-its-start");
        fs_err::create_dir(&unlocked).unwrap();
        let cache = LockedCache::wait(parent.path().join("cache"), "app").unwrap();
        let first = WorkDirectory::new(parent.path(), &cache).unwrap();
        let second = WorkDirectory::new(parent.path(), &cache).unwrap();
        assert!(!abandoned.exists() && !unlocked.exists());
        assert!(first.layers().is_dir() && second.layers().is_dir());
        let path = first.layers();
        drop(first);
        assert!(!path.exists() && second.layers().is_dir());
    }

    #[test]
    fn the_build_that_runs_for_longest_is_found() {
        let parent = tempfile::tempdir().unwrap();
        let builds = parent.path().join("builds");
        assert_eq!(oldest_running(&builds).unwrap(), None);
        let cache = LockedCache::wait(parent.path().join("cache"), "app").unwrap();
        let works = [1, 2, 3].map(|_| WorkDirectory::new(&builds, &cache).unwrap());
        let hours = |hours: u64| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(hours * 3600);
        for (work, begun) in works.iter().zip([5, 4, 6]) {
            let lock = File::options().write(true).open(work.path.join(LOCK)).unwrap();
            lock.set_modified(hours(begun)).unwrap();
        }
        let abandoned = builds.join("build-abandoned");
        fs_err::create_dir(&abandoned).unwrap();
        fs_err::write(abandoned.join(LOCK), "").unwrap();
        let lock = File::options().write(true).open(abandoned.join(LOCK)).unwrap();
        lock.set_modified(hours(1)).unwrap();
        assert_eq!(oldest_running(&builds).unwrap(), Some(hours(4)));
        drop(works);
        assert_eq!(oldest_running(&builds).unwrap(), None);
    }

    /// A build of a large app took ten seconds more when it began soon after another had ended.
    #[test]
    fn work_directories_are_spread_where_the_file_system_can() {
        const EXT4: u64 = 0xef53;
        let parent = tempfile::tempdir().unwrap();
        let cache = LockedCache::wait(parent.path().join("cache"), "app").unwrap();
        let _work = WorkDirectory::new(parent.path(), &cache).unwrap();
        let directory = File::open(parent.path()).unwrap();
        if rustix::fs::fstatfs(&directory).unwrap().f_type as u64 == EXT4 {
            assert!(ioctl_getflags(&directory).unwrap().contains(IFlags::TOPDIR));
        }
    }

    #[test]
    fn variables_and_order_are_readable_for_the_builds_user() {
        let parent = tempfile::tempdir().unwrap();
        let cache = LockedCache::wait(parent.path().join("cache"), "app").unwrap();
        let work = WorkDirectory::new(parent.path(), &cache).unwrap();
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        work.write_root(&[], Some(&[OrderGroup::default()]), &variables).unwrap();
        let variable = work.root().join("platform/env/A");
        assert_eq!(fs_err::read_to_string(&variable).unwrap(), "1");
        assert_eq!(fs_err::metadata(&variable).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(work.root().join("cnb/order.toml").is_file());
    }
}
