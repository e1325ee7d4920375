//! fallocate: grows files, makes holes and zeros.
//!
//! Never reserves bytes at storage servers: an allocation checks that there is room now. Holes are metadata where
//! whole chunks fall away, and a zero patch elsewhere.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use dgfs_proto::chunk::{ChunkRef, Patch, PatchKind};
use dgfs_proto::limits::{CHUNK_BYTES_MIN, EDITS_MAX, FILE_BYTES_MAX};
use dgfs_proto::meta::{Commit, MetaReply, NewContent, Query, SetAttr, SlotEdit};
use dgfs_proto::status::Status;

use crate::core::{Core, now};
use crate::file::flush::{After, Which};
use crate::file::leased::Current;
use crate::file::put::ChunkChange;
use crate::file::slots::{PAGE_SLOTS, Slot};
use crate::file::state::{Content, FileState};
use crate::file::write::split;
use crate::operation::Op;
use crate::vfs::{Fallocate, Handle};

/// How often a hole is tried again because another writer was first.
const REBASES_MAX: usize = 16;

/// A slot that no file reaches, and whose offset is still a number.
const INDEX_PAST_ALL: u64 = FILE_BYTES_MAX / CHUNK_BYTES_MIN as u64 + 1;

/// Bytes to be zeros, not empty.
#[derive(Clone, Copy, Debug)]
struct Range {
    from: u64,
    to: u64,
}

/// A slot inside the range.
struct Hit {
    index: u64,
    old: ChunkRef,
    from: u32,
    to: u32,
}

