//! Every refusal as the number a program sees.
//!
//! Never decides anything: one exhaustive `match`, so that a new refusal does
//! not compile until it has a number. Nothing else in the workspace names errno.

use std::fmt;

use dgfs_proto::status::Status;

/// An errno of Linux, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

impl Errno {
    /// EBADF.
    pub const BAD_HANDLE: Self = Self(libc::EBADF);
    /// EINVAL.
    pub const INVALID: Self = Self(libc::EINVAL);
    /// EIO.
    pub const IO: Self = Self(libc::EIO);
    /// ENOENT.
    pub const NOT_FOUND: Self = Self(libc::ENOENT);
    /// ENXIO: `lseek` found neither data nor hole.
    pub const NO_EXTENT: Self = Self(libc::ENXIO);
    /// EOPNOTSUPP.
    pub const NOT_SUPPORTED: Self = Self(libc::EOPNOTSUPP);
    /// ERANGE: the buffer of an extended attribute is too small.
    pub const RANGE: Self = Self(libc::ERANGE);
    /// E2BIG: the names of all extended attributes are longer than Linux can show.
    pub const TOO_BIG: Self = Self(libc::E2BIG);
    /// ENOLCK.
    pub const NO_LOCKS: Self = Self(libc::ENOLCK);
    /// ETXTBSY: the file is being executed.
    pub const EXECUTING: Self = Self(libc::ETXTBSY);

    /// The number, positive.
    #[must_use]
    pub const fn code(self) -> i32 {
        self.0
    }

    /// The symbol, for metric labels: a bounded set.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::EINTR => "EINTR",
            libc::EIO => "EIO",
            libc::ENXIO => "ENXIO",
            libc::E2BIG => "E2BIG",
            libc::EBADF => "EBADF",
            libc::EAGAIN => "EAGAIN",
            libc::EACCES => "EACCES",
            libc::EEXIST => "EEXIST",
            libc::EXDEV => "EXDEV",
            libc::ENOTDIR => "ENOTDIR",
            libc::EISDIR => "EISDIR",
            libc::EINVAL => "EINVAL",
            libc::EFBIG => "EFBIG",
            libc::ENOSPC => "ENOSPC",
            libc::EROFS => "EROFS",
            libc::EMLINK => "EMLINK",
            libc::ERANGE => "ERANGE",
            libc::EDEADLK => "EDEADLK",
            libc::ENAMETOOLONG => "ENAMETOOLONG",
            libc::ENOLCK => "ENOLCK",
            libc::ETXTBSY => "ETXTBSY",
            libc::ENOTEMPTY => "ENOTEMPTY",
            libc::ENODATA => "ENODATA",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            libc::ETIMEDOUT => "ETIMEDOUT",
            libc::ESTALE => "ESTALE",
            libc::EDQUOT => "EDQUOT",
            _ => "other",
        }
    }

    /// Is this a failure of the system, not an ordinary answer such as "no such file"? ESTALE is none: of a file that is gone the kernel
    /// looks up the name again, and a session that ended says so once itself.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        matches!(self.0, libc::EIO | libc::ETIMEDOUT)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

impl From<Status> for Errno {
    fn from(status: Status) -> Self {
        Self(match status {
            Status::NotFound => libc::ENOENT,
            Status::Exists => libc::EEXIST,
            Status::NotDirectory => libc::ENOTDIR,
            Status::IsDirectory => libc::EISDIR,
            Status::NotEmpty => libc::ENOTEMPTY,
            Status::Invalid => libc::EINVAL,
            Status::NameTooLong => libc::ENAMETOOLONG,
            Status::TooManyLinks => libc::EMLINK,
            Status::FileTooBig => libc::EFBIG,
            Status::NoSpace => libc::ENOSPC,
            Status::Quota => libc::EDQUOT,
            Status::NotPermitted => libc::EPERM,
            Status::AccessDenied => libc::EACCES,
            Status::NoXattr => libc::ENODATA,
            Status::Range => libc::ERANGE,
            Status::XattrTooBig => libc::E2BIG,
            Status::WouldBlock => libc::EAGAIN,
            Status::Interrupted => libc::EINTR,
            Status::Deadlock => libc::EDEADLK,
            Status::NoLocks => libc::ENOLCK,
            Status::BadHandle => libc::EBADF,
            Status::ReadOnly => libc::EROFS,
            Status::NotSupported => libc::EOPNOTSUPP,
            Status::CrossDevice => libc::EXDEV,
            Status::Stale => libc::ESTALE,
            Status::Unavailable => libc::ETIMEDOUT,
            // What a program can do nothing about is EIO; the log says which it was.
            Status::Corrupt
            | Status::Io
            | Status::Conflict
            | Status::OldMap
            | Status::NoVersion
            | Status::NotActive
            | Status::Busy
            | Status::Malformed
            | Status::Forbidden => libc::EIO,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;
    use dgfs_proto::status::Status;

    const ALL: [Status; 35] = [
        Status::NotFound,
        Status::Exists,
        Status::NotDirectory,
        Status::IsDirectory,
        Status::NotEmpty,
        Status::Invalid,
        Status::NameTooLong,
        Status::TooManyLinks,
        Status::FileTooBig,
        Status::NoSpace,
        Status::Quota,
        Status::NotPermitted,
        Status::AccessDenied,
        Status::NoXattr,
        Status::Range,
        Status::XattrTooBig,
        Status::WouldBlock,
        Status::Interrupted,
        Status::Deadlock,
        Status::NoLocks,
        Status::BadHandle,
        Status::ReadOnly,
        Status::NotSupported,
        Status::CrossDevice,
        Status::Stale,
        Status::Corrupt,
        Status::Io,
        Status::Conflict,
        Status::OldMap,
        Status::NoVersion,
        Status::NotActive,
        Status::Busy,
        Status::Unavailable,
        Status::Malformed,
        Status::Forbidden,
    ];

    #[test]
    fn every_refusal_has_a_number_with_a_symbol() {
        for status in ALL {
            let errno = Errno::from(status);
            assert!((1..512).contains(&errno.code()), "{status:?}: the kernel refuses {}", errno.code());
            assert_ne!(errno.symbol(), "other", "{status:?} needs a symbol for the metrics");
        }
    }

    #[test]
    fn posix_refusals_keep_their_posix_number() {
        let expected = [
            (Status::NotFound, libc::ENOENT),
            (Status::Exists, libc::EEXIST),
            (Status::NotEmpty, libc::ENOTEMPTY),
            (Status::NameTooLong, libc::ENAMETOOLONG),
            (Status::WouldBlock, libc::EAGAIN),
            (Status::Interrupted, libc::EINTR),
            (Status::NoXattr, libc::ENODATA),
            (Status::Unavailable, libc::ETIMEDOUT),
            (Status::Corrupt, libc::EIO),
        ];
        for (status, code) in expected {
            assert_eq!(Errno::from(status).code(), code, "{status:?}");
        }
    }

    #[test]
    fn only_failures_of_the_system_are_faults() {
        assert!(Errno::from(Status::Corrupt).is_fault());
        assert!(!Errno::from(Status::NotFound).is_fault());
        assert!(!Errno::from(Status::Stale).is_fault());
    }
}
