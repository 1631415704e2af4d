//! The environment in which `bin/detect`, `bin/generate` and `bin/build` run.
//!
//! Spec: buildpack.md "Environment", platform.md "Buildpack Environment".

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use longshore_cnb::environment::{
    Environment, EnvironmentError, Modification, Moment, read_environment_directory,
};

/// What modules inherit from the lifecycle's own environment, apart from the variables that list layer paths.
const INHERITED: [&str; 9] = [
    "CNB_STACK_ID",
    "HOSTNAME",
    "HOME",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// The environment that modules share, and what the user and the operator add to it.
#[derive(Debug, Clone)]
pub(crate) struct ModuleEnvironment {
    base: Environment,
    user: BTreeMap<OsString, Vec<u8>>,
    build_config: PathBuf,
}

impl ModuleEnvironment {
    /// Starts from the lifecycle's own environment, `inherited`, the files of `<platform>/env` and those of
    /// `<build-config>/env`.
    pub(crate) fn new<N, V>(
        inherited: impl IntoIterator<Item = (N, V)>,
        platform: &Path,
        build_config: &Path,
    ) -> Result<Self, EnvironmentError>
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        Ok(Self {
            base: inherited
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .filter(|(name, _)| is_inherited(name))
                .collect(),
            user: read_environment_directory(&platform.join("env"))?,
            build_config: build_config.join("env"),
        })
    }

    /// Makes a build layer available to later buildpacks: its paths, then its `env`, then its `env.build`.
    pub(crate) fn add_build_layer(&mut self, layer: &Path) -> Result<(), EnvironmentError> {
        self.base.add_layer_paths(layer, Moment::Build)?;
        self.base.apply_directory(&layer.join("env"), Modification::Override)?;
        self.base.apply_directory(&layer.join("env.build"), Modification::Override)
    }

    /// The environment of one module: the user's variables come over the shared ones unless the module asked for a
    /// clear environment, and the operator's over both.
    pub(crate) fn for_module(&self, clear: bool) -> Result<Environment, EnvironmentError> {
        let mut environment = self.base.clone();
        if !clear {
            for (name, value) in &self.user {
                let value = OsString::from_vec(value.clone());
                if Moment::Build.is_layer_path(name) {
                    environment.prepend_path(name, &value);
                } else {
                    environment.set(name, value);
                }
            }
        }
        environment.apply_directory(&self.build_config, Modification::Default)?;
        Ok(environment)
    }
}

fn is_inherited(name: &OsStr) -> bool {
    INHERITED.iter().any(|inherited| name == *inherited) || Moment::Build.is_layer_path(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directories(tempfile::TempDir);

    impl Directories {
        fn new(files: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().expect("a temporary directory");
            for (path, contents) in files {
                let path = directory.path().join(path);
                fs_err::create_dir_all(path.parent().expect("files have parents")).expect("created");
                fs_err::write(path, contents).expect("written");
            }
            Self(directory)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn environment(&self, inherited: &[(&str, &str)]) -> ModuleEnvironment {
            ModuleEnvironment::new(inherited.iter().copied(), &self.path("platform"), &self.path("config"))
                .expect("readable")
        }
    }

    fn variables(environment: &ModuleEnvironment, clear: bool) -> Vec<String> {
        let environment = environment.for_module(clear).expect("readable");
        environment
            .iter()
            .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
            .collect()
    }

    #[test]
    fn only_the_named_variables_are_inherited() {
        let directories = Directories::new(&[]);
        let inherited = [
            ("CNB_STACK_ID", "s"),
            ("CNB_REGISTRY_AUTH", "secret"),
            ("CPATH", "c"),
            ("DOCKER_CONFIG", "/home/user/.docker"),
            ("HOME", "/home/cnb"),
            ("HOSTNAME", "h"),
            ("HTTPS_PROXY", "p"),
            ("LANG", "C"),
            ("LD_LIBRARY_PATH", "l"),
            ("LIBRARY_PATH", "b"),
            ("PATH", "/bin"),
            ("PKG_CONFIG_PATH", "k"),
            ("no_proxy", "n"),
        ];
        let kept = variables(&directories.environment(&inherited), false);
        let expected: Vec<_> = inherited
            .iter()
            .filter(|(name, _)| !["CNB_REGISTRY_AUTH", "DOCKER_CONFIG", "LANG"].contains(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(kept, expected);
    }

    #[test]
    fn the_user_comes_over_the_layers_and_the_operator_over_both() {
        let directories = Directories::new(&[
            ("platform/env/PATH", "/user"),
            ("platform/env/BP_X", "user"),
            ("platform/env/BP_DEFAULTED", "user"),
            ("platform/env/A.append", "a file name is a variable name"),
            ("config/env/BP_X.append", "+operator"),
            ("config/env/BP_DEFAULTED", "operator"),
            ("config/env/BP_NEW", "operator"),
            ("config/env/PATH.prepend", "/operator"),
            ("config/env/PATH.delim", ":"),
            ("layer/bin/tool", ""),
            ("layer/env/BP_X", "layer"),
            ("layer/env.build/BP_LAYER", "layer"),
            ("layer/env.launch/BP_LAUNCH", "layer"),
        ]);
        let mut environment = directories.environment(&[("PATH", "/base")]);
        environment.add_build_layer(&directories.path("layer")).expect("readable");
        let layer = directories.path("layer/bin").display().to_string();
        assert_eq!(
            variables(&environment, false),
            [
                "A.append=a file name is a variable name".to_owned(),
                "BP_DEFAULTED=user".to_owned(),
                "BP_LAYER=layer".to_owned(),
                "BP_NEW=operator".to_owned(),
                "BP_X=user+operator".to_owned(),
                format!("PATH=/operator:/user:{layer}:/base"),
            ]
        );
        assert_eq!(
            variables(&environment, true),
            [
                "BP_DEFAULTED=operator".to_owned(),
                "BP_LAYER=layer".to_owned(),
                "BP_NEW=operator".to_owned(),
                "BP_X=layer+operator".to_owned(),
                format!("PATH=/operator:{layer}:/base"),
            ]
        );
    }

    #[test]
    fn values_are_not_trimmed() {
        let directories = Directories::new(&[("platform/env/BP_X", " value\n")]);
        assert_eq!(variables(&directories.environment(&[]), false), ["BP_X= value\n"]);
    }
}
