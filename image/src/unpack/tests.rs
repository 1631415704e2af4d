//! Layers as an attacker would write them, and layers over layers.

mod attributes;
mod bombs;
mod racer;
mod round_trip;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::*;

/// A tar that is written by hand, because writers refuse what is tested here.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn raw(mut self, kind: u8, name: &[u8], mode: u32, uid: u32, stated: u64, content: &[u8]) -> Self {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name);
        block[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
        block[108..116].copy_from_slice(format!("{uid:07o}\0").as_bytes());
        block[116..124].copy_from_slice(format!("{uid:07o}\0").as_bytes());
        block[124..136].copy_from_slice(format!("{stated:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"00000000144\0");
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let start = self.0.len();
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self.seal(start)
    }

    fn seal(mut self, start: usize) -> Self {
        let block = &mut self.0[start..start + 512];
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self
    }

    fn entry(self, kind: u8, name: &str, link: &str, content: &str) -> Self {
        let mode = if kind == b'5' { 0o755 } else { 0o644 };
        let start = self.0.len();
        let mut tar = self.raw(kind, name.as_bytes(), mode, 0, content.len() as u64, content.as_bytes());
        tar.0[start + 157..start + 157 + link.len()].copy_from_slice(link.as_bytes());
        tar.seal(start)
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(b'0', name, "", content)
    }

    fn directory(self, name: &str) -> Self {
        self.entry(b'5', name, "", "")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, target, "")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, target, "")
    }

    fn pax(self, records: &[(&str, &str)]) -> Self {
        let record = |(key, value): &(&str, &str)| {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..).find(|length| length.to_string().len() + rest == *length).unwrap();
            format!("{length} {key}={value}\n")
        };
        let data: String = records.iter().map(record).collect();
        self.entry(b'x', "pax", "", &data)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A root to unpack into, beside what must not be touched.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/secret"), "secret").unwrap();
        let place = Self { directory };
        fs::set_permissions(place.outside(), fs::Permissions::from_mode(0o700)).unwrap();
        place
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    fn unpack(&self, tar: Tar) -> Result<Applied, UnpackError> {
        self.unpack_with(tar.end(), &Policy::rootfs(Owner::Ignore))
    }

    fn unpack_with(&self, stream: impl AsRef<[u8]>, policy: &Policy) -> Result<Applied, UnpackError> {
        let result = extract_into(stream.as_ref(), &self.root(), policy);
        assert_eq!(fs::metadata(self.outside()).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::metadata(self.outside().join("secret")).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(self.outside()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 2);
        result
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.root().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut directories = vec![self.root()];
        while let Some(directory) = directories.pop() {
            for child in fs::read_dir(directory).unwrap() {
                let path = child.unwrap().path();
                names.push(path.strip_prefix(self.root()).unwrap().display().to_string());
                if path.symlink_metadata().unwrap().is_dir() {
                    directories.push(path);
                }
            }
        }
        names.sort();
        names
    }
}

fn refused(result: &Result<Applied, UnpackError>) -> bool {
    matches!(result, Err(UnpackError::Refused { .. }))
}

#[test]
fn row_01_names_that_climb_are_refused_and_absolute_ones_stay_inside() {
    for name in ["../outside/x", "a/../../outside/x", ".."] {
        assert!(refused(&Place::new().unpack(Tar::default().file(name, "x"))), "{name}");
    }
    let place = Place::new();
    let absolute = place.outside().join("x").display().to_string();
    place.unpack(Tar::default().pax(&[("path", &absolute)]).file("x", "x")).unwrap();
    assert_eq!(place.text(absolute.trim_start_matches('/')), "x");
}

#[test]
fn row_02_links_lead_to_places_within_the_root() {
    let place = Place::new();
    let outside = place.outside().display().to_string();
    for target in [outside.as_str(), "../outside", "../../../../../../../../../etc"] {
        let tar = Tar::default().symlink("link", target).file("link/secret", "mine");
        // The target does not exist within the root.
        assert!(place.unpack(tar).is_err());
    }
    let tar =
        Tar::default().directory("etc").symlink("a", "/etc").symlink("b", "../../a").file("b/passwd", "x");
    place.unpack(tar).unwrap();
    assert_eq!(place.text("etc/passwd"), "x");
    let magic = Tar::default().symlink("p", "/proc/self/root/etc").file("p/x", "x");
    assert!(place.unpack(magic).is_err());
}

