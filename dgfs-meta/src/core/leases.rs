//! Who may believe what: leases of inodes, of names and of the right to keep writes back.
//!
//! Kept in memory only: a writer that takes over has every session drop everything first. Bounded, by session and in
//! all: the oldest leases are recalled, and what cannot be remembered is not leased. Always: a change is made only once
//! every other session that could believe the opposite has carried out a recall, or is dead; while a change waits for
//! that, nothing it concerns is leased.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use dgfs_proto::ids::{Ino, SessionId};
use dgfs_proto::limits::{LEASES_MAX, LEASES_PER_SESSION_MAX, RECALL_MS_MAX, RECALLS_MAX};
use dgfs_proto::meta::{Recall, RecallOf};
use dgfs_proto::name::Name;

/// A directory whose names change so often without being looked at is recalled as a whole.
const UNHEEDED_MAX: u32 = 32;
/// How much of a session's leases goes when there are too many.
const EVICTED_SHARE: usize = 16;

/// Names a wait of one operation.
pub(crate) type WaitId = u64;

/// A recall that an operation needs before it can go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Wanted {
    pub(crate) session: SessionId,
    pub(crate) of: RecallOf,
}

/// What an answer tells, and would be leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Inode(Ino),
    Name(Ino, Name),
    AllNames(Ino),
}

/// What an operation is about to change, as others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Attributes only; true for directories.
    pub(crate) attrs: Vec<(Ino, bool)>,
    /// Content, and attributes with it.
    pub(crate) content: Vec<Ino>,
    pub(crate) names: Vec<(Ino, Name)>,
}

/// The right to keep writes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    No,
    Yes,
    Recalled(u64),
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    session: SessionId,
    writes: Writes,
    /// The recall by which it ends.
    recall: Option<u64>,
    /// Recalls of parts of it since it was leased last.
    unheeded: u32,
}

impl Holder {
    const fn new(session: SessionId) -> Self {
        Self { session, writes: Writes::No, recall: None, unheeded: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lease {
    Inode(Ino),
    Names(Ino),
}

/// What one session holds, and what it is to be told.
#[derive(Debug, Default)]
struct Held {
    /// Oldest first; some are over.
    order: VecDeque<Lease>,
    count: usize,
    outbox: VecDeque<Recall>,
    /// The last batch sent, until it is known to have arrived.
    sent: Option<(u64, Vec<Recall>)>,
    batches: u64,
}

#[derive(Debug)]
struct Open {
    session: SessionId,
    of: RecallOf,
    since_ms: u64,
}

/// An operation that waits.
#[derive(Debug, Default)]
struct Wait {
    /// What is not leased meanwhile.
    blocked: Vec<RecallOf>,
    /// Recalls it waits for.
    open: BTreeMap<u64, Wanted>,
    /// Parts of leases that were carried out; the leases as a whole go on.
    told: HashSet<Wanted>,
}

/// All leases.
#[derive(Debug)]
pub(crate) struct Leases {
    inodes: HashMap<Ino, Vec<Holder>>,
    names: HashMap<Ino, Vec<Holder>>,
    sessions: BTreeMap<SessionId, Held>,
    open: BTreeMap<u64, Open>,
    next_recall: u64,
    waits: BTreeMap<WaitId, Wait>,
    next_wait: WaitId,
    /// What waits keep from being leased, and how many do.
    blocked: HashMap<RecallOf, u32>,
    /// Sessions that have something to be told since this was looked at.
    rung: Vec<SessionId>,
    total: usize,
    per_session_max: usize,
    /// Recalls since the start.
    pub(crate) recalls: u64,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            inodes: HashMap::new(),
            names: HashMap::new(),
            sessions: BTreeMap::new(),
            open: BTreeMap::new(),
            next_recall: 0,
            waits: BTreeMap::new(),
            next_wait: 0,
            blocked: HashMap::new(),
            rung: Vec::new(),
            total: 0,
            per_session_max: LEASES_PER_SESSION_MAX,
            recalls: 0,
        }
    }
}

impl Leases {
    /// Recalls that must be carried out before `session` may make these changes.
    pub(crate) fn conflicts(&self, session: SessionId, changes: &Changes, wait: Option<WaitId>) -> Vec<Wanted> {
        let told = wait.and_then(|wait| self.waits.get(&wait)).map(|wait| &wait.told);
        let was_told = |wanted: &Wanted| told.is_some_and(|told| told.contains(wanted));
        let mut wanted = Vec::new();
        for ino in &changes.content {
            wanted.extend(self.holders(*ino, session).map(|holder| gone(holder, RecallOf::Inode(*ino))));
        }
        for (ino, directory) in &changes.attrs {
            for holder in self.holders(*ino, session) {
                let whole = *directory || holder.unheeded >= UNHEEDED_MAX || holder.recall.is_some();
                let of = if whole { RecallOf::Inode(*ino) } else { RecallOf::Attrs(*ino) };
                let one = gone(holder, of);
                if whole || !was_told(&one) {
                    wanted.push(one);
                }
            }
        }
        for (parent, name) in &changes.names {
            let holders = self.names.get(parent).into_iter().flatten().filter(|holder| holder.session != session);
            for holder in holders {
                let part = gone(holder, RecallOf::Name { parent: *parent, name: name.clone() });
                if was_told(&part) {
                    continue;
                }
                let whole = holder.unheeded >= UNHEEDED_MAX || holder.recall.is_some();
                wanted.push(if whole { gone(holder, RecallOf::Names(*parent)) } else { part });
            }
        }
        wanted.sort();
        wanted.dedup();
        wanted
    }

