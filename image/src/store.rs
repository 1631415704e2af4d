//! What every place that holds images can do: the local store, a layout, an archive, a registry, a daemon.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use crate::{BlobFollower, BlobSink, Config, Descriptor, Digest, Manifest, Platform, Reference, StoreError};

/// An image as it was found: its manifest for the wanted platform and its configuration.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name under which it was found.
    pub reference: Reference,
    /// The image manifest (never an index).
    pub manifest: Manifest,
    /// The configuration.
    pub config: Config,
    /// The index through which the manifest was chosen, if there was one.
    pub index: Option<Manifest>,
}

/// Where the bytes of a blob are, when it is written to a store.
#[derive(Debug, Clone)]
pub enum BlobSource {
    /// In memory: configurations and other small blobs.
    Bytes(bytes::Bytes),
    /// A file that holds exactly the blob.
    File(PathBuf),
    /// In another store: opened only when the blob is neither there nor can be mounted.
    Lazy(BlobOpener),
}

/// Opens a blob that is somewhere else.
#[derive(Clone)]
pub struct BlobOpener(Arc<Opener>);

type Opener = dyn Fn(u64) -> Result<Box<dyn Read + Send>, StoreError> + Send + Sync;

impl BlobOpener {
    /// An opener; it is called once for each attempt to write the blob.
    #[must_use]
    pub fn new(open: impl Fn() -> Result<Box<dyn Read + Send>, StoreError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |offset| Ok(Box::new(FromOffset { inner: open()?, left: offset }))))
    }

    /// The blob in the repository of `reference` of another store.
    #[must_use]
    pub fn of(store: Arc<dyn ImageStore>, reference: Reference, blob: Descriptor) -> Self {
        Self::from_offset(move |offset| store.open_blob_from(&reference, &blob, offset))
    }

    /// An opener that can begin at an offset.
    pub(crate) fn from_offset(
        open: impl Fn(u64) -> Result<Box<dyn Read + Send>, StoreError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(open))
    }

    /// Opens the blob.
    ///
    /// # Errors
    /// When the blob is not there or cannot be read.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, StoreError> {
        self.open_from(0)
    }

    /// The bytes of the blob from an offset on; whoever has those before it verifies the whole.
    pub(crate) fn open_from(&self, offset: u64) -> Result<Box<dyn Read + Send>, StoreError> {
        (self.0)(offset)
    }
}

/// Passes over the first bytes of a reader.
struct FromOffset<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for FromOffset<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left > 0 {
            let skipped = io::copy(&mut self.inner.by_ref().take(self.left), &mut io::sink())?;
            if skipped < self.left {
                return Ok(0);
            }
            self.left = 0;
        }
        self.inner.read(buffer)
    }
}

impl fmt::Debug for BlobOpener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BlobOpener")
    }
}

/// What writing a blob took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobOutcome {
    /// It was there already: nothing was written or sent.
    Present,
    /// The registry took it from another of its repositories: nothing was sent.
    Mounted,
    /// It was written or sent.
    Written,
}

/// A place that holds images. All methods are safe to call from many threads at once, and block.
pub trait ImageStore: Send + Sync {
    /// The image of that name for a platform; `None` when there is no such name. An index is resolved.
    ///
    /// # Errors
    /// When the place cannot be read, refuses, or holds something invalid.
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError>;

    /// What the name points to as it is, an index unresolved; `None` when there is no such name. Places that only know
    /// images give the image for this machine.
    ///
    /// # Errors
    /// As [`ImageStore::resolve`].
    fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, StoreError> {
        let image = self.resolve(reference, &Platform::host())?;
        Ok(image.map(|image| image.index.unwrap_or(image.manifest)))
    }

    /// The digest of what the name points to in that very place, asked as cheaply as the place allows; `None` when there
    /// is no such name.
    ///
    /// # Errors
    /// As [`ImageStore::manifest`].
    fn digest_of(&self, reference: &Reference) -> Result<Option<Digest>, StoreError> {
        Ok(self.manifest(reference)?.map(|manifest| manifest.digest()))
    }

