//! Variables as people give them: `NAME=VALUE`, or `NAME` for the value that it has here.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, bail};

/// A variable as it is given to `--env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    name: String,
    value: Option<String>,
}

impl FromStr for Assignment {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('=') {
            Some((name, value)) => Self { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Self { name: text.to_owned(), value: None },
        })
    }
}

impl Assignment {
    /// The variable; `None` when it is named without a value and is not set here.
    pub(crate) fn resolve(self) -> Option<(OsString, OsString)> {
        let value = match self.value {
            Some(value) => OsString::from(value),
            None => std::env::var_os(&self.name)?,
        };
        Some((self.name.into(), value))
    }
}

/// The variables of a file: one in each line, without quotes; empty lines and those that begin with `#` mean nothing.
///
/// # Errors
/// When the file cannot be read, or a line has no name.
pub(crate) fn read_environment_file(path: &Path) -> anyhow::Result<Vec<Assignment>> {
    let text = fs_err::read_to_string(path).context("cannot read the environment file")?;
    let mut assignments = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Ok(assignment) = line.parse::<Assignment>();
        if assignment.name.is_empty() {
            bail!("line {} of {} has no name before the `=`", number + 1, path.display());
        }
        assignments.push(assignment);
    }
    Ok(assignments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_environment_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# comment\n\nA=1\n  B = x=y\nNOT_SET_ANYWHERE\n").unwrap();
        let variables: Vec<_> =
            read_environment_file(file.path()).unwrap().into_iter().filter_map(Assignment::resolve).collect();
        assert_eq!(
            variables,
            [("A".into(), "1".into()), ("B ".into(), " x=y".into())] as [(OsString, OsString); 2]
        );
        std::fs::write(file.path(), "A=1\n=2\n").unwrap();
        assert!(read_environment_file(file.path()).unwrap_err().to_string().starts_with("line 2 of "));
    }
}
