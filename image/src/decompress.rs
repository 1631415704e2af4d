//! Reading layers whatever they are compressed with.

use std::io::{self, BufRead, BufReader, Read};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The uncompressed bytes of a blob. The compression is told from its first bytes, not from its media type, which tools
/// get wrong; concatenated gzip members and zstd frames are read to their end.
///
/// # Errors
/// When the first bytes cannot be read or the decompressor cannot be set up.
pub fn decompress<'a>(blob: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(128 << 10, blob);
    let start = reader.fill_buf()?;
    // zstd's skippable frames may come first (RFC 8878, section 3.1.2): 0x184D2A50 to 0x184D2A5F.
    let skippable = start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18];
    if start.starts_with(GZIP) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)));
    }
    if start.starts_with(ZSTD) || skippable {
        return Ok(Box::new(zstd::stream::read::Decoder::with_buffer(reader)?));
    }
    Ok(Box::new(reader))
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

    #[test]
    fn every_compression_reads_back_with_all_its_parts() {
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9];
        let table = [
            (b"hello world".to_vec(), "plain"),
            ([gzip(b"hello "), gzip(b"world")].concat(), "gzip members"),
            ([zstd(b"hello "), zstd(b"world")].concat(), "zstd frames"),
            ([&skippable[..], &zstd(b"hello world")].concat(), "a skippable frame"),
        ];
        for (blob, name) in table {
            let mut text = String::new();
            decompress(&blob[..]).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello world", "{name}");
        }
        let mut nothing = Vec::new();
        decompress(io::empty()).unwrap().read_to_end(&mut nothing).unwrap();
        assert!(nothing.is_empty());
    }

    #[test]
    fn a_cut_blob_is_an_error() {
        let blob = gzip(b"hello world");
        let result = decompress(&blob[..blob.len() - 4]).unwrap().read_to_end(&mut Vec::new());
        assert!(result.is_err());
    }
}