    /// Recalls that must be carried out before `session` may be told of these inodes: others keep writes of them back.
    pub(crate) fn kept_back(&self, session: SessionId, inos: impl Iterator<Item = Ino>) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = inos
            .flat_map(|ino| {
                let writers = self.holders(ino, session).filter(|holder| holder.writes != Writes::No);
                writers.map(move |holder| gone(holder, RecallOf::Writes(ino)))
            })
            .collect();
        wanted.sort();
        wanted.dedup();
        wanted
    }

    /// Other sessions with a lease of an inode.
    fn holders(&self, ino: Ino, but: SessionId) -> impl Iterator<Item = &Holder> {
        self.inodes.get(&ino).into_iter().flatten().filter(move |holder| holder.session != but)
    }

    /// Does any other session hold a lease of an inode?
    pub(crate) fn is_held_elsewhere(&self, ino: Ino, session: SessionId) -> bool {
        self.holders(ino, session).next().is_some()
    }

    /// Leases to `session` what it is told; false when something of it must not be kept.
    pub(crate) fn lease(&mut self, session: SessionId, told: &[Told]) -> bool {
        if told.iter().any(|told| self.is_blocked(told)) {
            return false;
        }
        let held = self.sessions.get(&session).map_or(0, |held| held.count);
        if held > self.per_session_max + self.evicted() || self.total >= LEASES_MAX {
            return false;
        }
        for told in told {
            let (all, ino, lease) = match told {
                Told::Inode(ino) => (&mut self.inodes, *ino, Lease::Inode(*ino)),
                Told::Name(parent, _) | Told::AllNames(parent) => (&mut self.names, *parent, Lease::Names(*parent)),
            };
            let holders = all.entry(ino).or_default();
            if let Some(holder) = holders.iter_mut().find(|holder| holder.session == session) {
                // Known again: a recall under way is of what was known before.
                holder.recall = None;
                holder.unheeded = 0;
                continue;
            }
            holders.push(Holder::new(session));
            let held = self.sessions.entry(session).or_default();
            held.order.push_back(lease);
            held.count += 1;
            self.total += 1;
        }
        true
    }

    fn is_blocked(&self, told: &Told) -> bool {
        if self.blocked.is_empty() {
            return false;
        }
        match told {
            Told::Inode(ino) => self.blocked.contains_key(&RecallOf::Inode(*ino)),
            Told::Name(parent, name) => {
                self.blocked.contains_key(&RecallOf::Name { parent: *parent, name: name.clone() })
            }
            Told::AllNames(parent) => self.blocked.contains_key(&RecallOf::Names(*parent)),
        }
    }

    /// Gives `session` the right to keep writes of a file back. The caller has seen that nobody else holds a lease of it.
    pub(crate) fn lease_writes(&mut self, session: SessionId, ino: Ino) -> bool {
        let blocked = [RecallOf::Writes(ino), RecallOf::Inode(ino)];
        if blocked.iter().any(|of| self.blocked.contains_key(of)) || !self.lease(session, &[Told::Inode(ino)]) {
            return false;
        }
        let holders = self.inodes.get_mut(&ino).into_iter().flatten();
        for holder in holders.filter(|holder| holder.session == session) {
            holder.writes = Writes::Yes;
        }
        true
    }

    /// The session has closed the file.
    pub(crate) fn end_writes(&mut self, session: SessionId, ino: Ino) {
        for holder in self.inodes.get_mut(&ino).into_iter().flatten().filter(|holder| holder.session == session) {
            holder.writes = Writes::No;
        }
    }

