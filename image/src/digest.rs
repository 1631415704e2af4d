//! Digests: the names of content.
//!
//! `Digest` names a blob as it is stored and sent, `DiffId` names a layer's uncompressed tar, and `ImageId` names an
//! image's configuration. They are different types because mixing them up is the classic error of image tools
//! (OCI image-spec, `descriptor.md` "Digests" and `config.md` "Layer DiffID", "ImageID"). Only SHA-256 is accepted.

use std::fmt;
use std::str::FromStr;

use crate::Sha256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not a SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest; expected `sha256:` and 64 lower-case hexadecimal digits")]
pub struct InvalidDigest(pub String);

fn parse(text: &str) -> Result<[u8; 32], InvalidDigest> {
    let invalid = || InvalidDigest(text.chars().take(100).collect());
    let hex = text.strip_prefix("sha256:").ok_or_else(invalid)?.as_bytes();
    if hex.len() != 64 {
        return Err(invalid());
    }
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        let (high, low) = nibble(pair[0]).zip(nibble(pair[1])).ok_or_else(invalid)?;
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The digest of `bytes`.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                { let mut hasher = Sha256::new(); hasher.update(bytes); Self::from_hasher(hasher) }
            }

            /// The digest that a finished hasher holds.
            #[must_use]
            pub fn from_hasher(hasher: Sha256) -> Self {
                Self(hasher.finish())
            }

            /// The 64 hexadecimal digits, without `sha256:`.
            #[must_use]
            pub fn hex(&self) -> String {
                self.0.iter().map(|byte| format!("{byte:02x}")).collect()
            }

            /// The digest that has these 32 bytes.
            #[allow(dead_code)]
            pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "sha256:{}", self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigest;

            fn from_str(text: &str) -> Result<Self, InvalidDigest> {
                parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest_type! {
    /// The SHA-256 of a blob as it is stored and sent.
    Digest
}
digest_type! {
    /// The SHA-256 of a layer's uncompressed tar.
    DiffId
}
digest_type! {
    /// The SHA-256 of an image's configuration.
    ImageId
}

impl From<Digest> for ImageId {
    /// The image id is the digest of the configuration blob (image-spec `config.md`, "ImageID").
    fn from(digest: Digest) -> Self {
        Self(digest.0)
    }
}

impl From<DiffId> for Digest {
    /// An uncompressed layer is stored as it is: its blob digest is its DiffID.
    fn from(diff_id: DiffId) -> Self {
        Self(diff_id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let digest = Digest::of(b"hello");
        assert_eq!(
            digest.to_string(),
            "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn refuses_what_is_not_a_digest() {
        let upper = format!("sha256:{}", "A".repeat(64));
        let long = format!("sha256:{}", "a".repeat(65));
        for text in ["", "sha256:", "sha256:../../x", "sha512:00", &upper, &long] {
            assert_eq!(text.parse::<Digest>(), Err(InvalidDigest(text.to_owned())));
        }
    }
}
