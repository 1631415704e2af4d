//! What of a layer is unpacked, and how.

use std::path::PathBuf;

use crate::DiffId;

/// What of a layer is unpacked, and how.
#[derive(Debug, Clone)]
pub struct Policy {
    /// To whom what is unpacked belongs.
    pub owner: Owner,
    /// What whiteouts do.
    pub whiteouts: Whiteouts,
    /// What happens to devices and named pipes.
    pub special_files: SpecialFiles,
    /// Whether set-user-id and set-group-id bits are kept.
    pub set_id: bool,
    /// Whether files get the times of their entries; otherwise they are as old as they are.
    pub times: bool,
    /// What happens to entries below symbolic links.
    pub links: Links,
    /// What happens to extended attributes.
    pub attributes: Attributes,
    /// The directory in the image that stands for the one that is unpacked into; entries elsewhere are refused. `None`
    /// is the whole image.
    pub prefix: Option<PathBuf>,
    /// The most that is unpacked.
    pub limits: Limits,
    /// The DiffID that the layer must have. It is known only after everything was unpacked: when it is another, what was
    /// unpacked is to be thrown away.
    pub diff_id: Option<DiffId>,
}

/// To whom what is unpacked belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// To the ids of the entries; needs the right to give files away.
    Keep,
    /// To whoever unpacks.
    Ignore,
    /// To this user; needs the right to give files away.
    Given {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

/// What happens to entries below symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are written where the links lead to, within the directory that is unpacked into. This needs `openat2`.
    Follow,
    /// They are an error: what is unpacked into is empty, and no layer of a directory has such entries.
    Refuse,
}

/// What whiteouts do (image-spec `layer.md`, "Whiteouts").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// They remove what lower layers put there: layers are unpacked over each other.
    Apply,
    /// They become overlayfs's own, since every layer is unpacked into a directory of its own.
    Overlay(OverlayAttribute),
    /// Nothing: their names are ordinary ones.
    Ordinary,
}

/// Whose extended attribute says that a directory hides the lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayAttribute {
    /// `trusted.overlay.opaque`, for mounts by root of the host.
    Trusted,
    /// `user.overlay.opaque`, for mounts with `userxattr` in a user namespace.
    User,
}

/// What happens to devices and named pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialFiles {
    /// They are made; devices need the right to.
    Create,
    /// They are left out.
    Skip,
    /// Pipes are made; devices are an error.
    OnlyPipes,
    /// They are an error.
    Refuse,
}

/// What happens to extended attributes: those that users wrote, capabilities of programs and access control lists. All
/// others are never taken from a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attributes {
    /// They are set where the file system has them and the process may; what cannot be set is told in the log.
    Keep,
    /// They are left out, which is told in the log.
    Skip,
}

/// The most that is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed tar.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl Default for Limits {
    /// 64 GiB and 10 million entries.
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 10_000_000 }
    }
}

impl Policy {
    /// For the root filesystem of an image: whiteouts are applied, set-id bits kept, devices left out. Extended attributes
    /// are kept with the owners, since capabilities are worth something for root's programs alone.
    #[must_use]
    pub fn rootfs(owner: Owner) -> Self {
        Self {
            owner,
            whiteouts: Whiteouts::Apply,
            special_files: SpecialFiles::Skip,
            set_id: true,
            attributes: match owner {
                Owner::Keep => Attributes::Keep,
                Owner::Ignore | Owner::Given { .. } => Attributes::Skip,
            },
            times: true,
            links: Links::Follow,
            prefix: None,
            limits: Limits::default(),
            diff_id: None,
        }
    }

    /// For layers that are restored into the empty directory `prefix` of the image: there are no whiteouts, devices are
    /// refused, and so are links on the way. Files are as old as their restoration: entries all have the same time.
    #[must_use]
    pub fn restore(prefix: impl Into<PathBuf>) -> Self {
        Self {
            owner: Owner::Ignore,
            whiteouts: Whiteouts::Ordinary,
            special_files: SpecialFiles::OnlyPipes,
            set_id: true,
            times: false,
            links: Links::Refuse,
            attributes: Attributes::Skip,
            prefix: Some(prefix.into()),
            limits: Limits::default(),
            diff_id: None,
        }
    }

    /// The same, and the layer must have this DiffID.
    #[must_use]
    pub fn expecting(mut self, diff_id: DiffId) -> Self {
        self.diff_id = Some(diff_id);
        self
    }
}
