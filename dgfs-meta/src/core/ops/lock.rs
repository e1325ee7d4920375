//! fcntl and flock locks: ranges of an inode held by (session, owner).
//!
//! Never waits: a lock in the way is `WouldBlock`; the shell parks waiters and
//! tries again when locks of the inode were loosened.

use dgfs_proto::ids::{Ino, SessionId};
use dgfs_proto::limits::LOCKS_PER_INODE_MAX;
use dgfs_proto::meta::{LockFamily, LockKind, LockSpec};
use dgfs_proto::status::Status;

use crate::core::tx::{Step, Tx};
use crate::rows::{HeldLock, Row, key};

pub(crate) fn overlaps(a: &LockSpec, b: &LockSpec) -> bool {
    a.start <= b.end && b.start <= a.end
}

fn same_owner(held: &HeldLock, session: SessionId, lock: &LockSpec) -> bool {
    held.session == session && held.lock.family == lock.family && held.lock.owner == lock.owner
}

/// The held locks that stand in the way.
pub(crate) fn blockers<'a>(
    held: &'a [HeldLock],
    session: SessionId,
    lock: &'a LockSpec,
) -> impl Iterator<Item = &'a HeldLock> {
    held.iter().filter(move |other| {
        other.lock.family == lock.family
            && !same_owner(other, session, lock)
            && overlaps(&other.lock, lock)
            && (other.lock.kind == LockKind::Write || lock.kind == LockKind::Write)
    })
}

/// The first of them.
pub(crate) fn blocker(held: &[HeldLock], session: SessionId, lock: &LockSpec) -> Option<HeldLock> {
    blockers(held, session, lock).next().copied()
}

/// `held` after `session` set `lock`: its own ranges are cut, then joined where they touch.
pub(crate) fn replaced(held: &[HeldLock], session: SessionId, lock: &LockSpec) -> Vec<HeldLock> {
    let mut result = Vec::with_capacity(held.len() + 2);
    for other in held {
        if !same_owner(other, session, lock) || !overlaps(&other.lock, lock) {
            result.push(*other);
            continue;
        }
        if other.lock.start < lock.start {
            result.push(HeldLock { session, lock: LockSpec { end: lock.start - 1, ..other.lock } });
        }
        if other.lock.end > lock.end {
            result.push(HeldLock { session, lock: LockSpec { start: lock.end + 1, ..other.lock } });
        }
    }
    if lock.kind == LockKind::Unlock {
        return result;
    }
    let mut merged = *lock;
    result.retain(|other| {
        let joins = same_owner(other, session, lock)
            && other.lock.kind == lock.kind
            && other.lock.start <= merged.end.saturating_add(1)
            && merged.start <= other.lock.end.saturating_add(1);
        if joins {
            merged.start = merged.start.min(other.lock.start);
            merged.end = merged.end.max(other.lock.end);
        }
        !joins
    });
    result.push(HeldLock { session, lock: merged });
    result
}

fn store(tx: &mut Tx<'_>, ino: Ino, before: &[HeldLock], after: Vec<HeldLock>) {
    if after == before {
        return;
    }
    if after.is_empty() {
        tx.delete(key::lock(ino));
    } else {
        tx.put(key::lock(ino), Row::Locks(after));
    }
}

/// Sets or gives up a lock.
pub(crate) fn lock(tx: &mut Tx<'_>, session: SessionId, ino: Ino, lock: &LockSpec) -> Step<()> {
    if lock.start > lock.end {
        return Err(Status::Invalid.into());
    }
    tx.live_inode(ino)?;
    let held = tx.locks(ino)?;
    if lock.kind != LockKind::Unlock && blocker(&held, session, lock).is_some() {
        return Err(Status::WouldBlock.into());
    }
    let after = replaced(&held, session, lock);
    if after.len() > LOCKS_PER_INODE_MAX {
        return Err(Status::NoLocks.into());
    }
    // A lock given up or weakened may let others in.
    if lock.kind != LockKind::Write {
        tx.unlocked.push(ino);
    }
    store(tx, ino, &held, after);
    Ok(())
}

/// Gives up every lock of an owner on an inode.
pub(crate) fn unlock_owner(tx: &mut Tx<'_>, session: SessionId, ino: Ino, family: LockFamily, owner: u64) -> Step<()> {
    unlock_where(tx, ino, |held| held.session == session && held.lock.family == family && held.lock.owner == owner)
}

/// Gives up the locks of `ino` that `gone` names.
pub(crate) fn unlock_where(tx: &mut Tx<'_>, ino: Ino, gone: impl Fn(&HeldLock) -> bool) -> Step<()> {
    let held = tx.locks(ino)?;
    let after: Vec<HeldLock> = held.iter().filter(|held| !gone(held)).copied().collect();
    if after.len() < held.len() {
        tx.unlocked.push(ino);
        store(tx, ino, &held, after);
    }
    Ok(())
}
