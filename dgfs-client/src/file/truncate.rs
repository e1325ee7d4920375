//! Sets a file's size.
//!
//! Never moves bytes: a shorter file is metadata only. Always: what was written before the cut is sent before it.

use std::sync::Arc;

use dgfs_proto::attr::{Attr, AttrFlags};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::FILE_BYTES_MAX;
use dgfs_proto::meta::{Leasing, Mutation, SetAttr};
use dgfs_proto::status::Status;

use crate::cache::shards::Asked;
use crate::core::Core;
use crate::file::flush::Which;
use crate::file::state::{Content, FileState, Inner};
use crate::file::write::split;
use crate::meta_link::attr_of;
use crate::operation::Op;
use crate::vfs::{Seen, Since};

impl Core {
    /// Sets attributes, the size among them.
    pub(crate) async fn set_size(self: &Arc<Self>, op: &Op, ino: Ino, set: SetAttr, size: u64) -> Result<Seen, Status> {
        if size > FILE_BYTES_MAX {
            return Err(Status::FileTooBig);
        }
        let Some(file) = self.files.get(ino) else {
            let (attr, since, _) = self.send_attr(op, ino, set).await?;
            // Without an open file here nobody knows whether the kernel has pages of it; if it does, it has cut them, too.
            if self.pages.get(ino).is_some() {
                self.pages.own_change(&attr);
            }
            return Ok(Seen { attr, since: Since { attrs: since, names: None } });
        };
        let _changing = self.lock_flush(op, &file).await?;
        self.set_size_locked(op, &file, set, size).await
    }

    /// As [`Self::set_size`], by the holder of the flush lock.
    pub(crate) async fn set_size_locked(
        self: &Arc<Self>,
        op: &Op,
        file: &Arc<FileState>,
        set: SetAttr,
        size: u64,
    ) -> Result<Seen, Status> {
        let (before, after) = file.inner.lock().trim_unsent(size);
        self.budget.change(before, after);
        self.flush_locked(op, file, Which::All).await?;
        let (attr, since, leasing) = self.send_attr(op, file.ino, set).await?;
        self.pages.own_change(&attr);
        self.learn_leasing(file, since, leasing);
        let mut inner = file.inner.lock();
        if inner.own_change(&attr) {
            inner.resized(attr.size);
        }
        Ok(Seen { attr, since: Since { attrs: since, names: None } })
    }

    /// Sends a `SetAttr` and remembers the answer: attributes, since when they are known, and what the answer allows.
    pub(crate) async fn send_attr(
        &self,
        op: &Op,
        ino: Ino,
        set: SetAttr,
    ) -> Result<(Attr, Option<Asked>, Leasing), Status> {
        let asked = self.attrs.asking();
        if let Some((attr, since)) = self.keep_attr(ino, set) {
            return Ok((attr, since, Leasing::default()));
        }
        let (reply, leasing, _changing) = self.link.change(op, Mutation::SetAttr { ino, set }).await;
        match reply {
            Ok(reply) => {
                let attr = attr_of(reply)?;
                let since = if leasing.unkept {
                    self.attrs.change(ino);
                    None
                } else {
                    self.attrs.settle(asked, &attr)
                };
                Ok((attr, since, leasing))
            }
            Err(status) => {
                self.attrs.change(ino);
                Err(status)
            }
        }
    }
}

impl Inner {
    /// Drops unsent bytes at and behind `size`; bytes of the budget before and after.
    fn trim_unsent(&mut self, size: u64) -> (u64, u64) {
        let (index, inside) = split(size, self.chunk_bytes);
        let behind = self.dirty.split_off(&index);
        let mut before = behind.values().map(|chunk| chunk.held()).sum();
        let mut after = 0;
        if inside > 0
            && let Some((_, mut chunk)) = behind.into_iter().find(|(at, _)| *at == index)
        {
            chunk.truncate(inside);
            if !chunk.is_empty() {
                after = chunk.held();
                self.dirty.insert(index, chunk);
            }
        }
        if before < after {
            before = after;
        }
        (before, after)
    }

    /// The file has this size now, by this mount's own change.
    fn resized(&mut self, size: u64) {
        let chunk_bytes = self.chunk_bytes;
        let inline = self.attr.flags.has(AttrFlags::INLINE);
        match &mut self.content {
            Content::Inline(bytes) if inline => {
                if let Ok(size) = usize::try_from(size) {
                    bytes.truncate(size);
                }
            }
            Content::Slots(slots) if !inline => slots.resize(size, chunk_bytes),
            content @ (Content::Inline(_) | Content::Slots(_) | Content::Unknown) => *content = Content::Unknown,
        }
    }
}
