//! Changes of chunks: each becomes a new version at the storage servers and an edit for the commit.
//!
//! Never changes a version that exists. Always: checksums are made here, before the bytes leave the client.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;

use dgfs_proto::chunk::{ChunkRef, Patch, PatchKind, Put, PutBase, VersionId};
use dgfs_proto::class::{Class, Shape};
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::{ChunkId, ChunkVersion, Ino};
use dgfs_proto::limits::{CHECKSUM_BLOCK_BYTES, CODED_BYTES_MIN};
use dgfs_proto::meta::SlotEdit;
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::operation::Op;
use crate::policy::Policy;

/// Puts of one file under way at once.
const PUTS_AT_ONCE: usize = 8;

/// Times that a change is tried when servers have no room.
const ELSEWHERE_MAX: usize = 64;

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
    /// What the slot holds, where `old` is none although it holds something.
    pub(crate) was: Option<ChunkRef>,
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

    /// What the slot holds before.
    fn slot(&self) -> Option<ChunkRef> {
        self.old.or(self.was)
    }

    /// Is it one stretch of bytes from the start?
    fn is_dense(&self) -> bool {
        matches!(self.patches.as_slice(), [only] if only.offset == 0 && matches!(only.kind, PatchKind::Data { .. }))
            && self.base().is_none()
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

    /// Stores a change; as a chunk of its own at other servers, when those that hold the old one have no room.
    async fn put_change(self: &Arc<Self>, op: &Op, ino: Ino, change: ChunkChange) -> Result<SlotEdit, Status> {
        if self.config.local {
            return self.put_at_once(op, ino, change).await;
        }
        let mut change = change;
        for _ in 0..ELSEWHERE_MAX {
            let before = (self.stores.full.found(), self.stores.map().epoch);
            let refused = match self.put_at_once(op, ino, change.clone()).await {
                Err(status @ Status::NoSpace) => status,
                outcome => return outcome,
            };
            let Policy { class, .. } = self.policy_of_new(op, ino).await?;
            // Each try that fails has found one more that is full, which a new chunk keeps away from, or servers have changed.
            let (full, map, is_patch) = (&self.stores.full, self.stores.map(), change.old.is_some());
            if !full.leave_enough(&map, class) || (before == (full.found(), map.epoch) && !is_patch) {
                return Err(refused);
            }
            change = self.as_new(op, change).await?;
        }
        Err(Status::NoSpace)
    }

    async fn put_at_once(self: &Arc<Self>, op: &Op, ino: Ino, change: ChunkChange) -> Result<SlotEdit, Status> {
        let change = self.as_copies(op, change).await?;
        let version = self.new_version(op).await?;
        let (index, base, len, was) = (change.index, change.base(), change.new_len(), change.slot());
        let Policy { class, compression } = self.policy_of_new(op, ino).await?;
        let chunk = match change.old.filter(|_| base.is_some()) {
            Some(old) => old.chunk,
            // Nothing of what was there is left: the policy of today decides.
            None => {
                let is_coded = matches!(class.shape(), Shape::Coded { .. });
                if is_coded && change.is_dense() && len >= CODED_BYTES_MIN {
                    return self.put_as_shards(op, (ino, version), (class, compression), change).await;
                }
                self.new_chunk_like(op, change.old, class.as_copies()).await?
            }
        };
        let durability = self.config.durability;
        let put = Put { chunk, base, version, owner: ino, index, durability, compression, patches: change.patches };
        let allocated = self.put_chunk(op, put, change.body).await?;
        Ok(SlotEdit { index, base: was, new: Some(ChunkRef { chunk, version, len, allocated }) })
    }

    /// The chunk that is there, if it has the class, or a fresh one.
    async fn new_chunk_like(self: &Arc<Self>, op: &Op, old: Option<ChunkRef>, class: Class) -> Result<ChunkId, Status> {
        match old.filter(|old| old.chunk.class() == class) {
            Some(old) => Ok(old.chunk),
            None => self.new_chunk(op, class).await,
        }
    }

    async fn put_as_shards(
        self: &Arc<Self>,
        op: &Op,
        (ino, version): (Ino, ChunkVersion),
        (class, compression): (Class, Compression),
        change: ChunkChange,
    ) -> Result<SlotEdit, Status> {
        let (index, len) = (change.index, change.new_len());
        let chunk = self.new_chunk(op, class).await?;
        self.put_coded(op, VersionId { chunk, version }, (ino, index), compression, &change.body).await?;
        let new = ChunkRef { chunk, version, len, allocated: len };
        Ok(SlotEdit { index, base: change.slot(), new: Some(new) })
    }

    /// A change of a coded chunk that keeps some of it becomes a change of nothing.
    async fn as_copies(self: &Arc<Self>, op: &Op, change: ChunkChange) -> Result<ChunkChange, Status> {
        let is_coded = |old: &ChunkRef| matches!(old.chunk.class().shape(), Shape::Coded { .. });
        if change.base().is_some() && change.old.as_ref().is_some_and(is_coded) {
            return self.as_new(op, change).await;
        }
        Ok(change)
    }

    /// The same content as a chunk of its own: what is kept of the old one is read and goes with it.
    async fn as_new(self: &Arc<Self>, op: &Op, change: ChunkChange) -> Result<ChunkChange, Status> {
        let (Some(old), Some(_)) = (change.old, change.base()) else {
            return Ok(ChunkChange { old: None, was: change.slot(), ..change });
        };
        let kept = self.get_chunk(op, old, 0, old.len).await?;
        let mut bytes = BytesMut::zeroed(change.new_len() as usize);
        lay(&mut bytes, 0, &kept);
        let mut at = 0;
        for patch in &change.patches {
            let (from, len) = (patch.offset as usize, patch.len as usize);
            match patch.kind {
                PatchKind::Data { .. } => {
                    lay(&mut bytes, from, change.body.get(at..at + len).unwrap_or_default());
                    at += len;
                }
                PatchKind::Zero => {
                    let end = bytes.len().min(from + len);
                    bytes.get_mut(from..end).unwrap_or_default().fill(0);
                }
            }
        }
        let body = bytes.freeze();
        Ok(ChunkChange { index: change.index, old: None, patches: vec![data_patch(0, &body)], body, was: Some(old) })
    }
}

fn lay(target: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(into) = at.checked_add(bytes.len()).and_then(|end| target.get_mut(at..end)) {
        into.copy_from_slice(bytes);
    }
}
