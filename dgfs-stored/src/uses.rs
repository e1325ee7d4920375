//! How often each chunk is used: a compact table in memory.
//!
//! Never on the way of durability: what is lost here are numbers. Always: at most [`CHUNKS_MAX`] chunks; when there are more, one
//! that was not used for long makes room; whoever looks sees every use that was counted before. `journal` keeps the table on the disk, `totals` what is counted by class and partition.

pub(crate) mod journal;
pub(crate) mod totals;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dgfs_proto::chunk::UseOrder;
use dgfs_proto::ids::ChunkId;
use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};

/// Chunks counted. A million takes 62 to 75 MB of memory, this many 150 MB.
pub const CHUNKS_MAX: usize = 2 << 20;
/// Parts of the table, each with a lock of its own: a pass over one takes some tens of µs.
const SHARDS: usize = 64;
const SHARD_ROWS_MAX: usize = CHUNKS_MAX / SHARDS;
/// Uses that a part gathers before it finds their rows: one by one, each would wait for memory several times (the rows of a
/// million chunks fit into no cache); in a row those waits overlap. All parts gather 128 KiB, which a core's cache holds.
const GATHERED_MAX: usize = 64;
/// Candidates looked at when one must make room.
const CANDIDATES: u64 = 8;
/// Names of removed chunks kept until the next save; if there are more, the whole table is written.
const GONE_MAX: usize = 4096;
/// Windows of the working set: the label, and seconds.
pub(crate) const WINDOWS: [(&str, u32); 3] = [("5m", 300), ("1h", 3600), ("1d", 86_400)];

/// Use of one chunk since it was first counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The chunk, or shard, as it is named here.
    pub chunk: ChunkId,
    /// Gets.
    pub reads: u64,
    /// Puts.
    pub writes: u64,
    /// Bytes got.
    pub read_bytes: u64,
    /// Bytes put.
    pub write_bytes: u64,
    /// Gets and puts that failed because of the disk or of damage.
    pub errors: u32,
    /// Seconds since 1970, of the last get or put.
    pub last_use: u32,
    /// Bytes of data it had then.
    pub bytes: u32,
    /// Changed since the last save.
    is_dirty: bool,
}

// The bound in the documentation counts with it.
const _: () = assert!(size_of::<Use>() == 56);

impl Use {
    fn new(chunk: ChunkId) -> Self {
        let (reads, writes, read_bytes, write_bytes) = (0, 0, 0, 0);
        Self { chunk, reads, writes, read_bytes, write_bytes, errors: 0, last_use: 0, bytes: 0, is_dirty: false }
    }

    /// What it is put in order by.
    fn rank(&self, by: UseOrder) -> u64 {
        match by {
            UseOrder::Reads => self.reads,
            UseOrder::Writes => self.writes,
            UseOrder::Bytes => self.read_bytes.saturating_add(self.write_bytes),
            UseOrder::Errors => u64::from(self.errors),
            UseOrder::Recent => u64::from(self.last_use),
        }
    }
}

/// One use.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Used {
    /// A get of so many bytes.
    Read(u64),
    /// A put of so many bytes.
    Written(u64),
    /// A get or put that failed.
    Failed,
}

/// A use that was counted, and not yet added to its chunk's row.
#[derive(Clone, Copy)]
struct Gathered {
    chunk: ChunkId,
    /// Seconds since 1970.
    now: u32,
    /// Bytes of data it had then.
    bytes: u32,
    used: Used,
}

// What is said of the cache counts with it.
const _: () = assert!(size_of::<Gathered>() == 32);

impl Gathered {
    fn add_to(self, row: &mut Use) {
        match self.used {
            Used::Read(len) => {
                row.reads += 1;
                row.read_bytes = row.read_bytes.saturating_add(len);
            }
            Used::Written(len) => {
                row.writes += 1;
                row.write_bytes = row.write_bytes.saturating_add(len);
            }
            Used::Failed => row.errors = row.errors.saturating_add(1),
        }
        // An error tells neither how much there is nor that anybody could use it.
        if !matches!(self.used, Used::Failed) {
            row.bytes = self.bytes;
            row.last_use = self.now;
        }
        row.is_dirty = true;
    }
}

/// What one pass over the table found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// Chunks with a row.
    pub(crate) chunks: u64,
    /// Memory of the table.
    pub(crate) memory_bytes: u64,
    /// Those with the most gets and puts, the first the busiest.
    pub(crate) hot: Vec<Use>,
    /// For each of [`WINDOWS`]: chunks used in it, and the bytes of data they have.
    pub(crate) working_set: [(u64, u64); WINDOWS.len()],
}

