//! What a registry may do wrong, or in its own way.

/// How a registry says when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// In so many seconds, as a number.
    Seconds(u64),
    /// In so many seconds, as a date.
    Date(u64),
}

/// One way of misbehaving. Those with `times` end after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Wants this user's password with every request.
    Basic(&'static str, &'static str),
    /// Wants tokens from its token endpoint, which wants this user's password, or a refresh token that is the password.
    Bearer(&'static str, &'static str),
    /// Tokens are refused after so many requests.
    TokenUses(u32),
    /// The token endpoint is somewhere else: its whole URL.
    Realm(String),
    /// The upload's location is a path.
    RelativeLocation,
    /// The upload's location has a query without which it is not known.
    QueryLocation,
    /// `PATCH` is not allowed.
    NoChunks,
    /// Uploads take at most so many bytes in a request, else 416.
    ChunkLimit(u64),
    /// Uploads in one piece take at most so many bytes, else 413.
    WholeLimit(u64),
    /// A chunk but the first is accepted, and dropped.
    DropsChunks,
    /// A request without a length is accepted, and dropped; whether the answer tells that nothing has arrived.
    DropsStreams {
        /// Whether it tells.
        tells: bool,
    },
    /// The body of an upload's request is not read any more after so many bytes, and there is no answer.
    StallsUpload {
        /// The bytes that are read.
        after: usize,
        /// For how many requests.
        times: u32,
    },
    /// Requests whose answer does not depend on their bodies are answered before these are read.
    AnswersEarly,
    /// Blobs that were sent are said to be something else.
    WrongBlobDigest {
        /// For how many requests.
        times: u32,
    },
    /// `Range` is ignored in downloads.
    IgnoresRange,
    /// Blobs have tags that do not promise the same bytes.
    WeakTags,
    /// `DELETE` of manifests is not allowed.
    NoDelete,
    /// There is no referrers API.
    NoReferrers,
    /// OCI manifests are refused.
    DockerOnly,
    /// Docker manifests are refused.
    OciOnly,
    /// There is no list of repositories.
    NoCatalog,
    /// A blob may come with the request that opens an upload.
    SinglePost,
    /// Mounts are answered with an upload.
    NoMount,
    /// Requests of the method whose path contains the text get the status.
    Status {
        /// `GET`, `PUT`, ...; empty for any.
        method: &'static str,
        /// A part of the path.
        path: &'static str,
        /// The answer.
        status: u16,
        /// When to come back.
        retry_after: Option<RetryAfter>,
        /// For how many requests.
        times: u32,
    },
    /// The connection is cut before an answer.
    Reset {
        /// `GET`, `PUT`, ...; empty for any.
        method: &'static str,
        /// A part of the path.
        path: &'static str,
        /// For how many requests.
        times: u32,
    },
    /// The connection is cut when so many bytes of an upload's body have arrived, which are kept.
    CutUpload {
        /// The bytes that arrive.
        after: usize,
        /// For how many requests.
        times: u32,
    },
    /// The connection is cut when so many bytes of a blob have been sent.
    CutDownload {
        /// The bytes that are sent.
        after: usize,
        /// For how many requests.
        times: u32,
    },
    /// A bit of each blob sent is flipped.
    FlipsBits {
        /// For how many requests.
        times: u32,
    },
    /// Manifests are announced with the digest of something else.
    WrongDigestHeader,
    /// Manifests come without a digest in the headers.
    NoDigestHeader,
    /// Blobs are fetched from `BASE/DIGEST`.
    RedirectBlobs(String),
    /// Blobs trickle: one byte each time so many milliseconds have passed.
    Trickle(u64),
}

impl Fault {
    /// Whether the fault strikes now; it is used up by that.
    pub(super) fn strikes(faults: &mut Vec<Self>, is_meant: impl Fn(&Self) -> bool) -> Option<Self> {
        let index = faults.iter().position(is_meant)?;
        let fault = faults[index].clone();
        if let Self::Status { times, .. }
        | Self::Reset { times, .. }
        | Self::CutUpload { times, .. }
        | Self::CutDownload { times, .. }
        | Self::StallsUpload { times, .. }
        | Self::WrongBlobDigest { times }
        | Self::FlipsBits { times } = &mut faults[index]
        {
            *times -= 1;
            if *times == 0 {
                faults.remove(index);
            }
        }
        Some(fault)
    }
}
