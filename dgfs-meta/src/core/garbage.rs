//! Versions that nothing refers to, until every storage daemon that holds them has dropped them.
//!
//! Never hands out an item whose batch could still be undone by a power cut: the old bytes are what recovery goes back
//! to. A daemon that is down is not waited for: when it returns, it asks about everything it holds.

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
/// Items on their way at once: a slow daemon does not make memory grow.
const HANDED_MAX: usize = 32 * ITEMS_PER_BEAT;

/// The queue.
#[derive(Debug)]
pub(crate) struct GarbageQueue {
    items: VecDeque<(GarbageItem, u64)>,
    /// For each daemon what it has yet to drop.
    handed: BTreeMap<ServerId, BTreeMap<u64, VersionId>>,
    /// How many daemons have yet to drop an item.
    waiting: BTreeMap<u64, u32>,
    /// Items below this number and not in `items` or `waiting` lie in the engine only.
    read_from: u64,
    /// Items from this number on were made by this writer and did not fit.
    pub(crate) unread_before: u64,
}

impl GarbageQueue {
    pub(crate) fn new(next: u64) -> Self {
        Self {
            items: VecDeque::new(),
            handed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            read_from: 0,
            unread_before: next,
        }
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
            if !self.waiting.contains_key(number) {
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
        (self.items.len() + self.waiting.len()) as u64
    }

    fn left_for(&self, server: ServerId) -> usize {
        self.handed.get(&server).map_or(0, BTreeMap::len)
    }

    fn hand(&mut self, item: GarbageItem, holders: &[ServerId]) {
        self.waiting.insert(item.number, u32::try_from(holders.len()).unwrap_or(u32::MAX));
        for holder in holders {
            self.handed.entry(*holder).or_default().insert(item.number, item.id);
        }
    }

    /// One daemon fewer has it; true when it was the last one.
    fn settled_by_one(&mut self, number: u64) -> bool {
        let Some(left) = self.waiting.get_mut(&number) else { return false };
        *left = left.saturating_sub(1);
        let last = *left == 0;
        if last {
            self.waiting.remove(&number);
        }
        last
    }
}

impl Core {
    /// Garbage for a server, of batches up to `durable`.
    pub(crate) fn hand_out_garbage(&mut self, server: ServerId, durable: u64) -> Vec<GarbageItem> {
        while self.garbage.left_for(server) < ITEMS_PER_BEAT && self.garbage.waiting.len() < HANDED_MAX {
            let Some((item, ticket)) = self.garbage.items.front().copied() else { break };
            if ticket > durable {
                break;
            }
            let holders = self.cluster.holders_up(item.id.chunk).unwrap_or_default();
            self.garbage.items.pop_front();
            if holders.is_empty() {
                // Nobody who answers has it, and whoever returns asks about all that it holds.
                self.pending.rows.insert(key::garbage(item.number), None);
            } else {
                self.garbage.hand(item, &holders);
            }
        }
        // What was handed out before and not reported is told again: the answer may have been lost.
        let left = self.garbage.handed.get(&server).into_iter().flatten();
        left.take(ITEMS_PER_BEAT).map(|(number, id)| GarbageItem { number: *number, id: *id }).collect()
    }

    /// A server dropped these.
    pub(crate) fn garbage_collected(&mut self, server: ServerId, numbers: &[u64]) {
        for number in numbers {
            let had = self.garbage.handed.get_mut(&server).is_some_and(|items| items.remove(number).is_some());
            if had && self.garbage.settled_by_one(*number) {
                self.pending.rows.insert(key::garbage(*number), None);
            }
        }
    }

    /// Those who are down or gone are not waited for.
    pub(crate) fn forget_garbage_of_absent(&mut self) {
        let answers = |id: &ServerId| self.cluster.member(*id).is_some_and(|member| member.state.up);
        let absent: Vec<ServerId> = self.garbage.handed.keys().filter(|id| !answers(id)).copied().collect();
        for server in absent {
            for number in self.garbage.handed.remove(&server).unwrap_or_default().into_keys() {
                if self.garbage.settled_by_one(number) {
                    self.pending.rows.insert(key::garbage(number), None);
                }
            }
        }
    }
}