    /// Recalls what an operation needs, which goes on as `wait`.
    pub(crate) fn recall(&mut self, wait: Option<WaitId>, wanted: Vec<Wanted>, now_ms: u64) -> WaitId {
        let wait = wait.unwrap_or_else(|| {
            self.next_wait += 1;
            self.waits.insert(self.next_wait, Wait::default());
            self.next_wait
        });
        for one in wanted {
            let id = self.queue(&one, now_ms);
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

    /// Tells a session; the number of the recall.
    fn queue(&mut self, wanted: &Wanted, now_ms: u64) -> u64 {
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
        self.open.insert(id, Open { session, of: wanted.of.clone(), since_ms: now_ms });
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

    fn close(&mut self, id: u64) {
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
            RecallOf::Attrs(_) | RecallOf::Name { .. } => {}
        }
        for wait in self.waits.values_mut() {
            if let Some(wanted) = wait.open.remove(&id) {
                wait.told.insert(wanted);
            }
        }
    }

    fn end(&mut self, session: SessionId, lease: Lease, which: impl Fn(&Holder) -> bool) {
        let (all, ino) = match lease {
            Lease::Inode(ino) => (&mut self.inodes, ino),
            Lease::Names(ino) => (&mut self.names, ino),
        };
        let Some(holders) = all.get_mut(&ino) else { return };
        let before = holders.len();
        holders.retain(|holder| holder.session != session || !which(holder));
        let ended = before - holders.len();
        if holders.is_empty() {
            all.remove(&ino);
        }
        self.total -= ended;
        if let Some(held) = self.sessions.get_mut(&session) {
            held.count -= ended;
            if held.order.len() > 64 + 2 * held.count {
                self.forget_ended(session);
            }
        }
    }

    /// Takes leases that are over out of a session's order.
    fn forget_ended(&mut self, session: SessionId) {
        let (inodes, names) = (&self.inodes, &self.names);
        let holds = |lease: &Lease| {
            let holders = match lease {
                Lease::Inode(ino) => inodes.get(ino),
                Lease::Names(ino) => names.get(ino),
            };
            holders.is_some_and(|holders| holders.iter().any(|holder| holder.session == session))
        };
        if let Some(held) = self.sessions.get_mut(&session) {
            held.order.retain(holds);
        }
    }

    /// How many leases of a session go when it has too many.
    fn evicted(&self) -> usize {
        (self.per_session_max / EVICTED_SHARE).max(1)
    }

    /// Recalls the oldest leases of sessions that hold too many.
    pub(crate) fn evict(&mut self, now_ms: u64) {
        let full = |(session, held): (&SessionId, &Held)| (held.count > self.per_session_max).then_some(*session);
        let full: Vec<SessionId> = self.sessions.iter().filter_map(full).collect();
        let evicted = self.evicted();
        for session in full {
            self.forget_ended(session);
            let oldest: Vec<Lease> = self.sessions.get_mut(&session).map_or_else(Vec::new, |held| {
                let count = evicted.min(held.order.len());
                // To the end: those that are leased again meanwhile are not the oldest any more.
                let oldest: Vec<Lease> = held.order.drain(..count).collect();
                held.order.extend(&oldest);
                oldest
            });
            for lease in oldest {
                let of = match lease {
                    Lease::Inode(ino) => RecallOf::Inode(ino),
                    Lease::Names(ino) => RecallOf::Names(ino),
                };
                let _: u64 = self.queue(&Wanted { session, of }, now_ms);
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
        held.batches = held.batches.max(received) + 1;
        let count = held.outbox.len().min(RECALLS_MAX);
        held.sent = Some((held.batches, held.outbox.drain(..count).collect()));
        held.sent.clone()
    }

    /// Sessions that have something to be told.
    pub(crate) fn take_rung(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.rung)
    }

    /// The session is dead: whatever it believes, it can act on nothing.
    pub(crate) fn end_session(&mut self, session: SessionId) {
        for id in self.open.iter().filter(|(_, open)| open.session == session).map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close(id);
        }
        let Some(held) = self.sessions.remove(&session) else { return };
        for lease in held.order {
            self.end(session, lease, |_| true);
        }
    }

    /// The oldest recall that a session has not carried out.
    pub(crate) fn waits_since(&self, session: SessionId) -> Option<u64> {
        self.open.values().find(|open| open.session == session).map(|open| open.since_ms)
    }

    /// Sessions that have not carried out a recall for too long.
    pub(crate) fn overdue(&self, now_ms: u64) -> Vec<SessionId> {
        let late = |open: &&Open| now_ms > open.since_ms + RECALL_MS_MAX;
        let mut late: Vec<SessionId> = self.open.values().filter(late).map(|open| open.session).collect();
        late.sort_unstable();
        late.dedup();
        late
    }

    /// Operations that wait.
    pub(crate) fn waits(&self) -> usize {
        self.waits.len()
    }

    /// Leases of all sessions.
    pub(crate) fn len(&self) -> usize {
        self.total
    }
}

fn gone(holder: &Holder, of: RecallOf) -> Wanted {
    Wanted { session: holder.session, of }
}

fn of_session<'a>(all: &'a mut HashMap<Ino, Vec<Holder>>, ino: &Ino, session: SessionId) -> Option<&'a mut Holder> {
    all.get_mut(ino)?.iter_mut().find(|holder| holder.session == session)
}

/// What must not be leased while a recall is waited for.
fn blocks(of: &RecallOf) -> Vec<RecallOf> {
    match of {
        RecallOf::Attrs(ino) | RecallOf::Inode(ino) => vec![RecallOf::Inode(*ino)],
        RecallOf::Writes(ino) => vec![RecallOf::Writes(*ino)],
        // A listing tells this name too.
        RecallOf::Name { parent, name } => {
            vec![RecallOf::Name { parent: *parent, name: name.clone() }, RecallOf::Names(*parent)]
        }
        RecallOf::Names(parent) => vec![RecallOf::Names(*parent)],
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
