//! Which process is started, with which arguments. Spec: platform.md "`launcher`", "Inputs".

use std::ffi::OsString;
use std::path::PathBuf;

use longshore_cnb::metadata_toml::LaunchMetadata;
use longshore_cnb::process::Process;

use crate::error::LaunchError;
use crate::inputs::Inputs;

/// A start command that was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    /// The type of the process, unless the user gave the command.
    pub(crate) process_type: Option<String>,
    /// The executable, or a line for the shell.
    pub(crate) command: OsString,
    pub(crate) args: Vec<OsString>,
    /// Without a shell.
    pub(crate) direct: bool,
    pub(crate) working_directory: PathBuf,
}

pub(crate) fn select(inputs: &Inputs, metadata: &LaunchMetadata) -> Result<Start, LaunchError> {
    match inputs.program_name().filter(|name| metadata.process(name).is_some()) {
        Some(process_type) => buildpack_process(inputs, metadata, process_type),
        None => user_process(inputs, metadata),
    }
}

fn buildpack_process(
    inputs: &Inputs,
    metadata: &LaunchMetadata,
    process_type: &str,
) -> Result<Start, LaunchError> {
    let process = metadata
        .processes
        .iter()
        .find(|process| {
            process.process_type == process_type
                && (!inputs.platform_api.has_exec_env() || process.is_eligible(&inputs.exec_env))
        })
        .ok_or_else(|| LaunchError::NotEligible {
            process_type: process_type.to_owned(),
            exec_env: inputs.exec_env.clone(),
        })?;
    let working_directory = match process.working_directory.as_str() {
        "" => inputs.app.clone(),
        // The launcher has changed to the app directory when this is used.
        directory => inputs.app.join(directory),
    };
    let (command, args) = words(inputs, metadata, process)?;
    if command.is_empty() {
        return Err(LaunchError::EmptyProcess { process_type: process_type.to_owned() });
    }
    Ok(Start {
        process_type: Some(process_type.to_owned()),
        command,
        args,
        direct: process.direct,
        working_directory,
    })
}

/// The command and its arguments, the user's among them.
fn words(
    inputs: &Inputs,
    metadata: &LaunchMetadata,
    process: &Process,
) -> Result<(OsString, Vec<OsString>), LaunchError> {
    let user = &inputs.arguments;
    let own = process.args.iter().flatten().map(OsString::from);
    let always = process.command.iter().skip(1).map(OsString::from);
    let command = process.command.first().map(OsString::from).unwrap_or_default();
    let args = if !inputs.platform_api.has_overridable_args() {
        always.chain(own).chain(user.iter().cloned()).collect()
    } else if user.is_empty() {
        always.chain(own).collect()
    } else if process.command.len() > 1 || has_overridable_args(metadata, process)? {
        always.chain(user.iter().cloned()).collect()
    } else {
        own.chain(user.iter().cloned()).collect()
    };
    Ok((command, args))
}

/// Whether the buildpack that provided the process supports default arguments.
fn has_overridable_args(metadata: &LaunchMetadata, process: &Process) -> Result<bool, LaunchError> {
    let buildpack = metadata.buildpacks.iter().find(|buildpack| buildpack.id == process.buildpack_id);
    let buildpack = buildpack.ok_or_else(|| LaunchError::UnknownBuildpack {
        process_type: process.process_type.clone(),
        id: process.buildpack_id.clone(),
    })?;
    buildpack
        .buildpack_api()
        .map(longshore_cnb::BuildpackApi::has_overridable_args)
        .map_err(|source| LaunchError::BuildpackApi { id: buildpack.id.clone(), source })
}

fn user_process(inputs: &Inputs, metadata: &LaunchMetadata) -> Result<Start, LaunchError> {
    let (direct, words) = match inputs.arguments.as_slice() {
        [dashes, words @ ..] if dashes == "--" && !words.is_empty() => (true, words),
        words => (false, words),
    };
    let Some((command, args)) = words.split_first() else {
        let types = metadata.processes.iter().map(|process| process.process_type.clone()).collect();
        return Err(LaunchError::NoCommand { types });
    };
    Ok(Start {
        process_type: None,
        command: command.clone(),
        args: args.to_vec(),
        direct,
        working_directory: inputs.app.clone(),
    })
}

#[cfg(test)]
mod tests {
    use longshore_cnb::PlatformApi;

    use super::*;

