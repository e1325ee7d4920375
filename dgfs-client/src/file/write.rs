//! Takes writes into memory.
//!
//! Never asks a peer where writes may be kept back, but for O_SYNC. Always under the budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use dgfs_proto::limits::FILE_BYTES_MAX;
use dgfs_proto::status::Status;
use dgfs_runtime::trace::follow_current;

use crate::core::{Core, now};
use crate::file::dirty::DirtyChunk;
use crate::file::flush::Which;
use crate::file::state::{FileState, Inner};
use crate::handles::OpenFile;
use crate::metrics::count;
use crate::operation::Op;
use crate::vfs::Handle;

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    At(u64),
    End,
}

impl Core {
    /// Takes a write if nothing has to be waited for.
    pub(crate) fn write_now(self: &Arc<Self>, handle: Handle, offset: u64, data: &[u8]) -> Option<Result<u32, Status>> {
        let open = match self.handles.file(handle) {
            Ok(open) => open,
            Err(status) => return Some(Err(status)),
        };
        open.used();
        if let Err(status) = self.may_write(&open) {
            return Some(Err(status));
        }
        if open.flags.sync || !self.budget.has_room(data.len() as u64) {
            return None;
        }
        let place = if open.flags.append { Place::End } else { Place::At(offset) };
        self.buffer(&open.file, place, data).transpose()
    }

    /// Takes a write, waiting for room.
    pub(crate) async fn write(self: &Arc<Self>, handle: Handle, offset: u64, data: Bytes) -> Result<u32, Status> {
        let open = self.handles.file(handle)?;
        open.used();
        self.may_write(&open)?;
        let op = self.op();
        if !self.budget.has_room(data.len() as u64) {
            count(&self.counters.writes_waited);
            self.budget.wait(&op, data.len() as u64).await?;
        }
        let place = if open.flags.append { Place::End } else { Place::At(offset) };
        let written = self.take(&op, &open.file, place, data).await?;
        if open.flags.sync {
            self.sync_file(&op, &open).await?;
        }
        Ok(written)
    }

    /// Takes a write: keeps it back, or stores it at once where others have the file open.
    pub(crate) async fn take(
        self: &Arc<Self>,
        op: &Op,
        file: &Arc<FileState>,
        place: Place,
        data: Bytes,
    ) -> Result<u32, Status> {
        loop {
            if let Some(written) = self.buffer(file, place, &data)? {
                return Ok(written);
            }
            let doubtful = file.inner.lock().doubtful;
            if doubtful {
                self.load_page(op, file, 0).await?;
            } else if !self.lease_writes(op, file).await? {
                return self.write_through(op, file, place, data).await;
            }
            if op.expired() {
                return Err(Status::Unavailable);
            }
        }
    }

    fn may_write(&self, open: &OpenFile) -> Result<(), Status> {
        if self.link.is_dead() {
            return Err(Status::Stale);
        }
        if !open.flags.write {
            return Err(Status::BadHandle);
        }
        open.take_error_by_write()
    }

    /// Puts bytes into the file's unsent writes; `None` when they may not be kept back.
    fn buffer(self: &Arc<Self>, file: &Arc<FileState>, place: Place, data: &[u8]) -> Result<Option<u32>, Status> {
        let written = u32::try_from(data.len()).map_err(|_| Status::Invalid)?;
        if data.is_empty() {
            return Ok(Some(0));
        }
        let filled = {
            let mut inner = file.inner.lock();
            // Looked at with the state locked: whoever takes the right back looks for unsent bytes afterwards.
            let may_keep = inner.writes_kept && !self.link.lease_left().is_zero();
            let has_no_end = inner.doubtful && place == Place::End;
            if has_no_end || (!self.link.sole() && !may_keep) {
                return Ok(None);
            }
            let offset = match place {
                Place::At(offset) => offset,
                Place::End => inner.size(),
            };
            let end = offset.checked_add(u64::from(written)).ok_or(Status::FileTooBig)?;
            if end > FILE_BYTES_MAX {
                return Err(Status::FileTooBig);
            }
            let taken = inner.take_write(offset, data);
            self.budget.change(taken.held_before, taken.held_after);
            taken.filled
        };
        self.dirty.add(file);
        if filled {
            self.send_full(file);
        }
        Ok(Some(written))
    }

    /// Sends full chunks in the background, one such task per file.
    fn send_full(self: &Arc<Self>, file: &Arc<FileState>) {
        if file.sending.swap(true, Ordering::AcqRel) {
            return;
        }
        let (core, file) = (Arc::clone(self), Arc::clone(file));
        self.runtime.spawn(follow_current(async move {
            let op = core.background_op();
            let Ok(_changing) = core.lock_flush(&op, &file).await else {
                file.sending.store(false, Ordering::Release);
                return;
            };
            // From here on a chunk that becomes full starts a new task, which waits for the lock.
            file.sending.store(false, Ordering::Release);
            if let Err(status) = core.flush_locked(&op, &file, Which::Full).await {
                tracing::debug!(ino = file.ino.get(), %status, "full chunks could not be sent in the background");
            }
        }));
    }
}

/// What a write did to the budget.
struct Taken {
    held_before: u64,
    held_after: u64,
    /// A chunk is complete now.
    filled: bool,
}

impl Inner {
    fn take_write(&mut self, offset: u64, data: &[u8]) -> Taken {
        self.writes += 1;
        self.written_at = now();
        let chunk_bytes = self.chunk_bytes;
        let mut taken = Taken { held_before: 0, held_after: 0, filled: false };
        let (mut offset, mut data) = (offset, data);
        while !data.is_empty() {
            let (index, inside) = split(offset, chunk_bytes);
            let (part, rest) = data.split_at(data.len().min((chunk_bytes - inside) as usize));
            let chunk = self.dirty.entry(index).or_insert_with(|| DirtyChunk::new(self.writes, Instant::now()));
            taken.held_before += chunk.held();
            chunk.write(inside, part, chunk_bytes);
            taken.held_after += chunk.held();
            taken.filled |= chunk.is_full(chunk_bytes);
            offset += part.len() as u64;
            data = rest;
        }
        taken
    }
}

/// Chunk index and offset inside the chunk.
pub(crate) const fn split(offset: u64, chunk_bytes: u32) -> (u64, u32) {
    (offset / chunk_bytes as u64, (offset % chunk_bytes as u64) as u32)
}
