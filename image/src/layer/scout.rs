//! Directories that are read before their turn, so that their names and inodes are in memory when it comes.
//!
//! A walk goes into one directory after the other, and on a cold cache it waits for the disk at each. One that took long to
//! read was not in the cache, and those in it are not either: scouts read these, and what is in these, before the walk comes
//! there, and keep the names for it. On a warm cache no scout ever starts.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::folder::{self, Listing, Name};
use super::stat::Stat;

/// Longer than the kernel takes to read a directory from its cache, and shorter than a disk takes: of all, and of each name.
const SLOW: Duration = Duration::from_micros(20);
const SLOW_NAME: Duration = Duration::from_nanos(250);
/// How many directories are read at once, beside the one that the walk reads. Each waits its turn among the files that are
/// read at the same time, so the walk would catch up with fewer.
const SCOUTS: usize = 8;
/// How many directories wait to be read. Others are left to the walk.
const MOST_WAITING: usize = 64 << 10;
/// How many names are kept for the walk, some megabytes of them. It reads others once more.
const MOST_NAMES: usize = 64 << 10;

/// Whether a directory of so many names was not in the cache when its reading began.
fn is_slow(began: Instant, names: usize) -> bool {
    let in_cache = SLOW + SLOW_NAME * u32::try_from(names).unwrap_or(u32::MAX);
    began.elapsed() >= in_cache
}

/// When the walk comes to a directory: before all that are greater.
///
/// It is the path with NUL, which no name has, for each slash: so the bytes are in the order of paths, and comparing them takes
/// a fraction of what comparing paths by their names does.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn(Vec<u8>);

impl Turn {
    fn of(path: &Path) -> Self {
        let bytes = path.as_os_str().as_bytes().iter();
        Self(bytes.map(|byte| if *byte == b'/' { 0 } else { *byte }).collect())
    }
}

/// What scouts share with the walk.
#[derive(Default)]
pub(super) struct Scouts {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Directories to be read.
    waiting: BTreeMap<Turn, PathBuf>,
    /// Those that were read, and how many names they have together.
    listings: BTreeMap<Turn, Listing>,
    names: usize,
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

    /// The names in the directory `path`, to which the walk has come, if they were read and it is still what it was before.
    pub(super) fn names(&self, path: &Path, stat: &Stat) -> Option<Vec<Name>> {
        let mut state = self.locked();
        if !state.started {
            return None;
        }
        let turn = Turn::of(path);
        state.waiting.remove(&turn);
        // Those before it were read when the walk had come there already.
        while let Some(first) = state.listings.first_entry()
            && *first.key() <= turn
        {
            let (listed, listing) = first.remove_entry();
            state.names -= listing.names.len();
            if listed == turn {
                return (listing.stat == *stat).then_some(listing.names);
            }
        }
        None
    }

