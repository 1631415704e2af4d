//! Blobs that are read at once: configurations.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Core;
use super::error::RegistryError;
use super::request::Request;
use super::scope::{Access, Scope};
use super::transport::{read_limited, status_error};
use crate::{Descriptor, Digest, Reference, StoreError};

/// The largest blob that is read into memory, in bytes.
const LIMIT: u64 = 16 << 20;

impl Core {
    /// A blob that fits into memory, verified; damaged bytes are asked for once more.
    pub(super) async fn small_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<bytes::Bytes, RegistryError> {
        if let Some(known) = embedded(blob).or_else(|| self.configs.get(blob)) {
            return Ok(known);
        }
        let ask = async |place: Reference| self.small_blob_at(&place, blob).await.map(Some);
        let found = self.ask_places(reference, ask).await?;
        if let Some(bytes) = &found {
            self.configs.put(blob, bytes);
        }
        found.ok_or_else(|| RegistryError::Content {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            expected: blob.digest,
            what: "it has none".to_owned(),
        })
    }

    async fn small_blob_at(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<bytes::Bytes, RegistryError> {
        let remote = self.remote(reference).await?;
        let url = remote.url(reference.repository(), &format!("blobs/{}", blob.digest));
        let request = Request::new(reqwest::Method::GET, url);
        let scope = Scope::new(reference.repository(), Access::Pull);
        let damaged = |what| RegistryError::Content {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            expected: blob.digest,
            what,
        };
        if blob.size > LIMIT {
            return Err(damaged(format!("{} bytes are too many to be read at once", blob.size)));
        }
        let limit = usize::try_from(blob.size).unwrap_or(usize::MAX);
        let mut attempt = 1;
        loop {
            let answer = remote.send(&request, &scope, self.context()).await?;
            if !answer.status().is_success() {
                return Err(status_error(answer, &request).await);
            }
            let error = match read_limited(answer, &request, &self.transport.timeouts, limit).await {
                Ok(raw) if Digest::of(&raw) == blob.digest => return Ok(raw),
                Ok(raw) if attempt > 1 => return Err(damaged(format!("its digest is {}", Digest::of(&raw)))),
                Ok(raw) => damaged(format!("its digest is {}", Digest::of(&raw))),
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            self.transport.wait(reference.registry(), attempt, error, None).await?;
            attempt += 1;
        }
    }
}

/// The content that the descriptor itself carries (image-spec `descriptor.md`, "Embedded Content"); `None` when it has none
/// or something else, as the registry has it all the same.
fn embedded(blob: &Descriptor) -> Option<bytes::Bytes> {
    let data: String = blob.other.get("data")?;
    let bytes = STANDARD.decode(data).ok()?;
    (bytes.len() as u64 == blob.size && Digest::of(&bytes) == blob.digest).then(|| bytes.into())
}

impl From<RegistryError> for StoreError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(Box::new(error))
    }
}

impl From<RegistryError> for io::Error {
    fn from(error: RegistryError) -> Self {
        Self::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManifestFormat, MediaType};

    #[test]
    fn what_a_descriptor_carries_is_verified() {
        let mut blob = Descriptor::new(MediaType::Config(ManifestFormat::Oci), Digest::of(b"{}"), 2);
        assert_eq!(embedded(&blob), None);
        for (data, found) in [("e30=", Some(&b"{}"[..])), ("e30", None), ("W10=", None), ("e30gIA==", None)] {
            blob.other.insert("data", data);
            assert_eq!(embedded(&blob).as_deref(), found, "{data}");
        }
        blob.other.insert("data", &3);
        assert_eq!(embedded(&blob), None);
        blob.other.insert("data", "e30=");
        blob.size = 3;
        assert_eq!(embedded(&blob), None);
    }
}