#[test]
fn row_03_hard_links_lead_to_files_within_the_root() {
    let place = Place::new();
    let secret = place.outside().join("secret").display().to_string();
    assert!(refused(&place.unpack(Tar::default().hard_link("x", "../outside/secret"))));
    assert!(place.unpack(Tar::default().hard_link("x", &secret)).is_err());
    let outside = place.outside().display().to_string();
    let chain = Tar::default().symlink("a", &outside).symlink("b", "a").hard_link("x", "b/secret");
    assert!(place.unpack(chain).is_err());
    // A link to a link is that link, and leads nowhere when it is followed within the root.
    let to_link = Tar::default().symlink("s", &secret).hard_link("x", "s").file("x", "mine");
    place.unpack(to_link).unwrap();
    assert_eq!(place.text("x"), "mine");
    assert!(refused(&place.unpack(Tar::default().directory("d").hard_link("x", "d"))));
    let good = Tar::default().file("d/one", "1").hard_link("d/two", "/d/one").hard_link("d/two", "d/two");
    place.unpack(good).unwrap();
    assert_eq!(fs::metadata(place.root().join("d/two")).unwrap().nlink(), 2);
}

/// CVE-2021-29136: a link named `/.` replaced the root directory.
#[test]
fn row_04_the_root_is_not_replaced() {
    for name in ["/.", ".", "./", "/", "x/."] {
        for kind in [b'0', b'1', b'2', b'6'] {
            let tar = Tar::default().file("x", "").entry(kind, name, "/etc", "");
            assert!(refused(&Place::new().unpack(tar)), "{name} {}", kind as char);
        }
    }
    let place = Place::new();
    place.unpack(Tar::default().raw(b'5', b"./", 0o711, 0, 0, b"")).unwrap();
    assert_eq!(fs::metadata(place.root()).unwrap().permissions().mode() & 0o7777, 0o711);
}

/// CVE-2026-33056: a directory entry over a link changed the mode of the link's target.
#[test]
fn row_05_a_directory_over_a_link_replaces_it() {
    let place = Place::new();
    let outside = place.outside().display().to_string();
    let tar = Tar::default().symlink("d", &outside).raw(b'5', b"d", 0o777, 0, 0, b"").file("d/x", "x");
    place.unpack(tar).unwrap();
    assert_eq!(place.text("d/x"), "x");
    // And the other way round: the mode is deferred, the directory is gone by then.
    let tar = Tar::default().raw(b'5', b"e", 0o777, 0, 0, b"").symlink("e", &outside);
    place.unpack(tar).unwrap();
    assert!(place.root().join("e").is_symlink());
}

#[test]
fn whiteouts_remove_what_lower_layers_have() {
    let place = Place::new();
    place
        .unpack(Tar::default().file("a/one", "1").file("a/two", "2").file("b/x/y", "y").file("c", "c"))
        .unwrap();
    let upper = Tar::default()
        .file("a/.wh.one", "")
        .file("b/x/new", "new")
        .file("b/.wh..wh..opq", "")
        .file(".wh.c", "")
        .file(".wh..wh.plnk", "")
        .file(".wh.missing", "")
        .file("missing/.wh.x", "");
    place.unpack(upper).unwrap();
    assert_eq!(place.names(), ["a", "a/two", "b", "b/x", "b/x/new"]);
    for name in [".wh.", ".wh..", "a/.wh..."] {
        assert!(refused(&place.unpack(Tar::default().file(name, ""))), "{name}");
    }
}

