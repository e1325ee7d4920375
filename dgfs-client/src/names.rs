//! Names and attributes: lookups, makes, links, removals, renames.
//!
//! Never decides a rule: meta does. Always: an answer is kept only while no other session exists, and every own
//! change refreshes or forgets what it touched.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dgfs_proto::attr::Attr;
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{MetaReply, Mutation, NewNode, Query, RemoveKind, RenameMode, SetAttr, VolumeUsage};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::file::flush::Which;
use crate::meta_link::attr_of;
use crate::operation::Op;
use crate::vfs::Access;

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

    pub(crate) async fn lookup(&self, parent: Ino, name: Name) -> Result<Attr, Status> {
        let op = self.op();
        self.lookup_with(&op, parent, name).await.map(|attr| self.with_unsent(attr))
    }

    pub(crate) async fn lookup_with(&self, op: &Op, parent: Ino, name: Name) -> Result<Attr, Status> {
        if !self.may_cache() {
            return attr_of(self.link.query(op, Query::Lookup { parent, name }).await?);
        }
        let key = (parent, name);
        match self.entries.get(&key) {
            Some(None) => return Err(Status::NotFound),
            Some(Some(ino)) => {
                if let Some(attr) = self.attrs.get(ino) {
                    return Ok(attr);
                }
            }
            None => {}
        }
        let (asked, asked_any) = (self.entries.asking(&key), self.attrs.asking_any());
        let query = Query::Lookup { parent, name: key.1.clone() };
        match self.link.query(op, query).await {
            Ok(reply) => {
                let attr = attr_of(reply)?;
                self.attrs.keep_any(asked_any, &attr);
                self.entries.keep(asked, key, Some(attr.ino));
                Ok(attr)
            }
            Err(Status::NotFound) => {
                self.entries.keep(asked, key, None);
                Err(Status::NotFound)
            }
            Err(status) => Err(status),
        }
    }

    pub(crate) async fn getattr(&self, ino: Ino) -> Result<Attr, Status> {
        // Taken first: a state that ends meanwhile still knows more than an answer that was on its way.
        let file = self.files.get(ino);
        let op = self.op();
        let attr = self.attr(&op, ino).await?;
        Ok(match file {
            Some(file) => {
                let mut inner = file.inner.lock();
                if self.is_shared() {
                    inner.learn_attr(&attr);
                }
                inner.overlay(attr)
            }
            None => self.with_unsent(attr),
        })
    }

    /// Attributes as committed.
    pub(crate) async fn attr(&self, op: &Op, ino: Ino) -> Result<Attr, Status> {
        if !self.may_cache() {
            return attr_of(self.link.query(op, Query::GetAttr(ino)).await?);
        }
        if let Some(attr) = self.attrs.get(ino) {
            return Ok(attr);
        }
        let asked = self.attrs.asking(ino);
        let attr = attr_of(self.link.query(op, Query::GetAttr(ino)).await?)?;
        self.attrs.keep(asked, &attr);
        Ok(attr)
    }

    pub(crate) async fn setattr(self: &Arc<Self>, ino: Ino, set: SetAttr) -> Result<Attr, Status> {
        let op = self.op();
        if let Some(size) = set.size {
            let attr = self.set_size(&op, ino, set, size).await?;
            return Ok(self.with_unsent(attr));
        }
        if (set.mtime.is_some() || set.atime.is_some())
            && let Some(file) = self.files.get(ino)
        {
            // A write sent later would move the time that is set now.
            self.flush_file(&op, &file, Which::All).await?;
        }
        let attr = self.send_attr(&op, ino, set).await?;
        self.learn_times(&attr);
        Ok(self.with_unsent(attr))
    }

    /// Attributes changed without the content: an open file's state follows.
    fn learn_times(&self, attr: &Attr) {
        if let Some(file) = self.files.get(attr.ino) {
            let mut inner = file.inner.lock();
            if inner.attr.data_version == attr.data_version {
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

    pub(crate) async fn make(&self, parent: Ino, name: Name, node: NewNode, access: Access) -> Result<Attr, Status> {
        let op = self.op();
        let key = (parent, name);
        let (asked, asked_any) = (self.entries.asking(&key), self.attrs.asking_any());
        let make = Mutation::Make {
            parent,
            name: key.1.clone(),
            node,
            mode: access.mode,
            umask: access.umask,
            caller: access.caller,
            open: false,
        };
        let made = self.link.mutate(&op, make).await;
        match made {
            Ok(reply) => {
                let attr = attr_of(reply)?;
                if self.may_cache() {
                    self.attrs.keep_any(asked_any, &attr);
                    self.entries.settle(asked, key, Some(attr.ino));
                }
                self.attrs.change(parent);
                Ok(attr)
            }
            Err(status) => {
                self.entries.change(&key);
                self.attrs.change(parent);
                Err(status)
            }
        }
    }

    pub(crate) async fn link(&self, ino: Ino, parent: Ino, name: Name) -> Result<Attr, Status> {
        let op = self.op();
        let key = (parent, name);
        let asked = self.attrs.asking(ino);
        let linked = self.link.mutate(&op, Mutation::Link { ino, parent, name: key.1.clone() }).await;
        self.attrs.change(parent);
        self.entries.change(&key);
        match linked {
            Ok(reply) => {
                let attr = attr_of(reply)?;
                self.attrs.settle(asked, &attr);
                if let Some(file) = self.files.get(ino) {
                    file.nameless.store(false, Ordering::Release);
                }
                Ok(self.with_unsent(attr))
            }
            Err(status) => {
                self.attrs.change(ino);
                Err(status)
            }
        }
    }

    pub(crate) async fn remove(&self, parent: Ino, name: Name, kind: RemoveKind) -> Result<(), Status> {
        let op = self.op();
        let key = (parent, name);
        let asked = self.entries.asking(&key);
        let known = self.entries.get(&key).flatten();
        let removed = self.link.mutate(&op, Mutation::Remove { parent, name: key.1.clone(), kind }).await;
        self.attrs.change(parent);
        match removed {
            Ok(reply) => {
                self.lost_name(&reply, known);
                if self.may_cache() {
                    self.entries.settle(asked, key, None);
                }
                Ok(())
            }
            Err(status) => {
                self.entries.change(&key);
                Err(status)
            }
        }
    }

    /// An inode lost a name.
    fn lost_name(&self, reply: &MetaReply, known: Option<Ino>) {
        let (ino, nlink) = match reply {
            MetaReply::Removed { ino, nlink } => (ino.or(known), *nlink),
            _ => (known, 1),
        };
        let Some(ino) = ino else { return };
        self.attrs.change(ino);
        if nlink == 0
            && let Some(file) = self.files.get(ino)
        {
            file.nameless.store(true, Ordering::Release);
        }
    }

    pub(crate) async fn rename(&self, from: (Ino, Name), to: (Ino, Name), mode: RenameMode) -> Result<(), Status> {
        let op = self.op();
        let (moved, replaced) = (self.entries.get(&from).flatten(), self.entries.get(&to).flatten());
        let rename =
            Mutation::Rename { parent: from.0, name: from.1.clone(), new_parent: to.0, new_name: to.1.clone(), mode };
        let renamed = self.link.mutate(&op, rename).await;
        for key in [&from, &to] {
            self.entries.change(key);
            self.attrs.change(key.0);
        }
        for ino in [moved, replaced].into_iter().flatten() {
            self.attrs.change(ino);
        }
        let all_known = moved.is_some() && (mode != RenameMode::Exchange || replaced.is_some());
        if !all_known && !self.config.local {
            // What moved is not known, so neither is whose attributes (parent, ctime) changed.
            self.attrs.clear();
        }
        let reply = renamed?;
        if mode != RenameMode::Exchange {
            self.lost_name(&reply, None);
        }
        Ok(())
    }

    /// The kernel dropped references: what is cached of the inode is not needed soon.
    pub(crate) fn forget(&self, ino: Ino, _count: u64) {
        if !self.config.local && self.files.get(ino).is_none() {
            self.attrs.change(ino);
        }
    }

    pub(crate) async fn statfs(&self) -> Result<VolumeUsage, Status> {
        let op = self.op();
        match self.link.query(&op, Query::StatFs).await? {
            MetaReply::StatFs(usage) => Ok(usage),
            _ => Err(Status::Malformed),
        }
    }
}
