//! Leases at work: what an operation changes for others, what an answer tells, and what must be recalled in between.
//!
//! Never asks what kind of operation it was where rows say it: changes are found by comparing rows, so that no rule can
//! forget one.

use std::collections::BTreeMap;
use std::sync::Arc;

use dgfs_proto::attr::{Attr, FileKind, Timestamp};
use dgfs_proto::ids::{Ino, SessionId};
use dgfs_proto::meta::{Leasing, MetaReply, Mutation, OpenMode, Query};
use dgfs_proto::status::Status;

use crate::core::cache::RowCache;
use crate::core::leases::{Changes, Told, WaitId, Wanted};
use crate::core::tx::LoadedRange;
use crate::core::{Core, Once};
use crate::engine::{RowKey, Table};
use crate::rows::{DentryRow, Row};

/// Inodes that the right to change ahead comes with at once.
const CHILDREN_MAX: usize = 4096;

/// One attempt at an operation: what was loaded for it, what it waited for, and what its answer allows.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) loaded: &'a [LoadedRange],
    pub(crate) wait: Option<WaitId>,
    pub(crate) leasing: Leasing,
}

impl Core {
    /// Does a session ask whose answers are leased? A sole one may believe everything anyway; others (tools) nothing.
    pub(crate) fn leases_to(&self, session: Option<SessionId>) -> Option<SessionId> {
        session.filter(|id| self.sessions.contains_key(id) && !self.knows_it_is_sole(*id))
    }

    /// Recalls needed before `session` may be answered: of the sessions that keep, or may keep, writes of what it is told back.
    pub(crate) fn before_telling(
        &self,
        session: SessionId,
        query: &Query,
        (told, reply): (&[Told], &MetaReply),
    ) -> Option<Vec<Wanted>> {
        let mut wanted = self.leases.kept_back(session, told.iter().map(Told::ino));
        if !told.is_empty() || attrs_in(reply).next().is_some() {
            wanted.extend(
                self.leases.unsent_of_others(session, matches!(query, Query::Content { .. } | Query::Contents { .. })),
            );
        }
        (!wanted.is_empty()).then_some(wanted)
    }

    /// Recalls needed before `session` may change these rows and be answered.
    pub(crate) fn before_changing(
        &mut self,
        session: SessionId,
        once: &Once<'_>,
        writes: &BTreeMap<RowKey, Option<Arc<Row>>>,
        (told, wait): (&[Told], Option<WaitId>),
    ) -> Option<Vec<Wanted>> {
        let mutation = once.mutation;
        if matches!(mutation, Mutation::Release { .. } | Mutation::Register { .. }) {
            // What ends with its last close nobody can see. Everybody's opens are told, and taken back, while others settle:
            // they must not wait for that.
            return None;
        }
        let changes = changes(&mut self.cache, writes);
        // Of what was kept back under a writer before nobody else can believe the opposite; and whoever settles waits for that.
        let is_late = once.kept_back && self.leases.is_unsent(session);
        if changes != Changes::default() && !is_late && !self.others_settled(session) {
            return Some(Vec::new());
        }
        let mut wanted = self.leases.conflicts(session, &changes, wait);
        let inos = told.iter().map(Told::ino);
        let source = if let Mutation::CopyChunks { from, .. } = mutation { Some(*from) } else { None };
        wanted.extend(self.leases.kept_back(session, inos.chain(source)));
        if changes != Changes::default() {
            let sends = once.kept_back || matches!(mutation, Mutation::Commit(_));
            wanted.extend(self.leases.unsent_of_others(session, sends));
        }
        (!wanted.is_empty()).then_some(wanted)
    }

    /// Leases what `session` is told; what that allows.
    pub(crate) fn lease(&mut self, session: SessionId, told: &[Told]) -> Leasing {
        Leasing { unkept: !self.leases.lease(session, told), ..Leasing::default() }
    }

    /// After a mutation: what its answer tells is leased, and where nobody else uses the file, so is the right to keep writes back.
    pub(crate) fn lease_after(&mut self, session: SessionId, once: &Once<'_>, told: &[Told]) -> Leasing {
        let mutation = once.mutation;
        let mut leasing = self.lease(session, told);
        let written = match (mutation, told.first()) {
            (Mutation::Open { mode: OpenMode::Write | OpenMode::Truncate, ino }, _) => Some(*ino),
            (Mutation::Commit(commit), _) => Some(commit.ino),
            (Mutation::Make { .. }, Some(Told::Inode(ino))) => Some(*ino),
            _ => None,
        };
        if let (true, Mutation::Make { ino: Some(ino), .. }) = (once.kept_back, mutation) {
            self.leases.note_made(session, *ino);
            leasing.writes = true;
        } else if let Some(ino) = written {
            leasing.writes =
                !leasing.unkept && self.may_keep_back(session, ino) && self.leases.lease_writes(session, ino);
        }
        if let (true, Mutation::Commit(commit)) = (leasing.unkept, mutation) {
            self.leases.note_pages(session, commit.ino);
        }
        if let Mutation::Open { ino, .. } = mutation {
            leasing.contended = self.opens.is_open_elsewhere(*ino, session);
        }
        if !leasing.unkept && !once.kept_back {
            self.lease_ahead(session, mutation, &mut leasing);
        }
        leasing
    }

