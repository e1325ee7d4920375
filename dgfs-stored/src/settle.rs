//! Which dropped records of a chunk are still of use.
//!
//! Never changes a record. Always: a record is called dead only when every live
//! version of its chunk could be read and none of them shows data of it.

use std::collections::BTreeSet;

use dgfs_proto::chunk::VersionId;
use dgfs_proto::ids::ChunkId;

use crate::index::{Entry, State};
use crate::read::{Fault, Shelf};

/// What became of a chunk's entries.
pub(crate) struct Settled {
    /// Entries that changed, with what they were.
    pub(crate) changed: Vec<(VersionId, Entry, Entry)>,
    /// A live version that could not be read: nothing was called dead.
    pub(crate) fault: Option<(VersionId, Fault)>,
    /// A version of the chunk is still held.
    pub(crate) is_held: bool,
}

impl Shelf {
    /// Drops `ids` of `chunk`, and finds what is dead then. The caller orders changes of the chunk.
    pub(crate) fn settle(&self, chunk: ChunkId, ids: &BTreeSet<VersionId>) -> Result<Settled, Fault> {
        let before = self.table.of_chunk(chunk)?;
        let mut after = before.clone();
        for (id, entry) in &mut after {
            if entry.state == State::Live && ids.contains(id) {
                entry.state = State::Needed;
                self.cache.mark_dropped(*id);
            }
        }
        let fault = match self.sources_of_live(&after) {
            Ok(needed) => {
                let unused = |id: &VersionId, entry: &Entry| entry.state == State::Needed && !needed.contains(id);
                for (id, entry) in after.iter_mut().filter(|(id, entry)| unused(id, entry)) {
                    entry.state = State::Dead;
                    self.cache.remove(*id);
                }
                None
            }
            Err(fault) => Some(fault),
        };
        let is_held = after.iter().any(|(_, entry)| entry.state == State::Live);
        let mut changed = Vec::new();
        for ((id, old), (_, new)) in before.into_iter().zip(after) {
            if old != new {
                self.table.set(id, Some(new));
                changed.push((id, old, new));
            }
        }
        Ok(Settled { changed, fault, is_held })
    }

    fn sources_of_live(&self, entries: &[(VersionId, Entry)]) -> Result<BTreeSet<VersionId>, (VersionId, Fault)> {
        let mut needed = BTreeSet::new();
        for (id, _) in entries.iter().filter(|(_, entry)| entry.state == State::Live) {
            let record = self.record(*id).map_err(|fault| (*id, fault))?;
            needed.extend(
                record.manifest.sources.iter().map(|source| VersionId { chunk: id.chunk, version: source.version }),
            );
        }
        Ok(needed)
    }
}
