//! Mount points inside the root filesystem, found without ever leaving it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, unlinkat};
use rustix::io::Errno;

/// What a mount point has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// Opens `path` below `root` as if `root` were `/`: links cannot lead out of it.
pub(crate) fn open_inside(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat2(root, path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
}

/// Opens the mount point `path` below `root`, and makes it and its parents if they do not exist.
pub(crate) fn make_target(root: impl AsFd, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let root = root.as_fd();
    let mut walked = PathBuf::from("/");
    let mut parent = open_inside(root, &walked, OFlags::DIRECTORY)?;
    let mut names = path.components().filter(|component| *component != Component::RootDir).peekable();
    while let Some(name) = names.next() {
        let Component::Normal(name) = name else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        walked.push(name);
        let kind = if names.peek().is_some() { Kind::Directory } else { kind };
        parent = match open_inside(root, &walked, OFlags::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT) => {
                // A link that leads nowhere is in the way; what it hides is not there either.
                match unlinkat(&parent, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
                make(&parent, Path::new(name), kind)?;
                open_inside(&parent, Path::new(name), OFlags::NOFOLLOW)?
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(parent)
}

fn make(parent: &OwnedFd, name: &Path, kind: Kind) -> io::Result<()> {
    match kind {
        Kind::Directory => mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            drop(openat(parent, name, flags, Mode::from_raw_mode(0o644))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_do_not_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        symlink(outside.path(), root.path().join("etc")).unwrap();
        symlink("../../../../outside", root.path().join("dangling")).unwrap();
        let directory = fs::File::open(root.path()).unwrap();
        make_target(&directory, Path::new("/etc/made/here"), Kind::File).unwrap();
        make_target(&directory, Path::new("/dangling/x"), Kind::Directory).unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(root.path().join("dangling/x").is_dir());
        assert!(make_target(&directory, Path::new("/a/../../b"), Kind::Directory).is_err());
    }
}
