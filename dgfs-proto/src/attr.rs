//! What `stat` shows, and times.

pub mod change;

use serde::{Deserialize, Serialize};

use crate::ids::Ino;

/// Seconds and nanoseconds since 1970-01-01 UTC; seconds may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub secs: i64,
    /// Nanoseconds past `secs`, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self { secs: (ms / 1000) as i64, nanos: ((ms % 1000) * 1_000_000) as u32 }
    }

    /// Milliseconds since 1970, 0 for earlier times.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        if self.secs < 0 { 0 } else { self.secs as u64 * 1000 + (self.nanos / 1_000_000) as u64 }
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Small facts about an inode that save a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttrFlags(pub u8);

impl AttrFlags {
    /// The inode has extended attributes (of any kind, ACLs too).
    pub const HAS_XATTR: u8 = 1;
    /// The inode has a POSIX access ACL.
    pub const HAS_ACCESS_ACL: u8 = 2;
    /// The directory has a POSIX default ACL.
    pub const HAS_DEFAULT_ACL: u8 = 4;
    /// The file's bytes live in its inode's rows; it has no chunks.
    pub const INLINE: u8 = 8;
    /// The inode has a `security.capability` attribute.
    pub const HAS_CAPABILITY: u8 = 16;

    /// Is `flag` set?
    #[must_use]
    pub const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// Sets or clears `flag`.
    pub const fn set(&mut self, flag: u8, on: bool) {
        if on {
            self.0 |= flag;
        } else {
            self.0 &= !flag;
        }
    }
}

/// The attributes of an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    /// The inode.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links; a directory counts `.` and its subdirectories, as ext4.
    pub nlink: u32,
    /// Bytes; a directory shows its entry count, a symlink its target's length.
    pub size: u64,
    /// Bytes that take space in storage; `st_blocks` is this over 512.
    pub allocated: u64,
    /// Device number of a device node, as Linux encodes it in 32 bits.
    pub rdev: u32,
    /// Last read (relatime).
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of content or attributes.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
    /// Grows with each change of the content: caches of data compare it.
    pub data_version: u64,
    /// See [`AttrFlags`].
    pub flags: AttrFlags,
    /// A directory's parent; of another inode its first link's directory.
    pub parent: Ino,
}

/// Everything below a directory, itself not counted. Kept by each mutation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeStat {
    /// Inodes that are not directories (a hard-linked one counts once, at its first link).
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Sum of the sizes of the counted files.
    pub bytes: u64,
}
