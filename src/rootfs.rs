//! Root filesystems of images: each layer is unpacked once, into a directory named by its DiffID, and shared by all
//! sandboxes.
//!
//! `unpacked/MAPPING/DIFFID` is complete when it is there: a layer is unpacked beside it and renamed. Owners depend on
//! how ids are mapped, so each mapping has its own.

use std::fmt::Display;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, bail};
use longshore_image::unpack::{self, OverlayAttribute, Owner, Policy, SpecialFiles, Whiteouts};
use longshore_image::{Descriptor, DiffId, Image, ImageStore};
use longshore_sandbox::{
    IdMapping, Worker, WorkerFailure, WorkerFunction, WorkerInput, give_tree, remove_tree,
};

/// The worker that unpacks a layer: its table entry for [`longshore_sandbox::init_with`].
pub(crate) const UNPACK: (&str, WorkerFunction) = ("unpack", unpack_inside);

/// The unpacked layers of one user.
#[derive(Debug, Clone)]
pub(crate) struct RootFilesystems {
    directory: PathBuf,
    mapping: IdMapping,
}

/// A layer that is to be unpacked.
struct Missing<'a> {
    diff_id: DiffId,
    blob: &'a Descriptor,
}

impl RootFilesystems {
    /// The layers in `directory`, unpacked for sandboxes with `mapping`.
    pub(crate) fn new(directory: &Path, mapping: IdMapping) -> Self {
        Self { directory: directory.join(mapping.name()), mapping }
    }

    /// The directories of the layers of an image, lowest first. What is not unpacked yet is read from `store`. `name` is
    /// what people call the image.
    ///
    /// # Errors
    /// When a layer cannot be read or written, is not the one that the configuration names, or user namespaces are
    /// forbidden.
    pub(crate) fn layers(
        &self,
        store: &dyn ImageStore,
        image: &Image,
        name: &dyn Display,
    ) -> anyhow::Result<Vec<PathBuf>> {
        let blobs = image
            .manifest
            .as_image()
            .map(|manifest| manifest.layers.as_slice())
            .with_context(|| format!("`{name}` is an index and not an image"))?;
        let diff_ids = image.config.diff_ids();
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
        let mut missing: Vec<Missing<'_>> = Vec::new();
        for (&diff_id, blob) in diff_ids.iter().zip(blobs) {
            if !self.path(diff_id).exists() && !missing.iter().any(|other| other.diff_id == diff_id) {
                missing.push(Missing { diff_id, blob });
            }
        }
        if !missing.is_empty() {
            tracing::info!("Unpacking {} of {} layers of {name}", missing.len(), blobs.len());
            self.unpack_all(store, image, missing).with_context(|| format!("cannot unpack `{name}`"))?;
        }
        Ok(diff_ids.into_iter().map(|diff_id| self.path(diff_id)).collect())
    }

    fn path(&self, diff_id: DiffId) -> PathBuf {
        self.directory.join(diff_id.hex())
    }

    /// Unpacks layers side by side, the largest first.
    fn unpack_all(
        &self,
        store: &dyn ImageStore,
        image: &Image,
        mut missing: Vec<Missing<'_>>,
    ) -> anyhow::Result<()> {
        // Only its owner comes in: the layers are opened before the sandbox becomes somebody else.
        fs_err::create_dir_all(&self.directory)?;
        fs_err::set_permissions(&self.directory, Permissions::from_mode(0o700))?;
        missing.sort_by_key(|layer| layer.blob.size);
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        let queue = Mutex::new(missing);
        let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        while let Some(layer) = next() {
                            self.unpack(store, image, &layer)
                                .with_context(|| format!("cannot unpack the layer {}", layer.blob.digest))?;
                        }
                        anyhow::Ok(())
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().unwrap_or_else(|_| bail!("a thread that unpacks failed"))
            })
        })
    }

    fn unpack(&self, store: &dyn ImageStore, image: &Image, layer: &Missing<'_>) -> anyhow::Result<()> {
        let target = self.path(layer.diff_id);
        let _lock = self.lock(layer.diff_id)?;
        if target.exists() {
            return Ok(());
        }
        let partial = target.with_extension("partial");
        remove_tree(&partial)?;
        fs_err::create_dir(&partial)?;
        fs_err::set_permissions(&partial, Permissions::from_mode(0o755))?;
        give_tree(&partial, &self.mapping, 0, 0)?;
        let unpacked = self.unpack_into(store, image, layer, &partial);
        if unpacked.is_err() {
            remove_tree(&partial)?;
        }
        unpacked?;
        fs_err::rename(&partial, &target)?;
        Ok(())
    }

    /// Starts the worker and gives it the blob, whose digest the store verifies as it is read.
    fn unpack_into(
        &self,
        store: &dyn ImageStore,
        image: &Image,
        layer: &Missing<'_>,
        directory: &Path,
    ) -> anyhow::Result<()> {
        let mut blob = store.open_blob(&image.reference, layer.blob)?;
        let directory = fs_err::File::open(directory)?;
        let (reader, mut writer) = io::pipe()?;
        std::thread::scope(|scope| {
            let copying = scope.spawn(move || io::copy(&mut blob, &mut writer));
            let worker = Worker::new(UNPACK.0)
                .argument(layer.diff_id.to_string())
                .argument(if self.mapping.is_single() { "ignore" } else { "keep" })
                .descriptor(&reader)
                .descriptor(directory.file());
            let unpacked = worker.run(&self.mapping);
            drop(reader);
            let copied =
                copying.join().unwrap_or_else(|_| Err(io::Error::other("the copying thread failed")));
            match copied {
                // The worker stopped reading; it says why.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                copied => drop(copied?),
            }
            unpacked?;
            anyhow::Ok(())
        })
    }

    /// Keeps other builds from unpacking the same layer meanwhile.
    fn lock(&self, diff_id: DiffId) -> anyhow::Result<File> {
        let path = self.directory.join(format!("{}.lock", diff_id.hex()));
        let lock = fs_err::File::create(&path)?;
        if lock.file().try_lock().is_err() {
            tracing::info!("Waiting for another build to unpack the layer {diff_id}");
            lock.file().lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(lock.into_parts().0)
    }
}

/// The worker: unpacks the layer that comes through the first descriptor into the directory that the second one is.
fn unpack_inside(input: WorkerInput) -> Result<String, WorkerFailure> {
    let (Ok([reader, directory]), [diff_id, owner]) =
        (<[_; 2]>::try_from(input.descriptors), input.arguments.as_slice())
    else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
    };
    let diff_id: DiffId = diff_id.to_string_lossy().parse()?;
    let policy = Policy {
        owner: if owner == "keep" { Owner::Keep } else { Owner::Ignore },
        whiteouts: Whiteouts::Overlay(OverlayAttribute::User),
        special_files: SpecialFiles::Skip,
        // Nothing in a sandbox gains by them, and with a single id they would be the caller's own for everybody else.
        set_id: false,
        ..Policy::rootfs(Owner::Ignore)
    }
    .expecting(diff_id);
    let mut blob = File::from(reader);
    unpack::apply(&mut blob, std::os::fd::AsFd::as_fd(&directory), &policy)?;
    // What follows the last member of the blob still has to be read: its digest is verified on the other side.
    io::copy(&mut blob, &mut io::sink())?;
    Ok(String::new())
}
