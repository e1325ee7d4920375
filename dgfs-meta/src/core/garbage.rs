//! Versions that nothing refers to, until a storage daemon says they are dropped.
//!
//! Never hands out an item whose batch could still be undone by a power cut:
//! the old bytes are what recovery goes back to.

use std::collections::{BTreeMap, VecDeque};

use dgfs_proto::chunk::VersionId;
use dgfs_proto::ids::ServerId;
use dgfs_proto::limits::LIST_MAX;
use dgfs_proto::meta::GarbageItem;

use crate::core::Core;
use crate::rows::key;

/// Items kept in memory; more wait in the engine and are read when these are gone.
pub(crate) const ITEMS_MAX: usize = 100_000;
/// Items a heartbeat's answer carries.
const ITEMS_PER_BEAT: usize = LIST_MAX / 4;

/// The queue.
#[derive(Debug)]
pub(crate) struct GarbageQueue {
    items: VecDeque<(GarbageItem, u64)>,
    /// Handed to a server, not yet reported back.
    handed: BTreeMap<u64, VersionId>,
    /// Items below this number and not in `items` or `handed` lie in the engine only.
    read_from: u64,
    /// Items from this number on were made by this writer and did not fit.
    pub(crate) unread_before: u64,
}

impl GarbageQueue {
    pub(crate) fn new(next: u64) -> Self {
        Self { items: VecDeque::new(), handed: BTreeMap::new(), read_from: 0, unread_before: next }
    }

    /// A new item of batch `ticket`.
    pub(crate) fn push(&mut self, number: u64, id: VersionId, ticket: u64) {
        if self.items.len() < ITEMS_MAX && self.unread_before <= number {
            self.items.push_back((GarbageItem { number, id }, ticket));
        } else {
            self.unread_before = self.unread_before.max(number + 1);
        }
    }

    /// Items of batch `refused` and later ones are none; `next` is the number that comes next.
    pub(crate) fn take_back(&mut self, refused: u64, next: u64) {
        self.items.retain(|(_, ticket)| *ticket < refused);
        self.unread_before = self.unread_before.min(next);
    }

    /// Where to read on in the engine when memory has room; none when everything is in memory.
    pub(crate) fn read_from(&self) -> Option<u64> {
        (self.items.len() < ITEMS_MAX / 2 && self.read_from < self.unread_before).then_some(self.read_from)
    }

    /// Items read from the engine; `complete`: nothing unread is left.
    pub(crate) fn refill(&mut self, items: &[(u64, VersionId)], complete: bool) {
        let before = self.unread_before;
        for (number, id) in items.iter().filter(|(number, _)| *number < before) {
            if !self.handed.contains_key(number) {
                self.items.push_back((GarbageItem { number: *number, id: *id }, 0));
            }
        }
        self.read_from = match items.last() {
            Some((number, _)) if !complete && *number < before => number + 1,
            Some(_) | None => before,
        };
    }

    /// Items waiting.
    pub(crate) fn len(&self) -> u64 {
        (self.items.len() + self.handed.len()) as u64
    }
}

impl Core {
    /// Garbage for a server, of batches up to `durable`.
    pub(crate) fn hand_out_garbage(&mut self, server: ServerId, durable: u64) -> Vec<GarbageItem> {
        let mut out = Vec::new();
        // Items handed out before and not reported are told again: the answer may have been lost.
        for (number, id) in self.garbage.handed.iter().take(ITEMS_PER_BEAT) {
            if holds(&self.assignment, server, *id) {
                out.push(GarbageItem { number: *number, id: *id });
            }
        }
        while out.len() < ITEMS_PER_BEAT {
            let Some((item, ticket)) = self.garbage.items.front().copied() else { break };
            if ticket > durable {
                break;
            }
            self.garbage.items.pop_front();
            self.garbage.handed.insert(item.number, item.id);
            if holds(&self.assignment, server, item.id) {
                out.push(item);
            }
        }
        out
    }

    /// A server dropped these.
    pub(crate) fn garbage_collected(&mut self, numbers: &[u64]) {
        for number in numbers {
            if self.garbage.handed.remove(number).is_some() {
                self.pending.rows.insert(key::garbage(*number), None);
            }
        }
    }
}

fn holds(assignment: &[Vec<ServerId>], server: ServerId, id: VersionId) -> bool {
    assignment.get(id.chunk.partition().0 as usize).is_some_and(|replicas| replicas.contains(&server))
}
