//! Kernel words to ours and back: attributes, times, modes, flags.
//!
//! Never asks the file system anything: plain functions.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, FopenFlags, INodeNo, RenameFlags, TimeOrNow};

use dgfs_client::vfs::{Fallocate, OpenFlags, Opened, Seek};
use dgfs_proto::attr::{Attr, FileKind, Timestamp};
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{LockKind, NewNode, RenameMode, SetTime, XattrMode};
use dgfs_proto::name::Name;

use crate::errno::Errno;

/// `st_blksize` of files: tools that copy use requests as large as one FUSE message.
const FILE_BLKSIZE_BYTES: u32 = 1 << 20;
/// `st_blksize` of everything else.
const OTHER_BLKSIZE_BYTES: u32 = 4096;

/// A kernel inode number.
pub(crate) fn ino(raw: INodeNo) -> Result<Ino, Errno> {
    Ino::new(raw.0).ok_or(Errno::INVALID)
}

/// A kernel name.
pub(crate) fn name(raw: &OsStr) -> Result<Name, Errno> {
    Name::new(raw.as_bytes()).map_err(Errno::from)
}

/// Permission bits of a mode.
pub(crate) const fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

/// A umask's bits.
pub(crate) const fn umask(mask: u32) -> u16 {
    (mask & 0o777) as u16
}

/// A file kind as fuser names it.
pub(crate) const fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Attributes for the kernel.
pub(crate) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.get()),
        size: attr.size,
        blocks: attr.allocated.div_ceil(512),
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.btime),
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: if attr.kind == FileKind::File { FILE_BLKSIZE_BYTES } else { OTHER_BLKSIZE_BYTES },
        flags: 0,
    }
}

/// What a negative entry carries: inode 0, nothing else is looked at.
pub(crate) fn missing_attr() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: OTHER_BLKSIZE_BYTES,
        flags: 0,
    }
}

/// Our time as std's; a time std cannot hold becomes 1970.
pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs >= 0 { UNIX_EPOCH.checked_add(seconds) } else { UNIX_EPOCH.checked_sub(seconds) };
    whole.and_then(|at| at.checked_add(Duration::from_nanos(u64::from(time.nanos)))).unwrap_or(UNIX_EPOCH)
}

/// A time of a SETATTR request. fuser 0.18.0 makes `1970 - (seconds + nanoseconds)` of a time before 1970, where the
/// kernel meant `1970 - seconds + nanoseconds`; reading both numbers back undoes that exactly.
fn kernel_time(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => {
            Timestamp { secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos: after.subsec_nanos() }
        }
        Err(before) => {
            let before = before.duration();
            let secs = i64::try_from(before.as_secs()).map_or(i64::MIN, |secs| -secs);
            Timestamp { secs, nanos: before.subsec_nanos() }
        }
    }
}

/// A time to set.
pub(crate) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(at) => SetTime::At(kernel_time(at)),
    }
}

/// What `mknod` makes.
pub(crate) fn node(mode: u32, rdev: u32) -> Result<NewNode, Errno> {
    let special = |kind, rdev| Ok(NewNode::Special { kind, rdev });
    match mode & libc::S_IFMT {
        // mknod(2): a type of zero is a regular file.
        0 | libc::S_IFREG => Ok(NewNode::File),
        libc::S_IFIFO => special(FileKind::Fifo, 0),
        libc::S_IFSOCK => special(FileKind::Socket, 0),
        libc::S_IFCHR => special(FileKind::CharDevice, rdev),
        libc::S_IFBLK => special(FileKind::BlockDevice, rdev),
        _ => Err(Errno::INVALID),
    }
}

/// Flags of `open` and `create`.
pub(crate) const fn open_flags(raw: i32) -> OpenFlags {
    let access = raw & libc::O_ACCMODE;
    OpenFlags {
        read: access != libc::O_WRONLY,
        write: access != libc::O_RDONLY,
        append: raw & libc::O_APPEND != 0,
        truncate: raw & libc::O_TRUNC != 0,
        direct: raw & libc::O_DIRECT != 0,
        sync: raw & (libc::O_SYNC | libc::O_DSYNC) != 0,
    }
}

/// What the kernel may do with an open file. `no_flush` says that a close need not be reported.
pub(crate) fn fopen_flags(opened: &Opened, no_flush: bool) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    if opened.direct_io {
        flags |= FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
    }
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_NOFLUSH, no_flush);
    flags
}

