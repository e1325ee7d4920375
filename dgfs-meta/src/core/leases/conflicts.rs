//! What stands in the way of a change, or of an answer.
//!
//! Never changes a lease. Always: whoever else could believe the opposite of what is to come true is named.

use dgfs_proto::ids::{Ino, SessionId};
use dgfs_proto::meta::RecallOf;

use super::{Changes, Holder, Leases, Told, UNHEEDED_MAX, WaitId, Wanted, Writes, gone};

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

    /// Recalls that must be carried out before `session` may be told of these inodes, or names in them: others keep changes back.
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

    /// May a session be told of an inode without anybody having to be asked first?
    pub(crate) fn may_tell(&self, session: SessionId, ino: Ino) -> bool {
        let kept_back = self.holders(ino, session).any(|holder| holder.writes != Writes::No);
        let told = Told::Inode(ino);
        !kept_back && !self.is_blocked(&told) && (self.holds(session, &told) || !self.is_full(session))
    }

    /// Other sessions with a lease of an inode.
    fn holders(&self, ino: Ino, but: SessionId) -> impl Iterator<Item = &Holder> {
        self.inodes.get(&ino).into_iter().flatten().filter(move |holder| holder.session != but)
    }

    /// Does any other session hold a lease of an inode, or of names in it?
    pub(crate) fn is_held_elsewhere(&self, ino: Ino, session: SessionId) -> bool {
        let names = || self.names.get(&ino).into_iter().flatten().any(|holder| holder.session != session);
        self.holders(ino, session).next().is_some() || names()
    }

    /// Has a session the right to keep changes of an inode back?
    pub(crate) fn may_keep_back(&self, ino: Ino, session: SessionId) -> bool {
        let holders = self.inodes.get(&ino).into_iter().flatten();
        holders.filter(|holder| holder.session == session).any(|holder| holder.writes == Writes::Yes)
    }

    /// Was it told to send what it kept back under a writer before, and has not said that it did?
    pub(crate) fn is_unsent(&self, session: SessionId) -> bool {
        self.unsent.contains_key(&session)
    }
}
