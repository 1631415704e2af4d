//! Little streams that become large, unpacked by a process of its own, whose memory is measured.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Command;

use super::{Place, Tar};
use crate::unpack::{Limits, Owner, Policy};

/// The file that is unpacked by the child, which is the same test in a process of its own.
const BOMB: &str = "LONGSHORE_TEST_BOMB";
/// What may be unpacked.
const LIMITS: Limits = Limits { bytes: 192 << 20, entries: 5_000 };
/// The most memory that the child may have had, in KiB.
const MEMORY: u64 = 256 << 10;

fn zeros(count: u64) -> impl std::io::Read {
    std::io::repeat(0).take(count)
}

fn gzip(head: &[u8], zeros_after: u64) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(head).unwrap();
    std::io::copy(&mut zeros(zeros_after), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

/// With a window of 128 MiB, the largest that is accepted.
fn zstd(head: &[u8], zeros_after: u64) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(head).unwrap();
    std::io::copy(&mut zeros(zeros_after), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

fn pax_of(size: u64) -> Vec<u8> {
    Tar::default().raw(b'x', b"pax", 0o644, 0, size, b"").0
}

#[test]
fn row_11_bombs_stay_small() {
    if let Some(bomb) = std::env::var_os(BOMB) {
        return child(&bomb);
    }
    let end = Tar::default().end();
    let file = |size: u64| Tar::default().raw(b'0', b"bomb", 0o644, 0, size, b"").0;
    let attributes: Vec<u8> = (0..100)
        .flat_map(|index| {
            let value = "x".repeat(900_000);
            let tar = Tar::default().pax(&[("SCHILY.xattr.user.a", &value)]);
            tar.directory(&format!("d{index}")).0
        })
        .collect();
    let many: Vec<u8> =
        (0..6_000).flat_map(|index| Tar::default().directory(&format!("d{index}")).0).collect();
    let window = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3][..], &[1, 0, 0]].concat();
    let table = [
        ("content of 7 GiB by the header", gzip(&file(7 << 30), 1 << 20), "bytes"),
        ("zeros after the end", gzip(&end, 256 << 20), "bytes"),
        ("zeros after the end, in zstd", zstd(&end, 256 << 20), "bytes"),
        ("records of 1 GiB", gzip(&pax_of(1 << 30), 256 << 20), "1 MiB"),
        ("attributes of directories", gzip(&attributes, 1024), "bytes of extended attributes"),
        ("more entries than are accepted", gzip(&many, 1024), "entries"),
        ("a window of 2 GiB", window, "cannot read the layer"),
    ];
    for (what, bytes, words) in table {
        assert!(bytes.len() < 4 << 20, "{what} has {} bytes", bytes.len());
        let bomb = tempfile::NamedTempFile::new().unwrap();
        fs::write(bomb.path(), &bytes).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "unpack::tests::bombs::row_11_bombs_stay_small", "--nocapture"])
            .env(BOMB, bomb.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let line = |start: &str| said.lines().find_map(|line| line.strip_prefix(start)).map(str::trim);
        assert!(line("failure:").is_some_and(|failure| failure.contains(words)), "{what}: {output:?}");
        let memory: u64 = line("memory:").unwrap().trim_end_matches(" kB").trim().parse().unwrap();
        assert!(memory < MEMORY, "{what} took {memory} KiB");
    }
}

/// Unpacks the bomb that the variable names, and says what came of it.
fn child(bomb: &OsStr) {
    let place = Place::new();
    let policy = Policy { limits: LIMITS, ..Policy::rootfs(Owner::Keep) };
    let file = fs::File::open(bomb).unwrap();
    let error = crate::unpack::extract_into(file, &place.root(), &policy).unwrap_err();
    println!("\nfailure: {error}");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("memory: {}", memory.trim());
}
