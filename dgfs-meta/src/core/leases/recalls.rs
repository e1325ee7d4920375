//! Taking leases back: recalls on their way to sessions, and the operations that wait for them.
//!
//! Never forgets a recall before it was carried out or its session is dead. Always: what an operation waits for is not leased
//! until the operation has ended.

use std::collections::HashMap;

use dgfs_proto::ids::{Ino, SessionId};
use dgfs_proto::limits::{RECALL_MS_MAX, RECALLS_MAX};
use dgfs_proto::meta::{Recall, RecallOf};

use super::{Holder, Lease, Leases, Open, Wait, WaitId, Wanted, Writes};

impl Leases {
    /// Recalls what an operation needs, which goes on as `wait`.
    pub(crate) fn recall(&mut self, wait: Option<WaitId>, wanted: Vec<Wanted>, now_ms: u64) -> WaitId {
        let wait = wait.unwrap_or_else(|| {
            self.next_wait += 1;
            self.waits.insert(self.next_wait, Wait::default());
            self.next_wait
        });
        for one in wanted {
            let id = self.queue(&one);
            if let Some(open) = self.open.get_mut(&id) {
                open.waited_since_ms.get_or_insert(now_ms);
            }
            let blocked = blocks(&one.of);
            for of in &blocked {
                *self.blocked.entry(of.clone()).or_insert(0) += 1;
            }
            if let Some(wait) = self.waits.get_mut(&wait) {
                wait.blocked.extend(blocked);
                wait.open.insert(id, one);
            }
        }
        wait
    }

    /// A session of a writer before may keep writes back: it is to send them.
    pub(crate) fn recall_all_writes(&mut self, session: SessionId) {
        self.unsent.insert(session, 0);
        let _: u64 = self.queue(&Wanted { session, of: RecallOf::AllWrites });
    }

    /// Recalls that must be carried out before anything of a file is told to, or changed by, `session`. What flushes need
    /// (`sends`) those pass that have writes to send themselves; nothing is leased to them meanwhile.
    pub(crate) fn unsent_of_others(&self, session: SessionId, sends: bool) -> Vec<Wanted> {
        if self.unsent.is_empty() || sends && self.unsent.contains_key(&session) {
            return Vec::new();
        }
        let others = self.unsent.keys().filter(|other| **other != session);
        others.map(|other| Wanted { session: *other, of: RecallOf::AllWrites }).collect()
    }

    /// Tells a session; the number of the recall.
    pub(super) fn queue(&mut self, wanted: &Wanted) -> u64 {
        let id = self.next_recall + 1;
        let session = wanted.session;
        let known = match &wanted.of {
            RecallOf::Inode(ino) => of_session(&mut self.inodes, ino, session).and_then(|holder| {
                let known = holder.recall;
                holder.recall.get_or_insert(id);
                known
            }),
            RecallOf::Names(parent) => of_session(&mut self.names, parent, session).and_then(|holder| {
                let known = holder.recall;
                holder.recall.get_or_insert(id);
                known
            }),
            RecallOf::Writes(ino) => {
                of_session(&mut self.inodes, ino, session).and_then(|holder| match holder.writes {
                    Writes::Recalled(known) => Some(known),
                    Writes::Yes | Writes::No => {
                        holder.writes = Writes::Recalled(id);
                        None
                    }
                })
            }
            RecallOf::AllWrites => {
                let known = self.unsent.get(&session).copied().filter(|known| *known > 0);
                self.unsent.entry(session).and_modify(|open| *open = if *open == 0 { id } else { *open });
                known
            }
            RecallOf::Attrs(ino) => of_session(&mut self.inodes, ino, session).and_then(|holder| {
                holder.unheeded += 1;
                None
            }),
            RecallOf::Name { parent, .. } => of_session(&mut self.names, parent, session).and_then(|holder| {
                holder.unheeded += 1;
                None
            }),
        };
        if let Some(known) = known {
            return known;
        }
        self.next_recall = id;
        self.recalls += 1;
        self.open.insert(id, Open { session, of: wanted.of.clone(), waited_since_ms: None });
        self.sessions.entry(session).or_default().outbox.push_back(Recall { id, of: wanted.of.clone() });
        self.rung.push(session);
        id
    }