    /// Where nobody else looks, the right to change ahead comes with the second own change of names in a row: of the directories, and (as
    /// removing goes on, mostly) of what is in a directory from which something was removed.
    fn lease_ahead(&mut self, session: SessionId, mutation: &Mutation, leasing: &mut Leasing) {
        let directories: &[Ino] = match mutation {
            Mutation::Make { parent, .. } | Mutation::Remove { parent, .. } => &[*parent],
            Mutation::Rename { parent, new_parent, .. } => &[*parent, *new_parent],
            _ => return,
        };
        let mut at_work = true;
        directories.iter().for_each(|ino| at_work &= self.leases.is_at_work(session, *ino));
        leasing.ahead = at_work && directories.iter().all(|ino| self.lease_one_ahead(session, *ino));
        if let (true, Mutation::Remove { parent, .. }) = (leasing.ahead, mutation) {
            leasing.children =
                self.children(*parent).is_some_and(|inos| inos.iter().all(|ino| self.lease_one_ahead(session, *ino)));
        }
    }

    fn lease_one_ahead(&mut self, session: SessionId, ino: Ino) -> bool {
        self.leases.may_keep_back(ino, session)
            || self.may_keep_back(session, ino) && self.leases.lease_writes(session, ino)
    }

    /// What a directory holds, if all its names are in memory and not too many.
    fn children(&self, directory: Ino) -> Option<Vec<Ino>> {
        if !self.cache.is_complete(directory.get()) {
            return None;
        }
        let mut inos = Vec::new();
        for (_, slot) in self.cache.buckets(directory.get(), 0)? {
            inos.extend(entries_of(slot.row.as_deref()).iter().map(|entry| entry.ino));
            if inos.len() > CHILDREN_MAX {
                return None;
            }
        }
        Some(inos)
    }

    /// Does nobody else have the inode open or know anything of it?
    fn may_keep_back(&self, session: SessionId, ino: Ino) -> bool {
        !self.opens.is_open_elsewhere(ino, session) && !self.leases.is_held_elsewhere(ino, session)
    }

    /// Answers whether `session` may keep writes of a file back; `attr` is its attributes now.
    pub(crate) fn lease_writes(
        &mut self,
        session: SessionId,
        attr: Attr,
        wait: Option<WaitId>,
    ) -> Result<Option<Attr>, Vec<Wanted>> {
        let ino = attr.ino;
        if attr.kind != FileKind::File || self.opens.is_open_elsewhere(ino, session) {
            return Ok(None);
        }
        if !self.others_settled(session) {
            return Err(Vec::new());
        }
        let changes = Changes { content: vec![ino], ..Changes::default() };
        let mut wanted = self.leases.unsent_of_others(session, false);
        wanted.extend(self.leases.conflicts(session, &changes, wait));
        if !wanted.is_empty() {
            return Err(wanted);
        }
        // Its own wait keeps the file from being leased to anybody: that is over now.
        if let Some(wait) = wait {
            self.leases.end_wait(wait);
        }
        Ok(self.leases.lease_writes(session, ino).then_some(attr))
    }

    /// Recalls what an operation needs; its wait.
    pub(crate) fn recall(&mut self, wait: Option<WaitId>, wanted: Vec<Wanted>, now: Timestamp) -> WaitId {
        // Whoever has ended since has nothing to forget.
        let wanted = wanted.into_iter().filter(|one| self.sessions.contains_key(&one.session)).collect();
        self.leases.recall(wait, wanted, now.as_ms())
    }

    /// May an operation that waits for recalls be tried again?
    pub(crate) fn is_recalled(&self, session: SessionId, wait: WaitId) -> bool {
        self.leases.is_carried_out(wait) && self.others_settled(session)
    }
}

/// What a question's answer tells.
pub(crate) fn told_by_query(query: &Query, reply: &MetaReply) -> Vec<Told> {
    let mut told: Vec<Told> = attrs_in(reply).map(|attr| Told::Inode(attr.ino)).collect();
    match (query, reply) {
        (
            Query::Lookup { parent, name },
            MetaReply::Attr(_) | MetaReply::Opened { .. } | MetaReply::Refused(Status::NotFound),
        ) => {
            told.push(Told::Name(*parent, name.clone()));
        }
        (Query::ReadDir { ino, .. }, MetaReply::Entries { .. }) => told.push(Told::AllNames(*ino)),
        _ => {}
    }
    told
}

