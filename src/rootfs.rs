//! Root filesystems of images: each layer is unpacked once, into a directory named by its DiffID, and shared by all
//! sandboxes.
//!
//! `unpacked/MAPPING/DIFFID` is complete: a layer is unpacked beside it and renamed. Whether it still is after the machine
//! has stopped is told by [`durable`]. Owners depend on how ids are mapped, so each mapping has its own.

mod abandoned;
mod durable;
mod source;
mod worker;

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Display;
use std::fs::{File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, bail};
use longshore_image::{Descriptor, DiffId, LocalStore};
use longshore_sandbox::{IdMapping, give_tree, remove_tree};

use crate::images::FoundImage;
pub(crate) use abandoned::clear_abandoned_layers;
pub(crate) use durable::Syncing;
use durable::{Records, State};
use source::Source;
use worker::Task;
pub(crate) use worker::UNPACK;

/// How many layers are unpacked at once while they are downloaded: that waits for the network more than for a processor.
const DOWNLOADS: usize = 6;

/// The unpacked layers of one user.
#[derive(Debug, Clone)]
pub(crate) struct RootFilesystems {
    directory: PathBuf,
    mapping: IdMapping,
    records: Records,
}

/// The layers of an image.
pub(crate) struct Layers {
    /// Their directories, lowest first.
    pub(crate) paths: Vec<PathBuf>,
    records: Records,
    /// Those that were unpacked now.
    new: Vec<DiffId>,
    /// Those that were there, and are not known to be on the disk.
    old: Vec<DiffId>,
}

impl Layers {
    /// Brings all layers to the disk meanwhile.
    pub(crate) fn sync(&self) -> Syncing {
        Syncing::start(&self.records, &[&self.new[..], &self.old].concat())
    }

    /// Brings those to the disk meanwhile that were there before: there is little left to do for them. The others are left
    /// to who uses them next.
    pub(crate) fn sync_old(&self) -> Syncing {
        Syncing::start(&self.records, &self.old)
    }
}

/// A layer that is to be unpacked.
struct Missing<'a> {
    diff_id: DiffId,
    blob: &'a Descriptor,
    /// Whether another build was unpacking it when it was its turn, and only that is left to wait for.
    is_busy: bool,
}

/// The layers that are to be unpacked, the smallest first, and who reads them.
struct Work<'a> {
    found: &'a FoundImage,
    local: &'a LocalStore,
    missing: Mutex<VecDeque<Missing<'a>>>,
}