/// Rows that changed, and chunks that are gone, since the last call.
pub(crate) struct Changes {
    pub(crate) rows: Vec<Use>,
    pub(crate) gone: Vec<ChunkId>,
    /// There were too many gone to name them: only the whole table says it.
    pub(crate) is_incomplete: bool,
}

/// The table.
pub(crate) struct Uses {
    shards: [Mutex<Shard>; SHARDS],
}

impl Default for Uses {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Uses {
    /// Counts a use of `chunk`, which has `bytes` of data, at `now` (seconds since 1970).
    pub(crate) fn count(&self, chunk: ChunkId, now: u64, bytes: u32, used: Used) {
        let mut shard = self.part(hash_of(chunk)).lock();
        shard.gathered.push(Gathered { chunk, now: u32::try_from(now).unwrap_or(u32::MAX), bytes, used });
        if shard.gathered.len() >= GATHERED_MAX {
            shard.add_gathered();
        }
    }

    /// Forgets a chunk that is not held any more.
    pub(crate) fn remove(&self, chunk: ChunkId) {
        let hash = hash_of(chunk);
        self.shard(hash).remove(chunk, hash);
    }

    /// The row of a chunk.
    pub(crate) fn get(&self, chunk: ChunkId) -> Option<Use> {
        let hash = hash_of(chunk);
        let shard = self.shard(hash);
        shard.find(chunk, hash).and_then(|slot| shard.rows.get(slot).copied())
    }

    /// The first `limit` by `by`, the greatest first; those that have none of it are left out.
    pub(crate) fn top(&self, by: UseOrder, limit: usize) -> Vec<Use> {
        let mut best = Best::new(limit);
        for shard in self.shards() {
            for row in &shard.rows {
                best.offer(row.rank(by), row);
            }
        }
        best.into_rows()
    }

    /// Counts what the numbers for the outside are made of; `hot` chunks are named.
    pub(crate) fn survey(&self, now: u64, hot: usize) -> Survey {
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        let mut survey = Survey::default();
        let mut best = Best::new(hot);
        for shard in self.shards() {
            survey.chunks += shard.rows.len() as u64;
            survey.memory_bytes += shard.memory_bytes();
            for row in &shard.rows {
                best.offer(row.reads.saturating_add(row.writes), row);
                let age = now.saturating_sub(row.last_use);
                for ((_, window), (chunks, bytes)) in WINDOWS.iter().zip(&mut survey.working_set) {
                    if age <= *window {
                        *chunks += 1;
                        *bytes += u64::from(row.bytes);
                    }
                }
            }
        }
        survey.hot = best.into_rows();
        survey
    }

    /// Hands out what changed since the last call, shard by shard.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Changes> {
        self.shards().map(|mut shard| shard.changes())
    }

    /// All rows, shard by shard, as if the changes had been handed out, too.
    pub(crate) fn all(&self) -> impl Iterator<Item = Vec<Use>> {
        self.shards().map(|mut shard| {
            let _handed = shard.changes();
            shard.rows.clone()
        })
    }

    /// Chunks with a row.
    pub(crate) fn len(&self) -> usize {
        self.shards().map(|shard| shard.rows.len()).sum()
    }

    /// Puts a row in that was read from the disk.
    fn restore(&self, row: Use) {
        let hash = hash_of(row.chunk);
        if let Some(own) = self.shard(hash).row(row.chunk, hash) {
            *own = row;
        }
    }

    /// The part of a chunk, nothing gathered.
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        let mut shard = self.part(hash).lock();
        shard.add_gathered();
        shard
    }

    /// Each part, nothing gathered.
    fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(|shard| {
            let mut shard = shard.lock();
            shard.add_gathered();
            shard
        })
    }

    fn part(&self, hash: u64) -> &Mutex<Shard> {
        // The hash table inside goes by the lowest and the highest bits.
        let [first, ..] = &self.shards;
        self.shards.get((hash >> 40) as usize % SHARDS).unwrap_or(first)
    }
}

/// Rows without a gap, and where each chunk's is: 5 bytes more for each place in the hash table.
#[derive(Default)]
struct Shard {
    slots: HashTable<u32>,
    rows: Vec<Use>,
    gone: Vec<ChunkId>,
    is_incomplete: bool,
    gathered: Vec<Gathered>,
}

impl Shard {
    /// Adds what was gathered to the rows.
    fn add_gathered(&mut self) {
        let mut gathered = std::mem::take(&mut self.gathered);
        for used in gathered.drain(..) {
            if let Some(row) = self.row(used.chunk, hash_of(used.chunk)) {
                used.add_to(row);
            }
        }
        // Empty, and with its memory.
        self.gathered = gathered;
    }

    fn find(&self, chunk: ChunkId, hash: u64) -> Option<usize> {
        let is_it = |slot: &u32| self.rows.get(*slot as usize).is_some_and(|row| row.chunk == chunk);
        self.slots.find(hash, is_it).map(|slot| *slot as usize)
    }

