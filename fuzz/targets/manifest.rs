//! Manifests and configurations: what is read keeps its bytes, and survives a rewrite.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_image::{Config, Manifest, ManifestContent};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes.to_vec().into(), None) {
        assert_eq!(manifest.raw(), bytes);
        let rewritten = match manifest.content() {
            ManifestContent::Image(image) => Manifest::image(image.as_ref().clone()),
            ManifestContent::Index(index) => Manifest::index(index.clone()),
        };
        let again = Manifest::parse(rewritten.raw().clone(), None).expect("what we write can be read");
        assert_eq!(again.content(), manifest.content());
    }
    if let Ok(mut config) = Config::parse(bytes.to_vec()) {
        let written = config.to_bytes();
        let again = Config::parse(written.clone()).expect("what we write can be read");
        assert_eq!(again.to_bytes(), written);
        // These read what need not be valid: they must not fail in any other way than by an error or by nothing.
        drop((again.diff_ids(), again.history(), again.env(), again.labels(), again.platform()));
        config.set_label("changed", "yes");
        let changed = config.to_bytes();
        let mut again = Config::parse(changed.clone()).expect("what we change can be read");
        again.set_label("changed", "yes");
        assert_eq!(again.to_bytes(), changed);
    }
});
