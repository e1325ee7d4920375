//! The state machine of a volume: rules over rows in memory.
//!
//! Synchronous: no I/O, no clock, no randomness. The shell gives the time and
//! loads the rows that [`Outcome::Need`] names. Invariants: a refused operation
//! changes nothing; every change of the truth appends its events to the log in
//! the same batch; an answer names the batch it must wait for.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::chunk::VersionId;
use dgfs_proto::ids::{Epoch, Ino, OpId, Seq, ServerId, SessionId, TagId};
use dgfs_proto::log::Change;
use dgfs_proto::meta::{Announce, MetaReply, Mutation, VolumeInfo};
use dgfs_proto::status::Status;

use crate::cluster::{Cluster, Stored};
use crate::engine::{RowKey, RowRange, WriterLease};
use crate::rows::{ConsumerRow, Counters, HeldLock, JournalRow, Row, SessionRow, SettingsRow, key};

mod apply;
mod cache;
mod catalogue;
mod events;
mod garbage;
mod kept_back;
mod leases;
mod leasing;
mod lock_waits;
mod opens;
mod ops;
mod orphans;
mod pending;
mod policy;
mod query;
mod rebuild;
mod recover;
mod servers;
mod sessions;
mod tx;
mod watch;

pub(crate) use apply::is_waiting_lock;
pub(crate) use garbage::{GarbageQueue, ITEMS_MAX};
pub(crate) use kept_back::Batch;
pub(crate) use leases::{WaitId, Wanted};
pub(crate) use leasing::Attempt;
pub(crate) use ops::tag::{Xattrs, kept};
pub(crate) use pending::Pending;
pub(crate) use query::Asker;
pub(crate) use rebuild::{Survivors, grows};
pub(crate) use recover::{changes_to_undo, versions_named};
pub(crate) use sessions::{OpenRequest, Session};
pub(crate) use tx::{LoadedRange, Need};
#[cfg(test)]
pub(crate) use watch::ConsumerSeen;
pub(crate) use watch::{Seen, ServerSeen, SessionSeen};

use cache::RowCache;
use catalogue::TagUse;
use events::RecentEvents;
use leases::Leases;
use lock_waits::LockWait;
use opens::Opens;
use tx::{Step, Stop, Tx};

/// What an attempt came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "answers are by far the most, and move once")]
pub(crate) enum Outcome {
    /// The answer, to be sent once batch `ticket` is committed (0: at once).
    Answer { reply: MetaReply, ticket: u64 },
    /// A part was done; apply the same again (rows changed so far go into a batch).
    More,
    /// Load this and try again.
    Need(Need),
    /// Have this carried out, and every session but this one settled, and try again.
    Recall(SessionId, Vec<Wanted>),
}

/// What the shell reads from the engine before the core can start.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) volume: VolumeInfo,
    pub(crate) counters: Counters,
    pub(crate) settings: SettingsRow,
    pub(crate) cluster: Stored,
    pub(crate) sessions: Vec<SessionRow>,
    pub(crate) answers: Vec<(SessionId, OpId, MetaReply)>,
    pub(crate) consumers: Vec<(u64, ConsumerRow)>,
    pub(crate) orphans: Vec<Ino>,
    pub(crate) locks: Vec<(Ino, Vec<HeldLock>)>,
    pub(crate) journal: JournalRow,
    pub(crate) announced: BTreeMap<ServerId, Announce>,
}

