//! What a mount asks of the file system, one method for each kernel request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use dgfs_proto::attr::Attr;
use dgfs_proto::ids::{Ino, SessionId};
use dgfs_proto::meta::{
    Caller, DirEntry, LockFamily, LockSpec, NewNode, RemoveKind, RenameMode, SetAttr, VolumeInfo, VolumeUsage,
    XattrMode,
};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use crate::cache::shards::Asked;
use crate::config::{ConnectError, VfsConfig, VfsDeps};
use crate::core::Core;
use crate::metrics::{CallTimes, ClientNumbers, RoundTrips};
use crate::past::SessionToken;
use crate::tags::TagView;

/// An open file or directory of this mount. Never 0, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// How a file is opened; checked from the kernel's flags by the adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// May read.
    pub read: bool,
    /// May write.
    pub write: bool,
    /// Every write goes to the end (O_APPEND).
    pub append: bool,
    /// Cut to nothing first (O_TRUNC).
    pub truncate: bool,
    /// Bypass caches (O_DIRECT).
    pub direct: bool,
    /// Each write is durable when it returns (O_SYNC, O_DSYNC).
    pub sync: bool,
}

/// What the kernel may do with an opened file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its handle.
    pub handle: Handle,
    /// Pages the kernel holds are still true.
    pub keep_cache: bool,
    /// The kernel must not use its page cache for this handle.
    pub direct_io: bool,
    /// A read of it should move the access time (relatime), and there is something to read.
    pub atime_due: bool,
}

/// How long the kernel may believe answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheTtl {
    /// Attributes.
    pub attr: Duration,
    /// Entries, also negative ones.
    pub entry: Duration,
}

/// What `fallocate` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallocate {
    /// Reserves space, growing the file.
    Allocate,
    /// Reserves space, the size stays.
    KeepSize,
    /// Makes a hole, the size stays.
    PunchHole,
    /// Zeros, growing the file.
    ZeroRange,
    /// Zeros, the size stays.
    ZeroRangeKeepSize,
}

/// What `lseek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next data at or behind the offset.
    Data,
    /// The next hole; the end of the file counts as one.
    Hole,
}

/// Attributes, and since when they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Attributes, with this mount's unsent writes.
    pub attr: Attr,
    /// What the kernel may believe of them follows from it: [`Vfs::ttl`].
    pub since: Since,
}

/// What a look-up found: attributes, or that there is no such name; and since when that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Attributes; none: no such name.
    pub attr: Option<Attr>,
    /// What the kernel may believe follows from it.
    pub since: Since,
}

/// A page of a directory, and since when it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its entries.
    pub entries: Vec<DirEntry>,
    /// What the kernel may believe of each follows from it.
    pub since: Since,
}

/// Since when something is known of an inode and of the directory it was found in; nothing where it must not be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    pub(crate) attrs: Option<Asked>,
    pub(crate) names: Option<(Ino, Asked)>,
}

/// What the kernel must forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forget {
    /// Attributes of an inode.
    Attrs(Ino),
    /// Attributes and pages of an inode.
    Inode(Ino),
    /// Attributes of an inode, and pages that hold any of these bytes.
    Pages {
        /// The inode.
        ino: Ino,
        /// The first byte.
        from: u64,
        /// How many; 0: all behind it.
        len: u64,
    },
    /// A name of a directory.
    Name(Ino, Name),
    /// All names of all directories.
    AllNames,
}

/// Tells the kernel what it must forget. Implemented by the adapter.
pub trait KernelCache: Send + Sync + 'static {
    /// Yields once the kernel believes none of it any more; or after a bound, when it is busy with it for longer. Directories
    /// with requests of this mount under way, for whose names all names had to be forgotten, are named.
    fn forget(self: Arc<Self>, what: Vec<Forget>) -> BoxFuture<'static, Vec<Ino>>;
    /// Can names be forgotten while requests for them are under way? Otherwise the kernel must not keep them while
    /// others may change them.
    fn can_forget_names(&self) -> bool;
}

