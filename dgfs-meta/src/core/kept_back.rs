//! Changes that a client kept back: applied in the order in which it made them, each once.
//!
//! Never applies one twice: how far a session's changes were applied is a row of the batch that carries them. Always: a
//! change that ends otherwise than its client counted on is answered so, and those behind it are applied all the same.

use std::sync::Arc;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::{Ino, OpId, SessionId};
use dgfs_proto::meta::{Applied, KeptAnswer, KeptBack, MetaReply, Mutation, NewContent, digest};
use dgfs_proto::status::Status;

use crate::core::leasing::Attempt;
use crate::core::sessions::Session;
use crate::core::{Core, FENCED, Once, Outcome, grows};
use crate::rows::{Row, key};

/// A client's clock that is further ahead is not gone by.
const AHEAD_SECS_MAX: i64 = 60;
const INODES_PER_GRANT_MAX: u32 = 1 << 16;
/// Ranges of inode numbers that a session has not used up.
const RANGES_MAX: usize = 64;

/// The changes of one message, and the answers so far.
pub(crate) struct Batch<'a> {
    pub(crate) session: SessionId,
    pub(crate) acked: OpId,
    pub(crate) changes: &'a [KeptBack],
    pub(crate) answers: Vec<KeptAnswer>,
    /// Of the state that the answers are about.
    pub(crate) generation: u64,
    /// The engine has no room for what grows.
    pub(crate) full: bool,
}

impl Core {
    /// Applies what of a batch is not applied yet, as far as rows are in memory and nobody has to be told first.
    pub(crate) fn apply_kept_back(
        &mut self,
        now: Timestamp,
        batch: &mut Batch<'_>,
        attempt: &mut Attempt<'_>,
    ) -> Outcome {
        if batch.generation != self.generation {
            // What was applied was taken back.
            batch.generation = self.generation;
            batch.answers.clear();
        }
        if let (Some(session), Some(first)) = (self.sessions.get_mut(&batch.session), batch.changes.first()) {
            // Who sends these has heard of those before; the same sent again begin with the same.
            session.applied.others.retain(|(op, _)| *op >= first.op);
        }
        let before = self.applied_up_to(batch.session);
        let outcome = self.apply_rest(now, batch, attempt);
        if self.applied_up_to(batch.session) != before {
            self.store_applied(batch.session);
        }
        outcome
    }

    fn apply_rest(&mut self, now: Timestamp, batch: &mut Batch<'_>, attempt: &mut Attempt<'_>) -> Outcome {
        let refused = |status| Outcome::Answer { reply: MetaReply::Refused(status), ticket: 0 };
        let mut newest = 0;
        while let Some(change) = batch.changes.get(batch.answers.len()) {
            let Some(session) = self.sessions.get(&batch.session) else { return refused(FENCED) };
            if change.op <= session.applied.up_to {
                batch.answers.push(applied_before(&session.applied, change.op));
                newest = self.unsettled_ticket();
                continue;
            }
            if let Err(status) = self.check_kept_back(batch.session, change) {
                return refused(status);
            }
            let once = Once {
                session: batch.session,
                op: change.op,
                acked: batch.acked,
                mutation: &change.mutation,
                keep_answer: false,
                kept_back: true,
            };
            let at = if change.at.secs > now.secs + AHEAD_SECS_MAX { now } else { change.at };
            let outcome = if batch.full && grows(&change.mutation) {
                refused(Status::NoSpace)
            } else {
                self.mutate(at, &once, attempt)
            };
            let (reply, ticket) = match outcome {
                Outcome::Answer {
                    reply: MetaReply::Refused(status @ (Status::Busy | Status::Unavailable)), ..
                } => {
                    // Tried again as a whole: what was applied is known by its number.
                    return refused(status);
                }
                Outcome::Answer { reply, ticket } => (reply, ticket),
                later => return later,
            };
            newest = newest.max(ticket);
            let answer = match reply {
                reply if digest(&reply) != change.expected => KeptAnswer::Other(Box::new(reply)),
                _ if attempt.leasing.unkept && self.leases_to(Some(batch.session)).is_some() => KeptAnswer::Unkept,
                _ => KeptAnswer::Expected,
            };
            self.note_applied(batch.session, change, &answer);
            batch.answers.push(answer);
            if attempt.wait.is_some() {
                // Its wait is over; the next change has its own.
                return Outcome::Answer { reply: MetaReply::Done, ticket: newest };
            }
        }
        Outcome::Answer { reply: MetaReply::Done, ticket: newest }
    }

