//! Tar headers, byte for byte as the reference lifecycle's (Go's `archive/tar` behind its normalising writer).
//!
//! POSIX ustar where it can express the entry, else ustar preceded by a PAX header (POSIX.1-2001); never GNU. The rules
//! are small but each of them changes DiffIDs: numbers are octal, padded with zeros and closed by NUL; the checksum has
//! six digits, NUL and a space; a PAX header carries no time, mode or ids; records are sorted by key.

use std::os::unix::ffi::OsStrExt;

use super::entry::{Device, Entry, EntryKind};
use super::error::LayerError;

/// The size of a header and the unit that content is padded to, in bytes.
pub(crate) const BLOCK: usize = 512;
/// The time of every entry: 1980-01-01T00:00:01Z, the earliest that zip can express, plus one second.
pub(crate) const MODIFIED: u64 = 315_532_801;

const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const UID: std::ops::Range<usize> = 108..116;
const GID: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: std::ops::Range<usize> = 157..257;
const MAGIC: std::ops::Range<usize> = 257..265;
const MAJOR: std::ops::Range<usize> = 329..337;
const MINOR: std::ops::Range<usize> = 337..345;
const PREFIX: std::ops::Range<usize> = 345..500;

type Block = [u8; BLOCK];

/// Appends the header of an entry whose content has `size` bytes.
pub(crate) fn write(entry: &Entry, size: u64, out: &mut Vec<u8>) -> Result<(), LayerError> {
    let unencodable = |reason| LayerError::Unencodable { path: entry.path.clone(), reason };
    let name = entry.path.as_os_str().as_bytes();
    let (kind, link, device) = describe(&entry.kind);
    if name.contains(&0) || link.contains(&0) {
        return Err(unencodable("a name has a NUL character"));
    }
    let device = device.unwrap_or(Device { major: 0, minor: 0 });
    if !fits(&MAJOR, device.major.into()) || !fits(&MINOR, device.minor.into()) {
        return Err(unencodable("its device number is too large"));
    }
    let split = split_name(name);
    let records = records(entry, name, link, size, split.is_some());
    let mut block = [0; BLOCK];
    block[TYPE] = kind;
    if records.is_empty() {
        let (prefix, rest) = split.unwrap_or((b"", name));
        put_text(&mut block[NAME], rest);
        put_text(&mut block[LINK], link);
        put_text(&mut block[PREFIX], prefix);
    } else {
        write_pax(name, &records, out);
        put_text(&mut block[NAME], &ascii(name));
        put_text(&mut block[LINK], &ascii(link));
    }
    put_octal(&mut block, &MODE, u64::from(entry.mode & 0o7777));
    put_octal(&mut block, &UID, entry.uid.into());
    put_octal(&mut block, &GID, entry.gid.into());
    put_octal(&mut block, &SIZE, size);
    put_octal(&mut block, &MTIME, MODIFIED);
    put_octal(&mut block, &MAJOR, device.major.into());
    put_octal(&mut block, &MINOR, device.minor.into());
    seal(&mut block);
    out.extend_from_slice(&block);
    Ok(())
}

/// How many zeros follow content of `size` bytes.
pub(crate) fn padding(size: u64) -> usize {
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}

fn describe(kind: &EntryKind) -> (u8, &[u8], Option<Device>) {
    match kind {
        EntryKind::File(_) => (b'0', b"", None),
        EntryKind::HardLink(target) => (b'1', target.as_os_str().as_bytes(), None),
        EntryKind::Symlink(target) => (b'2', target.as_os_str().as_bytes(), None),
        EntryKind::CharacterDevice(device) => (b'3', b"", Some(*device)),
        EntryKind::BlockDevice(device) => (b'4', b"", Some(*device)),
        EntryKind::Directory => (b'5', b"", None),
        EntryKind::Fifo => (b'6', b"", None),
    }
}

/// What ustar cannot express, as PAX records sorted by key. A long name that ustar could split is recorded too when
/// another field asks for PAX.
fn records(entry: &Entry, name: &[u8], link: &[u8], size: u64, splits: bool) -> Vec<(String, Vec<u8>)> {
    let xattrs = entry.xattrs.iter();
    let mut records: Vec<_> =
        xattrs.map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.clone())).collect();
    let mut number = |key: &str, field, value: u64| {
        if !fits(field, value) {
            records.push((key.to_owned(), value.to_string().into_bytes()));
        }
    };
    number("gid", &GID, entry.gid.into());
    number("size", &SIZE, size);
    number("uid", &UID, entry.uid.into());
    if !is_ascii(link) || link.len() > LINK.len() {
        records.push(("linkpath".to_owned(), link.to_vec()));
    }
    let beyond_v7 = !is_ascii(name) || name.len() > NAME.len();
    if beyond_v7 && (!splits || !records.is_empty()) {
        records.push(("path".to_owned(), name.to_vec()));
    }
    records.sort_unstable();
    records
}

