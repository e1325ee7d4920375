//! One mutation, exactly once by (session, op).

use std::sync::Arc;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::{ChunkVersion, Ino, OpId, SessionId};
use dgfs_proto::limits::OPS_IN_FLIGHT_MAX;
use dgfs_proto::meta::{Leasing, MetaReply, Mutation, Named};
use dgfs_proto::status::Status;

use crate::core::catalogue::saved;
use crate::core::leasing::{Attempt, told_by_mutation};
use crate::core::ops::copy::CopyChunks;
use crate::core::ops::make::Make;
use crate::core::ops::rename::Place;
use crate::core::ops::{commit, copy, link, lock, make, open, remove, rename, setattr, tag, xattr};
use crate::core::tx::{Step, Stop, Tx};
use crate::core::{Core, FENCED, Once, Outcome, Tried, policy};
use crate::rows::{Row, key};

const CHUNKS_PER_GRANT_MAX: u32 = 1 << 16;
const VERSIONS_PER_GRANT_MAX: u32 = 1 << 24;

impl Core {
    /// Applies a mutation, or answers it again.
    pub(crate) fn mutate(&mut self, now: Timestamp, once: &Once<'_>, attempt: &mut Attempt<'_>) -> Outcome {
        if let Some(known) = self.known_answer(once) {
            // It may have changed since.
            attempt.leasing = Leasing { unkept: true, ..Leasing::default() };
            return known;
        }
        if self.must_queue(once) {
            return Outcome::Answer { reply: MetaReply::Refused(Status::WouldBlock), ticket: 0 };
        }
        match once.mutation {
            Mutation::Grant { chunks, versions } => return self.grant(once, (*chunks, *versions)),
            Mutation::GrantInodes { count } => return self.grant_inodes(once, *count),
            _ => {}
        }
        if let Err(status) = self.check_policy(once.mutation) {
            return self.answered(once, MetaReply::Refused(status), 0);
        }
        let session = once.session;
        let settings = Arc::clone(&self.settings);
        let tried = self.try_run(now, Some(session), |tx| {
            // New chunks are kept back by a mount that is alone and has set no policy: it must not lose them by one that comes later.
            if let Mutation::Commit(request) = once.mutation
                && !once.kept_back
            {
                policy::check_commit(tx, &settings, request)?;
            }
            apply(tx, session, once.mutation)
        });
        match tried {
            Ok(tried) => self.make_true(now, once, tried, attempt),
            Err(Stop::Need(need)) => Outcome::Need(need),
            // A lock that must wait has no answer yet: the shell tries again.
            Err(Stop::Refused(Status::WouldBlock)) if is_waiting_lock(once.mutation) => {
                Outcome::Answer { reply: MetaReply::Refused(Status::WouldBlock), ticket: 0 }
            }
            Err(Stop::Refused(status)) => self.answered(once, MetaReply::Refused(status), 0),
        }
    }

    /// Carries out what was tried, unless somebody has to be told first.
    fn make_true(
        &mut self,
        now: Timestamp,
        once: &Once<'_>,
        tried: Tried<MetaReply>,
        attempt: &mut Attempt<'_>,
    ) -> Outcome {
        let session = self.leases_to(Some(once.session));
        let told = session.map_or_else(Vec::new, |_| told_by_mutation(once.mutation, &tried.answer));
        if let Some(session) = session
            && let Some(first) = self.before_changing(session, once, &tried.effects.writes, (&told, attempt.wait))
        {
            return Outcome::Recall(session, first);
        }
        let (reply, ticket, more) = self.carry_out(now, Some(once.session), tried);
        if more {
            return Outcome::More;
        }
        self.mutations += 1;
        self.note_policy(once.mutation);
        if let Some(session) = session {
            // The wait of this very change keeps what it tells from being leased: it is over.
            if let Some(wait) = attempt.wait {
                self.leases.end_wait(wait);
            }
            attempt.leasing = self.lease_after(session, once, &told);
        }
        self.answered(once, reply, ticket)
    }

