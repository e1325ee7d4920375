//! Events of the change log: what each change says to those who follow.
//!
//! Never left out: whatever changes an inode's attributes, as far as the graph keeps them, is in the events of that change.

use std::collections::BTreeMap;
use std::sync::Arc;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::graph::NodeFacts;
use dgfs_proto::ids::SessionId;
use dgfs_proto::log::{Change, Event};

use crate::core::Core;
use crate::engine::{RowKey, Table};
use crate::rows::{Row, key};

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
            // Not through the cache: nothing reads an event back by key.
            self.pending.change(key::event(self.counters.seq), Some(Arc::new(Row::Event(event))), true);
        }
    }
}