    /// A manifest that an index points to, in the repository of `reference`.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is no manifest.
    fn child(&self, reference: &Reference, child: &Descriptor) -> Result<Manifest, StoreError> {
        let manifest = self.manifest(&reference.with_digest(child.digest))?;
        let missing = || StoreError::NotFoundBlob { reference: reference.familiar(), digest: child.digest };
        manifest.filter(|manifest| manifest.digest() == child.digest).ok_or_else(missing)
    }

    /// Puts a manifest into the repository of `reference` without a name, for an index to point to.
    ///
    /// # Errors
    /// When the place cannot be written, or something that the manifest points to is not there.
    fn put_child(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError> {
        self.put_manifest(&reference.with_digest(manifest.digest()), manifest)
    }

    /// Whether two names find the same blobs: one that is written for the one is there for the other.
    fn shares_blobs(&self, one: &Reference, other: &Reference) -> bool {
        one.same_repository(other)
    }

    /// Whether it refuses a manifest that points to what it does not have: then blobs that another manifest of the same
    /// repository points to need not be written again, and not even asked for.
    fn checks_manifests(&self) -> bool {
        false
    }

    /// Whether the blob is there, in the repository of `reference`.
    ///
    /// # Errors
    /// When the place cannot be asked.
    fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, StoreError>;

    /// The bytes of a blob. The reader fails at the end when digest or size are not those of the descriptor.
    ///
    /// # Errors
    /// When the blob is not there or cannot be read.
    fn open_blob(&self, reference: &Reference, blob: &Descriptor)
    -> Result<Box<dyn Read + Send>, StoreError>;

    /// The file that holds exactly the blob, where there is one. Its bytes are not verified: [`ImageStore::open_blob`]
    /// does that.
    ///
    /// # Errors
    /// When the file cannot be opened, or is not as long as the blob.
    fn blob_file(&self, reference: &Reference, blob: &Descriptor) -> Result<Option<File>, StoreError> {
        let _ = (reference, blob);
        Ok(None)
    }

    /// The bytes of a blob from an offset on, to go on where a download broke. The reader need not check the digest:
    /// whoever asks has the bytes before the offset, and verifies the whole.
    ///
    /// # Errors
    /// As [`ImageStore::open_blob`].
    fn open_blob_from(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        let inner = self.open_blob(reference, blob)?;
        if offset == 0 { Ok(inner) } else { Ok(Box::new(FromOffset { inner, left: offset })) }
    }

    /// Puts a blob into the repository of `reference`, unless it is there. `mount_from` names a repository of the
    /// same place that may have it already.
    ///
    /// # Errors
    /// When the place cannot be written, or the source does not hold what the descriptor says.
    fn write_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&Reference>,
    ) -> Result<BlobOutcome, StoreError>;

    /// Puts a manifest under a name (a tag, or its digest), when all that it points to is there.
    ///
    /// # Errors
    /// When the place cannot be written; the name then still points to what it pointed to.
    fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<(), StoreError>;

    /// Where blobs that are made for `reference` are best written: each is then there when it is complete. `None` where that
    /// is no directory of this machine.
    fn sink(&self, reference: &Reference) -> Option<BlobSink> {
        let _ = reference;
        None
    }

    /// Who puts blobs into the repository of `reference` while they are still being made; [`ImageStore::write_blob`] then
    /// only waits for the rest. `None` where nothing is gained by that.
    fn follower(&self, reference: &Reference) -> Option<Arc<dyn BlobFollower>> {
        let _ = reference;
        None
    }

    /// Whether blobs and manifests may be put into the repository of `reference`: asked before a build, so that it does
    /// not fail at its end.
    ///
    /// # Errors
    /// When the place refuses or cannot be reached.
    fn check_write(&self, reference: &Reference) -> Result<(), StoreError> {
        let _ = reference;
        Ok(())
    }
}
