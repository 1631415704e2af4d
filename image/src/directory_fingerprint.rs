//! Whether a directory is still what it was, told by what the kernel says of its files and not by their content.
//!
//! A [`DirectoryFingerprint`] covers name, type, permissions, owners, size, times of modification and change, inode and
//! link target of everything in a directory. Nobody can set the time of change, so what is written to a file shows in it,
//! whatever was done to the other values. For the directory itself it is left out: renaming a directory changes it.
//!
//! Device numbers are left out too, because they may differ after the next start of the machine.
//!
//! The fingerprint of a layer ([`crate::stat_index::Fingerprint`]) is another: of what goes into a tar, as it is read, with
//! the names and owners that it has there and the devices, and once more without what a copy changes.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Sha256;
use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, open, openat, readlinkat, statat};
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::moment::{Moment, Youngest};

/// What the files of a directory are by their attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryFingerprint {
    /// The digest of the attributes.
    pub digest: Digest,
    /// How many files, links and directories there are, the directory itself included.
    pub entries: u64,
    /// The size of all regular files in bytes.
    pub bytes: u64,
    /// The user and group that everything belongs to, when they are the same everywhere.
    pub owner: Option<(u32, u32)>,
    /// Whether nothing changed so shortly before the fingerprint was taken that a change just after it could have the same
    /// times. What is not settled cannot be recognised by attributes.
    pub settled: bool,
}

impl DirectoryFingerprint {
    /// The fingerprint of a directory. Links are not followed, also not at `path` itself.
    ///
    /// # Errors
    /// When the directory is none, or something in it cannot be read.
    pub fn of_directory(path: &Path) -> io::Result<Self> {
        let root = open(path, OPEN_DIRECTORY, Mode::empty())?;
        let taken = now();
        let stat = rustix::fs::fstat(&root)?;
        let mut sums = Sums::NONE;
        // Its own times prove nothing that its names, owner and mode do not, and renaming it changes them.
        sums.add(&Sums { youngest: Youngest::NONE, ..Sums::of(&stat) });
        let mut hasher = Sha256::new();
        hash(&mut hasher, b"", &stat, false);
        // One level after the other, so that no more directories are open at a time than there are threads.
        let mut level = vec![Vec::from(b".")];
        while !level.is_empty() {
            let read: Vec<Listed> =
                level.par_iter().map(|name| Listed::read(&root, name)).collect::<io::Result<_>>()?;
            level.clear();
            for directory in read {
                hasher.update(directory.digest);
                sums.add(&directory.sums);
                level.extend(directory.directories);
            }
        }
        Ok(Self {
            digest: Digest::from_hasher(hasher),
            entries: sums.entries,
            bytes: sums.bytes,
            owner: sums.owner,
            settled: !sums.youngest.may_be_newer(taken),
        })
    }
}

fn now() -> Moment {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment::try_from(clock.as_nanos()).unwrap_or(Moment::MAX)
}

const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The sums over some entries.
#[derive(Clone, Copy)]
struct Sums {
    entries: u64,
    bytes: u64,
    owner: Option<(u32, u32)>,
    /// By their times of change.
    youngest: Youngest,
}

impl Sums {
    const NONE: Self = Self { entries: 0, bytes: 0, owner: None, youngest: Youngest::NONE };

    fn of(stat: &Stat) -> Self {
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Self {
            entries: 1,
            bytes: if is_file { stat.st_size as u64 } else { 0 },
            owner: Some((stat.st_uid, stat.st_gid)),
            youngest: Youngest::changed((stat.st_ctime, stat.st_ctime_nsec as i64)),
        }
    }

    fn add(&mut self, other: &Self) {
        if self.entries == 0 {
            *self = *other;
        } else if other.entries > 0 {
            self.entries += other.entries;
            self.bytes += other.bytes;
            self.owner = self.owner.filter(|owner| other.owner == Some(*owner));
            self.youngest = self.youngest.and(other.youngest);
        }
    }
}

/// One directory: the digest and the sums of its children, and which of them are directories, by their paths.
struct Listed {
    digest: [u8; 32],
    sums: Sums,
    directories: Vec<Vec<u8>>,
}

impl Listed {
    fn read(root: &OwnedFd, path: &[u8]) -> io::Result<Self> {
        let directory = openat(root, path, OPEN_DIRECTORY, Mode::empty())?;
        let mut names: Vec<CString> = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        let mut hasher = Sha256::new();
        hasher.update((names.len() as u64).to_le_bytes());
        let (mut sums, mut directories) = (Sums::NONE, Vec::new());
        for name in &names {
            let stat = statat(&directory, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
            sums.add(&Sums::of(&stat));
            hash(&mut hasher, name.to_bytes(), &stat, true);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => directories.push([path, b"/", name.to_bytes()].concat()),
                FileType::Symlink => {
                    let target = readlinkat(&directory, name.as_c_str(), Vec::new())?;
                    hasher.update((target.to_bytes().len() as u64).to_le_bytes());
                    hasher.update(target.to_bytes());
                }
                _ => {}
            }
        }
        Ok(Self { digest: hasher.finish(), sums, directories })
    }
}

