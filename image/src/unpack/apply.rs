//! Unpacks the entries of one layer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmod, chownat, fchmod, fchown, fstat,
    futimens, linkat, makedev, mknodat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::ahead::Ahead;
use super::attributes;
use super::directory::Directory;
use super::error::UnpackError;
use super::header::{Entry, Kind};
use super::name::{self, Place};
use super::policy::{Links, Owner, Policy, SpecialFiles, Whiteouts};
use super::reader::TarReader;
use super::tree::{Found, Tree, found};
use super::whiteout::{self, Whiteout};

type Result<T, E = UnpackError> = std::result::Result<T, E>;

/// The most extended attributes that are kept in memory, in bytes.
const DEFERRED_LIMIT: usize = 64 << 20;
/// Ids beyond this are negative for programs that keep them in an `int` (CVE-2024-40635).
const ID_LIMIT: u64 = i32::MAX as u64;

pub(super) struct Applier<'a> {
    reader: TarReader,
    pub(super) tree: Tree<'a>,
    pub(super) policy: &'a Policy,
    /// What this layer made, when its whiteouts are to leave that alone.
    pub(super) made: BTreeSet<Vec<u8>>,
    /// Directories get their attributes last: writing into them changes their times, and may need more rights. Of two
    /// entries for one directory the last counts.
    directories: BTreeMap<Vec<u8>, Entry>,
    /// The bytes of their extended attributes.
    deferred: usize,
}

impl<'a> Applier<'a> {
    pub(super) fn new(reader: Ahead, root: BorrowedFd<'a>, policy: &'a Policy) -> Self {
        Self {
            reader: TarReader::new(reader, policy.limits),
            tree: Tree::new(root, policy.links),
            policy,
            made: BTreeSet::new(),
            directories: BTreeMap::new(),
            deferred: 0,
        }
    }

    pub(super) fn run(mut self) -> Result<TarReader> {
        while let Some(entry) = self.reader.next()? {
            self.entry(entry)?;
        }
        // Children first: a directory stays open to us until all below it is done.
        for (path, entry) in self.directories.iter().rev() {
            self.finish_directory(path, entry).map_err(failed("set the attributes of", &entry.path))?;
        }
        Ok(self.reader)
    }

    fn entry(&mut self, mut entry: Entry) -> Result<()> {
        attributes::select(&mut entry, self.policy.attributes);
        if entry.uid > ID_LIMIT || entry.gid > ID_LIMIT {
            return Err(refused(&entry.path, "its user or group id is beyond 2147483647"));
        }
        if entry.kind != Kind::Directory && name::is_directory_name(&entry.path) {
            return Err(refused(&entry.path, "only a directory may end with `/` or `.`"));
        }
        let path = match self.place(&entry.path, &entry.path)? {
            Place::Inside(path) => path,
            Place::Above if entry.kind == Kind::Directory => return Ok(()),
            Place::Above => {
                return Err(refused(&entry.path, "it would replace the directory that the layer is for"));
            }
        };
        if path.is_empty() {
            return self.root(entry);
        }
        if self.policy.whiteouts != Whiteouts::Ordinary
            && let Some(whiteout) = whiteout::parse(&path)
        {
            let whiteout = whiteout.map_err(|reason| refused(&entry.path, reason))?;
            return self.whiteout(&whiteout).map_err(failed("apply the whiteout", &entry.path));
        }
        self.make(path, entry)
    }

