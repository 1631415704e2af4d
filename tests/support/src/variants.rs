//! Images in every form that is found in registries, whether it is right or not, for the clients to try.
//!
//! Each image is of two layers with content of its own: clients take a layer that they have under the same DiffID for
//! the one in the registry, and that would hide that they cannot read it.

use serde_json::{Value, json};

use crate::layout::{Files, digest, gzip};
use crate::process::require_tool;
use crate::tiny::architecture;
use crate::{FaultyRegistry, tiny};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OCI_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// BuildKit's own, specified nowhere.
const DOCKER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
const BUILDKIT_CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";

/// The tag of every variant.
const TAG: &str = "v1";

/// An image in one form.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// What it is, in a few words.
    pub title: &'static str,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// A manifest of this type with a configuration and two layers: their types and compressions.
    Manifest(&'static str, &'static str, [(&'static str, Codec); 2]),
    /// The image by whatever writes it.
    Other(fn(&Maker<'_>)),
}

#[derive(Debug, Clone, Copy)]
enum Codec {
    Plain,
    Gzip,
    Zstd,
    /// Several members of gzip, one after the other.
    Members,
    /// Several frames of zstd.
    Frames,
    /// A frame to be skipped before others of zstd.
    Skippable,
}

const fn manifest(
    title: &'static str,
    manifest: &'static str,
    config: &'static str,
    layers: [(&'static str, Codec); 2],
) -> Variant {
    Variant { title, form: Form::Manifest(manifest, config, layers) }
}

const fn other(title: &'static str, make: fn(&Maker<'_>)) -> Variant {
    Variant { title, form: Form::Other(make) }
}

/// All of them.
pub const VARIANTS: &[Variant] = &[
    manifest("OCI, gzip", OCI_MANIFEST, OCI_CONFIG, [(OCI_GZIP, Codec::Gzip); 2]),
    manifest("OCI, not compressed", OCI_MANIFEST, OCI_CONFIG, [(OCI_TAR, Codec::Plain); 2]),
    manifest("OCI, zstd", OCI_MANIFEST, OCI_CONFIG, [(OCI_ZSTD, Codec::Zstd); 2]),
    manifest(
        "OCI, zstd on gzip",
        OCI_MANIFEST,
        OCI_CONFIG,
        [(OCI_GZIP, Codec::Gzip), (OCI_ZSTD, Codec::Zstd)],
    ),
    manifest("OCI, gzip of several members", OCI_MANIFEST, OCI_CONFIG, [(OCI_GZIP, Codec::Members); 2]),
    manifest("OCI, zstd of several frames", OCI_MANIFEST, OCI_CONFIG, [(OCI_ZSTD, Codec::Frames); 2]),
    manifest(
        "OCI, zstd after a frame to be skipped",
        OCI_MANIFEST,
        OCI_CONFIG,
        [(OCI_ZSTD, Codec::Skippable); 2],
    ),
    manifest("OCI, zstd that is called gzip", OCI_MANIFEST, OCI_CONFIG, [(OCI_GZIP, Codec::Zstd); 2]),
    manifest(
        "OCI, Docker's type for the lower layer",
        OCI_MANIFEST,
        OCI_CONFIG,
        [(DOCKER_GZIP, Codec::Gzip), (OCI_GZIP, Codec::Gzip)],
    ),
    manifest(
        "OCI, Docker's type for the configuration",
        OCI_MANIFEST,
        DOCKER_CONFIG,
        [(OCI_GZIP, Codec::Gzip); 2],
    ),
    manifest("OCI, BuildKit's type for zstd", OCI_MANIFEST, OCI_CONFIG, [(DOCKER_ZSTD, Codec::Zstd); 2]),
    manifest("Docker, gzip", DOCKER_MANIFEST, DOCKER_CONFIG, [(DOCKER_GZIP, Codec::Gzip); 2]),
    manifest("Docker, OCI's types, gzip", DOCKER_MANIFEST, OCI_CONFIG, [(OCI_GZIP, Codec::Gzip); 2]),
    manifest("Docker, OCI's types, zstd", DOCKER_MANIFEST, OCI_CONFIG, [(OCI_ZSTD, Codec::Zstd); 2]),
    manifest(
        "Docker, BuildKit's type for zstd",
        DOCKER_MANIFEST,
        DOCKER_CONFIG,
        [(DOCKER_ZSTD, Codec::Zstd); 2],
    ),
    manifest(
        "Docker, zstd that is called gzip",
        DOCKER_MANIFEST,
        DOCKER_CONFIG,
        [(DOCKER_GZIP, Codec::Zstd); 2],
    ),
    manifest(
        "Docker, zstd that is called not compressed",
        DOCKER_MANIFEST,
        DOCKER_CONFIG,
        [(DOCKER_TAR, Codec::Zstd); 2],
    ),
    other("index, gzip before annotated zstd", |maker| maker.dual([false, true])),
    other("index, annotated zstd before gzip", |maker| maker.dual([true, false])),
    other("index with an attestation", |maker| maker.attested()),
    other("Docker's list of an OCI manifest", |maker| {
        let image =
            maker.platform(maker.image(OCI_MANIFEST, OCI_CONFIG, [(OCI_GZIP, Codec::Gzip); 2], &json!({})));
        maker.tag(DOCKER_LIST, &json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [image]}));
    }),
    other("OCI, a subject that is not there", |maker| {
        let subject = json!({"mediaType": OCI_MANIFEST, "digest": digest(b"nothing"), "size": 7});
        let more = json!({"subject": subject});
        maker.put(
            TAG,
            OCI_MANIFEST,
            &maker.manifest(OCI_MANIFEST, OCI_CONFIG, [(OCI_GZIP, Codec::Gzip); 2], &more),
        );
    }),
    other("OCI, no layers", |maker| {
        let config = maker.blob(OCI_CONFIG, maker.config(&[]).to_string().as_bytes());
        maker.tag(
            OCI_MANIFEST,
            &json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}),
        );
    }),
    other("artifact", |maker| {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/spdx+json",
            "config": maker.blob("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [maker.blob("application/spdx+json", maker.word.as_bytes())],
        });
        maker.tag(OCI_MANIFEST, &manifest);
    }),
    other("BuildKit's cache, a manifest", |maker| {
        let (config, layers) = maker.cache();
        maker.tag(
            OCI_MANIFEST,
            &json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}),
        );
    }),
    other("BuildKit's cache, an index of layers", |maker| {
        let (config, mut layers) = maker.cache();
        layers.push(config);
        maker.tag(OCI_INDEX, &json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": layers}));
    }),
];

