//! What the fake holds, and what changes do to it: by the rules of attributes that meta has, too.

use std::collections::BTreeMap;

use dgfs_proto::attr::change::{self, NewInode};
use dgfs_proto::attr::{Attr, AttrFlags, FileKind, Timestamp};
use dgfs_proto::chunk::{ChunkRef, VersionId};
use dgfs_proto::class::Class;
use dgfs_proto::ids::{ChunkVersion, Epoch, Ino, ServerId, SessionId};
use dgfs_proto::limits::{CONTENTS_SLOTS_MAX, EDITS_MAX, PARTITIONS};
use dgfs_proto::map::{ClassMap, ClusterMap, Holder, Labels, Placement, ServerInfo, Standing};
use dgfs_proto::meta::{
    Commit, Content, LockKind, MetaReply, Mutation, Named, NewContent, OpenMode, Query, RemoveKind, SetAttr,
    VolumeUsage,
};
use dgfs_proto::status::Status;

use super::{Answer, CHUNK, INLINE, Inode, OPEN_SLOTS, Truth};

pub(super) fn version(slot: ChunkRef) -> VersionId {
    VersionId { chunk: slot.chunk, version: slot.version }
}

pub(crate) fn map() -> ClusterMap {
    let server = ServerInfo {
        id: ServerId(1),
        address: String::new(),
        label: "fake".to_owned(),
        labels: Labels::default(),
        weight: 1,
        standing: Standing::Active,
        up: true,
        capacity_bytes: 1 << 40,
        used_bytes: 0,
        free_bytes: 1 << 40,
    };
    let members = vec![Holder { server: ServerId(1), full: true, since: Epoch(1) }];
    let placement = Placement { members, extras: Vec::new(), changed: Epoch(1) };
    let classes = vec![ClassMap { class: Class::SINGLE, placements: vec![placement; usize::from(PARTITIONS)] }];
    ClusterMap { epoch: Epoch(1), servers: vec![server], classes, default_class: Class::SINGLE, policies: 0 }
}

pub(crate) fn attr(ino: Ino, kind: FileKind, now: Timestamp) -> Attr {
    let mut flags = AttrFlags::default();
    flags.set(AttrFlags::INLINE, kind == FileKind::File);
    Attr {
        ino,
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        nlink: 1,
        size: 0,
        allocated: 0,
        rdev: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        data_version: 1,
        flags,
        parent: Ino::ROOT,
    }
}

impl Truth {
    fn now(&self) -> Timestamp {
        self.at.unwrap_or(Timestamp::from_ms(self.clock))
    }

    fn inode(&mut self, ino: Ino) -> Result<&mut Inode, Status> {
        self.inodes.get_mut(&ino).ok_or(Status::Stale)
    }

    pub(super) fn query(&mut self, query: Query) -> Answer {
        match query {
            Query::Lookup { name, .. } => {
                let ino = *self.names.get(&name).ok_or(Status::NotFound)?;
                Ok(MetaReply::Attr(self.inode(ino)?.attr.clone()))
            }
            Query::GetAttr(ino) => Ok(MetaReply::Attr(self.inode(ino)?.attr.clone())),
            // While there are others, nobody keeps writes back.
            Query::LeaseWrites(ino) => {
                let attr = self.inode(ino)?.attr.clone();
                Ok(MetaReply::WritesLeased((self.sessions.len() == 1).then_some(attr)))
            }
            Query::Content { ino, first, count } => {
                let inode = self.inode(ino)?;
                Ok(MetaReply::Opened { attr: inode.attr.clone(), content: inode.content(first, count as usize) })
            }
            Query::Contents { ino, also } => {
                let head = |inode: &Inode| (inode.attr.clone(), inode.content(0, CONTENTS_SLOTS_MAX as usize));
                let (attr, content) = head(self.inode(ino)?);
                let also = also.iter().filter_map(|ino| self.inodes.get(ino)).map(head).collect();
                Ok(MetaReply::Contents { attr, content, also })
            }
            Query::NextChunk { ino, first } => {
                let next = self.inode(ino)?.slots.range(first..).next().map(|(at, slot)| (*at, *slot));
                Ok(MetaReply::NextChunk(next))
            }
            Query::StatFs => {
                let free_bytes = 1 << 30;
                Ok(MetaReply::StatFs(VolumeUsage { capacity_bytes: 1 << 31, free_bytes, ..VolumeUsage::default() }))
            }
            _ => Err(Status::NotSupported),
        }
    }

