//! `COPY` and `ADD`: files of the build context, onto the root filesystem.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use longshore_image::Sha256;
use longshore_image::decompress;

use super::DockerfileProblem;
use super::pattern::{self, Ignored};

/// The directory that files are copied from.
#[derive(Debug, Clone)]
pub(super) struct Context {
    root: PathBuf,
    ignored: Ignored,
}

/// What is copied.
pub(super) struct Source {
    content: Content,
    /// The name of the file in a directory that it is copied into.
    name: String,
}

enum Content {
    /// A file or directory; its name relative to the context.
    Path { host: PathBuf, relative: String },
    /// A here-document.
    Text(String),
}

/// Where it goes, and as what.
pub(super) struct Target {
    /// On this machine.
    pub(super) host: PathBuf,
    /// Whether it was written as a directory (`/a/`).
    pub(super) is_directory: bool,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: Option<u32>,
    /// Whether archives are unpacked (`ADD`).
    pub(super) unpacks: bool,
}

impl Source {
    pub(super) fn text(name: &str, text: String) -> Self {
        Self { content: Content::Text(text), name: name.to_owned() }
    }
}

impl Context {
    pub(super) fn open(root: &Path) -> Result<Self, DockerfileProblem> {
        let root = fs::canonicalize(root).map_err(at(root))?;
        let text = match fs::read_to_string(root.join(".dockerignore")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at(&root.join(".dockerignore"))(error));
            }
            text => text.unwrap_or_default(),
        };
        Ok(Self { root, ignored: Ignored::parse(&text) })
    }

    /// The files that a source of `COPY` names: one, or those that fit a pattern.
    pub(super) fn find(&self, text: &str) -> Result<Vec<Source>, DockerfileProblem> {
        let parts = || text.split('/').filter(|part| !part.is_empty() && *part != ".");
        if parts().any(|part| part == "..") {
            return Err(DockerfileProblem::OutsideContext(text.to_owned()));
        }
        let plain = parts().collect::<Vec<_>>().join("/");
        let mut names = Vec::new();
        if pattern::is_pattern(&plain) {
            self.matching(&self.root, "", &plain, &mut names)?;
            names.sort_unstable();
        } else if self.root.join(&plain).symlink_metadata().is_ok() && !self.ignored.has(&plain) {
            names.push(plain);
        }
        if names.is_empty() {
            return Err(DockerfileProblem::NoSource(text.to_owned()));
        }
        names.into_iter().map(|relative| self.source(text, relative)).collect()
    }

    fn source(&self, text: &str, relative: String) -> Result<Source, DockerfileProblem> {
        let named = self.root.join(&relative);
        // Links are followed when they are named, but not out of the context.
        let host = fs::canonicalize(&named).map_err(at(&named))?;
        if !host.starts_with(&self.root) {
            return Err(DockerfileProblem::OutsideContext(text.to_owned()));
        }
        let name = relative.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Source { content: Content::Path { host, relative }, name })
    }

    fn matching(
        &self,
        directory: &Path,
        prefix: &str,
        wanted: &str,
        names: &mut Vec<String>,
    ) -> Result<(), DockerfileProblem> {
        let depth = wanted.split('/').count();
        for entry in fs::read_dir(directory).map_err(at(directory))? {
            let entry = entry.map_err(at(directory))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if pattern::matches(wanted, &name) && !self.ignored.has(&name) {
                names.push(name);
            } else if entry.path().is_dir() && name.split('/').count() < depth {
                self.matching(&entry.path(), &format!("{name}/"), wanted, names)?;
            }
        }
        Ok(())
    }

    /// Puts everything that decides what is copied into a digest.
    pub(super) fn digest(&self, sources: &[Source], hasher: &mut Sha256) -> Result<(), DockerfileProblem> {
        for source in sources {
            hasher.update(source.name.as_bytes());
            match &source.content {
                Content::Text(text) => hasher.update(text.as_bytes()),
                Content::Path { host, relative } => self.digest_path(host, relative, hasher)?,
            }
        }
        Ok(())
    }

    fn digest_path(&self, host: &Path, relative: &str, hasher: &mut Sha256) -> Result<(), DockerfileProblem> {
        let metadata = fs::symlink_metadata(host).map_err(at(host))?;
        hasher.update(format!("\0{relative}\0{:o}\0", metadata.permissions().mode()));
        if metadata.is_dir() {
            for (path, name) in self.children(host, relative)? {
                self.digest_path(&path, &name, hasher)?;
            }
        } else if metadata.is_symlink() {
            hasher.update(fs::read_link(host).map_err(at(host))?.as_os_str().as_encoded_bytes());
        } else if metadata.is_file() {
            let mut file = fs::File::open(host).map_err(at(host))?;
            io::copy(&mut file, hasher).map_err(at(host))?;
        }
        Ok(())
    }

    /// What is in a directory, in order, without what is ignored.
    fn children(&self, host: &Path, relative: &str) -> Result<Vec<(PathBuf, String)>, DockerfileProblem> {
        let mut children = Vec::new();
        for entry in fs::read_dir(host).map_err(at(host))? {
            let entry = entry.map_err(at(host))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = if relative.is_empty() { name } else { format!("{relative}/{name}") };
            if !self.ignored.has(&name) {
                children.push((entry.path(), name));
            }
        }
        children.sort_unstable();
        Ok(children)
    }

    /// Copies everything to where it goes.
    pub(super) fn copy(&self, sources: &[Source], target: &Target) -> Result<(), DockerfileProblem> {
        let into = target.is_directory || sources.len() > 1 || target.host.is_dir();
        for source in sources {
            let place = || if into { target.host.join(&source.name) } else { target.host.clone() };
            match &source.content {
                Content::Text(text) => target.write(&place(), text.as_bytes())?,
                Content::Path { host, relative } if host.is_dir() => {
                    target.make_directory(&target.host, None)?;
                    self.copy_children(host, relative, &target.host, target)?;
                }
                Content::Path { host, .. } if target.unpacks && is_archive(host) => {
                    target.make_directory(&target.host, None)?;
                    unpack(host, &target.host)?;
                }
                Content::Path { host, .. } => target.file(host, &place())?,
            }
        }
        Ok(())
    }

    fn copy_children(
        &self,
        host: &Path,
        relative: &str,
        to: &Path,
        target: &Target,
    ) -> Result<(), DockerfileProblem> {
        for (path, name) in self.children(host, relative)? {
            let place = to.join(path.file_name().unwrap_or_default());
            let metadata = fs::symlink_metadata(&path).map_err(at(&path))?;
            if metadata.is_dir() {
                target.make_directory(&place, Some(metadata.permissions().mode()))?;
                self.copy_children(&path, &name, &place, target)?;
            } else if metadata.is_symlink() {
                target.link(&path, &place)?;
            } else if metadata.is_file() {
                target.file(&path, &place)?;
            } else {
                tracing::warn!("'{}' is no file, directory or link: it is not copied", path.display());
            }
        }
        Ok(())
    }
}

