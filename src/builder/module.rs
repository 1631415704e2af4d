//! A buildpack or image extension in a directory, and its layer.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use longshore_cnb::buildpack_toml::Descriptor;
use longshore_cnb::group::{ModuleKind, directory_name};
use longshore_image::LayerSource;
use longshore_image::layer::{Content, Entry, EntryKind};
use rustix::fs::XattrFlags;

use super::order::ModuleId;

/// A buildpack or image extension in a directory.
#[derive(Debug, Clone)]
pub(crate) struct Module {
    /// What its `buildpack.toml` or `extension.toml` says.
    pub(crate) descriptor: Descriptor,
    /// Where it is.
    pub(crate) directory: PathBuf,
}

impl Module {
    /// Reads the module in a directory.
    ///
    /// # Errors
    /// When there is no valid descriptor, it has no version, or a buildpack has no executables.
    pub(crate) fn read(kind: ModuleKind, directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(descriptor_file(kind));
        let text = fs_err::read_to_string(&path)?;
        let descriptor =
            Descriptor::parse(kind, &text).with_context(|| format!("`{}` is not valid", path.display()))?;
        let module = Self { descriptor, directory: directory.to_owned() };
        ensure!(!module.id().version.is_empty(), "`{}` has no version", path.display());
        if kind == ModuleKind::Buildpack && !module.descriptor.is_composite() {
            for program in ["bin/detect", "bin/build"] {
                let file = directory.join(program);
                let mode = fs_err::metadata(&file).map(|metadata| metadata.permissions().mode());
                let mode = mode.with_context(|| format!("buildpack `{}` is not complete", module.id()))?;
                ensure!(mode & 0o111 != 0, "`{}` is not executable", file.display());
            }
        }
        Ok(module)
    }

    /// Its id and version.
    pub(crate) fn id(&self) -> ModuleId {
        ModuleId { id: self.descriptor.info.id.clone(), version: self.descriptor.info.version.clone() }
    }

    /// The directory in the builder: `/cnb/buildpacks/ID/VERSION`.
    pub(crate) fn name_in_image(&self) -> PathBuf {
        let ModuleId { id, version } = self.id();
        PathBuf::from(parent_directory(self.descriptor.kind)).join(directory_name(&id)).join(version)
    }

    /// The layer: the directory with all in it, belonging to root. Of the permissions only whether a file may be
    /// executed is kept, so that the layer does not depend on the umask of whoever checked the buildpack out.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(crate) fn layer(&self) -> anyhow::Result<LayerSource> {
        let name = self.name_in_image();
        let mut parents: Vec<_> = name.ancestors().skip(1).filter(|path| *path != Path::new("/")).collect();
        parents.reverse();
        let mut entries: Vec<_> = parents.into_iter().map(|parent| Entry::directory(parent, 0o755)).collect();
        walk(&self.directory, &name, &mut entries)?;
        Ok(LayerSource::entries(entries))
    }

    /// Puts the module below a root filesystem, in place of one with the same id and version.
    ///
    /// # Errors
    /// When it cannot be read, or written there.
    pub(crate) fn install(&self, root: &Path) -> anyhow::Result<()> {
        let name = self.name_in_image();
        let directory = root.join(name.strip_prefix("/").unwrap_or(&name));
        let mut entries = Vec::new();
        walk(&self.directory, &directory, &mut entries)?;
        if let Some(parent) = directory.parent() {
            fs_err::create_dir_all(parent)?;
        }
        for entry in entries {
            match entry.kind {
                EntryKind::Directory => fs_err::create_dir(&entry.path)?,
                EntryKind::Symlink(target) => fs_err::os::unix::fs::symlink(target, &entry.path)?,
                EntryKind::File(Content::Host { path, .. }) => drop(fs_err::copy(path, &entry.path)?),
                _ => {}
            }
        }
        // The overlay would otherwise show the files of the builder's module of the same version, too.
        rustix::fs::setxattr(&directory, c"user.overlay.opaque", b"y", XattrFlags::empty())
            .with_context(|| format!("cannot hide what is below `{}`", directory.display()))
    }
}

fn walk(host: &Path, name: &Path, entries: &mut Vec<Entry>) -> anyhow::Result<()> {
    entries.push(Entry::directory(name, 0o755));
    let mut children = fs_err::read_dir(host)?.collect::<Result<Vec<_>, _>>()?;
    children.sort_by_key(fs_err::DirEntry::file_name);
    for child in children {
        let (host, name) = (child.path(), name.join(child.file_name()));
        let metadata = fs_err::symlink_metadata(&host)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            walk(&host, &name, entries)?;
        } else if kind.is_symlink() {
            entries.push(Entry::symlink(name, fs_err::read_link(&host)?));
        } else if kind.is_file() {
            let mode = if metadata.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            entries.push(Entry::host_file(name, mode, &host));
        } else {
            tracing::warn!("`{}` is not a file, directory or link; it is left out", host.display());
        }
    }
    Ok(())
}

const fn descriptor_file(kind: ModuleKind) -> &'static str {
    match kind {
        ModuleKind::Buildpack => "buildpack.toml",
        ModuleKind::Extension => "extension.toml",
    }
}

const fn parent_directory(kind: ModuleKind) -> &'static str {
    match kind {
        ModuleKind::Buildpack => "/cnb/buildpacks",
        ModuleKind::Extension => "/cnb/extensions",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_image::layer;

    fn buildpack(umask: u32) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode: u32| {
            let path = root.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, text).unwrap();
            fs_err::set_permissions(&path, PermissionsExt::from_mode(mode & !umask)).unwrap();
        };
        file("buildpack.toml", "api = \"0.10\"\n[buildpack]\nid = \"a/b\"\nversion = \"1.0\"\n", 0o666);
        file("bin/detect", "#!/bin/sh\n", 0o777);
        file("bin/build", "#!/bin/sh\n", 0o777);
        root
    }

    #[test]
    fn a_layer_does_not_depend_on_the_umask() {
        let (open, closed) = (buildpack(0o022), buildpack(0o077));
        let digest = |root: &tempfile::TempDir| {
            let module = Module::read(ModuleKind::Buildpack, root.path()).unwrap();
            assert_eq!(module.name_in_image(), Path::new("/cnb/buildpacks/a_b/1.0"));
            layer::digest(&module.layer().unwrap()).unwrap().diff_id
        };
        assert_eq!(digest(&open), digest(&closed));
    }

    #[test]
    fn incomplete_buildpacks_are_refused() {
        let root = buildpack(0o022);
        fs_err::set_permissions(root.path().join("bin/build"), PermissionsExt::from_mode(0o644)).unwrap();
        let error = Module::read(ModuleKind::Buildpack, root.path()).unwrap_err();
        assert!(error.to_string().contains("not executable"), "{error}");
        fs_err::remove_file(root.path().join("bin/build")).unwrap();
        let error = Module::read(ModuleKind::Buildpack, root.path()).unwrap_err();
        assert!(error.to_string().contains("not complete"), "{error}");
        fs_err::write(root.path().join("buildpack.toml"), "api = \"0.10\"\n[buildpack]\n").unwrap();
        assert!(Module::read(ModuleKind::Buildpack, root.path()).is_err());
    }
}
