//! Events of the change log: what each change says to those who follow.
//!
//! Never left out: whatever changes an inode's attributes, as far as the graph keeps them, is in the events of that change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::graph::NodeFacts;
use dgfs_proto::ids::{Seq, SessionId};
use dgfs_proto::log::{Change, Event};

use crate::core::Core;
use crate::engine::{RowKey, Table};
use crate::rows::{Row, key};

/// Events that are remembered, and about how many bytes of them: what a follower that keeps up has not heard of yet.
const RECENT_MAX: usize = 8192;
const RECENT_BYTES_MAX: usize = 4 << 20;

/// The end of the log in memory, without gaps; those at its very end may not be committed yet.
#[derive(Debug, Default)]
pub(crate) struct RecentEvents {
    events: VecDeque<Event>,
    bytes: usize,
}

impl RecentEvents {
    fn push(&mut self, event: Event) {
        self.bytes += weight(&event);
        self.events.push_back(event);
        while self.events.len() > RECENT_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some(gone) = self.events.pop_front() else { return };
            self.bytes -= weight(&gone);
        }
    }

    /// Nothing is known any more: some of them did not come to be.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Events behind `after` up to `head`, at most `limit` and about `bytes_max`; none when they are not all here.
    pub(crate) fn page(&self, (after, head): (Seq, Seq), limit: usize, bytes_max: usize) -> Option<Vec<Event>> {
        let first = self.events.front()?.seq;
        if after.next() < first {
            return None;
        }
        let from = self.events.partition_point(|event| event.seq <= after);
        let mut bytes = 0;
        let fits = |event: &&Event| {
            bytes += weight(event);
            event.seq <= head && bytes <= bytes_max
        };
        let page: Vec<Event> = self.events.range(from..).take(limit).take_while(fits).cloned().collect();
        (!page.is_empty()).then_some(page)
    }
}

/// About how many bytes an event takes.
fn weight(event: &Event) -> usize {
    let inside = match &event.change {
        Change::Data(change) => change.slots.len() * 80 + change.old_inline.as_ref().map_or(0, Vec::len),
        Change::KeptXattr { value, .. } => value.as_ref().map_or(0, Vec::len),
        Change::Tagged { made, tags, vetoes } => {
            let ids: usize = tags.iter().map(|(_, ids)| ids.len()).sum();
            (made.len() + tags.len() + vetoes.len()) * 200 + ids * 8
        }
        Change::TagsChanged(tags) => tags.len() * 300,
        Change::Related { to, .. } => to.len() * 16,
        Change::Saved { expression, .. } => expression.as_ref().map_or(0, String::len),
        Change::Made { .. }
        | Change::Linked { .. }
        | Change::Unlinked { .. }
        | Change::Renamed { .. }
        | Change::AttrSet { .. }
        | Change::Xattr { .. }
        | Change::Freed { .. } => 300,
    };
    200 + inside + event.nodes.len() * 120
}

impl Core {
    /// What the graph keeps of inodes that `writes` change, where that is not what it was.
    pub(super) fn changed_nodes(&mut self, writes: &BTreeMap<RowKey, Option<Arc<Row>>>) -> Vec<NodeFacts> {
        let mut nodes = Vec::new();
        for (key, row) in writes.iter().filter(|(key, _)| key.table == Table::Inode) {
            let Some(Row::Inode(new)) = row.as_deref() else { continue };
            let facts = NodeFacts::from(&new.attr);
            let same = match self.cache.get(*key) {
                Some((Some(old), _)) => matches!(&*old, Row::Inode(old) if NodeFacts::from(&old.attr) == facts),
                Some((None, _)) | None => false,
            };
            if !same {
                nodes.push(facts);
            }
        }
        nodes
    }

    /// Appends the events of one change.
    pub(super) fn append_all(
        &mut self,
        now: Timestamp,
        session: Option<SessionId>,
        (mut changes, mut nodes): (Vec<Change>, Vec<NodeFacts>),
    ) {
        if changes.is_empty() {
            // Nothing that has a name of its own, such as what recovery takes back.
            changes.extend(nodes.first().map(|node| Change::AttrSet { ino: node.ino }));
        }
        let count = changes.len();
        for (at, change) in changes.into_iter().enumerate() {
            let (nodes, continues) = (std::mem::take(&mut nodes), at + 1 < count);
            self.counters.seq = self.counters.seq.next();
            self.counters_dirty = true;
            let event = Event { seq: self.counters.seq, at: now, session, change, nodes, continues };
            self.recent.push(event.clone());
            // Not through the cache: nothing reads an event back by key.
            self.pending.change(key::event(self.counters.seq), Some(Arc::new(Row::Event(event))), true);
        }
    }
}
