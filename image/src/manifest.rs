//! Image manifests and indexes (image-spec `manifest.md`, `image-index.md`; Docker's schema 2 twins).
//!
//! The raw bytes are kept beside the parsed form: a digest is of bytes, and a manifest that is only passed on must keep its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fields::lossless;
use crate::{Descriptor, Digest, Fields, ManifestFormat, MediaType, json};

/// The largest manifest that is read or written, in bytes: what distribution 2.8 accepts.
pub const MANIFEST_LIMIT: usize = 4 << 20;

/// Bytes that are not a manifest we can use.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("the manifest cannot be read")]
    Json(#[source] serde_json::Error),
    /// Both an image and an index, or a type that contradicts the content (CVE-2021-41190).
    #[error("the manifest is ambiguous: {0}")]
    Ambiguous(&'static str),
    /// Docker schema 1, a plugin, a helm chart, ...
    #[error("the manifest is of type `{0}`, which is not an image or an index")]
    Unsupported(String),
    /// Over [`MANIFEST_LIMIT`].
    #[error("the manifest has {0} bytes; at most {MANIFEST_LIMIT} are accepted")]
    TooLarge(usize),
}

/// An image manifest: a configuration and layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// Which family the manifest is of.
    pub media_type: MediaType,
    /// The configuration blob.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(deserialize_with = "json::null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// Free annotations, sorted.
    #[serde(default, deserialize_with = "json::null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// All other fields (`subject`, `artifactType`, ...), kept as they are.
    #[serde(skip)]
    pub other: Fields,
}

lossless!(ImageManifest);
lossless!(IndexManifest);

impl ImageManifest {
    /// A manifest of a family without annotations.
    #[must_use]
    pub fn new(format: ManifestFormat, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MediaType::Manifest(format),
            config,
            layers,
            annotations: BTreeMap::new(),
            other: Fields::default(),
        }
    }
}

/// An index, or Docker's manifest list: manifests by platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct IndexManifest {
    /// Always 2.
    pub schema_version: u32,
    /// Which family the index is of.
    pub media_type: MediaType,
    /// The manifests, in order of preference.
    #[serde(deserialize_with = "json::null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// Free annotations, sorted.
    #[serde(default, deserialize_with = "json::null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// All other fields, kept as they are.
    #[serde(skip)]
    pub other: Fields,
}

/// What a manifest's bytes hold.
#[derive(Debug, Clone, PartialEq)]
pub enum ManifestContent {
    /// An image (or an artifact in an image's clothes).
    Image(Box<ImageManifest>),
    /// An index.
    Index(IndexManifest),
}

/// A manifest or index: its bytes and what they hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    raw: Bytes,
    digest: Digest,
    media_type: MediaType,
    content: ManifestContent,
}

impl Manifest {
    /// Reads bytes that came with `declared` as their media type (from a descriptor or `Content-Type`), if any.
    ///
    /// # Errors
    /// When the bytes are no manifest, are ambiguous, contradict `declared`, or are too large.
    pub fn parse(raw: Bytes, declared: Option<&MediaType>) -> Result<Self, InvalidManifest> {
        if raw.len() > MANIFEST_LIMIT {
            return Err(InvalidManifest::TooLarge(raw.len()));
        }
        let mut fields: Fields = serde_json::from_slice(&raw).map_err(InvalidManifest::Json)?;
        let media_type = effective_type(&fields, declared)?;
        fields.insert("mediaType", media_type.as_str());
        let text = fields.to_text();
        let content = match &media_type {
            MediaType::Manifest(_) => {
                ManifestContent::Image(serde_json::from_str(&text).map_err(InvalidManifest::Json)?)
            }
            MediaType::Index(_) => {
                ManifestContent::Index(serde_json::from_str(&text).map_err(InvalidManifest::Json)?)
            }
            other => return Err(InvalidManifest::Unsupported(other.to_string())),
        };
        Ok(Self { digest: Digest::of(&raw), raw, media_type, content })
    }

    /// The manifest of an image, serialised once, here.
    #[must_use]
    pub fn image(image: ImageManifest) -> Self {
        let raw = serialise(&image);
        Self {
            digest: Digest::of(&raw),
            raw,
            media_type: image.media_type.clone(),
            content: ManifestContent::Image(Box::new(image)),
        }
    }

