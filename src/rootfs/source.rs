//! Where the blob of a layer comes from: a file that is there, or a download into one.
//!
//! What is downloaded for unpacking alone is removed when it was unpacked: the unpacked layer is all that a sandbox needs,
//! and whoever wants the blob in the local store pulls the image. A download that breaks, or whose process is killed, goes
//! on the next time.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use longshore_image::{BlobOpener, Descriptor, Download, ImageStore, LocalStore, StoreError};

use super::worker::Arrival;
use crate::images::FoundImage;

/// Where the blob of a layer comes from.
pub(super) struct Source<'a> {
    found: &'a FoundImage,
    blob: &'a Descriptor,
    /// The folder for downloads.
    folder: &'a Path,
    place: Place<'a>,
}

enum Place<'a> {
    /// The place where the image was found keeps its blobs in files.
    Found,
    /// The local store has the blob of another image.
    Local(&'a LocalStore),
    Download {
        download: Box<Download>,
        is_repeated: bool,
    },
}

/// Why a blob did not arrive.
pub(super) enum Failure {
    /// These are not its bytes.
    Damaged(anyhow::Error),
    Broken(anyhow::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl<'a> Source<'a> {
    /// Looks for a blob: in a file of the place where the image was found, in the local store, and at last for a download
    /// into `folder`.
    ///
    /// # Errors
    /// When the place should have it, and does not, or the download cannot be begun.
    pub(super) fn find(
        found: &'a FoundImage,
        local: &'a LocalStore,
        blob: &'a Descriptor,
        folder: &'a Path,
    ) -> anyhow::Result<Self> {
        let reference = &found.image.reference;
        let place = if found.store.blob_file(reference, blob)?.is_some() {
            Place::Found
        } else if local.blob_file(reference, blob).is_ok_and(|file| file.is_some()) {
            Place::Local(local)
        } else {
            download(folder, blob)?
        };
        Ok(Self { found, blob, folder, place })
    }

    /// The file, which may have no more than the beginning of the blob yet.
    pub(super) fn file(&self) -> anyhow::Result<File> {
        let reference = &self.found.image.reference;
        let file = match &self.place {
            Place::Found => self.found.store.blob_file(reference, self.blob)?,
            Place::Local(local) => local.blob_file(reference, self.blob)?,
            Place::Download { download, .. } => Some(download.file()?),
        };
        file.with_context(|| format!("the blob {} is gone", self.blob.digest))
    }

    /// Lets the blob arrive in its file, and makes sure that it is the right one.
    pub(super) fn arrive(&mut self, mut arrival: Arrival) -> Result<(), Failure> {
        let (blob, reference) = (self.blob, &self.found.image.reference);
        let mut verify = |store: &dyn ImageStore| {
            arrival.reached(blob.size, blob.size);
            let mut reader = store.open_blob(reference, blob)?;
            io::copy(&mut reader, &mut io::sink()).map(drop).map_err(anyhow::Error::from)
        };
        match &mut self.place {
            Place::Found => verify(self.found.store.as_ref()).map_err(Failure::Broken),
            Place::Local(local) => verify(*local).map_err(Failure::Broken),
            Place::Download { download, .. } => {
                let store = Arc::clone(&self.found.store);
                let opener = BlobOpener::of(store, reference.clone(), blob.clone());
                match download.run(&opener, &mut |size| arrival.reached(size, blob.size)) {
                    Ok(None) => Ok(()),
                    Ok(Some(damage)) => Err(Failure::Damaged(damage.into())),
                    Err(error) => Err(Failure::Broken(error.into())),
                }
            }
        }
    }

    /// Where the blob is to be taken from after it did not arrive: damaged bytes are asked for once more.
    ///
    /// # Errors
    /// When there is nowhere else. What arrived of a download that broke stays for the next time, unless it fills the
    /// disk.
    pub(super) fn after(self, failure: Failure) -> anyhow::Result<Self> {
        let place = match (self.place, failure) {
            (Place::Local(_), Failure::Damaged(error) | Failure::Broken(error)) => {
                tracing::debug!("{error:#}; downloading it instead");
                download(self.folder, self.blob)?
            }
            (Place::Download { mut download, is_repeated: false }, Failure::Damaged(error)) => {
                tracing::debug!("{error:#}; downloading it once more");
                download.restart()?;
                Place::Download { download, is_repeated: true }
            }
            (Place::Download { download, .. }, Failure::Damaged(error)) => {
                download.remove()?;
                return Err(error);
            }
            (Place::Download { download, .. }, Failure::Broken(error)) => {
                if is_full(&error) {
                    download.remove()?;
                }
                return Err(error);
            }
            (Place::Found, Failure::Damaged(error) | Failure::Broken(error)) => return Err(error),
        };
        Ok(Self { place, ..self })
    }

    /// The blob arrived, and is not needed any more.
    ///
    /// # Errors
    /// When the layer was not unpacked, or the file cannot be removed.
    pub(super) fn end(self, unpacked: anyhow::Result<()>) -> anyhow::Result<()> {
        match self.place {
            // Before the layer gets its name: nobody would come back for the file afterwards.
            Place::Download { download, .. } => unpacked.and(download.remove().map_err(Into::into)),
            Place::Found | Place::Local(_) => unpacked,
        }
    }
}

fn download<'a>(folder: &Path, blob: &Descriptor) -> anyhow::Result<Place<'a>> {
    // The locks of the layers keep other builds away, so somebody else can only be of this one.
    let download = Download::open(folder, blob)?
        .with_context(|| format!("the image has the blob {} for two different layers", blob.digest))?;
    Ok(Place::Download { download: Box::new(download), is_repeated: false })
}

fn is_full(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(StoreError::File { source, .. }) if source.kind() == io::ErrorKind::StorageFull
    )
}