/// A volume in use. Cheap to share; every method may be called from any thread.
///
/// Every future that waits for a peer ends by the deadline of the configuration (hard mounts retry until
/// then), except lock waits.
pub struct Vfs {
    pub(crate) core: Arc<Core>,
    tags: TagView,
}

type Answer<T> = Result<T, Status>;

impl Vfs {
    /// Opens a session. Must be called inside a tokio runtime; background tasks run there.
    ///
    /// # Errors
    /// A sentence that says which server did not answer or why it refused.
    pub async fn connect(config: VfsConfig, deps: VfsDeps) -> Result<Arc<Self>, ConnectError> {
        let core = Core::connect(config, deps).await?;
        Ok(Arc::new(Self { tags: TagView::new(Arc::clone(&core)), core }))
    }

    /// The virtual directories; none where the mount has none.
    #[must_use]
    pub fn tags(&self) -> Option<&TagView> {
        self.core.config.tags_name.is_some().then_some(&self.tags)
    }

    /// Tells the volume whom to ask to forget cached attributes and pages. Only the first call counts.
    pub fn set_kernel_cache(&self, kernel: Arc<dyn KernelCache>) {
        drop(self.core.kernel.set(kernel));
    }

    /// The volume.
    #[must_use]
    pub fn volume(&self) -> &VolumeInfo {
        &self.core.volume
    }

