//! The inputs of a phase, from flags, the environment and defaults.
//!
//! Spec: platform.md "Usage": "MUST give command line inputs precedence over other inputs".

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use longshore_cnb::PlatformApi;
use longshore_cnb::process::DEFAULT_EXEC_ENV;

use super::flags::{self, FLAGS, Parsed};
use crate::ExperimentalMode;

/// Everything a platform can say to a phase. Fields that a phase does not use have their defaults.
#[derive(Debug, Clone)]
pub(super) struct Inputs {
    pub(super) platform_api: PlatformApi,
    /// The positional arguments: image names.
    pub(super) images: Vec<String>,
    pub(super) analyzed: PathBuf,
    pub(super) app: PathBuf,
    /// `CNB_APP_LAYER`, which the spec does not have: whether all of the app is a layer, or what changed.
    pub(super) app_layer: Option<String>,
    pub(super) build_config: PathBuf,
    pub(super) build_image: Option<String>,
    pub(super) buildpacks: PathBuf,
    pub(super) cache_directory: Option<PathBuf>,
    pub(super) cache_image: Option<String>,
    pub(super) daemon: bool,
    /// `CNB_DETECT_GROUPS`, which the spec does not have: how many groups of the order there are buildpacks for.
    pub(super) detect_groups: Option<String>,
    pub(super) exec_env: String,
    pub(super) experimental: ExperimentalMode,
    pub(super) extended: PathBuf,
    pub(super) extensions: PathBuf,
    pub(super) force: bool,
    pub(super) generated: PathBuf,
    pub(super) gid: u32,
    pub(super) group: PathBuf,
    /// `-image`, the old name of `-run-image`.
    pub(super) deprecated_run_image: Option<String>,
    pub(super) insecure_registries: Vec<String>,
    /// `CNB_KANIKO_DIR`, which the spec does not have: it must be `/kaniko` there.
    pub(super) kaniko: PathBuf,
    pub(super) kaniko_cache_ttl: String,
    pub(super) kind: String,
    pub(super) launch_cache: Option<PathBuf>,
    pub(super) launcher: PathBuf,
    pub(super) launcher_sbom: PathBuf,
    /// `CNB_LAYER_FORMAT`, which the spec does not have: how layers are compressed.
    pub(super) layer_format: Option<String>,
    pub(super) layers: PathBuf,
    pub(super) layout: bool,
    pub(super) layout_directory: Option<PathBuf>,
    pub(super) log_level: String,
    /// `CNB_MANIFEST_FORMAT`, which the spec does not have: whose media types manifests have.
    pub(super) manifest_format: Option<String>,
    pub(super) no_color: bool,
    pub(super) order: PathBuf,
    pub(super) parallel: bool,
    /// `CNB_PARANOID`, which the spec does not have: whether unchanged directories are read all the same.
    pub(super) paranoid: bool,
    pub(super) plan: PathBuf,
    pub(super) platform: PathBuf,
    pub(super) previous_image: Option<String>,
    pub(super) process_type: Option<String>,
    pub(super) project_metadata: PathBuf,
    pub(super) report: PathBuf,
    pub(super) run: PathBuf,
    pub(super) run_image: Option<String>,
    /// Whether the command line names a run image, and another one than the environment does.
    pub(super) has_run_image_flag: bool,
    pub(super) skip_layers: bool,
    pub(super) stack: PathBuf,
    pub(super) system: PathBuf,
    pub(super) tags: Vec<String>,
    pub(super) uid: u32,
    pub(super) source_date_epoch: Option<String>,
    /// The version of this lifecycle.
    pub(super) version: &'static str,
}

/// Looks values up by the names of their flags.
struct Sources<'a> {
    parsed: &'a Parsed,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    layers: String,
}

