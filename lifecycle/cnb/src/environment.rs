//! Environment variables, and how layers and their environment directories change them.
//!
//! The rules are the same for the build and for the launch. Spec: buildpack.md "Environment", above all "Layer Paths"
//! and "Environment Variable Modification Rules". Names and values are raw bytes: nothing is decoded or trimmed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;

/// An environment directory or a layer directory that cannot be read.
#[derive(Debug, Error)]
#[error("cannot read '{}'", path.display())]
pub struct EnvironmentError {
    path: PathBuf,
    source: io::Error,
}

/// What a file without a suffix does, and what each suffix names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modification {
    /// The contents follow the value.
    Append,
    /// The contents become the value if it is empty.
    Default,
    /// The contents become the value.
    Override,
    /// The contents precede the value.
    Prepend,
}

/// When an environment is used: it decides which layer directories become search paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// `bin/build` of a buildpack.
    Build,
    /// A process of the app image.
    Launch,
}

impl Moment {
    /// The layer directories and the variables that list them. Spec: buildpack.md "Layer Paths".
    fn layer_paths(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::Build => &[
                ("bin", &["PATH"]),
                ("lib", &["LD_LIBRARY_PATH", "LIBRARY_PATH"]),
                ("include", &["CPATH"]),
                ("pkgconfig", &["PKG_CONFIG_PATH"]),
            ],
            Self::Launch => &[("bin", &["PATH"]), ("lib", &["LD_LIBRARY_PATH"])],
        }
    }

    /// Whether the variable lists layer directories, so that values of the platform are prepended to it.
    pub fn is_layer_path(self, name: &OsStr) -> bool {
        self.layer_paths().iter().any(|(_, names)| names.iter().any(|listed| name == *listed))
    }
}

/// A set of environment variables, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Environment {
    /// The value of a variable.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.0.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.0.insert(name.into(), value.into());
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: impl AsRef<OsStr>) {
        self.0.remove(name.as_ref());
    }

    /// The variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Prepends `value` and a colon to a list of paths.
    pub fn prepend_path(&mut self, name: impl Into<OsString>, value: &OsStr) {
        self.modify(name.into(), Modification::Prepend, value.as_bytes(), b":");
    }

    /// Prepends the directories of one layer (`bin`, `lib`, ...) that exist to the variables that list them.
    ///
    /// Call it for the layers of a buildpack in ascending order of their names, so that later layers come first: the
    /// reference does so, although the spec wants "alphabetically ascending" (see `docs/compatibility.md`).
    ///
    /// # Errors
    ///
    /// When a directory of the layer cannot be examined.
    pub fn add_layer_paths(&mut self, layer: &Path, moment: Moment) -> Result<(), EnvironmentError> {
        for (directory, names) in moment.layer_paths() {
            let path = layer.join(directory);
            match fs::metadata(&path) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(EnvironmentError { path, source }),
            }
            for name in *names {
                self.prepend_path(*name, path.as_os_str());
            }
        }
        Ok(())
    }

    /// Applies the files of an environment directory in the order of their names; a directory that does not exist
    /// changes nothing. `unsuffixed` is what a file without a suffix does: [`Modification::Override`] in layers,
    /// [`Modification::Default`] in `<build-config>/env`.
    ///
    /// # Errors
    ///
    /// When the directory or one of its files cannot be read.
    pub fn apply_directory(
        &mut self,
        directory: &Path,
        unsuffixed: Modification,
    ) -> Result<(), EnvironmentError> {
        self.apply_files(&read_environment_directory(directory)?, unsuffixed);
        Ok(())
    }

    /// The decision of [`Environment::apply_directory`]: `files` are all files of one directory, by name.
    fn apply_files(&mut self, files: &BTreeMap<OsString, Vec<u8>>, unsuffixed: Modification) {
        for (file_name, contents) in files {
            let (name, suffix) = split_at_first_dot(file_name);
            let modification = match suffix {
                None => unsuffixed,
                Some(b"append") => Modification::Append,
                Some(b"default") => Modification::Default,
                Some(b"override") => Modification::Override,
                Some(b"prepend") => Modification::Prepend,
                // ".delim" says how other files are joined; other suffixes have no meaning.
                Some(_) => continue,
            };
            if name.is_empty() {
                continue;
            }
            let mut delimiter_name = name.to_owned();
            delimiter_name.push(".delim");
            let delimiter = files.get(&delimiter_name).map_or(&b""[..], Vec::as_slice);
            self.modify(name.to_owned(), modification, contents, delimiter);
        }
    }

    fn modify(&mut self, name: OsString, modification: Modification, contents: &[u8], delimiter: &[u8]) {
        let value = self.get(&name).map_or(&b""[..], OsStr::as_bytes);
        let joined = match modification {
            Modification::Default if !value.is_empty() => return,
            _ if value.is_empty() => contents.to_vec(),
            Modification::Append => [value, delimiter, contents].concat(),
            Modification::Prepend => [contents, delimiter, value].concat(),
            Modification::Default | Modification::Override => contents.to_vec(),
        };
        self.set(name, OsString::from_vec(joined));
    }
}

