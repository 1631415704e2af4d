//! The bytes of the index: a line that says what it is, numbers of fixed width and texts with their lengths, and at the
//! end the digest of all that.

use super::records::{KnownBlob, Record, Records};
use crate::moment::Moment;
use crate::{DiffId, Digest};

const MAGIC: &[u8] = b"longshore stat index 2\n";
const DIGEST: usize = 32;

pub(super) fn encode(records: &Records) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    put_number(&mut bytes, records.builds);
    put_number(&mut bytes, records.layers.len() as u64);
    for (layer, record) in &records.layers {
        put_text(&mut bytes, layer);
        for digest in [record.exact, record.shape, record.outline, record.diff_id.into()] {
            bytes.extend(digest.as_bytes());
        }
        bytes.extend(record.oldest.to_le_bytes());
        bytes.push(u8::from(record.is_settled));
        put_number(&mut bytes, record.uncompressed_size);
        put_number(&mut bytes, record.build);
        put_number(&mut bytes, record.blobs.len() as u64);
        for blob in &record.blobs {
            put_text(&mut bytes, &blob.codec);
            bytes.extend(blob.digest.as_bytes());
            put_number(&mut bytes, blob.size);
        }
    }
    let digest = Digest::of(&bytes);
    bytes.extend(digest.as_bytes());
    bytes
}

/// The records; why not, when the bytes are not those of an index.
pub(super) fn decode(bytes: &[u8]) -> Result<Records, &'static str> {
    let length = bytes.len().checked_sub(DIGEST).ok_or("it is too short")?;
    let (content, digest) = bytes.split_at(length);
    if Digest::of(content).as_bytes().as_slice() != digest {
        return Err("its content is not that of its digest");
    }
    let rest = content.strip_prefix(MAGIC).ok_or("it begins with something else")?;
    records(&mut Reader(rest)).ok_or("it ends too early")
}

fn records(reader: &mut Reader<'_>) -> Option<Records> {
    let mut records = Records { builds: reader.number()?, ..Records::default() };
    for _ in 0..reader.number()? {
        let layer = reader.text()?;
        let (exact, shape, outline) = (reader.digest()?, reader.digest()?, reader.digest()?);
        let (diff_id, oldest) = (reader.digest()?, reader.moment()?);
        let is_settled = reader.take(1)? == [1];
        let (uncompressed_size, build) = (reader.number()?, reader.number()?);
        let mut blobs = Vec::new();
        for _ in 0..reader.number()? {
            let (codec, digest, size) = (reader.text()?, reader.digest()?, reader.number()?);
            blobs.push(KnownBlob { codec, digest, size });
        }
        let diff_id = DiffId::from_bytes(*diff_id.as_bytes());
        records.layers.insert(
            layer,
            Record { exact, shape, outline, oldest, is_settled, diff_id, uncompressed_size, build, blobs },
        );
    }
    reader.0.is_empty().then_some(records)
}

fn put_number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend(number.to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn moment(&mut self) -> Option<Moment> {
        Some(Moment::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    fn digest(&mut self) -> Option<Digest> {
        Some(Digest::from_bytes(self.take(DIGEST)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::{blob, record};
    use super::*;

    fn example() -> Records {
        let mut records = Records { builds: 3, ..Records::default() };
        records.put("acme/web:deps", record("1"), Some(blob("zstd-3")));
        records.put("größe", Record { is_settled: false, ..record("2") }, None);
        records
    }

    #[test]
    fn reads_back_what_it_writes() {
        for records in [Records::default(), example()] {
            assert_eq!(decode(&encode(&records)), Ok(records));
        }
    }

    /// A damaged index must not be believed, wherever it is damaged.
    #[test]
    fn every_byte_counts() {
        let bytes = encode(&example());
        for index in 0..bytes.len() {
            assert!(decode(&bytes[..index]).is_err(), "cut at {index}");
            let mut flipped = bytes.clone();
            flipped[index] ^= 1;
            assert!(decode(&flipped).is_err(), "flipped at {index}");
        }
        assert!(decode(&[&*bytes, b"x"].concat()).is_err());
        let mut other = b"longshore stat index 3\n".to_vec();
        other.extend(Digest::of(&other).as_bytes());
        assert_eq!(decode(&other), Err("it begins with something else"));
    }
}
