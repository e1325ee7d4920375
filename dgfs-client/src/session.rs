//! The session's life: it begins, beats, listens for notices, ends.
//!
//! Never changes files. Always: a `Shared` notice is acknowledged only after everything cached was dropped here and
//! in the kernel.

use std::sync::Arc;
use std::time::Duration;

use dgfs_proto::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, HEARTBEAT_MS, SESSION_LEASE_MS};
use dgfs_proto::meta::{MetaReply, MetaRequest, Notice, SessionRequest};
use dgfs_proto::status::Status;

use crate::cache::disk::DiskCache;
use crate::config::{ConnectError, VfsConfig, VfsDeps};
use crate::core::{Core, CoreParts};
use crate::meta_link::MetaLink;
use crate::metrics::Counters;
use crate::operation::{Backoff, Op};
use crate::stores::Stores;
use crate::tags::link::GraphLink;
use crate::vfs::Forget;

/// How long dropping all caches waits for the kernel; what it has begun goes on.
const DROPPED: Duration = Duration::from_secs(5);

impl Core {
    /// Opens a session and starts the tasks that keep it.
    pub(crate) async fn connect(config: VfsConfig, deps: VfsDeps) -> Result<Arc<Self>, ConnectError> {
        if deps.meta.is_empty() {
            return Err(ConnectError::NoMeta);
        }
        let counters = Arc::new(Counters::default());
        let link = MetaLink::new(deps.meta, config.client.clone(), random_key(), Arc::clone(&counters), config.local);
        let op = Op::within(config.deadline, config.soft);
        let volume = match link.mend(&op, 0).await {
            Ok(Some(volume)) => *volume,
            Ok(None) | Err(Status::Unavailable) => return Err(ConnectError::Unreachable { peers: link.peers() }),
            Err(status) => {
                return Err(link.rejection().map_or(ConnectError::Refused(status), ConnectError::Rejected));
            }
        };
        if !volume.chunk_bytes.is_power_of_two() || !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&volume.chunk_bytes) {
            return Err(ConnectError::ChunkBytes(volume.chunk_bytes));
        }
        let disk = match &config.disk_cache {
            Some(cache) => {
                let (cache, uuid, counters) = (cache.clone(), volume.uuid, Arc::clone(&counters));
                let unusable = |reason: String| ConnectError::DiskCache {
                    directory: cache.directory.display().to_string(),
                    reason,
                };
                let directory = cache.directory.clone();
                let opened =
                    tokio::task::spawn_blocking(move || DiskCache::open(&directory, uuid, cache.bytes, counters)).await;
                Some(
                    opened
                        .map_err(|error| unusable(error.to_string()))?
                        .map_err(|error| unusable(error.to_string()))?,
                )
            }
            None => None,
        };
        let (graph, stores) = (GraphLink::new(deps.graph), Stores::new(deps.stores));
        let core = Arc::new(Self::new(CoreParts { config, volume, link, graph, stores, disk, counters }));
        core.refresh_map(&op).await.map_err(ConnectError::Refused)?;
        core.runtime.spawn(Arc::clone(&core).beat_task());
        core.runtime.spawn(Arc::clone(&core).poll_task());
        core.runtime.spawn(Arc::clone(&core).write_back_task());
        core.runtime.spawn(Arc::clone(&core).kept_back_task());
        Ok(core)
    }

    async fn beat_task(self: Arc<Self>) {
        let pause = Duration::from_millis(HEARTBEAT_MS);
        while self.unless_closing(tokio::time::sleep(pause)).await.is_some() && !self.link.is_dead() {
            let op = Op::within(Duration::from_millis(SESSION_LEASE_MS), false);
            let beat = MetaRequest::Session(SessionRequest::Beat);
            let answer = self.unless_closing(self.link.call(&op, beat, pause * 2)).await;
            match answer {
                Some(Ok(MetaReply::Alive { epoch })) => self.reach_epoch(epoch).await,
                Some(Err(status)) => tracing::debug!(%status, "a heartbeat was not answered"),
                Some(Ok(_)) | None => {}
            }
        }
    }

    async fn poll_task(self: Arc<Self>) {
        let (mut done, mut received, mut recalled) = (0, 0, Vec::new());
        let mut was_sole = self.link.sole();
        let mut backoff = Backoff::new();
        loop {
            let op = Op::endless();
            let request = SessionRequest::Poll { done, received, recalled: recalled.clone() };
            let Some(answer) = self.unless_closing(self.link.poll(&op, request)).await else { return };
            if self.link.is_dead() {
                // Nothing of what was known may be believed any more.
                self.drop_caches().await;
                return;
            }
            match answer {
                Ok(MetaReply::Recalls { number, recalls }) => {
                    // The numbers of a writer that took over go on behind those it was told.
                    recalled = if number > received { self.recall(recalls).await } else { Vec::new() };
                    received = received.max(number);
                    backoff = Backoff::new();
                }
                Ok(MetaReply::Notice(Some((number, notice)))) => {
                    recalled.clear();
                    self.carry_out(notice).await;
                    done = number;
                    backoff = Backoff::new();
                }
                Ok(_) => {
                    recalled.clear();
                    backoff = Backoff::new();
                }
                Err(status) => {
                    tracing::debug!(%status, "listening for notices failed; trying again");
                    if self.unless_closing(backoff.pause(&op)).await.is_none() {
                        return;
                    }
                }
            }
            if was_sole && !self.link.sole() {
                self.drop_caches().await;
            }
            was_sole = self.link.sole();
        }
    }

    async fn carry_out(self: &Arc<Self>, notice: Notice) {
        match notice {
            Notice::Sole => {
                self.drop_caches().await;
                // A policy that another mount set is gone by before anything is made ahead.
                if let Err(status) = self.refresh_map(&self.background_op()).await {
                    tracing::debug!(%status, "the map could not be asked for");
                }
                self.link.set_sole(true);
            }
            Notice::Shared => {
                // First nothing is believed any more; then what the kernel was told before runs out, or is taken from it.
                let was_sole = self.link.sole();
                self.link.set_sole(false);
                self.link.kept.revoke_all();
                // From here on nothing is kept back; what was is told before anybody else can look. After a take-over others
                // wait for this before they may send theirs: what is unsent is recalled by itself.
                if was_sole && let Err(status) = self.link.kept.drained(&Op::endless()).await {
                    tracing::warn!(%status, "changes kept back could not be sent");
                }
                if let Err(status) = self.register_own_opens(&Op::endless(), None).await {
                    tracing::warn!(%status, "open files could not be registered");
                }
                // A write that began while this mount was alone has listed its file when its state can be locked.
                for file in self.files.all() {
                    let mut inner = file.inner.lock();
                    inner.writes_kept = false;
                    inner.leased = false;
                }
                // After a take-over others wait for this before they may send theirs: what is unsent is recalled by itself.
                if was_sole && let Err(status) = self.flush_all_open(&self.background_op()).await {
                    tracing::warn!(%status, "another mount joined while writes could not be sent; they are kept");
                }
                self.drop_caches().await;
                if let Err(status) = self.register_own_opens(&Op::endless(), None).await {
                    tracing::warn!(%status, "open files could not be registered");
                }
                if was_sole {
                    tokio::time::sleep(self.config.ttl_sole).await;
                }
            }
        }
    }

    /// Forgets everything that another session may change, in the kernel too.
    pub(crate) async fn drop_caches(self: &Arc<Self>) {
        self.link.kept.revoke_all();
        let mut forget = vec![Forget::AllNames];
        forget.extend(self.attrs.inos().into_iter().map(Forget::Attrs));
        self.attrs.clear();
        self.entries.clear();
        // Rights that come with answers from before are not taken from here on: once more for one that came in between.
        self.link.kept.revoke_all();
        self.pages.clear();
        self.contents.clear();
        for file in self.files.all() {
            let mut inner = file.inner.lock();
            inner.forget_content();
            inner.leased = false;
            inner.writes_kept &= self.link.sole();
            drop(inner);
            forget.push(Forget::Inode(file.ino));
        }
        // The kernel may hold pages for a read that waits for what this is to be answered for.
        drop(tokio::time::timeout(DROPPED, self.forget_in_kernel(forget)).await);
    }

    /// Tells meta that this session ends.
    pub(crate) async fn end_session(&self, op: &Op) {
        let close = MetaRequest::Session(SessionRequest::Close);
        if let Err(status) = self.link.call(op, close, Duration::from_secs(5)).await {
            tracing::debug!(%status, "the metadata service did not take the end of the session; it will run out");
        }
    }
}

/// Proves later that the session is this client's.
fn random_key() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