impl Variant {
    /// Puts the image, which says `word` when it is run, into a repository and returns its reference.
    #[must_use]
    pub fn put(&self, registry: &FaultyRegistry, repository: &str, word: &str) -> String {
        let maker = Maker { registry, repository, word };
        match self.form {
            Form::Manifest(manifest, config, layers) => {
                let value = maker.manifest(manifest, config, layers, &json!({}));
                maker.put(TAG, manifest, &value);
            }
            Form::Other(make) => make(&maker),
        }
        format!("{}/{repository}:{TAG}", registry.host())
    }
}

/// The lower layer of an image that says `word`: the shell, and half of what it says.
///
/// # Panics
/// When `busybox-static` is not installed.
#[must_use]
pub fn lower_layer(word: &str) -> Vec<u8> {
    require_tool("/bin/busybox", "busybox-static");
    let mut files = Files::default();
    files
        .folder("bin", 0o755, (0, 0))
        .folder("dev", 0o755, (0, 0))
        .folder("etc", 0o755, (0, 0))
        .folder("proc", 0o755, (0, 0))
        .folder("sys", 0o755, (0, 0))
        .folder("tmp", 0o1777, (0, 0))
        .file("etc/passwd", 0o644, "root:x:0:0:root:/:/bin/sh\n")
        .file("bin/busybox", 0o755, std::fs::read("/bin/busybox").expect("busybox"))
        .file("lower", 0o644, format!("{word}-lower"));
    files.archive()
}

/// The upper layer of such an image: the other half.
#[must_use]
pub fn upper_layer(word: &str) -> Vec<u8> {
    let mut files = Files::default();
    files.file("upper", 0o644, format!("{word}-upper"));
    files.archive()
}

/// What the container of an image that says `word` prints when its variable `CLIENT` is `client`.
#[must_use]
pub fn said(word: &str, client: &str) -> String {
    format!("{word}-lower {word}-upper {client}")
}

/// The configuration of such an image, without its layers.
#[must_use]
pub fn configuration() -> Value {
    let print = "echo \"$(/bin/busybox cat /lower) $(/bin/busybox cat /upper) $CLIENT\"";
    json!({
        "created": "1980-01-01T00:00:01Z",
        "architecture": architecture(),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": ["/bin/busybox", "sh", "-c", print]},
    })
}

