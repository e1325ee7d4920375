//! What a store holds, in order, by pages.
//!
//! Never reads a record: the table says it all.

use dgfs_proto::chunk::{HeldVersion, VersionId};
use dgfs_proto::ids::{ChunkId, Ino};
use dgfs_proto::limits::LIST_MAX;
use dgfs_proto::status::Status;

use super::Store;
use crate::index::{Entry, State};

/// Rows looked at for one page of a listing.
const LIST_SCAN: usize = 1024;

/// A held version and its age, for the orphan collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What a listing says.
    pub held: HeldVersion,
    /// Seconds since 1970 at the put.
    pub put_at: u64,
}

impl Store {
    /// The versions held behind `after`, in order, at most `limit`; fewer means the end.
    ///
    /// # Errors
    /// `Io` when the index fails.
    pub fn list(&self, after: Option<VersionId>, limit: usize) -> Result<Vec<Held>, Status> {
        self.list_until(after, None, limit)
    }

    /// As [`Self::list`], of chunks below `until` only.
    ///
    /// # Errors
    /// `Io` when the index fails.
    pub fn list_until(
        &self,
        after: Option<VersionId>,
        until: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<Held>, Status> {
        let limit = limit.min(LIST_MAX);
        let mut out = Vec::new();
        let mut after = after;
        while out.len() < limit {
            let page = self.shelf.table.page(after, LIST_SCAN).map_err(|error| {
                tracing::error!(%error, "the index refused a listing");
                Status::Io
            })?;
            after = page.entries.last().map(|(id, _)| *id);
            let passed = |id: VersionId| until.is_some_and(|until| id.chunk >= until);
            let live = page.entries.iter().filter_map(|(id, entry)| Some((*id, (*entry)?)));
            let live = live.filter(|(id, entry)| entry.state == State::Live && !passed(*id));
            out.extend(live.filter_map(|(id, entry)| held(id, &entry)).take(limit - out.len()));
            if page.end || after.is_some_and(passed) {
                break;
            }
        }
        Ok(out)
    }
}

fn held(id: VersionId, entry: &Entry) -> Option<Held> {
    let owner = Ino::new(entry.owner)?;
    let held = HeldVersion { id, allocated: entry.allocated, owner, index: entry.index };
    Some(Held { held, put_at: entry.put_at })
}
