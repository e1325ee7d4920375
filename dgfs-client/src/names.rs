//! Names and attributes: lookups, makes, links, removals, renames.
//!
//! Never decides a rule: meta does. Always: an answer is kept only while it is leased, or no other session exists, and
//! every own change refreshes or forgets what it touched.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dgfs_proto::attr::{Attr, FileKind};
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{
    Leasing, MetaReply, Mutation, Named, NewNode, Query, RemoveKind, RenameMode, SetAttr, VolumeUsage,
};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use crate::cache::entries::EntryCache;
use crate::cache::shards::Asked;
use crate::core::Core;
use crate::file::flush::Which;
use crate::meta_link::{attr_of, named_of};
use crate::operation::Op;
use crate::vfs::{Access, Looked, Seen, Since};

/// The moment before a question, or before an own change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedNames {
    pub(crate) attrs: Asked,
    pub(crate) entries: Asked,
}

impl Core {
    /// Attributes as the user must see them: with this mount's unsent writes.
    pub(crate) fn with_unsent(&self, attr: Attr) -> Attr {
        if let Some(file) = self.files.get(attr.ino) {
            return file.inner.lock().overlay(attr);
        }
        match self.pages.get(attr.ino) {
            // The answer is older than this mount's last commit of a file closed since.
            Some(known) if known.data_version > attr.data_version => Attr {
                size: known.size,
                mtime: known.mtime,
                ctime: attr.ctime.max(known.ctime),
                allocated: known.allocated,
                data_version: known.data_version,
                ..attr
            },
            Some(_) | None => attr,
        }
    }

    pub(crate) async fn lookup(self: &Arc<Self>, parent: Ino, name: Name) -> Result<Looked, Status> {
        let op = self.op();
        let Looked { attr, since } = self.lookup_with(&op, parent, name).await?;
        Ok(Looked { attr: attr.map(|attr| self.with_unsent(attr)), since })
    }

    pub(crate) async fn lookup_with(self: &Arc<Self>, op: &Op, parent: Ino, name: Name) -> Result<Looked, Status> {
        let asked = self.asking();
        let since = Since { attrs: Some(asked.attrs), names: Some((parent, asked.entries)) };
        let may_keep = self.may_cache();
        if may_keep {
            match self.entries.get(parent, &name) {
                Some(None) => return Ok(Looked { attr: None, since }),
                Some(Some(ino)) => {
                    if let Some(attr) = self.attrs.get(ino) {
                        return Ok(Looked { attr: Some(attr), since });
                    }
                }
                None => {}
            }
            if self.entries.missed(parent) {
                self.read_whole(parent);
            }
        }
        let contents = self.contents.asking();
        let (reply, leasing) = self.link.ask(op, Query::Lookup { parent, name: name.clone() }).await;
        let (attr, content) = match reply {
            Ok(MetaReply::Opened { attr, content }) => (Some(attr), Some(content)),
            Ok(reply) => (Some(attr_of(reply)?), None),
            Err(Status::NotFound) => (None, None),
            Err(status) => return Err(status),
        };
        if leasing.unkept || !may_keep {
            return Ok(Looked { attr, since: Since::default() });
        }
        if let Some(attr) = &attr {
            self.attrs.keep(asked.attrs, attr);
        }
        if let Some((attr, content)) = attr.as_ref().zip(content) {
            // A small file: it will probably be read.
            self.keep_contents(asked.attrs, contents, vec![(attr.clone(), content)]);
        }
        self.entries.keep(asked.entries, parent, name, attr.as_ref().map(|attr| attr.ino));
        Ok(Looked { attr, since })
    }