    /// The wait of a lock was given up: that is its answer.
    pub(crate) fn answer_interrupted(&mut self, once: &Once<'_>) -> Outcome {
        self.answered(once, MetaReply::Refused(Status::Interrupted), 0)
    }

    fn known_answer(&mut self, once: &Once<'_>) -> Option<Outcome> {
        let refused = |status| Some(Outcome::Answer { reply: MetaReply::Refused(status), ticket: 0 });
        let committed = self.committed;
        let Some(session) = self.sessions.get_mut(&once.session) else { return refused(FENCED) };
        if let Some((reply, ticket)) = session.answers.get(&once.op) {
            let ticket = if *ticket > committed { *ticket } else { 0 };
            return Some(Outcome::Answer { reply: reply.clone(), ticket });
        }
        if once.op <= session.row.acked {
            return refused(Status::Malformed);
        }
        let forgotten = session.forget_answers(once.acked);
        if session.answers.len() >= OPS_IN_FLIGHT_MAX {
            return refused(Status::Busy);
        }
        for op in forgotten {
            self.pending.rows.insert(key::answer(once.session, op), None);
        }
        None
    }

    pub(super) fn answered(&mut self, once: &Once<'_>, reply: MetaReply, ticket: u64) -> Outcome {
        let wrote = ticket == self.ticket;
        if let Some(session) = self.sessions.get_mut(&once.session)
            && once.keep_answer
        {
            session.answers.insert(once.op, (reply.clone(), ticket));
            // An answer that changed no row may be found again by applying again.
            if wrote {
                session.kept.insert(once.op);
                let row = Some(Arc::new(Row::Answer(reply.clone())));
                self.pending.rows.insert(key::answer(once.session, once.op), row);
            }
        }
        Outcome::Answer { reply, ticket }
    }

    fn grant(&mut self, once: &Once<'_>, (chunks, versions): (u32, u32)) -> Outcome {
        if !self.cluster.is_assigned(self.settings.class) {
            return Outcome::Answer { reply: MetaReply::Refused(Status::Unavailable), ticket: 0 };
        }
        let chunks = u64::from(chunks.min(CHUNKS_PER_GRANT_MAX));
        let versions = u64::from(versions.min(VERSIONS_PER_GRANT_MAX));
        let chunk = self.counters.next_chunk;
        let Some(version) = ChunkVersion::new(self.counters.next_version) else {
            return Outcome::Answer { reply: MetaReply::Refused(Status::NoSpace), ticket: 0 };
        };
        self.counters.next_chunk += chunks;
        self.counters.next_version += versions;
        self.counters_dirty = true;
        if let Some(session) = self.sessions.get_mut(&once.session) {
            session.row.versions.push((version.get(), versions));
            let row = Row::Session(session.row.clone());
            self.pending.rows.insert(key::session(once.session), Some(Arc::new(row)));
        }
        let ticket = self.ticket;
        self.answered(once, MetaReply::Granted { chunk, version }, ticket)
    }

    /// Marks an operation as being carried out; false when an earlier call carries it out.
    pub(crate) fn begin(&mut self, session: SessionId, op: OpId) -> bool {
        self.sessions.get_mut(&session).is_none_or(|session| session.executing.insert(op))
    }

    /// It is not being carried out any more.
    pub(crate) fn end(&mut self, session: SessionId, op: OpId) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.executing.remove(&op);
        }
    }
}

pub(crate) fn is_waiting_lock(mutation: &Mutation) -> bool {
    matches!(mutation, Mutation::Lock { wait: true, .. })
}

