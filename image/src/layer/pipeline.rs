//! The threads between a source and a blob.
//!
//! Each stage hands on through a bounded channel. A stage that fails, or whose consumer is gone, returns; its channels
//! close, and the others follow. The error that is reported is the first real one, from source to sink.

use std::io::{Read, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use crate::Sha256;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::compress::Compressor;
use super::error::LayerError;
use super::header;
use super::load::{Batch, Loaded, LoadedContent, OpenFile};
use super::sink::{BlobSink, NewBlob, WrittenBlob};
use super::tar_copy::TarCopy;
use super::{LayerDigest, LayerSource};
use crate::blob_file;
use crate::stat_index::{Fingerprint, Fingerprinter};
use crate::{DiffId, LayerFormat};

/// The tar is cut here before it is compressed. Part of what decides a blob's digest: changing it changes all blobs.
const CHUNK: usize = 4 << 20;
/// How many chunks a stage may be ahead of the next, so that a thread that has to wait for a processor holds up no other.
const AHEAD: usize = 4;
/// Batches that are loaded or being loaded, and threads that load.
const BATCHES: usize = 8;
const LOADERS: usize = 4;

type Chunk = Arc<Vec<u8>>;
type Result<T, E = LayerError> = std::result::Result<T, E>;
type Slot<T> = Receiver<Result<T>>;
type Job<I, O> = (I, Sender<Result<O>>);

/// What a layer's tar comes from.
pub(super) enum Feed<'a> {
    /// Entries, or a tar in a file.
    Source(&'a LayerSource),
    /// A tar as a stream, and what to call it in errors.
    Stream(&'a mut (dyn Read + Send), &'a str),
}

/// What came of a layer.
pub(super) struct Outcome {
    pub(super) digest: LayerDigest,
    /// The tar, where it was to be written and could be.
    pub(super) tar: Option<TarCopy>,
    /// What its files were when they were found; `None` where it is not made of files.
    pub(super) fingerprint: Option<Fingerprint>,
    /// The blob, when one was to be written.
    pub(super) blob: Option<WrittenBlob>,
}

/// Makes a layer out of `feed`: its digest, its blob in `target`, and its tar in a file in the directory `tars`.
pub(super) fn run(
    feed: Feed<'_>,
    target: Option<(LayerFormat, &BlobSink)>,
    tars: Option<&Path>,
) -> Result<Outcome> {
    thread::scope(|scope| {
        let (load_jobs, loaders) = bounded::<Job<Batch, Vec<Loaded>>>(BATCHES);
        let (ordered, loaded) = bounded::<Slot<Vec<Loaded>>>(BATCHES);
        let entries = match &feed {
            Feed::Source(source) => Some(*source),
            Feed::Stream(..) => None,
        };
        let walker =
            scope.spawn(move || entries.map_or(Ok(None), |source| walk(source, &load_jobs, &ordered)));
        for _ in 0..LOADERS {
            let jobs = loaders.clone();
            scope.spawn(move || serve(&jobs, |batch: Batch| batch.load()));
        }
        drop(loaders);

        let (hash_chunks, chunks) = bounded::<Chunk>(AHEAD);
        let hasher = scope.spawn(move || hash(&chunks, tars));
        let compressor = target.map(|(format, sink)| {
            let threads = thread::available_parallelism().map_or(1, usize::from);
            let (jobs, compress) = bounded::<Job<Chunk, Compressed>>(AHEAD);
            let (ordered, compressed) = bounded::<Slot<Compressed>>(threads + AHEAD);
            for _ in 0..threads {
                let jobs = compress.clone();
                scope.spawn(move || compress_chunks(format, &jobs));
            }
            (Compress { jobs, ordered }, scope.spawn(move || write(&compressed, sink)))
        });
        let (compress, sink) = compressor.unzip();

        let chunks = Chunks { hash: hash_chunks, compress, buffer: Vec::with_capacity(CHUNK) };
        let tar = match feed {
            Feed::Stream(reader, name) => stream(reader, name, chunks),
            Feed::Source(source) => match source.tar_file() {
                Some(path) => copy(path, chunks),
                None => tar(&loaded, chunks),
            },
        };
        drop(loaded);
        let (walked, fingerprint) = match join(walker) {
            Ok(fingerprint) => (Ok(()), fingerprint),
            Err(error) => (Err(error), None),
        };
        let hashed = join(hasher);
        let blob = sink.map(join).transpose();
        // The blob gets its name last: a tar that was broken off looks like a short one from there.
        let file = first_error(walked, tar, blob)?;
        let blob =
            file.zip(target.map(|(_, sink)| sink)).map(|(file, sink)| sink.finish(file)).transpose()?;
        let (digest, tar) = hashed?;
        Ok(Outcome { digest, tar, fingerprint, blob })
    })
}

/// `Stopped` only says that another stage failed, so any other error goes before it.
fn first_error<T>(walked: Result<()>, tar: Result<()>, blob: Result<T>) -> Result<T> {
    let is_real = |error: &LayerError| !matches!(error, LayerError::Stopped);
    match (walked, tar, blob) {
        (Err(error), _, _) if is_real(&error) => Err(error),
        (_, Err(error), _) if is_real(&error) => Err(error),
        (_, _, Err(error)) if is_real(&error) => Err(error),
        (Ok(()), Ok(()), Ok(value)) => Ok(value),
        _ => Err(LayerError::Stopped),
    }
}

fn join<T>(handle: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().unwrap_or(Err(LayerError::Stopped))
}

/// Hands a job to the workers, and the place of its result to whoever takes results in order.
fn dispatch<I, O>(input: I, jobs: &Sender<Job<I, O>>, ordered: &Sender<Slot<O>>) -> Result<()> {
    let (done, slot) = bounded(1);
    ordered.send(slot).map_err(stopped)?;
    jobs.send((input, done)).map_err(stopped)
}

fn stopped<T>(_: T) -> LayerError {
    LayerError::Stopped
}

fn serve<I, O>(jobs: &Receiver<Job<I, O>>, mut work: impl FnMut(I) -> Result<O>) {
    for (input, done) in jobs {
        if done.send(work(input)).is_err() {
            return;
        }
    }
}

fn walk(
    source: &LayerSource,
    jobs: &Sender<Job<Batch, Vec<Loaded>>>,
    ordered: &Sender<Slot<Vec<Loaded>>>,
) -> Result<Option<Fingerprint>> {
    let mut batch = Batch::default();
    let mut fingerprinter = source.fingerprinter();
    source.visit(&mut |entry| {
        if let Some(fingerprinter) = &mut fingerprinter {
            fingerprinter.push(&entry);
        }
        batch.push(entry);
        if batch.is_full() { dispatch(std::mem::take(&mut batch), jobs, ordered) } else { Ok(()) }
    })?;
    if !batch.is_empty() {
        dispatch(batch, jobs, ordered)?;
    }
    Ok(fingerprinter.map(Fingerprinter::finish))
}

fn tar(loaded: &Receiver<Slot<Vec<Loaded>>>, mut chunks: Chunks) -> Result<()> {
    let mut head = Vec::new();
    for slot in loaded {
        for entry in slot.recv().map_err(stopped)?? {
            let size = entry.size();
            head.clear();
            header::write(&entry.entry, size, &mut head)?;
            chunks.append(&head)?;
            match entry.content {
                LoadedContent::None => {}
                LoadedContent::Bytes(bytes) => chunks.append(&bytes)?,
                LoadedContent::File(mut file) => {
                    chunks.fill(size, |space, taken| file.read_to(space, taken))?;
                    file.finish()?;
                }
            }
            chunks.append(&[0; header::BLOCK][..header::padding(size)])?;
        }
    }
    chunks.append(&[0; 2 * header::BLOCK])?;
    chunks.flush()
}

/// Takes the bytes of a tar that is there already.
fn copy(path: &Path, mut chunks: Chunks) -> Result<()> {
    let mut file = OpenFile::open(path)?;
    chunks.fill(file.size(), |space, taken| file.read_to(space, taken))?;
    file.finish()?;
    chunks.flush()
}

/// Takes the bytes of a tar that comes from elsewhere.
fn stream(reader: &mut (dyn Read + Send), name: &str, mut chunks: Chunks) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return chunks.flush(),
            Ok(count) => chunks.append(&buffer[..count])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(LayerError::Read { path: name.into(), source }),
        }
    }
}

