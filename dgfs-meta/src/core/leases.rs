//! Who may believe what: leases of inodes, of names and of the right to keep writes back.
//!
//! Kept in memory only: a writer that takes over has every session drop everything first. Bounded, by session and in
//! all: the oldest leases are recalled, and what cannot be remembered is not leased. Always: a change is made only once
//! every other session that could believe the opposite has carried out a recall, or is dead; while a change waits for
//! that, nothing it concerns is leased.
//!
//! Here: who holds what, and how much. [`conflicts`]: what stands in the way of a change or an answer. [`recalls`]: taking
//! it back.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use dgfs_proto::ids::{Epoch, Ino, SessionId};
use dgfs_proto::limits::{LEASES_MAX, LEASES_PER_SESSION_MAX};
use dgfs_proto::meta::{Recall, RecallOf};
use dgfs_proto::name::Name;

/// A directory whose names change so often without being looked at is recalled as a whole.
const UNHEEDED_MAX: u32 = 32;
/// Directories of which is remembered who changed them last.
const CHANGED_MAX: usize = 64 << 10;
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

impl Told {
    /// The inode, or the directory that the names are in.
    pub(crate) const fn ino(&self) -> Ino {
        match self {
            Self::Inode(ino) | Self::Name(ino, _) | Self::AllNames(ino) => *ino,
        }
    }
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

/// The right to keep changes back.
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
    /// It was leased again since it was among the oldest.
    again: bool,
}

impl Holder {
    const fn new(session: SessionId) -> Self {
        Self { session, writes: Writes::No, recall: None, unheeded: 0, again: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Since when an operation waits for it; none when nobody does.
    waited_since_ms: Option<u64>,
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
    /// Sessions that may keep writes back of which nothing is known, and the recall by which they send them.
    unsent: BTreeMap<SessionId, u64>,
    per_session_max: usize,
    /// Who changed names in a directory last.
    changed_by: HashMap<Ino, SessionId>,
    /// Inodes that are gone once their batch is committed, by its ticket.
    freed: VecDeque<(u64, Ino)>,
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
            unsent: BTreeMap::new(),
            per_session_max: LEASES_PER_SESSION_MAX,
            changed_by: HashMap::new(),
            freed: VecDeque::new(),
            recalls: 0,
        }
    }
}

impl Leases {
    /// Those of a writer: its recalls have numbers that no writer before has used.
    pub(crate) fn of_writer(epoch: Epoch) -> Self {
        Self { next_recall: epoch.0 << 32, ..Self::default() }
    }