    pub(super) fn apply(&mut self, session: SessionId, mutation: Mutation, garbage: &mut Vec<VersionId>) -> Answer {
        match mutation {
            Mutation::Make { name, mode, umask, ino, caller, .. } => {
                if self.names.contains_key(&name) {
                    return Err(Status::Exists);
                }
                self.next += u64::from(ino.is_none());
                let ino = ino.unwrap_or(Ino::new(self.next).unwrap());
                let now = self.now();
                let root = &mut self.inode(Ino::ROOT)?.attr;
                let (kind, rdev, size) = (FileKind::File, 0, 0);
                let new = NewInode { ino, parent: root, kind, rdev, size, mode, uid: caller.uid, gid: caller.gid };
                let mut attr = new.attr(now);
                attr.mode = change::plain_mode(kind, mode, umask);
                change::touch_directory(root, 1, 0, now);
                let inode = Inode { attr: attr.clone(), inline: Vec::new(), slots: BTreeMap::new() };
                self.inodes.insert(ino, inode);
                self.names.insert(name, ino);
                let attrs = vec![attr, self.inode(Ino::ROOT)?.attr.clone()];
                Ok(MetaReply::Named(Named { ino, lost: None, attrs }))
            }
            Mutation::Remove { name, kind: RemoveKind::Unlink, .. } => {
                let ino = self.names.remove(&name).ok_or(Status::NotFound)?;
                let now = self.now();
                change::touch_directory(&mut self.inode(Ino::ROOT)?.attr, -1, 0, now);
                let attrs = vec![self.inode(Ino::ROOT)?.attr.clone()];
                Ok(MetaReply::Named(Named { ino, lost: Some((ino, 0)), attrs }))
            }
            Mutation::SetAttr { ino, set } => self.set_attr(ino, &set, garbage),
            Mutation::Commit(commit) => self.commit(&commit, garbage),
            Mutation::CopyChunks { from, from_index, to, to_index, count, size_at_least } => {
                self.copy((from, from_index), (to, to_index), (count, size_at_least), garbage)
            }
            Mutation::Open { ino, mode } => {
                if mode == OpenMode::Truncate && self.inode(ino)?.attr.size > 0 {
                    let set = SetAttr { size: Some(0), ..SetAttr::default() };
                    let _ = self.set_attr(ino, &set, garbage)?;
                }
                let inode = self.inode(ino)?;
                Ok(MetaReply::Opened { attr: inode.attr.clone(), content: inode.content(0, OPEN_SLOTS) })
            }
            Mutation::Release { .. } | Mutation::Register { .. } => Ok(MetaReply::Done),
            Mutation::UnlockOwner { ino, owner, .. } => {
                self.locks.retain(|(at, of, held)| *at != ino || *of != session || held.owner != owner);
                Ok(MetaReply::Done)
            }
            Mutation::Lock { ino, lock, .. } => {
                self.locks.retain(|(at, of, held)| *at != ino || *of != session || held.owner != lock.owner);
                if lock.kind != LockKind::Unlock {
                    if self.locks.iter().any(|(at, ..)| *at == ino) {
                        return Err(Status::WouldBlock);
                    }
                    self.locks.push((ino, session, lock));
                }
                Ok(MetaReply::Done)
            }
            Mutation::Grant { chunks, versions } => {
                let first = self.next + 1;
                self.next += u64::from(chunks.max(versions)) + 1;
                Ok(MetaReply::Granted { chunk: first, version: ChunkVersion::new(first).unwrap() })
            }
            Mutation::GrantInodes { count } => {
                let first = self.next + 1;
                self.next += u64::from(count) + 1;
                Ok(MetaReply::InodesGranted(Ino::new(first).unwrap()))
            }
            _ => Err(Status::NotSupported),
        }
    }

