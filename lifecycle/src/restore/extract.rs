//! Extracts the layer of one directory, and nothing outside of it.
//!
//! A cache is not trusted: every entry must be the directory that is restored, one of its parents, or below it, and no
//! entry is written through a symbolic link ([`Policy::restore`]).

use std::io::{self, Read};
use std::path::PathBuf;

use longshore_image::DiffId;
use longshore_image::unpack::{self, Policy, UnpackError};

use crate::directory::{MappedDirectory, Owner};

/// Why a layer could not be extracted.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The layer cannot be read.
    #[error("the layer cannot be read")]
    Read(#[source] io::Error),
    /// The layer does not have the DiffID under which it is known.
    #[error("the layer is corrupt: its DiffID is {found}")]
    Digest {
        /// The DiffID of what was read.
        found: DiffId,
    },
    /// The layer is not a tar, or has an entry that does not belong into it.
    #[error(transparent)]
    Layer(UnpackError),
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
    /// What came of unpacking into `directory`. The unpacker knows names in the image; whose disk is full looks for a file
    /// of the host.
    fn unpacking(error: UnpackError, directory: &MappedDirectory) -> Self {
        match error {
            UnpackError::Read(error) => Self::Read(error),
            UnpackError::DiffId { actual, .. } => Self::Digest { found: actual },
            UnpackError::Write { path, source, .. } => {
                let below = path.strip_prefix(&directory.name).map(|below| directory.host.join(below));
                Self::Write { path: below.unwrap_or(path), source }
            }
            error => Self::Layer(error),
        }
    }

    /// Whether the layer is at fault, rather than the place it is extracted to.
    pub(crate) fn is_corrupt(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }
}

/// Extracts a layer into `directory`, which must exist and be empty, and checks its DiffID.
///
/// # Errors
/// When the layer is corrupt or the directory cannot be written; what was extracted by then is still there.
pub(crate) fn extract(
    layer: impl Read + Send,
    diff_id: DiffId,
    directory: &MappedDirectory,
    owner: Option<Owner>,
) -> Result<(), ExtractError> {
    let owner = owner.map_or(unpack::Owner::Ignore, |Owner { uid, gid }| unpack::Owner::Given { uid, gid });
    let policy = Policy { owner, ..Policy::restore(&directory.name).expecting(diff_id) };
    let unpacked = unpack::extract_into(layer, &directory.host, &policy);
    unpacked.map(drop).map_err(|error| ExtractError::unpacking(error, directory))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use tar::EntryType;

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

    /// It was named as it is in the image, where nobody finds it.
    #[test]
    fn what_cannot_be_written_is_named_as_it_is_on_the_host() {
        let directory = MappedDirectory { host: "/host/x".into(), name: PathBuf::from("/layers/bp/x") };
        for (path, expected) in [
            ("/layers/bp/x/bin/node", "/host/x/bin/node"),
            ("/layers/bp/x", "/host/x"),
            ("/elsewhere", "/elsewhere"),
        ] {
            let source = io::Error::from(io::ErrorKind::StorageFull);
            let error = UnpackError::Write { action: "write", path: path.into(), source };
            let error = ExtractError::unpacking(error, &directory);
            assert!(
                matches!(&error, ExtractError::Write { path, .. } if *path == Path::new(expected)),
                "{error}"
            );
        }
    }
}
