//! The engine refused a batch: the state is built anew from what it holds.
//!
//! Never guesses what a refused batch had changed: rows are read again. Always: what is kept of the memory before is
//! what only memory knows (who lives, who has which file open), less what the refused changes did to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::{Epoch, Ino, OpId, SessionId};
use dgfs_proto::meta::{Applied, ClientInfo, MetaReply, Mutation, NewContent, TagCommand};

use crate::core::cache::RowCache;
use crate::core::catalogue::TagUse;
use crate::core::sessions::Session;
use crate::core::{Core, Once, Pending, Snapshot};
use crate::rows::{Counters, SessionRow};

/// Which sessions an engine's rows may bring back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survivors {
    /// Those in the engine are the sessions there are.
    Stored,
    /// The engine is this process's alone: memory knows who lives, also those the full disk had no room for.
    InMemory,
}

impl Core {
    /// Takes back everything that no batch has committed: batch `refused` and what came after it. `snapshot` is what the
    /// engine holds now. Returns the last batch that is taken back.
    pub(crate) fn rebuild(&mut self, snapshot: Snapshot, refused: u64, survivors: Survivors, now: Timestamp) -> u64 {
        let last = self.ticket;
        self.ticket += 1;
        self.committed = last;
        self.generation += 1;
        self.loads.clear();
        self.pending = Pending::default();
        self.cache = RowCache::new(self.cache.weight_max());
        self.counters = resumed(self.counters, snapshot.counters);
        self.counters_dirty = false;
        self.settings = Arc::new(snapshot.settings);
        self.consumers = snapshot.consumers.into_iter().collect();
        // What of them was taken back counts as given: that only asks for another look.
        self.tag_use = TagUse::since(self.counters.seq);
        self.recent.clear();
        self.journal = snapshot.journal;
        self.announced = snapshot.announced;
        self.garbage.take_back(refused, self.counters.next_garbage);
        self.leases.take_back(refused);
        self.rebuild_sessions(snapshot.sessions, refused, survivors, now);
        self.recount_unsettled();
        for (id, op, reply) in snapshot.answers {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.restore_answer(op, reply);
            }
        }
        for (ino, held) in snapshot.locks {
            for lock in held {
                self.set_locked(lock.session, ino, true);
            }
        }
        self.unlocked.clear();
        self.take_back_opens(refused);
        self.orphans = snapshot.orphans.into_iter().collect();
        self.reapable.clear();
        if self.orphans_due.is_none() {
            self.queue_orphans();
        }
        // The cluster is what it is, whatever could not be written of it: it is written again.
        self.cluster.mark_all_dirty();
        self.store_cluster();
        last
    }

    fn rebuild_sessions(&mut self, rows: Vec<SessionRow>, refused: u64, survivors: Survivors, now: Timestamp) {
        let mut before = std::mem::take(&mut self.sessions);
        let alone = rows.len() == 1;
        for row in rows {
            let id = row.id;
            let session = match before.remove(&id) {
                Some(known) => resumed_session(known, Some(row), refused),
                None if survivors == Survivors::InMemory => continue,
                None => {
                    self.leases.recall_all_writes(id);
                    Session::survivor(row, now, self.epoch, alone)
                }
            };
            self.sessions.insert(id, session);
        }
        if survivors == Survivors::InMemory {
            for (id, known) in std::mem::take(&mut before) {
                self.sessions.insert(id, resumed_session(known, None, refused));
            }
        }
        // Not opened after all.
        for id in before.into_keys() {
            self.leases.end_session(id);
            let _: Vec<Ino> = self.opens.end_session(id);
        }
    }

    fn take_back_opens(&mut self, refused: u64) {
        for (ticket, session, (ino, count)) in std::mem::take(&mut self.uncertain_opens) {
            if ticket >= refused {
                self.opens.release(ino, session, count);
            }
        }
    }

    /// Opens are given back without the rows that their last close would remove: the reaper does that when there is room.
    pub(crate) fn release_later(&mut self, once: &Once<'_>, opens: &[(Ino, u32)]) {
        let Some(session) = self.sessions.get_mut(&once.session) else { return };
        if once.keep_answer {
            session.answers.insert(once.op, (MetaReply::Done, 0));
        }
        for (ino, count) in opens {
            self.opens.release(*ino, once.session, *count);
            if self.orphans.contains(ino) && !self.opens.is_open(*ino) {
                self.reapable.push_back(*ino);
            }
        }
    }

    /// Was this operation answered already? It is answered the same again.
    pub(crate) fn has_answered(&self, once: &Once<'_>) -> bool {
        self.sessions.get(&once.session).is_some_and(|session| session.answers.contains_key(&once.op))
    }
}

/// What the engine has counted; numbers that were given out are not given out again.
fn resumed(memory: Counters, stored: Counters) -> Counters {
    Counters {
        next_ino: memory.next_ino,
        next_chunk: memory.next_chunk,
        next_version: memory.next_version,
        next_session: memory.next_session,
        next_server: memory.next_server,
        map_epoch: memory.map_epoch,
        ..stored
    }
}

fn resumed_session(known: Session, row: Option<SessionRow>, refused: u64) -> Session {
    let mut answers: BTreeMap<OpId, _> = known.answers;
    answers.retain(|_, (_, ticket)| *ticket < refused);
    let kept: BTreeSet<OpId> = BTreeSet::new();
    let applied = Applied::default();
    Session { row: row.unwrap_or(known.row), answers, kept, applied, ..known }
}

/// A session that left only its locks behind: so that they end with it.
pub(crate) fn ghost(id: SessionId, now: Timestamp, epoch: Epoch) -> Session {
    let row = SessionRow { id, key: 0, client: ClientInfo::default(), versions: Vec::new(), acked: OpId(0) };
    Session::survivor(row, now, epoch, false)
}

/// Does a mutation need room in the engine for good? What removes, gives back or replaces may use the reserve.
pub(crate) fn grows(mutation: &Mutation) -> bool {
    match mutation {
        Mutation::Make { .. }
        | Mutation::Link { .. }
        | Mutation::SetXattr { .. }
        | Mutation::CopyChunks { .. }
        | Mutation::Grant { .. }
        | Mutation::GrantInodes { .. } => true,
        Mutation::Tag(edit) => !(edit.add.is_empty() && edit.veto.is_empty()),
        Mutation::Tags { command, .. } => !matches!(command, TagCommand::Delete { .. }),
        Mutation::Relate { on, .. } => *on,
        Mutation::SaveQuery { expression, .. } => expression.is_some(),
        Mutation::Commit(commit) => match &commit.content {
            NewContent::Slots { edits, .. } => edits.is_empty() || edits.iter().any(|edit| edit.new.is_some()),
            NewContent::Inline { .. } => true,
        },
        Mutation::Remove { .. }
        | Mutation::Rename { .. }
        | Mutation::SetAttr { .. }
        | Mutation::RemoveXattr { .. }
        | Mutation::Open { .. }
        | Mutation::Register { .. }
        | Mutation::Release { .. }
        | Mutation::Lock { .. }
        | Mutation::UnlockOwner { .. } => false,
    }
}
