//! Where images are: the local store, registries, daemons, layouts and archives.

mod location;
mod new;
mod places;
mod remembered;
mod transport;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail};
use longshore_image::registry::Mirrors;
use longshore_image::{
    Image, ImageStore, Keychain, LocalStore, Platform, Reference, Registry, RegistryConfig,
};

pub(crate) use location::Location;
pub(crate) use new::NewImage;
pub(crate) use places::Places;
pub(crate) use remembered::Remembered;
pub(crate) use transport::Opened;

use crate::directories::Directories;
use crate::settings::{PullPolicy, Settings};

/// An image and where its blobs can be read.
#[derive(Clone)]
pub(crate) struct FoundImage {
    /// The image.
    pub(crate) image: Image,
    /// The place it was found in.
    pub(crate) store: Arc<dyn ImageStore>,
}

/// All places that images can be in.
pub(crate) struct Images {
    local: Arc<LocalStore>,
    insecure: Vec<String>,
    /// By registry, `*` for all.
    mirrors: BTreeMap<String, String>,
    /// Where configurations of images in registries are kept.
    config_cache: PathBuf,
    registry: OnceLock<Arc<Registry>>,
}

impl Images {
    /// The places of a user. No registry is contacted yet.
    ///
    /// # Errors
    /// When the local store cannot be opened.
    pub(crate) fn open(directories: &Directories, settings: &Settings) -> anyhow::Result<Self> {
        let path = directories.store();
        let local = LocalStore::open(&path)
            .with_context(|| format!("cannot open the local image store `{}`", path.display()))?;
        Ok(Self {
            local: Arc::new(local),
            insecure: settings.insecure_registries.clone(),
            mirrors: settings.registry_mirrors.clone(),
            config_cache: directories.cache.join("configs"),
            registry: OnceLock::new(),
        })
    }

    /// Registries whose certificates need not be valid, besides those of the settings.
    pub(crate) fn allow_insecure(&mut self, registries: &[String]) {
        self.insecure.extend_from_slice(registries);
    }

    /// The local store.
    pub(crate) const fn local(&self) -> &Arc<LocalStore> {
        &self.local
    }

    /// All registries, with the user's credentials.
    ///
    /// # Errors
    /// When a credential file or a setting of mirrors is not valid.
    pub(crate) fn registry(&self) -> anyhow::Result<Arc<Registry>> {
        if let Some(registry) = self.registry.get() {
            return Ok(Arc::clone(registry));
        }
        let keychain = Keychain::from_environment().context("cannot use the registry credentials")?;
        let mut config = RegistryConfig::new(keychain);
        config.insecure.clone_from(&self.insecure);
        config.config_cache = Some(self.config_cache.clone());
        let pairs = self.mirrors.iter().map(|(registry, mirror)| (registry.as_str(), mirror.as_str()));
        let ours =
            Mirrors::of_registries(pairs).context("cannot use the registry mirrors of the settings")?;
        config.mirrors = ours.then(Mirrors::from_environment()?);
        let registry = Arc::new(Registry::new(config)?);
        Ok(Arc::clone(self.registry.get_or_init(|| registry)))
    }

    /// Where the result goes: to the registry with `publish`, else to the local store.
    ///
    /// # Errors
    /// As [`Images::registry`].
    pub(crate) fn destination(&self, publish: bool) -> anyhow::Result<Arc<dyn ImageStore>> {
        if publish { Ok(self.registry()?) } else { Ok(Arc::clone(&self.local) as Arc<dyn ImageStore>) }
    }

    /// Looks an image up; `None` when no place has it.
    ///
    /// # Errors
    /// When a place cannot be asked, or has the image only for other platforms.
    pub(crate) fn find(
        &self,
        location: &Location,
        platform: &Platform,
        policy: PullPolicy,
    ) -> anyhow::Result<Option<FoundImage>> {
        match location {
            Location::Reference(reference) => match policy {
                PullPolicy::Never => self.find_local(reference, platform),
                PullPolicy::IfNotPresent => match self.find_local(reference, platform)? {
                    Some(found) => Ok(Some(found)),
                    None => self.find_remote(reference, platform),
                },
                PullPolicy::Always => match self.find_remote(reference, platform) {
                    Ok(Some(found)) => Ok(Some(found)),
                    Ok(None) => self.find_local(reference, platform),
                    // An image that was never published must not need its registry.
                    Err(error) => match self.find_local(reference, platform)? {
                        Some(found) => {
                            tracing::warn!(
                                "cannot ask the registry for `{}`; the one of the local store is used: {error:#}",
                                reference.familiar()
                            );
                            Ok(Some(found))
                        }
                        None => Err(error),
                    },
                },
            },
            other => {
                let opened = self.open_source(other, policy)?;
                let image = opened.store.resolve(&opened.reference, platform)?;
                Ok(image.map(|image| FoundImage { image, store: opened.store }))
            }
        }
    }

    /// Looks an image up that must be there; `what` says what it is for (`builder`, `run image`).
    ///
    /// # Errors
    /// As [`Images::find`], and when there is none; the error says what to do then.
    pub(crate) fn get(
        &self,
        location: &Location,
        platform: &Platform,
        policy: PullPolicy,
        what: &str,
    ) -> anyhow::Result<FoundImage> {
        let found = self
            .find(location, platform, policy)
            .with_context(|| format!("cannot read the {what} `{location}`"))?;
        match (found, policy) {
            (Some(found), _) => Ok(found),
            (None, PullPolicy::Never) => bail!(
                "there is no {what} `{location}` in the local store, and `--pull-policy never` forbids to ask \
                 its registry"
            ),
            (None, _) => {
                bail!("there is no {what} `{location}`, neither in the local store nor in its registry")
            }
        }
    }

    fn find_local(&self, reference: &Reference, platform: &Platform) -> anyhow::Result<Option<FoundImage>> {
        let store = Arc::clone(&self.local) as Arc<dyn ImageStore>;
        let image = store.resolve(reference, platform)?;
        Ok(image.map(|image| FoundImage { image, store }))
    }

    /// Looks an image up in its registry only.
    ///
    /// # Errors
    /// When the registry cannot be asked, or has the image only for other platforms.
    pub(crate) fn find_remote(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> anyhow::Result<Option<FoundImage>> {
        let store = self.registry()? as Arc<dyn ImageStore>;
        let image = store.resolve(reference, platform)?;
        Ok(image.map(|image| FoundImage { image, store }))
    }
}
