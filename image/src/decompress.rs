//! Decompression of layers, whatever their media type says: the bytes tell.

use std::io::{self, BufReader, Read};

use crate::LayerFormat;

/// The largest zstd window that is accepted, as a power of two: 128 MiB, the most that `zstd` itself takes by default.
const WINDOW: u32 = 27;
const BUFFER: usize = 256 << 10;

/// Decompresses a stream of gzip members or zstd frames; any other stream is passed on as it is.
///
/// The result ends with an error when the compressed stream is cut off, damaged, or followed by anything that is not
/// another gzip member or zstd frame. Streams of many members and frames are read to their end.
///
/// # Errors
/// When the start of the stream cannot be read.
pub fn decompress<'a>(mut reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut start = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut start)?;
    let format = format(&start);
    let whole = io::Cursor::new(start).chain(reader);
    Ok(match format {
        LayerFormat::Tar => Box::new(whole),
        LayerFormat::TarGzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, whole)))
        }
        LayerFormat::TarZstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(BUFFER, whole))?;
            decoder.window_log_max(WINDOW)?;
            Box::new(decoder)
        }
    })
}

/// The format that a stream begins as.
pub(crate) fn format(start: &[u8]) -> LayerFormat {
    match start {
        [0x1f, 0x8b, ..] => LayerFormat::TarGzip,
        // A frame, or a frame to be skipped (RFC 8878, sections 3.1.1 and 3.1.2).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => LayerFormat::TarZstd,
        _ => LayerFormat::Tar,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn read(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decompress(stream)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn row_13_all_members_and_frames_are_read() {
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let table = [
            ([gzip(b"one "), gzip(b""), gzip(b"two")].concat(), LayerFormat::TarGzip),
            ([zstd(b"one "), zstd(b""), zstd(b"two")].concat(), LayerFormat::TarZstd),
            ([skipped.clone(), zstd(b"one "), skipped, zstd(b"two")].concat(), LayerFormat::TarZstd),
            (b"one two".to_vec(), LayerFormat::Tar),
        ];
        for (stream, expected) in table {
            assert_eq!(format(&stream), expected);
            assert_eq!(read(&stream).unwrap(), b"one two");
        }
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(b"abc").unwrap(), b"abc");
    }

    #[test]
    fn row_12_cut_and_trailing_bytes_are_errors() {
        for stream in [gzip(&[7; 1000]), zstd(&[7; 1000])] {
            for cut in [5, stream.len() / 2, stream.len() - 1] {
                assert!(read(&stream[..cut]).is_err(), "cut at {cut} of {}", stream.len());
            }
            for tail in [&b"garbage tail"[..], b"\0\0\0\0\0\0\0\0\0\0", b"x"] {
                assert!(read(&[&stream, tail].concat()).is_err(), "{tail:?}");
            }
        }
    }

    /// A frame may ask for a window of gigabytes; the decoder would allocate it.
    #[test]
    fn row_11_a_huge_window_is_refused() {
        let header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3];
        let block = [1, 0, 0];
        assert!(read(&[&header[..], &block].concat()).is_err());
    }
}