/// Every field has a fixed width or its length before it, so that no two entries give the same bytes.
fn hash(hasher: &mut Sha256, name: &[u8], stat: &Stat, with_change: bool) {
    hasher.update((name.len() as u64).to_le_bytes());
    hasher.update(name);
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    // The size of a directory is the file system's own affair.
    let size = if is_directory { 0 } else { stat.st_size as u64 };
    let changed = if with_change { (stat.st_ctime as u64, stat.st_ctime_nsec) } else { (0, 0) };
    for value in [
        u64::from(stat.st_mode),
        u64::from(stat.st_uid) << 32 | u64::from(stat.st_gid),
        size,
        stat.st_rdev,
        stat.st_mtime as u64,
        stat.st_mtime_nsec,
        changed.0,
        changed.1,
        stat.st_ino,
    ] {
        hasher.update(value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("tree/a/b")).unwrap();
        fs::write(root.path().join("tree/a/b/file"), "content").unwrap();
        fs::write(root.path().join("tree/z"), "").unwrap();
        symlink("a", root.path().join("tree/link")).unwrap();
        root
    }

    #[test]
    fn a_rename_does_not_count_and_sums_are_right() {
        let root = tree();
        let before = DirectoryFingerprint::of_directory(&root.path().join("tree")).unwrap();
        fs::rename(root.path().join("tree"), root.path().join("moved")).unwrap();
        let after = DirectoryFingerprint::of_directory(&root.path().join("moved")).unwrap();
        assert_eq!(after.digest, before.digest);
        let metadata = root.path().metadata().unwrap();
        assert_eq!((after.entries, after.bytes), (6, 7));
        assert_eq!(after.owner, Some((metadata.uid(), metadata.gid())));
    }

    /// Row 44 of the fault table: content of the same size, with the old time of modification put back.
    #[test]
    fn row_44_every_change_shows() {
        type Change = fn(&Path);
        let changes: &[(&str, Change)] = &[
            ("content, with size and times kept", |root| {
                let path = root.join("a/b/file");
                let modified = path.metadata().unwrap().modified().unwrap();
                fs::write(&path, "CONTENT").unwrap();
                let file = File::options().write(true).open(&path).unwrap();
                file.set_times(FileTimes::new().set_modified(modified)).unwrap();
            }),
            ("size", |root| fs::write(root.join("z"), "1").unwrap()),
            ("permissions", |root| {
                fs::set_permissions(root.join("a/b"), Permissions::from_mode(0o700)).unwrap();
            }),
            ("the directory's own permissions", |root| {
                fs::set_permissions(root, Permissions::from_mode(0o711)).unwrap();
            }),
            ("a name", |root| fs::rename(root.join("z"), root.join("y")).unwrap()),
            ("a new file", |root| fs::write(root.join("a/new"), "").unwrap()),
            ("a file less", |root| fs::remove_file(root.join("z")).unwrap()),
            ("a link's target", |root| {
                fs::remove_file(root.join("link")).unwrap();
                symlink("b", root.join("link")).unwrap();
            }),
            ("the type", |root| {
                fs::remove_file(root.join("z")).unwrap();
                fs::create_dir(root.join("z")).unwrap();
            }),
            ("a copy in the place of the original", |root| {
                fs::copy(root.join("a/b/file"), root.join("copy")).unwrap();
                fs::rename(root.join("copy"), root.join("a/b/file")).unwrap();
            }),
        ];
        for (name, change) in changes {
            let root = tree();
            let path = root.path().join("tree");
            let before = DirectoryFingerprint::of_directory(&path).unwrap();
            wait_for_the_next_tick(root.path());
            change(&path);
            let after = DirectoryFingerprint::of_directory(&path).unwrap();
            assert_ne!(after.digest, before.digest, "{name}");
        }
    }

    /// What is racy is said to be, and after a tick is not any more.
    #[test]
    fn what_changed_just_now_is_not_settled() {
        let root = tree();
        let path = root.path().join("tree");
        fs::write(path.join("z"), "just now").unwrap();
        assert!(!DirectoryFingerprint::of_directory(&path).unwrap().settled);
        let old = path.join("z").metadata().unwrap().ctime_nsec();
        while DirectoryFingerprint::of_directory(&path).is_ok_and(|fingerprint| !fingerprint.settled) {}
        assert_eq!(path.join("z").metadata().unwrap().ctime_nsec(), old);
    }

    /// A cached layer that was moved in and out of the cache within a tick was read as a whole by the next build.
    #[test]
    fn a_directory_that_was_renamed_just_now_is_settled() {
        let root = tree();
        let (path, other) = (root.path().join("tree"), root.path().join("other"));
        while DirectoryFingerprint::of_directory(&path).is_ok_and(|fingerprint| !fingerprint.settled) {}
        let before = DirectoryFingerprint::of_directory(&path).unwrap();
        fs::rename(&path, &other).unwrap();
        assert_eq!(DirectoryFingerprint::of_directory(&other).unwrap(), before);
    }

    #[test]
    fn a_link_or_a_file_is_no_directory() {
        let root = tree();
        assert!(DirectoryFingerprint::of_directory(&root.path().join("tree/link")).is_err());
        assert!(DirectoryFingerprint::of_directory(&root.path().join("tree/z")).is_err());
        assert!(DirectoryFingerprint::of_directory(&root.path().join("missing")).is_err());
    }

    /// Writes until the file system's clock has gone on.
    fn wait_for_the_next_tick(root: &Path) {
        let probe = root.join("probe");
        fs::write(&probe, "").unwrap();
        let time = |path: &Path| {
            let metadata = path.metadata().unwrap();
            (metadata.ctime(), metadata.ctime_nsec())
        };
        let first = time(&probe);
        while time(&probe) == first {
            fs::write(&probe, "").unwrap();
        }
    }
}
