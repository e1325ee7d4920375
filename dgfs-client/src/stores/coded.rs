//! Coded chunks: written as shards, read from the data shards, rebuilt from any that are left.
//!
//! Never patches a coded chunk: whoever changes one stores it as copies until it is sealed. Always: what is read equals what was
//! coded, whichever shards it came from.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;

use dgfs_proto::chunk::{ChunkRef, Put, PutDurability, VersionId};
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::{ChunkId, ChunkVersion, Ino};
use dgfs_proto::status::Status;

use crate::coding::{self, Layout};
use crate::core::Core;
use crate::file::put::data_patch;
use crate::operation::{Backoff, Op};
use crate::stores::put::ForPlace;

/// The shards of a chunk by place.
struct Shards {
    chunk: ChunkId,
    version: ChunkVersion,
    owner: Ino,
    index: u64,
    durability: PutDurability,
    compression: Compression,
    shards: Vec<Bytes>,
}

impl ForPlace for Shards {
    fn at(&self, place: u8) -> (Put, Bytes) {
        let body = self.shards.get(usize::from(place)).cloned().unwrap_or_default();
        let put = Put {
            chunk: self.chunk.with_shard(place),
            base: None,
            version: self.version,
            owner: self.owner,
            index: self.index,
            durability: self.durability,
            compression: self.compression,
            patches: vec![data_patch(0, &body)],
        };
        (put, body)
    }
}

impl Core {
    /// Stores a whole chunk as shards.
    pub(crate) async fn put_coded(
        &self,
        op: &Op,
        id: VersionId,
        (owner, index): (Ino, u64),
        compression: Compression,
        bytes: &Bytes,
    ) -> Result<(), Status> {
        let shards = coding::encode(id.chunk.class(), bytes).map_err(|error| {
            tracing::error!(chunk = %id.chunk, %error, "a chunk could not be coded");
            Status::Io
        })?;
        let durability = self.config.durability;
        let what = Shards { chunk: id.chunk, version: id.version, owner, index, durability, compression, shards };
        self.put_everywhere(op, id.chunk, &what).await.map(drop)
    }

    /// Reads a range of a coded chunk.
    pub(crate) async fn get_coded(&self, op: &Op, slot: ChunkRef, offset: u32, len: u32) -> Result<Bytes, Status> {
        // What was coded is as long as what it takes; a truncate changes only how much of it counts.
        let layout = Layout::of(slot.chunk.class(), slot.allocated).ok_or(Status::Corrupt)?;
        let parts = layout.parts(offset, len);
        let read = parts.iter().map(|(shard, from, bytes)| self.get_part(op, slot, &layout, *shard, (*from, *bytes)));
        let read = try_join_all(read).await?;
        if let [only] = read.as_slice()
            && only.len() == len as usize
        {
            return Ok(only.clone());
        }
        let mut joined = BytesMut::with_capacity(len as usize);
        for part in read {
            joined.extend_from_slice(&part);
        }
        // What counts behind the last coded byte is zeros.
        joined.resize(len as usize, 0);
        Ok(joined.freeze())
    }

    /// A range of one data shard.
    async fn get_part(
        &self,
        op: &Op,
        slot: ChunkRef,
        layout: &Layout,
        shard: u8,
        range: (u32, u32),
    ) -> Result<Bytes, Status> {
        let mut backoff = Backoff::new();
        loop {
            let id = VersionId { chunk: slot.chunk.with_shard(shard), version: slot.version };
            let direct = self.try_copy(op, id, shard, range).await;
            let Err(failed) = direct else { return direct };
            let rebuilt = self.rebuild_part(op, slot, layout, shard, range).await;
            match (rebuilt, failed) {
                (Ok(bytes), _) => return Ok(bytes),
                // The version is not there: it was replaced and collected.
                (Err(Status::NoVersion), Status::NoVersion) => return Err(Status::NoVersion),
                (Err(Status::Unavailable), _) | (_, Status::Unavailable) => {}
                (Err(status), _) => return Err(status),
            }
            self.look_again(op, &mut backoff).await?;
        }
    }

    /// A range of a shard from the same range of any others that are enough.
    async fn rebuild_part(
        &self,
        op: &Op,
        slot: ChunkRef,
        layout: &Layout,
        wanted: u8,
        (offset, len): (u32, u32),
    ) -> Result<Bytes, Status> {
        let (from, bytes) = layout.aligned(offset, len);
        let width = u8::try_from(layout.data() + layout.parity()).unwrap_or(u8::MAX);
        let get = |shard: u8| async move {
            let id = VersionId { chunk: slot.chunk.with_shard(shard), version: slot.version };
            (shard, self.try_copy(op, id, shard, (from, bytes)).await)
        };
        let mut asked = (0..width).filter(|shard| *shard != wanted).map(get).collect::<FuturesUnordered<_>>();
        let mut have = Vec::with_capacity(layout.data());
        let mut outcome = Status::NoVersion;
        while let Some((shard, answer)) = asked.next().await {
            match answer {
                Ok(part) => have.push((shard, part)),
                Err(status) if outcome == Status::NoVersion || status == Status::Unavailable => outcome = status,
                Err(_) => {}
            }
            if have.len() == layout.data() {
                break;
            }
        }
        drop(asked);
        if have.len() < layout.data() {
            return Err(outcome);
        }
        let rebuilt = coding::rebuild(slot.chunk.class(), &have, &[wanted]).map_err(|error| {
            tracing::error!(chunk = %slot.chunk, %error, "a shard could not be rebuilt");
            Status::Corrupt
        })?;
        let (_, shard) = rebuilt.into_iter().next().ok_or(Status::Corrupt)?;
        let at = (offset - from) as usize;
        if shard.len() < at + len as usize { Err(Status::Corrupt) } else { Ok(shard.slice(at..at + len as usize)) }
    }
}
