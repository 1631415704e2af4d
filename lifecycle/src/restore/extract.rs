//! Extracts the layer of one directory, and nothing outside of it.
//!
//! A cache is not trusted: every entry must be the directory that is restored, one of its parents, or below it, and no
//! entry is written through a symbolic link. Directories on the way are opened one component at a time without following
//! links, so the kernel enforces this, not a comparison of paths.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use longshore_image::DiffId;
use longshore_image::Sha256;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use tar::EntryType;

use crate::directory::{MappedDirectory, Owner};

/// Why a layer could not be extracted.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The layer cannot be read, or is not a tar.
    #[error("the layer cannot be read")]
    Read(#[source] io::Error),
    /// The layer does not have the DiffID under which it is known.
    #[error("the layer is corrupt: its DiffID is {found}")]
    Digest {
        /// The DiffID of what was read.
        found: DiffId,
    },
    /// The layer has an entry that does not belong into it.
    #[error("the layer has the entry `{entry}`, which {reason}")]
    Entry {
        /// The entry's name.
        entry: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file or directory could not be written.
    #[error("cannot write `{path}`")]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ExtractError {
    /// Whether the layer is at fault, rather than the place it is extracted to.
    pub(crate) fn is_corrupt(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }
}

/// Extracts an uncompressed layer tar into `directory`, which must exist and be empty, and checks its DiffID.
///
/// # Errors
/// When the layer is corrupt or the directory cannot be written; what was extracted by then is still there.
pub(crate) fn extract(
    layer: impl Read,
    diff_id: DiffId,
    directory: &MappedDirectory,
    owner: Option<Owner>,
) -> Result<(), ExtractError> {
    let mut reader = HashingReader { inner: layer, hasher: Sha256::new() };
    let mut extractor = Extractor::open(directory, owner)?;
    let mut archive = tar::Archive::new(&mut reader);
    for entry in archive.entries().map_err(ExtractError::Read)? {
        extractor.entry(entry.map_err(ExtractError::Read)?)?;
    }
    // What follows the end mark belongs to the DiffID too.
    io::copy(&mut reader, &mut io::sink()).map_err(ExtractError::Read)?;
    let found = DiffId::from_hasher(reader.hasher);
    if found != diff_id {
        return Err(ExtractError::Digest { found });
    }
    extractor.finish()
}

struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

struct Extractor<'a> {
    directory: &'a MappedDirectory,
    owner: Option<Owner>,
    root: OwnedFd,
    /// The directory that was used last, as components and open directories: entries come sorted.
    open: Vec<(OsString, OwnedFd)>,
    /// Permissions of directories, set at the end because they may forbid writing.
    modes: Vec<(Vec<OsString>, Mode)>,
}

