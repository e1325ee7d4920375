//! One mount's parts in one place, and what all of them need.
//!
//! Never decides: each operation has its own file. The facade [`crate::vfs::Vfs`] and the background tasks share it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::VolumeInfo;

use crate::budget::Budget;
use crate::cache::attrs::AttrCache;
use crate::cache::blocks::BlockCache;
use crate::cache::disk::DiskCache;
use crate::cache::entries::EntryCache;
use crate::cache::shards::Shards;
use crate::config::VfsConfig;
use crate::file::open::KernelPages;
use crate::file::page_reads::Dropping;
use crate::file::state::Content;
use crate::grants::Grants;
use crate::handles::{Files, Handles};
use crate::locks::LockWaits;
use crate::meta_link::MetaLink;
use crate::metrics::Counters;
use crate::operation::Op;
use crate::policy::Policies;
use crate::recalls::{BusyNames, UnderRecall};
use crate::registering::Registering;
use crate::stores::Stores;
use crate::tags::link::GraphLink;
use crate::tags::unread::Unread;
use crate::vfs::{CacheTtl, Forget, KernelCache, Since};
use crate::writer::DirtyFiles;

/// A mount.
pub(crate) struct Core {
    pub(crate) config: VfsConfig,
    pub(crate) volume: VolumeInfo,
    pub(crate) link: MetaLink,
    pub(crate) graph: GraphLink,
    /// What answers of the graph may take.
    pub(crate) unread: Arc<Unread>,
    pub(crate) stores: Stores,
    pub(crate) grants: Grants,
    pub(crate) budget: Budget,
    pub(crate) handles: Handles,
    pub(crate) files: Files,
    pub(crate) attrs: AttrCache,
    pub(crate) entries: EntryCache,
    pub(crate) blocks: BlockCache,
    pub(crate) disk: Option<Arc<DiskCache>>,
    pub(crate) policies: Policies,
    pub(crate) pages: KernelPages,
    /// Where the bytes of files closed lately are, by data version: open again, they are readable while metadata are away.
    pub(crate) contents: Shards<Ino, (u64, Content)>,
    pub(crate) dirty: DirtyFiles,
    pub(crate) lock_waits: LockWaits,
    pub(crate) kernel: OnceLock<Arc<dyn KernelCache>>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) counters: Arc<Counters>,
    pub(crate) prefetches: Arc<tokio::sync::Semaphore>,
    pub(crate) busy_names: BusyNames,
    pub(crate) under_recall: UnderRecall,
    /// Opens are registered and released one message after the other.
    pub(crate) registering: tokio::sync::Mutex<Option<Registering>>,
    closing: AtomicBool,
    closed: Notify,
}

/// What [`Core::new`] joins.
pub(crate) struct CoreParts {
    pub(crate) config: VfsConfig,
    pub(crate) volume: VolumeInfo,
    pub(crate) link: MetaLink,
    pub(crate) graph: GraphLink,
    pub(crate) stores: Stores,
    pub(crate) disk: Option<Arc<DiskCache>>,
    pub(crate) counters: Arc<Counters>,
}

/// How long the kernel may believe what is leased before it asks again (and is answered here): the lease may end before
/// it is renewed.
const LEASED_TTL_MAX: Duration = Duration::from_secs(10);
/// Contents of closed files that are remembered.
const CONTENTS_MAX: usize = 4096;

/// Blocks fetched ahead at once, in all files together.
const PREFETCHES_MAX: usize = 64;

