//! Compression of one chunk, the same for the same bytes whenever it runs; for gzip, on all processors with SSE 4.2.
//!
//! Every chunk is a complete zstd frame or gzip member. Both formats allow their concatenation (RFC 8878, section 3.1;
//! RFC 1952, section 2.2), and clients read it.

use std::cell::RefCell;
use std::io;
use std::sync::LazyLock;
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use zstd::zstd_safe::{self, CParameter};

use super::error::LayerError;
use super::memory::{CHUNK, Output};
use crate::LayerFormat;

/// Measured: the next level costs a quarter of the speed for 2 %.
const ZSTD_LEVEL: i32 = 3;
/// The level's own table for long matches, and a smaller one for short ones: it stays in the first cache of a processor, which
/// is worth 7 to 14 % of the speed for 0.5 to 2 % of the size.
const ZSTD_HASH_LOG: u32 = 17;
const ZSTD_CHAIN_LOG: u32 = 11;
/// One byte less than the largest, for which zstd 1.5.7 would first look where a block had best be split: 7 to 9 % of the speed
/// for 0.3 to 1 % of the size.
const ZSTD_BLOCK: u32 = (128 << 10) - 1;
/// The only level at which ISA-L makes the same bytes whenever it runs, on all processors with SSE 4.2. At level 1 the address
/// of its state decides, by a register that is not set (`.write_first_byte` in `igzip_icf_body_h1_gr_bt.asm`), and at level
/// 3 AVX2.
const GZIP_LEVEL: isal::CompressionLevel = isal::CompressionLevel::Zero;
/// The version of ISA-L that is a part of `isal-rs`, which does not tell it itself.
const ISA_L: &str = "2.31";

/// What decides the bytes of a blob beside its tar: compressor, level and version.
pub(crate) fn codec(format: LayerFormat) -> String {
    match format {
        LayerFormat::Tar => "tar".to_owned(),
        LayerFormat::TarGzip => {
            let without = if gzip_bytes_are_common() { "" } else { " without SSE 4.2" };
            format!("gzip level {} ISA-L {ISA_L}{without}", GZIP_LEVEL as u8)
        }
        LayerFormat::TarZstd => {
            let version = zstd_safe::version_string();
            let tables = format!("{ZSTD_HASH_LOG} {ZSTD_CHAIN_LOG}");
            format!("zstd level {ZSTD_LEVEL} tables {tables} blocks {ZSTD_BLOCK} libzstd {version}")
        }
    }
}

/// Whether gzip layers made on this machine have the bytes that all processors with SSE 4.2 give them. ISA-L finds matches
/// with the CRC-32C instruction, and where that is missing with arithmetic that finds others.
pub fn gzip_bytes_are_common() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("sse4.2");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// How many chunks are compressed at once, in the whole process.
pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The threads that compress, for all layers together, and what each of them keeps for it.
static COMPRESSORS: LazyLock<Result<ThreadPool, ThreadPoolBuildError>> = LazyLock::new(|| {
    ThreadPoolBuilder::new().num_threads(threads()).thread_name(|_| "compress".to_owned()).build()
});

thread_local! {
    static ZSTD: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// Runs `work` on one of the threads that compress, in the order of the calls.
///
/// # Errors
/// When the threads could not be started.
pub(super) fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), LayerError> {
    let pool = COMPRESSORS.as_ref().map_err(|error| LayerError::Compress(io::Error::other(error)))?;
    pool.spawn_fifo(work);
    Ok(())
}

/// The chunk compressed; `None` where it is stored as it is.
pub(super) fn compress(format: LayerFormat, chunk: &[u8]) -> io::Result<Option<Output>> {
    // Room for any chunk, so that the next one finds it large enough.
    let size = chunk.len().max(CHUNK);
    match format {
        LayerFormat::Tar => Ok(None),
        LayerFormat::TarGzip => Output::fill(gzip_bound(size), |room| gzip(chunk, room)).map(Some),
        LayerFormat::TarZstd => {
            Output::fill(zstd_safe::compress_bound(size), |room| zstd(chunk, room)).map(Some)
        }
    }
}

/// How large at most the gzip member of so many bytes is. What compression would make larger is stored: blocks of up to
/// 65,535 bytes with 5 bytes before each (RFC 1951, section 3.2.4), and 18 bytes around them (RFC 1952, section 2.3).
fn gzip_bound(size: usize) -> usize {
    size + 5 * size.div_ceil(0xffff).max(1) + 18
}

/// Compresses to the start of `room`; how many bytes that made.
fn gzip(chunk: &[u8], room: &mut [u8]) -> io::Result<usize> {
    isal::compress_into(chunk, room, GZIP_LEVEL, isal::Codec::Gzip).map_err(io::Error::other)
}

