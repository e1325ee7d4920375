//! Entries: changes since the last checkpoint in memory, the others in the index.
//!
//! Never writes to the index except in `commit_frozen`, called by the checkpoint.
//! Always: memory wins over the index; changes in memory are bounded by
//! [`CHANGES_MAX`] (puts are refused as busy above it).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use dgfs_proto::chunk::VersionId;
use dgfs_proto::ids::{ChunkId, ChunkVersion};
use parking_lot::RwLock;

use crate::index::{Entry, Index, IndexError};

/// Changes that may wait for a checkpoint: about 16 MiB of memory.
pub(crate) const CHANGES_MAX: usize = 128 << 10;
/// Entries of one index page.
const PAGE: usize = 256;

type Changes = BTreeMap<VersionId, Option<Entry>>;

#[derive(Default)]
struct Overlay {
    active: Changes,
    frozen: Arc<Changes>,
}

/// The entries of a store.
pub(crate) struct Table {
    overlay: RwLock<Overlay>,
    index: Box<dyn Index>,
}

impl Table {
    pub(crate) fn new(index: Box<dyn Index>) -> Self {
        Self { overlay: RwLock::new(Overlay::default()), index }
    }

    /// The entry of `id`.
    pub(crate) fn get(&self, id: VersionId) -> Result<Option<Entry>, IndexError> {
        {
            let overlay = self.overlay.read();
            if let Some(entry) = overlay.active.get(&id).or_else(|| overlay.frozen.get(&id)) {
                return Ok(*entry);
            }
        }
        self.index.get(id)
    }

    /// Sets or removes the entry of `id`.
    pub(crate) fn set(&self, id: VersionId, entry: Option<Entry>) {
        self.overlay.write().active.insert(id, entry);
    }

    /// Changes not yet frozen.
    pub(crate) fn changes(&self) -> usize {
        self.overlay.read().active.len()
    }

    /// Entries behind `after` in order, at most `limit` looked at; none in the answer means the end.
    pub(crate) fn page(&self, after: Option<VersionId>, limit: usize) -> Result<Page, IndexError> {
        let Some(first) = first_behind(after) else { return Ok(Page { entries: Vec::new(), end: true }) };
        let mut merged: Changes = BTreeMap::new();
        // Behind the first `limit` of any of its three parts the merge may have gaps.
        let mut complete_to: Option<VersionId> = None;
        {
            // Before the index is read: what moves there meanwhile is then seen twice, never missed.
            let overlay = self.overlay.read();
            for changes in [&*overlay.frozen, &overlay.active] {
                let part: Vec<_> = changes.range(first..).take(limit).map(|(id, entry)| (*id, *entry)).collect();
                complete_to = least(complete_to, last_if_full(&part, limit));
                merged.extend(part);
            }
        }
        let stored = self.index.scan(first, limit)?;
        complete_to = least(complete_to, last_if_full(&stored, limit));
        for (id, entry) in stored {
            merged.entry(id).or_insert(Some(entry));
        }
        let upper = complete_to.map_or(Bound::Unbounded, Bound::Included);
        let mut entries: Vec<(VersionId, Option<Entry>)> =
            merged.range((Bound::Unbounded, upper)).map(|(id, entry)| (*id, *entry)).collect();
        let end = complete_to.is_none() && entries.len() <= limit;
        entries.truncate(limit);
        Ok(Page { entries, end })
    }

    /// All entries of one chunk.
    pub(crate) fn of_chunk(&self, chunk: ChunkId) -> Result<Vec<(VersionId, Entry)>, IndexError> {
        let mut out = Vec::new();
        let mut after = chunk_start(chunk);
        loop {
            let page = self.page(after, PAGE)?;
            for (id, entry) in &page.entries {
                if id.chunk != chunk {
                    return Ok(out);
                }
                out.extend(entry.map(|entry| (*id, entry)));
            }
            match page.entries.last() {
                Some((id, _)) if !page.end => after = Some(*id),
                Some(_) | None => return Ok(out),
            }
        }
    }

    /// Sets the changes aside for the next commit; new ones gather apart from them.
    pub(crate) fn freeze(&self) {
        let mut overlay = self.overlay.write();
        let overlay = &mut *overlay;
        let active = std::mem::take(&mut overlay.active);
        if overlay.frozen.is_empty() {
            overlay.frozen = Arc::new(active);
        } else {
            // The last commit failed: what it held waits with the rest.
            Arc::make_mut(&mut overlay.frozen).extend(active);
        }
    }

    /// Writes the frozen changes to the index; on return they are on the disk. Blocks.
    pub(crate) fn commit_frozen(&self, generation: u64) -> Result<(), IndexError> {
        let frozen = Arc::clone(&self.overlay.read().frozen);
        self.index.commit(&mut frozen.iter().map(|(id, entry)| (*id, *entry)), generation)?;
        self.overlay.write().frozen = Arc::default();
        Ok(())
    }
}

/// Entries of a stretch of the table.
pub(crate) struct Page {
    /// In order; `None` for one that was removed and is still in the index.
    pub(crate) entries: Vec<(VersionId, Option<Entry>)>,
    /// Nothing lies behind them.
    pub(crate) end: bool,
}

fn last_if_full<T>(part: &[(VersionId, T)], limit: usize) -> Option<VersionId> {
    if part.len() < limit { None } else { part.last().map(|(id, _)| *id) }
}

fn least(one: Option<VersionId>, other: Option<VersionId>) -> Option<VersionId> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn first_behind(after: Option<VersionId>) -> Option<VersionId> {
    let one = |chunk: u64, version: u64| {
        Some(VersionId { chunk: ChunkId::new(chunk)?, version: ChunkVersion::new(version)? })
    };
    match after {
        None => one(1, 1),
        Some(id) => match id.version.get().checked_add(1) {
            Some(version) => one(id.chunk.get(), version),
            None => one(id.chunk.get().checked_add(1)?, 1),
        },
    }
}

/// A position in front of the first version of `chunk`.
fn chunk_start(chunk: ChunkId) -> Option<VersionId> {
    let version = ChunkVersion::new(u64::MAX)?;
    ChunkId::new(chunk.get() - 1).map(|chunk| VersionId { chunk, version })
}
