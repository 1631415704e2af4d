//! Image archives: scanned, listed and read.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use longshore_image::{Archive, ImageStore as _, LayoutName, Platform};

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file in memory");
    file.write_all(bytes).expect("a file in memory");
    let Ok(archive) = Archive::open(file.path(), LayoutName::Reference) else { return };
    for name in archive.names() {
        let Ok(Some(image)) = archive.resolve(&name, &Platform::host()) else { continue };
        let Some(manifest) = image.manifest.as_image() else { continue };
        for layer in &manifest.layers {
            if let Ok(mut reader) = archive.open_blob(&name, layer) {
                drop(std::io::copy(&mut reader, &mut std::io::sink()));
            }
        }
    }
});