    fn set_attr(&mut self, ino: Ino, set: &SetAttr, garbage: &mut Vec<VersionId>) -> Answer {
        let now = self.now();
        let inode = self.inode(ino)?;
        if let Some(size) = set.size {
            inode.resize(size, garbage);
            inode.attr.mtime = now;
        }
        change::set_attr(&mut inode.attr, set, now);
        Ok(MetaReply::Attr(inode.attr.clone()))
    }

    fn commit(&mut self, commit: &Commit, garbage: &mut Vec<VersionId>) -> Answer {
        let now = self.now();
        let inode = self.inode(commit.ino)?;
        if commit.size_expected.is_some_and(|expected| expected != inode.attr.size) {
            return Err(Status::Conflict);
        }
        let inline = inode.attr.flags.has(AttrFlags::INLINE);
        let version_now = inode.attr.data_version;
        match &commit.content {
            NewContent::Inline { base_data_version, bytes } => {
                if *base_data_version != version_now || !inline {
                    return Err(Status::Conflict);
                }
                assert!(bytes.len() <= INLINE as usize, "inline bytes past their bound");
                inode.inline = bytes.clone();
                inode.attr.allocated = change::inline_allocated(bytes.len() as u64);
            }
            NewContent::Slots { inline_base, edits } => {
                if *inline_base != inline.then_some(version_now) {
                    return Err(Status::Conflict);
                }
                assert!(edits.len() <= EDITS_MAX, "too many edits");
                if edits.iter().any(|edit| inode.slots.get(&edit.index) != edit.base.as_ref()) {
                    return Err(Status::Conflict);
                }
                inode.attr.flags.set(AttrFlags::INLINE, false);
                inode.inline.clear();
                for edit in edits {
                    inode.set_slot(edit.index, edit.new, garbage);
                }
            }
        }
        let size = inode.attr.size.max(commit.size_at_least);
        change::commit(&mut inode.attr, size, commit.mtime, now);
        Ok(MetaReply::Attr(inode.attr.clone()))
    }

    fn copy(
        &mut self,
        (from, from_index): (Ino, u64),
        (to, to_index): (Ino, u64),
        (count, size_at_least): (u32, u64),
        garbage: &mut Vec<VersionId>,
    ) -> Answer {
        let source = self.inode(from)?.clone();
        let target = self.inode(to)?;
        let inline = target.attr.flags.has(AttrFlags::INLINE) && target.attr.size > 0;
        if source.attr.flags.has(AttrFlags::INLINE) || inline {
            return Err(Status::NotSupported);
        }
        target.attr.flags.set(AttrFlags::INLINE, false);
        for at in 0..u64::from(count) {
            target.set_slot(to_index + at, source.slots.get(&(from_index + at)).copied(), garbage);
        }
        target.attr.size = target.attr.size.max(size_at_least);
        target.attr.data_version += 1;
        Ok(MetaReply::Attr(target.attr.clone()))
    }
}

impl Inode {
    fn content(&self, first: u64, count: usize) -> Content {
        if self.attr.flags.has(AttrFlags::INLINE) {
            return Content::Inline(self.inline.clone());
        }
        let mut slots: Vec<Option<ChunkRef>> =
            (first..first + count as u64).map(|at| self.slots.get(&at).copied()).collect();
        while slots.last() == Some(&None) {
            slots.pop();
        }
        Content::Slots { first, slots }
    }

    fn set_slot(&mut self, index: u64, new: Option<ChunkRef>, garbage: &mut Vec<VersionId>) {
        let old = match new {
            Some(new) => self.slots.insert(index, new),
            None => self.slots.remove(&index),
        };
        garbage.extend(old.map(version));
        self.attr.allocated = self.slots.values().map(|slot| u64::from(slot.allocated)).sum();
    }

    fn resize(&mut self, size: u64, garbage: &mut Vec<VersionId>) {
        if self.attr.flags.has(AttrFlags::INLINE) {
            self.inline.truncate(usize::try_from(size).unwrap());
        } else {
            let end = size.div_ceil(u64::from(CHUNK));
            garbage.extend(self.slots.split_off(&end).into_values().map(version));
            if let Some(last) = end.checked_sub(1).and_then(|last| self.slots.get_mut(&last)) {
                last.len = last.len.min((size - (end - 1) * u64::from(CHUNK)) as u32);
            }
        }
        self.attr.size = size;
        self.attr.data_version += 1;
    }
}