impl<'a> Work<'a> {
    fn next(&self) -> Option<Missing<'a>> {
        self.missing().pop_back()
    }

    fn missing(&self) -> std::sync::MutexGuard<'_, VecDeque<Missing<'a>>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RootFilesystems {
    /// The layers in `directory`, unpacked for sandboxes with `mapping`.
    pub(crate) fn new(directory: &Path, mapping: IdMapping) -> Self {
        let directory = directory.join(mapping.name());
        Self { records: Records::new(directory.clone()), directory, mapping }
    }

    /// Whether a layer is unpacked.
    pub(crate) fn has(&self, diff_id: DiffId) -> bool {
        self.records.state(diff_id) != State::Missing
    }

    /// The layers of an image without those in `spared`. What is not unpacked yet is read from where the image was found,
    /// or from the local store. `name` is what people call the image.
    ///
    /// # Errors
    /// When a layer cannot be read or written, is not the one that the configuration names, or user namespaces are
    /// forbidden.
    pub(crate) fn layers(
        &self,
        found: &FoundImage,
        local: &LocalStore,
        name: &dyn Display,
        spared: &BTreeSet<DiffId>,
    ) -> anyhow::Result<Layers> {
        let image = &found.image;
        let blobs = image
            .manifest
            .as_image()
            .map(|manifest| manifest.layers.as_slice())
            .with_context(|| format!("`{name}` is an index and not an image"))?;
        let mut diff_ids = image.config.diff_ids();
        if blobs.is_empty() {
            // Some programs keep other things than file systems in such images. Nothing can be mounted of no layers.
            bail!("the image `{name}` has no layers, so there is nothing in it to run");
        }
        if blobs.len() != diff_ids.len() {
            bail!(
                "the image `{name}` is not valid: it has {} layers, and its configuration names {}",
                blobs.len(),
                diff_ids.len()
            );
        }
        let (mut missing, mut old): (Vec<Missing<'_>>, Vec<DiffId>) = Default::default();
        for (&diff_id, blob) in diff_ids.iter().zip(blobs).filter(|(diff_id, _)| !spared.contains(diff_id)) {
            match self.records.state(diff_id) {
                State::OnDisk => {}
                State::InMemory => old.push(diff_id),
                State::Missing => {
                    if !missing.iter().any(|other| other.diff_id == diff_id) {
                        missing.push(Missing { diff_id, blob, is_busy: false });
                    }
                }
            }
        }
        let new: Vec<_> = missing.iter().map(|layer| layer.diff_id).collect();
        if !missing.is_empty() {
            tracing::info!("Unpacking {} of {} layers of {name}", missing.len(), blobs.len());
            self.unpack_all(found, local, missing).with_context(|| format!("cannot unpack `{name}`"))?;
        }
        diff_ids.retain(|diff_id| !spared.contains(diff_id));
        if !self.records.knows_boot() {
            self.records.sync(&new)?;
        }
        let paths = diff_ids.into_iter().map(|diff_id| self.records.path(diff_id)).collect();
        Ok(Layers { paths, records: self.records.clone(), new, old })
    }

    /// Unpacks layers side by side, the largest first.
    fn unpack_all(
        &self,
        found: &FoundImage,
        local: &LocalStore,
        mut missing: Vec<Missing<'_>>,
    ) -> anyhow::Result<()> {
        // Only its owner comes in: the layers are opened before the sandbox becomes somebody else.
        fs_err::create_dir_all(&self.directory)?;
        fs_err::set_permissions(&self.directory, Permissions::from_mode(0o700))?;
        missing.sort_by_key(|layer| layer.blob.size);
        let threads = threads(found, &missing);
        let work = Work { found, local, missing: Mutex::new(missing.into()) };
        let work_off = || {
            while let Some(layer) = work.next() {
                if let Err(error) = self.unpack_next(&work, &layer) {
                    // What others have begun is of use for the next build.
                    work.missing().clear();
                    return Err(error.context(format!("cannot unpack the layer {}", layer.blob.digest)));
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work_off)).collect();
            let all = workers
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread that unpacks failed")));
            // All are waited for.
            all.fold(Ok(()), anyhow::Result::and)
        })
    }

    /// Unpacks a layer, or waits for the other build that does.
    fn unpack_next<'a>(&self, work: &Work<'a>, layer: &Missing<'a>) -> anyhow::Result<()> {
        let Missing { diff_id, blob, is_busy } = *layer;
        let Some(mut lock) = self.lock(diff_id, is_busy)? else {
            work.missing().push_front(Missing { diff_id, blob, is_busy: true });
            return Ok(());
        };
        if self.records.state(diff_id) != State::Missing {
            return Ok(());
        }
        let name = self.records.path(diff_id);
        let partial = name.with_extension("partial");
        remove_tree(&partial)?;
        // It was in memory only when the machine stopped.
        remove_tree(&name)?;
        self.records.begin(diff_id, &mut lock)?;
        let unpacked = self.unpack(work, layer, &partial);
        if unpacked.is_err() {
            remove_tree(&partial)?;
        }
        unpacked?;
        fs_err::rename(&partial, &name)?;
        Ok(())
    }

    /// Unpacks a layer into a new directory. One that arrives damaged is asked for once more.
    fn unpack(&self, work: &Work<'_>, layer: &Missing<'_>, directory: &Path) -> anyhow::Result<()> {
        let Missing { diff_id, blob, .. } = *layer;
        let mut opened = self.make(directory)?;
        let mut source = Source::find(work.found, work.local, blob, &self.directory)?;
        loop {
            let file = source.file()?;
            let task = Task { diff_id, blob, file: &file, directory: &opened, mapping: &self.mapping };
            match worker::unpack(task, |arrival| source.arrive(arrival)) {
                (Ok(()), unpacked) => return source.end(unpacked),
                // When both fail, the blob is to blame.
                (Err(failure), _) => source = source.after(failure)?,
            }
            remove_tree(directory)?;
            opened = self.make(directory)?;
        }
    }

    /// Makes the directory of a layer, which belongs to root of the sandbox.
    fn make(&self, directory: &Path) -> anyhow::Result<File> {
        fs_err::create_dir(directory)?;
        fs_err::set_permissions(directory, Permissions::from_mode(0o755))?;
        give_tree(directory, &self.mapping, 0, 0)?;
        Ok(fs_err::File::open(directory)?.into())
    }

    /// Keeps other builds from unpacking the same layer meanwhile; `None` while another one does, unless it is waited for.
    fn lock(&self, diff_id: DiffId, waits: bool) -> anyhow::Result<Option<File>> {
        let path = self.records.lock(diff_id);
        // What it says stays.
        let mut options = fs_err::OpenOptions::new();
        let lock = File::from(options.create(true).truncate(false).read(true).write(true).open(&path)?);
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            Err(TryLockError::WouldBlock) if !waits => return Ok(None),
            Err(_) => {}
        }
        tracing::info!("Waiting for another build to unpack the layer {diff_id}");
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Some(lock))
    }
}

/// How many layers are unpacked at once.
fn threads(found: &FoundImage, missing: &[Missing<'_>]) -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let is_file = |layer: &Missing<'_>| {
        found.store.blob_file(&found.image.reference, layer.blob).is_ok_and(|file| file.is_some())
    };
    // Those that wait for the network leave the processors to the others.
    let at_once = if missing.first().is_some_and(is_file) { processors } else { processors.max(DOWNLOADS) };
    at_once.min(missing.len())
}
