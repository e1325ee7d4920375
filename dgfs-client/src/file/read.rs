//! Reads: committed bytes, with bytes under way over them, with unsent bytes over those.
//!
//! Never returns a byte that was not verified or written here. Always: fewer bytes than asked only at the end of the file.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;

use dgfs_proto::chunk::{ChunkRef, VersionId};
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::file::leased::Current;
use crate::file::slots::Slot;
use crate::file::state::{Content, FileState, Inner};
use crate::file::write::split;
use crate::operation::Op;
use crate::vfs::Handle;

/// How often a read looks anew at a version that was replaced meanwhile.
const LOOKS_MAX: usize = 16;

/// Committed bytes to fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetch {
    /// Where in the answer.
    pub(crate) at: usize,
    pub(crate) slot: ChunkRef,
    /// First byte in the chunk.
    pub(crate) from: u32,
    pub(crate) len: u32,
}

/// What a read is made of.
struct View {
    len: usize,
    fetches: Vec<Fetch>,
    /// In the order to be laid over.
    overlays: Vec<(usize, Bytes)>,
}

impl Core {
    /// Reads through a handle.
    pub(crate) async fn read(self: &Arc<Self>, handle: Handle, offset: u64, size: u32) -> Result<Bytes, Status> {
        let open = self.handles.file(handle)?;
        let op = self.op();
        open.used();
        if !open.direct_io {
            open.file.page_reads.reading();
        }
        let sequential = self.read_ahead(&open, offset, size);
        loop {
            let current = self.be_current(&op, &open.file).await?;
            let bytes = self.read_file(&op, &open.file, offset, size, sequential).await?;
            if current == Current::LastSeen || open.direct_io || self.may_give_pages(&open.file) {
                return Ok(bytes);
            }
        }
    }

    /// Reads a range of a file.
    pub(crate) async fn read_file(
        self: &Arc<Self>,
        op: &Op,
        file: &Arc<FileState>,
        offset: u64,
        size: u32,
        sequential: bool,
    ) -> Result<Bytes, Status> {
        for look in 0..LOOKS_MAX {
            match self.try_read(op, file, offset, size, sequential).await {
                // The version was replaced and collected after it was looked up.
                Err(Status::NoVersion) => {
                    if look > 0 {
                        file.inner.lock().forget_content();
                    }
                }
                other => return other,
            }
        }
        tracing::error!(ino = file.ino.get(), offset, "no storage server has the bytes that the metadata refers to");
        Err(Status::Corrupt)
    }

    async fn try_read(
        self: &Arc<Self>,
        op: &Op,
        file: &Arc<FileState>,
        offset: u64,
        size: u32,
        sequential: bool,
    ) -> Result<Bytes, Status> {
        let view = loop {
            let viewed = file.inner.lock().view(offset, size);
            match viewed {
                Ok(view) => break view,
                Err(_) => self.load_missing_page(op, file, |inner| inner.view(offset, size).err()).await?,
            }
            if op.expired() {
                return Err(Status::Unavailable);
            }
        };
        if view.len == 0 {
            return Ok(Bytes::new());
        }
        if let ([fetch], []) = (view.fetches.as_slice(), view.overlays.as_slice())
            && fetch.len as usize == view.len
        {
            return self.fetch(op, fetch, sequential).await;
        }
        if let ([], [(0, bytes)]) = (view.fetches.as_slice(), view.overlays.as_slice())
            && bytes.len() == view.len
        {
            return Ok(bytes.clone());
        }
        self.assemble(op, view, sequential).await
    }

    async fn assemble(self: &Arc<Self>, op: &Op, view: View, sequential: bool) -> Result<Bytes, Status> {
        let mut answer = BytesMut::zeroed(view.len);
        if self.config.local {
            for fetch in &view.fetches {
                let bytes = self.fetch(op, fetch, sequential).await?;
                lay(&mut answer, fetch.at, &bytes);
            }
        } else {
            let fetched = try_join_all(view.fetches.iter().map(|fetch| self.fetch(op, fetch, sequential))).await?;
            for (fetch, bytes) in view.fetches.iter().zip(fetched) {
                lay(&mut answer, fetch.at, &bytes);
            }
        }
        for (at, bytes) in &view.overlays {
            lay(&mut answer, *at, bytes);
        }
        Ok(answer.freeze())
    }
}

fn lay(target: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(into) = at.checked_add(bytes.len()).and_then(|end| target.get_mut(at..end)) {
        into.copy_from_slice(bytes);
    }
}

impl Inner {
    /// What a read of this range is made of; the page of slots to ask for when something is not known.
    fn view(&self, offset: u64, size: u32) -> Result<View, u64> {
        let end = offset.saturating_add(u64::from(size)).min(self.size());
        let Some(len) = end.checked_sub(offset).and_then(|len| usize::try_from(len).ok()) else {
            return Ok(View { len: 0, fetches: Vec::new(), overlays: Vec::new() });
        };
        let mut view = View { len, fetches: Vec::new(), overlays: Vec::new() };
        if let Content::Inline(bytes) = &self.content {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let to = from.saturating_add(len).min(bytes.len());
            if from < to {
                view.overlays.push((0, bytes.slice(from..to)));
            }
        }
        let mut at = offset;
        while at < end {
            let (index, inside) = split(at, self.chunk_bytes);
            let part = (end - at).min(u64::from(self.chunk_bytes - inside)) as u32;
            self.view_chunk(&mut view, (at - offset) as usize, index, (inside, part))?;
            at += u64::from(part);
        }
        Ok(view)
    }

    fn view_chunk(&self, view: &mut View, at: usize, index: u64, (from, len): (u32, u32)) -> Result<(), u64> {
        let (dirty, flying) = (self.dirty.get(&index), self.flying.get(&index));
        let covered =
            dirty.is_some_and(|chunk| chunk.covers(from, len)) || flying.is_some_and(|sealed| sealed.covers(from, len));
        if !covered {
            self.view_committed(view, at, index, (from, len))?;
        }
        let mut lay_over = |pieces: Vec<(u32, Bytes)>| {
            for (start, bytes) in pieces {
                view.overlays.push((at + (start - from) as usize, bytes));
            }
        };
        if let Some(sealed) = flying {
            lay_over(sealed.pieces(from, len));
        }
        if let Some(chunk) = dirty {
            lay_over(chunk.pieces(from, len));
        }
        Ok(())
    }

    fn view_committed(&self, view: &mut View, at: usize, index: u64, (from, len): (u32, u32)) -> Result<(), u64> {
        let slots = match &self.content {
            Content::Unknown => return Err(index / crate::file::slots::PAGE_SLOTS * crate::file::slots::PAGE_SLOTS),
            Content::Inline(_) => return Ok(()),
            Content::Slots(slots) => slots,
        };
        match slots.get(index) {
            Slot::Unknown(page) => Err(page),
            Slot::Known(None) => Ok(()),
            Slot::Known(Some(slot)) => {
                let len = len.min(slot.len.saturating_sub(from));
                if len > 0 {
                    view.fetches.push(Fetch { at, slot, from, len });
                }
                Ok(())
            }
        }
    }
}

/// The name of what a slot holds.
pub(crate) const fn version_of(slot: ChunkRef) -> VersionId {
    VersionId { chunk: slot.chunk, version: slot.version }
}
