//! Ids for new chunks and versions, taken from ranges meta grants to this session.
//!
//! Never gives a number out twice. Always: a range is asked for before the last one is used up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use dgfs_proto::class::Class;
use dgfs_proto::ids::{ChunkId, ChunkVersion, Ino};
use dgfs_proto::meta::{MetaReply, Mutation};
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::operation::Op;

/// Ids per grant: 4 GiB of new chunks of the default size, and a day of small overwrites.
const CHUNKS: u32 = 1024;
const VERSIONS: u32 = 4096;
/// Inodes per grant.
const INODES: u32 = 4096;

/// Ids looked at for one whose servers have room: each is of another partition. With two of five full, one of ten does with
/// three copies.
const ELSEWHERE_MAX: usize = 1024;

/// The ranges held.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    held: Mutex<Held>,
    /// Only one asks at a time.
    asking: tokio::sync::Mutex<()>,
    ahead: AtomicBool,
    inodes_ahead: AtomicBool,
}

#[derive(Debug, Default)]
struct Held {
    chunks: Range,
    versions: Range,
    /// The range after this one.
    more_chunks: Range,
    more_versions: Range,
    inodes: Range,
    more_inodes: Range,
}

#[derive(Clone, Copy, Debug, Default)]
struct Range {
    next: u64,
    end: u64,
}

impl Range {
    const fn left(self) -> u64 {
        self.end - self.next
    }

    fn take(&mut self, spare: &mut Self) -> Option<u64> {
        if self.next == self.end {
            *self = std::mem::take(spare);
        }
        if self.next == self.end {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

impl Core {
    /// A fresh chunk id of a class, of those whose servers have room, if there are such.
    pub(crate) async fn new_chunk(self: &Arc<Self>, op: &Op, class: Class) -> Result<ChunkId, Status> {
        let chunk = self.next_chunk(op, class).await?;
        let (full, map) = (&self.stores.full, self.stores.map());
        if !full.would_meet(&map, chunk) || !full.leave_enough(&map, class) {
            return Ok(chunk);
        }
        for _ in 0..ELSEWHERE_MAX {
            let chunk = self.next_chunk(op, class).await?;
            if !full.would_meet(&map, chunk) {
                return Ok(chunk);
            }
        }
        // There are enough of them, but not for one partition together: the server says whether it still has no room.
        Ok(chunk)
    }

    async fn next_chunk(self: &Arc<Self>, op: &Op, class: Class) -> Result<ChunkId, Status> {
        loop {
            let taken = {
                let mut held = self.grants.held.lock();
                let Held { chunks, more_chunks, .. } = &mut *held;
                chunks.take(more_chunks).map(|number| ChunkId::of(class, number))
            };
            match taken {
                Some(id) => return id.ok_or(Status::NoSpace),
                None => self.ask_for_ids(op).await?,
            }
        }
    }

    /// A fresh version id.
    pub(crate) async fn new_version(self: &Arc<Self>, op: &Op) -> Result<ChunkVersion, Status> {
        loop {
            let (taken, low) = {
                let mut held = self.grants.held.lock();
                let Held { versions, more_versions, chunks, more_chunks, .. } = &mut *held;
                let taken = versions.take(more_versions).and_then(ChunkVersion::new);
                let low = versions.left() + more_versions.left() < u64::from(VERSIONS) / 4
                    || chunks.left() + more_chunks.left() < u64::from(CHUNKS) / 4;
                (taken, low)
            };
            let Some(id) = taken else {
                self.ask_for_ids(op).await?;
                continue;
            };
            if low && !self.config.local && !self.grants.ahead.swap(true, Ordering::AcqRel) {
                self.ask_ahead();
            }
            return Ok(id);
        }
    }

    fn ask_ahead(self: &Arc<Self>) {
        let core = Arc::clone(self);
        self.runtime.spawn(async move {
            let op = core.background_op();
            // A failure shows again, and is answered, when the ids are really needed.
            let _ = core.ask_for_ids(&op).await;
            core.grants.ahead.store(false, Ordering::Release);
        });
    }

    async fn ask_for_ids(&self, op: &Op) -> Result<(), Status> {
        let _asking = self.grants.asking.lock().await;
        {
            let held = self.grants.held.lock();
            if held.more_chunks.left() > 0 && held.more_versions.left() > 0 {
                return Ok(());
            }
        }
        let request = Mutation::Grant { chunks: CHUNKS, versions: VERSIONS };
        let MetaReply::Granted { chunk, version } = self.link.grant(op, request).await? else {
            return Err(Status::Malformed);
        };
        let mut held = self.grants.held.lock();
        // What is left of a range that is replaced stays unused: numbers are plenty, and never used twice.
        if held.more_chunks.left() == 0 {
            held.more_chunks = Range { next: chunk, end: chunk.saturating_add(u64::from(CHUNKS)) };
        }
        if held.more_versions.left() == 0 {
            held.more_versions = Range { next: version.get(), end: version.get() + u64::from(VERSIONS) };
        }
        Ok(())
    }
}

impl Grants {
    /// The next inode number, in ascending order; none when there is none left. True: it is time to ask for more.
    pub(crate) fn take_ino(&self) -> (Option<Ino>, bool) {
        let mut held = self.held.lock();
        let Held { inodes, more_inodes, .. } = &mut *held;
        let taken = inodes.take(more_inodes).and_then(Ino::new);
        (taken, inodes.left() + more_inodes.left() < u64::from(INODES) / 2)
    }
}

impl Core {
    /// Asks for inode numbers in the background, unless that is being done.
    pub(crate) fn ask_for_inodes_ahead(self: &Arc<Self>) {
        if self.grants.inodes_ahead.swap(true, Ordering::AcqRel) {
            return;
        }
        let core = Arc::clone(self);
        self.runtime.spawn(async move {
            if let Err(status) = core.ask_for_inodes(&core.background_op()).await {
                tracing::debug!(%status, "no inode numbers were granted; files are made one by one");
            }
            core.grants.inodes_ahead.store(false, Ordering::Release);
        });
    }

    async fn ask_for_inodes(&self, op: &Op) -> Result<(), Status> {
        if self.grants.held.lock().more_inodes.left() > 0 {
            return Ok(());
        }
        let request = Mutation::GrantInodes { count: INODES };
        let MetaReply::InodesGranted(ino) = self.link.grant(op, request).await? else {
            return Err(Status::Malformed);
        };
        let range = Range { next: ino.get(), end: ino.get().saturating_add(u64::from(INODES)) };
        self.grants.held.lock().more_inodes = range;
        Ok(())
    }
}