    /// The answer to a change that was applied.
    pub(crate) fn kept_back_answer(&self, session: SessionId, op: OpId) -> Option<KeptAnswer> {
        let applied = &self.sessions.get(&session)?.applied;
        (op <= applied.up_to).then(|| applied_before(applied, op))
    }

    /// Grants inode numbers, for changes to be made ahead.
    pub(super) fn grant_inodes(&mut self, once: &Once<'_>, count: u32) -> Outcome {
        let count = u64::from(count.min(INODES_PER_GRANT_MAX));
        let refused = |status| Outcome::Answer { reply: MetaReply::Refused(status), ticket: 0 };
        let Some(ino) = Ino::new(self.counters.next_ino) else { return refused(Status::NoSpace) };
        let Some(session) = self.sessions.get_mut(&once.session) else { return refused(FENCED) };
        let applied = &mut session.applied;
        let used = applied.made.map_or(0, Ino::get);
        applied.granted.retain(|(first, count)| first + count > used + 1);
        if applied.granted.len() >= RANGES_MAX {
            return refused(Status::Busy);
        }
        applied.granted.push((ino.get(), count));
        self.counters.next_ino += count;
        self.counters_dirty = true;
        self.store_applied(once.session);
        let ticket = self.ticket;
        self.answered(once, MetaReply::InodesGranted(ino), ticket)
    }

    fn applied_up_to(&self, session: SessionId) -> OpId {
        self.sessions.get(&session).map_or(OpId(0), |session| session.applied.up_to)
    }

    fn check_kept_back(&self, session: SessionId, change: &KeptBack) -> Result<(), Status> {
        let fits = match &change.mutation {
            Mutation::Make { ino: Some(ino), .. } => {
                self.sessions.get(&session).is_some_and(|session| may_make(session, *ino))
            }
            Mutation::Remove { .. } | Mutation::Rename { .. } => true,
            Mutation::SetAttr { set, .. } => set.size.is_none(),
            Mutation::Commit(commit) => match &commit.content {
                NewContent::Inline { .. } => true,
                NewContent::Slots { edits, .. } => edits.iter().all(|edit| edit.base.is_none()),
            },
            _ => false,
        };
        if fits { Ok(()) } else { Err(Status::Malformed) }
    }

    fn note_applied(&mut self, session: SessionId, change: &KeptBack, answer: &KeptAnswer) {
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let applied = &mut session.applied;
        applied.up_to = change.op;
        if let Mutation::Make { ino: Some(ino), .. } = &change.mutation {
            applied.made = Some(*ino);
        }
        if let KeptAnswer::Other(reply) = answer {
            applied.others.push((change.op, MetaReply::clone(reply)));
        }
    }

    fn store_applied(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let row = Row::Answer(MetaReply::Applied(session.applied.clone()));
        self.pending.rows.insert(key::answer(id, OpId(0)), Some(Arc::new(row)));
    }
}

/// Was the inode granted to the session, and neither it nor a later one used?
fn may_make(session: &Session, ino: Ino) -> bool {
    let within = |(first, count): &(u64, u64)| ino.get() >= *first && ino.get() - first < *count;
    session.applied.made.is_none_or(|made| ino > made) && session.applied.granted.iter().any(within)
}

fn applied_before(applied: &Applied, op: OpId) -> KeptAnswer {
    let other = applied.others.iter().find(|(of, _)| *of == op);
    // What was as expected may have changed since.
    other.map_or(KeptAnswer::Unkept, |(_, reply)| KeptAnswer::Other(Box::new(reply.clone())))
}
