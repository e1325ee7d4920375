//! Reads committed contents without a session: for an index, which must not cost the mounts their leases.
//!
//! Never changes anything, never leases anything and recalls nothing: what a mount keeps back is not seen before it is sent.
//! Always: the bytes are of one data version of the file, verified as every read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use dgfs_proto::attr::{Attr, FileKind};
use dgfs_proto::chunk::ChunkRef;
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::CHUNK_PAGE_MAX;
use dgfs_proto::meta::{ClientInfo, Content, MetaReply, Query};
use dgfs_proto::status::Status;

use crate::config::{ConnectError, VfsConfig, VfsDeps};
use crate::core::{Core, CoreParts};
use crate::meta_link::MetaLink;
use crate::metrics::Counters;
use crate::operation::Op;
use crate::stores::Stores;
use crate::tags::link::GraphLink;

/// A file that changes while it is read is begun again so often.
const TRIES_MAX: u32 = 4;

/// What a file held at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its attributes then.
    pub attr: Attr,
    /// Its bytes from the beginning, at most as many as were asked for; of a symlink its target.
    pub bytes: Bytes,
}

/// Reads contents of one volume.
pub struct Reader {
    core: Arc<Core>,
}

impl Reader {
    /// Finds the metadata service. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// A sentence that says who did not answer, or why it refused.
    pub async fn connect(config: VfsConfig, deps: VfsDeps) -> Result<Self, ConnectError> {
        if deps.meta.is_empty() {
            return Err(ConnectError::NoMeta);
        }
        let counters = Arc::new(Counters::default());
        let (client, local) = (ClientInfo::default(), config.local);
        let link = MetaLink::without_session(MetaLink::new(deps.meta, client, 0, Arc::clone(&counters), local));
        let op = Op::within(config.deadline, config.soft);
        let volume = match link.mend(&op, 0).await {
            Ok(Some(volume)) => *volume,
            Ok(None) | Err(Status::Unavailable) => return Err(ConnectError::Unreachable { peers: link.peers() }),
            Err(status) => return Err(link.rejection().map_or(ConnectError::Refused(status), ConnectError::Rejected)),
        };
        let (graph, stores) = (GraphLink::new(deps.graph), Stores::new(deps.stores));
        let core = Core::new(CoreParts { config, volume, link, graph, stores, disk: None, counters });
        core.refresh_map(&op).await.map_err(ConnectError::Refused)?;
        Ok(Self { core: Arc::new(core) })
    }

    /// The beginning of a file (or a symlink's target), at most `bytes_max`, within `patience`.
    ///
    /// # Errors
    /// `Stale` when it is gone, `Invalid` for what has no content, `Busy` when it changed too often meanwhile; what storage
    /// answers.
    pub async fn read(&self, ino: Ino, bytes_max: usize, patience: Duration) -> Result<Snapshot, Status> {
        let op = Op::within(patience, false);
        for _ in 0..TRIES_MAX {
            match self.try_read(&op, ino, bytes_max).await {
                // Its chunks were replaced and collected.
                Ok(None) | Err(Status::NoVersion) => {}
                Ok(Some(snapshot)) => return Ok(snapshot),
                Err(status) => return Err(status),
            }
        }
        Err(Status::Busy)
    }

