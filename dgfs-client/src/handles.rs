//! The tables of open files, open directories and file states.
//!
//! Never asks meta. Always: a handle number is never reused; a file state lives while a handle or an unsent byte needs it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use dgfs_proto::ids::Ino;
use dgfs_proto::status::Status;

use crate::dirs::{Page, Reading};
use crate::file::page_reads::Dropping;
use crate::file::read_ahead::ReadAhead;
use crate::file::state::FileState;
use crate::vfs::{Handle, OpenFlags};

const SHARDS: u64 = 16;

/// An open file.
pub(crate) struct OpenFile {
    pub(crate) file: Arc<FileState>,
    pub(crate) flags: OpenFlags,
    /// The kernel keeps no pages of what it reads here.
    pub(crate) direct_io: bool,
    /// The number of the last write error that fsync or close reported here.
    pub(crate) error_seen: AtomicU64,
    /// The number of the last write error that a write reported here.
    pub(crate) error_seen_by_write: AtomicU64,
    /// The number of the last change that was told as done and refused, known here.
    pub(crate) lost_seen: AtomicU64,
    pub(crate) read_ahead: Mutex<ReadAhead>,
    /// With its open the kernel drops the file's pages, of which other handles may just be making use.
    pub(crate) drops_pages: Mutex<Option<Dropping>>,
    /// Nothing was asked through it yet.
    pub(crate) is_unused: AtomicBool,
}

impl OpenFile {
    /// The kernel has opened it, and makes use of it.
    pub(crate) fn used(&self) {
        if self.is_unused.load(Ordering::Acquire) && self.is_unused.swap(false, Ordering::AcqRel) {
            let dropping = self.drops_pages.lock().take();
            if let Some(dropping) = dropping {
                dropping.end_of_open();
            }
        }
    }

    /// The file's write error, for fsync and close: once per handle.
    pub(crate) fn take_error(&self) -> Result<(), Status> {
        let result = self.take_unseen(&self.error_seen);
        // What was reported here is news to no write.
        self.error_seen_by_write.fetch_max(self.error_seen.load(Ordering::Acquire), Ordering::AcqRel);
        result
    }

    /// The file's write error, for a write: once per handle, and fsync or close still reports it. The kernel splits a long
    /// write; when a later part fails, the program sees a short count and no error.
    pub(crate) fn take_error_by_write(&self) -> Result<(), Status> {
        self.take_unseen(&self.error_seen_by_write)
    }

    fn take_unseen(&self, last_seen: &AtomicU64) -> Result<(), Status> {
        let Some(error) = self.file.inner.lock().error else { return Ok(()) };
        let seen = last_seen.fetch_max(error.number, Ordering::AcqRel);
        if seen < error.number { Err(error.status) } else { Ok(()) }
    }
}

/// An open directory, and what is left of the last page that was fetched for it.
pub(crate) struct OpenDirectory {
    pub(crate) ino: Ino,
    pub(crate) page: Mutex<Option<Page>>,
    pub(crate) reading: Mutex<Option<Reading>>,
    /// As of files.
    pub(crate) lost_seen: AtomicU64,
}

impl OpenDirectory {
    fn new(ino: Ino, lost_seen: AtomicU64) -> Self {
        Self { ino, page: Mutex::new(None), reading: Mutex::new(None), lost_seen }
    }
}

/// Handles of files and directories.
pub(crate) struct Handles {
    next: AtomicU64,
    files: Vec<RwLock<HashMap<u64, Arc<OpenFile>>>>,
    directories: RwLock<HashMap<u64, Arc<OpenDirectory>>>,
}

impl Handles {
    pub(crate) fn new() -> Self {
        Self {
            next: AtomicU64::new(1),
            files: (0..SHARDS).map(|_| RwLock::default()).collect(),
            directories: RwLock::default(),
        }
    }

    pub(crate) fn add(&self, open: OpenFile) -> Handle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(shard) = self.shard(handle) {
            shard.write().insert(handle, Arc::new(open));
        }
        Handle(handle)
    }

    pub(crate) fn file(&self, handle: Handle) -> Result<Arc<OpenFile>, Status> {
        let found = self.shard(handle.0).and_then(|shard| shard.read().get(&handle.0).cloned());
        found.ok_or(Status::BadHandle)
    }

    pub(crate) fn remove(&self, handle: Handle) -> Option<Arc<OpenFile>> {
        self.shard(handle.0)?.write().remove(&handle.0)
    }

    pub(crate) fn add_directory(&self, ino: Ino, lost_seen: AtomicU64) -> Handle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.directories.write().insert(handle, Arc::new(OpenDirectory::new(ino, lost_seen)));
        Handle(handle)
    }

    pub(crate) fn directory(&self, handle: Handle) -> Result<Arc<OpenDirectory>, Status> {
        self.directories.read().get(&handle.0).cloned().ok_or(Status::BadHandle)
    }

    pub(crate) fn remove_directory(&self, handle: Handle) {
        self.directories.write().remove(&handle.0);
    }

    fn shard(&self, handle: u64) -> Option<&RwLock<HashMap<u64, Arc<OpenFile>>>> {
        self.files.get((handle % SHARDS) as usize)
    }
}

/// File states by inode.
pub(crate) struct Files {
    shards: Vec<Mutex<HashMap<Ino, Arc<FileState>>>>,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<Arc<FileState>> {
        self.shard(ino)?.lock().get(&ino).cloned()
    }

    /// The state of `ino` with one more open; `make` makes it when there is none. True when it was made.
    pub(crate) fn open(&self, ino: Ino, make: impl FnOnce() -> FileState) -> (Arc<FileState>, bool) {
        let Some(shard) = self.shard(ino) else { return (Arc::new(make()), true) };
        let mut shard = shard.lock();
        let mut made = false;
        let file = shard.entry(ino).or_insert_with(|| {
            made = true;
            Arc::new(make())
        });
        file.opens.fetch_add(1, Ordering::AcqRel);
        (Arc::clone(file), made)
    }

    /// One open less.
    pub(crate) fn close(&self, file: &Arc<FileState>) {
        let Some(shard) = self.shard(file.ino) else { return };
        let mut shard = shard.lock();
        file.opens.fetch_sub(1, Ordering::AcqRel);
        forget_if_idle(&mut shard, file);
    }

    /// Forgets a state that nobody needs.
    pub(crate) fn forget_idle(&self, file: &Arc<FileState>) {
        if let Some(shard) = self.shard(file.ino) {
            forget_if_idle(&mut shard.lock(), file);
        }
    }

    /// All states.
    pub(crate) fn all(&self) -> Vec<Arc<FileState>> {
        self.shards.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>()).collect()
    }

    fn shard(&self, ino: Ino) -> Option<&Mutex<HashMap<Ino, Arc<FileState>>>> {
        self.shards.get((ino.get() % SHARDS) as usize)
    }
}

fn forget_if_idle(shard: &mut HashMap<Ino, Arc<FileState>>, file: &Arc<FileState>) {
    if file.opens.load(Ordering::Acquire) == 0 && !file.inner.lock().is_dirty() {
        shard.remove(&file.ino);
    }
}
