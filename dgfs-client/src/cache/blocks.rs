//! Blocks of chunk versions, being fetched or held.
//!
//! Never invalid: a version never changes. Always: bytes held stay below the bound plus the block just added.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use dgfs_proto::chunk::VersionId;
use dgfs_proto::status::Status;

/// Bytes of a block: large enough that a sequential reader asks seldom, small enough to keep some of many files.
pub(crate) const BLOCK_BYTES: u32 = 256 << 10;

/// One block of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub(crate) id: VersionId,
    /// Number of the block inside the chunk.
    pub(crate) block: u32,
}

/// A block some day.
pub(crate) type Fetch = Shared<BoxFuture<'static, Result<Bytes, Status>>>;

/// What the cache knows of a block.
pub(crate) enum Found {
    Held(Bytes),
    OnItsWay(Fetch),
}

pub(crate) struct BlockCache {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    held: HashMap<BlockKey, (Bytes, u64)>,
    /// Keys by use, oldest first; an entry whose stamp is not the block's is skipped.
    order: VecDeque<(BlockKey, u64)>,
    coming: HashMap<BlockKey, Fetch>,
    bytes: usize,
    stamp: u64,
}

impl BlockCache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX), inner: Mutex::default() }
    }

    /// Bytes held now, and bytes that may be.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.inner.lock().bytes as u64, self.bytes_max as u64)
    }

    /// Does it keep anything at all?
    pub(crate) const fn is_off(&self) -> bool {
        self.bytes_max == 0
    }

    /// The block, or its fetch under way; otherwise `start` makes the fetch that everybody waits for.
    pub(crate) fn find_or_start(&self, key: BlockKey, need: usize, start: impl FnOnce() -> Fetch) -> Found {
        let mut inner = self.inner.lock();
        if let Some(bytes) = inner.touch(key, need) {
            return Found::Held(bytes);
        }
        let fetch = inner.coming.entry(key).or_insert_with(start).clone();
        Found::OnItsWay(fetch)
    }

    /// The block if it is held with at least `need` bytes.
    pub(crate) fn held(&self, key: BlockKey, need: usize) -> Option<Bytes> {
        self.inner.lock().touch(key, need)
    }

    /// Is it held or on its way?
    pub(crate) fn knows(&self, key: BlockKey) -> bool {
        let inner = self.inner.lock();
        inner.held.contains_key(&key) || inner.coming.contains_key(&key)
    }

    /// The fetch of a block ended.
    pub(crate) fn arrived(&self, key: BlockKey, answer: Option<&Bytes>) {
        let mut inner = self.inner.lock();
        inner.coming.remove(&key);
        let Some(bytes) = answer else { return };
        inner.stamp += 1;
        let stamp = inner.stamp;
        inner.bytes += bytes.len();
        if let Some((old, _)) = inner.held.insert(key, (bytes.clone(), stamp)) {
            inner.bytes -= old.len();
        }
        inner.order.push_back((key, stamp));
        inner.evict(self.bytes_max);
    }
}

impl Inner {
    fn touch(&mut self, key: BlockKey, need: usize) -> Option<Bytes> {
        let stamp = self.stamp + 1;
        let (bytes, used) = self.held.get_mut(&key)?;
        if bytes.len() < need {
            return None;
        }
        let bytes = bytes.clone();
        *used = stamp;
        self.stamp = stamp;
        self.order.push_back((key, stamp));
        self.forget_old_stamps();
        Some(bytes)
    }

    /// Keeps the order list at a small multiple of what is held.
    fn forget_old_stamps(&mut self) {
        if self.order.len() > 64 + 8 * self.held.len() {
            let held = &self.held;
            self.order.retain(|(key, stamp)| held.get(key).is_some_and(|(_, used)| used == stamp));
        }
    }

    fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some((key, stamp)) = self.order.pop_front() else { return };
            if self.held.get(&key).is_some_and(|(_, used)| *used == stamp)
                && let Some((bytes, _)) = self.held.remove(&key)
            {
                self.bytes -= bytes.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::ids::{ChunkId, ChunkVersion};

    use super::*;

    fn key(block: u32) -> BlockKey {
        BlockKey { id: VersionId { chunk: ChunkId::new(1).unwrap(), version: ChunkVersion::new(1).unwrap() }, block }
    }

    #[test]
    fn the_least_recently_used_block_goes_first() {
        let cache = BlockCache::new(300);
        for block in 0..3 {
            cache.arrived(key(block), Some(&Bytes::from(vec![0; 100])));
        }
        assert!(cache.held(key(0), 100).is_some());
        cache.arrived(key(3), Some(&Bytes::from(vec![0; 100])));
        assert!(cache.held(key(1), 1).is_none());
        assert!(cache.held(key(0), 1).is_some() && cache.held(key(3), 1).is_some());
    }

    #[test]
    fn a_block_shorter_than_needed_is_not_an_answer() {
        let cache = BlockCache::new(300);
        cache.arrived(key(0), Some(&Bytes::from(vec![0; 10])));
        assert!(cache.held(key(0), 11).is_none());
    }
}