impl Sources<'_> {
    fn environment(&self, name: &str) -> Option<String> {
        (self.variable)(name)
            .map(|value| value.to_string_lossy().into_owned())
            .filter(|value| !value.is_empty())
    }

    fn flag(&self, name: &str) -> Option<&str> {
        self.parsed.flags.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The flag, or else the variable, or else the default; empty when there is none of them.
    fn text(&self, name: &str) -> String {
        if let Some(value) = self.flag(name) {
            return value.to_owned();
        }
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else { return String::new() };
        let value = flag.variable.and_then(|variable| self.environment(variable));
        value.unwrap_or_else(|| flag.default.to_owned())
    }

    /// Whether a flag says something that its variable does not say.
    fn has_own(&self, name: &str) -> bool {
        let variable = FLAGS.iter().find(|flag| flag.name == name).and_then(|flag| flag.variable);
        let elsewhere = variable.and_then(|variable| self.environment(variable));
        self.flag(name).is_some_and(|value| !value.is_empty() && Some(value) != elsewhere.as_deref())
    }

    fn option(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Values that are no booleans count as false, as in the reference.
    fn boolean(&self, name: &str) -> bool {
        flags::boolean(&self.text(name)).unwrap_or(false)
    }

    /// Values that are no numbers count as 0, as in the reference.
    fn number(&self, name: &str) -> u32 {
        self.text(name).parse().unwrap_or(0)
    }

    /// The variable separates values by commas; flags add to it.
    fn list(&self, name: &str) -> Vec<String> {
        let variable = FLAGS.iter().find(|flag| flag.name == name).and_then(|flag| flag.variable);
        let listed = variable.and_then(|variable| self.environment(variable)).unwrap_or_default();
        let flags =
            self.parsed.flags.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        let listed = listed.split(',').map(str::trim).filter(|value| !value.is_empty());
        listed.chain(flags).map(str::to_owned).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.text(name).replacen("<layers>", &self.layers, 1))
    }

    /// A directory, which is made absolute because phases change theirs.
    fn directory(&self, name: &str) -> PathBuf {
        absolute(&self.path(name))
    }

    fn optional_directory(&self, name: &str) -> Option<PathBuf> {
        self.option(name).map(|text| absolute(Path::new(&text)))
    }

    /// `<layers>/order.toml` if it is present, or `/cnb/order.toml`, unless the platform names one.
    fn order(&self) -> PathBuf {
        let path = self.path("order");
        if self.text("order").starts_with("<layers>") && !path.exists() {
            return PathBuf::from("/cnb/order.toml");
        }
        path
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Inputs {
    /// Puts the inputs together; `variable` looks up the environment.
    pub(super) fn new(
        platform_api: PlatformApi,
        parsed: &Parsed,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Self {
        let mut from = Sources { parsed, variable, layers: String::new() };
        from.layers = absolute(Path::new(&from.text("layers"))).to_string_lossy().into_owned();
        let skip_flag = from.flag("skip-layers").or_else(|| from.flag("skip-restore"));
        let skip_layers = match skip_flag {
            Some(value) => flags::boolean(value).unwrap_or(false),
            None => from.boolean("skip-layers") || from.boolean("skip-restore"),
        };
        Self {
            platform_api,
            images: parsed.positional.clone(),
            analyzed: from.path("analyzed"),
            app: from.directory("app"),
            app_layer: from.environment("CNB_APP_LAYER"),
            build_config: from.directory("build-config"),
            build_image: from.option("build-image"),
            buildpacks: from.directory("buildpacks"),
            cache_directory: from.optional_directory("cache-dir"),
            cache_image: from.option("cache-image"),
            daemon: from.boolean("daemon"),
            detect_groups: from.environment("CNB_DETECT_GROUPS"),
            exec_env: from.environment("CNB_EXEC_ENV").unwrap_or_else(|| DEFAULT_EXEC_ENV.to_owned()),
            experimental: ExperimentalMode::parse(from.environment("CNB_EXPERIMENTAL_MODE").as_deref()),
            extended: from.path("extended"),
            extensions: from.directory("extensions"),
            force: from.boolean("force"),
            generated: from.directory("generated"),
            gid: from.number("gid"),
            group: from.path("group"),
            deprecated_run_image: from.option("image"),
            insecure_registries: from.list("insecure-registry"),
            kaniko: from.environment("CNB_KANIKO_DIR").unwrap_or_else(|| "/kaniko".to_owned()).into(),
            kaniko_cache_ttl: from.text("kaniko-cache-ttl"),
            kind: from.text("kind"),
            launch_cache: from.optional_directory("launch-cache"),
            launcher: from.path("launcher"),
            launcher_sbom: from.path("launcher-sbom"),
            layer_format: from.environment("CNB_LAYER_FORMAT"),
            layers: PathBuf::from(&from.layers),
            layout: from.boolean("layout"),
            layout_directory: from.optional_directory("layout-dir"),
            log_level: from.text("log-level"),
            manifest_format: from.environment("CNB_MANIFEST_FORMAT"),
            no_color: from.boolean("no-color"),
            order: from.order(),
            parallel: from.boolean("parallel"),
            paranoid: from
                .environment("CNB_PARANOID")
                .is_some_and(|text| flags::boolean(&text) == Some(true)),
            plan: from.path("plan"),
            platform: from.directory("platform"),
            previous_image: from.option("previous-image"),
            process_type: from.option("process-type"),
            project_metadata: from.path("project-metadata"),
            report: from.path("report"),
            run: from.path("run"),
            run_image: from.option("run-image"),
            has_run_image_flag: from.has_own("run-image"),
            skip_layers,
            stack: from.path("stack"),
            system: from.path("system"),
            tags: from.list("tag"),
            uid: from.number("uid"),
            source_date_epoch: from.environment("SOURCE_DATE_EPOCH"),
            version: "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(flags: &[(&'static str, &str)], variables: &[(&str, &str)]) -> Inputs {
        let parsed = Parsed {
            flags: flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            positional: Vec::new(),
        };
        Inputs::new(PlatformApi::latest(), &parsed, &|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn flags_precede_variables_and_variables_defaults() {
        assert_eq!(inputs(&[], &[]).app, Path::new("/workspace"));
        assert_eq!(inputs(&[], &[("CNB_APP_DIR", "/variable")]).app, Path::new("/variable"));
        assert_eq!(inputs(&[], &[("CNB_APP_DIR", "")]).app, Path::new("/workspace"));
        let both = inputs(&[("app", "/flag")], &[("CNB_APP_DIR", "/variable")]);
        assert_eq!(both.app, Path::new("/flag"));
        assert_eq!(inputs(&[("app", "/one"), ("app", "/two")], &[]).app, Path::new("/two"));
        assert_eq!(inputs(&[], &[]).exec_env, "production");
    }

    #[test]
    fn files_default_to_the_layers_directory_that_holds_at_last() {
        for (flags, variables, expected) in [
            (&[][..], &[][..], "/layers/group.toml"),
            (&[("layers", "/l")], &[], "/l/group.toml"),
            (&[], &[("CNB_LAYERS_DIR", "/v")], "/v/group.toml"),
            (&[("layers", "/l")], &[("CNB_LAYERS_DIR", "/v")], "/l/group.toml"),
            (&[("layers", "/l"), ("group", "/g.toml")], &[], "/g.toml"),
            (&[("layers", "/l")], &[("CNB_GROUP_PATH", "<layers>/x.toml")], "/l/x.toml"),
        ] {
            assert_eq!(inputs(flags, variables).group, Path::new(expected), "{flags:?} {variables:?}");
        }
        assert_eq!(inputs(&[("layers", "/does/not/exist")], &[]).order, Path::new("/cnb/order.toml"));
        assert_eq!(inputs(&[("order", "/o.toml")], &[]).order, Path::new("/o.toml"));
    }

    #[test]
    fn words_that_mean_nothing_count_as_false_and_zero() {
        let odd = inputs(&[], &[("CNB_USE_DAEMON", "yes"), ("CNB_USER_ID", "me"), ("CNB_GROUP_ID", "7")]);
        assert_eq!((odd.daemon, odd.uid, odd.gid), (false, 0, 7));
        assert!(inputs(&[], &[("CNB_USE_DAEMON", "1")]).daemon);
    }

    #[test]
    fn either_variable_skips_layers_and_the_flag_decides() {
        for (flags, variables, expected) in [
            (&[][..], &[][..], false),
            (&[], &[("CNB_SKIP_LAYERS", "true")], true),
            (&[], &[("CNB_SKIP_RESTORE", "true")], true),
            (&[("skip-layers", "false")], &[("CNB_SKIP_LAYERS", "true")], false),
            (&[("skip-restore", "true")], &[], true),
        ] {
            assert_eq!(inputs(flags, variables).skip_layers, expected, "{flags:?} {variables:?}");
        }
    }

    /// Platforms set `CNB_RUN_IMAGE` for all phases, and some repeat it as a flag.
    #[test]
    fn a_run_image_flag_that_repeats_the_variable_says_nothing() {
        for (flags, variables, expected) in [
            (&[][..], &[][..], false),
            (&[("run-image", "run:1")], &[], true),
            (&[("run-image", "")], &[], false),
            (&[], &[("CNB_RUN_IMAGE", "run:1")], false),
            (&[("run-image", "run:1")], &[("CNB_RUN_IMAGE", "run:1")], false),
            (&[("run-image", "run:1")], &[("CNB_RUN_IMAGE", "run:2")], true),
        ] {
            assert_eq!(inputs(flags, variables).has_run_image_flag, expected, "{flags:?} {variables:?}");
        }
    }

    #[test]
    fn insecure_registries_add_up() {
        let listed = inputs(&[("insecure-registry", "c")], &[("CNB_INSECURE_REGISTRIES", "a,b")]);
        assert_eq!(listed.insecure_registries, ["a", "b", "c"]);
    }
}
