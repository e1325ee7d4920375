//! How changes move attributes: one set of rules for the metadata service and for clients that make changes ahead of it.
//!
//! Never checks whether a change may be made: the metadata service does.

use super::{Attr, AttrFlags, FileKind, Timestamp};
use crate::ids::Ino;
use crate::meta::{SetAttr, SetTime};

const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o010;
/// relatime: a time of last read older than this is renewed (Linux: one day).
const RELATIME_SECS: i64 = 24 * 3600;

/// An inode about to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewInode<'a> {
    /// Its number.
    pub ino: Ino,
    /// The directory that its first name is in.
    pub parent: &'a Attr,
    /// What it is.
    pub kind: FileKind,
    /// Device number of a device node.
    pub rdev: u32,
    /// Bytes of a symlink's target; else 0.
    pub size: u64,
    /// Permission bits asked for, `0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group, unless the directory decides it.
    pub gid: u32,
}

impl NewInode<'_> {
    /// The first version of the content of every file.
    pub const DATA_VERSION: u64 = 1;

    /// Its attributes, before the umask or a default ACL take rights away.
    #[must_use]
    pub fn attr(&self, now: Timestamp) -> Attr {
        let setgid = self.parent.mode & SETGID != 0;
        let directory = self.kind == FileKind::Directory;
        let inherited_bit = if setgid && directory { SETGID } else { 0 };
        let mut flags = AttrFlags::default();
        flags.set(AttrFlags::INLINE, self.kind == FileKind::File);
        Attr {
            ino: self.ino,
            kind: self.kind,
            mode: (self.mode & 0o7777) | inherited_bit,
            uid: self.uid,
            gid: if setgid { self.parent.gid } else { self.gid },
            nlink: if directory { 2 } else { 1 },
            size: self.size,
            allocated: 0,
            rdev: self.rdev,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            data_version: Self::DATA_VERSION,
            flags,
            parent: self.parent.ino,
        }
    }
}

/// The nine permission bits of a new inode where no default ACL decides them.
#[must_use]
pub const fn plain_mode(kind: FileKind, mode: u16, umask: u16) -> u16 {
    if matches!(kind, FileKind::Symlink) { 0o777 } else { mode & 0o777 & !umask }
}

/// Entries of a directory came or went (`entries`; `subdirectories` of them directories): its times and size follow.
pub fn touch_directory(directory: &mut Attr, entries: i64, subdirectories: i32, now: Timestamp) {
    directory.size = directory.size.saturating_add_signed(entries);
    directory.nlink = directory.nlink.saturating_add_signed(subdirectories);
    directory.mtime = now;
    directory.ctime = now;
    directory.data_version += 1;
}

/// An inode loses a name.
pub fn lose_name(attr: &mut Attr, now: Timestamp) {
    attr.nlink = if attr.kind == FileKind::Directory { 0 } else { attr.nlink.saturating_sub(1) };
    attr.ctime = now;
}

/// Sets everything that `set` names but the size.
pub fn set_attr(attr: &mut Attr, set: &SetAttr, now: Timestamp) {
    if is_only_stale_relatime(set, attr, now) {
        return;
    }
    if let Some(mode) = set.mode {
        attr.mode = mode & 0o7777;
    }
    attr.uid = set.uid.unwrap_or(attr.uid);
    attr.gid = set.gid.unwrap_or(attr.gid);
    if set.kill_privileges && attr.kind != FileKind::Directory {
        kill_privileges(attr);
    }
    let reads_only = apply_times(set, attr, now);
    if !reads_only {
        attr.ctime = now;
    }
}

fn kill_privileges(attr: &mut Attr) {
    attr.mode &= !SETUID;
    if attr.mode & GROUP_EXECUTE != 0 {
        attr.mode &= !SETGID;
    }
}

fn relatime_due(attr: &Attr, now: Timestamp) -> bool {
    attr.atime <= attr.mtime || attr.atime <= attr.ctime || now.secs - attr.atime.secs >= RELATIME_SECS
}

/// Nothing but a read to be noted, and it need not be.
#[must_use]
pub fn is_only_stale_relatime(set: &SetAttr, attr: &Attr, now: Timestamp) -> bool {
    let only = SetAttr { atime: Some(SetTime::Relatime), ..SetAttr::default() };
    *set == only && !relatime_due(attr, now)
}

/// Sets the times; true when a read by relatime was all.
fn apply_times(set: &SetAttr, attr: &mut Attr, now: Timestamp) -> bool {
    match set.atime {
        Some(SetTime::Now) => attr.atime = now,
        Some(SetTime::At(at)) => attr.atime = at,
        Some(SetTime::Relatime) if relatime_due(attr, now) => attr.atime = now,
        Some(SetTime::Relatime) | None => {}
    }
    match set.mtime {
        Some(SetTime::Now) => attr.mtime = now,
        Some(SetTime::At(at)) => attr.mtime = at,
        Some(SetTime::Relatime) | None => {}
    }
    *set == SetAttr { atime: Some(SetTime::Relatime), ..SetAttr::default() }
}

/// Bytes that an inline content of `len` bytes is accounted for.
#[must_use]
pub const fn inline_allocated(len: u64) -> u64 {
    len.next_multiple_of(512)
}

/// Written data become part of a file that is `size` bytes long now.
pub fn commit(attr: &mut Attr, size: u64, written: Timestamp, now: Timestamp) {
    attr.size = size;
    attr.data_version += 1;
    attr.mtime = written;
    // The change happened when the bytes were written, and was shown so by the writer's mount: sending them later is none.
    attr.ctime = attr.ctime.max(written.min(now));
}
