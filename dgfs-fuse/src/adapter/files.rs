//! What the adapter remembers of each open file and directory.
//!
//! Never holds file content. The kernel's file handle is the number of the
//! `Vfs` handle; entries live from open to release, so the kernel bounds them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::OnceCell;

use dgfs_client::vfs::Handle;
use dgfs_proto::ids::Ino;

use crate::errno::Errno;

/// Locks of the table: requests of many threads rarely meet.
const SHARDS: usize = 16;
/// Inodes remembered as locked; past it every close is reported.
const LOCKED_INODES_MAX: usize = 65_536;

/// An open file.
pub(crate) struct OpenFile {
    /// Its handle.
    pub(crate) handle: Handle,
    /// Its inode.
    pub(crate) ino: Ino,
    /// It was opened with O_APPEND.
    pub(crate) append: bool,
    /// The next read may have to move atime.
    atime_due: AtomicBool,
    /// It was opened to be executed.
    pub(crate) executed: bool,
    /// Owners of `fcntl` locks taken through this handle and not yet given up by a close that was reported:
    /// open-file-description locks, and those of handles opened without reported closes.
    pub(crate) lock_owners: Mutex<BTreeSet<u64>>,
    /// A second handle whose O_APPEND is the opposite: `fcntl(F_SETFL)` may change it after the open, and the kernel
    /// writes pages of a mapping through any handle of the file.
    pub(crate) twin: OnceCell<Handle>,
}

impl OpenFile {
    pub(crate) fn new(handle: Handle, ino: Ino, append: bool, atime_due: bool) -> Self {
        Self {
            handle,
            ino,
            append,
            atime_due: AtomicBool::new(atime_due),
            executed: false,
            lock_owners: Mutex::default(),
            twin: OnceCell::new(),
        }
    }

    /// True once, if a read through this handle may have to move atime.
    pub(crate) fn take_atime_due(&self) -> bool {
        self.atime_due.load(Ordering::Relaxed) && self.atime_due.swap(false, Ordering::Relaxed)
    }
}

/// An open directory.
pub(crate) struct OpenDirectory {
    /// Its handle.
    pub(crate) handle: Handle,
    /// Its inode.
    pub(crate) ino: Ino,
    atime_due: AtomicBool,
}

impl OpenDirectory {
    pub(crate) fn new(handle: Handle, ino: Ino, atime_due: bool) -> Self {
        Self { handle, ino, atime_due: AtomicBool::new(atime_due) }
    }

    /// True once, if listing may have to move atime.
    pub(crate) fn take_atime_due(&self) -> bool {
        self.atime_due.swap(false, Ordering::Relaxed)
    }
}

/// Open things by handle number.
pub(crate) struct Table<T> {
    shards: [RwLock<HashMap<u64, Arc<T>>>; SHARDS],
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl<T> Table<T> {
    fn shard(&self, number: u64) -> Option<&RwLock<HashMap<u64, Arc<T>>>> {
        self.shards.get((number % SHARDS as u64) as usize)
    }

    /// Remembers `item` under its handle's number.
    pub(crate) fn insert(&self, handle: Handle, item: T) {
        if let Some(shard) = self.shard(handle.0) {
            shard.write().insert(handle.0, Arc::new(item));
        }
    }

    /// The item of a kernel handle.
    pub(crate) fn get(&self, number: u64) -> Result<Arc<T>, Errno> {
        self.shard(number).and_then(|shard| shard.read().get(&number).cloned()).ok_or(Errno::BAD_HANDLE)
    }

    /// Forgets the item of a kernel handle.
    pub(crate) fn remove(&self, number: u64) -> Result<Arc<T>, Errno> {
        self.shard(number).and_then(|shard| shard.write().remove(&number)).ok_or(Errno::BAD_HANDLE)
    }
}

/// Inodes on which this mount has seen an `fcntl` lock: their closes must be reported, because closing any descriptor
/// gives up the process's locks.
#[derive(Default)]
pub(crate) struct LockedInodes {
    any: AtomicBool,
    overflow: AtomicBool,
    inodes: Mutex<HashSet<Ino>>,
}

impl LockedInodes {
    /// Notes a lock.
    pub(crate) fn note(&self, ino: Ino) {
        let mut inodes = self.inodes.lock();
        if inodes.len() < LOCKED_INODES_MAX {
            inodes.insert(ino);
        } else if !inodes.contains(&ino) {
            self.overflow.store(true, Ordering::Relaxed);
        }
        self.any.store(true, Ordering::Relaxed);
    }