    pub(crate) async fn getattr(&self, ino: Ino) -> Result<Seen, Status> {
        // Taken first: a state that ends meanwhile still knows more than an answer that was on its way.
        let file = self.files.get(ino);
        let op = self.op();
        let (attr, since) = self.attr_since(&op, ino).await?;
        let attr = match file {
            Some(file) => {
                let mut inner = file.inner.lock();
                // What came from memory may have been given up meanwhile.
                if self.is_shared() && since.attrs.map_or(!inner.doubtful, |since| self.attrs.unchanged(since, ino)) {
                    inner.learn_attr(&attr);
                }
                inner.overlay(attr)
            }
            None => self.with_unsent(attr),
        };
        Ok(Seen { attr, since })
    }

    /// Attributes as committed.
    pub(crate) async fn attr(&self, op: &Op, ino: Ino) -> Result<Attr, Status> {
        self.attr_since(op, ino).await.map(|(attr, _)| attr)
    }

    async fn attr_since(&self, op: &Op, ino: Ino) -> Result<(Attr, Since), Status> {
        let asked = self.attrs.asking();
        let since = Since { attrs: Some(asked), names: None };
        let may_keep = self.may_cache();
        if may_keep && let Some(attr) = self.attrs.get(ino) {
            return Ok((attr, since));
        }
        let (reply, leasing) = self.link.ask(op, Query::GetAttr(ino)).await;
        let attr = reply.and_then(attr_of).map_err(|status| self.unless_gone(ino, status))?;
        if leasing.unkept || !may_keep {
            return Ok((attr, Since::default()));
        }
        self.attrs.keep(asked, &attr);
        Ok((attr, since))
    }

    /// A refusal about an inode. Of one that is gone nothing is believed any more: the kernel looks its name up again, once, and must
    /// learn then where that leads, also while this mount's own removal of it is under way.
    pub(crate) fn unless_gone(&self, ino: Ino, status: Status) -> Status {
        if status == Status::Stale {
            self.attrs.change(ino);
        }
        status
    }

    pub(crate) async fn setattr(self: &Arc<Self>, ino: Ino, set: SetAttr) -> Result<Seen, Status> {
        let op = self.op();
        if let Some(size) = set.size {
            let Seen { attr, since } = self.set_size(&op, ino, set, size).await?;
            return Ok(Seen { attr: self.with_unsent(attr), since });
        }
        if (set.mtime.is_some() || set.atime.is_some())
            && let Some(file) = self.files.get(ino)
        {
            // A write sent later would move the time that is set now.
            self.flush_file(&op, &file, Which::All).await?;
        }
        let (attr, since, _) = self.send_attr(&op, ino, set).await?;
        self.learn_times(&attr);
        Ok(Seen { attr: self.with_unsent(attr), since: Since { attrs: since, names: None } })
    }

    /// Attributes changed without the content: an open file's state follows.
    fn learn_times(&self, attr: &Attr) {
        if let Some(file) = self.files.get(attr.ino) {
            let mut inner = file.inner.lock();
            if inner.attr.data_version == attr.data_version && !inner.doubtful {
                inner.attr = attr.clone();
            }
        }
        if self.pages.get(attr.ino).is_some_and(|known| known.data_version == attr.data_version) {
            self.pages.own_change(attr);
        }
    }

    pub(crate) async fn readlink(&self, ino: Ino) -> Result<Vec<u8>, Status> {
        let op = self.op();
        match self.link.query(&op, Query::ReadLink(ino)).await? {
            MetaReply::Bytes(bytes) => Ok(bytes),
            _ => Err(Status::Malformed),
        }
    }

