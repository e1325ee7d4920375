//! Waits for locks: of those who want to write, who came first goes first, and a wait that would close a ring is refused (EDEADLK).
//!
//! Never grants a lock: `ops::lock` does. Always: a waiter that could have its lock passes an earlier one that is in its way
//! only if that one waits, directly or through others, for this waiter's owner.

use std::collections::BTreeSet;

use dgfs_proto::ids::{Ino, OpId, SessionId};
use dgfs_proto::meta::{LockFamily, LockKind, LockSpec, Mutation};

use crate::core::ops::lock::{blockers, overlaps};
use crate::core::{Core, Once};
use crate::rows::{Row, key};

/// Waits looked at before a ring is given up on.
const STEPS_MAX: usize = 256;

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockWait {
    session: SessionId,
    ino: Ino,
    lock: LockSpec,
    /// Grows with each request that begins to wait.
    order: u64,
    /// When it began, milliseconds since 1970, as of the last tick.
    since_ms: u64,
}

type Owner = (SessionId, LockFamily, u64);

impl LockWait {
    const fn owner(&self) -> Owner {
        (self.session, self.lock.family, self.lock.owner)
    }
}

impl Core {
    /// Remembers the wait of `once`, in its place if it waits already; true when it would be a deadlock (fcntl locks only,
    /// as on Linux).
    pub(crate) fn would_deadlock(&mut self, once: &Once<'_>) -> bool {
        let Mutation::Lock { ino, lock, .. } = once.mutation else { return false };
        let (order, since_ms) = (self.next_lock_wait, self.now_ms);
        let wait = LockWait { session: once.session, ino: *ino, lock: *lock, order, since_ms };
        if lock.family == LockFamily::Posix && self.leads_to(wait, wait.owner(), false) {
            return true;
        }
        self.next_lock_wait += 1;
        self.lock_waits.entry((once.session, once.op)).or_insert(wait);
        false
    }

    /// When the oldest request that waits began to, milliseconds since 1970.
    pub(crate) fn oldest_lock_wait(&self) -> Option<u64> {
        self.lock_waits.values().map(|wait| wait.since_ms).min()
    }

    /// Requests that wait.
    pub(crate) fn lock_waits(&self) -> usize {
        self.lock_waits.len()
    }

    /// The wait is over.
    pub(crate) fn end_lock_wait(&mut self, wait: (SessionId, OpId)) {
        self.lock_waits.remove(&wait);
    }

    /// Must a request that is willing to wait let others go first?
    pub(crate) fn must_queue(&mut self, once: &Once<'_>) -> bool {
        let Mutation::Lock { ino, lock, wait: true } = once.mutation else { return false };
        // Readers pass: a reader may wait for another one in ways that nobody sees here (a lock within a lock), as on Linux.
        if self.lock_waits.is_empty() || lock.kind != LockKind::Write {
            return false;
        }
        let known = self.lock_waits.get(&(once.session, once.op));
        let order = known.map_or(u64::MAX, |wait| wait.order);
        let mine = LockWait { session: once.session, ino: *ino, lock: *lock, order, since_ms: self.now_ms };
        let first = self.earlier(mine);
        // Who holds nothing is in nobody's way.
        let holds = self.sessions.get(&once.session).is_some_and(|session| !session.locked.is_empty());
        if !holds {
            return !first.is_empty();
        }
        first.into_iter().any(|wait| !self.leads_to(wait, mine.owner(), true))
    }

    /// Earlier waits in the way of a wait.
    fn earlier(&self, mine: LockWait) -> Vec<LockWait> {
        let in_the_way = |wait: &&LockWait| {
            wait.ino == mine.ino
                && wait.order < mine.order
                && wait.owner() != mine.owner()
                && wait.lock.family == mine.lock.family
                && overlaps(&wait.lock, &mine.lock)
        };
        self.lock_waits.values().filter(in_the_way).copied().collect()
    }

    /// Does a wait lead, through owners that wait themselves, to `goal`? With `queues` also through those who only let others go
    /// first.
    fn leads_to(&mut self, from: LockWait, goal: Owner, queues: bool) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        for _ in 0..STEPS_MAX {
            let Some(wait) = next.pop() else { return false };
            let mut owners = self.owners_in_the_way(&wait);
            if queues {
                owners.extend(self.earlier(wait).iter().map(LockWait::owner));
            }
            for owner in owners {
                if owner == goal {
                    return true;
                }
                if seen.insert(owner) {
                    next.extend(self.lock_waits.values().filter(|wait| wait.owner() == owner).copied());
                }
            }
        }
        false
    }

    /// Owners of locks held in the way.
    fn owners_in_the_way(&mut self, wait: &LockWait) -> Vec<Owner> {
        match self.cache.get(key::lock(wait.ino)).and_then(|(row, _)| row).as_deref() {
            Some(Row::Locks(held)) => blockers(held, wait.session, &wait.lock)
                .map(|held| (held.session, held.lock.family, held.lock.owner))
                .collect(),
            Some(_) | None => Vec::new(),
        }
    }
}