/// Puts the parts of one image into its repository.
struct Maker<'a> {
    registry: &'a FaultyRegistry,
    repository: &'a str,
    word: &'a str,
}

impl Maker<'_> {
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = self.registry.put_blob(self.repository, bytes);
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn put(&self, name: &str, media_type: &str, manifest: &Value) -> Value {
        let bytes = manifest.to_string().into_bytes();
        self.registry.put_manifest(self.repository, name, media_type, &bytes);
        json!({"mediaType": media_type, "digest": digest(&bytes), "size": bytes.len()})
    }

    fn tag(&self, media_type: &str, manifest: &Value) {
        let _ = self.put(TAG, media_type, manifest);
    }

    fn config(&self, layers: &[Vec<u8>]) -> Value {
        let mut config = configuration();
        let diff_ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        config["author"] = self.word.into();
        config
    }

    fn manifest(&self, manifest: &str, config: &str, types: [(&str, Codec); 2], more: &Value) -> Value {
        let layers = [lower_layer(self.word), upper_layer(self.word)];
        let config = self.blob(config, self.config(&layers).to_string().as_bytes());
        let layers = layers.iter().zip(types);
        let layers: Vec<_> = layers
            .map(|(layer, (media_type, codec))| self.blob(media_type, &compress(layer, codec)))
            .collect();
        let mut value =
            json!({"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": layers});
        for (key, field) in more.as_object().into_iter().flatten() {
            value[key] = field.clone();
        }
        value
    }

    /// Puts such a manifest under its digest and returns its descriptor.
    fn image(&self, manifest: &str, config: &str, types: [(&str, Codec); 2], more: &Value) -> Value {
        let value = self.manifest(manifest, config, types, more);
        self.put(&digest(value.to_string().as_bytes()), manifest, &value)
    }

    fn platform(&self, mut descriptor: Value) -> Value {
        descriptor["platform"] = json!({"os": "linux", "architecture": tiny::architecture()});
        descriptor
    }

    fn dual(&self, is_zstd: [bool; 2]) {
        let manifests = is_zstd.map(|is_zstd| {
            let layer = if is_zstd { (OCI_ZSTD, Codec::Zstd) } else { (OCI_GZIP, Codec::Gzip) };
            let mut image = self.platform(self.image(OCI_MANIFEST, OCI_CONFIG, [layer; 2], &json!({})));
            if is_zstd {
                image["annotations"] = json!({"io.github.containers.compression.zstd": "true"});
            }
            image
        });
        self.tag(OCI_INDEX, &json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}));
    }

    fn attested(&self) {
        let image =
            self.platform(self.image(OCI_MANIFEST, OCI_CONFIG, [(OCI_GZIP, Codec::Gzip); 2], &json!({})));
        let statement = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.blob(OCI_CONFIG, b"{\"architecture\":\"unknown\",\"os\":\"unknown\"}"),
            "layers": [self.blob("application/vnd.in-toto+json", self.word.as_bytes())],
        });
        let mut statement = self.put(&digest(statement.to_string().as_bytes()), OCI_MANIFEST, &statement);
        statement["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        statement["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image["digest"],
        });
        let manifests = [image, statement];
        self.tag(OCI_INDEX, &json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}));
    }

    /// The configuration and the layers of a cache.
    fn cache(&self) -> (Value, Vec<Value>) {
        let plain = upper_layer(self.word);
        let mut layer = self.blob(OCI_GZIP, &gzip(&plain));
        layer["annotations"] = json!({"containerd.io/uncompressed": digest(&plain)});
        let config = json!({"layers": [{"blob": layer["digest"], "parent": -1}], "records": []});
        (self.blob(BUILDKIT_CACHE, config.to_string().as_bytes()), vec![layer])
    }
}

fn compress(layer: &[u8], codec: Codec) -> Vec<u8> {
    let parts = layer.chunks(layer.len().div_ceil(3).max(1));
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("compression in memory");
    match codec {
        Codec::Plain => layer.to_vec(),
        Codec::Gzip => gzip(layer),
        Codec::Zstd => zstd(layer),
        Codec::Members => parts.flat_map(gzip).collect(),
        Codec::Frames => parts.flat_map(zstd).collect(),
        Codec::Skippable => [&b"\x50\x2a\x4d\x18\x04\0\0\0skip"[..], &zstd(layer)].concat(),
    }
}
