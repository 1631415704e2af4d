//! Layers of extenders that write the times of their builds into them (Kaniko): they get the times of all other layers, so
//! that the same Dockerfile gives the same image. Owners, modes and everything else stay; names of owners go.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use longshore_image::Sha256;
use longshore_image::layer::{self, LayerError};
use longshore_image::{BlobSink, Descriptor, DiffId, MediaType, decompress};

const BLOCK: usize = 512;
/// 1980-01-01T00:00:01Z, as in all layers.
const TIME: u64 = 315_532_801;
/// More no PAX header needs.
const LIMIT: u64 = 1 << 20;
/// What is not kept of PAX headers.
const DROPPED: [&[u8]; 5] = [b"mtime", b"atime", b"ctime", b"uname", b"gname"];

/// The layer with other times: itself, when it has them already.
pub(super) fn layer(
    path: &Path,
    diff_id: DiffId,
    descriptor: &Descriptor,
    sink: &BlobSink,
) -> Result<(DiffId, Descriptor, PathBuf), LayerError> {
    let failed = |source| LayerError::Read { path: path.to_owned(), source };
    let open = || File::open(path).and_then(decompress).map(Normalised::new).map_err(failed);
    let mut hasher = Sha256::new();
    let mut reader = open()?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer).map_err(failed)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let MediaType::Layer(family, format) = descriptor.media_type else {
        return Ok((diff_id, descriptor.clone(), path.to_owned()));
    };
    if DiffId::from_hasher(hasher) == diff_id {
        return Ok((diff_id, descriptor.clone(), path.to_owned()));
    }
    let layer = layer::build_from(&mut open()?, &path.display().to_string(), format, family, sink)?;
    Ok((layer.diff_id, layer.descriptor, layer.path))
}

/// Passes a tar on, with other times in its headers.
struct Normalised<R> {
    inner: R,
    /// What is to be passed on before anything else.
    ready: Vec<u8>,
    given: usize,
    /// How many bytes of content follow; all that is left, after the end of the archive.
    content: u64,
    /// The size of the next file, from a PAX header.
    size: Option<u64>,
}

impl<R: Read> Normalised<R> {
    fn new(inner: R) -> Self {
        Self { inner, ready: Vec::new(), given: 0, content: 0, size: None }
    }

    /// Reads up to the content of the next file; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        self.ready.clear();
        self.given = 0;
        loop {
            let mut header = [0; BLOCK];
            match self.inner.read(&mut header)? {
                0 => return Ok(!self.ready.is_empty()),
                count => self.inner.read_exact(&mut header[count..])?,
            }
            if header.iter().all(|byte| *byte == 0) {
                self.ready.extend_from_slice(&header);
                self.content = u64::MAX;
                return Ok(true);
            }
            let size = number(&header[124..136])?;
            match header[156] {
                b'x' => self.pax(header, size)?,
                // Long names of GNU's, and what is for all files.
                b'L' | b'K' | b'g' => {
                    let content = self.padded(size)?;
                    self.ready.extend_from_slice(&header);
                    self.ready.extend_from_slice(&content);
                }
                kind => {
                    normalise(&mut header);
                    self.ready.extend_from_slice(&header);
                    let size = self.size.take().unwrap_or(size);
                    let has_content = !matches!(kind, b'1'..=b'6');
                    self.content = if has_content { size.next_multiple_of(BLOCK as u64) } else { 0 };
                    return Ok(true);
                }
            }
        }
    }

    /// A PAX header, without what is not kept, and nothing when nothing is left of it.
    fn pax(&mut self, mut header: [u8; BLOCK], size: u64) -> io::Result<()> {
        let content = self.padded(size)?;
        let mut rest = &content[..size as usize];
        let mut kept = Vec::new();
        while !rest.is_empty() {
            let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(invalid)?;
            let length = std::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse().ok());
            let length: usize = length.filter(|length| *length > space + 1).ok_or_else(invalid)?;
            let record = rest.get(..length).ok_or_else(invalid)?;
            let (key, value) = split(&record[space + 1..length - 1]).ok_or_else(invalid)?;
            if key == b"size" {
                let text = std::str::from_utf8(value).ok();
                self.size = Some(text.and_then(|text| text.parse().ok()).ok_or_else(invalid)?);
            }
            if !DROPPED.contains(&key) {
                kept.extend_from_slice(record);
            }
            rest = &rest[length..];
        }
        if kept.is_empty() {
            return Ok(());
        }
        header[124..136].copy_from_slice(format!("{:011o}\0", kept.len()).as_bytes());
        seal(&mut header);
        kept.resize(kept.len().next_multiple_of(BLOCK), 0);
        self.ready.extend_from_slice(&header);
        self.ready.extend_from_slice(&kept);
        Ok(())
    }

    fn padded(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > LIMIT {
            return Err(invalid());
        }
        let mut content = vec![0; size.next_multiple_of(BLOCK as u64) as usize];
        self.inner.read_exact(&mut content)?;
        Ok(content)
    }
}