/// The state machine.
pub(crate) struct Core {
    pub(crate) volume: VolumeInfo,
    cache: RowCache,
    pub(crate) counters: Counters,
    counters_dirty: bool,
    pending: Pending,
    /// This writer's.
    epoch: Epoch,
    /// Grows each time the state is built anew: rows loaded before do not count.
    pub(crate) generation: u64,
    /// Opens whose answers wait for a batch; taken back with it.
    uncertain_opens: Vec<(u64, SessionId, (Ino, u32))>,
    /// The batch that `pending` will be.
    ticket: u64,
    /// Every batch up to here is in the engine.
    committed: u64,
    /// Tickets at which loads under way began: rows changed since must stay.
    loads: BTreeMap<u64, u32>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) opens: Opens,
    pub(crate) leases: Leases,
    /// Sessions that may believe what this writer does not know of: told to drop everything, and not done yet.
    unsettled: BTreeSet<SessionId>,
    /// Grows with each session that begins or ends, also across writers.
    sessions_version: u64,
    pub(crate) orphans: BTreeSet<Ino>,
    /// Orphans nobody has open: to be reaped.
    pub(crate) reapable: VecDeque<Ino>,
    /// Inodes whose locks were loosened since the shell last looked.
    pub(crate) unlocked: Vec<Ino>,
    pub(crate) settings: Arc<SettingsRow>,
    pub(crate) cluster: Cluster,
    /// Meta's clock at the last tick.
    now_ms: u64,
    /// When availability targets are looked at again, and the servers they were looked at for.
    targets_due_ms: u64,
    targets_for: Vec<ServerId>,
    pub(crate) garbage: GarbageQueue,
    pub(crate) consumers: HashMap<u64, ConsumerRow>,
    pub(crate) mutations: u64,
    /// After a takeover: when orphans that no session has claimed may be reaped.
    pub(crate) orphans_due: Option<Timestamp>,
    /// Owners that wait for a lock, and for which.
    lock_waits: BTreeMap<(SessionId, OpId), LockWait>,
    next_lock_wait: u64,
    /// When tags were given to somebody last.
    tag_use: TagUse,
    /// The end of the log, for those who follow it.
    pub(crate) recent: RecentEvents,
    /// Which events of the journal are kept.
    pub(crate) journal: JournalRow,
    /// What storage servers announced last.
    pub(crate) announced: BTreeMap<ServerId, Announce>,
}

impl Core {
    pub(crate) fn new(snapshot: Snapshot, lease: WriterLease, memory_bytes: usize, now: Timestamp) -> Self {
        let garbage = GarbageQueue::new(snapshot.counters.next_garbage);
        let initial_servers = snapshot.volume.initial_servers;
        let cluster = Cluster::new(snapshot.cluster, initial_servers, now.as_ms());
        let mut core = Self {
            volume: snapshot.volume,
            cache: RowCache::new(memory_bytes),
            counters: snapshot.counters,
            counters_dirty: false,
            pending: Pending::default(),
            epoch: lease.epoch,
            generation: 0,
            uncertain_opens: Vec::new(),
            ticket: lease.last_batch + 1,
            committed: lease.last_batch,
            loads: BTreeMap::new(),
            sessions: BTreeMap::new(),
            opens: Opens::default(),
            leases: Leases::of_writer(lease.epoch),
            unsettled: BTreeSet::new(),
            sessions_version: lease.epoch.0 << 32,
            orphans: snapshot.orphans.iter().copied().collect(),
            reapable: VecDeque::new(),
            unlocked: Vec::new(),
            settings: Arc::new(snapshot.settings),
            cluster,
            now_ms: now.as_ms(),
            targets_due_ms: 0,
            targets_for: Vec::new(),
            garbage,
            consumers: snapshot.consumers.into_iter().collect(),
            mutations: 0,
            orphans_due: None,
            lock_waits: BTreeMap::new(),
            next_lock_wait: 0,
            tag_use: TagUse::since(snapshot.counters.seq),
            recent: RecentEvents::default(),
            journal: snapshot.journal,
            announced: snapshot.announced,
        };
        let alone = snapshot.sessions.len() == 1;
        for row in snapshot.sessions {
            core.sessions.insert(row.id, Session::survivor(row, now, lease.epoch, alone));
        }
        for (ino, held) in snapshot.locks {
            for lock in held {
                core.sessions.entry(lock.session).or_insert_with(|| rebuild::ghost(lock.session, now, lease.epoch));
                core.set_locked(lock.session, ino, true);
            }
        }
        for (id, op, reply) in snapshot.answers {
            if let Some(session) = core.sessions.get_mut(&id) {
                session.restore_answer(op, reply);
            }
        }
        core.recount_unsettled();
        core.sessions.keys().for_each(|id| core.leases.recall_all_writes(*id));
        core
    }

