//! Fetches committed bytes, through the block cache for sequential readers, and ahead of them.
//!
//! Never fetches ahead for a random reader. Always bounded: a window per handle, fetches at once per mount.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;

use dgfs_proto::chunk::ChunkRef;
use dgfs_proto::status::Status;
use dgfs_runtime::trace::follow_current;

use crate::cache::blocks::{BLOCK_BYTES, BlockKey, Fetch as BlockFetch, Found};
use crate::core::Core;
use crate::file::read::{Fetch, version_of};
use crate::file::slots::Slot;
use crate::file::state::{Content, FileState};
use crate::file::write::split;
use crate::handles::OpenFile;
use crate::metrics::count;
use crate::operation::Op;

/// The first window.
const WINDOW_FIRST: u64 = 1 << 20;
/// Reads this far from where the last one ended still count as sequential: the kernel sends several at once.
const SLACK: u64 = 1 << 20;

/// What a handle's reads look like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadAhead {
    next: u64,
    window: u64,
    /// Fetched ahead up to here.
    until: u64,
}

impl ReadAhead {
    /// A read happens: whether it is sequential, and the range to fetch ahead now.
    pub(crate) fn note(&mut self, offset: u64, size: u32, window_max: u64) -> (bool, Option<(u64, u64)>) {
        let end = offset.saturating_add(u64::from(size));
        let near = offset <= self.next.saturating_add(SLACK) && offset.saturating_add(SLACK) >= self.next;
        if !near {
            *self = Self { next: end, window: 0, until: 0 };
            return (false, None);
        }
        self.next = self.next.max(end);
        if self.until > self.next + self.window / 2 {
            return (true, None);
        }
        self.window = (self.window * 2).clamp(WINDOW_FIRST.min(window_max), window_max);
        let from = self.until.max(self.next);
        self.until = self.next + self.window;
        (true, (from < self.until).then_some((from, self.until)))
    }
}

impl Core {
    /// Notes a read and starts what should be fetched ahead of it; true when the reader is sequential.
    pub(crate) fn read_ahead(self: &Arc<Self>, open: &OpenFile, offset: u64, size: u32) -> bool {
        if self.blocks.is_off() || self.config.read_ahead_bytes_max == 0 {
            return false;
        }
        let (sequential, ahead) = open.read_ahead.lock().note(offset, size, self.config.read_ahead_bytes_max);
        if let Some((from, to)) = ahead {
            self.fetch_ahead(&open.file, from, to);
        }
        sequential
    }

    fn fetch_ahead(self: &Arc<Self>, file: &FileState, from: u64, to: u64) {
        let slots = {
            let inner = file.inner.lock();
            let to = to.min(inner.attr.size);
            let Content::Slots(slots) = &inner.content else { return };
            let mut wanted = Vec::new();
            let mut at = from;
            while at < to {
                let (index, inside) = split(at, inner.chunk_bytes);
                let len = (to - at).min(u64::from(inner.chunk_bytes - inside)) as u32;
                if let Slot::Known(Some(slot)) = slots.get(index) {
                    wanted.push((slot, inside, len));
                }
                at += u64::from(len);
            }
            wanted
        };
        for (slot, inside, len) in slots {
            for block in inside / BLOCK_BYTES..(inside + len).div_ceil(BLOCK_BYTES) {
                if block * BLOCK_BYTES < slot.len && !self.fetch_block_ahead(slot, block) {
                    return;
                }
            }
        }
    }

    /// False when too much is under way already.
    fn fetch_block_ahead(self: &Arc<Self>, slot: ChunkRef, block: u32) -> bool {
        let key = BlockKey { id: version_of(slot), block };
        if self.blocks.knows(key) {
            return true;
        }
        let Ok(permit) = Arc::clone(&self.prefetches).try_acquire_owned() else { return false };
        if let Found::OnItsWay(fetch) = self.blocks.find_or_start(key, 1, || self.block_fetch(slot, block)) {
            count(&self.counters.read_ahead);
            self.runtime.spawn(async move {
                let _permit = permit;
                // Whoever needs the block sees the failure and asks again.
                drop(fetch.await);
            });
        }
        true
    }

    fn block_fetch(self: &Arc<Self>, slot: ChunkRef, block: u32) -> BlockFetch {
        let core = Arc::clone(self);
        let fetch = async move {
            let key = BlockKey { id: version_of(slot), block };
            let from = block * BLOCK_BYTES;
            let len = BLOCK_BYTES.min(slot.len.saturating_sub(from));
            if let Some(bytes) = core.on_disk(key, len as usize).await {
                core.blocks.arrived(key, Some(&bytes));
                return Ok(bytes);
            }
            let op = core.background_op();
            let answer = core.get_chunk(&op, slot, from, len).await;
            core.blocks.arrived(key, answer.as_ref().ok());
            if let (Some(disk), Ok(bytes)) = (&core.disk, &answer) {
                disk.put_soon(&core.runtime, key, bytes.clone());
            }
            answer
        };
        let boxed: futures_util::future::BoxFuture<'static, Result<Bytes, Status>> = Box::pin(follow_current(fetch));
        boxed.shared()
    }