impl Core {
    pub(crate) fn new(parts: CoreParts) -> Self {
        let budget = Budget::new(parts.config.write_back_bytes.max(crate::config::WRITE_BACK_BYTES_MIN));
        let blocks = BlockCache::new(parts.config.read_cache_bytes);
        let caching = !parts.config.local;
        Self {
            config: parts.config,
            volume: parts.volume,
            link: parts.link,
            graph: parts.graph,
            unread: Arc::default(),
            stores: parts.stores,
            grants: Grants::default(),
            budget,
            handles: Handles::new(),
            files: Files::new(),
            attrs: AttrCache::new(caching),
            entries: EntryCache::new(caching),
            blocks,
            disk: parts.disk,
            policies: Policies::new(),
            pages: KernelPages::new(),
            contents: Shards::new(CONTENTS_MAX),
            dirty: DirtyFiles::default(),
            lock_waits: LockWaits::default(),
            kernel: OnceLock::new(),
            runtime: tokio::runtime::Handle::current(),
            counters: parts.counters,
            prefetches: Arc::new(tokio::sync::Semaphore::new(PREFETCHES_MAX)),
            busy_names: BusyNames::default(),
            under_recall: UnderRecall::default(),
            registering: tokio::sync::Mutex::new(None),
            closing: AtomicBool::new(false),
            closed: Notify::new(),
        }
    }

    /// The patience of a kernel operation that begins now.
    pub(crate) fn op(&self) -> Op {
        Op::within(self.config.deadline, self.config.soft)
    }

    /// The patience of work nobody waits for.
    pub(crate) fn background_op(&self) -> Op {
        Op::within(self.config.deadline, false)
    }

    pub(crate) const fn chunk_bytes(&self) -> u32 {
        self.volume.chunk_bytes
    }

    /// What is known may be believed: no other session exists, or what they change is recalled first. In this process
    /// nothing is kept, as asking is as cheap as remembering.
    pub(crate) fn may_cache(&self) -> bool {
        !self.config.local && (self.link.sole() || !self.link.lease_left().is_zero())
    }

    /// Other sessions may change what this one knows.
    pub(crate) fn is_shared(&self) -> bool {
        !self.link.sole()
    }

    /// How long the kernel may believe what is known since then.
    pub(crate) fn ttl(&self, since: Since, ino: Option<Ino>) -> CacheTtl {
        if self.link.sole() {
            return CacheTtl { attr: self.config.ttl_sole, entry: self.config.ttl_sole };
        }
        let most = self.link.lease_left().min(LEASED_TTL_MAX);
        let attr = since.attrs.zip(ino).is_some_and(|(asked, ino)| self.attrs.unchanged(asked, ino));
        let entry = since.names.is_some_and(|(parent, asked)| {
            self.entries.unchanged(asked, parent) && !self.busy_names.is_busy(parent) && self.kernel_forgets_names()
        });
        let ttl = |leased: bool| if leased { most } else { Duration::ZERO };
        CacheTtl { attr: ttl(attr), entry: ttl(entry) }
    }

    fn kernel_forgets_names(&self) -> bool {
        self.kernel.get().is_some_and(|kernel| kernel.can_forget_names())
    }

    /// Waits until the kernel has forgotten what it must not believe any more.
    pub(crate) async fn forget_in_kernel(&self, what: Vec<Forget>) {
        let Some(kernel) = self.kernel.get().filter(|_| !what.is_empty()) else { return };
        let inode = |forget: &Forget| if let Forget::Inode(ino) = forget { self.files.get(*ino) } else { None };
        let dropping: Vec<Dropping> = what.iter().filter_map(inode).map(Dropping::new).collect();
        let forgetting = Arc::clone(kernel).forget(what);
        let busy = match dropping.is_empty() {
            true => forgetting.await,
            // The kernel goes on when nobody waits any more.
            false => {
                let forgetting = self.runtime.spawn(async move {
                    let busy = forgetting.await;
                    drop(dropping);
                    busy
                });
                forgetting.await.unwrap_or_default()
            }
        };
        if !busy.is_empty() {
            self.busy_names.add(busy);
            // A name that was told before they counted as busy must not stay.
            let _: Vec<Ino> = Arc::clone(kernel).forget(vec![Forget::AllNames]).await;
        }
    }

    /// Background tasks end from now on.
    pub(crate) fn shut(&self) {
        self.closing.store(true, Ordering::Release);
        self.closed.notify_waiters();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Waits for `step`, or until the mount closes.
    pub(crate) async fn unless_closing<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        let closed = self.closed.notified();
        tokio::pin!(closed);
        closed.as_mut().enable();
        if self.is_closing() {
            return None;
        }
        tokio::select! {
            () = closed => None,
            done = step => Some(done),
        }
    }
}

/// The time by this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}
