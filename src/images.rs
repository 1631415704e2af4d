//! Where images are: the local store, registries, and layouts named `oci:DIRECTORY[:NAME]`.

mod copy;
mod new;
mod places;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail};
use longshore_image::{
    Image, ImageStore, Keychain, Layout, LayoutName, LocalStore, Platform, Reference, Registry,
    RegistryConfig,
};

pub(crate) use copy::Endpoint;
pub(crate) use new::NewImage;
pub(crate) use places::Places;

use crate::directories::Directories;
use crate::settings::{PullPolicy, Settings};

/// How an image is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// In the local store or a registry.
    Reference(Reference),
    /// In an OCI image layout: `oci:DIRECTORY` or `oci:DIRECTORY:NAME`.
    Layout {
        /// The directory of the layout.
        directory: PathBuf,
        /// Which of its images; left out, its only one.
        name: Option<String>,
    },
}

impl std::str::FromStr for Location {
    type Err = longshore_image::InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(layout) = text.strip_prefix("oci:") else {
            return Ok(Self::Reference(text.parse()?));
        };
        // A colon after the last slash, or a whole reference behind the directory, separates the name.
        let (directory, name) = match layout.split_once(':') {
            Some((directory, name)) if !directory.is_empty() && !name.is_empty() => (directory, Some(name)),
            _ => (layout, None),
        };
        Ok(Self::Layout { directory: directory.into(), name: name.map(str::to_owned) })
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reference(reference) => formatter.write_str(&reference.familiar()),
            Self::Layout { directory, name: None } => write!(formatter, "oci:{}", directory.display()),
            Self::Layout { directory, name: Some(name) } => {
                write!(formatter, "oci:{}:{name}", directory.display())
            }
        }
    }
}

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
    /// When a credential file is not valid.
    pub(crate) fn registry(&self) -> anyhow::Result<Arc<Registry>> {
        if let Some(registry) = self.registry.get() {
            return Ok(Arc::clone(registry));
        }
        let keychain = Keychain::from_environment().context("cannot use the registry credentials")?;
        let mut config = RegistryConfig::new(keychain);
        config.insecure.clone_from(&self.insecure);
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
            Location::Layout { directory, name } => {
                let layout = Arc::new(open_layout(directory, name.as_deref())?);
                let anything = layout_reference()?;
                let image = layout.resolve(&anything, platform)?;
                Ok(image.map(|image| FoundImage { image, store: layout }))
            }
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

fn open_layout(directory: &Path, name: Option<&str>) -> anyhow::Result<Layout> {
    let name = name.map_or(LayoutName::Only, |name| LayoutName::Named(name.to_owned()));
    Ok(Layout::open(directory, name)?)
}

/// A layout that is opened for one image resolves whatever is asked for.
fn layout_reference() -> anyhow::Result<Reference> {
    Ok("layout.invalid/image".parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_read_as_people_write_them() {
        for (text, expected) in [
            ("app", "app:"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
            ("oci:dir", "dir|"),
            ("oci:/a/dir:v1", "/a/dir|v1"),
            ("oci:dir:docker.io/library/app:latest", "dir|docker.io/library/app:latest"),
        ] {
            match text.parse::<Location>().unwrap() {
                Location::Reference(_) => assert!(expected.starts_with(text), "{text}"),
                Location::Layout { directory, name } => {
                    let found = format!("{}|{}", directory.display(), name.unwrap_or_default());
                    assert_eq!(found, expected);
                }
            }
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        assert!("App/UPPER:!".parse::<Location>().is_err());
    }
}