    /// The session's number.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.core.link.session()
    }

    /// What proves to meta later that the session is this mount's: see [`crate::past`].
    #[must_use]
    pub fn session_token(&self) -> Option<SessionToken> {
        self.core.link.token()
    }

    /// Meta has ended the session: every call answers `Stale`.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.core.link.is_dead()
    }

    /// How long calls to peers took, for metrics.
    #[must_use]
    pub fn call_times(&self) -> CallTimes {
        self.core.counters.times.clone()
    }

    /// Calls to peers since the mount began.
    #[must_use]
    pub fn round_trips(&self) -> RoundTrips {
        self.core.counters.round_trips()
    }

    /// Further numbers for metrics.
    #[must_use]
    pub fn numbers(&self) -> ClientNumbers {
        let core = &self.core;
        let (cache_bytes, cache_limit_bytes) = core.blocks.bytes();
        ClientNumbers {
            dirty_bytes: core.budget.used(),
            dirty_limit_bytes: core.budget.limit(),
            kept_waiting: core.link.kept.depth().0,
            cache_bytes,
            cache_limit_bytes,
            disk_cache_bytes: core.disk.as_ref().map_or(0, |disk| disk.bytes()),
            meta_silent_ms: u64::try_from(core.link.silent_for().as_millis()).unwrap_or(u64::MAX),
            ..core.counters.numbers()
        }
    }

    /// The kernel took a write where it was not stored (it appends at the size it has cached): it forgets the file's pages, where others
    /// may have written.
    pub fn forget_misplaced(&self, ino: Ino) {
        if self.core.is_shared() {
            self.core.forget_pages_soon(ino);
        }
    }

    /// Are there, or may there be, other sessions?
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.core.is_shared()
    }

    /// How long the kernel may believe an answer about `ino`. Asked for when the answer is sent: it may have been recalled.
    #[must_use]
    pub fn ttl(&self, since: Since, ino: Option<Ino>) -> CacheTtl {
        self.core.ttl(since, ino)
    }

    /// An entry by name.
    pub async fn lookup(&self, parent: Ino, name: Name) -> Answer<Looked> {
        self.core.lookup(parent, name).await
    }

    /// Attributes, with this mount's unsent writes applied.
    pub async fn getattr(&self, ino: Ino) -> Answer<Seen> {
        self.core.getattr(ino).await
    }

    /// Sets attributes.
    pub async fn setattr(&self, ino: Ino, set: SetAttr) -> Answer<Seen> {
        self.core.setattr(ino, set).await
    }

    /// A symlink's target.
    pub async fn readlink(&self, ino: Ino) -> Answer<Vec<u8>> {
        self.core.readlink(ino).await
    }

    /// mknod, mkdir, symlink.
    pub async fn make(&self, parent: Ino, name: Name, node: NewNode, access: Access) -> Answer<Seen> {
        self.core.check_name_is_free(&name)?;
        self.core.make(parent, name, node, access).await
    }

    /// Makes and opens a regular file. O_EXCL is implied: the kernel looks the name up first, and a lost race
    /// answers `Exists`; without `exclusive` the existing file is opened instead.
    pub async fn create(&self, request: Create) -> Answer<(Seen, Opened)> {
        self.core.check_name_is_free(&request.name)?;
        self.core.create(request).await
    }

    /// A further name.
    pub async fn link(&self, ino: Ino, parent: Ino, name: Name) -> Answer<Seen> {
        self.core.check_name_is_free(&name)?;
        self.core.link(ino, parent, name).await
    }

    /// unlink, rmdir.
    pub async fn remove(&self, parent: Ino, name: Name, kind: RemoveKind) -> Answer<()> {
        self.core.remove(parent, name, kind).await
    }

    /// rename, with NOREPLACE and EXCHANGE.
    pub async fn rename(&self, from: (Ino, Name), to: (Ino, Name), mode: RenameMode) -> Answer<()> {
        self.core.check_name_is_free(&to.1)?;
        self.core.rename(from, to, mode).await
    }

    /// Opens a regular file.
    pub async fn open(&self, ino: Ino, flags: OpenFlags) -> Answer<Opened> {
        self.core.open(ino, flags).await
    }

    /// Reads at most `size` bytes; fewer only at the end of the file.
    pub async fn read(&self, handle: Handle, offset: u64, size: u32) -> Answer<Bytes> {
        self.core.read(handle, offset, size).await
    }

    /// Takes a write without waiting, if there is room and nothing to fetch first; `None` says: use [`Vfs::write`].
    /// With an append handle `offset` is ignored.
    pub fn write_now(&self, handle: Handle, offset: u64, data: &[u8]) -> Option<Answer<u32>> {
        self.core.write_now(handle, offset, data)
    }

    /// Takes a write, waiting for room. All bytes or an error.
    pub async fn write(&self, handle: Handle, offset: u64, data: Bytes) -> Answer<u32> {
        self.core.write(handle, offset, data).await
    }

    /// A write through a handle, which reached the mount at `arrived`, was taken at `offset`, and its program was not told yet: what is
    /// left to be waited for before that. A kernel that keeps pages of `page_bytes` may have read some of them before the write was there. Not for pages of a mapping,
    /// nor where the kernel appends by itself.
    #[must_use]
    pub fn overwritten(
        &self,
        handle: Handle,
        (offset, written): (u64, u32),
        (page_bytes, arrived): (u64, Instant),
    ) -> Option<BoxFuture<'static, ()>> {
        self.core.overwritten(handle, (offset, written), (page_bytes, arrived))
    }

    /// close(2) of one descriptor: everything written is sent and committed; a pending write error is reported here once.
    /// POSIX locks of `lock_owner` on the file are given up.
    pub async fn flush(&self, handle: Handle, lock_owner: u64) -> Answer<()> {
        self.core.flush(handle, lock_owner).await
    }

    /// fsync, fdatasync: everything written is durable (promise 1).
    pub async fn fsync(&self, handle: Handle, data_only: bool) -> Answer<()> {
        let _ = data_only;
        self.core.fsync(handle).await
    }

    /// The last close of a handle. flock locks of `lock_owner`, if given, are given up. Cannot fail.
    pub async fn release(&self, handle: Handle, lock_owner: Option<u64>) {
        self.core.release(handle, lock_owner).await;
    }

    /// Opens a directory.
    pub async fn opendir(&self, ino: Ino) -> Answer<Handle> {
        Ok(self.core.handles.add_directory(ino, self.core.lost_before()))
    }

    /// Entries behind `cookie` (0 at first), without `.` and `..`; an empty page is the end.
    /// Entry cookies are above 255, so the adapter has 1 and 2 for the dots.
    pub async fn readdir(&self, handle: Handle, cookie: u64) -> Answer<Listed> {
        self.core.readdir(handle, cookie).await
    }

    /// The inode a directory handle was opened on, and its parent.
    pub async fn readdir_dots(&self, handle: Handle) -> Answer<(Ino, Ino)> {
        self.core.readdir_dots(handle).await
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: Handle) {
        self.core.handles.remove_directory(handle);
    }

    /// fsync of a directory: its entries are durable.
    pub async fn fsyncdir(&self, handle: Handle) -> Answer<()> {
        self.core.fsync_directory(handle).await
    }

    /// Space and inodes.
    pub async fn statfs(&self) -> Answer<VolumeUsage> {
        self.core.statfs().await
    }

    /// Sets an extended attribute to a value, on behalf of a user: of `user.xdg.tags`, tags that are new are this user's.
    pub async fn setxattr(&self, ino: Ino, named: (Vec<u8>, Vec<u8>), mode: XattrMode, uid: u32) -> Answer<()> {
        self.core.setxattr(ino, named, mode, uid).await
    }

    /// An extended attribute's value.
    pub async fn getxattr(&self, ino: Ino, name: Vec<u8>) -> Answer<Vec<u8>> {
        self.core.getxattr(ino, name).await
    }

    /// Names of all extended attributes.
    pub async fn listxattr(&self, ino: Ino) -> Answer<Vec<Vec<u8>>> {
        self.core.listxattr(ino).await
    }

    /// Removes an extended attribute.
    pub async fn removexattr(&self, ino: Ino, name: Vec<u8>) -> Answer<()> {
        self.core.removexattr(ino, name).await
    }

    /// F_GETLK: the lock in the way.
    pub async fn test_lock(&self, handle: Handle, lock: LockSpec) -> Answer<Option<LockSpec>> {
        self.core.test_lock(handle, lock).await
    }

    /// F_SETLK, F_SETLKW, flock. `ticket` names a waiting request for [`Vfs::cancel_lock`].
    /// A lock won brings fresh attributes and content; giving one up sends what was written first.
    pub async fn lock(&self, handle: Handle, lock: LockSpec, wait: Option<LockTicket>) -> Answer<()> {
        self.core.lock(handle, lock, wait).await
    }

    /// Ends a lock wait: it answers `Interrupted`.
    pub async fn cancel_lock(&self, ticket: LockTicket) {
        self.core.cancel_lock(ticket).await;
    }

    /// Gives up all locks of an owner on an inode.
    pub async fn unlock_owner(&self, ino: Ino, family: LockFamily, owner: u64) {
        self.core.unlock_owner(ino, family, owner).await;
    }

    /// fallocate.
    pub async fn fallocate(&self, handle: Handle, offset: u64, len: u64, what: Fallocate) -> Answer<()> {
        self.core.fallocate(handle, offset, len, what).await
    }

    /// lseek SEEK_DATA, SEEK_HOLE; `NotFound` stands for ENXIO.
    pub async fn seek(&self, handle: Handle, offset: u64, what: Seek) -> Answer<u64> {
        self.core.seek(handle, offset, what).await
    }

    /// copy_file_range: whole chunks are shared by metadata, the rest is copied. Bytes copied.
    pub async fn copy_range(&self, from: (Handle, u64), to: (Handle, u64), len: u64) -> Answer<u64> {
        self.core.copy_range(from, to, len).await
    }

    /// Sends and syncs everything; the session ends. Afterwards every call answers `Stale`.
    pub async fn close(&self) -> Answer<()> {
        self.core.close().await
    }
}

impl Drop for Vfs {
    fn drop(&mut self) {
        self.core.shut();
    }
}

/// Who makes something, and with which rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permission bits asked for.
    pub mode: u16,
    /// The process's umask.
    pub umask: u16,
    /// Who.
    pub caller: Caller,
}

/// A create-and-open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// Directory.
    pub parent: Ino,
    /// Name.
    pub name: Name,
    /// Rights of the new file.
    pub access: Access,
    /// How it is opened.
    pub flags: OpenFlags,
    /// O_EXCL.
    pub exclusive: bool,
}

/// Names a lock wait of this mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockTicket(pub u64);
