//! Extended attributes, set-id bits and devices: what is kept, what is left out, and that this is told.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::{Arc, Mutex};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::{Place, Tar};
use crate::unpack::{Applied, Attributes, Owner, Policy, SpecialFiles, UnpackError};

/// What was told, in all details.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(place: &Place, tar: Tar, policy: &Policy) -> (Result<Applied, UnpackError>, String) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let result = tracing::subscriber::with_default(subscriber, || place.unpack_with(tar.end(), policy));
    (result, log.text())
}

fn attribute(place: &Place, name: &str, attribute: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    match rustix::fs::lgetxattr(place.root().join(name), attribute, value.as_mut_slice()) {
        Ok(size) => Some(value[..size].to_vec()),
        Err(Errno::NODATA | Errno::NOTSUP) => None,
        Err(error) => panic!("{error}"),
    }
}

/// `cap_net_raw` as the file system has it (capabilities(7), "File capability extended attribute versioning").
const CAPABILITY: &str = "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn tar() -> Tar {
    let user = [("SCHILY.xattr.user.a", "value\n=1")];
    Tar::default()
        .pax(&[
            user[0],
            ("SCHILY.xattr.security.capability", CAPABILITY),
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ("SCHILY.xattr.user.overlay.redirect", "/etc"),
        ])
        .raw(b'0', b"file", 0o4555, 0, 0, b"")
        .pax(&user)
        .directory("directory")
        .pax(&user)
        .symlink("link", "file")
        .entry(b'6', "pipe", "", "")
        .entry(b'3', "null", "", "")
}

/// Whether this process may give programs capabilities, where the tests write.
fn is_capable(place: &Place) -> bool {
    let file = place.directory.path().join("probe");
    fs::write(&file, "").unwrap();
    let set = rustix::fs::setxattr(&file, "security.capability", CAPABILITY.as_bytes(), XattrFlags::empty());
    fs::remove_file(&file).unwrap();
    set.is_ok()
}

#[test]
fn row_09_attributes_are_kept_by_policy_and_what_is_left_out_is_told() {
    let place = Place::new();
    let may = is_capable(&place);
    let policy = Policy {
        attributes: Attributes::Keep,
        special_files: SpecialFiles::Skip,
        ..Policy::rootfs(Owner::Ignore)
    };
    let (result, log) = logged(&place, tar(), &policy);
    result.unwrap();
    for name in ["file", "directory"] {
        assert_eq!(attribute(&place, name, "user.a").as_deref(), Some(&b"value\n=1"[..]), "{name}");
    }
    let capability = attribute(&place, "file", "security.capability");
    assert_eq!(capability.is_some(), may);
    assert_eq!(capability.as_deref().unwrap_or(CAPABILITY.as_bytes()), CAPABILITY.as_bytes());
    assert_eq!(fs::metadata(place.root().join("file")).unwrap().mode() & 0o7777, 0o4555);
    // What would change how the kernel shows the directory is never set.
    for forged in ["trusted.overlay.opaque", "user.overlay.redirect"] {
        assert_eq!(attribute(&place, "file", forged), None);
        assert!(log.contains(&format!("left out the attribute {forged} of `file`")), "{log}");
    }
    assert!(log.contains("left out the attribute user.a of `link`"), "{log}");
    for left_out in ["left out `pipe`", "left out `null`"] {
        assert!(log.contains(left_out), "{log}");
    }
    assert!(!place.root().join("pipe").exists() && !place.root().join("null").exists());
}

#[test]
fn row_09_sandboxes_get_no_attributes_and_no_set_id_bits() {
    let place = Place::new();
    let policy = Policy { set_id: false, ..Policy::rootfs(Owner::Ignore) };
    let (result, log) = logged(&place, tar(), &policy);
    result.unwrap();
    assert_eq!(attribute(&place, "file", "user.a"), None);
    assert_eq!(attribute(&place, "file", "security.capability"), None);
    assert_eq!(fs::metadata(place.root().join("file")).unwrap().mode() & 0o7777, 0o555);
    for (name, of) in [("security.capability", "file"), ("user.a", "directory")] {
        assert!(log.contains(&format!("left out the attribute {name} of `{of}`")), "{log}");
    }
    let refusing = Policy { special_files: SpecialFiles::Refuse, ..policy };
    assert!(matches!(logged(&Place::new(), tar(), &refusing).0, Err(UnpackError::Refused { .. })));
}

/// The umask takes nothing of the mode of devices and pipes.
#[test]
fn row_09_devices_are_made_where_they_are_asked_for() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let tar = Tar::default().raw(b'6', b"pipe", 0o666, 0, 0, b"").raw(b'3', b"zero", 0o622, 7, 0, b"").end();
    let policy = Policy { special_files: SpecialFiles::Create, ..Policy::rootfs(Owner::Keep) };
    place.unpack_with(tar, &policy).unwrap();
    let metadata = |name: &str| fs::symlink_metadata(place.root().join(name)).unwrap();
    assert!(metadata("pipe").file_type().is_fifo() && metadata("zero").file_type().is_char_device());
    assert_eq!((metadata("pipe").mode() & 0o7777, metadata("zero").mode() & 0o7777), (0o666, 0o622));
    assert_eq!(metadata("zero").uid(), 7);
}

/// Of a directory of two layers the attributes are those of the upper one.
#[test]
fn attributes_of_lower_layers_go() {
    let place = Place::new();
    let policy = Policy { attributes: Attributes::Keep, ..Policy::rootfs(Owner::Ignore) };
    let lower =
        Tar::default().pax(&[("SCHILY.xattr.user.a", "1"), ("SCHILY.xattr.user.b", "1")]).directory("d");
    place.unpack_with(lower.end(), &policy).unwrap();
    let upper = Tar::default().pax(&[("SCHILY.xattr.user.b", "2")]).directory("d");
    place.unpack_with(upper.end(), &policy).unwrap();
    assert_eq!(attribute(&place, "d", "user.a"), None);
    assert_eq!(attribute(&place, "d", "user.b").as_deref(), Some(&b"2"[..]));
}
