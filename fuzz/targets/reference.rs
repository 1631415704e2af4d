//! References and digests: what is read and written again is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_image::registry::Mirrors;
use longshore_image::{Digest, Reference};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(&reference), "{text}");
        assert_eq!(reference.familiar().parse::<Reference>().as_ref(), Ok(&reference), "{text}");
        assert!(!reference.repository().split('/').any(|part| part == ".." || part.is_empty()), "{text}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    drop(Mirrors::of_registries([("*", text)]));
});