impl Core {
    /// fallocate.
    pub(crate) async fn fallocate(
        self: &Arc<Self>,
        handle: Handle,
        offset: u64,
        len: u64,
        what: Fallocate,
    ) -> Result<(), Status> {
        let open = self.handles.file(handle)?;
        if !open.flags.write {
            return Err(Status::BadHandle);
        }
        if len == 0 {
            return Err(Status::Invalid);
        }
        let end = offset.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX).ok_or(Status::FileTooBig)?;
        let op = self.op();
        let file = &open.file;
        let _changing = self.lock_flush(&op, file).await?;
        let zeros = matches!(what, Fallocate::PunchHole | Fallocate::ZeroRange | Fallocate::ZeroRangeKeepSize);
        if zeros {
            self.flush_locked(&op, file, Which::All).await?;
            let _: Current = self.be_current(&op, file).await?;
            let size = file.inner.lock().attr.size;
            if offset < size.min(end) {
                self.zero(&op, file, Range { from: offset, to: end.min(size) }).await?;
            }
        } else {
            self.check_room(&op, file, len).await?;
        }
        let grows = matches!(what, Fallocate::Allocate | Fallocate::ZeroRange);
        let _: Current = self.be_current(&op, file).await?;
        if grows && end > file.inner.lock().size() {
            let set = SetAttr { size: Some(end), ..SetAttr::default() };
            let _ = self.set_size_locked(&op, file, set, end).await?;
        }
        Ok(())
    }

    /// Is there room for `len` bytes more, beside what waits to be sent?
    async fn check_room(&self, op: &Op, file: &FileState, len: u64) -> Result<(), Status> {
        let MetaReply::StatFs(usage) = self.link.query(op, Query::StatFs).await? else { return Err(Status::Malformed) };
        let taken = file.inner.lock().attr.allocated;
        let wanted = len.saturating_sub(taken).saturating_add(self.budget.used());
        if wanted > usage.free_bytes { Err(Status::NoSpace) } else { Ok(()) }
    }

    /// Turns committed bytes into zeros. The caller holds the flush lock, and nothing is unsent.
    async fn zero(self: &Arc<Self>, op: &Op, file: &Arc<FileState>, range: Range) -> Result<(), Status> {
        for _ in 0..REBASES_MAX {
            match self.try_zero(op, file, range).await {
                Err(Status::Conflict | Status::NoVersion) => file.inner.lock().forget_content(),
                other => return other,
            }
        }
        Err(Status::Io)
    }

    async fn try_zero(self: &Arc<Self>, op: &Op, file: &Arc<FileState>, range: Range) -> Result<(), Status> {
        if matches!(file.inner.lock().content, Content::Unknown) {
            self.load_page(op, file, 0).await?;
        }
        let inline = {
            let inner = file.inner.lock();
            match &inner.content {
                Content::Inline(bytes) => Some((inner.attr.data_version, bytes.clone())),
                Content::Slots(_) | Content::Unknown => None,
            }
        };
        if let Some(inline) = inline {
            return self.zero_inline(op, file, range, inline).await;
        }
        let mut next = split(range.from, self.chunk_bytes()).0;
        loop {
            let (hits, end) = self.hits(op, file, range, next).await?;
            if !hits.is_empty() {
                self.zero_hits(op, file, range, hits).await?;
            }
            match end {
                Some(index) => next = index,
                None => return Ok(()),
            }
        }
    }

    /// `old` is the whole content, with its data version.
    async fn zero_inline(
        self: &Arc<Self>,
        op: &Op,
        file: &FileState,
        range: Range,
        (base_data_version, old): (u64, Bytes),
    ) -> Result<(), Status> {
        let mut bytes = BytesMut::from(old.as_ref());
        let from = usize::try_from(range.from).unwrap_or(usize::MAX).min(bytes.len());
        let to = usize::try_from(range.to).unwrap_or(usize::MAX).min(bytes.len());
        if let Some(part) = bytes.get_mut(from..to) {
            part.fill(0);
        }
        let bytes = bytes.freeze();
        let content = NewContent::Inline { base_data_version, bytes: bytes.to_vec() };
        self.commit_zeros(op, file, range, content, Some(bytes)).await
    }

    /// Slots that hold something inside the range, at most one commit full, and where to go on.
    async fn hits(
        &self,
        op: &Op,
        file: &FileState,
        range: Range,
        first: u64,
    ) -> Result<(Vec<Hit>, Option<u64>), Status> {
        let chunk_bytes = u64::from(self.chunk_bytes());
        let end = range.to.div_ceil(chunk_bytes);
        let mut hits = Vec::new();
        let mut index = first;
        while index < end {
            if hits.len() >= EDITS_MAX {
                return Ok((hits, Some(index)));
            }
            match self.slot_or_next(op, file, index).await? {
                (at, Some(old)) if at < end => {
                    let start = at * chunk_bytes;
                    let from = range.from.saturating_sub(start) as u32;
                    let to = (range.to - start).min(chunk_bytes) as u32;
                    if from < old.len {
                        hits.push(Hit { index: at, old, from, to });
                    }
                    index = at + 1;
                }
                (at, _) => index = at.max(index) + 1,
            }
        }
        Ok((hits, None))
    }

    /// The slot at `index`; where a whole page is known as a hole, the next slot that is held, wherever it is.
    pub(crate) async fn slot_or_next(
        &self,
        op: &Op,
        file: &FileState,
        index: u64,
    ) -> Result<(u64, Option<ChunkRef>), Status> {
        loop {
            let (slot, hole) = {
                let inner = file.inner.lock();
                match &inner.content {
                    Content::Slots(slots) => {
                        let page = index / PAGE_SLOTS * PAGE_SLOTS;
                        (slots.get(index), slots.page_is_hole(page) == Some(true))
                    }
                    Content::Inline(_) => return Err(Status::Conflict),
                    Content::Unknown => (Slot::Unknown(index / PAGE_SLOTS * PAGE_SLOTS), false),
                }
            };
            match slot {
                Slot::Known(None) if hole => {
                    let next = Query::NextChunk { ino: file.ino, first: index };
                    let MetaReply::NextChunk(found) = self.link.query(op, next).await? else {
                        return Err(Status::Malformed);
                    };
                    return Ok(found.map_or((INDEX_PAST_ALL, None), |(at, held)| (at, Some(held))));
                }
                Slot::Known(held) => return Ok((index, held)),
                Slot::Unknown(page) => self.load_page(op, file, page).await?,
            }
            if op.expired() {
                return Err(Status::Unavailable);
            }
        }
    }

    async fn zero_hits(
        self: &Arc<Self>,
        op: &Op,
        file: &Arc<FileState>,
        range: Range,
        hits: Vec<Hit>,
    ) -> Result<(), Status> {
        let mut edits = Vec::new();
        let mut changes = Vec::new();
        for hit in hits {
            if hit.from == 0 && hit.to >= hit.old.len {
                edits.push(SlotEdit { index: hit.index, base: Some(hit.old), new: None });
            } else {
                let patch = Patch { offset: hit.from, len: hit.to - hit.from, kind: PatchKind::Zero };
                changes.push(ChunkChange {
                    index: hit.index,
                    old: Some(hit.old),
                    patches: vec![patch],
                    body: Bytes::new(),
                    was: None,
                });
            }
        }
        edits.extend(self.put_all(op, file.ino, changes).await?);
        edits.sort_unstable_by_key(|edit| edit.index);
        self.commit_zeros(op, file, range, NewContent::Slots { inline_base: None, edits }, None).await
    }

    async fn commit_zeros(
        &self,
        op: &Op,
        file: &FileState,
        range: Range,
        content: NewContent,
        inline: Option<Bytes>,
    ) -> Result<(), Status> {
        // The range lies inside the file: its size stays.
        let size_at_least = range.to;
        let policies = self.stores.map().policies;
        let commit = Commit { ino: file.ino, content, size_at_least, size_expected: None, mtime: now(), policies };
        self.commit(op, file, commit, After { inline, planned_at: None }).await.map(drop)
    }
}
