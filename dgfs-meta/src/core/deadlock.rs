//! EDEADLK: a wait that would close a ring of owners waiting for each other.

use std::collections::BTreeSet;

use dgfs_proto::ids::{Ino, OpId, SessionId};
use dgfs_proto::meta::{LockFamily, LockSpec, Mutation};

use crate::core::ops::lock::blocker;
use crate::core::{Core, Once};
use crate::rows::{HeldLock, Row, key};

/// Owners looked at before a ring is given up on.
const STEPS_MAX: usize = 256;

impl Core {
    /// Remembers the wait of `once`; true when it would be a deadlock (fcntl locks only, as on Linux).
    pub(crate) fn would_deadlock(&mut self, once: &Once<'_>) -> bool {
        let Mutation::Lock { ino, lock, .. } = once.mutation else { return false };
        if lock.family == LockFamily::Posix && self.closes_ring(once.session, *ino, lock) {
            return true;
        }
        self.lock_waits.insert((once.session, once.op), (*ino, *lock));
        false
    }

    /// The wait is over.
    pub(crate) fn end_lock_wait(&mut self, wait: (SessionId, OpId)) {
        self.lock_waits.remove(&wait);
    }

    fn holder_in_the_way(&mut self, session: SessionId, ino: Ino, lock: &LockSpec) -> Option<HeldLock> {
        match self.cache.get(key::lock(ino))?.0.as_deref() {
            Some(Row::Locks(held)) => blocker(held, session, lock),
            Some(_) | None => None,
        }
    }

    fn closes_ring(&mut self, session: SessionId, ino: Ino, lock: &LockSpec) -> bool {
        let me = (session, lock.owner);
        let mut seen = BTreeSet::new();
        let mut next = vec![(session, ino, *lock)];
        for _ in 0..STEPS_MAX {
            let Some((waiter, ino, wanted)) = next.pop() else { return false };
            let Some(holder) = self.holder_in_the_way(waiter, ino, &wanted) else { continue };
            let owner = (holder.session, holder.lock.owner);
            if owner == me {
                return true;
            }
            if !seen.insert(owner) {
                continue;
            }
            let waits = self.lock_waits.iter().filter(|((session, _), (_, lock))| {
                (*session, lock.owner) == owner && lock.family == LockFamily::Posix
            });
            next.extend(waits.map(|((session, _), (ino, lock))| (*session, *ino, *lock)));
        }
        false
    }
}
