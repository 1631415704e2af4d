//! OCI images: references, manifests, layers, stores and registries.

pub mod archive;
pub mod artifact;
mod attributes;
mod blob_file;
mod config;
pub mod convert;
mod copy;
pub mod daemon;
mod decompress;
mod descriptor;
pub mod diff;
mod digest;
mod directory_fingerprint;
mod fields;
mod format;
mod growing;
mod json;
pub mod keychain;
pub mod layer;
mod layout;
mod layout_directory;
mod local_store;
mod manifest;
mod media_type;
mod moment;
mod partial;
mod reference;
pub mod registry;
mod select;
pub mod snapshot;
pub mod stat_index;
mod store;
mod store_error;
#[cfg(test)]
mod test_images;
pub mod unpack;
mod verify;

pub use archive::Archive;
pub use bytes::Bytes;
pub use config::{Config, History, InvalidConfig, Timestamp};
pub use copy::{CopyError, CopyRequest, copy};
pub use daemon::DaemonStore;
pub use decompress::decompress;
pub use descriptor::{Descriptor, Platform};
pub use digest::{DiffId, Digest, ImageId, InvalidDigest};
pub use directory_fingerprint::DirectoryFingerprint;
pub use fields::Fields;
pub use format::{InvalidFormat, LayerFormats, ManifestChoice, ZSTD_ANNOTATION};
pub use growing::{BlobFollower, GrowingBlob};
pub use keychain::Keychain;
pub use layer::{BlobSink, Layer, LayerSource};
pub use layout::{Layout, LayoutName};
pub use layout_directory::LayoutDirectory;
pub use local_store::{Collected, LocalStore, StoredImage};
pub use manifest::{
    ImageManifest, IndexManifest, InvalidManifest, MANIFEST_LIMIT, Manifest, ManifestContent,
};
pub use media_type::{LayerFormat, ManifestFormat, MediaType};
pub use partial::Download;
pub use reference::{DOCKER_HUB, InvalidReference, Reference};
pub use registry::{Registry, RegistryConfig};
pub use stat_index::StatIndex;
pub use store::{BlobOpener, BlobOutcome, BlobSource, Image, ImageStore};
pub use store_error::StoreError;
pub use unpack::UnpackError;