impl Target {
    /// A directory with those above it; what is there already stays as it is.
    fn make_directory(&self, path: &Path, mode: Option<u32>) -> Result<(), DockerfileProblem> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_directory(parent, None)?;
        }
        let made = fs::create_dir(path).and_then(|()| {
            let mode = self.mode.or(mode).unwrap_or(0o755) & 0o7777;
            fs::set_permissions(path, Permissions::from_mode(mode))
        });
        made.map_err(at(path))?;
        self.own(path)
    }

    fn file(&self, from: &Path, place: &Path) -> Result<(), DockerfileProblem> {
        self.clear(place)?;
        let mode = fs::metadata(from).map_err(at(from))?.permissions().mode();
        fs::copy(from, place).map_err(at(place))?;
        self.finish(place, self.mode.unwrap_or(mode))
    }

    fn write(&self, place: &Path, bytes: &[u8]) -> Result<(), DockerfileProblem> {
        self.clear(place)?;
        fs::write(place, bytes).map_err(at(place))?;
        self.finish(place, self.mode.unwrap_or(0o644))
    }

    fn link(&self, from: &Path, place: &Path) -> Result<(), DockerfileProblem> {
        self.clear(place)?;
        let link = fs::read_link(from).and_then(|link| symlink(link, place));
        link.map_err(at(place))?;
        self.own(place)
    }

    /// A new file takes the place of an old one, whatever other names that has.
    fn clear(&self, place: &Path) -> Result<(), DockerfileProblem> {
        if let Some(parent) = place.parent() {
            self.make_directory(parent, None)?;
        }
        match fs::remove_file(place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(place)(error)),
            _ => Ok(()),
        }
    }

    fn finish(&self, place: &Path, mode: u32) -> Result<(), DockerfileProblem> {
        // Changing the owner removes set-id bits.
        self.own(place)?;
        fs::set_permissions(place, Permissions::from_mode(mode & 0o7777)).map_err(at(place))
    }

    fn own(&self, path: &Path) -> Result<(), DockerfileProblem> {
        lchown(path, Some(self.uid), Some(self.gid)).map_err(at(path))
    }
}