/// The tar as it is cut into chunks.
struct Chunks {
    hash: Sender<Chunk>,
    compress: Option<Compress>,
    buffer: Vec<u8>,
}

struct Compress {
    jobs: Sender<Job<Chunk, Compressed>>,
    ordered: Sender<Slot<Compressed>>,
}

impl Chunks {
    fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let taken = bytes.len().min(CHUNK - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.flush_full()?;
        }
        Ok(())
    }

    /// Appends `size` bytes; `read` appends as many as it is told straight to the chunk.
    fn fill(&mut self, mut size: u64, mut read: impl FnMut(&mut Vec<u8>, u64) -> Result<()>) -> Result<()> {
        while size > 0 {
            let taken = size.min((CHUNK - self.buffer.len()) as u64);
            read(&mut self.buffer, taken)?;
            size -= taken;
            self.flush_full()?;
        }
        Ok(())
    }

    fn flush_full(&mut self) -> Result<()> {
        if self.buffer.len() == CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Arc::new(std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK)));
        self.hash.send(Arc::clone(&chunk)).map_err(stopped)?;
        match &self.compress {
            Some(compress) => dispatch(chunk, &compress.jobs, &compress.ordered),
            None => Ok(()),
        }
    }
}

fn hash(chunks: &Receiver<Chunk>, tars: Option<&Path>) -> Result<(LayerDigest, Option<TarCopy>)> {
    let mut hasher = Sha256::new();
    let failed = |error| tracing::debug!("the tar of a layer is not kept: {error}");
    let begun = tars.map(blob_file::temporary).transpose();
    let mut tar = begun.map_err(|error| failed(error.source)).ok().flatten();
    let mut size = 0;
    for chunk in chunks {
        hasher.update(chunk.as_slice());
        size += chunk.len() as u64;
        tar = tar.and_then(|mut tar| tar.write_all(&chunk).map_err(failed).ok().map(|()| tar));
    }
    Ok((LayerDigest { diff_id: DiffId::from_hasher(hasher), uncompressed_size: size }, tar.map(TarCopy::new)))
}

/// A chunk as it goes into the blob.
enum Compressed {
    AsItIs(Chunk),
    Bytes(Vec<u8>),
}

fn compress_chunks(format: LayerFormat, jobs: &Receiver<Job<Chunk, Compressed>>) {
    let mut compressor = Compressor::new(format);
    serve(jobs, |chunk: Chunk| {
        let compressor = match &mut compressor {
            Ok(compressor) => compressor,
            Err(error) => return Err(LayerError::Compress(error.kind().into())),
        };
        let bytes = compressor.compress(&chunk).map_err(LayerError::Compress)?;
        Ok(bytes.map_or(Compressed::AsItIs(chunk), Compressed::Bytes))
    });
}

fn write(compressed: &Receiver<Slot<Compressed>>, sink: &BlobSink) -> Result<NewBlob> {
    let mut blob = sink.begin()?;
    for slot in compressed {
        match slot.recv().map_err(stopped)?? {
            Compressed::AsItIs(chunk) => blob.write(&chunk)?,
            Compressed::Bytes(bytes) => blob.write(&bytes)?,
        }
    }
    Ok(blob)
}