    /// Committed bytes of one chunk.
    pub(crate) async fn fetch(self: &Arc<Self>, op: &Op, fetch: &Fetch, sequential: bool) -> Result<Bytes, Status> {
        if self.blocks.is_off() && self.disk.is_none() {
            return self.get_chunk(op, fetch.slot, fetch.from, fetch.len).await;
        }
        let (first, last) = (fetch.from / BLOCK_BYTES, (fetch.from + fetch.len - 1) / BLOCK_BYTES);
        if !sequential && !self.holds(fetch, first, last) && !self.will_hold(fetch, first, last) {
            return self.get_chunk(op, fetch.slot, fetch.from, fetch.len).await;
        }
        if first == last {
            return self.part_of_block(fetch, first).await;
        }
        // All are started before the first is waited for.
        for block in first + 1..=last {
            self.fetch_block_ahead(fetch.slot, block);
        }
        let mut bytes = BytesMut::with_capacity(fetch.len as usize);
        for block in first..=last {
            bytes.extend_from_slice(&self.part_of_block(fetch, block).await?);
        }
        Ok(bytes.freeze())
    }

    /// A block of the local disk, if it holds enough of it.
    async fn on_disk(&self, key: BlockKey, need: usize) -> Option<Bytes> {
        let disk = Arc::clone(self.disk.as_ref()?);
        let bytes = self.runtime.spawn_blocking(move || disk.get(key)).await.ok()??;
        (bytes.len() >= need).then_some(bytes)
    }

    /// With a cache on the local disk: are the blocks there? Otherwise they are fetched in the background, for the next time.
    fn will_hold(self: &Arc<Self>, fetch: &Fetch, first: u32, last: u32) -> bool {
        let Some(disk) = &self.disk else { return false };
        let on_disk = |block| disk.has(BlockKey { id: version_of(fetch.slot), block });
        if (first..=last).all(on_disk) {
            return true;
        }
        for block in first..=last {
            let _: bool = self.fetch_block_ahead(fetch.slot, block);
        }
        false
    }

    fn holds(&self, fetch: &Fetch, first: u32, last: u32) -> bool {
        (first..=last).all(|block| {
            let (_, to) = inside_block(fetch, block);
            self.blocks.held(BlockKey { id: version_of(fetch.slot), block }, to).is_some()
        })
    }

    /// The bytes of `fetch` that lie in `block`.
    async fn part_of_block(self: &Arc<Self>, fetch: &Fetch, block: u32) -> Result<Bytes, Status> {
        let key = BlockKey { id: version_of(fetch.slot), block };
        let (from, to) = inside_block(fetch, block);
        let bytes = match self.blocks.find_or_start(key, to, || self.block_fetch(fetch.slot, block)) {
            Found::Held(bytes) => {
                count(&self.counters.cache_hits);
                bytes
            }
            Found::OnItsWay(coming) => {
                count(&self.counters.cache_misses);
                coming.await?
            }
        };
        if bytes.len() >= to {
            return Ok(bytes.slice(from..to));
        }
        // The block was fetched when less of the version counted.
        let op = self.op();
        self.get_chunk(&op, fetch.slot, block * BLOCK_BYTES + from as u32, (to - from) as u32).await
    }
}

/// The part of a block that a fetch wants.
fn inside_block(fetch: &Fetch, block: u32) -> (usize, usize) {
    let start = block * BLOCK_BYTES;
    let from = fetch.from.max(start) - start;
    let to = (fetch.from + fetch.len).min(start + BLOCK_BYTES) - start;
    (from as usize, to as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_window_of_a_sequential_reader_doubles_up_to_its_bound() {
        let mut ahead = ReadAhead::default();
        let mut widest = 0;
        for at in 0..1024_u64 {
            let (sequential, _) = ahead.note(at * 128 * 1024, 128 * 1024, 16 * MIB);
            assert!(sequential);
            widest = widest.max(ahead.window);
            assert!(ahead.until <= ahead.next + 16 * MIB);
        }
        assert_eq!(widest, 16 * MIB);
    }

    #[test]
    fn a_jump_closes_the_window() {
        let mut ahead = ReadAhead::default();
        assert_eq!(ahead.note(0, 4096, 16 * MIB), (true, Some((4096, 4096 + MIB))));
        assert_eq!(ahead.note(500 * MIB, 4096, 16 * MIB), (false, None));
        assert_eq!(ahead.note(100 * MIB, 4096, 16 * MIB), (false, None));
    }

    #[test]
    fn no_byte_is_fetched_ahead_twice() {
        let mut ahead = ReadAhead::default();
        let mut reached = 0;
        for at in 0..500_u64 {
            if let (_, Some((from, to))) = ahead.note(at * 131_072, 131_072, 4 * MIB) {
                assert!(from >= reached);
                reached = to;
            }
        }
    }
}