#[test]
fn row_07_whiteouts_stay_inside() {
    let place = Place::new();
    let outside = place.outside().display().to_string();
    for name in ["l/.wh.secret", "l/.wh..wh..opq"] {
        place.unpack(Tar::default().symlink("l", &outside).file(name, "")).unwrap();
    }
    place.unpack(Tar::default().symlink("l", "/").file("keep", "").file("l/.wh..wh..opq", "")).unwrap();
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let place = Place::new();
    let attribute = OverlayAttribute::User;
    let policy = Policy { whiteouts: Whiteouts::Overlay(attribute), ..Policy::rootfs(Owner::Ignore) };
    let tar = Tar::default()
        .file(".wh.gone", "")
        .file(".wh.again", "")
        .directory("again")
        .file("again/x", "")
        .directory("before")
        .file(".wh.before", "")
        .file("d/.wh..wh..opq", "");
    match place.unpack_with(tar.end(), &policy) {
        Err(UnpackError::Write { source, .. }) if source.raw_os_error() == Some(95) => {
            eprintln!("skipped: the file system of the temporary directory has no extended attributes");
            return;
        }
        other => drop(other.unwrap()),
    }
    let gone = fs::symlink_metadata(place.root().join("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for name in ["again", "before", "d"] {
        let mut value = [0; 8];
        let path = place.root().join(name);
        let size = rustix::fs::getxattr(&path, "user.overlay.opaque", &mut value).unwrap();
        assert_eq!(&value[..size], b"y", "{name}");
    }
}

/// CVE-2025-62518: readers that took the size from the header saw other entries than those that took it from the record.
#[test]
fn row_08_the_size_of_the_record_counts() {
    let place = Place::new();
    let inner = Tar::default().file("smuggled", "x").0;
    let size = inner.len().to_string();
    let tar = Tar::default()
        .pax(&[("size", &size)])
        .raw(b'0', b"outer", 0o644, 0, 0, &inner)
        .file("after", "after");
    place.unpack(tar).unwrap();
    assert_eq!(place.names(), ["after", "outer"]);
    assert_eq!(fs::read(place.root().join("outer")).unwrap(), inner);
}

#[test]
fn row_12_what_is_no_tar_is_refused() {
    let good = Tar::default().file("a", "content").end();
    let place = Place::new();
    let policy = Policy::rootfs(Owner::Ignore);
    for cut in [100, 512, 515, 1024 + 100] {
        // Cut between entries there is nothing to see but the DiffID.
        let result = place.unpack_with(&good[..cut], &policy);
        assert!(matches!(result, Err(UnpackError::Read(_))), "{cut}: {result:?}");
    }
    let mut flipped = good.clone();
    flipped[0] = b'b';
    let tail = [&good[..], &[7; 512]].concat();
    let dangling = Tar::default().pax(&[("path", "x")]).end();
    let sparse = Tar::default().entry(b'S', "s", "", "").end();
    let record = Tar::default().entry(b'x', "pax", "", "99 path=x\n").file("x", "").end();
    for stream in [flipped, tail, dangling, sparse, record, vec![1; 2048]] {
        let result = place.unpack_with(stream, &policy);
        assert!(matches!(result, Err(UnpackError::Malformed(_))), "{result:?}");
    }
}

#[test]
fn row_14_another_diff_id_is_an_error() {
    let stream = Tar::default().file("a", "content").end();
    let diff_id = DiffId::of(&stream);
    let policy = Policy::rootfs(Owner::Ignore).expecting(diff_id);
    let applied = Place::new().unpack_with(stream.clone(), &policy).unwrap();
    assert_eq!(applied, Applied { diff_id, bytes: stream.len() as u64, entries: 1 });
    // One byte of padding more is another layer.
    let padded = [&stream[..], &[0; 512]].concat();
    assert!(matches!(Place::new().unpack_with(padded, &policy), Err(UnpackError::DiffId { .. })));
}

#[test]
fn row_11_limits_are_kept() {
    let stream = Tar::default().file("a", "1").file("b", "2").end();
    let limited =
        |bytes, entries| Policy { limits: Limits { bytes, entries }, ..Policy::rootfs(Owner::Ignore) };
    assert!(Place::new().unpack_with(stream.clone(), &limited(3072, 2)).is_ok());
    for policy in [limited(3071, 2), limited(3072, 1)] {
        let result = Place::new().unpack_with(stream.clone(), &policy);
        assert!(matches!(result, Err(UnpackError::TooLarge { .. })), "{result:?}");
    }
    // A bomb: many zeros in little gzip stops at the limit.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let head = Tar::default().raw(b'0', b"bomb", 0o644, 0, 256 << 20, b"").0;
    std::io::copy(&mut (&*head).chain(std::io::repeat(0).take(256 << 20)), &mut encoder).unwrap();
    let result = Place::new().unpack_with(encoder.finish().unwrap(), &limited(64 << 20, 10));
    assert!(matches!(result, Err(UnpackError::TooLarge { .. })), "{result:?}");
}

#[test]
fn row_09_special_files_follow_the_policy() {
    let tar = || Tar::default().entry(b'6', "pipe", "", "").entry(b'3', "null", "", "").file("x", "").end();
    let with = |special_files| Policy { special_files, ..Policy::rootfs(Owner::Ignore) };
    let place = Place::new();
    place.unpack_with(tar(), &with(SpecialFiles::Skip)).unwrap();
    assert_eq!(place.names(), ["x"]);
    assert!(refused(&Place::new().unpack_with(tar(), &with(SpecialFiles::Refuse))));
    let place = Place::new();
    let pipe = Tar::default().entry(b'6', "pipe", "", "").end();
    place.unpack_with(pipe, &with(SpecialFiles::Create)).unwrap();
    assert!(fs::metadata(place.root().join("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn row_09_set_id_bits_and_times_follow_the_policy() {
    let tar = || {
        Tar::default()
            .raw(b'0', b"s", 0o6755, 0, 0, b"")
            .raw(b'5', b"d", 0o555, 0, 0, b"")
            .file("d/x", "")
            .end()
    };
    for (set_id, expected) in [(true, 0o6755), (false, 0o755)] {
        let place = Place::new();
        place.unpack_with(tar(), &Policy { set_id, ..Policy::rootfs(Owner::Ignore) }).unwrap();
        let attributes = |name: &str| {
            let metadata = fs::metadata(place.root().join(name)).unwrap();
            (metadata.mode() & 0o7777, metadata.mtime())
        };
        assert_eq!(attributes("s"), (expected, 100));
        assert_eq!(attributes("d"), (0o555, 100));
    }
}

#[test]
fn owners_follow_the_policy() {
    let tar = || Tar::default().raw(b'0', b"x", 0o4755, 1234, 0, b"").end();
    if rustix::process::geteuid().is_root() {
        let place = Place::new();
        place.unpack_with(tar(), &Policy::rootfs(Owner::Keep)).unwrap();
        let metadata = fs::metadata(place.root().join("x")).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 1234, 0o4755));
    }
    let place = Place::new();
    place.unpack_with(tar(), &Policy::rootfs(Owner::Ignore)).unwrap();
    assert_eq!(fs::metadata(place.root().join("x")).unwrap().uid(), rustix::process::geteuid().as_raw());
    let huge = Tar::default().pax(&[("uid", "2147483648")]).file("x", "");
    assert!(refused(&place.unpack(huge)));
}

#[test]
fn row_10_the_last_of_several_entries_counts() {
    let place = Place::new();
    let tar = Tar::default()
        .file("x", "one")
        .file("x", "two")
        .directory("d")
        .file("d/y", "")
        .file("d", "file")
        .file("e", "file")
        .directory("e")
        .raw(b'5', b"f", 0o700, 0, 0, b"")
        .raw(b'5', b"f", 0o711, 0, 0, b"");
    place.unpack(tar).unwrap();
    assert_eq!(place.names(), ["d", "e", "f", "x"]);
    assert_eq!((place.text("x"), place.text("d")), ("two".to_owned(), "file".to_owned()));
    assert_eq!(fs::metadata(place.root().join("f")).unwrap().mode() & 0o777, 0o711);
}

#[test]
fn row_10_long_and_odd_names_are_kept() {
    let place = Place::new();
    let part = "n".repeat(250);
    let deep: Vec<&str> = std::iter::repeat_n(part.as_str(), 20).collect();
    let deep = deep.join("/");
    place.unpack(Tar::default().pax(&[("path", &deep)]).file("short", "deep")).unwrap();
    let mut directory = fs::File::open(place.root()).unwrap();
    for _ in 0..19 {
        let flags = rustix::fs::OFlags::RDONLY;
        directory = rustix::fs::openat(&directory, &part, flags, rustix::fs::Mode::empty()).unwrap().into();
    }
    let metadata = rustix::fs::statat(&directory, &part, rustix::fs::AtFlags::empty()).unwrap();
    assert_eq!(metadata.st_size, 4);
    let odd = Tar::default().raw(b'0', b"\xff\xfe\n", 0o644, 0, 0, b"");
    place.unpack(odd).unwrap();
    assert!(place.root().join(OsStr::from_bytes(b"\xff\xfe\n")).exists());
}

#[test]
fn a_restored_layer_stays_in_its_directory() {
    let place = Place::new();
    let policy = Policy::restore("/layers");
    let tar = Tar::default()
        .raw(b'5', b"/layers", 0o700, 0, 0, b"")
        .file("/layers/bp/x", "x")
        .file("/layers/bp/.wh.y", "");
    let before = fs::metadata(place.root()).unwrap().mode();
    assert_ne!(before & 0o777, 0o700);
    place.unpack_with(tar.end(), &policy).unwrap();
    assert_eq!(place.names(), ["bp", "bp/.wh.y", "bp/x"]);
    assert_eq!(fs::metadata(place.root()).unwrap().mode() & 0o777, 0o700);
    for name in ["/etc/passwd", "/layers/../etc/passwd", "/layers2/x", "/"] {
        assert!(refused(&place.unpack_with(Tar::default().file(name, "").end(), &policy)), "{name}");
    }
    let link = Tar::default().hard_link("/layers/x", "/etc/passwd").end();
    assert!(refused(&place.unpack_with(link, &policy)));
    for target in ["/", ".", "bp"] {
        let through = Tar::default().symlink("/layers/l", target).file("/layers/l/through", "").end();
        assert!(refused(&place.unpack_with(through, &policy)), "{target}");
        let above = Tar::default().symlink("/layers/l", target).directory("/layers/l/x/y").end();
        assert!(refused(&place.unpack_with(above, &policy)), "{target}");
    }
    for (kind, is_accepted) in [(b'3', false), (b'4', false), (b'6', true)] {
        let special = Tar::default().entry(kind, "/layers/special", "", "").end();
        assert_eq!(place.unpack_with(special, &policy).is_ok(), is_accepted, "{kind}");
    }
    let now = std::time::SystemTime::now();
    for name in ["bp/x", "special"] {
        let modified = fs::metadata(place.root().join(name)).unwrap().modified().unwrap();
        assert!(
            now.duration_since(modified).unwrap_or_default().as_secs() < 3600,
            "it has no time of its entry"
        );
    }
}