impl<R: Read> Read for Normalised<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() && self.content == 0 && !self.next()? {
            return Ok(0);
        }
        if self.given < self.ready.len() {
            let count = buffer.len().min(self.ready.len() - self.given);
            buffer[..count].copy_from_slice(&self.ready[self.given..self.given + count]);
            self.given += count;
            return Ok(count);
        }
        let wanted = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..wanted])?;
        match (count, self.content) {
            (_, u64::MAX) => {}
            (0, _) if wanted > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => self.content -= count as u64,
        }
        Ok(count)
    }
}

fn split(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..]))
}

/// Octal digits, or the binary numbers of GNU's tar.
fn number(field: &[u8]) -> io::Result<u64> {
    if field[0] & 0x80 != 0 {
        let bytes = field[field.len() - 8..].try_into().map_err(io::Error::other)?;
        return Ok(u64::from_be_bytes(bytes));
    }
    let text = std::str::from_utf8(field).map_err(io::Error::other)?;
    let text = text.trim_matches(['\0', ' ']);
    if text.is_empty() { Ok(0) } else { u64::from_str_radix(text, 8).map_err(io::Error::other) }
}

fn normalise(header: &mut [u8; BLOCK]) {
    header[136..148].copy_from_slice(format!("{TIME:011o}\0").as_bytes());
    header[265..329].fill(0);
    if header[257..265] == *b"ustar  \0" {
        // Two more times of GNU's.
        header[345..369].fill(0);
    }
    seal(header);
}

/// The checksum, as the reference writes it.
fn seal(header: &mut [u8; BLOCK]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a header of the tar is damaged")
}

#[cfg(test)]
mod tests {
    use longshore_image::layer::{Entry, LayerSource};
    use longshore_image::{LayerFormat, ManifestFormat};

    use super::*;

    /// A tar as another extender writes it.
    fn foreign(time: u64, pax: bool) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(700);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(time);
        header.set_username("me").unwrap();
        header.set_groupname("us").unwrap();
        if pax {
            let records = [("mtime", b"5.25".as_slice()), ("SCHILY.xattr.user.x", b"value")];
            builder.append_pax_extensions(records).unwrap();
            builder.append_pax_extensions([("atime", b"1".as_slice())]).unwrap();
        }
        builder.append_data(&mut header, "a/file", &[b'x'; 700][..]).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mtime(time);
        builder.append_link(&mut header, format!("a/{}", "long/".repeat(40)), "target").unwrap();
        builder.into_inner().unwrap()
    }

    fn normalised(tar: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Normalised::new(tar).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn times_and_names_of_owners_do_not_count() {
        for pax in [false, true] {
            let (one, other) = (foreign(1, pax), foreign(2_000_000_000, pax));
            assert_ne!(one, other);
            let bytes = normalised(&one);
            assert_eq!(bytes, normalised(&other));
            assert_eq!(bytes, normalised(&bytes));
            let mut archive = tar::Archive::new(bytes.as_slice());
            let mut entries = archive.entries().unwrap();
            let mut file = entries.next().unwrap().unwrap();
            let header = file.header().clone();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (7, 8));
            assert_eq!((header.mode().unwrap(), header.mtime().unwrap()), (0o4755, TIME));
            assert_eq!(header.username().unwrap(), Some(""));
            let records = file.pax_extensions().unwrap();
            let keys: Vec<_> = records
                .into_iter()
                .flatten()
                .map(|record| record.unwrap().key().unwrap().to_owned())
                .collect();
            assert_eq!(keys, if pax { vec!["SCHILY.xattr.user.x"] } else { vec![] });
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            assert_eq!(content, [b'x'; 700]);
            let link = entries.next().unwrap().unwrap();
            assert!(link.path_bytes().len() > 100);
            assert_eq!(link.header().mtime().unwrap(), TIME);
        }
    }

    #[test]
    fn our_own_layers_stay_as_they_are() {
        let root = tempfile::tempdir().unwrap();
        let sink = BlobSink::scratch(root.path());
        let entries = vec![Entry::directory("/a", 0o755), Entry::file("/a/ü", 0o644, "x")];
        let source = LayerSource::entries(entries);
        let made = layer::build(&source, LayerFormat::TarGzip, ManifestFormat::Oci, &sink).unwrap();
        let (diff_id, descriptor, path) = layer(&made.path, made.diff_id, &made.descriptor, &sink).unwrap();
        assert_eq!((diff_id, descriptor, path), (made.diff_id, made.descriptor, made.path));
    }

    #[test]
    fn what_is_damaged_is_an_error() {
        let tar = foreign(1, true);
        for bytes in [&tar[..700], &tar[..BLOCK + 1]] {
            assert!(Normalised::new(bytes).read_to_end(&mut Vec::new()).is_err());
        }
    }
}
