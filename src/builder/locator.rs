//! Where a buildpack is: paths and URIs.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

/// The directory a URI names, relative to `base`.
///
/// # Errors
/// When it is another kind of URI, or there is no such directory.
pub(crate) fn local_directory(uri: &str, base: &Path) -> anyhow::Result<PathBuf> {
    let path = match uri.split_once("://") {
        Some(("file", path)) => path,
        Some((scheme, _)) => bail!(
            "`{uri}` cannot be used: buildpacks come from directories, not from `{scheme}:` locations; \
             download and unpack it, and name the directory"
        ),
        None if uri.starts_with("urn:") => {
            bail!("`{uri}` cannot be used: buildpacks come from directories and from the builder")
        }
        None => uri,
    };
    let directory = base.join(path);
    ensure!(
        !directory.is_file(),
        "`{}` is a file; buildpack archives cannot be used yet, unpack it and name the directory",
        directory.display()
    );
    ensure!(directory.is_dir(), "there is no buildpack directory `{}`", directory.display());
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_are_taken() {
        let root = tempfile::tempdir().unwrap();
        fs_err::create_dir(root.path().join("bp")).unwrap();
        fs_err::write(root.path().join("bp.tgz"), "").unwrap();
        let full = format!("file://{}/bp", root.path().display());
        for uri in ["bp", "./bp", full.as_str()] {
            assert!(local_directory(uri, root.path()).is_ok(), "{uri}");
        }
        for (uri, reason) in [
            ("docker://a/b", "docker"),
            ("https://example.com/x.tgz", "https"),
            ("urn:cnb:registry:a/b", "urn"),
            ("nothing", "no buildpack directory"),
            ("bp.tgz", "is a file"),
        ] {
            let error = local_directory(uri, root.path()).unwrap_err().to_string();
            assert!(error.contains(reason), "{uri}: {error}");
        }
    }
}