    /// Has everything been carried out that this operation waits for?
    pub(crate) fn is_carried_out(&self, wait: WaitId) -> bool {
        self.waits.get(&wait).is_none_or(|wait| wait.open.is_empty())
    }

    /// The operation has ended.
    pub(crate) fn end_wait(&mut self, wait: WaitId) {
        let Some(wait) = self.waits.remove(&wait) else { return };
        for of in wait.blocked {
            if let Some(count) = self.blocked.get_mut(&of) {
                *count -= 1;
                if *count == 0 {
                    self.blocked.remove(&of);
                }
            }
        }
    }

    /// A session carried recalls out.
    pub(crate) fn carried_out(&mut self, session: SessionId, ids: &[u64]) {
        for id in ids {
            if self.open.get(id).is_some_and(|open| open.session == session) {
                self.close(*id);
            }
        }
    }

    pub(super) fn close(&mut self, id: u64) {
        let Some(open) = self.open.remove(&id) else { return };
        match &open.of {
            RecallOf::Inode(ino) => self.end(open.session, Lease::Inode(*ino), |holder| holder.recall == Some(id)),
            RecallOf::Names(ino) => self.end(open.session, Lease::Names(*ino), |holder| holder.recall == Some(id)),
            RecallOf::Writes(ino) => {
                if let Some(holder) = of_session(&mut self.inodes, ino, open.session)
                    && holder.writes == Writes::Recalled(id)
                {
                    holder.writes = Writes::No;
                }
            }
            RecallOf::AllWrites => {
                self.unsent.remove(&open.session);
            }
            RecallOf::Attrs(_) | RecallOf::Name { .. } => {}
        }
        for wait in self.waits.values_mut() {
            if let Some(wanted) = wait.open.remove(&id) {
                wait.told.insert(wanted);
            }
        }
    }

    /// The next recalls for a session that has received batch `received`.
    pub(crate) fn batch(&mut self, session: SessionId, received: u64) -> Option<(u64, Vec<Recall>)> {
        let held = self.sessions.get_mut(&session)?;
        if held.sent.as_ref().is_some_and(|(number, _)| *number > received) {
            return held.sent.clone();
        }
        held.sent = None;
        if held.outbox.is_empty() {
            return None;
        }
        held.batches = held.batches.max(received).saturating_add(1);
        let count = held.outbox.len().min(RECALLS_MAX);
        held.sent = Some((held.batches, held.outbox.drain(..count).collect()));
        held.sent.clone()
    }

    /// Sessions that have something to be told.
    pub(crate) fn take_rung(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.rung)
    }

    /// Since when somebody waits for a recall that a session has not carried out.
    pub(crate) fn waits_since(&self, session: SessionId) -> Option<u64> {
        self.open.values().filter(|open| open.session == session).filter_map(|open| open.waited_since_ms).min()
    }

    /// Sessions that have not carried out a recall for too long.
    pub(crate) fn overdue(&self, now_ms: u64) -> Vec<SessionId> {
        let late = |open: &&Open| open.waited_since_ms.is_some_and(|since| now_ms > since + RECALL_MS_MAX);
        let mut late: Vec<SessionId> = self.open.values().filter(late).map(|open| open.session).collect();
        late.sort_unstable();
        late.dedup();
        late
    }
}

/// What must not be leased while a recall is waited for.
fn blocks(of: &RecallOf) -> Vec<RecallOf> {
    match of {
        RecallOf::Attrs(ino) | RecallOf::Inode(ino) => vec![RecallOf::Inode(*ino)],
        RecallOf::Writes(ino) => vec![RecallOf::Writes(*ino)],
        RecallOf::AllWrites => Vec::new(),
        // A listing tells this name too.
        RecallOf::Name { parent, name } => {
            vec![RecallOf::Name { parent: *parent, name: name.clone() }, RecallOf::Names(*parent)]
        }
        RecallOf::Names(parent) => vec![RecallOf::Names(*parent)],
    }
}

fn of_session<'a>(all: &'a mut HashMap<Ino, Vec<Holder>>, ino: &Ino, session: SessionId) -> Option<&'a mut Holder> {
    all.get_mut(ino)?.iter_mut().find(|holder| holder.session == session)
}