    pub(crate) async fn make(
        self: &Arc<Self>,
        parent: Ino,
        name: Name,
        node: NewNode,
        access: Access,
    ) -> Result<Seen, Status> {
        if let Some(made) = self.keep_make(parent, &name, &node, access) {
            return Ok(made);
        }
        let op = self.op();
        let asked = self.asking();
        let make = Mutation::Make {
            parent,
            name: name.clone(),
            node,
            mode: access.mode,
            umask: access.umask,
            caller: access.caller,
            open: false,
            ino: None,
        };
        let (reply, leasing, _changing) = self.link.change(&op, make).await;
        let made = reply.and_then(named_of);
        self.learn_ahead_made(asked, parent, &made, leasing);
        let since = self.learn_named(asked, [(parent, name)], &made, leasing);
        let made = made?;
        let attr = made.attrs.into_iter().next().ok_or(Status::Malformed)?;
        if attr.kind == FileKind::Directory && self.may_cache() && !leasing.unkept {
            self.entries.made(asked.entries, attr.ino);
        }
        Ok(Seen { attr, since })
    }

    /// Something was made; what may be changed ahead from now on.
    pub(crate) fn learn_ahead_made(
        &self,
        asked: AskedNames,
        parent: Ino,
        made: &Result<Named, Status>,
        leasing: Leasing,
    ) {
        if let Ok(named) = made {
            self.learn_ahead(asked, &[parent], leasing, None);
            self.learn_ahead(asked, &[named.ino], Leasing { ahead: leasing.writes, children: false, ..leasing }, None);
        }
    }

    /// The moment before a question or a change.
    pub(crate) fn asking(&self) -> AskedNames {
        AskedNames { attrs: self.attrs.asking(), entries: self.entries.asking() }
    }

    /// This session changed names: the last of `places` leads to what the answer names now, the others lead nowhere. After a
    /// failure, or when something is about to change again, nothing about them is sure. Since when the last place and what it
    /// leads to are known.
    pub(crate) fn learn_named<const N: usize>(
        &self,
        asked: AskedNames,
        places: [(Ino, Name); N],
        answer: &Result<Named, Status>,
        leasing: Leasing,
    ) -> Since {
        let last = N.saturating_sub(1);
        let mut change = EntryCache::own_change(asked.entries);
        let mut since = Since::default();
        for (at, (parent, name)) in places.into_iter().enumerate() {
            match answer {
                Ok(named) if !leasing.unkept => {
                    self.entries.settle(&mut change, parent, name, (at == last).then_some(named.ino));
                    since.names = (at == last).then_some((parent, change.since()));
                }
                Ok(_) | Err(_) => self.doubt_entry(parent, &name),
            }
        }
        since.attrs = self.learn_attrs(asked, answer, leasing);
        since
    }

    /// Attributes that an own change of names brought; since when the first of them are known.
    pub(crate) fn learn_attrs(
        &self,
        asked: AskedNames,
        answer: &Result<Named, Status>,
        leasing: Leasing,
    ) -> Option<Asked> {
        let Ok(named) = answer else { return None };
        if leasing.unkept {
            named.attrs.iter().for_each(|attr| self.attrs.change(attr.ino));
            return None;
        }
        let mut since = None;
        for (at, attr) in named.attrs.iter().enumerate() {
            let settled = self.attrs.settle(asked.attrs, attr);
            if at == 0 {
                since = settled;
            }
        }
        since
    }

    /// After a failure without a verdict the attributes of what has (or, unknown what, may have) these names are not sure.
    fn doubt_attrs(&self, answer: &Result<Named, Status>, known: [Option<Option<Ino>>; 2]) {
        if !matches!(answer, Err(status) if status.is_transient()) {
            return;
        }
        if known.contains(&None) {
            self.attrs.clear();
        }
        known.into_iter().flatten().flatten().for_each(|ino| self.attrs.change(ino));
    }

    fn doubt_entry(&self, parent: Ino, name: &Name) {
        self.entries.change(parent, name);
        self.attrs.change(parent);
    }

