//! The copy of the app that buildpacks work on. The app itself is never written to.

use std::fs::{FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, ensure};

use crate::project::FileFilter;

/// Copies the app, as far as the filter keeps it, into a directory that exists. Permissions and times are kept; links
/// stay links.
///
/// # Errors
/// When there is no such directory, or a file cannot be read or written.
pub(crate) fn copy(app: &Path, filter: &FileFilter, to: &Path) -> anyhow::Result<()> {
    let metadata =
        fs_err::metadata(app).with_context(|| format!("cannot use the app path `{}`", app.display()))?;
    ensure!(
        metadata.is_dir(),
        "the app path `{}` is a file; name the directory with the app's source",
        app.display()
    );
    Copy { filter }.directory(app, Path::new(""), to)?;
    fs_err::set_permissions(to, Permissions::from_mode(0o755))?;
    Ok(())
}

struct Copy<'a> {
    filter: &'a FileFilter,
}

impl Copy<'_> {
    /// Copies the children of a directory; whether there was one.
    fn directory(&self, from: &Path, name: &Path, to: &Path) -> anyhow::Result<bool> {
        let mut copied = false;
        for child in fs_err::read_dir(from)? {
            let child = child?;
            let name = name.join(child.file_name());
            copied |= self.entry(&child.path(), &name, &to.join(child.file_name()))?;
        }
        Ok(copied)
    }

    fn entry(&self, from: &Path, name: &Path, to: &Path) -> anyhow::Result<bool> {
        let metadata = fs_err::symlink_metadata(from)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            if !self.filter.descends(name) {
                return Ok(false);
            }
            fs_err::create_dir(to)?;
            let copied = self.directory(from, name, to)?;
            if !copied && !self.filter.keeps(name, true) {
                fs_err::remove_dir(to)?;
                return Ok(false);
            }
            set_times(to, &metadata)?;
            fs_err::set_permissions(to, metadata.permissions())?;
            return Ok(true);
        }
        if !self.filter.keeps(name, false) {
            return Ok(false);
        }
        if kind.is_symlink() {
            let target = fs_err::read_link(from)?;
            symlink(&target, to).with_context(|| format!("cannot write the link `{}`", to.display()))?;
        } else if kind.is_file() {
            fs_err::copy(from, to)?;
            set_times(to, &metadata)?;
        } else {
            tracing::debug!("`{}` is not a file, directory or link; it is left out", from.display());
            return Ok(false);
        }
        Ok(true)
    }
}

fn set_times(path: &Path, metadata: &std::fs::Metadata) -> anyhow::Result<()> {
    let times = FileTimes::new().set_modified(metadata.modified()?);
    let file = fs_err::File::open(path)?;
    file.file().set_times(times).with_context(|| format!("cannot set the times of `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path) -> Vec<String> {
        fn walk(root: &Path, directory: &Path, names: &mut Vec<String>) {
            for child in fs_err::read_dir(directory).unwrap() {
                let path = child.unwrap().path();
                names.push(path.strip_prefix(root).unwrap().display().to_string());
                if path.is_dir() && !path.is_symlink() {
                    walk(root, &path, names);
                }
            }
        }
        let mut names = Vec::new();
        walk(root, root, &mut names);
        names.sort();
        names
    }

    fn app() -> tempfile::TempDir {
        let app = tempfile::tempdir().unwrap();
        for file in ["main.py", "src/a.py", "src/deep/b.txt", "node_modules/x/y.js", "build.log"] {
            let path = app.path().join(file);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, file).unwrap();
        }
        fs_err::create_dir(app.path().join("empty")).unwrap();
        symlink("main.py", app.path().join("link")).unwrap();
        fs_err::set_permissions(app.path().join("main.py"), Permissions::from_mode(0o750)).unwrap();
        app
    }

    #[test]
    fn the_filter_decides_what_is_copied() {
        let list = |patterns: &[&str]| patterns.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let all = [
            "build.log",
            "empty",
            "link",
            "main.py",
            "node_modules",
            "node_modules/x",
            "node_modules/x/y.js",
            "src",
            "src/a.py",
            "src/deep",
            "src/deep/b.txt",
        ];
        let include = list(&["src/**/*.txt", "main.py"]);
        let exclude = list(&["node_modules", "*.log"]);
        for (filter, expected) in [
            (FileFilter::All, all.to_vec()),
            (
                FileFilter::new(Some(&include), None).unwrap(),
                vec!["main.py", "src", "src/deep", "src/deep/b.txt"],
            ),
            (
                FileFilter::new(None, Some(&exclude)).unwrap(),
                vec!["empty", "link", "main.py", "src", "src/a.py", "src/deep", "src/deep/b.txt"],
            ),
        ] {
            let (app, to) = (app(), tempfile::tempdir().unwrap());
            copy(app.path(), &filter, to.path()).unwrap();
            assert_eq!(names(to.path()), expected);
        }
    }

    #[test]
    fn permissions_times_and_links_are_kept() {
        let (app, to) = (app(), tempfile::tempdir().unwrap());
        copy(app.path(), &FileFilter::All, to.path()).unwrap();
        let (from, copied) = (app.path().join("main.py"), to.path().join("main.py"));
        let metadata = |path: &Path| fs_err::metadata(path).unwrap();
        assert_eq!(metadata(&copied).permissions().mode() & 0o7777, 0o750);
        assert_eq!(metadata(&copied).modified().unwrap(), metadata(&from).modified().unwrap());
        assert_eq!(fs_err::read_link(to.path().join("link")).unwrap(), Path::new("main.py"));
    }

    #[test]
    fn an_app_that_is_not_there_is_named() {
        let to = tempfile::tempdir().unwrap();
        let error = copy(Path::new("/nonexistent/app"), &FileFilter::All, to.path()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/app"), "{error}");
    }
}