fn write_pax(name: &[u8], records: &[(String, Vec<u8>)], out: &mut Vec<u8>) {
    let mut data = Vec::new();
    for (key, value) in records {
        append_record(key, value, &mut data);
    }
    let cut = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let header_name = [&name[..cut], b"PaxHeaders.0/", &name[cut..]].concat();
    let mut header_name = ascii(&header_name);
    header_name.truncate(NAME.len());
    while header_name.last() == Some(&b'/') {
        header_name.pop();
    }
    let mut block = [0; BLOCK];
    block[TYPE] = b'x';
    put_text(&mut block[NAME], &header_name);
    for field in [&MODE, &UID, &GID, &MTIME] {
        put_octal(&mut block, field, 0);
    }
    put_octal(&mut block, &SIZE, data.len() as u64);
    seal(&mut block);
    out.extend_from_slice(&block);
    out.extend_from_slice(&data);
    out.resize(out.len() + padding(data.len() as u64), 0);
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts itself.
fn append_record(key: &str, value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    length = rest + length.to_string().len();
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The prefix and the rest of a name over 100 bytes, split at the last slash that leaves at most 155 bytes before it.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME.len() || !is_ascii(name) {
        return None;
    }
    let window = &name[..name.len().min(PREFIX.len() + 1)];
    let slash = window.iter().rposition(|byte| *byte == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (!prefix.is_empty() && (1..=NAME.len()).contains(&rest.len())).then_some((prefix, rest))
}

fn is_ascii(text: &[u8]) -> bool {
    text.iter().all(|byte| (1..0x80).contains(byte))
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| (1..0x80).contains(byte)).collect()
}

/// Whether a number fits the field in octal, with its NUL.
fn fits(field: &std::ops::Range<usize>, value: u64) -> bool {
    value < 1 << ((field.len() - 1) * 3)
}

/// A text, cut to its field. Where the cut would leave a trailing slash, the slashes go: some readers take a name that
/// ends with a slash for a directory.
fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    if text.len() > field.len() && field.last() == Some(&b'/') {
        let kept = text[..field.len() - 1].iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        field[kept] = 0;
    }
}

/// A number in octal; one that does not fit is zero, and stands in a PAX record.
fn put_octal(block: &mut Block, field: &std::ops::Range<usize>, value: u64) {
    let mut left = if fits(field, value) { value } else { 0 };
    // The last byte stays NUL. Formatting with `{:o}` took 3 % of the time of a layer of small files.
    for digit in block[field.start..field.end - 1].iter_mut().rev() {
        *digit = b'0' + (left % 8) as u8;
        left /= 8;
    }
}

/// Adds the magic and the checksum.
fn seal(block: &mut Block) {
    block[MAGIC].copy_from_slice(b"ustar\x0000");
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    // Six digits, NUL, and the space that is there.
    put_octal(block, &(CHECKSUM.start..CHECKSUM.end - 1), sum.into());
    block[CHECKSUM.end - 2] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_like_ustar() {
        let long = |count| "d".repeat(count);
        let table = [
            ("/short".to_owned(), None),
            (format!("/{}/{}", long(60), long(60)), Some(61)),
            (format!("/{}/{}", long(154), long(100)), Some(155)),
            (format!("/{}/{}", long(155), long(100)), None),
            (format!("/{}/{}", long(10), long(101)), None),
            (format!("/{}", long(100)), None),
            (format!("/ü/{}", long(100)), None),
        ];
        for (name, expected) in table {
            assert_eq!(split_name(name.as_bytes()).map(|(prefix, _)| prefix.len()), expected, "{name}");
        }
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for (value, expected) in [("1", "8 uid=1\n"), ("12", "9 uid=12\n"), ("123", "11 uid=123\n")] {
            let mut out = Vec::new();
            append_record("uid", value.as_bytes(), &mut out);
            assert_eq!(out, expected.as_bytes());
        }
    }

    #[test]
    fn a_size_beyond_octal_stands_in_a_record() {
        let mut out = Vec::new();
        write(&Entry::file("/big", 0o644, ""), 1 << 33, &mut out).unwrap();
        assert_eq!(&out[..18], b"/PaxHeaders.0/big\0");
        assert_eq!(&out[512..533], b"19 size=8589934592\n\0\0");
        assert_eq!(&out[1024 + 124..1024 + 136], b"00000000000\0");
    }
}