/// The name of the variable ends at the first dot.
fn split_at_first_dot(file_name: &OsStr) -> (&OsStr, Option<&[u8]>) {
    let bytes = file_name.as_bytes();
    match bytes.iter().position(|byte| *byte == b'.') {
        Some(dot) => (OsStr::from_bytes(&bytes[..dot]), Some(&bytes[dot + 1..])),
        None => (file_name, None),
    }
}

/// Reads every file of an environment directory (also through symbolic links), by name. Subdirectories are left out,
/// and a directory that does not exist has no files.
///
/// # Errors
///
/// When the directory or one of its files cannot be read.
pub fn read_environment_directory(directory: &Path) -> Result<BTreeMap<OsString, Vec<u8>>, EnvironmentError> {
    let failed = |path: &Path, source| EnvironmentError { path: path.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(directory, error)),
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(directory, error))?;
        let path = entry.path();
        if fs::metadata(&path).map_err(|error| failed(&path, error))?.is_dir() {
            continue;
        }
        files.insert(entry.file_name(), fs::read(&path).map_err(|error| failed(&path, error))?);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    fn files(entries: &[(&str, &str)]) -> BTreeMap<OsString, Vec<u8>> {
        entries.iter().map(|(name, contents)| ((*name).into(), contents.as_bytes().to_vec())).collect()
    }

    /// The value of `V` after `files` were applied to an environment where it was `before`.
    fn applied(before: Option<&str>, entries: &[(&str, &str)], unsuffixed: Modification) -> Option<String> {
        let mut environment: Environment = before.map(|value| ("V", value)).into_iter().collect();
        environment.apply_files(&files(entries), unsuffixed);
        environment.get("V").map(|value| value.to_str().expect("the tests use text").to_owned())
    }

    #[test]
    fn suffixes_decide_the_modification() {
        for (before, entries, expected) in [
            // none: override
            (Some("old"), &[("V", "new")][..], Some("new")),
            (None, &[("V", "new")], Some("new")),
            (Some("old"), &[("V.override", "new")], Some("new")),
            // append and prepend, without and with a delimiter
            (Some("old"), &[("V.append", "new")], Some("oldnew")),
            (Some("old"), &[("V.append", "new"), ("V.delim", ":")], Some("old:new")),
            (None, &[("V.append", "new"), ("V.delim", ":")], Some("new")),
            (Some(""), &[("V.append", "new"), ("V.delim", ":")], Some("new")),
            (Some("old"), &[("V.prepend", "new")], Some("newold")),
            (Some("old"), &[("V.prepend", "new"), ("V.delim", "::")], Some("new::old")),
            (None, &[("V.prepend", "new"), ("V.delim", ":")], Some("new")),
            // default
            (Some("old"), &[("V.default", "new")], Some("old")),
            (Some(""), &[("V.default", "new")], Some("new")),
            (None, &[("V.default", "new")], Some("new")),
            // a delimiter alone, an unknown suffix and a second dot change nothing
            (Some("old"), &[("V.delim", ":")], Some("old")),
            (Some("old"), &[("V.unknown", "new")], Some("old")),
            (Some("old"), &[("V.append.delim", "new")], Some("old")),
            (None, &[(".append", "new")], None),
            // nothing is trimmed or evaluated
            (None, &[("V", " $HOME\n")], Some(" $HOME\n")),
            // the order of the files' names: V, V.append, V.default, V.override, V.prepend
            (Some("old"), &[("V", "1"), ("V.append", "2"), ("V.prepend", "3")], Some("312")),
            (Some("old"), &[("V.override", "1"), ("V.append", "2"), ("V.prepend", "3")], Some("31")),
        ] {
            let actual = applied(before, entries, Modification::Override);
            assert_eq!(actual.as_deref(), expected, "{before:?} {entries:?}");
        }
    }

    #[test]
    fn operators_files_without_suffix_are_defaults() {
        assert_eq!(applied(Some("old"), &[("V", "new")], Modification::Default).as_deref(), Some("old"));
        assert_eq!(applied(None, &[("V", "new")], Modification::Default).as_deref(), Some("new"));
    }

    #[test]
    fn delimiters_belong_to_their_directory() {
        let mut environment: Environment = [("V", "a")].into_iter().collect();
        environment.apply_files(&files(&[("V.delim", ":"), ("V.append", "b")]), Modification::Override);
        environment.apply_files(&files(&[("V.append", "c")]), Modification::Override);
        assert_eq!(environment.get("V"), Some(OsStr::new("a:bc")));
    }

    #[test]
    fn layer_paths_differ_between_build_and_launch() {
        for (name, build, launch) in [
            ("PATH", true, true),
            ("LD_LIBRARY_PATH", true, true),
            ("LIBRARY_PATH", true, false),
            ("CPATH", true, false),
            ("PKG_CONFIG_PATH", true, false),
            ("HOME", false, false),
        ] {
            assert_eq!(Moment::Build.is_layer_path(OsStr::new(name)), build, "{name}");
            assert_eq!(Moment::Launch.is_layer_path(OsStr::new(name)), launch, "{name}");
        }
    }

    #[test]
    fn paths_are_prepended_with_a_colon() {
        let mut environment = Environment::default();
        environment.prepend_path("PATH", OsStr::new("/a/bin"));
        environment.prepend_path("PATH", OsStr::new("/b/bin"));
        assert_eq!(environment.get("PATH"), Some(OsStr::new("/b/bin:/a/bin")));
    }

    #[test]
    fn a_missing_directory_changes_nothing() {
        let mut environment: Environment = [("V", "old")].into_iter().collect();
        let before = environment.clone();
        environment
            .apply_directory(Path::new("/does/not/exist"), Modification::Override)
            .expect("absent directories are empty");
        environment
            .add_layer_paths(Path::new("/does/not/exist"), Moment::Build)
            .expect("absent directories are empty");
        assert_eq!(environment, before);
    }

    proptest! {
        #[test]
        fn append_and_prepend_keep_every_byte(before: Vec<u8>, added: Vec<u8>, delimiter: Vec<u8>) {
            let mut environment = Environment::default();
            environment.set("V", OsString::from_vec(before.clone()));
            let entries = BTreeMap::from([
                (OsString::from("V.append"), added.clone()),
                (OsString::from("V.delim"), delimiter.clone()),
            ]);
            environment.apply_files(&entries, Modification::Override);
            let expected = if before.is_empty() { added } else { [before, delimiter, added].concat() };
            prop_assert_eq!(environment.get("V").map(OsStr::as_bytes), Some(expected.as_slice()));
        }
    }
}