/// Flags of `renameat2`. A whiteout is for overlay file systems; those use xattrs on us.
pub(crate) fn rename_mode(flags: RenameFlags) -> Result<RenameMode, Errno> {
    if flags.is_empty() {
        Ok(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Ok(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Ok(RenameMode::Exchange)
    } else {
        Err(Errno::INVALID)
    }
}

/// Flags of `setxattr`.
pub(crate) const fn xattr_mode(flags: i32) -> Result<XattrMode, Errno> {
    match flags {
        0 => Ok(XattrMode::Any),
        libc::XATTR_CREATE => Ok(XattrMode::Create),
        libc::XATTR_REPLACE => Ok(XattrMode::Replace),
        _ => Err(Errno::INVALID),
    }
}

/// The mode of `fallocate`.
pub(crate) const fn fallocate(mode: i32) -> Result<Fallocate, Errno> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Ok(Fallocate::Allocate),
        libc::FALLOC_FL_KEEP_SIZE => Ok(Fallocate::KeepSize),
        PUNCH => Ok(Fallocate::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Ok(Fallocate::ZeroRange),
        ZERO_KEEP => Ok(Fallocate::ZeroRangeKeepSize),
        _ => Err(Errno::NOT_SUPPORTED),
    }
}

/// The whence of `lseek`; the kernel answers all others itself.
pub(crate) const fn seek(whence: i32) -> Result<Seek, Errno> {
    match whence {
        libc::SEEK_DATA => Ok(Seek::Data),
        libc::SEEK_HOLE => Ok(Seek::Hole),
        _ => Err(Errno::INVALID),
    }
}

/// The type of a lock request.
pub(crate) const fn lock_kind(raw: i32) -> Result<LockKind, Errno> {
    match raw {
        libc::F_RDLCK => Ok(LockKind::Read),
        libc::F_WRLCK => Ok(LockKind::Write),
        libc::F_UNLCK => Ok(LockKind::Unlock),
        _ => Err(Errno::INVALID),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use dgfs_client::vfs::Fallocate;
    use dgfs_proto::attr::{FileKind, Timestamp};
    use dgfs_proto::meta::NewNode;

    use super::{fallocate, kernel_time, node, open_flags, system_time};
    use crate::errno::Errno;

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        let time = Timestamp { secs: -2, nanos: 250_000_000 };
        assert_eq!(system_time(time), UNIX_EPOCH - Duration::from_millis(1750));
        // What fuser 0.18.0 hands over for the kernel's (-2, 250_000_000).
        assert_eq!(kernel_time(UNIX_EPOCH - Duration::new(2, 250_000_000)), time);
    }

    #[test]
    fn times_after_1970_come_back_as_they_were() {
        for time in [Timestamp::default(), Timestamp { secs: 4_102_444_800, nanos: 999_999_999 }] {
            assert_eq!(kernel_time(system_time(time)), time);
        }
    }

    #[test]
    fn a_time_std_cannot_hold_does_not_panic() {
        let _ = system_time(Timestamp { secs: i64::MIN, nanos: 0 });
        let _ = system_time(Timestamp { secs: i64::MAX, nanos: 999_999_999 });
    }

    #[test]
    fn open_flags_say_who_may_do_what() {
        let flags = open_flags(libc::O_WRONLY | libc::O_APPEND | libc::O_TRUNC);
        assert!(flags.write && !flags.read && flags.append && flags.truncate && !flags.direct);
        let flags = open_flags(libc::O_RDONLY | libc::O_DIRECT);
        assert!(flags.read && !flags.write && flags.direct);
        assert!(open_flags(libc::O_RDWR).read && open_flags(libc::O_RDWR | libc::O_DSYNC).sync);
    }

    #[test]
    fn fallocate_modes_we_do_not_know_are_refused() {
        assert_eq!(fallocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE), Ok(Fallocate::PunchHole));
        assert_eq!(fallocate(libc::FALLOC_FL_COLLAPSE_RANGE), Err(Errno::NOT_SUPPORTED));
        assert_eq!(fallocate(libc::FALLOC_FL_PUNCH_HOLE), Err(Errno::NOT_SUPPORTED));
    }

    #[test]
    fn mknod_makes_what_the_mode_says() {
        assert_eq!(node(libc::S_IFREG | 0o644, 0), Ok(NewNode::File));
        let device = NewNode::Special { kind: FileKind::CharDevice, rdev: 0x103 };
        assert_eq!(node(libc::S_IFCHR | 0o600, 0x103), Ok(device));
        assert_eq!(node(libc::S_IFDIR, 0), Err(Errno::INVALID));
    }
}