    /// Tells that the walk has read the directory `path`, beginning at `began`, and found `names` in it.
    pub(super) fn note<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        began: Instant,
        path: &Path,
        names: &[Name],
    ) {
        if !is_slow(began, names.len()) || !self.send(path, names) {
            return;
        }
        let mut state = self.locked();
        if !std::mem::replace(&mut state.started, true) {
            for _ in 0..SCOUTS {
                scope.spawn(|| self.scout());
            }
        }
    }

    /// Has the directories in `path` read that are among `names`; whether there are any.
    fn send(&self, path: &Path, names: &[Name]) -> bool {
        let directories = names.iter().filter(|name| name.is_directory);
        let paths = directories.map(|directory| folder::within(path, &directory.name));
        let turns: Vec<_> = paths.map(|path| (Turn::of(&path), path)).collect();
        let any = !turns.is_empty();
        let mut state = self.locked();
        if any && state.waiting.len() < MOST_WAITING {
            state.waiting.extend(turns);
            self.changed.notify_all();
        }
        any
    }

    fn scout(&self) {
        let mut buffer = Vec::with_capacity(folder::NAMES);
        while let Some((turn, path)) = self.next() {
            let began = Instant::now();
            // What is wrong with it is reported when the walk comes there.
            let Ok(listing) = folder::list(&path, &mut buffer) else { continue };
            if is_slow(began, listing.names.len()) {
                self.send(&path, &listing.names);
            }
            self.keep(turn, listing);
        }
    }

    fn keep(&self, turn: Turn, listing: Listing) {
        let mut state = self.locked();
        if state.names + listing.names.len() <= MOST_NAMES {
            state.names += listing.names.len();
            state.listings.insert(turn, listing);
        }
    }

    /// The next directory to read. Waits for one; `None` when the walk has ended.
    fn next(&self) -> Option<(Turn, PathBuf)> {
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.has_ended;
        let state = self.changed.wait_while(self.locked(), is_idle);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.has_ended { None } else { state.waiting.pop_first() }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::fs::{AtFlags, CWD, StatxFlags};

    use super::*;

    fn names(names: &[(&str, bool)]) -> Vec<Name> {
        let name =
            |(name, is_directory): &(&str, bool)| Name { name: (*name).into(), is_directory: *is_directory };
        names.iter().map(name).collect()
    }

    fn send(scouts: &Scouts, path: &str, found: &[&str]) -> bool {
        let found: Vec<_> = found.iter().map(|name| (*name, true)).collect();
        scouts.send(Path::new(path), &names(&found))
    }

    fn next(scouts: &Scouts) -> Option<PathBuf> {
        scouts.next().map(|(_, path)| path)
    }

    proptest! {
        /// Bytes that sort before and after slashes among them.
        #[test]
        fn turns_are_in_the_order_of_paths(a in "(/[.!0a]?[!0ab]{1,2}){0,4}", b in "(/[.!0a]?[!0ab]{1,2}){0,4}") {
            let (a, b) = (PathBuf::from(a), PathBuf::from(b));
            prop_assert_eq!(Turn::of(&a).cmp(&Turn::of(&b)), a.cmp(&b));
        }
    }

    #[test]
    fn directories_are_read_in_the_order_of_the_walk() {
        let scouts = Scouts::default();
        assert!(!send(&scouts, "/w", &[]));
        assert!(send(&scouts, "/w", &["a", "a.b", "c"]));
        assert_eq!(next(&scouts), Some("/w/a".into()));
        assert!(send(&scouts, "/w/a", &["x"]));
        assert_eq!(next(&scouts), Some("/w/a/x".into()));
        assert_eq!(next(&scouts), Some("/w/a.b".into()));
        assert_eq!(next(&scouts), Some("/w/c".into()));
        assert!(send(&scouts, "/w/c", &["y"]));
        drop(scouts.ends());
        assert_eq!(next(&scouts), None, "what the walk is done with is not read any more");
    }

    /// A directory that was written to after it was listed is read once more.
    #[test]
    fn the_walk_gets_the_names_of_what_has_not_changed() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("d");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("file"), "").unwrap();
        let stat = || {
            let stat = rustix::fs::statx(CWD, &path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
            Stat::of_statx(&stat.unwrap())
        };
        let scouts = Scouts::default();
        let list = || {
            scouts
                .keep(Turn::of(&path), folder::list(&path, &mut Vec::with_capacity(folder::NAMES)).unwrap());
        };
        let found = names(&[("file", false)]);
        list();
        assert_eq!(scouts.names(&path, &stat()), None, "none has started");
        scouts.locked().started = true;
        assert_eq!(scouts.names(&path, &stat()), Some(found));
        assert_eq!(scouts.names(&path, &stat()), None);
        list();
        std::fs::create_dir(path.join("directory")).unwrap();
        assert_eq!(scouts.names(&path, &stat()), None);
        list();
        assert_eq!(scouts.names(&root.path().join("e"), &stat()), None, "the walk is behind it");
        assert!(scouts.locked().names == 0 && scouts.locked().listings.is_empty());
        assert!(send(&scouts, root.path().to_str().unwrap(), &["d"]));
        assert_eq!(scouts.names(&path, &stat()), None);
        assert!(scouts.locked().waiting.is_empty(), "the walk reads it");
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
