//! Files of an image, read from its unpacked layers without mounting them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// More than any `/etc/passwd`.
const LIMIT: u64 = 16 << 20;

/// The contents of a regular file of an image, from the highest of `layers` (lowest first) that has it. Symbolic links
/// are followed within the layer only; `None` when no layer has it.
///
/// # Errors
/// When the file cannot be read, or is over 16 MiB.
pub fn read_in_layers(layers: &[PathBuf], path: &Path) -> io::Result<Option<Vec<u8>>> {
    for layer in layers.iter().rev() {
        let root = File::open(layer)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(file) => File::from(file),
            // `NXIO`: a whiteout.
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut contents = Vec::new();
        file.take(LIMIT + 1).read_to_end(&mut contents)?;
        if contents.len() as u64 > LIMIT {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        return Ok(Some(contents));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_highest_layer_wins_and_links_stay_inside() {
        let directory = tempfile::tempdir().unwrap();
        let layers = [directory.path().join("low"), directory.path().join("high")];
        fs::create_dir_all(layers[0].join("etc")).unwrap();
        fs::create_dir_all(&layers[1]).unwrap();
        fs::write(layers[0].join("etc/passwd"), "low").unwrap();
        fs::write(directory.path().join("outside"), "outside").unwrap();
        std::os::unix::fs::symlink(directory.path().join("outside"), layers[1].join("link")).unwrap();
        let read = |path: &str| read_in_layers(&layers, Path::new(path)).unwrap();
        assert_eq!(read("/etc/passwd").as_deref(), Some(&b"low"[..]));
        assert_eq!(read("/link"), None);
        assert_eq!(read("/etc"), None);
        fs::create_dir(layers[1].join("etc")).unwrap();
        fs::write(layers[1].join("etc/passwd"), "high").unwrap();
        assert_eq!(read("/etc/passwd").as_deref(), Some(&b"high"[..]));
    }
}