    /// The directory that is unpacked into.
    fn root(&mut self, entry: Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(refused(&entry.path, "it would replace the root directory"));
        }
        self.defer(Vec::new(), entry)
    }

    /// Keeps the entry of a directory until all below it is done.
    fn defer(&mut self, path: Vec<u8>, entry: Entry) -> Result<()> {
        let sizes = entry.attributes.iter().map(|(name, value)| name.len() + value.len());
        self.deferred += sizes.sum::<usize>();
        if self.deferred > DEFERRED_LIMIT {
            let what = "bytes of extended attributes of directories";
            return Err(UnpackError::TooLarge { what, limit: DEFERRED_LIMIT as u64 });
        }
        self.directories.insert(path, entry);
        Ok(())
    }

    fn place(&self, name: &[u8], of: &[u8]) -> Result<Place> {
        name::place(name, self.policy.prefix.as_deref()).map_err(|reason| refused(of, reason))
    }

    fn make(&mut self, path: Vec<u8>, entry: Entry) -> Result<()> {
        let is_special = matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo);
        match self.policy.special_files {
            SpecialFiles::Skip if is_special => {
                tracing::debug!("left out `{}`, a device or pipe", name::display(&entry.path).display());
                return Ok(());
            }
            SpecialFiles::Refuse if is_special => {
                return Err(refused(&entry.path, "devices and pipes are not accepted here"));
            }
            SpecialFiles::OnlyPipes if is_special && entry.kind != Kind::Fifo => {
                return Err(refused(&entry.path, "devices are not accepted here"));
            }
            _ => {}
        }
        let (parent, name) = name::split(&path);
        let directory = self.tree.directory(parent, true).map_err(|error| match self.policy.links {
            Links::Refuse if is_blocked(&error) => {
                refused(&entry.path, "it is below something that is not a directory")
            }
            _ => failed("open the directory of", &entry.path)(error),
        })?;
        match entry.kind {
            Kind::HardLink => self.hard_link(&directory, name, &path, &entry)?,
            Kind::File => self.file(&directory, name, &entry)?,
            Kind::Directory => {
                self.directory(&directory, name, &path, &entry)
                    .map_err(failed("make the directory", &entry.path))?;
                self.defer(path.clone(), entry)?;
            }
            _ => self.special(&directory, name, &entry)?,
        }
        if self.policy.whiteouts == Whiteouts::Apply {
            self.made.insert(path);
        }
        Ok(())
    }

    /// Calls `create`, and once more without what stands at the name if there is something.
    fn create<T>(
        &mut self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
        create: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T> {
        let created = match create() {
            Err(Errno::EXIST) => {
                self.tree.remove(parent, name).map_err(failed("replace", &entry.path))?;
                create()
            }
            other => other,
        };
        created.map_err(|error| failed("make", &entry.path)(error.into()))
    }

    fn file(&mut self, parent: &Directory, name: &[u8], entry: &Entry) -> Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Not yet the bits that make it run as its owner. Of a file that nobody may write, its owner may not set
        // extended attributes.
        let writable = if entry.attributes.is_empty() { 0 } else { 0o200 };
        let mode = Mode::from_raw_mode(entry.mode & 0o777 | writable);
        let file = self.create(parent, name, entry, || openat(parent, name, flags, mode))?;
        while !self.reader.is_content_read() {
            let written = self.reader.content(|part| write_all(&file, part))?;
            written.map_err(failed("write", &entry.path))?;
        }
        self.finish_file(parent, &file, entry).map_err(failed("set the attributes of", &entry.path))
    }

    /// Sets what a new file does not have by itself.
    fn finish_file(&self, parent: &Directory, file: &OwnedFd, entry: &Entry) -> io::Result<()> {
        let mode = self.mode(entry);
        let fresh = parent.fresh(file, mode & 0o777)?;
        if let Some((uid, gid)) = self.owner(entry)
            && (uid, gid) != (fresh.uid, fresh.gid)
        {
            // Before the mode, because giving a file away clears its set-id bits.
            fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        // After the owner and the content, because both take its capabilities; before the mode, which an access control
        // list changes as well.
        attributes::set(file, entry, self.policy.attributes)?;
        if !fresh.gives(mode) || !entry.attributes.is_empty() {
            fchmod(file, Mode::from_raw_mode(mode))?;
        }
        self.set_times(file, entry)
    }

    fn set_times(&self, file: &OwnedFd, entry: &Entry) -> io::Result<()> {
        if self.policy.times {
            futimens(file, &times(entry))?;
        }
        Ok(())
    }

    fn directory(&mut self, parent: &Directory, name: &[u8], path: &[u8], entry: &Entry) -> io::Result<()> {
        let permissions = entry.mode & 0o777 | 0o700;
        let made = match parent.make(name, permissions) {
            Err(Errno::EXIST) => {
                let existing = found(parent, name)?;
                if existing == Found::Directory {
                    return Ok(());
                }
                self.tree.remove(parent, name)?;
                let made = parent.make(name, permissions)?;
                if let (Found::Whiteout, Whiteouts::Overlay(attribute)) = (existing, self.policy.whiteouts) {
                    whiteout::set_opaque(&made, attribute)?;
                }
                return Ok(());
            }
            made => made?,
        };
        self.tree.keep(path, Rc::new(made));
        Ok(())
    }

    /// A link to something within the root; the last part of its target is not followed either.
    fn hard_link(&mut self, parent: &Directory, name: &[u8], path: &[u8], entry: &Entry) -> Result<()> {
        let Place::Inside(target) = self.place(&entry.link, &entry.path)? else {
            return Err(refused(&entry.path, "it links to a directory"));
        };
        if target == path {
            return Ok(());
        }
        let (target_parent, target_name) = name::split(&target);
        let failed = |error| failed("link", &entry.path)(error);
        let target_directory = self.tree.directory(target_parent, false).map_err(failed)?;
        if target_name.is_empty()
            || found(&target_directory, target_name).map_err(failed)? == Found::Directory
        {
            return Err(refused(&entry.path, "it links to a directory"));
        }
        let link = || linkat(&target_directory, target_name, parent, name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {
                self.tree.remove(parent, name).map_err(failed)?;
                link().map_err(|error| failed(error.into()))
            }
            other => other.map_err(|error| failed(error.into())),
        }
    }

    fn special(&mut self, parent: &Directory, name: &[u8], entry: &Entry) -> Result<()> {
        let mode = Mode::from_raw_mode(self.mode(entry));
        let (file_type, device) = match entry.kind {
            Kind::CharacterDevice => (FileType::CharacterDevice, makedev(entry.device.0, entry.device.1)),
            Kind::BlockDevice => (FileType::BlockDevice, makedev(entry.device.0, entry.device.1)),
            _ => (FileType::Fifo, 0),
        };
        self.create(parent, name, entry, || match entry.kind {
            Kind::Symlink => symlinkat(entry.link.as_slice(), parent, name),
            _ => mknodat(parent, name, file_type, mode, device),
        })?;
        let finished = self.set_attributes_at(parent, name, entry).and_then(|()| match entry.kind {
            Kind::Symlink => Ok(()),
            _ => set_mode_of_special(parent, name, file_type, mode),
        });
        finished.map_err(failed("set the attributes of", &entry.path))
    }

    const fn mode(&self, entry: &Entry) -> u32 {
        if self.policy.set_id { entry.mode } else { entry.mode & 0o1777 }
    }

    fn owner(&self, entry: &Entry) -> Option<(u32, u32)> {
        match self.policy.owner {
            Owner::Keep => Some((entry.uid as u32, entry.gid as u32)),
            Owner::Ignore => None,
            Owner::Given { uid, gid } => Some((uid, gid)),
        }
    }

    /// Owner before mode, because giving a directory away may clear its set-id bits.
    /// Extended ones between: an access control list changes the mode as well.
    fn set_attributes(&self, directory: &OwnedFd, entry: &Entry) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner(entry) {
            fchown(directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        attributes::set(directory, entry, self.policy.attributes)?;
        fchmod(directory, Mode::from_raw_mode(self.mode(entry)))?;
        self.set_times(directory, entry)
    }

    /// For what cannot be opened: links and special files, which have been made by mode already.
    fn set_attributes_at(&self, parent: &Directory, name: &[u8], entry: &Entry) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner(entry)
            && parent.fresh_owner() != Some((uid, gid))
        {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if self.policy.times {
            utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn finish_directory(&self, path: &[u8], entry: &Entry) -> io::Result<()> {
        match self.tree.open_real(path) {
            Ok(directory) => self.set_attributes(&directory, entry),
            // A later entry took its place.
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn whiteout(&mut self, whiteout: &Whiteout<'_>) -> io::Result<()> {
        match self.policy.whiteouts {
            Whiteouts::Apply => self.apply_whiteout(whiteout),
            Whiteouts::Overlay(attribute) => self.convert_whiteout(whiteout, attribute),
            Whiteouts::Ordinary => Ok(()),
        }
    }
}

/// What the umask took of the mode of a device or pipe, which must not be opened for that.
fn set_mode_of_special(parent: impl AsFd, name: &[u8], file_type: FileType, mode: Mode) -> io::Result<()> {
    let opened = openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&opened)?;
    if FileType::from_raw_mode(stat.st_mode) != file_type || Mode::from_raw_mode(stat.st_mode) == mode {
        return Ok(());
    }
    // The kernel's name of the descriptor: whatever stands at the file's own name by now is not touched.
    Ok(chmod(format!("/proc/self/fd/{}", opened.as_raw_fd()), mode)?)
}

fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| gone.contains(&code))
}

/// Whether there is something else than a directory on the way.
fn is_blocked(error: &io::Error) -> bool {
    let blocked = [Errno::NOTDIR, Errno::LOOP].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| blocked.contains(&code))
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.modified.0, tv_nsec: entry.modified.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn write_all(file: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn refused(path: &[u8], reason: &'static str) -> UnpackError {
    UnpackError::Refused { path: name::display(path), reason }
}

fn failed<'a>(action: &'static str, path: &'a [u8]) -> impl Fn(io::Error) -> UnpackError + 'a {
    move |source| match source.raw_os_error() {
        Some(code) if code == Errno::NOSYS.raw_os_error() => UnpackError::NoOpenat2(source),
        _ => UnpackError::Write { action, path: name::display(path), source },
    }
}

/// Opens a directory to unpack into.
pub(super) fn open_root(root: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty()).map_err(|error| UnpackError::Write {
        action: "open the directory to unpack into,",
        path: root.to_owned(),
        source: error.into(),
    })
}
