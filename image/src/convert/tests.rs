use std::io::{Read, Write};

use super::*;
use crate::{Digest, ImageManifest, LayerFormats, Manifest, Platform, ZSTD_ANNOTATION};

use LayerFormat::{Tar, TarGzip, TarZstd};
use ManifestFormat::{Docker, Oci};

fn blob(format: LayerFormat, tar: &[u8]) -> Vec<u8> {
    match format {
        Tar => tar.to_vec(),
        TarGzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
        TarZstd => zstd::encode_all(tar, 1).unwrap(),
    }
}

fn image_layer(family: ManifestFormat, format: LayerFormat, tar: &[u8]) -> ImageLayer {
    let bytes = blob(format, tar);
    ImageLayer {
        diff_id: DiffId::of(tar),
        descriptor: Descriptor::new(MediaType::Layer(family, format), Digest::of(&bytes), bytes.len() as u64),
        source: BlobSource::Bytes(bytes.into()),
    }
}

fn bytes(layer: &ImageLayer) -> Vec<u8> {
    let mut bytes = Vec::new();
    open(layer).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(Digest::of(&bytes), layer.descriptor.digest);
    assert_eq!(bytes.len() as u64, layer.descriptor.size);
    bytes
}

#[test]
fn every_format_becomes_every_other() {
    let directory = tempfile::tempdir().unwrap();
    let sink = BlobSink::scratch(directory.path());
    let tar: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    for from in [Tar, TarGzip, TarZstd] {
        for to in [Tar, TarGzip, TarZstd] {
            let mut old = image_layer(Docker, from, &tar);
            old.descriptor.other = serde_json::from_str(r#"{"urls":[],"_x":{ "n":1e999}}"#).unwrap();
            let new = layer(old.clone(), Compression::All(to), Oci, &sink).unwrap();
            assert_eq!(new.descriptor.media_type, MediaType::Layer(Oci, to));
            assert_eq!(new.diff_id, old.diff_id);
            if from == to {
                assert_eq!(new.descriptor.digest, old.descriptor.digest, "the blob is not touched");
                assert_eq!(new.descriptor.other, old.descriptor.other);
            } else {
                let other = serde_json::to_string(&new.descriptor.other).unwrap();
                assert_eq!(other, r#"{"_x":{ "n":1e999}}"#, "`urls` is about other bytes");
            }
            let mut read = Vec::new();
            crate::decompress(bytes(&new).as_slice()).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, tar, "{from:?} {to:?}");
        }
    }
}

#[test]
fn only_what_must_change_changes() {
    use Compression::{All, Kept, WithoutZstd};
    let table = [
        (Tar, Kept, Docker, Tar),
        (TarZstd, Kept, Oci, TarZstd),
        (TarZstd, Kept, Docker, TarGzip),
        (TarZstd, WithoutZstd(Tar), Oci, Tar),
        (TarGzip, WithoutZstd(Tar), Oci, TarGzip),
        (TarGzip, All(TarZstd), Oci, TarZstd),
    ];
    for (from, compression, family, expected) in table {
        assert_eq!(wanted(from, compression, family), expected, "{from:?} {compression:?} {family:?}");
    }
}

#[test]
fn a_layer_that_is_not_what_it_should_be_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let sink = BlobSink::scratch(directory.path());
    let other = ImageLayer { diff_id: DiffId::of(b"other"), ..image_layer(Oci, TarGzip, b"tar") };
    let result = layer(other, Compression::All(TarZstd), Oci, &sink);
    assert!(matches!(result, Err(ConvertError::DiffId { .. })), "{result:?}");
    let cut = image_layer(Oci, TarGzip, b"tar");
    let source = BlobSource::Bytes(bytes(&cut)[..20].to_vec().into());
    let result = layer(ImageLayer { source, ..cut }, Compression::All(TarZstd), Oci, &sink);
    assert!(matches!(result, Err(ConvertError::Layer { .. })), "{result:?}");
    let mut unknown = image_layer(Oci, TarGzip, b"tar");
    unknown.descriptor.media_type = MediaType::Other("application/wasm".to_owned());
    let result = layer(unknown, Compression::Kept, Oci, &sink);
    assert!(matches!(result, Err(ConvertError::UnknownType { .. })), "{result:?}");
}

#[test]
fn families_are_never_mixed() {
    let table = [
        (MediaType::Layer(Docker, TarGzip), MediaType::Layer(Oci, TarGzip)),
        (MediaType::Config(Docker), MediaType::Config(Oci)),
        (
            MediaType::from("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            MediaType::Layer(Oci, TarGzip),
        ),
        (MediaType::from("application/wasm"), MediaType::from("application/wasm")),
    ];
    for (from, expected) in table {
        let blob = Descriptor::new(from, Digest::of(b""), 0);
        let converted = in_family(blob.clone(), Oci);
        assert_eq!(converted.media_type, expected);
        assert_eq!((converted.digest, converted.size), (blob.digest, blob.size));
    }
}

/// Docker 20.10 takes the first of its platform, whatever it is; so no zstd may stand before a gzip.
#[test]
fn the_index_has_gzip_first_and_zstd_annotated() {
    let manifest = |format, architecture: &str| {
        let config = Descriptor::new(MediaType::Config(Oci), Digest::of(architecture.as_bytes()), 1);
        Manifest::image(ImageManifest::new(Oci, config, vec![image_layer(Oci, format, b"tar").descriptor]))
    };
    let (amd, arm) = (Platform::linux("amd64"), Platform::linux("arm64"));
    let images = [manifest(TarZstd, "amd64"), manifest(TarGzip, "amd64"), manifest(TarZstd, "arm64")];
    let index = image_index(&[(amd.clone(), &images[0]), (amd, &images[1]), (arm, &images[2])], Oci);
    let found: Vec<_> = index
        .manifests
        .iter()
        .map(|child| {
            let platform = child.platform.as_ref().unwrap().architecture.clone();
            (child.digest, platform, child.annotations.get(ZSTD_ANNOTATION).map(String::as_str))
        })
        .collect();
    let expected = [
        (images[1].digest(), "amd64".to_owned(), None),
        (images[0].digest(), "amd64".to_owned(), Some("true")),
        (images[2].digest(), "arm64".to_owned(), Some("true")),
    ];
    assert_eq!(found, expected);
    assert!(!LayerFormats::Dual.fits(Docker));
}