const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl<'a> Extractor<'a> {
    fn open(directory: &'a MappedDirectory, owner: Option<Owner>) -> Result<Self, ExtractError> {
        let root = rustix::fs::open(&directory.host, OPEN_DIRECTORY, Mode::empty())
            .map_err(|errno| ExtractError::Write { path: directory.host.clone(), source: errno.into() })?;
        Ok(Self { directory, owner, root, open: Vec::new(), modes: Vec::new() })
    }

    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), ExtractError> {
        let path = PathBuf::from(OsString::from_vec(entry.path_bytes().into_owned()));
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let Some(components) = self.components(&path)? else { return Ok(()) };
        let mode = Mode::from_raw_mode(entry.header().mode().map_err(ExtractError::Read)? & 0o7777);
        let Some((name, parents)) = components.split_last() else {
            return self.root_directory(path, kind, mode);
        };
        let invalid = |reason| ExtractError::Entry { entry: path.clone(), reason };
        let write = |errno: Errno| ExtractError::Write {
            path: self_path(self.directory, &components),
            source: errno.into(),
        };
        self.enter(parents, &path)?;
        let parent = self.open.last().map_or(&self.root, |(_, directory)| directory);
        match kind {
            EntryType::Directory => {
                match rustix::fs::mkdirat(parent, name.as_os_str(), Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(write(errno)),
                }
                self.modes.push((components, mode));
                return Ok(());
            }
            EntryType::Regular | EntryType::Continuous => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, name.as_os_str(), flags, Mode::RUSR | Mode::WUSR);
                let mut file = File::from(file.map_err(write)?);
                copy(&mut entry, &mut file, &self_path(self.directory, &components))?;
                if let Some(owner) = self.owner {
                    rustix::fs::fchown(&file, Some(uid(owner)), Some(gid(owner))).map_err(write)?;
                }
                return rustix::fs::fchmod(&file, mode).map_err(write);
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or_else(|| invalid("is a link without a target"))?;
                let target = OsString::from_vec(target.into_owned());
                rustix::fs::symlinkat(&target, parent, name.as_os_str()).map_err(write)?;
            }
            EntryType::Fifo => {
                rustix::fs::mknodat(parent, name.as_os_str(), FileType::Fifo, mode, 0).map_err(write)?;
            }
            _ => return Err(invalid("is neither a file, a directory, a symbolic link nor a named pipe")),
        }
        self.owner.map_or(Ok(()), |owner| {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(parent, name.as_os_str(), Some(uid(owner)), Some(gid(owner)), flags)
                .map_err(write)
        })
    }

    fn root_directory(&mut self, path: PathBuf, kind: EntryType, mode: Mode) -> Result<(), ExtractError> {
        if kind != EntryType::Directory {
            return Err(ExtractError::Entry { entry: path, reason: "is not a directory" });
        }
        self.modes.push((Vec::new(), mode));
        Ok(())
    }

    /// The components of an entry below the directory; `None` for one of its parents.
    fn components(&self, path: &Path) -> Result<Option<Vec<OsString>>, ExtractError> {
        let outside = |reason| ExtractError::Entry { entry: path.to_owned(), reason };
        // Names are absolute in the reference's layers; other tools leave the slash out.
        let absolute = Path::new("/").join(path);
        if absolute.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(outside("has `..` in its name"));
        }
        if let Ok(relative) = absolute.strip_prefix(&self.directory.name) {
            return Ok(Some(relative.components().map(|part| part.as_os_str().to_owned()).collect()));
        }
        if self.directory.name.starts_with(&absolute) {
            return Ok(None);
        }
        Err(outside("is outside of the directory that is restored"))
    }

    /// Makes `parents` the directory that was used last, creating what is missing.
    fn enter(&mut self, parents: &[OsString], entry: &Path) -> Result<(), ExtractError> {
        let common = self.open.iter().zip(parents).take_while(|((open, _), wanted)| open == *wanted).count();
        self.open.truncate(common);
        for name in &parents[common..] {
            let parent = self.open.last().map_or(&self.root, |(_, directory)| directory);
            let directory = open_or_create(parent.as_fd(), name).map_err(|errno| match errno {
                Errno::LOOP | Errno::NOTDIR => ExtractError::Entry {
                    entry: entry.to_owned(),
                    reason: "is below something that is not a directory",
                },
                errno => ExtractError::Write { path: self.directory.host.join(name), source: errno.into() },
            })?;
            self.open.push((name.clone(), directory));
        }
        Ok(())
    }

    /// Gives the directories their permissions, the innermost first.
    fn finish(mut self) -> Result<(), ExtractError> {
        for (components, mode) in std::mem::take(&mut self.modes).into_iter().rev() {
            let path = self_path(self.directory, &components);
            self.enter(&components, &path)?;
            let directory = self.open.last().map_or(&self.root, |(_, directory)| directory);
            let set = || {
                if let Some(owner) = self.owner {
                    rustix::fs::fchown(directory, Some(uid(owner)), Some(gid(owner)))?;
                }
                rustix::fs::fchmod(directory, mode)
            };
            set().map_err(|errno| ExtractError::Write { path, source: errno.into() })?;
        }
        Ok(())
    }
}

fn open_or_create(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(parent.as_fd(), name, OPEN_DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(parent.as_fd(), name, Mode::from_raw_mode(0o755))?;
            rustix::fs::openat(parent, name, OPEN_DIRECTORY, Mode::empty())
        }
        result => result,
    }
}

fn copy(entry: &mut impl Read, file: &mut File, path: &Path) -> Result<(), ExtractError> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = entry.read(&mut buffer).map_err(ExtractError::Read)?;
        if count == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..count])
            .map_err(|source| ExtractError::Write { path: path.to_owned(), source })?;
    }
}

fn self_path(directory: &MappedDirectory, components: &[OsString]) -> PathBuf {
    components.iter().fold(directory.host.clone(), |path, component| path.join(component))
}

fn uid(owner: Owner) -> Uid {
    Uid::from_raw(owner.uid)
}