    /// An index, serialised once, here.
    #[must_use]
    pub fn index(index: IndexManifest) -> Self {
        let raw = serialise(&index);
        Self {
            digest: Digest::of(&raw),
            raw,
            media_type: index.media_type.clone(),
            content: ManifestContent::Index(index),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The media type of the whole.
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// What the bytes hold.
    #[must_use]
    pub fn content(&self) -> &ManifestContent {
        &self.content
    }

    /// The image, when it is one.
    #[must_use]
    pub fn as_image(&self) -> Option<&ImageManifest> {
        match &self.content {
            ManifestContent::Image(image) => Some(image),
            ManifestContent::Index(_) => None,
        }
    }

    /// A descriptor of the bytes.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.raw.len() as u64)
    }
}

/// Serialising our own types cannot fail: their keys are strings and their values are plain.
fn serialise<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn effective_type(fields: &Fields, declared: Option<&MediaType>) -> Result<MediaType, InvalidManifest> {
    let is_image = fields.contains("config") || fields.contains("layers");
    let is_index = fields.contains("manifests");
    if is_image && is_index {
        return Err(InvalidManifest::Ambiguous("it has both `manifests` and `config` or `layers`"));
    }
    if fields.contains("fsLayers") || fields.get("schemaVersion") == Some(1) {
        return Err(InvalidManifest::Unsupported("Docker image manifest, version 2, schema 1".to_owned()));
    }
    let stated = fields.get::<MediaType>("mediaType").filter(|stated| !stated.as_str().is_empty());
    let generic = |media_type: &MediaType| {
        matches!(media_type.as_str(), "" | "application/json" | "text/plain" | "application/octet-stream")
    };
    let declared = declared.filter(|declared| !generic(declared));
    if stated.as_ref().zip(declared).is_some_and(|(stated, declared)| stated != declared) {
        return Err(InvalidManifest::Ambiguous("its `mediaType` is not the type it was announced with"));
    }
    let media_type = stated.or_else(|| declared.cloned()).unwrap_or(if is_index {
        MediaType::Index(ManifestFormat::Oci)
    } else {
        MediaType::Manifest(ManifestFormat::Oci)
    });
    match media_type {
        MediaType::Manifest(_) if is_index => {
            Err(InvalidManifest::Ambiguous("an image manifest with `manifests`"))
        }
        MediaType::Index(_) if is_image => {
            Err(InvalidManifest::Ambiguous("an index with `config` or `layers`"))
        }
        _ => Ok(media_type),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::any_json;

    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
    const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

    fn image(media_type: &str) -> String {
        let digest = Digest::of(b"x");
        let stated =
            if media_type.is_empty() { String::new() } else { format!(r#""mediaType":"{media_type}","#) };
        format!(r#"{{"schemaVersion":2,{stated}"config":{{"digest":"{digest}","size":1}},"layers":[]}}"#)
    }

    fn index(media_type: &str) -> String {
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[]}}"#)
    }

    fn parse(text: &str, declared: &str) -> Result<Manifest, InvalidManifest> {
        let declared = MediaType::from(declared);
        Manifest::parse(Bytes::copy_from_slice(text.as_bytes()), Some(&declared))
    }

    #[test]
    fn both_families_are_read_with_their_bytes() {
        let table = [
            (image(OCI), OCI, OCI),
            (image(OCI), "", OCI),
            (image(""), "", OCI),
            (image(""), "application/octet-stream", OCI),
            (image(""), DOCKER, DOCKER),
            (image(DOCKER), DOCKER, DOCKER),
            (index(OCI_INDEX), OCI_INDEX, OCI_INDEX),
            (index(DOCKER_LIST), "text/plain", DOCKER_LIST),
            (r#" {"schemaVersion":2,"manifests":[]}"#.to_owned(), "", OCI_INDEX),
        ];
        for (text, declared, expected) in table {
            let manifest = parse(&text, declared).unwrap();
            assert_eq!(manifest.media_type().as_str(), expected, "{text}");
            assert_eq!(
                (manifest.raw().as_ref(), manifest.digest()),
                (text.as_bytes(), Digest::of(text.as_bytes()))
            );
            assert_eq!(manifest.as_image().is_some(), expected == OCI || expected == DOCKER);
        }
    }

    /// CVE-2021-41190: the same bytes were an image to one client and an index to another.
    #[test]
    fn row_16_what_may_be_read_in_two_ways_is_refused() {
        let digest = Digest::of(b"x");
        let both = format!(
            r#"{{"schemaVersion":2,"manifests":[],"config":{{"digest":"{digest}","size":1}},"layers":[]}}"#
        );
        let table = [
            (both.as_str(), ""),
            (&both, OCI),
            (&image(OCI), OCI_INDEX),
            (&image(OCI), DOCKER),
            (&image(OCI_INDEX), ""),
            (&index(OCI), ""),
            (&image(""), OCI_INDEX),
        ];
        for (text, declared) in table {
            let result = parse(text, declared);
            assert!(matches!(result, Err(InvalidManifest::Ambiguous(_))), "{text} as {declared}: {result:?}");
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let schema_1 = r#"{"schemaVersion":1,"name":"a","fsLayers":[{"blobSum":"sha256:1"}]}"#;
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        for (text, declared) in [(schema_1, ""), (schema_1, signed), (&image("application/x-plugin"), "")] {
            let result = parse(text, declared);
            assert!(matches!(result, Err(InvalidManifest::Unsupported(_))), "{text}: {result:?}");
        }
        let climbing = image("").replace(&Digest::of(b"x").to_string(), "sha256:../../x");
        for text in ["", "[]", "{}", "null", &climbing, r#"{"schemaVersion":2,"manifests":[{}]}"#] {
            assert!(matches!(parse(text, ""), Err(InvalidManifest::Json(_))), "{text}");
        }
        let long = format!("{}{}", image(""), " ".repeat(MANIFEST_LIMIT));
        assert!(matches!(parse(&long, ""), Err(InvalidManifest::TooLarge(_))));
    }

    /// Some registries answer with null where Go has an empty map or list.
    #[test]
    fn null_is_empty() {
        let digest = Digest::of(b"x");
        let text = format!(
            r#"{{"schemaVersion":2,"annotations":null,"layers":null,"config":{{"digest":"{digest}","size":1,"annotations":null}}}}"#
        );
        let manifest = parse(&text, OCI).unwrap();
        let image = manifest.as_image().unwrap();
        assert!(image.layers.is_empty() && image.annotations.is_empty());
        let index = r#"{"schemaVersion":2,"manifests":null}"#;
        assert_eq!(
            parse(index, OCI_INDEX).unwrap().content(),
            parse(&super::tests::index(OCI_INDEX), "").unwrap().content()
        );
    }

    proptest::proptest! {
        /// What is only passed on has the bytes that it came with, spaces and unknown fields included.
        #[test]
        fn what_is_passed_on_keeps_its_bytes(name in "[a-z]{1,8}", number in "-?[1-9][0-9]{0,30}(\\.[0-9]{1,9})?", spaces in "[ \n\t]{0,5}") {
            let field = format!(r#"{{"x-{name}":{spaces}{number},"#);
            let text = image(OCI).replacen('{', &field, 1);
            let manifest = parse(&text, OCI).unwrap();
            proptest::prop_assert_eq!(manifest.raw(), text.as_bytes());
            proptest::prop_assert_eq!(manifest.digest(), Digest::of(text.as_bytes()));
        }

        /// What is changed has the known fields in their order, and all others with the bytes that they came with.
        #[test]
        fn unknown_fields_keep_their_bytes_when_others_change(one in any_json(), two in any_json()) {
            let digest = Digest::of(b"x");
            let known = format!(r#""digest":"{digest}","size":1"#);
            let read = format!(
                r#"{{"x\u00e9" : {one},{known},"platform":{{"y":{two} ,"os":"b","architecture":"a"}},"urls":{two} }}"#
            );
            let changed = format!(
                r#"{{{known},"platform":{{"architecture":"a","os":"b","y":{two}}},"x\u00e9":{one},"urls":{two}}}"#
            );
            let table = [
                (format!(r#""config":{read},"layers":[{read},{read}]"#), format!(r#""config":{changed},"layers":[{changed},{changed}]"#), OCI),
                (format!(r#""manifests":[{read}]"#), format!(r#""manifests":[{changed}]"#), OCI_INDEX),
            ];
            for (read, changed, media_type) in table {
                let text = format!(r#"{{"b":{one}, {read}, "a":{two},"schemaVersion":2,"mediaType":"{media_type}","b": {two}}}"#);
                let expected = format!(
                    r#"{{"schemaVersion":2,"mediaType":"{media_type}",{changed},"annotations":{{"k":"v"}},"b":{one},"a":{two},"b":{two}}}"#
                );
                let written = annotated(&parse(&text, media_type).unwrap());
                proptest::prop_assert_eq!(std::str::from_utf8(written.raw()).unwrap(), &expected);
                let again = annotated(&written);
                proptest::prop_assert_eq!(again.raw(), written.raw());
            }
        }
    }

    fn annotated(manifest: &Manifest) -> Manifest {
        let annotations = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        match manifest.content().clone() {
            ManifestContent::Image(image) => Manifest::image(ImageManifest { annotations, ..*image }),
            ManifestContent::Index(index) => Manifest::index(IndexManifest { annotations, ..index }),
        }
    }
}