/// What a mutation's answer tells. The attributes of what was made, linked or moved come first.
pub(crate) fn told_by_mutation(mutation: &Mutation, reply: &MetaReply) -> Vec<Told> {
    let mut told: Vec<Told> = attrs_in(reply).map(|attr| Told::Inode(attr.ino)).collect();
    let MetaReply::Named(named) = reply else { return told };
    match mutation {
        Mutation::Make { parent, name, .. } => {
            told.push(Told::Name(*parent, name.clone()));
            if named.attrs.first().is_some_and(|attr| attr.kind == FileKind::Directory) {
                told.push(Told::AllNames(named.ino));
            }
        }
        Mutation::Link { parent, name, .. } | Mutation::Remove { parent, name, .. } => {
            told.push(Told::Name(*parent, name.clone()));
        }
        Mutation::Rename { parent, name, new_parent, new_name, .. } => {
            told.push(Told::Name(*parent, name.clone()));
            told.push(Told::Name(*new_parent, new_name.clone()));
        }
        _ => {}
    }
    told
}

/// The attributes in an answer.
fn attrs_in(reply: &MetaReply) -> Box<dyn Iterator<Item = &Attr> + '_> {
    match reply {
        MetaReply::Attr(attr) | MetaReply::Opened { attr, .. } | MetaReply::WritesLeased(Some(attr)) => {
            Box::new(std::iter::once(attr))
        }
        MetaReply::Contents { attr, also, .. } => {
            Box::new(std::iter::once(attr).chain(also.iter().map(|(attr, _)| attr)))
        }
        MetaReply::Attrs(attrs) => Box::new(attrs.iter()),
        MetaReply::Named(named) => Box::new(named.attrs.iter()),
        MetaReply::Entries { entries, .. } => Box::new(entries.iter().map(|entry| &entry.attr)),
        _ => Box::new(std::iter::empty()),
    }
}

/// What rows about to be written change for whoever believes the rows there are.
fn changes(cache: &mut RowCache, writes: &BTreeMap<RowKey, Option<Arc<Row>>>) -> Changes {
    let mut changes = Changes::default();
    for (key, new) in writes {
        let mut old = || cache.get(*key).and_then(|(row, _)| row);
        match key.table {
            Table::Inode => {
                if let Some(Row::Inode(old)) = old().as_deref() {
                    let new = if let Some(Row::Inode(new)) = new.as_deref() { Some(&new.attr) } else { None };
                    compare_attrs(&mut changes, &old.attr, new);
                }
            }
            Table::Dentry => {
                if let Some(parent) = Ino::new(key.partition) {
                    let (old, new) = (old(), new.as_deref());
                    compare_names(&mut changes, parent, entries_of(old.as_deref()), entries_of(new));
                }
            }
            Table::Xattr | Table::Inline => {
                if let Some(ino) = Ino::new(key.sort) {
                    changes.content.extend((key.table == Table::Inline).then_some(ino));
                    changes.attrs.extend((key.table == Table::Xattr).then_some((ino, false)));
                }
            }
            Table::Chunks => changes.content.extend(Ino::new(key.partition)),
            _ => {}
        }
    }
    // What is new nobody believes anything of: leases tell.
    changes.content.sort_unstable();
    changes.content.dedup();
    changes.attrs.sort_unstable();
    changes.attrs.dedup();
    let content = &changes.content;
    changes.attrs.retain(|(ino, _)| content.binary_search(ino).is_err());
    changes
}

fn compare_attrs(changes: &mut Changes, old: &Attr, new: Option<&Attr>) {
    let Some(new) = new else {
        changes.content.push(old.ino);
        return;
    };
    let directory = old.kind == FileKind::Directory;
    if !directory && (old.data_version != new.data_version || old.size != new.size) {
        changes.content.push(old.ino);
    }
    // An access time that a read moved is shown late by others: moving it must not cost them what they know.
    if (Attr { atime: new.atime, ..old.clone() }) != *new {
        changes.attrs.push((old.ino, directory));
    }
}

fn entries_of(row: Option<&Row>) -> &[DentryRow] {
    if let Some(Row::Dentries(entries)) = row { entries } else { &[] }
}

fn compare_names(changes: &mut Changes, parent: Ino, old: &[DentryRow], new: &[DentryRow]) {
    let same = |a: &DentryRow, b: &DentryRow| a.name == b.name && a.ino == b.ino;
    let gone = old.iter().filter(|entry| !new.iter().any(|other| same(entry, other)));
    let come = new.iter().filter(|entry| !old.iter().any(|other| same(entry, other)));
    for entry in gone.chain(come) {
        let name = (parent, entry.name.clone());
        if !changes.names.contains(&name) {
            changes.names.push(name);
        }
    }
}