fn apply(tx: &mut Tx<'_>, session: SessionId, mutation: &Mutation) -> Step<MetaReply> {
    match mutation {
        Mutation::Make { parent, name, node, mode, umask, caller, open, ino } => {
            let request = Make {
                parent: *parent,
                name,
                node,
                mode: *mode,
                umask: *umask,
                caller: *caller,
                open: *open,
                ino: *ino,
            };
            let ino = make::make(tx, &request)?.ino;
            named(tx, ino, None, &[*parent])
        }
        Mutation::Link { ino, parent, name } => {
            link::link(tx, *ino, *parent, name)?;
            named(tx, *ino, None, &[*parent])
        }
        Mutation::Remove { parent, name, kind } => {
            let (ino, nlink) = remove::remove(tx, *parent, name, *kind)?;
            named(tx, ino, Some((ino, nlink)), &[*parent])
        }
        Mutation::Rename { parent, name, new_parent, new_name, mode } => {
            let from = Place { parent: *parent, name };
            let to = Place { parent: *new_parent, name: new_name };
            let Some(done) = rename::rename(tx, from, to, *mode)? else { return Ok(MetaReply::Done) };
            let mut others = vec![from.parent];
            others.extend((to.parent != from.parent).then_some(to.parent));
            others.extend(done.exchanged.or(done.lost.map(|(ino, _)| ino)));
            named(tx, done.moved, done.lost, &others)
        }
        Mutation::SetAttr { ino, set } => setattr::set_attr(tx, *ino, set).map(MetaReply::Attr),
        Mutation::Commit(request) => commit::commit(tx, request).map(MetaReply::Attr),
        Mutation::SetXattr { ino, name, value, mode, uid } => {
            xattr::set(tx, *ino, (name, value), *mode, *uid).map(|()| MetaReply::Done)
        }
        Mutation::RemoveXattr { ino, name } => xattr::remove(tx, *ino, name).map(|()| MetaReply::Done),
        Mutation::CopyChunks { from, from_index, to, to_index, count, size_at_least } => {
            let request = CopyChunks {
                from: *from,
                from_index: *from_index,
                to: *to,
                to_index: *to_index,
                count: *count,
                size_at_least: *size_at_least,
            };
            copy::copy_chunks(tx, &request).map(MetaReply::Attr)
        }
        Mutation::Open { ino, mode } => {
            let (attr, content) = open::open(tx, *ino, *mode)?;
            Ok(MetaReply::Opened { attr, content })
        }
        Mutation::Register { opens } => open::register(tx, opens).map(|()| MetaReply::Done),
        Mutation::Release { opens } => open::release(tx, session, opens).map(|()| MetaReply::Done),
        Mutation::Lock { ino, lock, wait: _ } => lock::lock(tx, session, *ino, lock).map(|()| MetaReply::Done),
        Mutation::UnlockOwner { ino, family, owner } => {
            lock::unlock_owner(tx, session, *ino, *family, *owner).map(|()| MetaReply::Done)
        }
        Mutation::Tag(edit) => tag::edit(tx, edit).map(|()| MetaReply::Done),
        Mutation::Tags { command, by } => tag::command(tx, command, *by).map(|()| MetaReply::Done),
        Mutation::Relate { from, relation, to, on } => {
            tag::relate(tx, *from, (*relation, *to), *on).map(|()| MetaReply::Done)
        }
        Mutation::SaveQuery { name, expression, replace, by } => {
            saved::save(tx, (name, expression.as_deref()), *replace, *by).map(|()| MetaReply::Done)
        }
        Mutation::Grant { .. } | Mutation::GrantInodes { .. } => Err(Status::Malformed.into()),
    }
}

/// The answer to a change of names: the attributes of what it touched and what still has a name.
fn named(tx: &mut Tx<'_>, ino: Ino, lost: Option<(Ino, u32)>, others: &[Ino]) -> Step<MetaReply> {
    let mut attrs = Vec::with_capacity(1 + others.len());
    for touched in std::iter::once(&ino).chain(others) {
        match tx.inode(*touched) {
            Ok(row) if row.attr.nlink > 0 => attrs.push(row.attr),
            Ok(_) | Err(Stop::Refused(Status::NotFound)) => {}
            Err(stop) => return Err(stop),
        }
    }
    Ok(MetaReply::Named(Named { ino, lost, attrs }))
}
