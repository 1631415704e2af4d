//! Directories that are read before their turn, so that their names and inodes are in the kernel's cache when it comes.
//!
//! A walk goes into one directory after the other, and on a cold cache it waits for the disk at each. One that took long to
//! read was not in the cache, and those in it are not either: scouts read these, and what is in these, before the walk comes
//! there. On a warm cache no scout ever starts.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::folder::{self, Name};

/// Longer than the kernel takes to read a directory from its cache, and shorter than a disk takes: of all, and of each name.
const SLOW: Duration = Duration::from_micros(20);
const SLOW_NAME: Duration = Duration::from_nanos(250);
/// How many directories are read at once, beside the one that the walk reads. Each waits its turn among the files that are
/// read at the same time, so the walk would catch up with fewer.
const SCOUTS: usize = 8;
/// How many directories wait to be read. Others are left to the walk.
const MOST_WAITING: usize = 64 << 10;

/// Whether a directory of so many names was not in the cache when its reading began.
fn is_slow(began: Instant, names: usize) -> bool {
    let in_cache = SLOW + SLOW_NAME * u32::try_from(names).unwrap_or(u32::MAX);
    began.elapsed() >= in_cache
}

/// What scouts share with the walk.
#[derive(Default)]
pub(super) struct Scouts {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Directories to be read; the last one comes first in the walk.
    waiting: Vec<PathBuf>,
    started: bool,
    has_ended: bool,
}

/// Scouts go home when the walk has ended, however it does.
pub(super) struct Ends<'a>(&'a Scouts);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.locked().has_ended = true;
        self.0.changed.notify_all();
    }
}

impl Scouts {
    pub(super) const fn ends(&self) -> Ends<'_> {
        Ends(self)
    }

    /// Tells that the walk has read the directory `path`, beginning at `began`, and found `names` in it.
    pub(super) fn note<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        began: Instant,
        path: &Path,
        names: &[Name],
    ) {
        if !is_slow(began, names.len()) {
            return;
        }
        let directories = names.iter().filter(|name| name.is_directory);
        if !self.send(path, directories.map(|directory| directory.name.as_os_str())) {
            return;
        }
        let mut state = self.locked();
        if !std::mem::replace(&mut state.started, true) {
            for _ in 0..SCOUTS {
                scope.spawn(|| self.scout());
            }
        }
    }

    /// Has the directories in `path` read that are named so, in the order of the walk; whether there are any.
    fn send<'a>(&self, path: &Path, names: impl DoubleEndedIterator<Item = &'a OsStr>) -> bool {
        let paths: Vec<PathBuf> = names.rev().map(|name| path.join(name)).collect();
        let any = !paths.is_empty();
        let mut state = self.locked();
        if any && state.waiting.len() < MOST_WAITING {
            state.waiting.extend(paths);
            self.changed.notify_all();
        }
        any
    }

    fn scout(&self) {
        let mut buffer = Vec::with_capacity(folder::NAMES);
        while let Some(path) = self.next() {
            let began = Instant::now();
            // What is wrong with it is reported when the walk comes there.
            let Ok((count, directories)) = folder::directories(&path, &mut buffer) else { continue };
            if is_slow(began, count) {
                self.send(&path, directories.iter().map(OsString::as_os_str));
            }
        }
    }

    /// The next directory to read. Waits for one; `None` when the walk has ended.
    fn next(&self) -> Option<PathBuf> {
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.has_ended;
        let state = self.changed.wait_while(self.locked(), is_idle);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.has_ended { None } else { state.waiting.pop() }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[(&str, bool)]) -> Vec<Name> {
        let name =
            |(name, is_directory): &(&str, bool)| Name { name: (*name).into(), is_directory: *is_directory };
        names.iter().map(name).collect()
    }

    fn send(scouts: &Scouts, path: &str, names: &[&str]) -> bool {
        scouts.send(Path::new(path), names.iter().map(OsStr::new))
    }

    #[test]
    fn directories_are_read_in_the_order_of_the_walk() {
        let scouts = Scouts::default();
        assert!(!send(&scouts, "/w", &[]));
        assert!(send(&scouts, "/w", &["a", "c"]));
        assert_eq!(scouts.next(), Some("/w/a".into()));
        assert!(send(&scouts, "/w/a", &["x"]));
        assert_eq!(scouts.next(), Some("/w/a/x".into()));
        assert_eq!(scouts.next(), Some("/w/c".into()));
        assert!(send(&scouts, "/w/c", &["y"]));
        drop(scouts.ends());
        assert_eq!(scouts.next(), None, "what the walk is done with is not read any more");
    }

    #[test]
    fn only_a_directory_that_took_long_sends_scouts() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let soon = Instant::now().checked_add(Duration::from_secs(60)).unwrap();
        for (began, found, expected) in [
            (long_ago, [("a", true), ("b", false)], true),
            (long_ago, [("a", false), ("b", false)], false),
            (soon, [("a", true), ("b", true)], false),
        ] {
            let scouts = Scouts::default();
            std::thread::scope(|scope| {
                let _ends = scouts.ends();
                // None of these exists: that is for the walk to find out.
                scouts.note(scope, began, Path::new("/nowhere"), &names(&found));
                assert_eq!(scouts.locked().started, expected, "{found:?}");
            });
        }
    }
}