fn gid(owner: Owner) -> Gid {
    Gid::from_raw(owner.gid)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tar(entries: &[(&str, EntryType, &str, u32)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content, mode) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            let mut size = 0;
            if *kind == EntryType::Regular {
                size = content.len();
            } else if !content.is_empty() {
                header.as_ustar_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(size as u64);
            header.set_cksum();
            builder.append(&header, &content.as_bytes()[..size]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn run(entries: &[(&str, EntryType, &str, u32)]) -> (tempfile::TempDir, Result<(), ExtractError>) {
        let root = tempfile::tempdir().unwrap();
        let host = root.path().join("layer");
        std::fs::create_dir(&host).unwrap();
        let bytes = tar(entries);
        let directory = MappedDirectory { host, name: PathBuf::from("/layers/bp/x") };
        let result = extract(&bytes[..], DiffId::of(&bytes), &directory, None);
        (root, result)
    }

    #[test]
    fn files_links_and_modes_are_restored() {
        let (root, result) = run(&[
            ("/layers", EntryType::Directory, "", 0o755),
            ("/layers/bp", EntryType::Directory, "", 0o700),
            ("/layers/bp/x", EntryType::Directory, "", 0o750),
            ("/layers/bp/x/d", EntryType::Directory, "", 0o555),
            ("/layers/bp/x/d/f", EntryType::Regular, "hello", 0o4755),
            ("/layers/bp/x/l", EntryType::Symlink, "/etc/passwd", 0o777),
        ]);
        result.unwrap();
        let layer = root.path().join("layer");
        let mode = |name: &str| std::fs::metadata(layer.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(""), mode("d"), mode("d/f")), (0o750, 0o555, 0o4755));
        assert_eq!(std::fs::read_to_string(layer.join("d/f")).unwrap(), "hello");
        assert_eq!(std::fs::read_link(layer.join("l")).unwrap(), Path::new("/etc/passwd"));
    }

    /// The reference extracts to absolute paths, so a cache could overwrite anything the lifecycle may write.
    #[test]
    fn nothing_is_written_outside() {
        let cases: &[&[(&str, EntryType, &str, u32)]] = &[
            &[("/etc/evil", EntryType::Regular, "x", 0o644)],
            &[("/layers/bp/other/f", EntryType::Regular, "x", 0o644)],
            &[("/layers/bp/x/../../evil", EntryType::Regular, "x", 0o644)],
            &[("../evil", EntryType::Regular, "x", 0o644)],
            &[
                ("/layers/bp/x/l", EntryType::Symlink, "/tmp", 0o777),
                ("/layers/bp/x/l/evil", EntryType::Regular, "x", 0o644),
            ],
            &[
                ("/layers/bp/x/l", EntryType::Symlink, "..", 0o777),
                ("/layers/bp/x/l/d", EntryType::Directory, "", 0o777),
            ],
            &[("/layers/bp/x/h", EntryType::Link, "/etc/passwd", 0o644)],
            &[("/layers/bp/x/c", EntryType::Char, "", 0o644)],
            &[("/layers/bp/x", EntryType::Symlink, "/", 0o777)],
        ];
        for case in cases {
            let (root, result) = run(case);
            assert!(result.as_ref().is_err_and(ExtractError::is_corrupt), "{case:?}: {result:?}");
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_wrong_digest_or_a_cut_tar_is_corrupt() {
        let root = tempfile::tempdir().unwrap();
        let directory = MappedDirectory { host: root.path().to_owned(), name: PathBuf::from("/l") };
        let bytes = tar(&[("/l/f", EntryType::Regular, "hello", 0o644)]);
        let wrong = extract(&bytes[..], DiffId::of(b""), &directory, None);
        assert!(matches!(wrong, Err(ExtractError::Digest { found }) if found == DiffId::of(&bytes)));
        std::fs::remove_file(root.path().join("f")).unwrap();
        let cut = extract(&bytes[..514], DiffId::of(&bytes), &directory, None);
        assert!(cut.is_err_and(|error| error.is_corrupt()));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
        #[test]
        fn no_archive_leaves_the_directory(
            entries in proptest::collection::vec(("(/layers/bp/x)?(/?(a|b|\\.\\.|\\.|)){0,4}", 0_usize..5, "(\\.\\.|/|a|/tmp)"), 0..6),
        ) {
            let kinds = [EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link, EntryType::Fifo];
            let entries: Vec<_> = entries
                .iter()
                .map(|(name, kind, content)| (name.as_str(), kinds[*kind], content.as_str(), 0o755))
                .collect();
            let (root, _) = run(&entries);
            let names: Vec<_> =
                std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            proptest::prop_assert_eq!(names, ["layer"]);
        }
    }
}
