//! Sessions: who is mounted, who is alive, and what ends with them.
//!
//! Never forgets who may be caching: notices are numbered from the writer's epoch, so one that an earlier writer's
//! session has carried out says nothing to this writer. Always: a session starts only when every other one has
//! carried out the `Shared` of this writer, or is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::{Epoch, Ino, OpId, SessionId};
use dgfs_proto::limits::{RESUMED_OPENS_MAX, SESSION_LEASE_MS, SESSIONS_MAX};
use dgfs_proto::meta::{Applied, ClientInfo, LivingSessions, MetaReply, Notice, Recall, SessionStatus};
use dgfs_proto::status::Status;

use crate::core::Outcome;
use crate::core::ops::lock;
use crate::core::tx::Stop;
use crate::core::{Core, FENCED};
use crate::rows::{Row, SessionRow, key};

/// A session in memory.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) row: SessionRow,
    /// Its last sign of life, on meta's clock.
    pub(crate) seen: Timestamp,
    /// When it listened last for what it is to be told.
    pub(crate) listened: Timestamp,
    /// First answers by op, and the batch each waits for.
    pub(crate) answers: BTreeMap<OpId, (MetaReply, u64)>,
    /// Ops whose answers have a row in the engine.
    pub(crate) kept: BTreeSet<OpId>,
    /// How far the changes were applied that its client kept back.
    pub(crate) applied: Applied,
    /// Ops being carried out.
    pub(crate) executing: BTreeSet<OpId>,
    /// The notice it was told last, and whether it has carried it out.
    pub(crate) notice: (u64, Notice),
    pub(crate) notice_done: u64,
    /// Its client knows its number: it has called under it.
    pub(crate) started: bool,
    /// Inodes on which it may hold locks.
    pub(crate) locked: BTreeSet<Ino>,
    /// Calls under its number that this writer got.
    pub(crate) calls: u64,
}

/// The first notice of a writer: greater than every one of the writers before it.
fn first_notice(epoch: Epoch) -> u64 {
    epoch.0 << 32 | 1
}

impl Session {
    /// A session that an earlier writer opened. What it was told last, and whether it did it, only that writer knew:
    /// it has to be told anew.
    pub(crate) fn survivor(row: SessionRow, now: Timestamp, epoch: Epoch, alone: bool) -> Self {
        let notice = if alone { Notice::Sole } else { Notice::Shared };
        Self { notice: (first_notice(epoch), notice), notice_done: 0, ..Self::new(row, now, epoch) }
    }

    fn new(row: SessionRow, now: Timestamp, epoch: Epoch) -> Self {
        Self {
            row,
            seen: now,
            listened: now,
            answers: BTreeMap::new(),
            kept: BTreeSet::new(),
            applied: Applied::default(),
            executing: BTreeSet::new(),
            notice: (first_notice(epoch), Notice::Shared),
            notice_done: first_notice(epoch),
            started: false,
            locked: BTreeSet::new(),
            calls: 0,
        }
    }

    /// An answer's row, read back.
    pub(crate) fn restore_answer(&mut self, op: OpId, reply: MetaReply) {
        if let MetaReply::Applied(applied) = reply {
            self.applied = applied;
        } else {
            self.answers.insert(op, (reply, 0));
            self.kept.insert(op);
        }
    }

    /// Forgets answers up to `acked`; those that have a row.
    pub(crate) fn forget_answers(&mut self, acked: OpId) -> Vec<OpId> {
        if acked <= self.row.acked {
            return Vec::new();
        }
        self.row.acked = acked;
        let next = OpId(acked.0.saturating_add(1));
        self.answers = self.answers.split_off(&next);
        let later = self.kept.split_off(&next);
        std::mem::replace(&mut self.kept, later).into_iter().collect()
    }

    fn tell(&mut self, notice: Notice) {
        if self.notice.1 != notice {
            self.notice = (self.notice.0 + 1, notice);
        }
    }

    fn has_dropped_caches(&self) -> bool {
        self.notice.1 == Notice::Shared && self.notice_done >= self.notice.0
    }
}

/// What a client says when it opens a session.
pub(crate) struct OpenRequest {
    pub(crate) client: ClientInfo,
    pub(crate) key: u64,
    pub(crate) resume: Option<SessionId>,
    pub(crate) opens: Vec<(Ino, u32)>,
}

