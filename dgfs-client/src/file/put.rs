//! Changes of chunks: each becomes a new version at the storage servers and an edit for the commit.
//!
//! Never changes a version that exists. Always: checksums are made here, before the bytes leave the client.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;

use dgfs_proto::chunk::{ChunkRef, Patch, PatchKind, Put, PutBase};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::CHECKSUM_BLOCK_BYTES;
use dgfs_proto::meta::SlotEdit;
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::operation::Op;

/// Puts of one file under way at once.
const PUTS_AT_ONCE: usize = 8;

/// A change of one chunk of a file.
#[derive(Clone, Debug)]
pub(crate) struct ChunkChange {
    pub(crate) index: u64,
    /// What the slot holds now.
    pub(crate) old: Option<ChunkRef>,
    /// Sorted, without overlap.
    pub(crate) patches: Vec<Patch>,
    /// The data patches' bytes, joined.
    pub(crate) body: Bytes,
}

/// A patch with its checksums.
pub(crate) fn data_patch(offset: u32, bytes: &[u8]) -> Patch {
    let crcs = bytes.chunks(CHECKSUM_BLOCK_BYTES as usize).map(crc32c::crc32c).collect();
    Patch { offset, len: bytes.len() as u32, kind: PatchKind::Data { crcs } }
}

impl ChunkChange {
    /// Bytes of the new version that count.
    fn new_len(&self) -> u32 {
        let written = self.patches.iter().filter(|patch| matches!(patch.kind, PatchKind::Data { .. }));
        let end = written.map(|patch| patch.offset + patch.len).max().unwrap_or(0);
        end.max(self.old.map_or(0, |old| old.len))
    }

    /// The old version, unless nothing of it is left.
    fn base(&self) -> Option<PutBase> {
        let old = self.old?;
        let replaced = match self.patches.as_slice() {
            [only] => only.offset == 0 && only.len >= old.len && matches!(only.kind, PatchKind::Data { .. }),
            _ => false,
        };
        (!replaced && old.len > 0).then_some(PutBase { version: old.version, len: old.len })
    }
}

impl Core {
    /// Stores all changes; the edits that make them part of the file, by index.
    pub(crate) async fn put_all(
        self: &Arc<Self>,
        op: &Op,
        ino: Ino,
        changes: Vec<ChunkChange>,
    ) -> Result<Vec<SlotEdit>, Status> {
        let mut edits = Vec::with_capacity(changes.len());
        if self.config.local || changes.len() == 1 {
            for change in changes {
                edits.push(self.put_change(op, ino, change).await?);
            }
        } else {
            let puts: Vec<BoxFuture<'_, Result<SlotEdit, Status>>> = changes
                .into_iter()
                .map(|change| -> BoxFuture<'_, Result<SlotEdit, Status>> { Box::pin(self.put_change(op, ino, change)) })
                .collect();
            let mut under_way = stream::iter(puts).buffer_unordered(PUTS_AT_ONCE);
            while let Some(edit) = under_way.next().await {
                edits.push(edit?);
            }
        }
        edits.sort_unstable_by_key(|edit| edit.index);
        Ok(edits)
    }

    async fn put_change(self: &Arc<Self>, op: &Op, ino: Ino, change: ChunkChange) -> Result<SlotEdit, Status> {
        let version = self.new_version(op).await?;
        let chunk = match change.old {
            Some(old) => old.chunk,
            None => self.new_chunk(op).await?,
        };
        let (index, base, len) = (change.index, change.base(), change.new_len());
        let durability = self.config.durability;
        let put = Put { chunk, base, version, owner: ino, index, durability, patches: change.patches };
        let allocated = self.put_chunk(op, put, change.body).await?;
        Ok(SlotEdit { index, base: change.old, new: Some(ChunkRef { chunk, version, len, allocated }) })
    }
}