    fn tx<'a>(
        cache: &'a mut RowCache,
        (opens, tag_use): (&'a Opens, &'a TagUse),
        volume: &VolumeInfo,
        loaded: &'a [LoadedRange],
        start: (Timestamp, Option<SessionId>, Counters),
    ) -> Tx<'a> {
        let (now, session, counters) = start;
        Tx {
            cache,
            volume: volume.uuid,
            chunk_bytes: volume.chunk_bytes,
            inline_bytes_max: volume.inline_bytes_max,
            now,
            session,
            counters,
            writes: BTreeMap::new(),
            changes: Vec::new(),
            loaded,
            opens,
            opened: Vec::new(),
            released: Vec::new(),
            observed: 0,
            new_directories: Vec::new(),
            unlocked: Vec::new(),
            garbage: Vec::new(),
            orphaned: Vec::new(),
            freed: Vec::new(),
            tag_use,
            tagged: Vec::new(),
            more: false,
        }
    }

    /// Runs one change; on success its rows and events are pending. The answer, the ticket to wait for, and whether it goes on.
    pub(crate) fn run<T>(
        &mut self,
        now: Timestamp,
        session: Option<SessionId>,
        operation: impl FnOnce(&mut Tx<'_>) -> Step<T>,
    ) -> Result<(T, u64, bool), Stop> {
        let tried = self.try_run(now, session, operation)?;
        Ok(self.carry_out(now, session, tried))
    }

    /// Tries one change. Nothing has happened yet.
    fn try_run<T>(
        &mut self,
        now: Timestamp,
        session: Option<SessionId>,
        operation: impl FnOnce(&mut Tx<'_>) -> Step<T>,
    ) -> Result<Tried<T>, Stop> {
        let known = (&self.opens, &self.tag_use);
        let mut tx = Self::tx(&mut self.cache, known, &self.volume, &[], (now, session, self.counters));
        let answer = operation(&mut tx)?;
        let effects = Effects {
            counters: tx.counters,
            writes: tx.writes,
            changes: tx.changes,
            opened: tx.opened,
            released: tx.released,
            new_directories: tx.new_directories,
            unlocked: tx.unlocked,
            garbage: tx.garbage,
            orphaned: tx.orphaned,
            freed: tx.freed,
            tagged: tx.tagged,
        };
        Ok(Tried { answer, effects, observed: tx.observed, more: tx.more })
    }

    /// Makes what was tried true. The answer, the ticket to wait for, and whether it goes on.
    fn carry_out<T>(&mut self, now: Timestamp, session: Option<SessionId>, tried: Tried<T>) -> (T, u64, bool) {
        let Tried { answer, effects, observed, more } = tried;
        let opened = effects.opened.clone();
        let wrote = self.perform(now, session, effects);
        let ticket = if wrote { self.ticket } else { self.wait_for(observed) };
        if let Some(session) = session
            && ticket > 0
        {
            self.uncertain_opens.extend(opened.into_iter().map(|open| (ticket, session, open)));
        }
        (answer, ticket, more)
    }

    /// The ticket a reader of rows up to batch `observed` has to wait for.
    fn wait_for(&self, observed: u64) -> u64 {
        if observed > self.committed { observed } else { 0 }
    }

    fn perform(&mut self, now: Timestamp, session: Option<SessionId>, effects: Effects) -> bool {
        if let Some(session) = session {
            for (ino, count) in &effects.opened {
                self.opens.open(*ino, session, *count);
            }
            for (ino, count) in &effects.released {
                self.opens.release(*ino, session, *count);
                if self.orphans.contains(ino) && !self.opens.is_open(*ino) {
                    self.reapable.push_back(*ino);
                }
            }
        }
        self.unlocked.extend(effects.unlocked);
        for ino in effects.orphaned {
            self.orphans.insert(ino);
            if !self.opens.is_open(ino) {
                self.reapable.push_back(ino);
            }
        }
        for ino in effects.freed {
            self.orphans.remove(&ino);
            self.leases.freed(ino, self.ticket);
            self.forget_policy(ino);
        }
        let wrote = !effects.writes.is_empty() || !effects.changes.is_empty();
        self.counters_dirty |= self.counters != effects.counters;
        self.counters = effects.counters;
        for (number, id) in effects.garbage {
            self.garbage.push(number, id, self.ticket);
        }
        let nodes = self.changed_nodes(&effects.writes);
        for (key, row) in effects.writes {
            self.write(key, row);
        }
        for ino in effects.new_directories {
            self.cache.mark_complete(ino.get());
        }
        self.append_all(now, session, (effects.changes, nodes));
        self.tag_use.note(&effects.tagged, self.counters.seq);
        wrote
    }

    /// One row into memory and the next batch.
    pub(crate) fn write(&mut self, key: RowKey, row: Option<Arc<Row>>) {
        let absent = matches!(self.cache.get(key), Some((None, _)));
        self.cache.put(key, row.clone(), self.ticket);
        self.pending.change(key, row, absent);
    }

    /// The batch that would carry a change made now.
    pub(crate) fn current_ticket(&self) -> u64 {
        self.ticket
    }

    /// The batch that everything changed so far is committed with.
    pub(crate) fn newest_ticket(&self) -> u64 {
        if self.has_pending() { self.ticket } else { self.ticket - 1 }
    }

    /// As [`Self::newest_ticket`], but 0 when that batch is settled already.
    pub(crate) fn unsettled_ticket(&self) -> u64 {
        self.wait_for(self.newest_ticket())
    }

    /// Is there anything to commit?
    pub(crate) fn has_pending(&self) -> bool {
        self.counters_dirty || !self.pending.rows.is_empty()
    }

    /// Takes what is pending as batch `ticket`; later changes go into the next one.
    pub(crate) fn take_pending(&mut self) -> Option<(u64, Pending)> {
        if !self.has_pending() {
            return None;
        }
        self.counters_dirty = false;
        self.pending.rows.insert(key::COUNTERS, Some(Arc::new(Row::Counters(self.counters))));
        let pending = std::mem::take(&mut self.pending);
        let ticket = self.ticket;
        self.ticket += 1;
        Some((ticket, pending))
    }

    /// Batch `ticket` is in the engine.
    pub(crate) fn set_committed(&mut self, ticket: u64) {
        self.committed = ticket;
        self.leases.committed(ticket);
        self.uncertain_opens.retain(|(carried_by, _, _)| *carried_by > ticket);
        self.trim();
    }

    /// Brings memory back within its bound. Only between attempts: each attempt has what was loaded for it.
    fn trim(&mut self) {
        let oldest_load = self.loads.keys().next().copied().unwrap_or(u64::MAX);
        self.cache.trim(self.committed.min(oldest_load.saturating_sub(1)));
    }

    /// A load begins; its number, of the first batch that it may not see, ends it.
    pub(crate) fn begin_load(&mut self) -> u64 {
        let unseen = self.committed + 1;
        *self.loads.entry(unseen).or_insert(0) += 1;
        unseen
    }

    /// A load came to its end, with or without rows. Reading alone must not fill the memory.
    pub(crate) fn end_load(&mut self, began: u64) {
        if let Some(count) = self.loads.get_mut(&began) {
            *count -= 1;
            if *count == 0 {
                self.loads.remove(&began);
            }
        }
        self.trim();
    }

    /// Rows by key that an engine brought.
    pub(crate) fn install(&mut self, rows: &[(RowKey, Option<Arc<Row>>)]) {
        for (key, row) in rows {
            self.cache.install(*key, row.clone());
        }
    }

    /// Rows of a range that an engine brought.
    pub(crate) fn install_range(&mut self, range: RowRange, rows: &[(RowKey, Arc<Row>)]) -> LoadedRange {
        let known_to = match rows.last() {
            Some((key, _)) if rows.len() >= range.limit => key.sort,
            Some(_) | None => range.to,
        };
        for (key, row) in rows {
            self.cache.install(*key, Some(Arc::clone(row)));
        }
        if range.from == 0 && known_to == u64::MAX {
            self.cache.mark_complete_list(range.table, range.partition);
        }
        LoadedRange { range, known_to }
    }

    /// Is there room for rows that nobody asked for?
    pub(crate) fn has_room(&self) -> bool {
        self.cache.has_room()
    }

    /// Rows in memory.
    pub(crate) fn rows_cached(&self) -> u64 {
        self.cache.len() as u64
    }

    /// The last seq.
    pub(crate) fn seq(&self) -> Seq {
        self.counters.seq
    }
}

/// A change that could be made.
struct Tried<T> {
    answer: T,
    effects: Effects,
    observed: u64,
    more: bool,
}

struct Effects {
    counters: Counters,
    writes: BTreeMap<RowKey, Option<Arc<Row>>>,
    changes: Vec<Change>,
    opened: Vec<(Ino, u32)>,
    released: Vec<(Ino, u32)>,
    new_directories: Vec<Ino>,
    unlocked: Vec<Ino>,
    garbage: Vec<(u64, VersionId)>,
    orphaned: Vec<Ino>,
    freed: Vec<Ino>,
    tagged: Vec<TagId>,
}

/// A session that is not (any more): its client is fenced.
pub(crate) const FENCED: Status = Status::Stale;

#[cfg(test)]
pub(crate) mod tests;

/// Needed by `apply`: a mutation that must be answered once.
pub(crate) struct Once<'a> {
    pub(crate) session: SessionId,
    pub(crate) op: OpId,
    pub(crate) acked: OpId,
    pub(crate) mutation: &'a Mutation,
    /// The channel may lose replies: answers are kept in the engine too.
    pub(crate) keep_answer: bool,
    /// Its client made it ahead, with the right to do so.
    pub(crate) kept_back: bool,
}
