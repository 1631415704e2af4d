//! Tar headers as they are read: ustar, GNU and old headers, and PAX records (POSIX.1-2001).

use std::collections::BTreeMap;

use super::error::Malformed;

pub(crate) const BLOCK: usize = 512;

pub(crate) type Block = [u8; BLOCK];

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// An entry, without its content.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// The size of the content, which is zero for all but files.
    pub(crate) size: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, u32),
    pub(crate) device: (u32, u32),
    /// Extended attributes, by name.
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The fields that are read from a block before its type is known to be an entry's.
pub(crate) struct Raw<'a>(&'a Block);

impl<'a> Raw<'a> {
    /// Checks the checksum, the sum of the bytes; some old programs took them for signed.
    pub(crate) fn new(block: &'a Block) -> Result<Self, Malformed> {
        // As if the checksum were eight spaces.
        let sum = |value: fn(u8) -> i32| -> i64 {
            let sum = |bytes: &[u8]| bytes.iter().map(|byte| value(*byte)).sum::<i32>();
            i64::from(sum(block) - sum(&block[148..156]) + 8 * i32::from(b' '))
        };
        let stated = number(&block[148..156]).ok_or(Malformed("a header has no checksum"))?;
        if stated != sum(i32::from) && stated != sum(|byte| i32::from(byte as i8)) {
            return Err(Malformed("a header does not have the checksum it states"));
        }
        Ok(Self(block))
    }

    pub(crate) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub(crate) fn size(&self) -> Result<u64, Malformed> {
        number(&self.0[124..136])
            .and_then(|size| size.try_into().ok())
            .ok_or(Malformed("a size is not a number"))
    }

    /// The entry of the block alone.
    pub(crate) fn entry(&self) -> Result<Entry, Malformed> {
        let path = self.path();
        let kind = match self.type_flag() {
            b'0' | 0 | b'7' if self.type_flag() != b'0' && path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => return Err(Malformed("it has a GNU sparse file, which no image layer may have")),
            _ => return Err(Malformed("it has an entry of an unknown type")),
        };
        let field = |range: std::ops::Range<usize>, what| number(&self.0[range]).ok_or(Malformed(what));
        let unsigned = |range, what| u64::try_from(field(range, what)?).ok().ok_or(Malformed(what));
        let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
        let device = |range: std::ops::Range<usize>| -> Result<u32, Malformed> {
            let what = "a device number is not a number";
            if !is_device {
                return Ok(0);
            }
            u32::try_from(field(range, what)?).ok().ok_or(Malformed(what))
        };
        Ok(Entry {
            path,
            link: text(&self.0[157..257]).to_vec(),
            kind,
            mode: (field(100..108, "a mode is not a number")? & 0o7777) as u32,
            uid: unsigned(108..116, "a user id is not a number")?,
            gid: unsigned(116..124, "a group id is not a number")?,
            size: if kind == Kind::File { self.size()? } else { 0 },
            modified: (field(136..148, "a time is not a number")?, 0),
            device: (device(329..337)?, device(337..345)?),
            attributes: Vec::new(),
        })
    }

    fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = if &self.0[257..263] == b"ustar\0" { text(&self.0[345..500]) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits among spaces and NULs, or GNU's base 256 with the high bit set. An empty field is zero.
fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Two's complement; bit 6 of the first byte is the sign.
        let start = i64::from(first & 0x7f) - if first & 0x40 == 0 { 0 } else { 0x80 };
        return rest.iter().try_fold(start, |sum, byte| Some(sum.checked_mul(256)? + i64::from(*byte)));
    }
    let padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !padding(byte)).unwrap_or(field.len());
    let digits = field[start..].split(padding).next().unwrap_or_default();
    digits.iter().try_fold(0_i64, |sum, byte| match byte {
        b'0'..=b'7' => Some(sum.checked_mul(8)? + i64::from(byte - b'0')),
        _ => None,
    })
}