    /// The row of `chunk`, made where missing.
    fn row(&mut self, chunk: ChunkId, hash: u64) -> Option<&mut Use> {
        let slot = match self.find(chunk, hash) {
            Some(slot) => slot,
            None => self.insert(chunk, hash),
        };
        self.rows.get_mut(slot)
    }

    fn insert(&mut self, chunk: ChunkId, hash: u64) -> usize {
        if self.rows.len() >= SHARD_ROWS_MAX {
            self.make_room(hash);
        }
        // By an eighth, not by doubling: a row is large beside what it costs to move some thousands.
        if self.rows.len() == self.rows.capacity() {
            self.rows.reserve_exact(self.rows.len() / 8 + 16);
        }
        let slot = self.rows.len();
        self.rows.push(Use::new(chunk));
        let rows = &self.rows;
        let rehash = |slot: &u32| rows.get(*slot as usize).map_or(0, |row| hash_of(row.chunk));
        self.slots.insert_unique(hash, u32::try_from(slot).unwrap_or(u32::MAX), rehash);
        slot
    }

    /// Forgets, of some rows, the one that was not used for longest.
    fn make_room(&mut self, hash: u64) {
        let candidate = |at: u64| {
            let at = hash_of_word(hash.wrapping_add(at)) % self.rows.len().max(1) as u64;
            self.rows.get(at as usize)
        };
        let oldest = (0..CANDIDATES).filter_map(candidate).min_by_key(|row| row.last_use).map(|row| row.chunk);
        if let Some(oldest) = oldest {
            self.remove(oldest, hash_of(oldest));
        }
    }

    fn remove(&mut self, chunk: ChunkId, hash: u64) {
        let Some(slot) = self.find(chunk, hash) else { return };
        let (last, number) = (self.rows.len() - 1, |slot: usize| u32::try_from(slot).unwrap_or(u32::MAX));
        if let Ok(entry) = self.slots.find_entry(hash, |own| *own == number(slot)) {
            entry.remove();
        }
        self.rows.swap_remove(slot);
        // The last row lies in the gap now.
        if let Some(moved) = self.rows.get(slot).map(|row| hash_of(row.chunk))
            && let Some(own) = self.slots.find_mut(moved, |own| *own == number(last))
        {
            *own = number(slot);
        }
        if self.gone.len() < GONE_MAX {
            self.gone.push(chunk);
        } else {
            self.is_incomplete = true;
        }
    }

    fn changes(&mut self) -> Changes {
        let mut rows = Vec::new();
        for row in self.rows.iter_mut().filter(|row| row.is_dirty) {
            row.is_dirty = false;
            rows.push(*row);
        }
        let is_incomplete = std::mem::take(&mut self.is_incomplete);
        Changes { rows, gone: std::mem::take(&mut self.gone), is_incomplete }
    }

    fn memory_bytes(&self) -> u64 {
        let rows = self.rows.capacity() * size_of::<Use>();
        // Each place has a number and a byte of control; an eighth of the places stays empty.
        let places = (self.slots.capacity() * 8 / 7) * (size_of::<u32>() + 1);
        let gathered = self.gathered.capacity() * size_of::<Gathered>();
        (rows + places + gathered + self.gone.capacity() * size_of::<ChunkId>()) as u64
    }
}

/// The best rows of many, in memory of as many.
struct Best {
    limit: usize,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    rows: Vec<(u64, Use)>,
}

impl Best {
    fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::new(), rows: Vec::new() }
    }

    fn offer(&mut self, rank: u64, row: &Use) {
        let least = self.heap.peek().map_or(0, |Reverse((rank, _))| *rank);
        if rank == 0 || self.limit == 0 || (self.heap.len() >= self.limit && rank <= least) {
            return;
        }
        if self.heap.len() >= self.limit {
            self.heap.pop();
        }
        self.heap.push(Reverse((rank, row.chunk.get())));
        self.rows.push((rank, *row));
        // Rows that others have driven out meanwhile go in one pass for many.
        if self.rows.len() >= self.limit * 2 + 64 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.rows.sort_unstable_by_key(|(rank, row)| (Reverse(*rank), row.chunk));
        self.rows.truncate(self.limit);
    }

    fn into_rows(mut self) -> Vec<Use> {
        self.cut();
        self.rows.into_iter().map(|(_, row)| row).collect()
    }
}

fn hash_of(chunk: ChunkId) -> u64 {
    hash_of_word(chunk.get())
}

/// Spreads numbers that were given out one after another over all bits.
fn hash_of_word(word: u64) -> u64 {
    let once = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (once ^ (once >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

#[cfg(test)]
mod tests;