    /// `old` comes from a buildpack without default arguments, `new` from one with them.
    const METADATA: &str = r#"
        [[buildpacks]]
        id = "new"
        api = "0.9"
        version = "1"
        [[buildpacks]]
        id = "old"
        api = "0.8"
        version = "1"
        [[processes]]
        type = "list"
        command = ["server", "always"]
        args = ["default"]
        direct = true
        buildpack-id = "new"
        [[processes]]
        type = "one"
        command = ["server"]
        args = ["default"]
        direct = true
        buildpack-id = "new"
        working-dir = "sub"
        [[processes]]
        type = "legacy"
        command = "server"
        args = ["default"]
        buildpack-id = "old"
        [[processes]]
        type = "orphan"
        command = ["server"]
        buildpack-id = "gone"
        [[processes]]
        type = "empty"
        command = []
        buildpack-id = "new"
        [[processes]]
        type = "test"
        command = ["server"]
        exec-env = ["test"]
        buildpack-id = "new"
    "#;

    fn selected(api: &str, program: &str, arguments: &[&str]) -> Result<Start, LaunchError> {
        let inputs = Inputs {
            platform_api: PlatformApi::parse(api).expect("supported"),
            layers: "/layers".into(),
            app: "/workspace".into(),
            exec_env: "production".into(),
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            has_process_type: false,
        };
        select(&inputs, &toml::from_str(METADATA).expect("valid"))
    }

    #[test]
    fn arguments_follow_the_apis_of_platform_and_buildpack() {
        for (api, process_type, user, expected) in [
            ("0.9", "list", &[][..], &["always", "default"][..]),
            ("0.9", "list", &["user"], &["always", "default", "user"]),
            ("0.9", "one", &["user"], &["default", "user"]),
            ("0.9", "legacy", &["user"], &["default", "user"]),
            ("0.10", "list", &[], &["always", "default"]),
            ("0.10", "list", &["user"], &["always", "user"]),
            ("0.10", "one", &[], &["default"]),
            ("0.10", "one", &["user"], &["user"]),
            ("0.10", "legacy", &[], &["default"]),
            ("0.10", "legacy", &["user"], &["default", "user"]),
            ("0.15", "list", &["a", "b"], &["always", "a", "b"]),
        ] {
            let start = selected(api, &format!("/cnb/process/{process_type}"), user).expect("valid");
            assert_eq!(start.args, expected, "{api} {process_type} {user:?}");
            assert_eq!(start.command, "server");
            assert_eq!(start.process_type.as_deref(), Some(process_type));
            assert_eq!(start.direct, process_type != "legacy");
        }
    }

    #[test]
    fn the_user_may_give_a_command() {
        for (program, arguments, direct, words) in [
            ("/cnb/lifecycle/launcher", &["--", "echo", "x"][..], true, &["echo", "x"][..]),
            ("/cnb/lifecycle/launcher", &["echo", "x"], false, &["echo", "x"]),
            ("/cnb/lifecycle/launcher", &["list"], false, &["list"]),
            ("/cnb/process/unknown", &["echo"], false, &["echo"]),
            ("launcher", &["--"], false, &["--"]),
        ] {
            let start = selected("0.12", program, arguments).expect("valid");
            assert_eq!(start.direct, direct, "{arguments:?}");
            assert_eq!(start.command, words[0]);
            assert_eq!(start.args, words[1..]);
            assert_eq!(start.process_type, None);
            assert_eq!(start.working_directory, PathBuf::from("/workspace"));
        }
    }

    #[test]
    fn what_cannot_be_started_is_explained() {
        for (api, program, arguments, part) in [
            ("0.12", "launcher", &[][..], "a command is required"),
            ("0.12", "empty", &[], "has no command"),
            ("0.12", "orphan", &["user"], "not in the image's metadata"),
            ("0.15", "test", &[], "execution environment 'production'"),
        ] {
            let message = selected(api, program, arguments).expect_err("cannot be started").to_text();
            assert!(message.contains(part), "{program}: {message}");
        }
        // Before 0.15 nobody filters by execution environment.
        assert!(selected("0.14", "test", &[]).is_ok());
        assert!(selected("0.12", "orphan", &[]).is_ok());
    }

    #[test]
    fn working_directories_default_to_the_app() {
        for (process_type, expected) in [("list", "/workspace"), ("one", "/workspace/sub")] {
            let start = selected("0.12", process_type, &[]).expect("valid");
            assert_eq!(start.working_directory, PathBuf::from(expected), "{process_type}");
        }
    }
}