/// How the names of PAX records begin that hold extended attributes.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// The PAX records before an entry: the last one of a key counts, and an empty one takes it back.
#[derive(Debug, Default)]
pub(crate) struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    uid: Option<u64>,
    gid: Option<u64>,
    size: Option<u64>,
    modified: Option<(i64, u32)>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Records {
    /// Reads `LENGTH KEY=VALUE\n` records.
    pub(crate) fn read(&mut self, mut data: &[u8]) -> Result<(), Malformed> {
        while !data.is_empty() {
            let (record, rest) =
                split_record(data).ok_or(Malformed("a PAX record has not the length it states"))?;
            let equals = record.iter().position(|byte| *byte == b'=');
            let (key, value) = record.split_at(equals.ok_or(Malformed("a PAX record has no `=`"))?);
            self.set(key, &value[1..])?;
            data = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let name = |value: &[u8]| match value {
            [] => Ok(None),
            _ if value.contains(&0) => Err(Malformed("a PAX record has a name with a NUL character")),
            _ => Ok(Some(value.to_vec())),
        };
        let unsigned = |value: &[u8]| match value {
            [] => Ok(None),
            _ => decimal(value).map(Some).ok_or(Malformed("a PAX record is not a number")),
        };
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"uid" => self.uid = unsigned(value)?,
            b"gid" => self.gid = unsigned(value)?,
            b"size" => self.size = unsigned(value)?,
            b"mtime" if value.is_empty() => self.modified = None,
            b"mtime" => {
                self.modified = Some(time(value).ok_or(Malformed("a PAX record is not a time"))?);
            }
            key if key.starts_with(ATTRIBUTE) => {
                let attribute = &key[ATTRIBUTE.len()..];
                if attribute.is_empty() || attribute.contains(&0) {
                    return Err(Malformed("a PAX record has an extended attribute without a proper name"));
                }
                self.attributes.insert(attribute.to_vec(), value.to_vec());
            }
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(Malformed("it has a GNU sparse file, which no image layer may have"));
            }
            // Times of access, names of users, comments: not used here.
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn set_path(&mut self, path: Vec<u8>) {
        self.path = Some(path);
    }

    pub(crate) fn set_link(&mut self, link: Vec<u8>) {
        self.link = Some(link);
    }

    /// The records go before the fields of the header, the size included.
    pub(crate) fn apply(self, entry: &mut Entry) {
        if let Some(path) = self.path {
            entry.path = path;
        }
        if let Some(link) = self.link {
            entry.link = link;
        }
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.modified = self.modified.unwrap_or(entry.modified);
        entry.attributes = self.attributes.into_iter().collect();
        if entry.kind == Kind::File {
            entry.size = self.size.unwrap_or(entry.size);
        }
    }
}

fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    Some((record, &data[length..]))
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9.9}").parse().ok()?;
    let whole: i64 = seconds.parse().ok()?;
    match (seconds.starts_with('-'), nanoseconds) {
        (true, 1..) => Some((whole.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
        _ => Some((whole, nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        let table: [(&[u8], Option<i64>); 8] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"12345678", None),
            (b"9\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, expected) in table {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        let table = [
            ("12", Some((12, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.0000000019", Some((12, 1))),
            ("-1.25", Some((-2, 750_000_000))),
            ("1.x", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn row_08_malformed_records_are_refused() {
        for data in [
            "x",
            "5 a=",
            "5 a=1\n",
            "7 a=1\n",
            "5 ab\n",
            "6 ab\n",
            "+6 a=1\n",
            "9999999999999999999999 a=1\n",
            "0 ",
        ] {
            assert!(Records::default().read(data.as_bytes()).is_err(), "{data}");
        }
        for data in ["8 size=x\n", "11 size=-1\n", "9 path=a\0\n", "23 GNU.sparse.major=1.0\n"] {
            let full = format!("{} {}", data.len(), data.split_once(' ').unwrap().1);
            assert!(Records::default().read(full.as_bytes()).is_err(), "{full}");
        }
        let mut records = Records::default();
        records.read(b"8 uid=7\n8 gid=8\n7 uid=\n").unwrap();
        assert_eq!((records.uid, records.gid), (None, Some(8)));
    }
}
