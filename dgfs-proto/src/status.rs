//! Why a request was refused. One list for the whole system; the adapter maps
//! it to errno in one exhaustive `match`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A refusal. `Display` is a sentence fragment for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Error)]
pub enum Status {
    /// ENOENT.
    #[error("no such file or directory")]
    NotFound,
    /// EEXIST.
    #[error("the name exists already")]
    Exists,
    /// ENOTDIR.
    #[error("not a directory")]
    NotDirectory,
    /// EISDIR.
    #[error("is a directory")]
    IsDirectory,
    /// ENOTEMPTY.
    #[error("the directory is not empty")]
    NotEmpty,
    /// EINVAL.
    #[error("invalid argument")]
    Invalid,
    /// ENAMETOOLONG.
    #[error("the name is too long")]
    NameTooLong,
    /// EMLINK.
    #[error("too many links")]
    TooManyLinks,
    /// EFBIG.
    #[error("the file would be too large")]
    FileTooBig,
    /// ENOSPC.
    #[error("no space left")]
    NoSpace,
    /// EDQUOT.
    #[error("quota exceeded")]
    Quota,
    /// EPERM.
    #[error("operation not permitted")]
    NotPermitted,
    /// EACCES.
    #[error("permission denied")]
    AccessDenied,
    /// ENODATA.
    #[error("no such extended attribute")]
    NoXattr,
    /// ERANGE.
    #[error("the buffer is too small")]
    Range,
    /// E2BIG.
    #[error("the extended attribute is too large")]
    XattrTooBig,
    /// EAGAIN: a lock is held by another.
    #[error("the lock is held by another")]
    WouldBlock,
    /// EINTR: a waiter gave up.
    #[error("interrupted")]
    Interrupted,
    /// EDEADLK.
    #[error("waiting would be a deadlock")]
    Deadlock,
    /// ENOLCK.
    #[error("too many locks")]
    NoLocks,
    /// EBADF.
    #[error("the file handle is not open, or not open for this")]
    BadHandle,
    /// EROFS.
    #[error("read-only")]
    ReadOnly,
    /// EOPNOTSUPP.
    #[error("not supported")]
    NotSupported,
    /// EXDEV.
    #[error("crosses devices")]
    CrossDevice,
    /// ESTALE: the session was declared dead, or the inode is gone.
    #[error("stale: the session ended or the object is gone")]
    Stale,
    /// EIO: bytes are damaged and no good copy is left.
    #[error("stored bytes are damaged")]
    Corrupt,
    /// EIO: a part failed in a way that trying again does not mend.
    #[error("input/output error")]
    Io,
    /// The commit's base is not current any more; the client rebases. EIO if it gets out.
    #[error("another writer changed the data first")]
    Conflict,
    /// The request carries an old map epoch; the answer to `GetMap` mends it.
    #[error("the cluster map is old")]
    OldMap,
    /// The chunk version is not on this server.
    #[error("no such chunk version here")]
    NoVersion,
    /// This metadata server is a standby; try the next one.
    #[error("this metadata server is not the active one")]
    NotActive,
    /// A bound was reached; try again later.
    #[error("too busy, try again")]
    Busy,
    /// ETIMEDOUT: the deadline passed (soft mounts), or a peer is away.
    #[error("the peer did not answer in time")]
    Unavailable,
    /// The message is malformed or breaks a bound.
    #[error("malformed message")]
    Malformed,
    /// The certificate's role, or the missing session, does not allow this request.
    #[error("not allowed for this role or session")]
    Forbidden,
}

impl Status {
    /// May the same request succeed later without anybody changing it?
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::NotActive | Self::Busy | Self::Unavailable | Self::OldMap)
    }

    /// The word for it in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::NotDirectory => "not_directory",
            Self::IsDirectory => "is_directory",
            Self::NotEmpty => "not_empty",
            Self::Invalid => "invalid",
            Self::NameTooLong => "name_too_long",
            Self::TooManyLinks => "too_many_links",
            Self::FileTooBig => "file_too_big",
            Self::NoSpace => "no_space",
            Self::Quota => "quota",
            Self::NotPermitted => "not_permitted",
            Self::AccessDenied => "access_denied",
            Self::NoXattr => "no_xattr",
            Self::Range => "range",
            Self::XattrTooBig => "xattr_too_big",
            Self::WouldBlock => "would_block",
            Self::Interrupted => "interrupted",
            Self::Deadlock => "deadlock",
            Self::NoLocks => "no_locks",
            Self::BadHandle => "bad_handle",
            Self::ReadOnly => "read_only",
            Self::NotSupported => "not_supported",
            Self::CrossDevice => "cross_device",
            Self::Stale => "stale",
            Self::Corrupt => "corrupt",
            Self::Io => "io",
            Self::Conflict => "conflict",
            Self::OldMap => "old_map",
            Self::NoVersion => "no_version",
            Self::NotActive => "not_active",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Malformed => "malformed",
            Self::Forbidden => "forbidden",
        }
    }
}
