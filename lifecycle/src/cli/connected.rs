//! What the phases with network access share: stores, caches, credentials and the way to fewer privileges.

use std::path::Path;
use std::sync::Arc;

use longshore_cnb::analyzed::Analyzed;
use longshore_cnb::group::Group;
use longshore_cnb::lifecycle_metadata::RunImageNames;
use longshore_cnb::run::Run;
use longshore_cnb::stack::Stack;
use longshore_cnb::toml_file;
use longshore_image::daemon::DaemonStore;
use longshore_image::layer::{Ownership, ParentOwnership};
use longshore_image::{
    ImageStore, Keychain, LayerFormat, LayoutDirectory, Platform, Reference, Registry, RegistryConfig,
    StatIndex,
};

use super::failure::Failure;
use super::inputs::Inputs;
use super::privileges;
use crate::cache::{Cache, DirectoryCache, ImageCache};
use crate::launch_cache::{LaunchCache, SCRATCH};
use crate::run_image::RunImages;
use crate::{ExitCode, Identify};

/// Where images are read and written.
pub(super) struct Connection {
    /// The registry, the daemon or the layouts that app and run images are in.
    pub(super) store: Arc<dyn ImageStore>,
    /// Where cache images are: never in a daemon.
    pub(super) registry: Arc<dyn ImageStore>,
    pub(super) identify: Identify,
    pub(super) platform: Platform,
}

impl Connection {
    /// Reads the credentials, which only root may be able to read, and prepares the registry client.
    pub(super) fn open(inputs: &Inputs) -> Result<Self, Failure> {
        let keychain = Keychain::from_environment()
            .map_err(|error| Failure::new(ExitCode::Failed, "resolve keychain", &error))?;
        if privileges::are_given_up(inputs.uid) {
            ask_helpers(&keychain, inputs);
        }
        let mut config = RegistryConfig::new(keychain);
        config.insecure = inputs.insecure_registries.clone();
        // A volume that is not there is not for this phase to make.
        let kept = kept(inputs).filter(|directory| directory.is_dir());
        config.config_cache = kept.map(|directory| directory.join("configs"));
        let registry = Registry::new(config)
            .map_err(|error| Failure::new(ExitCode::Failed, "prepare the registry client", &error))?;
        let registry: Arc<dyn ImageStore> = Arc::new(registry);
        let platform = Platform::host();
        if let Some(layouts) = layouts(inputs)? {
            let store = Arc::new(layouts.clone());
            return Ok(Self { store, registry, identify: Identify::ByPath(layouts), platform });
        }
        if inputs.daemon {
            let daemon = DaemonStore::connect()
                .map_err(|error| Failure::new(ExitCode::Failed, "initialize docker client", &error))?;
            let store: Arc<dyn ImageStore> = match inputs.launch_cache.as_deref().filter(|path| path.is_dir())
            {
                Some(directory) => Arc::new(LaunchCache::new(Arc::new(daemon), directory)),
                None => Arc::new(daemon),
            };
            return Ok(Self { store, registry, identify: Identify::ByImageId, platform });
        }
        Ok(Self { store: Arc::clone(&registry), registry, identify: Identify::ByDigest, platform })
    }
}

/// Credential helpers may need what only root can read, so they are asked while the process is root; the keychain keeps
/// their answers. Whatever is wrong here is reported when the credential is used.
fn ask_helpers(keychain: &Keychain, inputs: &Inputs) {
    let references = registry_images(inputs).into_iter().filter_map(|name| name.parse::<Reference>().ok());
    for reference in references {
        if let Err(error) = keychain.credential(reference.registry(), reference.repository()) {
            tracing::debug!("no credential for '{}': {error}", reference.familiar());
        }
    }
}