    /// Leases to `session` what it is told; false when something of it must not be kept.
    pub(crate) fn lease(&mut self, session: SessionId, told: &[Told]) -> bool {
        let unsent = self.unsent.keys().any(|other| *other != session);
        if unsent || told.iter().any(|told| self.is_blocked(told)) {
            return false;
        }
        if self.is_full(session) && told.iter().any(|told| !self.holds(session, told)) {
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
                holder.again = true;
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

    /// Does a session hold so many leases, or do all, that it gets no new ones?
    fn is_full(&self, session: SessionId) -> bool {
        let held = self.sessions.get(&session).map_or(0, |held| held.count);
        held > self.per_session_max + self.evicted() || self.total >= LEASES_MAX
    }

    fn holds(&self, session: SessionId, told: &Told) -> bool {
        let holders = match told {
            Told::Inode(ino) => self.inodes.get(ino),
            Told::Name(parent, _) | Told::AllNames(parent) => self.names.get(parent),
        };
        holders.is_some_and(|holders| holders.iter().any(|holder| holder.session == session))
    }

    /// The session has changed a file that it must not believe: its kernel may hold pages of it all the same.
    pub(crate) fn note_pages(&mut self, session: SessionId, ino: Ino) {
        if !self.holds(session, &Told::Inode(ino)) {
            self.inodes.entry(ino).or_default().push(Holder::new(session));
            let held = self.sessions.entry(session).or_default();
            held.order.push_back(Lease::Inode(ino));
            held.count += 1;
            self.total += 1;
        }
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

    /// Gives `session` the right to keep changes of an inode back. The caller has seen that nobody else holds a lease of it.
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

    /// The session has made an inode ahead: nobody else can know it, and the session may go on to change it, whatever else
    /// of the answer must not be kept.
    pub(crate) fn note_made(&mut self, session: SessionId, ino: Ino) {
        self.note_pages(session, ino);
        for holder in self.inodes.get_mut(&ino).into_iter().flatten().filter(|holder| holder.session == session) {
            holder.writes = Writes::Yes;
        }
    }

    /// A session changed names in a directory; true when it did so the last time, too: it is at work there.
    pub(crate) fn is_at_work(&mut self, session: SessionId, directory: Ino) -> bool {
        if self.changed_by.len() >= CHANGED_MAX {
            self.changed_by.clear();
        }
        self.changed_by.insert(directory, session) == Some(session)
    }

    /// An inode is freed by the batch `ticket`.
    pub(crate) fn freed(&mut self, ino: Ino, ticket: u64) {
        if self.inodes.contains_key(&ino) || self.names.contains_key(&ino) {
            self.freed.push_back((ticket, ino));
        }
    }

    /// Batches up to `ticket` are committed: of what they freed there is nothing more to believe.
    pub(crate) fn committed(&mut self, ticket: u64) {
        while let Some((_, ino)) = self.freed.front().copied().filter(|(of, _)| *of <= ticket) {
            self.freed.pop_front();
            for lease in [Lease::Inode(ino), Lease::Names(ino)] {
                let sessions: Vec<SessionId> = self.of_lease(lease).iter().map(|holder| holder.session).collect();
                sessions.into_iter().for_each(|session| self.end(session, lease, |_| true));
            }
        }
    }

    /// Batches from `refused` on never were: what they freed is there.
    pub(crate) fn take_back(&mut self, refused: u64) {
        self.freed.retain(|(ticket, _)| *ticket < refused);
    }

    fn of_lease(&mut self, lease: Lease) -> &mut [Holder] {
        let holders = match lease {
            Lease::Inode(ino) => self.inodes.get_mut(&ino),
            Lease::Names(ino) => self.names.get_mut(&ino),
        };
        holders.map_or(&mut [], Vec::as_mut_slice)
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
            // What ended and was leased again stands twice.
            let mut seen = HashSet::with_capacity(held.count);
            held.order.retain(|lease| holds(lease) && seen.insert(*lease));
        }
    }

    /// How many leases of a session go when it has too many.
    fn evicted(&self) -> usize {
        (self.per_session_max / EVICTED_SHARE).max(1)
    }

    /// Recalls the oldest leases of sessions that hold too many.
    pub(crate) fn evict(&mut self) {
        // Where all together are too many, everybody gives something.
        let crowded = self.total > LEASES_MAX - LEASES_MAX / EVICTED_SHARE;
        let full = |(session, held): (&SessionId, &Held)| {
            (held.count > self.per_session_max || (crowded && held.count > 0)).then_some(*session)
        };
        let full: Vec<SessionId> = self.sessions.iter().filter_map(full).collect();
        let evicted = self.evicted();
        for session in full {
            self.forget_ended(session);
            for lease in self.oldest(session, evicted) {
                let of = match lease {
                    Lease::Inode(ino) => RecallOf::Inode(ino),
                    Lease::Names(ino) => RecallOf::Names(ino),
                };
                let _: u64 = self.queue(&Wanted { session, of });
            }
        }
    }

    /// The oldest leases of a session. They go to the end of the order, as do those before them that were leased again.
    fn oldest(&mut self, session: SessionId, count: usize) -> Vec<Lease> {
        let mut oldest = Vec::with_capacity(count);
        let held = self.sessions.get(&session).map_or(0, |held| held.order.len());
        for at in 0..2 * held {
            if oldest.len() == count || at >= held && !oldest.is_empty() {
                break;
            }
            let Some(lease) = self.sessions.get_mut(&session).and_then(|held| {
                held.order.rotate_left(1);
                held.order.back().copied()
            }) else {
                break;
            };
            let holder = self.of_lease(lease).iter_mut().find(|holder| holder.session == session);
            if !holder.is_some_and(|holder| std::mem::take(&mut holder.again)) {
                oldest.push(lease);
            }
        }
        oldest
    }

    /// The session is dead: whatever it believes, it can act on nothing.
    pub(crate) fn end_session(&mut self, session: SessionId) {
        for id in self.open.iter().filter(|(_, open)| open.session == session).map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close(id);
        }
        self.unsent.remove(&session);
        let Some(held) = self.sessions.remove(&session) else { return };
        for lease in held.order {
            self.end(session, lease, |_| true);
        }
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

mod conflicts;
mod recalls;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