/// A tar, compressed or not.
fn is_archive(path: &Path) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    let Ok(reader) = decompress(file) else { return false };
    tar::Archive::new(reader)
        .entries()
        .is_ok_and(|mut entries| entries.next().is_some_and(|entry| entry.is_ok()))
}

fn unpack(archive: &Path, target: &Path) -> Result<(), DockerfileProblem> {
    let file = fs::File::open(archive).map_err(at(archive))?;
    let mut archived = tar::Archive::new(decompress(file).map_err(at(archive))?);
    archived.set_preserve_permissions(true);
    archived.set_preserve_ownerships(true);
    archived.set_unpack_xattrs(false);
    archived.unpack(target).map_err(at(archive))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DockerfileProblem + use<> {
    let path = path.to_owned();
    move |source| DockerfileProblem::File { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    struct Fixture {
        root: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| {
                let path = root.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            write("outside", "secret");
            write("context/.dockerignore", "*.log\n");
            write("context/a.txt", "a");
            write("context/b.txt", "b");
            write("context/x.log", "log");
            write("context/dir/c", "c");
            symlink("../../outside", root.path().join("context/dir/link")).unwrap();
            symlink("../outside", root.path().join("context/escape")).unwrap();
            fs::create_dir(root.path().join("image")).unwrap();
            Self { root }
        }

        fn copy(&self, sources: &[&str], to: &str, mode: Option<u32>) -> Result<(), DockerfileProblem> {
            let context = Context::open(&self.root.path().join("context")).unwrap();
            let mut found = Vec::new();
            for source in sources {
                found.extend(context.find(source)?);
            }
            let own = fs::metadata(self.root.path()).unwrap();
            let target = Target {
                host: self.root.path().join("image").join(to),
                is_directory: to.ends_with('/'),
                uid: own.uid(),
                gid: own.gid(),
                mode,
                unpacks: true,
            };
            context.copy(&found, &target)
        }

        fn text(&self, path: &str) -> String {
            fs::read_to_string(self.root.path().join("image").join(path)).unwrap_or_default()
        }
    }

    #[test]
    fn files_go_where_docker_puts_them() {
        let fixture = Fixture::new();
        fixture.copy(&["a.txt"], "one", None).unwrap();
        fixture.copy(&["a.txt"], "two/", None).unwrap();
        fixture.copy(&["*.txt"], "three", Some(0o700)).unwrap();
        fixture.copy(&["."], "all", None).unwrap();
        fixture.copy(&["dir"], "deep/er", None).unwrap();
        assert_eq!((fixture.text("one"), fixture.text("two/a.txt")), ("a".into(), "a".into()));
        assert_eq!(fixture.text("three/a.txt") + &fixture.text("three/b.txt"), "ab");
        let mode = fs::metadata(fixture.root.path().join("image/three/a.txt")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o700);
        assert_eq!(fixture.text("all/dir/c"), "c");
        assert!(!fixture.root.path().join("image/all/x.log").exists(), "it is ignored");
        assert_eq!(fixture.text("deep/er/c"), "c");
        let link = fs::read_link(fixture.root.path().join("image/deep/er/link")).unwrap();
        assert_eq!(link, Path::new("../../outside"), "links stay links");
    }

    #[test]
    fn nothing_comes_from_outside() {
        let fixture = Fixture::new();
        for source in ["../outside", "escape", "missing", "x.log", "*.none", "dir/../../outside"] {
            assert!(fixture.copy(&[source], "x", None).is_err(), "{source}");
        }
    }

    #[test]
    fn archives_are_unpacked() {
        let fixture = Fixture::new();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        let own = fs::metadata(fixture.root.path()).unwrap();
        header.set_size(2);
        header.set_mode(0o644);
        header.set_uid(own.uid().into());
        header.set_gid(own.gid().into());
        builder.append_data(&mut header, "in/side", &b"in"[..]).unwrap();
        let archive = builder.into_inner().unwrap();
        fs::write(fixture.root.path().join("context/x.tar"), archive).unwrap();
        fixture.copy(&["x.tar"], "unpacked", None).unwrap();
        assert_eq!(fixture.text("unpacked/in/side"), "in");
    }
}