/// The names of all images on registries that a phase may read or write.
fn registry_images(inputs: &Inputs) -> Vec<String> {
    let mut names: Vec<String> = inputs.cache_image.iter().chain(&inputs.build_image).cloned().collect();
    if inputs.daemon {
        return names;
    }
    names.extend(inputs.images.iter().chain(&inputs.tags).cloned());
    names.extend(inputs.previous_image.iter().chain(&inputs.run_image).cloned());
    match run_images(inputs) {
        Ok(RunImages::Run(run)) => {
            names.extend(run.images.iter().flat_map(RunImageNames::all).map(str::to_owned));
        }
        Ok(RunImages::Stack(stack)) => names.extend(stack.run_image.all().map(str::to_owned)),
        Err(_) => {}
    }
    if let Ok(Some(analyzed)) = analyzed(inputs) {
        names.extend(analyzed.previous_reference().map(str::to_owned));
        names.extend(analyzed.run_image.into_iter().flat_map(|image| [image.image, image.reference]));
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The directory of layouts that images are read from and written to, if they are (`-layout`).
fn layouts(inputs: &Inputs) -> Result<Option<LayoutDirectory>, Failure> {
    if !inputs.layout {
        return Ok(None);
    }
    inputs
        .experimental
        .guard("Export to OCI layout format")
        .map_err(|error| Failure::new(ExitCode::Failed, "use -layout", &error))?;
    match &inputs.layout_directory {
        Some(directory) => Ok(Some(LayoutDirectory::new(directory))),
        None => Err(Failure::text(
            ExitCode::InvalidArguments,
            "failed to resolve inputs: -layout needs the directory of the layouts (-layout-dir or CNB_LAYOUT_DIR)",
        )),
    }
}

/// Gives volumes to the user of the build image and becomes that user.
pub(super) fn give_up_privileges(inputs: &Inputs, volumes: &[Option<&Path>]) -> Result<(), Failure> {
    let volumes: Vec<&Path> = volumes.iter().flatten().copied().collect();
    privileges::ensure_owner(inputs.uid, inputs.gid, &volumes)
        .map_err(|error| Failure::new(ExitCode::Failed, "chown volumes", &error))?;
    let action = format!("exec as user {}:{}", inputs.uid, inputs.gid);
    privileges::run_as(inputs.uid, inputs.gid)
        .map_err(|error| Failure::new(ExitCode::Failed, &action, &error))
}

/// To whom the files of new layers belong.
pub(super) fn ownership(inputs: &Inputs) -> Ownership {
    Ownership { uid: inputs.uid, gid: inputs.gid, parents: ParentOwnership::OnDisk }
}

/// The cache that the platform named, if any. New layers of a cache image lie in `scratch` on their way.
pub(super) fn cache(
    inputs: &Inputs,
    connection: &Connection,
    scratch: &Path,
) -> Result<Option<Box<dyn Cache>>, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new(ExitCode::Failed, "open the cache", error);
    if let Some(name) = &inputs.cache_image {
        let reference: Reference = name
            .parse()
            .map_err(|error| Failure::new(ExitCode::InvalidArguments, "resolve inputs", &error))?;
        let cache = ImageCache::open(
            Arc::clone(&connection.registry),
            reference,
            LayerFormat::TarGzip,
            scratch.to_owned(),
        )
        .map_err(|error| failed(&error))?;
        return Ok(Some(Box::new(cache)));
    }
    let Some(directory) = &inputs.cache_directory else {
        tracing::warn!("No cached data will be used, no cache specified.");
        return Ok(None);
    };
    let cache = DirectoryCache::open(directory).map_err(|error| failed(&error))?;
    Ok(Some(Box::new(cache)))
}

/// Where things of this app are kept from one build to the next: beside the cache, or beside the launch cache.
fn kept(inputs: &Inputs) -> Option<&Path> {
    inputs.cache_directory.as_deref().or(inputs.launch_cache.as_deref())
}

/// What the layers were at the last build. To be opened when the buildpacks have ended.
pub(super) fn stat_index(inputs: &Inputs) -> Option<StatIndex> {
    Some(StatIndex::open(&kept(inputs)?.join("stat-index"), inputs.paranoid))
}

/// The run images that the platform offers; a file that does not exist offers none.
pub(super) fn run_images(inputs: &Inputs) -> Result<RunImages, Failure> {
    if inputs.platform_api.has_run_toml() {
        read_optional::<Run>(&inputs.run).map(RunImages::Run)
    } else {
        read_optional::<Stack>(&inputs.stack).map(RunImages::Stack)
    }
}

pub(super) fn group(inputs: &Inputs) -> Result<Group, Failure> {
    let group: Group = toml_file::read(&inputs.group)
        .map_err(|error| Failure::new(ExitCode::Failed, "read group", &error))?;
    for buildpack in &group.buildpacks {
        buildpack.buildpack_api().map_err(|error| {
            let action = format!("set API for buildpack '{buildpack}'");
            Failure::new(ExitCode::IncompatibleBuildpackApi, &action, &error)
        })?;
    }
    Ok(group)
}

/// `analyzed.toml`; nothing was analyzed when it does not exist.
pub(super) fn analyzed(inputs: &Inputs) -> Result<Option<Analyzed>, Failure> {
    toml_file::read_optional(&inputs.analyzed)
        .map_err(|error| Failure::new(ExitCode::Failed, "read analyzed metadata", &error))
}

fn read_optional<T: serde::de::DeserializeOwned + Default>(path: &Path) -> Result<T, Failure> {
    toml_file::read_optional(path)
        .map(Option::unwrap_or_default)
        .map_err(|error| Failure::new(ExitCode::InvalidArguments, "resolve inputs", &error))
}

/// Writes an output file, and the directories above it.
pub(super) fn write(path: &Path, content: &str) -> Result<(), Failure> {
    let written = match path.parent() {
        Some(parent) => fs_err::create_dir_all(parent).and_then(|()| fs_err::write(path, content)),
        None => fs_err::write(path, content),
    };
    written.map_err(|error| Failure::new(ExitCode::Failed, "write an output", &error))
}

/// The value of a variable that names a format.
pub(super) fn format<T>(variable: &str, text: Option<&str>) -> Result<Option<T>, Failure>
where
    T: std::str::FromStr<Err = longshore_image::InvalidFormat>,
{
    let parsed = text.filter(|text| !text.is_empty()).map(str::parse).transpose();
    parsed.map_err(|error| Failure::new(ExitCode::InvalidArguments, &format!("read {variable}"), &error))
}

/// A directory for blobs on their way, which goes with the process: beside the launch cache where there is one, which then
/// gets them without a copy.
pub(super) fn scratch(inputs: &Inputs) -> Result<tempfile::TempDir, Failure> {
    let launch_cache = inputs.launch_cache.as_deref().filter(|path| inputs.daemon && path.is_dir());
    let beside = launch_cache.and_then(|path| tempfile::Builder::new().prefix(SCRATCH).tempdir_in(path).ok());
    beside
        .map_or_else(tempfile::tempdir, Ok)
        .map_err(|error| Failure::new(ExitCode::Failed, "create a temporary directory", &error))
}

#[cfg(test)]
mod tests {
    use longshore_cnb::PlatformApi;

    use super::*;
    use crate::cli::flags::Parsed;

    fn inputs(directory: &Path, flags: &[(&'static str, &str)]) -> Inputs {
        let layers = directory.display().to_string();
        let own = [("layers", layers.as_str()), ("run", &format!("{layers}/run.toml"))];
        let flags = own.iter().chain(flags).map(|(name, value)| (*name, (*value).to_owned()));
        let parsed = Parsed { flags: flags.collect(), positional: vec!["r.io/app:1".to_owned()] };
        Inputs::new(PlatformApi::latest(), &parsed, &|_| None)
    }

    /// Helpers were asked after root had become the user, who cannot read what they read.
    #[test]
    fn credentials_are_asked_for_every_image_that_a_phase_may_use() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs_err::write(directory.path().join(name), text).unwrap();
        write("run.toml", "[[images]]\nimage = \"hub/run\"\nmirrors = [\"m.io/run\"]\n");
        write(
            "analyzed.toml",
            "[image]\nreference = \"p.io/old@sha256:1\"\n[run-image]\nreference = \"e.io/run@sha256:2\"\n",
        );
        let flags = [("cache-image", "c.io/cache"), ("tag", "r.io/app:2"), ("previous-image", "p.io/old")];
        let names = registry_images(&inputs(directory.path(), &flags));
        for name in [
            "c.io/cache",
            "r.io/app:1",
            "r.io/app:2",
            "p.io/old",
            "hub/run",
            "m.io/run",
            "p.io/old@sha256:1",
            "e.io/run@sha256:2",
        ] {
            assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
        }
        assert!(names.iter().all(|name| !name.is_empty()));
        let daemon = [("daemon", "true"), ("cache-image", "c.io/cache")];
        assert_eq!(registry_images(&inputs(directory.path(), &daemon)), ["c.io/cache"]);
    }
}
