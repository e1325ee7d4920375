//! What a change will answer, told beforehand from what is known.
//!
//! Never guesses: what is not known, or follows from more than attributes and names (a default ACL, several links, opens that
//! meta has to know), is asked for. Always: what is known afterwards is what meta will answer, by the rules that it uses, too.

use std::sync::Arc;

use dgfs_proto::attr::change::{self, NewInode};
use dgfs_proto::attr::{Attr, AttrFlags, FileKind, Timestamp};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{FILE_BYTES_MAX, LINK_MAX, SYMLINK_BYTES_MAX};
use dgfs_proto::meta::{
    Commit, Leasing, MetaReply, Mutation, Named, NewContent, NewNode, RemoveKind, RenameMode, SetAttr,
};
use dgfs_proto::name::Name;

use crate::cache::entries::EntryCache;
use crate::cache::shards::Asked;
use crate::core::Core;
use crate::kept_back::queue::Place;
use crate::ledger::Losing;
use crate::vfs::{Access, Seen, Since};

impl Core {
    /// A place in the queue for a change of `inos`.
    fn place(&self, inos: &[Ino]) -> Option<Place<'_>> {
        if !self.may_cache() {
            return None;
        }
        self.link.kept.place(inos, || self.link.sole())
    }

    /// Queues a change whose answer is known; what is known follows by `learn`, still under the queue's lock.
    fn keep(&self, place: Place<'_>, mutation: Mutation, reply: &MetaReply, learn: impl FnOnce()) -> u64 {
        learn();
        crate::metrics::count(&self.counters.kept_back);
        place.take(self.link.ops.begin(), mutation, reply)
    }

    fn known_directory(&self, ino: Ino) -> Option<Attr> {
        self.attrs.get(ino).filter(|attr| attr.kind == FileKind::Directory && attr.nlink > 0)
    }

    /// mknod, mkdir, symlink, create.
    pub(crate) fn keep_make(
        self: &Arc<Self>,
        parent: Ino,
        name: &Name,
        node: &NewNode,
        access: Access,
    ) -> Option<Seen> {
        let mut place = self.place(&[parent])?;
        let asked = self.asking();
        let mut directory = self.known_directory(parent)?;
        if self.entries.get(parent, name) != Some(None) || directory.flags.has(AttrFlags::HAS_DEFAULT_ACL) {
            return None;
        }
        let (kind, rdev, size) = kind_of(node)?;
        let subdirectory = i32::from(kind == FileKind::Directory);
        if subdirectory > 0 && directory.nlink >= LINK_MAX {
            return None;
        }
        let (ino, low) = self.grants.take_ino();
        if low {
            self.ask_for_inodes_ahead();
        }
        let ino = ino?;
        let (mode, caller) = (access.mode, access.caller);
        let new = NewInode { ino, parent: &directory, kind, rdev, size, mode, uid: caller.uid, gid: caller.gid };
        let mut attr = new.attr(place.now);
        attr.mode = change::plain_mode(kind, access.mode, access.umask) | (attr.mode & 0o7000);
        change::touch_directory(&mut directory, 1, subdirectory, place.now);
        let named = Named { ino, lost: None, attrs: vec![attr.clone(), directory] };
        let mutation = Mutation::Make {
            parent,
            name: name.clone(),
            node: node.clone(),
            mode: access.mode,
            umask: access.umask,
            caller,
            open: false,
            ino: Some(ino),
        };
        let mut since = None;
        let reply = MetaReply::Named(named.clone());
        place.own(ino);
        self.keep(place, mutation, &reply, || {
            since = Some(self.learn_named(asked, [(parent, name.clone())], &Ok(named), Leasing::default()));
            if subdirectory > 0 {
                self.entries.made(asked.entries, ino);
            }
        });
        Some(Seen { attr, since: since.unwrap_or_default() })
    }

    /// unlink, rmdir of what has one name and which this mount does not have open.
    pub(crate) fn keep_remove(&self, parent: Ino, name: &Name, kind: RemoveKind) -> Option<Named> {
        let ino = self.entries.get(parent, name)??;
        let _no_open = self.losing_unopened(ino)?;
        let mut place = self.place(&[parent, ino])?;
        let asked = self.asking();
        if self.entries.get(parent, name) != Some(Some(ino)) {
            return None;
        }
        let (mut directory, attr) = (self.known_directory(parent)?, self.attrs.get(ino)?);
        let is_directory = attr.kind == FileKind::Directory;
        let fits = match kind {
            RemoveKind::Unlink => !is_directory && attr.nlink == 1,
            RemoveKind::Rmdir => is_directory && attr.nlink > 0 && attr.size == 0,
        };
        if !fits {
            return None;
        }
        change::touch_directory(&mut directory, -1, -i32::from(is_directory), place.now);
        let named = Named { ino, lost: Some((ino, 0)), attrs: vec![directory] };
        let mutation = Mutation::Remove { parent, name: name.clone(), kind };
        place.disown(ino);
        self.keep(place, mutation, &MetaReply::Named(named.clone()), || {
            self.entries.settle(&mut EntryCache::own_change(asked.entries), parent, name.clone(), None);
            let _: Option<Asked> = self.learn_attrs(asked, &Ok(named.clone()), Leasing::default());
            self.lost_name(&named);
        });
        Some(named)
    }

    /// rename of what has one name, over nothing or over what could be removed.
    pub(crate) fn keep_rename(&self, from: &(Ino, Name), to: &(Ino, Name), mode: RenameMode) -> Option<Named> {
        let moved = self.entries.get(from.0, &from.1)??;
        let target = self.entries.get(to.0, &to.1)?;
        let mut inos = vec![from.0, to.0, moved];
        inos.extend(target);
        let _no_open = match target {
            Some(target) => Some(self.losing_unopened(target)?),
            None => None,
        };
        let mut place = self.place(&inos)?;
        let asked = self.asking();
        let still =
            self.entries.get(from.0, &from.1) == Some(Some(moved)) && self.entries.get(to.0, &to.1) == Some(target);
        if !still || target == Some(moved) || mode == RenameMode::Exchange {
            return None;
        }
        let attr = self.attrs.get(moved)?;
        let within = from.0 == to.0;
        let fits = if attr.kind == FileKind::Directory { within && target.is_none() } else { attr.nlink == 1 };
        if !fits || (target.is_some() && mode != RenameMode::Replace) {
            return None;
        }
        if let Some(target) = target {
            let replaced = self.attrs.get(target)?;
            if replaced.kind == FileKind::Directory || replaced.nlink != 1 {
                return None;
            }
        }
        let named = self.renamed((from.0, to.0), attr, target, place.now)?;
        let mutation =
            Mutation::Rename { parent: from.0, name: from.1.clone(), new_parent: to.0, new_name: to.1.clone(), mode };
        if let Some(target) = target {
            place.disown(target);
        }
        self.keep(place, mutation, &MetaReply::Named(named.clone()), || {
            let _: Since = self.learn_named(asked, [from.clone(), to.clone()], &Ok(named.clone()), Leasing::default());
            self.lost_name(&named);
        });
        Some(named)
    }

    /// The answer to a rename: entries come and go one after the other, as meta does it.
    fn renamed(&self, (from, to): (Ino, Ino), mut attr: Attr, target: Option<Ino>, now: Timestamp) -> Option<Named> {
        let subdirectory = i32::from(attr.kind == FileKind::Directory);
        let mut source = self.known_directory(from)?;
        let mut others = Vec::with_capacity(2);
        if from == to {
            if target.is_some() {
                change::touch_directory(&mut source, -1, 0, now);
            }
            change::touch_directory(&mut source, -1, -subdirectory, now);
            change::touch_directory(&mut source, 1, subdirectory, now);
            others.push(source);
        } else {
            let mut into = self.known_directory(to)?;
            if target.is_some() {
                change::touch_directory(&mut into, -1, 0, now);
            }
            change::touch_directory(&mut source, -1, -subdirectory, now);
            change::touch_directory(&mut into, 1, subdirectory, now);
            others.extend([source, into]);
        }
        attr.ctime = now;
        attr.parent = to;
        let ino = attr.ino;
        let attrs = std::iter::once(attr).chain(others).collect();
        Some(Named { ino, lost: target.map(|target| (target, 0)), attrs })
    }

    /// chmod, chown, utimens.
    pub(crate) fn keep_attr(&self, ino: Ino, set: SetAttr) -> Option<(Attr, Option<Asked>)> {
        let place = self.place(&[ino])?;
        let asked = self.attrs.asking();
        let mut attr = self.attrs.get(ino).filter(|attr| attr.nlink > 0)?;
        if set.size.is_some() {
            return None;
        }
        change::set_attr(&mut attr, &set, place.now);
        let mut since = None;
        self.keep(place, Mutation::SetAttr { ino, set }, &MetaReply::Attr(attr.clone()), || {
            since = self.attrs.settle(asked, &attr);
        });
        Some((attr, since))
    }

    /// The whole of a small file, or chunks where there were none; the attributes, since when they are known, and how many changes are kept back with it.
    pub(crate) fn keep_commit(&self, commit: &Commit, planned_at: Option<u64>) -> Option<(Attr, Option<Asked>, u64)> {
        let place = self.place(&[commit.ino])?;
        let asked = self.attrs.asking();
        let mut attr = self.attrs.get(commit.ino)?;
        let fits = attr.kind == FileKind::File
            && attr.nlink > 0
            && planned_at == Some(attr.data_version)
            && commit.size_expected.is_none()
            && commit.size_at_least <= FILE_BYTES_MAX;
        if !fits {
            return None;
        }
        let size = attr.size.max(commit.size_at_least);
        let size = match &commit.content {
            NewContent::Inline { base_data_version, bytes } => {
                let is_of_now = attr.data_version == *base_data_version && attr.flags.has(AttrFlags::INLINE);
                if !is_of_now || bytes.len() > self.volume.inline_bytes_max as usize {
                    return None;
                }
                attr.allocated = change::inline_allocated(bytes.len() as u64);
                size.max(bytes.len() as u64)
            }
            NewContent::Slots { inline_base, edits } => {
                let base = attr.flags.has(AttrFlags::INLINE).then_some(attr.data_version);
                // What is there may have been moved by storage servers. Where policies exist, meta looks at them; and another
                // mount may have set the first one.
                let is_free = place.is_alone() && commit.policies == 0;
                if *inline_base != base || edits.iter().any(|edit| edit.base.is_some()) || !is_free {
                    return None;
                }
                let kept = if base.is_some() { 0 } else { attr.allocated };
                attr.allocated =
                    kept + edits.iter().filter_map(|edit| edit.new).map(|new| u64::from(new.allocated)).sum::<u64>();
                attr.flags.set(AttrFlags::INLINE, false);
                size
            }
        };
        change::commit(&mut attr, size, commit.mtime, place.now);
        let mut since = None;
        let reply = MetaReply::Attr(attr.clone());
        let count = self.keep(place, Mutation::Commit(commit.clone()), &reply, || {
            since = self.settle_content(asked, &attr, Leasing::default());
        });
        // What changed meanwhile makes it doubtful from the start.
        Some((attr, since.or(Some(asked)), count))
    }

    /// An inode that this mount does not have open without meta's knowing may lose its last name; while the guard lives, no
    /// such open is taken. Taken before a place in the queue: opens look at the queue while their books are locked.
    fn losing_unopened(&self, ino: Ino) -> Option<Losing<'_>> {
        let losing = self.link.ledger.losing(Some(ino));
        (!self.link.ledger.has_own(ino)).then_some(losing)
    }
}

fn kind_of(node: &NewNode) -> Option<(FileKind, u32, u64)> {
    match node {
        NewNode::File => Some((FileKind::File, 0, 0)),
        NewNode::Directory => Some((FileKind::Directory, 0, 0)),
        NewNode::Symlink(target) => {
            let fits = (1..=SYMLINK_BYTES_MAX).contains(&target.len());
            fits.then_some((FileKind::Symlink, 0, target.len() as u64))
        }
        NewNode::Special { kind, rdev } => {
            matches!(kind, FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice)
                .then_some((*kind, *rdev, 0))
        }
    }
}