    async fn try_read(&self, op: &Op, ino: Ino, bytes_max: usize) -> Result<Option<Snapshot>, Status> {
        let (attr, content) = self.content(op, ino, 0).await?;
        match attr.kind {
            FileKind::File => {}
            FileKind::Symlink => {
                let MetaReply::Bytes(target) = self.core.link.query(op, Query::ReadLink(ino)).await? else {
                    return Err(Status::Malformed);
                };
                return Ok(Some(Snapshot { attr, bytes: target.into() }));
            }
            FileKind::Directory | FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                return Err(Status::Invalid);
            }
        }
        let wanted = usize::try_from(attr.size).unwrap_or(usize::MAX).min(bytes_max);
        let mut slots = match content {
            Content::Inline(bytes) => {
                let bytes = Bytes::from(bytes);
                let kept = bytes.len().min(wanted);
                return Ok(Some(Snapshot { attr, bytes: bytes.slice(..kept) }));
            }
            Content::Slots { slots, .. } => slots,
        };
        let chunk_bytes = self.core.volume.chunk_bytes as usize;
        let count = wanted.div_ceil(chunk_bytes);
        while slots.len() < count {
            let (now, more) = self.content(op, ino, slots.len() as u64).await?;
            match more {
                Content::Slots { slots: more, .. } if now.data_version == attr.data_version && !more.is_empty() => {
                    slots.extend(more);
                }
                Content::Slots { .. } if now.data_version == attr.data_version => slots.resize(count, None),
                Content::Slots { .. } | Content::Inline(_) => return Ok(None),
            }
        }
        let mut bytes = BytesMut::with_capacity(wanted);
        for slot in slots.into_iter().take(count) {
            let size = chunk_bytes.min(wanted - bytes.len());
            self.append(op, slot, size, &mut bytes).await?;
        }
        Ok(Some(Snapshot { attr, bytes: bytes.freeze() }))
    }

    /// A whole file, piece by piece; each call of [`Pieces::next`] has a patience of its own.
    ///
    /// # Errors
    /// `Stale` when it is gone, `Invalid` for what is no file; what storage answers.
    pub async fn pieces(&self, ino: Ino, patience: Duration) -> Result<Pieces<'_>, Status> {
        let (attr, content) = self.content(&Op::within(patience, false), ino, 0).await?;
        if attr.kind != FileKind::File {
            return Err(Status::Invalid);
        }
        let (inline, slots) = match content {
            Content::Inline(bytes) => (Some(bytes.into()), VecDeque::new()),
            Content::Slots { slots, .. } => (None, slots.into()),
        };
        Ok(Pieces { reader: self, attr, inline, slots, asked: 0, at: 0 })
    }

    /// `size` bytes of a slot; what it does not hold is zeros.
    async fn append(&self, op: &Op, slot: Option<ChunkRef>, size: usize, bytes: &mut BytesMut) -> Result<(), Status> {
        let end = bytes.len() + size;
        if let Some(slot) = slot {
            let len = u32::try_from(size).unwrap_or(u32::MAX).min(slot.len);
            bytes.extend_from_slice(&self.core.get_chunk(op, slot, 0, len).await?);
        }
        bytes.resize(end, 0);
        Ok(())
    }

    async fn content(&self, op: &Op, ino: Ino, first: u64) -> Result<(Attr, Content), Status> {
        match self.core.link.query(op, Query::Content { ino, first, count: CHUNK_PAGE_MAX }).await? {
            MetaReply::Opened { attr, content } => Ok((attr, content)),
            _ => Err(Status::Malformed),
        }
    }
}

/// A file's bytes of one data version, in order. Holds one chunk and a page of what chunks there are.
pub struct Pieces<'a> {
    reader: &'a Reader,
    attr: Attr,
    inline: Option<Bytes>,
    /// Chunks from `at` on, as far as they were asked for.
    slots: VecDeque<Option<ChunkRef>>,
    /// Chunks that were taken so far.
    asked: u64,
    at: u64,
}

impl Pieces<'_> {
    /// The file's attributes when it was begun.
    #[must_use]
    pub fn attr(&self) -> &Attr {
        &self.attr
    }

    /// The next bytes, at most a chunk; none behind the last.
    ///
    /// # Errors
    /// `Busy` when the file changed since it was begun (also `NoVersion`: its chunks were collected), `Stale` when it is gone;
    /// what storage answers.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<Bytes>, Status> {
        let left = self.attr.size.saturating_sub(self.at);
        if left == 0 {
            return Ok(None);
        }
        if let Some(bytes) = self.inline.take() {
            self.at = self.attr.size;
            return Ok(Some(bytes));
        }
        let op = Op::within(patience, false);
        if self.slots.is_empty() {
            self.ask(&op).await?;
        }
        let chunk_bytes = u64::from(self.reader.core.volume.chunk_bytes);
        let size = usize::try_from(left.min(chunk_bytes)).map_err(|_| Status::Malformed)?;
        // Behind the last chunk there is a hole.
        let slot = self.slots.pop_front().flatten();
        let mut bytes = BytesMut::with_capacity(size);
        self.reader.append(&op, slot, size, &mut bytes).await?;
        self.asked += 1;
        self.at += size as u64;
        Ok(Some(bytes.freeze()))
    }

    async fn ask(&mut self, op: &Op) -> Result<(), Status> {
        match self.reader.content(op, self.attr.ino, self.asked).await? {
            (now, Content::Slots { slots, .. }) if now.data_version == self.attr.data_version => {
                self.slots = slots.into();
                Ok(())
            }
            (_, Content::Slots { .. } | Content::Inline(_)) => Err(Status::Busy),
        }
    }
}