    /// May this inode carry locks?
    pub(crate) fn contains(&self, ino: Ino) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        self.overflow.load(Ordering::Relaxed) || self.inodes.lock().contains(&ino)
    }
}

/// Inodes that are being executed: their handle stays open as long as a process runs them.
///
/// With ATOMIC_O_TRUNC the kernel lets us truncate before it looks whether the file is executed; it does look first when the
/// file is opened for writing, so only `O_RDONLY | O_TRUNC` has to be refused here.
#[derive(Default)]
pub(crate) struct Executing {
    handles: Mutex<HashMap<Ino, u32>>,
}

impl Executing {
    /// The bit the kernel sets in the flags of an open by `execve` (`__FMODE_EXEC`).
    pub(crate) const OPEN_FLAG: i32 = 0x20;

    /// One more handle executes this inode.
    pub(crate) fn begin(&self, ino: Ino) {
        *self.handles.lock().entry(ino).or_insert(0) += 1;
    }

    /// One handle less does.
    pub(crate) fn end(&self, ino: Ino) {
        let mut handles = self.handles.lock();
        if let Some(count) = handles.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                handles.remove(&ino);
            }
        }
    }

    /// Must this open be refused with ETXTBSY?
    pub(crate) fn forbids(&self, ino: Ino, raw_flags: i32) -> bool {
        let read_only = raw_flags & libc::O_ACCMODE == libc::O_RDONLY;
        read_only && raw_flags & libc::O_TRUNC != 0 && self.handles.lock().contains_key(&ino)
    }
}

#[cfg(test)]
mod tests {
    use dgfs_client::vfs::Handle;
    use dgfs_proto::ids::Ino;

    use super::{Executing, LockedInodes, OpenFile, Table};
    use crate::errno::Errno;

    #[test]
    fn a_released_handle_is_not_found_again() {
        let table = Table::default();
        table.insert(Handle(17), OpenFile::new(Handle(17), Ino::ROOT, false, true));
        assert!(table.get(17).unwrap().take_atime_due());
        assert!(!table.get(17).unwrap().take_atime_due(), "atime is asked about once for each open");
        assert!(table.remove(17).is_ok());
        assert_eq!(table.get(17).err(), Some(Errno::BAD_HANDLE));
    }

    #[test]
    fn an_executed_file_is_not_truncated_by_an_open_for_reading() {
        let executing = Executing::default();
        let truncate = libc::O_RDONLY | libc::O_TRUNC;
        assert!(!executing.forbids(Ino::ROOT, truncate));
        executing.begin(Ino::ROOT);
        executing.begin(Ino::ROOT);
        executing.end(Ino::ROOT);
        assert!(executing.forbids(Ino::ROOT, truncate));
        assert!(!executing.forbids(Ino::ROOT, libc::O_RDONLY));
        assert!(!executing.forbids(Ino::ROOT, libc::O_WRONLY | libc::O_TRUNC), "the kernel looked already");
        executing.end(Ino::ROOT);
        assert!(!executing.forbids(Ino::ROOT, truncate));
    }

    #[test]
    fn only_locked_inodes_have_their_closes_reported() {
        let locked = LockedInodes::default();
        assert!(!locked.contains(Ino::ROOT));
        locked.note(Ino::ROOT);
        assert!(locked.contains(Ino::ROOT));
        assert!(!locked.contains(Ino::new(2).unwrap()));
    }
}
