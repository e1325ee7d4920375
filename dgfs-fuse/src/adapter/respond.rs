//! One `accept` and one `refuse` for each kind of kernel reply.
//!
//! Never waits. Cache times are read and sent under the reply barrier, so that an
//! invalidation asked for later reaches the kernel later.

use std::time::Duration;

use bytes::Bytes;
use fuser::{
    FileHandle, FopenFlags, Generation, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyLock,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};

use dgfs_client::vfs::{Looked, Seen};
use dgfs_proto::meta::{LockKind, LockSpec, VolumeUsage};

use crate::adapter::Shared;
use crate::adapter::translate::{file_attr, missing_attr};
use crate::errno::Errno;

/// Inode numbers are never used twice, so one generation is enough.
pub(crate) const GENERATION: Generation = Generation(0);
/// `statfs` counts in blocks of this many bytes.
const STATFS_BLOCK_BYTES: u32 = 4096;
/// An offset that means "to the end of the file" to the kernel.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// A reply that is sent exactly once.
pub(crate) trait Respond<T>: Send + 'static {
    /// Sends the answer.
    fn accept(self, value: T, shared: &Shared);
    /// Sends an errno.
    fn refuse(self, errno: Errno);
}

/// Our errno as fuser's.
pub(crate) fn to_fuser(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.code())
}

macro_rules! refuse {
    () => {
        fn refuse(self, errno: Errno) {
            self.error(to_fuser(errno));
        }
    };
}

impl Respond<Looked> for ReplyEntry {
    fn accept(self, looked: Looked, shared: &Shared) {
        let _barrier = shared.barrier.read();
        let ttl = shared.vfs.ttl(looked.since, looked.attr.as_ref().map(|attr| attr.ino));
        match looked.attr {
            Some(attr) => {
                shared.note_named(&attr, ttl);
                self.entry_with_ttls(&ttl.attr, &ttl.entry, &file_attr(&attr), GENERATION);
            }
            None if ttl.entry.is_zero() => self.error(fuser::Errno::ENOENT),
            // Nothing, which the kernel may remember as long as an entry.
            None => self.entry_with_ttls(&Duration::ZERO, &ttl.entry, &missing_attr(), GENERATION),
        }
    }
    refuse!();
}

impl Respond<Seen> for ReplyEntry {
    fn accept(self, seen: Seen, shared: &Shared) {
        Respond::accept(self, Looked { attr: Some(seen.attr), since: seen.since }, shared);
    }
    refuse!();
}

impl Respond<Seen> for ReplyAttr {
    fn accept(self, seen: Seen, shared: &Shared) {
        let _barrier = shared.barrier.read();
        self.attr(&shared.vfs.ttl(seen.since, Some(seen.attr.ino)).attr, &file_attr(&seen.attr));
    }
    refuse!();
}

impl Respond<()> for ReplyEmpty {
    fn accept(self, (): (), _: &Shared) {
        self.ok();
    }
    refuse!();
}

impl Respond<Bytes> for ReplyData {
    fn accept(self, bytes: Bytes, shared: &Shared) {
        shared.metrics.read_bytes.inc_by(bytes.len() as u64);
        self.data(&bytes);
    }
    refuse!();
}

impl Respond<(FileHandle, FopenFlags)> for ReplyOpen {
    fn accept(self, (handle, flags): (FileHandle, FopenFlags), _: &Shared) {
        self.opened(handle, flags);
    }
    refuse!();
}

impl Respond<(Seen, FileHandle, FopenFlags)> for ReplyCreate {
    fn accept(self, (Seen { attr, since }, handle, flags): (Seen, FileHandle, FopenFlags), shared: &Shared) {
        let _barrier = shared.barrier.read();
        let ttl = shared.vfs.ttl(since, Some(attr.ino));
        shared.note_named(&attr, ttl);
        self.created(&ttl.attr.min(ttl.entry), &file_attr(&attr), GENERATION, handle, flags);
    }
    refuse!();
}

impl Respond<u32> for ReplyWrite {
    fn accept(self, bytes: u32, shared: &Shared) {
        shared.metrics.written_bytes.inc_by(u64::from(bytes));
        self.written(bytes);
    }
    refuse!();
}

impl Respond<u64> for ReplyLseek {
    fn accept(self, offset: u64, _: &Shared) {
        match i64::try_from(offset) {
            Ok(offset) => self.offset(offset),
            Err(_) => self.error(fuser::Errno::EOVERFLOW),
        }
    }
    refuse!();
}

impl Respond<VolumeUsage> for ReplyStatfs {
    fn accept(self, usage: VolumeUsage, _: &Shared) {
        let block = u64::from(STATFS_BLOCK_BYTES);
        let free = usage.free_bytes / block;
        // A volume has no inode table; what ends first is space, of which an inode takes less than a block.
        let files = usage.inodes.saturating_add(free);
        let blocks = usage.capacity_bytes / block;
        self.statfs(blocks, free, free, files, free, STATFS_BLOCK_BYTES, 255, STATFS_BLOCK_BYTES);
    }
    refuse!();
}

/// An extended attribute's value (or the list of names), and the room the program has.
pub(crate) struct XattrAnswer {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// Bytes of the program's buffer; 0 asks for the length only.
    pub(crate) room: u32,
}

impl Respond<XattrAnswer> for ReplyXattr {
    fn accept(self, answer: XattrAnswer, _: &Shared) {
        match u32::try_from(answer.bytes.len()) {
            Ok(len) if answer.room == 0 => self.size(len),
            Ok(len) if len <= answer.room => self.data(&answer.bytes),
            Ok(_) => self.error(fuser::Errno::ERANGE),
            Err(_) => self.error(fuser::Errno::E2BIG),
        }
    }
    refuse!();
}

impl Respond<Option<LockSpec>> for ReplyLock {
    fn accept(self, holder: Option<LockSpec>, _: &Shared) {
        match holder {
            None => self.locked(0, 0, libc::F_UNLCK, 0),
            Some(lock) => {
                let kind = match lock.kind {
                    LockKind::Read => libc::F_RDLCK,
                    LockKind::Write => libc::F_WRLCK,
                    LockKind::Unlock => libc::F_UNLCK,
                };
                self.locked(lock.start, lock.end.min(OFFSET_MAX), kind, lock.pid);
            }
        }
    }
    refuse!();
}
