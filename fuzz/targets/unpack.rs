//! Layers, compressed or not: whatever they hold, nothing beside the directory is touched.
#![no_main]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use libfuzzer_sys::fuzz_target;
use longshore_image::unpack::{Limits, Owner, Policy, extract_into};

fuzz_target!(|bytes: &[u8]| {
    let around = tempfile::TempDir::new_in("/dev/shm").expect("a directory in memory");
    let (root, beside) = (around.path().join("root"), around.path().join("beside"));
    fs::create_dir(&root).expect("a directory in memory");
    fs::create_dir(&beside).expect("a directory in memory");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o750)).expect("its mode");
    fs::write(beside.join("file"), "kept").expect("a file in memory");
    symlink(&beside, root.join("out")).expect("a link");
    symlink("..", root.join("up")).expect("a link");
    let limits = Limits { bytes: 4 << 20, entries: 1000 };
    drop(extract_into(bytes, &root, &Policy { limits, ..Policy::rootfs(Owner::Ignore) }));
    // As the restorer does it: the directory is empty, and links are not followed.
    let restored = around.path().join("restored");
    fs::create_dir(&restored).expect("a directory in memory");
    drop(extract_into(bytes, &restored, &Policy { limits, ..Policy::restore("/") }));
    assert_eq!(fs::read(beside.join("file")).expect("it is still there"), b"kept");
    assert_eq!(fs::read_dir(&beside).expect("it is still there").count(), 1);
    assert_eq!(fs::metadata(&beside).expect("it is still there").permissions().mode() & 0o7777, 0o750);
    assert_eq!(fs::read_dir(around.path()).expect("it is still there").count(), 3);
});
