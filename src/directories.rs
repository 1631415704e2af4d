//! Where Longshore keeps things: the XDG base directories.

use std::path::PathBuf;

use anyhow::Context;
use etcetera::BaseStrategy;

/// The directories of one user.
#[derive(Debug, Clone)]
pub(crate) struct Directories {
    /// `$XDG_CONFIG_HOME/longshore`: settings.
    pub(crate) configuration: PathBuf,
    /// `$XDG_DATA_HOME/longshore`: the image store.
    pub(crate) data: PathBuf,
    /// `$XDG_CACHE_HOME/longshore`: build caches and unpacked layers; all of it can be made again.
    pub(crate) cache: PathBuf,
    /// `$XDG_STATE_HOME/longshore`: what was learnt and is not worth much.
    pub(crate) state: PathBuf,
    /// Where pack keeps its configuration: `$PACK_HOME`, or `~/.pack`.
    pub(crate) pack: PathBuf,
}

impl Directories {
    /// The directories of the user who runs this program.
    ///
    /// # Errors
    /// When the home directory is not known.
    pub(crate) fn of_user() -> anyhow::Result<Self> {
        let base = etcetera::base_strategy::Xdg::new().context(
            "cannot tell the home directory; set HOME, or XDG_DATA_HOME, XDG_CONFIG_HOME and XDG_CACHE_HOME",
        )?;
        let pack = std::env::var_os("PACK_HOME")
            .filter(|home| !home.is_empty())
            .map_or_else(|| base.home_dir().join(".pack"), PathBuf::from);
        Ok(Self {
            configuration: base.config_dir().join("longshore"),
            data: base.data_dir().join("longshore"),
            cache: base.cache_dir().join("longshore"),
            state: base.state_dir().unwrap_or_else(|| base.home_dir().join(".local/state")).join("longshore"),
            pack,
        })
    }

    /// The local image store: an OCI image layout.
    pub(crate) fn store(&self) -> PathBuf {
        self.data.join("store")
    }

    /// The caches of app images: one directory each. A later version that keeps them in another way has another number,
    /// and leaves these alone.
    pub(crate) fn app_caches(&self) -> PathBuf {
        self.cache.join("apps/v1")
    }

    /// The unpacked layers of images.
    pub(crate) fn unpacked(&self) -> PathBuf {
        self.cache.join("unpacked")
    }

    /// The work directories of builds that run.
    pub(crate) fn builds(&self) -> PathBuf {
        self.cache.join("builds")
    }
}
