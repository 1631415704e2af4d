//! Which files of an app are used: `include` or `exclude`, patterns as in `.gitignore`.

use std::path::Path;

use anyhow::{Context, bail};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Which files of an app are used.
#[derive(Debug, Default)]
pub(crate) enum FileFilter {
    /// All.
    #[default]
    All,
    /// Only what matches.
    Include(Gitignore),
    /// All but what matches.
    Exclude(Gitignore),
}

impl FileFilter {
    /// The filter of a project. An empty list is as good as none.
    ///
    /// # Errors
    /// When both lists are given, or a pattern is not valid.
    pub(crate) fn new(include: Option<&[String]>, exclude: Option<&[String]>) -> anyhow::Result<Self> {
        match (include, exclude) {
            (Some(_), Some(_)) => bail!("`include` and `exclude` cannot both be given"),
            (Some([]) | None, Some([]) | None) => Ok(Self::All),
            (Some(patterns), _) => Ok(Self::Include(matcher(patterns)?)),
            (_, Some(patterns)) => Ok(Self::Exclude(matcher(patterns)?)),
        }
    }

    /// Whether a file or directory is used. With `include`, a directory that does not match is still made where
    /// something in it does; so this is asked for files, and for directories only to leave out whole ones.
    pub(crate) fn keeps(&self, path: &Path, is_directory: bool) -> bool {
        match self {
            Self::All => true,
            Self::Include(matcher) => matcher.matched_path_or_any_parents(path, is_directory).is_ignore(),
            Self::Exclude(matcher) => !matcher.matched_path_or_any_parents(path, is_directory).is_ignore(),
        }
    }

    /// Whether a directory must be looked into: not when it is excluded as a whole and nothing is taken back.
    pub(crate) fn descends(&self, path: &Path) -> bool {
        match self {
            Self::All | Self::Include(_) => true,
            Self::Exclude(matcher) => matcher.num_whitelists() > 0 || self.keeps(path, true),
        }
    }
}

fn matcher(patterns: &[String]) -> anyhow::Result<Gitignore> {
    let mut builder = GitignoreBuilder::new("");
    for pattern in patterns {
        builder.add_line(None, pattern).with_context(|| format!("the pattern `{pattern}` is not valid"))?;
    }
    builder.build().context("the patterns are not valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|pattern| (*pattern).to_owned()).collect()
    }

    #[test]
    fn patterns_work_as_in_gitignore() {
        let exclude =
            FileFilter::new(None, Some(&list(&["/target", "*.log", "cache/", "!keep.log"]))).unwrap();
        for (path, is_directory, kept) in [
            ("target", true, false),
            ("target/a/b", false, false),
            ("sub/target", true, true),
            ("a/b.log", false, false),
            ("keep.log", false, true),
            ("a/cache", true, false),
            ("a/cache/x", false, false),
            ("cache", false, true),
        ] {
            assert_eq!(exclude.keeps(Path::new(path), is_directory), kept, "{path}");
        }
        let include = FileFilter::new(Some(&list(&["src/**", "requirements.txt"])), None).unwrap();
        for (path, kept) in [("src/a/b.py", true), ("requirements.txt", true), ("secret", false)] {
            assert_eq!(include.keeps(Path::new(path), false), kept, "{path}");
        }
    }

    #[test]
    fn both_lists_are_an_error_and_empty_ones_mean_all() {
        assert!(FileFilter::new(Some(&[]), Some(&[])).is_err());
        assert!(matches!(FileFilter::new(Some(&[]), None).unwrap(), FileFilter::All));
    }
}