impl Core {
    /// Opens or resumes a session: its number and the ticket to wait for.
    pub(crate) fn open_session(&mut self, now: Timestamp, request: OpenRequest) -> Result<(SessionId, u64), Status> {
        if request.opens.len() > RESUMED_OPENS_MAX {
            return Err(Status::Malformed);
        }
        if let Some(id) = request.resume {
            let session = self.sessions.get_mut(&id).filter(|session| session.row.key == request.key).ok_or(FENCED)?;
            session.seen = now;
            session.started = true;
            for (ino, count) in request.opens {
                self.opens.set(ino, id, count);
            }
            return Ok((id, 0));
        }
        // The answer to its first try was lost, with its writer perhaps: a second session would be one nobody uses.
        let again = self.sessions.values_mut().find(|session| session.row.key == request.key);
        if let Some(session) = again.filter(|session| session.row.client == request.client) {
            session.seen = now;
            if !session.started {
                // It waits for its number, so it caches nothing. Without this two of them would wait for each other.
                session.notice_done = session.notice.0;
            }
            let id = session.row.id;
            self.recount_unsettled();
            return Ok((id, self.ticket));
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(Status::Busy);
        }
        let id = SessionId::new(self.counters.next_session).ok_or(Status::Busy)?;
        self.counters.next_session += 1;
        self.counters_dirty = true;
        let row = SessionRow { id, key: request.key, client: request.client, versions: Vec::new(), acked: OpId(0) };
        self.pending.rows.insert(key::session(id), Some(Arc::new(Row::Session(row.clone()))));
        let mut session = Session::new(row, now, self.epoch);
        if self.sessions.is_empty() {
            session.notice.1 = Notice::Sole;
        }
        for other in self.sessions.values_mut() {
            other.tell(Notice::Shared);
        }
        self.sessions.insert(id, session);
        self.recount_unsettled();
        Ok((id, self.ticket))
    }

    /// Have all other sessions dropped their caches, so that `id` may start? And is it alone?
    pub(crate) fn may_start(&self, id: SessionId) -> Option<bool> {
        let mut others = self.sessions.iter().filter(|(other, _)| **other != id);
        others.all(|(_, session)| session.has_dropped_caches()).then(|| self.is_sole(id))
    }

    /// Is it the only one, and was told so, or is about to be?
    pub(crate) fn is_sole(&self, id: SessionId) -> bool {
        self.sessions.len() == 1 && self.sessions.get(&id).is_some_and(|session| session.notice.1 == Notice::Sole)
    }

    /// Is it the only one, and has heard so? What it is told until then is leased as to all others.
    pub(crate) fn knows_it_is_sole(&self, id: SessionId) -> bool {
        self.is_sole(id) && self.sessions.get(&id).is_some_and(|session| session.notice_done >= session.notice.0)
    }

