//! Executables of layers that compute variables when the process starts.
//!
//! Spec: buildpack.md "Exec.d" and "Exec.d Output (TOML)".

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use longshore_cnb::environment::Environment;

use crate::error::LaunchError;

/// Where the executable writes its variables.
const OUTPUT_FD: i32 = 3;

/// Runs one executable in the launch environment and sets the variables that it returns.
pub(crate) fn run(path: &Path, environment: &mut Environment) -> Result<(), LaunchError> {
    let failed = |source| LaunchError::ExecD { path: path.to_owned(), source };
    let (mut reader, writer) = io::pipe().map_err(failed)?;
    let mut command = Command::new(path);
    command
        .stdin(Stdio::null())
        .env_clear()
        .envs(environment.iter())
        .fd_mappings(vec![FdMapping { parent_fd: writer.into(), child_fd: OUTPUT_FD }])
        .map_err(|error| failed(io::Error::other(error)))?;
    let mut child = command.spawn().map_err(failed)?;
    // The command holds our end for writing; without it the pipe ends when the executable does.
    drop(command);
    let mut output = String::new();
    let read = reader.read_to_string(&mut output);
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        return Err(LaunchError::ExecDFailed { path: path.to_owned(), status });
    }
    read.map_err(failed)?;
    let variables =
        variables(&output).map_err(|reason| LaunchError::ExecDOutput { path: path.to_owned(), reason })?;
    for (name, value) in variables {
        environment.set(name, value);
    }
    Ok(())
}

/// Top-level keys with strings, nothing else.
fn variables(output: &str) -> Result<BTreeMap<String, String>, String> {
    toml::from_str(output).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_top_level_strings() {
        for (output, expected) in [
            ("", Some(&[][..])),
            ("A = 'x'\nB = \"y\\n\"", Some(&[("A", "x"), ("B", "y\n")][..])),
            ("A = 1", None),
            ("[A]\nB = 'x'", None),
            ("A.B = 'x'", None),
            ("not TOML", None),
        ] {
            let expected = expected.map(|pairs| {
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
            });
            assert_eq!(variables(output).ok(), expected, "{output}");
        }
    }
}