/// Compresses to the start of `room`; how many bytes that made.
fn zstd(chunk: &[u8], room: &mut [u8]) -> io::Result<usize> {
    ZSTD.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(zstd_compressor()?),
        };
        compressor.compress_to_buffer(chunk, room)
    })
}

fn zstd_compressor() -> io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    compressor.set_parameter(CParameter::HashLog(ZSTD_HASH_LOG))?;
    compressor.set_parameter(CParameter::ChainLog(ZSTD_CHAIN_LOG))?;
    compressor.set_parameter(CParameter::MaxBlockSize(ZSTD_BLOCK))?;
    Ok(compressor)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use ring::digest::{SHA256, digest};

    use super::*;

    /// Numbers that look random and are the same everywhere.
    fn noise(size: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..size).map(|_| next()).collect()
    }

    /// Words from a list, in an order that looks random.
    fn text(size: usize) -> Vec<u8> {
        let words = ["layer ", "image", "; ", "digest\n", "function ", "return", "0x", "()"];
        noise(size).iter().flat_map(|number| words[usize::from(number % 8)].bytes()).take(size).collect()
    }

    fn inflated(member: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        GzDecoder::new(member).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// What this compares is what images built earlier have: when it changes, so must what [`codec`] says.
    #[test]
    fn a_codec_makes_the_bytes_that_it_made_before() {
        let data = [text(3 << 20), noise(1 << 20)].concat();
        let compressed = |format| {
            let chunk = compress(format, &data).unwrap().unwrap();
            let sha256: String =
                digest(&SHA256, &chunk).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            (codec(format), chunk.len(), sha256)
        };
        let expected = |codec: &str, size, sha256: &str| (codec.to_owned(), size, sha256.to_owned());
        assert_eq!(
            compressed(LayerFormat::TarZstd),
            expected("zstd level 3 tables 17 11 blocks 131071 libzstd 1.5.7", 1_567_918, "de9c2854544efa2e")
        );
        if gzip_bytes_are_common() {
            assert_eq!(
                compressed(LayerFormat::TarGzip),
                expected("gzip level 0 ISA-L 2.31", 2_079_273, "53b75f97f4d75a76")
            );
        }
    }

    /// The members of these inputs as made here and at `depth` places further down the stack, 64 KiB apart: `expected` each time.
    #[expect(clippy::large_stack_arrays, reason = "it moves down the stack")]
    fn at_depths(depth: usize, inputs: &[Vec<u8>], expected: &[Vec<u8>]) {
        let pad = [0_u8; 0x1_0000];
        std::hint::black_box(&pad);
        for (input, expected) in inputs.iter().zip(expected) {
            assert!(member(input) == *expected, "{depth}");
        }
        if depth > 0 {
            at_depths(depth - 1, inputs, expected);
        }
        std::hint::black_box(&pad);
    }

    fn member(input: &[u8]) -> Vec<u8> {
        let mut room = vec![0; gzip_bound(input.len())];
        let used = gzip(input, &mut room).unwrap();
        room.truncate(used);
        room
    }

    /// At ISA-L's level 1 the address of its state, which is on the stack, has a hash that is taken for one of the input's:
    /// where it is that of one of the first bytes, matches with those are not found. About one of 600 processes made
    /// another image so. Each input begins with bytes that come again, and has hashes of its own.
    #[test]
    fn a_member_does_not_depend_on_where_it_was_made() {
        let bytes = noise(16 * 32);
        let inputs: Vec<_> = bytes.chunks(16).map(|start| start.repeat(12)).collect();
        let expected: Vec<_> = inputs.iter().map(|input| member(input)).collect();
        let work = move || at_depths(600, &inputs, &expected);
        thread::Builder::new().stack_size(64 << 20).spawn(work).unwrap().join().unwrap();
    }

    /// At the borders of stored blocks, where compression only adds.
    #[test]
    fn what_does_not_become_smaller_fits_its_bound() {
        for size in [0, 1, 2, 100, 0xfffe, 0xffff, 0x1_0000, 0x1_fffe, 0x1_ffff, 1 << 20, CHUNK] {
            let data = noise(size);
            let mut room = vec![0; gzip_bound(size)];
            let used = gzip(&data, &mut room).unwrap();
            assert!(inflated(&room[..used]) == data, "{size}");
        }
    }

    proptest! {
        #[test]
        fn a_member_holds_what_was_compressed(
            runs in prop::collection::vec((any::<u8>(), 1_usize..70_000), 0..8),
            seed in prop::collection::vec(any::<u8>(), 0..70_000),
        ) {
            let mut data: Vec<u8> = runs.iter().flat_map(|&(byte, count)| vec![byte; count]).collect();
            data.extend(seed);
            let mut room = vec![0; gzip_bound(data.len())];
            let used = gzip(&data, &mut room).unwrap();
            prop_assert!(inflated(&room[..used]) == data);
        }
    }
}
