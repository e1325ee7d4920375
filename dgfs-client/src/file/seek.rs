//! SEEK_DATA and SEEK_HOLE.
//!
//! Never guesses: what is unsent is sent first, then metadata and storage servers say where bytes lie.

use std::sync::Arc;

use dgfs_proto::chunk::{ChunkRef, DataRange};
use dgfs_proto::class::Shape;
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::file::flush::Which;
use crate::file::leased::Current;
use crate::file::read::version_of;
use crate::file::state::{Content, FileState};
use crate::file::write::split;
use crate::operation::Op;
use crate::vfs::{Handle, Seek};

const LOOKS_MAX: usize = 16;

impl Core {
    /// lseek with SEEK_DATA or SEEK_HOLE.
    pub(crate) async fn seek(self: &Arc<Self>, handle: Handle, offset: u64, what: Seek) -> Result<u64, Status> {
        let open = self.handles.file(handle)?;
        let op = self.op();
        let file = &open.file;
        self.flush_file(&op, file, Which::All).await?;
        for _ in 0..LOOKS_MAX {
            let found = match what {
                Seek::Data => self.seek_data(&op, file, offset).await,
                Seek::Hole => self.seek_hole(&op, file, offset).await,
            };
            match found {
                Err(Status::Conflict | Status::NoVersion) => file.inner.lock().forget_content(),
                other => return other,
            }
        }
        Err(Status::Io)
    }

    /// The file's size, and whether it is inline; asks when that is not known.
    async fn shape(self: &Arc<Self>, op: &Op, file: &FileState) -> Result<(u64, Option<u64>), Status> {
        let _: Current = self.be_current(op, file).await?;
        if matches!(file.inner.lock().content, Content::Unknown) {
            self.load_page(op, file, 0).await?;
        }
        let inner = file.inner.lock();
        let inline = match &inner.content {
            Content::Inline(bytes) => Some(bytes.len() as u64),
            Content::Slots(_) | Content::Unknown => None,
        };
        Ok((inner.size(), inline))
    }

    async fn seek_data(self: &Arc<Self>, op: &Op, file: &FileState, offset: u64) -> Result<u64, Status> {
        let (size, inline) = self.shape(op, file).await?;
        if offset >= size || inline.is_some_and(|bytes| offset >= bytes) {
            return Err(Status::NotFound);
        }
        if inline.is_some() {
            return Ok(offset);
        }
        let chunk_bytes = u64::from(self.chunk_bytes());
        let (mut index, mut inside) = split(offset, self.chunk_bytes());
        while index * chunk_bytes < size {
            let (at, slot) = self.slot_or_next(op, file, index).await?;
            let Some(slot) = slot else {
                (index, inside) = (at + 1, 0);
                continue;
            };
            let from = if at == index { inside } else { 0 };
            let data = self.data_ranges(op, slot).await?.into_iter().find(|range| range.offset + range.len > from);
            if let Some(range) = data {
                let found = at * chunk_bytes + u64::from(range.offset.max(from));
                return if found < size { Ok(found) } else { Err(Status::NotFound) };
            }
            (index, inside) = (at + 1, 0);
        }
        Err(Status::NotFound)
    }

    async fn seek_hole(self: &Arc<Self>, op: &Op, file: &FileState, offset: u64) -> Result<u64, Status> {
        let (size, inline) = self.shape(op, file).await?;
        if offset >= size {
            return Err(Status::NotFound);
        }
        if let Some(bytes) = inline {
            return Ok(bytes.max(offset));
        }
        let chunk_bytes = u64::from(self.chunk_bytes());
        let (mut index, mut inside) = split(offset, self.chunk_bytes());
        while index * chunk_bytes < size {
            let here = index * chunk_bytes + u64::from(inside);
            let (at, slot) = self.slot_or_next(op, file, index).await?;
            let Some(slot) = slot.filter(|_| at == index) else { return Ok(here) };
            let mut reached = inside;
            for range in self.data_ranges(op, slot).await? {
                if range.offset <= reached && reached < range.offset + range.len {
                    reached = range.offset + range.len;
                }
            }
            if reached < self.chunk_bytes() {
                return Ok((index * chunk_bytes + u64::from(reached)).min(size));
            }
            (index, inside) = (index + 1, 0);
        }
        Ok(size)
    }

    /// Where the bytes of a slot that count are data.
    async fn data_ranges(&self, op: &Op, slot: ChunkRef) -> Result<Vec<DataRange>, Status> {
        if slot.allocated >= slot.len && slot.len == self.chunk_bytes() {
            return Ok(vec![DataRange { offset: 0, len: slot.len }]);
        }
        if matches!(slot.chunk.class().shape(), Shape::Coded { .. }) {
            // What is coded has no holes.
            return Ok(vec![DataRange { offset: 0, len: slot.len }]);
        }
        let mut ranges = self.chunk_extents(op, version_of(slot)).await?;
        ranges.retain_mut(|range| {
            range.len = range.len.min(slot.len.saturating_sub(range.offset));
            range.len > 0
        });
        Ok(ranges)
    }
}
