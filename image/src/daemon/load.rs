//! Loading: an archive is written as the daemon reads it.

use std::io::{self, Write};
use std::path::Path;

use bollard::query_parameters::ImportImageOptionsBuilder;
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use tokio::sync::mpsc;

use super::{DaemonError, DaemonStore};
use crate::StoreError;
use crate::archive::{self, ArchivedImage};

/// How many chunks of an archive may wait for the daemon.
const AHEAD: usize = 16;

/// Writes an image into the daemon.
pub(super) fn load(daemon: &DaemonStore, image: &ArchivedImage<'_>) -> Result<(), StoreError> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let body = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let docker = daemon.docker.clone();
    let loading = daemon.handle.spawn(async move {
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        docker.import_image_stream(options, body, None).try_collect::<Vec<_>>().await
    });
    let mut writer = io::BufWriter::with_capacity(256 << 10, Channel { sender: sender.clone() });
    let host = daemon.address.to_string();
    let written = archive::write(&mut writer, Path::new(&host), image);
    if let Err(error) = &written {
        // The request must not end as if the archive had.
        let cut = io::Error::other(error.to_string());
        let _daemon_has_ended = sender.blocking_send(Err(cut));
    }
    drop(writer);
    drop(sender);
    let answer = daemon
        .handle
        .block_on(loading)
        .map_err(|error| DaemonError::Runtime { host: host.clone(), source: error.into() })?;
    let is_ours = |error: &StoreError| !matches!(error, StoreError::File { path, .. } if *path == *host);
    match (written, answer) {
        // A daemon that refuses also cuts the archive: then its own words count.
        (Err(error), _) if is_ours(&error) => Err(error),
        (_, Err(error)) => Err(daemon.failed(format!("load `{}`", image.reference.familiar()))(error).into()),
        (written, Ok(_)) => written,
    }
}

struct Channel {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sender
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_daemon_has_ended| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
