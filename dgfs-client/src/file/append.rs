//! Appends while other mounts may append too.
//!
//! Never guesses the end of the file: meta's answer decides. Always: a record lands whole, behind every record
//! that was committed before it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use dgfs_proto::limits::FILE_BYTES_MAX;
use dgfs_proto::status::Status;

use crate::core::{Core, now};
use crate::file::dirty::{DirtyChunk, Sealed};
use crate::file::flush::{Round, Which};
use crate::file::slots::PAGE_SLOTS;
use crate::file::state::FileState;
use crate::file::write::split;
use crate::metrics::count;
use crate::operation::{Backoff, Op};

/// How often an append moves to a new end before its writer is told.
const MOVES_MAX: usize = 256;

impl Core {
    /// Appends one record and commits it.
    pub(crate) async fn append_shared(
        self: &Arc<Self>,
        op: &Op,
        file: &Arc<FileState>,
        data: Bytes,
    ) -> Result<u32, Status> {
        let written = u32::try_from(data.len()).map_err(|_| Status::Invalid)?;
        if written == 0 {
            return Ok(0);
        }
        let _changing = self.lock_flush(op, file).await?;
        self.flush_locked(op, file, Which::All).await?;
        let mut backoff = Backoff::new();
        for attempt in 0..MOVES_MAX {
            if attempt > 0 {
                count(&self.counters.conflicts);
                if attempt % 4 == 0 {
                    backoff.pause(op).await?;
                }
            }
            self.load_end(op, file).await?;
            let size = file.inner.lock().attr.size;
            let round = self.round_at(file, size, &data, Some(size))?;
            match self.send_round(op, file, &round).await {
                Err(Status::Conflict | Status::NoVersion) => {}
                other => return other.map(|()| written),
            }
        }
        tracing::error!(ino = file.ino.get(), "an append was overtaken by other writers again and again");
        Err(Status::Io)
    }

    /// Learns the file's size and the slots at its end. Ignores what is known: it may be old.
    async fn load_end(&self, op: &Op, file: &FileState) -> Result<(), Status> {
        let known = {
            let mut inner = file.inner.lock();
            inner.forget_content();
            inner.leased = false;
            split(inner.attr.size, inner.chunk_bytes).0 / PAGE_SLOTS * PAGE_SLOTS
        };
        let _: bool = self.ask_content(op, file, known).await?;
        Ok(())
    }

    /// A round that writes `data`; refused later when the file has not the size expected. Its bytes are not in `flying`:
    /// nobody may read them before they are stored.
    pub(crate) fn round_at(
        &self,
        file: &FileState,
        offset: u64,
        data: &[u8],
        size_expected: Option<u64>,
    ) -> Result<Round, Status> {
        let inner = file.inner.lock();
        let end =
            offset.checked_add(data.len() as u64).filter(|end| *end <= FILE_BYTES_MAX).ok_or(Status::FileTooBig)?;
        let mut chunks = Vec::new();
        let (mut offset, mut rest) = (offset, data);
        while !rest.is_empty() {
            let (index, inside) = split(offset, inner.chunk_bytes);
            let (part, more) = rest.split_at(rest.len().min((inner.chunk_bytes - inside) as usize));
            let mut chunk = DirtyChunk::new(0, Instant::now());
            chunk.write(inside, part, inner.chunk_bytes);
            let (sealed, _): (Sealed, _) = chunk.seal();
            chunks.push((index, Arc::new(sealed)));
            offset += part.len() as u64;
            rest = more;
        }
        Ok(Round { chunks, end, written_at: now(), size_expected })
    }
}
