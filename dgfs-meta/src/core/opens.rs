//! Which session has which inode open: what keeps an unnamed inode alive.
//!
//! Kept in memory only: after a takeover each session says again what it holds.

use std::collections::{BTreeMap, HashMap};

use dgfs_proto::ids::{Ino, SessionId};

/// Open counts by inode and session.
#[derive(Debug, Default)]
pub(crate) struct Opens {
    by_ino: HashMap<Ino, Vec<(SessionId, u32)>>,
    by_session: BTreeMap<SessionId, HashMap<Ino, u32>>,
}

impl Opens {
    /// Does anybody have it open?
    pub(crate) fn is_open(&self, ino: Ino) -> bool {
        self.by_ino.contains_key(&ino)
    }

    /// Would anybody still have it open after `session` takes back `count`?
    pub(crate) fn is_open_after(&self, ino: Ino, session: SessionId, count: u32) -> bool {
        self.by_ino.get(&ino).is_some_and(|all| all.iter().any(|(holder, held)| *holder != session || *held > count))
    }

    /// Does any other session have it open?
    pub(crate) fn is_open_elsewhere(&self, ino: Ino, session: SessionId) -> bool {
        self.by_ino.get(&ino).is_some_and(|all| all.iter().any(|(holder, _)| *holder != session))
    }

    /// Registers `more` opens.
    pub(crate) fn open(&mut self, ino: Ino, session: SessionId, more: u32) {
        if more == 0 {
            return;
        }
        let count = self.by_session.entry(session).or_default().entry(ino).or_insert(0);
        *count = count.saturating_add(more);
        let count = *count;
        self.set_by_ino(ino, session, count);
    }

    /// Takes back up to `count` opens.
    pub(crate) fn release(&mut self, ino: Ino, session: SessionId, count: u32) {
        let held = self.by_session.get(&session).and_then(|all| all.get(&ino)).copied().unwrap_or(0);
        self.set(ino, session, held.saturating_sub(count));
    }

    /// Sets a session's count.
    pub(crate) fn set(&mut self, ino: Ino, session: SessionId, count: u32) {
        let all = self.by_session.entry(session).or_default();
        if count == 0 {
            all.remove(&ino);
        } else {
            all.insert(ino, count);
        }
        self.set_by_ino(ino, session, count);
    }

    fn set_by_ino(&mut self, ino: Ino, session: SessionId, count: u32) {
        let holders = self.by_ino.entry(ino).or_default();
        holders.retain(|(holder, _)| *holder != session);
        if count > 0 {
            holders.push((session, count));
        }
        if holders.is_empty() {
            self.by_ino.remove(&ino);
        }
    }

    /// How many inodes a session has open.
    pub(crate) fn count(&self, session: SessionId) -> u64 {
        self.by_session.get(&session).map_or(0, |all| all.len() as u64)
    }

    /// The session is gone; the inodes that nobody has open any more.
    pub(crate) fn end_session(&mut self, session: SessionId) -> Vec<Ino> {
        let inos = self.by_session.remove(&session).unwrap_or_default();
        let mut closed = Vec::new();
        for ino in inos.into_keys() {
            self.set_by_ino(ino, session, 0);
            if !self.is_open(ino) {
                closed.push(ino);
            }
        }
        closed
    }
}