    /// A sign of life under its number; false when the session is dead.
    pub(crate) fn touch(&mut self, id: SessionId, now: Timestamp) -> bool {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.started = true;
            session.calls += 1;
        }
        self.wait_on(id, now)
    }

    /// A client that waits for its session to start lives; false when the session is dead.
    pub(crate) fn wait_on(&mut self, id: SessionId, now: Timestamp) -> bool {
        match self.sessions.get_mut(&id) {
            Some(session) => {
                session.seen = now;
                true
            }
            None => false,
        }
    }

    /// The notice a session has not carried out yet.
    pub(crate) fn notice(&mut self, id: SessionId, done: u64) -> Option<(u64, Notice)> {
        let session = self.sessions.get_mut(&id)?;
        // A greater number is not of this writer's counting.
        if done <= session.notice.0 && done > session.notice_done {
            session.notice_done = done;
            if session.has_dropped_caches() {
                self.unsettled.remove(&id);
            }
        }
        (session.notice.0 > session.notice_done).then_some(session.notice)
    }

    /// A session listens: it received recalls up to batch `received` and carried some out. What it is to be told next.
    pub(crate) fn listen(
        &mut self,
        (id, now): (SessionId, Timestamp),
        received: u64,
        recalled: &[u64],
    ) -> Option<(u64, Vec<Recall>)> {
        let session = self.sessions.get_mut(&id)?;
        session.listened = now;
        self.leases.carried_out(id, recalled);
        self.leases.batch(id, received)
    }

    /// Have all sessions but this one dropped what this writer does not know of?
    pub(crate) fn others_settled(&self, but: SessionId) -> bool {
        self.unsettled.iter().all(|id| *id == but)
    }

    pub(crate) fn recount_unsettled(&mut self) {
        let unsettled = |(id, session): (&SessionId, &Session)| (!session.has_dropped_caches()).then_some(*id);
        self.unsettled = self.sessions.iter().filter_map(unsettled).collect();
        self.sessions_version += 1;
    }

    /// Sessions whose lease has run out.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<SessionId> {
        let silent = |since: u64| now.as_ms() > since + SESSION_LEASE_MS;
        // What it is told does not reach it, although it lives: its lease ends all the same.
        let deaf = |id: SessionId, session: &Session| {
            silent(session.listened.as_ms()) && self.leases.waits_since(id).is_some_and(silent)
        };
        let dead = |(id, session): &(&SessionId, &Session)| silent(session.seen.as_ms()) || deaf(**id, session);
        let mut dead: Vec<SessionId> = self.sessions.iter().filter(dead).map(|(id, _)| *id).collect();
        dead.extend(self.leases.overdue(now.as_ms()));
        dead.sort_unstable();
        dead.dedup();
        dead
    }

    /// One step of ending a session: its locks, then its opens, then itself.
    pub(crate) fn end_session(&mut self, now: Timestamp, id: SessionId) -> Outcome {
        let Some(session) = self.sessions.get(&id) else {
            self.leases.end_session(id);
            return Outcome::Answer { reply: MetaReply::Done, ticket: 0 };
        };
        if let Some(ino) = session.locked.iter().next().copied() {
            let done = self.run(now, None, |tx| lock::unlock_where(tx, ino, |held| held.session == id));
            return match done {
                Ok(_) => {
                    self.set_locked(id, ino, false);
                    Outcome::More
                }
                Err(Stop::Need(need)) => Outcome::Need(need),
                Err(Stop::Refused(_)) => {
                    self.set_locked(id, ino, false);
                    Outcome::More
                }
            };
        }
        self.leases.end_session(id);
        for ino in self.opens.end_session(id) {
            if self.orphans.contains(&ino) {
                self.reapable.push_back(ino);
            }
        }
        if let Some(session) = self.sessions.remove(&id) {
            if session.applied != Applied::default() {
                self.pending.rows.insert(key::answer(id, OpId(0)), None);
            }
            for op in session.kept {
                self.pending.rows.insert(key::answer(id, op), None);
            }
        }
        self.pending.rows.insert(key::session(id), None);
        self.tell_survivors();
        self.recount_unsettled();
        Outcome::Answer { reply: MetaReply::Done, ticket: self.ticket }
    }

    fn tell_survivors(&mut self) {
        if self.sessions.len() == 1 {
            for session in self.sessions.values_mut() {
                session.tell(Notice::Sole);
            }
        }
    }

    /// Remembers that a session may hold locks on an inode (or no more).
    pub(crate) fn set_locked(&mut self, id: SessionId, ino: Ino, on: bool) {
        if let Some(session) = self.sessions.get_mut(&id) {
            if on {
                session.locked.insert(ino);
            } else {
                session.locked.remove(&ino);
            }
        }
    }

    /// The mounts, for people.
    pub(crate) fn session_list(&self, now: Timestamp) -> Vec<SessionStatus> {
        let status = |session: &Session| SessionStatus {
            id: session.row.id,
            client: session.row.client.clone(),
            idle_ms: now.as_ms().saturating_sub(session.seen.as_ms()),
            opens: self.opens.count(session.row.id),
        };
        self.sessions.values().map(status).collect()
    }

    /// May this version still be committed by a live session?
    pub(crate) fn is_granted_to_living(&self, version: u64) -> bool {
        let within = |(first, count): &(u64, u64)| version >= *first && version - first < *count;
        self.sessions.values().any(|session| session.row.versions.iter().any(within))
    }

    /// Which sessions live, for a storage server that has list `known`.
    pub(crate) fn living_sessions(&self, known: u64) -> Option<LivingSessions> {
        let newest = self.counters.next_session.saturating_sub(1);
        let list = || LivingSessions {
            version: self.sessions_version,
            newest,
            living: self.sessions.keys().copied().collect(),
        };
        (known != self.sessions_version).then(list)
    }

    /// Orphans that nobody has open, at start-up or after a takeover's grace.
    pub(crate) fn queue_orphans(&mut self) {
        let ready: Vec<Ino> = self.orphans.iter().copied().filter(|ino| !self.opens.is_open(*ino)).collect();
        self.reapable.extend(ready);
    }
}