    pub(crate) async fn link(&self, ino: Ino, parent: Ino, name: Name) -> Result<Seen, Status> {
        let op = self.op();
        let asked = self.asking();
        let link = Mutation::Link { ino, parent, name: name.clone() };
        let (reply, leasing, _changing) = self.link.change(&op, link).await;
        let linked = reply.and_then(named_of);
        let since = self.learn_named(asked, [(parent, name)], &linked, leasing);
        if linked.is_err() {
            self.attrs.change(ino);
        }
        let attr = linked?.attrs.into_iter().next().ok_or(Status::Malformed)?;
        if let Some(file) = self.files.get(ino) {
            file.nameless.store(false, Ordering::Release);
        }
        Ok(Seen { attr: self.with_unsent(attr), since })
    }

    pub(crate) async fn remove(&self, parent: Ino, name: Name, kind: RemoveKind) -> Result<(), Status> {
        if self.keep_remove(parent, &name, kind).is_some() {
            return Ok(());
        }
        let op = self.op();
        let known = self.entries.get(parent, &name);
        let _no_open = self.before_losing(&op, known).await?;
        let asked = self.asking();
        let remove = Mutation::Remove { parent, name: name.clone(), kind };
        let (reply, leasing, _changing) = self.link.change(&op, remove).await;
        let removed = reply.and_then(named_of);
        if let Ok(named) = &removed {
            self.learn_ahead(asked, &[parent], leasing, Some(named.ino));
        }
        match &removed {
            Ok(_) if !leasing.unkept => {
                self.entries.settle(&mut EntryCache::own_change(asked.entries), parent, name, None);
            }
            Ok(_) | Err(_) => self.doubt_entry(parent, &name),
        }
        let _: Option<Asked> = self.learn_attrs(asked, &removed, leasing);
        self.doubt_attrs(&removed, [known, Some(None)]);
        let removed = removed?;
        self.lost_name(&removed);
        self.disown(&removed);
        Ok(())
    }

    /// What lost its last name is not changed ahead any more.
    fn disown(&self, named: &Named) {
        if let Some((ino, 0)) = named.lost {
            self.link.kept.revoke(ino);
        }
    }

    /// An inode lost a name, perhaps its last.
    pub(crate) fn lost_name(&self, named: &Named) {
        let Some((ino, 0)) = named.lost else { return };
        self.attrs.change(ino);
        if let Some(file) = self.files.get(ino) {
            file.nameless.store(true, Ordering::Release);
        }
    }

    pub(crate) async fn rename(&self, from: (Ino, Name), to: (Ino, Name), mode: RenameMode) -> Result<(), Status> {
        if self.keep_rename(&from, &to, mode).is_some() {
            return Ok(());
        }
        let op = self.op();
        let known = [self.entries.get(from.0, &from.1), self.entries.get(to.0, &to.1)];
        let target = if mode == RenameMode::Replace { known[1] } else { Some(None) };
        let _no_open = self.before_losing(&op, target).await?;
        let asked = self.asking();
        let rename =
            Mutation::Rename { parent: from.0, name: from.1.clone(), new_parent: to.0, new_name: to.1.clone(), mode };
        let (reply, leasing, _changing) = self.link.change(&op, rename).await;
        let named = match reply {
            // Two names of one inode: both stay.
            Ok(MetaReply::Done) => return Ok(()),
            answer => answer.and_then(named_of),
        };
        if named.is_ok() {
            self.learn_ahead(asked, &[from.0, to.0], leasing, None);
        }
        if mode == RenameMode::Exchange {
            self.doubt_entry(from.0, &from.1);
            self.doubt_entry(to.0, &to.1);
            let _: Option<Asked> = self.learn_attrs(asked, &named, leasing);
        } else {
            let _: Since = self.learn_named(asked, [from, to], &named, leasing);
        }
        self.doubt_attrs(&named, known);
        let named = named?;
        self.lost_name(&named);
        self.disown(&named);
        Ok(())
    }

    pub(crate) async fn statfs(&self) -> Result<VolumeUsage, Status> {
        let op = self.op();
        match self.link.query(&op, Query::StatFs).await? {
            MetaReply::StatFs(usage) => Ok(usage),
            _ => Err(Status::Malformed),
        }
    }
}
