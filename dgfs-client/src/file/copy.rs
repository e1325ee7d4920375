//! copy_file_range: whole chunks are shared by metadata, the rest is read and written.
//!
//! Never copies past the source's end. Always: both files' unsent bytes are sent before chunks are shared.

use std::sync::Arc;

use dgfs_proto::limits::{EDITS_MAX, FILE_BYTES_MAX};
use dgfs_proto::meta::Mutation;
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::file::flush::Which;
use crate::file::leased::Current;
use crate::file::state::{Content, FileState};
use crate::file::write::Place;
use crate::handles::OpenFile;
use crate::meta_link::attr_of;
use crate::operation::Op;
use crate::vfs::Handle;

/// Bytes copied by one call by reading and writing: the kernel asks again for the rest.
const BYTES_MAX: u64 = 64 << 20;
/// Bytes read and written at once.
const STEP_BYTES: u64 = 1 << 20;

impl Core {
    /// copy_file_range; bytes copied.
    pub(crate) async fn copy_range(
        self: &Arc<Self>,
        from: (Handle, u64),
        to: (Handle, u64),
        len: u64,
    ) -> Result<u64, Status> {
        let (source, target) = (self.handles.file(from.0)?, self.handles.file(to.0)?);
        if !source.flags.read || !target.flags.write || target.flags.append {
            return Err(Status::BadHandle);
        }
        let op = self.op();
        self.flush_file(&op, &source.file, Which::All).await?;
        let _: Current = self.be_current(&op, &source.file).await?;
        let _: Current = self.be_current(&op, &target.file).await?;
        let size = source.file.inner.lock().size();
        let len = len.min(size.saturating_sub(from.1));
        let end = to.1.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX).ok_or(Status::FileTooBig)?;
        if source.file.ino == target.file.ino && from.1 < end && to.1 < from.1 + len {
            return Err(Status::Invalid);
        }
        self.copy_clipped(&op, (&source, from.1), (&target, to.1), (len, size)).await
    }

    async fn copy_clipped(
        self: &Arc<Self>,
        op: &Op,
        (source, from): (&OpenFile, u64),
        (target, to): (&OpenFile, u64),
        (len, size): (u64, u64),
    ) -> Result<u64, Status> {
        let chunk_bytes = u64::from(self.chunk_bytes());
        let mut copied = 0;
        while copied < len.min(BYTES_MAX) || (copied < len && (from + copied) % chunk_bytes == 0) {
            let (at, into, left) = (from + copied, to + copied, len - copied);
            let aligned = at % chunk_bytes == 0 && into % chunk_bytes == 0;
            if aligned
                && let Some(shared) = self.share(op, (&source.file, at), (&target.file, into), (left, size)).await?
            {
                copied += shared;
                continue;
            }
            if copied >= BYTES_MAX {
                break;
            }
            // Up to the next chunk border, from where on chunks may be shared.
            let border =
                if from % chunk_bytes == to % chunk_bytes { chunk_bytes - at % chunk_bytes } else { STEP_BYTES };
            let step = left.min(border).min(STEP_BYTES);
            let bytes = self.read_file(op, &source.file, at, step as u32, false).await?;
            if bytes.is_empty() {
                break;
            }
            self.budget.wait(op, bytes.len() as u64).await?;
            copied += u64::from(self.take(op, &target.file, Place::At(into), bytes).await?);
        }
        Ok(copied)
    }

    /// Shares whole chunks, and the last part of one when both files end with it. `None` when nothing can be shared.
    async fn share(
        self: &Arc<Self>,
        op: &Op,
        (source, at): (&Arc<FileState>, u64),
        (target, into): (&Arc<FileState>, u64),
        (left, size): (u64, u64),
    ) -> Result<Option<u64>, Status> {
        let chunk_bytes = u64::from(self.chunk_bytes());
        let chunked = |file: &FileState| matches!(file.inner.lock().content, Content::Slots(_));
        if !chunked(source) {
            return Ok(None);
        }
        let _changing = self.lock_flush(op, target).await?;
        self.flush_locked(op, target, Which::All).await?;
        let whole = left / chunk_bytes;
        let tail = at + left == size && into + left >= target.inner.lock().size() && left % chunk_bytes > 0;
        let count = (whole + u64::from(tail)).min(EDITS_MAX as u64);
        if count == 0 {
            return Ok(None);
        }
        let bytes = (count * chunk_bytes).min(left);
        let copy = Mutation::CopyChunks {
            from: source.ino,
            from_index: at / chunk_bytes,
            to: target.ino,
            to_index: into / chunk_bytes,
            count: count as u32,
            size_at_least: into + bytes,
        };
        let asked = self.attrs.asking();
        let (reply, leasing, _changing) = self.link.change(op, copy).await;
        let attr = match reply {
            Ok(reply) => attr_of(reply)?,
            // Meta cannot share these (one of the files is inline): copied by bytes.
            Err(Status::NotSupported | Status::Invalid | Status::Conflict) => return Ok(None),
            Err(status) => return Err(status),
        };
        let since = self.settle_content(asked, &attr, leasing);
        self.learn_leasing(target, since, leasing);
        let mut inner = target.inner.lock();
        inner.own_change(&attr);
        inner.content = Content::Unknown;
        Ok(Some(bytes))
    }
}
