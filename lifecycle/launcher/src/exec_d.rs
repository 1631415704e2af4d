//! Executables of layers that compute variables when the process starts.
//!
//! Spec: buildpack.md "Exec.d" and "Exec.d Output (TOML)".

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
fn variables(output: &str) -> Result<Vec<(String, String)>, String> {
    let table: toml::Table = output.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    table
        .into_iter()
        .map(|(name, value)| match value {
            toml::Value::String(value) => Ok((name, value)),
            other => Err(format!("'{name}' must be a string, not {}", other.type_str())),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_top_level_strings() {
        for (output, expected) in [
            ("", Ok(vec![])),
            ("A = 'x'\nB = \"y\\n\"", Ok(vec![("A", "x"), ("B", "y\n")])),
            ("A = 1", Err("'A' must be a string, not integer")),
            ("[A]\nB = 'x'", Err("'A' must be a string, not table")),
            ("A.B = 'x'", Err("'A' must be a string, not table")),
        ] {
            let expected = expected
                .map(|list: Vec<(&str, &str)>| {
                    list.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
                })
                .map_err(str::to_owned);
            assert_eq!(variables(output), expected, "{output}");
        }
        assert!(variables("not TOML").is_err());
    }
}
