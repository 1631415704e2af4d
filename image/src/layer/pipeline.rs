//! The threads between a source and a blob.
//!
//! Each stage hands on through a bounded channel. A stage that fails, or whose consumer is gone, returns; its channels
//! close, and the others follow. The error that is reported is the first real one, from source to sink.

use std::io::{Read, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::chunks::{Compress, Compressed, Cutter};
use super::error::LayerError;
use super::load::Loaded;
use super::memory::{self, Chunk};
use super::open_file::OpenFile;
use super::plan::{Plan, Planner};
use super::sink::{BlobSink, NewBlob, WrittenBlob};
use super::tar_copy::TarCopy;
use super::{LayerDigest, LayerSource};
use crate::blob_file;
use crate::stat_index::{Fingerprint, Fingerprinter};
use crate::{DiffId, LayerFormat, Sha256};

/// Chunks of a layer that are loaded or being loaded, and threads that load.
const PLANS: usize = 16;
const LOADERS: usize = 4;

type Result<T, E = LayerError> = std::result::Result<T, E>;
/// The place of a result that comes later.
pub(super) type Slot<T> = Receiver<Result<T>>;
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
    let share = memory::Share::begin();
    thread::scope(|scope| {
        let (load_jobs, loaders) = bounded::<Job<Plan, Loaded>>(share.of(PLANS));
        let (ordered, loaded) = bounded::<Slot<Loaded>>(share.of(PLANS));
        let entries = match &feed {
            Feed::Source(source) => Some(*source),
            Feed::Stream(..) => None,
        };
        let walker = named(scope, "walk", move || {
            let Some(source) = entries else { return Ok(None) };
            let mut started = 0;
            walk(source, &mut |plan| {
                // A layer of few files needs few threads.
                if started < share.of(LOADERS) {
                    let jobs = loaders.clone();
                    named(scope, "load", move || serve(&jobs, Plan::load))?;
                    started += 1;
                }
                dispatch(plan, &load_jobs, &ordered)
            })
        })?;
        // Neither channel has a bound: there are no more chunks than there is memory for.
        let (hash_chunks, chunks) = unbounded::<Arc<Chunk>>();
        let hasher = named(scope, "hash", move || hash(&chunks, tars))?;
        let compressor = target.map(|(format, sink)| {
            let (ordered, compressed) = unbounded::<Slot<Compressed>>();
            let writer = named(scope, "write", move || write(&compressed, sink))?;
            Ok::<_, LayerError>((Compress { format, ordered }, writer))
        });
        let (compress, sink) = compressor.transpose()?.unzip();

        let chunks = Cutter::new(hash_chunks, compress);
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

/// A thread whose name says what it does, in profiles too.
fn named<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work).map_err(LayerError::Thread)
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

pub(super) fn stopped<T>(_: T) -> LayerError {
    LayerError::Stopped
}

fn serve<I, O>(jobs: &Receiver<Job<I, O>>, mut work: impl FnMut(I) -> Result<O>) {
    for (input, done) in jobs {
        if done.send(work(input)).is_err() {
            return;
        }
    }
}

fn walk(source: &LayerSource, load: &mut dyn FnMut(Plan) -> Result<()>) -> Result<Option<Fingerprint>> {
    let mut planner = Planner::new(load);
    let mut fingerprinter = source.fingerprinter();
    source.visit(&mut |entry| {
        if let Some(fingerprinter) = &mut fingerprinter {
            fingerprinter.push(&entry);
        }
        planner.push(entry)
    })?;
    // A tar that is there already has no entries, and its own end.
    if source.tar_file().is_none() {
        planner.finish()?;
    }
    Ok(fingerprinter.map(Fingerprinter::finish))
}

fn tar(loaded: &Receiver<Slot<Loaded>>, mut chunks: Cutter) -> Result<()> {
    for slot in loaded {
        chunks.pass(slot.recv().map_err(stopped)??)?;
    }
    chunks.finish()
}

/// Takes the bytes of a tar that is there already.
fn copy(path: &Path, mut chunks: Cutter) -> Result<()> {
    let mut file = OpenFile::open(path)?;
    chunks.fill(file.size(), |space| file.read_to(space))?;
    file.finish()?;
    chunks.finish()
}

/// Takes the bytes of a tar that comes from elsewhere.
fn stream(reader: &mut (dyn Read + Send), name: &str, mut chunks: Cutter) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return chunks.finish(),
            Ok(count) => chunks.append(&buffer[..count])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(LayerError::Read { path: name.into(), source }),
        }
    }
}

fn hash(chunks: &Receiver<Arc<Chunk>>, tars: Option<&Path>) -> Result<(LayerDigest, Option<TarCopy>)> {
    let mut hasher = Sha256::new();
    let failed = |error| tracing::debug!("the tar of a layer is not kept: {error}");
    let begun = tars.map(blob_file::temporary).transpose();
    let mut tar = begun.map_err(|error| failed(error.source)).ok().flatten();
    let mut size = 0;
    for chunk in chunks {
        hasher.update(&**chunk);
        size += chunk.len() as u64;
        tar = tar.and_then(|mut tar| tar.write_all(&chunk).map_err(failed).ok().map(|()| tar));
    }
    Ok((LayerDigest { diff_id: DiffId::from_hasher(hasher), uncompressed_size: size }, tar.map(TarCopy::new)))
}

fn write(compressed: &Receiver<Slot<Compressed>>, sink: &BlobSink) -> Result<NewBlob> {
    let mut blob = sink.begin()?;
    for slot in compressed {
        blob.write(slot.recv().map_err(stopped)??.bytes())?;
    }
    Ok(blob)
}
