//! The launch layers of the image: their environment directories and their scripts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use longshore_cnb::environment::{Environment, Modification, Moment};
use longshore_cnb::group::{self, GroupElement};

use crate::error::LaunchError;

/// The layer directories of every buildpack: buildpacks in the order they ran, layers by name.
#[derive(Debug)]
pub(crate) struct LaunchLayers(Vec<Vec<PathBuf>>);

impl LaunchLayers {
    /// Finds the layers, and makes sure that the launcher knows the API of each buildpack.
    pub(crate) fn find(layers: &Path, buildpacks: &[GroupElement]) -> Result<Self, LaunchError> {
        let mut found = Vec::with_capacity(buildpacks.len());
        for buildpack in buildpacks {
            buildpack
                .buildpack_api()
                .map_err(|source| LaunchError::BuildpackApi { id: buildpack.id.clone(), source })?;
            let directory = layers.join(group::directory_name(&buildpack.id));
            found.push(sorted_entries(&directory, |path| {
                fs::symlink_metadata(path).map(|metadata| metadata.is_dir())
            })?);
        }
        Ok(Self(found))
    }

    /// Spec: buildpack.md "Environment": for each buildpack the paths of all its layers, then their variables.
    pub(crate) fn apply_environment(
        &self,
        environment: &mut Environment,
        process_type: Option<&str>,
    ) -> Result<(), LaunchError> {
        for layers in &self.0 {
            for layer in layers {
                environment.add_layer_paths(layer, Moment::Launch)?;
            }
            for layer in layers {
                environment.apply_directory(&layer.join("env"), Modification::Override)?;
                let launch = layer.join("env.launch");
                environment.apply_directory(&launch, Modification::Override)?;
                if let Some(process_type) = process_type {
                    environment.apply_directory(&launch.join(process_type), Modification::Override)?;
                }
            }
        }
        Ok(())
    }

    /// The files in a directory of every layer, followed by those for one process type: in each group by buildpack, by
    /// layer and by name. Spec: platform.md "`launcher`", "Execution".
    pub(crate) fn files(
        &self,
        directory: &str,
        process_type: Option<&str>,
    ) -> Result<Vec<PathBuf>, LaunchError> {
        let mut files = Vec::new();
        let of_all_layers = |files: &mut Vec<PathBuf>, subdirectory: &Path| {
            for layer in self.0.iter().flatten() {
                files.extend(sorted_entries(&layer.join(subdirectory), |path| {
                    fs::metadata(path).map(|metadata| !metadata.is_dir())
                })?);
            }
            Ok::<_, LaunchError>(())
        };
        of_all_layers(&mut files, Path::new(directory))?;
        if let Some(process_type) = process_type {
            of_all_layers(&mut files, &Path::new(directory).join(process_type))?;
        }
        Ok(files)
    }
}

/// The entries of a directory that `keep` accepts, by name; a directory that does not exist has none.
fn sorted_entries(
    directory: &Path,
    keep: impl Fn(&Path) -> io::Result<bool>,
) -> Result<Vec<PathBuf>, LaunchError> {
    let failed = |path: &Path, source| LaunchError::Directory { path: path.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(directory, error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        if keep(&path).map_err(|error| failed(&path, error))? {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}
