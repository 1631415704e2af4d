//! Names of entries: relative, without `.`, and never with `..`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where an entry goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A path below the directory that is unpacked into, without a leading slash; empty for that directory itself.
    Inside(Vec<u8>),
    /// A directory above it: the prefix's parents, which layers name.
    Above,
}

/// Places an entry or the target of a hard link. Leading slashes mean nothing: layers of buildpacks have absolute names.
pub(crate) fn place(name: &[u8], prefix: Option<&Path>) -> Result<Place, &'static str> {
    let mut parts = parts(name)?;
    if let Some(prefix) = prefix {
        for wanted in
            prefix.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty())
        {
            match parts.next() {
                None => return Ok(Place::Above),
                Some(part) if part == wanted => {}
                Some(_) => return Err("it is outside of the directory that the layer is for"),
            }
        }
    }
    Ok(Place::Inside(parts.collect::<Vec<_>>().join(&b'/')))
}

fn parts(name: &[u8]) -> Result<impl Iterator<Item = &[u8]>, &'static str> {
    let parts = || name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && part != b".");
    if parts().any(|part| part == b"..") {
        return Err("its name has `..`");
    }
    if name.contains(&0) {
        return Err("its name has a NUL character");
    }
    Ok(parts())
}

/// Whether a name says that it is a directory's: it ends with a slash or a dot.
pub(crate) fn is_directory_name(name: &[u8]) -> bool {
    matches!(name.rsplit(|byte| *byte == b'/').next(), None | Some(b"" | b"."))
}

/// The parent, empty at the top, and the last part.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A name for people.
pub(crate) fn display(name: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_placed_or_refused() {
        let inside = |path: &str| Ok(Place::Inside(path.as_bytes().to_vec()));
        let layers = Some(Path::new("/layers/"));
        let table = [
            ("a/b", None, inside("a/b")),
            ("/a//./b/", None, inside("a/b")),
            ("./", None, inside("")),
            ("/", None, inside("")),
            ("..", None, Err(())),
            ("a/../../b", None, Err(())),
            ("/layers", layers, inside("")),
            ("/layers/a", layers, inside("a")),
            ("/", layers, Ok(Place::Above)),
            ("/layersx/a", layers, Err(())),
            ("/etc/passwd", layers, Err(())),
        ];
        for (name, prefix, expected) in table {
            assert_eq!(place(name.as_bytes(), prefix).map_err(drop), expected, "{name}");
        }
        for (name, expected) in [("a", false), ("a/", true), ("a/.", true), (".", true), ("", true)] {
            assert_eq!(is_directory_name(name.as_bytes()), expected, "{name}");
        }
    }
}
