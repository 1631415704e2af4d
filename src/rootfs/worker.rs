//! The process that unpacks one layer, as root of a user namespace of its own.
//!
//! It is given the blob's file, and not its bytes: it reads behind whoever writes the file, and is told through a pipe how
//! far that one is. The writer waits for nobody, and what was not read yet takes no memory.

use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use longshore_image::unpack::{self, OverlayAttribute, Owner, Policy, SpecialFiles, Whiteouts};
use longshore_image::{Descriptor, DiffId};
use longshore_sandbox::{IdMapping, Worker, WorkerFailure, WorkerFunction, WorkerInput};

/// The worker that unpacks a layer: its table entry for [`longshore_sandbox::init_with`].
pub(crate) const UNPACK: (&str, WorkerFunction) = ("unpack", unpack_inside);

/// From how many new bytes on the worker is told of them. So few numbers come of it that a pipe holds those of 8 GiB.
const TOLD: u64 = 1 << 20;

/// A layer that is to be unpacked into an empty directory.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) diff_id: DiffId,
    pub(super) blob: &'a Descriptor,
    pub(super) file: &'a File,
    pub(super) directory: &'a File,
    pub(super) mapping: &'a IdMapping,
}

/// Unpacks a layer while `arrive` lets its blob arrive and makes sure that it is the right one: how that ended, and how
/// the unpacking did, which makes sure of the DiffID.
pub(super) fn unpack<E: From<io::Error> + Send>(
    task: Task<'_>,
    arrive: impl FnOnce(Arrival) -> Result<(), E> + Send,
) -> (Result<(), E>, anyhow::Result<()>) {
    let (news, told) = match io::pipe() {
        Ok(pipe) => pipe,
        Err(error) => return (Err(error.into()), Ok(())),
    };
    std::thread::scope(|scope| {
        let arriving = scope.spawn(move || arrive(Arrival { told: Some(told), size: 0 }));
        let worker = Worker::new(UNPACK.0)
            .argument(task.diff_id.to_string())
            .argument(task.blob.size.to_string())
            .argument(if task.mapping.is_single() { "ignore" } else { "keep" })
            .descriptor(task.file)
            .descriptor(&news)
            .descriptor(task.directory);
        let unpacked = worker.run(task.mapping);
        // Nobody listens any more; who lets the blob arrive must not wait for that.
        drop(news);
        let failed = |_| Err(io::Error::other("the thread that reads the blob failed").into());
        (arriving.join().unwrap_or_else(failed), unpacked.map(drop).map_err(Into::into))
    })
}

/// How much of a blob has arrived. Dropped before all has, it tells that no more will.
pub(super) struct Arrival {
    told: Option<PipeWriter>,
    size: u64,
}

impl Arrival {
    /// So many bytes, of `all`, are in the file.
    pub(super) fn reached(&mut self, size: u64, all: u64) {
        if size >= self.size + TOLD || (size == all && size > self.size) {
            self.size = size;
            // The worker is gone when this fails, and says itself why.
            self.told = self.told.take().filter(|mut told| told.write_all(&size.to_ne_bytes()).is_ok());
        }
    }
}

/// The worker's side: unpacks the blob's file into the directory.
fn unpack_inside(input: WorkerInput) -> Result<String, WorkerFailure> {
    let (Ok([blob, news, directory]), [diff_id, size, owner]) =
        (<[_; 3]>::try_from(input.descriptors), input.arguments.as_slice())
    else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
    };
    let diff_id: DiffId = diff_id.to_string_lossy().parse()?;
    let size: u64 = size.to_string_lossy().parse()?;
    let policy = Policy {
        owner: if owner == "keep" { Owner::Keep } else { Owner::Ignore },
        whiteouts: Whiteouts::Overlay(OverlayAttribute::User),
        special_files: SpecialFiles::Skip,
        // Nothing in a sandbox gains by them, and with a single id they would be the caller's own for everybody else.
        set_id: false,
        ..Policy::rootfs(Owner::Ignore)
    }
    .expecting(diff_id);
    let blob = Follower { file: File::from(blob), news: File::from(news), size, arrived: 0, offset: 0 };
    unpack::apply(blob, directory.as_fd(), &policy)?;
    Ok(String::new())
}

/// Reads a file behind its writer.
struct Follower<N> {
    file: File,
    /// Numbers: how many bytes are in the file.
    news: N,
    size: u64,
    arrived: u64,
    offset: u64,
}

impl<N: Read> Read for Follower<N> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.offset == self.arrived && self.offset < self.size {
            let mut number = [0; 8];
            self.news.read_exact(&mut number).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => io::Error::other("the blob did not arrive whole"),
                _ => error,
            })?;
            self.arrived = u64::from_ne_bytes(number).min(self.size);
        }
        let ready = usize::try_from(self.arrived - self.offset).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..ready], self.offset)?;
        if count == 0 && ready > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob's file became shorter"));
        }
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(size: u64, contents: &[u8], news: &[u64]) -> io::Result<Vec<u8>> {
        let mut file = tempfile::tempfile()?;
        file.write_all(contents)?;
        let news: Vec<u8> = news.iter().flat_map(|size| size.to_ne_bytes()).collect();
        let mut read = Vec::new();
        Follower { file, news: &*news, size, arrived: 0, offset: 0 }.read_to_end(&mut read)?;
        Ok(read)
    }

    #[test]
    fn only_a_blob_that_arrived_whole_is_read_to_its_end() {
        for (size, contents, news, expected) in [
            (6, "abcdef", &[6][..], Ok("abcdef")),
            (6, "abcdef", &[1, 2, 5, 6], Ok("abcdef")),
            (0, "", &[], Ok("")),
            // What is behind the end is nobody's.
            (3, "abcdef", &[2, 6], Ok("abc")),
            (6, "abcdef", &[], Err("did not arrive whole")),
            (6, "abcdef", &[5], Err("did not arrive whole")),
            (6, "abc", &[6], Err("became shorter")),
        ] {
            match (follow(size, contents.as_bytes(), news), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected.as_bytes()),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (read, expected) => panic!("{read:?} {expected:?}"),
            }
        }
    }

    #[test]
    fn the_worker_is_told_now_and_then_and_of_the_end() {
        let told = |sizes: &[u64], all: u64| {
            let (mut news, writer) = io::pipe().unwrap();
            let mut arrival = Arrival { told: Some(writer), size: 0 };
            sizes.iter().for_each(|size| arrival.reached(*size, all));
            drop(arrival);
            let mut read = Vec::new();
            news.read_to_end(&mut read).unwrap();
            read.chunks(8).map(|number| u64::from_ne_bytes(number.try_into().unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(told(&[10, 20, 30], 30), [30]);
        assert_eq!(told(&[10, 20], 30), [0; 0]);
        let large = 3 * TOLD + 5;
        assert_eq!(told(&[5, TOLD, TOLD + 1, 3 * TOLD, large], large), [TOLD, 3 * TOLD, large]);
    }
}
