//! Data that looks like what people build, and is the same on every machine: there is no network in it.

mod random;
mod text;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::bench::{Bench, remove};
pub(crate) use tree::TreeSpec;

/// Changes with whatever changes the data.
const VERSION: u32 = 1;

/// An npm tree as in `reference`: 33,810 files in 39,673 entries, about 480 MB as a tar.
pub(crate) const NPM: TreeSpec = TreeSpec {
    seed: 1,
    files: 33_810,
    folders: 5_743,
    links: 120,
    bytes: 449_000_000,
    spread: 1.9,
    largest: 8 << 20,
};

/// A fraction of it for quick runs.
const QUICK_DIVISOR: u64 = 50;

/// 200,000 small files.
const SMALL: TreeSpec = TreeSpec {
    seed: 2,
    files: 200_000,
    folders: 4_000,
    links: 0,
    bytes: 150_000_000,
    spread: 1.2,
    largest: 64 << 10,
};

/// The size of the one large file.
const LARGE: u64 = 2 << 30;

/// The folder of a layers directory in which data stands: that of the buildpack whose layers they are.
pub(crate) const BUILDPACK: &str = "bench_app";

/// Data is a layers directory of the lifecycle, so that nothing has to be copied to be exported.
impl Bench {
    /// The npm tree, as the layer `tree`.
    pub(crate) fn npm(&self) -> anyhow::Result<PathBuf> {
        self.made("npm", |layers| tree::write(&self.sized(NPM), &layers.join("tree/node_modules")))
    }

    /// The same amount in 20 layers, `00` to `19`.
    pub(crate) fn twenty(&self) -> anyhow::Result<PathBuf> {
        self.made("twenty", |layers| {
            (0..20).try_for_each(|index| {
                let spec = NPM.divided(20).seeded(100 + index);
                tree::write(&self.sized(spec), &layers.join(format!("{index:02}/node_modules")))
            })
        })
    }

    pub(crate) fn small_files(&self) -> anyhow::Result<PathBuf> {
        self.made("small", |layers| tree::write(&self.sized(SMALL), &layers.join("tree/files")))
    }

    pub(crate) fn large_file(&self) -> anyhow::Result<PathBuf> {
        let size = if self.options.quick { LARGE / QUICK_DIVISOR } else { LARGE };
        self.made("large", |layers| tree::write_mixture(&layers.join("tree/file"), size))
    }

    fn sized(&self, spec: TreeSpec) -> TreeSpec {
        if self.options.quick { spec.divided(QUICK_DIVISOR) } else { spec }
    }

    /// Data that is made once: it is complete when its stamp says so. Returns the layers directory.
    fn made(&self, name: &str, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
        let (folder, stamp) = (self.data.join(name), self.data.join(format!("{name}.stamp")));
        let version = VERSION.to_string();
        if fs_err::read_to_string(&stamp).is_ok_and(|text| text == version) {
            return Ok(folder);
        }
        println!("Making the data `{name}`");
        remove(&folder)?;
        fs_err::create_dir_all(&folder)?;
        make(&folder.join(BUILDPACK)).with_context(|| format!("cannot make {}", folder.display()))?;
        fs_err::write(&stamp, version)?;
        Ok(folder)
    }
}
