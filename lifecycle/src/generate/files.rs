//! Where generated files are put.
//!
//! Spec: platform.md "`detector`" "Outputs" (the layout before Platform API 0.13), image_extension.md "Process".

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use longshore_cnb::group::directory_name;

use super::error::GenerateError;
use super::outputs::Generated;

/// The ending of a Dockerfile that has no effect.
const IGNORED: &str = ".ignore";

/// Copies Dockerfiles to `<generated>/<kind>/<id>/Dockerfile`, where platforms before Platform API 0.13 look for them.
pub(super) fn copy(generated: &Generated, directory: &Path, ignored: bool) -> Result<(), GenerateError> {
    let target =
        directory.join(generated.kind.directory_name()).join(directory_name(&generated.extension_id));
    fs_err::create_dir_all(&target).map_err(|source| GenerateError::io("create", &target, source))?;
    let name = if ignored { format!("Dockerfile{IGNORED}") } else { "Dockerfile".to_owned() };
    copy_file(&generated.path, &target.join(name))?;
    let config = generated.path.with_file_name("extend-config.toml");
    if config.exists() { copy_file(&config, &target.join("extend-config.toml")) } else { Ok(()) }
}

fn copy_file(source: &Path, target: &Path) -> Result<(), GenerateError> {
    fs_err::copy(source, target).map(|_| ()).map_err(|error| GenerateError::io("copy", source, error))
}

/// Renames a Dockerfile that has no effect, so that it is not applied.
pub(super) fn ignore(dockerfile: &Path) -> Result<(), GenerateError> {
    let mut name = OsString::from(dockerfile);
    name.push(IGNORED);
    fs_err::rename(dockerfile, &name).map_err(|source| GenerateError::io("rename", dockerfile, source))
}

/// Copies the files that an extension without `bin/generate` brings along.
pub(super) fn copy_directory(source: &Path, target: &Path) -> Result<(), GenerateError> {
    let entries = match fs_err::read_dir(source) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(GenerateError::io("list", source, error)),
    };
    fs_err::create_dir_all(target).map_err(|error| GenerateError::io("create", target, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| GenerateError::io("list", source, error))?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let kind = entry.file_type().map_err(|error| GenerateError::io("examine", &from, error))?;
        if kind.is_dir() {
            copy_directory(&from, &to)?;
        } else if kind.is_symlink() {
            let link = fs_err::read_link(&from).map_err(|error| GenerateError::io("read", &from, error))?;
            std::os::unix::fs::symlink(link, &to).map_err(|error| GenerateError::io("create", &to, error))?;
        } else {
            copy_file(&from, &to)?;
        }
    }
    Ok(())
}
