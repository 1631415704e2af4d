//! Whiteouts: how a layer removes what lower layers have (image-spec `layer.md`, "Whiteouts").

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags, XattrFlags, fsetxattr, mknodat, openat};

use super::apply::Applier;
use super::directory::Directory;
use super::name;
use super::policy::OverlayAttribute;
use super::tree::{Found, children, found};

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that aufs kept for itself; they hide nothing.
const RESERVED: &[u8] = b".wh..wh.";

/// What an entry with a name of a whiteout means.
pub(crate) enum Whiteout<'a> {
    /// Nothing of the directory comes from lower layers.
    Opaque { directory: &'a [u8] },
    /// The file or directory does not come from lower layers.
    File { path: Vec<u8>, directory: &'a [u8], name: &'a [u8] },
    /// Nothing.
    Reserved,
}

/// The whiteout that a path is, if it is one.
pub(crate) fn parse(path: &[u8]) -> Option<Result<Whiteout<'_>, &'static str>> {
    let (directory, base) = name::split(path);
    let hidden = base.strip_prefix(PREFIX)?;
    Some(match hidden {
        _ if base == OPAQUE => Ok(Whiteout::Opaque { directory }),
        _ if base.starts_with(RESERVED) => Ok(Whiteout::Reserved),
        b"" | b"." | b".." => Err("it hides no file"),
        _ => {
            let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
            let path = [directory, separator, hidden].concat();
            Ok(Whiteout::File { path, directory, name: hidden })
        }
    })
}

/// Marks a directory so that overlayfs shows nothing of lower ones in it.
pub(super) fn set_opaque(directory: impl AsFd, attribute: OverlayAttribute) -> io::Result<()> {
    let name = match attribute {
        OverlayAttribute::Trusted => "trusted.overlay.opaque",
        OverlayAttribute::User => "user.overlay.opaque",
    };
    Ok(fsetxattr(directory, name, b"y", XattrFlags::empty())?)
}

fn open_child(parent: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

impl Applier<'_> {
    /// Removes what lower layers put there, and leaves what this one did.
    pub(super) fn apply_whiteout(&mut self, whiteout: &Whiteout<'_>) -> io::Result<()> {
        match whiteout {
            Whiteout::Reserved => Ok(()),
            Whiteout::Opaque { directory } => match self.existing(directory)? {
                Some(opened) => self.remove_lower(&open_child(&*opened, b".")?, directory),
                None => Ok(()),
            },
            Whiteout::File { path, directory, name } => match self.existing(directory)? {
                Some(opened) => self.remove_unless_made(&*opened, name, path),
                None => Ok(()),
            },
        }
    }

    fn existing(&mut self, directory: &[u8]) -> io::Result<Option<Rc<Directory>>> {
        match self.tree.directory(directory, false) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn remove_lower(&mut self, directory: &OwnedFd, path: &[u8]) -> io::Result<()> {
        for child in children(directory)? {
            let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
            self.remove_unless_made(directory, &child, &[path, separator, &child].concat())?;
        }
        Ok(())
    }

    fn remove_unless_made(&mut self, parent: impl AsFd, name: &[u8], path: &[u8]) -> io::Result<()> {
        // A directory that only stands because this layer put something below it counts as made too.
        let start = [path, b"/"].concat();
        let below = self.made.range(start.clone()..).next().is_some_and(|made| made.starts_with(&start));
        if !self.made.contains(path) && !below {
            return self.tree.remove(parent, name);
        }
        match found(&parent, name)? {
            Found::Directory => self.remove_lower(&open_child(parent, name)?, path),
            _ => Ok(()),
        }
    }

    /// Writes the whiteout as overlayfs has it.
    pub(super) fn convert_whiteout(
        &mut self,
        whiteout: &Whiteout<'_>,
        attribute: OverlayAttribute,
    ) -> io::Result<()> {
        match whiteout {
            Whiteout::Reserved => Ok(()),
            Whiteout::Opaque { directory } => {
                let opened = self.tree.directory(directory, true)?;
                set_opaque(&open_child(&*opened, b".")?, attribute)
            }
            Whiteout::File { directory, name, .. } => {
                let opened = self.tree.directory(directory, true)?;
                match found(&*opened, name)? {
                    // Whatever stands here is of this layer, and hides lower files by itself.
                    Found::Directory => set_opaque(&open_child(&*opened, name)?, attribute),
                    Found::Whiteout | Found::Other => Ok(()),
                    Found::Nothing => {
                        Ok(mknodat(&*opened, *name, FileType::CharacterDevice, Mode::empty(), 0)?)
                    }
                }
            }
        }
    }
}
