//! What `dgfs info` shows of an inode: its chunks, and how the servers that hold them keep them.
//!
//! Never waits for a server that is down; what is silent is left out. Always: an answer fits an extended attribute, so that of a
//! large file it is a page, which names the slot where the next one begins.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use serde_json::{Value, json};

use dgfs_proto::attr::AttrFlags;
use dgfs_proto::chunk::{ChunkRef, ChunkReply, ChunkRequest, StoredVersion, VersionId};
use dgfs_proto::class::Shape;
use dgfs_proto::ids::{Ino, ServerId};
use dgfs_proto::limits::{CHUNK_BYTES_MIN, CHUNK_PAGE_MAX, LIST_MAX};
use dgfs_proto::map::ClusterMap;
use dgfs_proto::meta::{Content, InodeChunks, MetaReply, MetaRequest, Query};

use super::VolumeLink;

/// Calls under way at once.
const CALLS_AT_ONCE: usize = 8;

/// Chunks in one answer: with the longest names and the answers of sixteen servers each they take less than 64 KiB.
const CHUNKS: usize = 16;

/// What each server says of a version it holds a copy or a shard of.
type Stored = BTreeMap<VersionId, Vec<(ServerId, StoredVersion)>>;

impl VolumeLink {
    /// What `dgfs info` shows of one inode, as JSON: its attributes, and chunks from slot `first` on. `next` is the slot of the
    /// first chunk that is left out, `null` when none is.
    ///
    /// # Errors
    /// As [`Self::ask`]; the inode is gone.
    pub async fn describe_inode(&self, ino: Ino, first: u64) -> Result<Value, String> {
        let page = self.inodes(Ino::new(ino.get() - 1), 1).await?;
        let found = page.into_iter().find(|inode| inode.attr.ino == ino).ok_or("the inode is gone")?;
        let (chunks, next) = self.chunks_from(&found, first).await?;
        let map = self.map().await?;
        let stored = self.stored(&map, chunks.iter().map(|(_, chunk)| *chunk)).await;
        let chunks: Vec<Value> = chunks.iter().map(|(index, chunk)| describe(&map, &stored, *index, *chunk)).collect();
        let attr = &found.attr;
        let inline = attr.flags.has(AttrFlags::INLINE);
        Ok(json!({ "ino": ino, "size": attr.size, "allocated": attr.allocated, "nlink": attr.nlink,
                   "data_version": attr.data_version, "inline": inline, "chunks": chunks, "next": next }))
    }

    /// Some chunks from slot `first` on, and where the next one is.
    async fn chunks_from(
        &self,
        inode: &InodeChunks,
        first: u64,
    ) -> Result<(Vec<(u64, ChunkRef)>, Option<u64>), String> {
        let ino = inode.attr.ino;
        // What came with the inode are its first slots.
        let mut known = inode.chunks.iter().copied().filter(|(index, _)| *index >= first);
        let mut chunks: Vec<(u64, ChunkRef)> = known.by_ref().take(CHUNKS).collect();
        if let Some((next, _)) = known.next() {
            return Ok((chunks, Some(next)));
        }
        let behind = u64::from(CHUNK_PAGE_MAX);
        if inode.attr.size <= behind * u64::from(CHUNK_BYTES_MIN) {
            return Ok((chunks, None));
        }
        let mut next = self.next_chunk(ino, first.max(behind)).await?;
        if let (true, Some(at)) = (chunks.is_empty(), next) {
            let count = CHUNKS as u32;
            let asked = self.ask(MetaRequest::Query(Query::Content { ino, first: at, count })).await?;
            if let MetaReply::Opened { content: Content::Slots { slots, .. }, .. } = asked {
                chunks.extend((at..).zip(slots).filter_map(|(index, slot)| Some((index, slot?))));
            }
            next = self.next_chunk(ino, at + u64::from(count)).await?;
        }
        Ok((chunks, next))
    }

    async fn next_chunk(&self, ino: Ino, first: u64) -> Result<Option<u64>, String> {
        match self.ask(MetaRequest::Query(Query::NextChunk { ino, first })).await? {
            MetaReply::NextChunk(next) => Ok(next.map(|(index, _)| index)),
            _ => Err("the metadata service answered something else than a chunk".to_owned()),
        }
    }

    /// Asks for all copies and shards of `chunks`, by the version's whole name.
    async fn stored(&self, map: &ClusterMap, chunks: impl Iterator<Item = ChunkRef>) -> Stored {
        let mut by_server: BTreeMap<ServerId, Vec<VersionId>> = BTreeMap::new();
        for chunk in chunks {
            for (server, id) in copies(map, chunk) {
                by_server.entry(server).or_default().push(id);
            }
        }
        let calls: Vec<(ServerId, &[VersionId])> =
            by_server.iter().flat_map(|(server, ids)| ids.chunks(LIST_MAX).map(|ids| (*server, ids))).collect();
        let asked: Vec<BoxFuture<'_, Vec<(VersionId, ServerId, StoredVersion)>>> = calls
            .into_iter()
            .map(|(server, ids)| Box::pin(self.stored_at(map, server, ids)) as BoxFuture<'_, _>)
            .collect();
        let mut answers = stream::iter(asked).buffer_unordered(CALLS_AT_ONCE);
        let mut stored = Stored::new();
        while let Some(answer) = answers.next().await {
            for (id, server, how) in answer {
                stored.entry(id).or_default().push((server, how));
            }
        }
        stored
    }

    async fn stored_at(
        &self,
        map: &ClusterMap,
        server: ServerId,
        ids: &[VersionId],
    ) -> Vec<(VersionId, ServerId, StoredVersion)> {
        let Some(info) = map.server(server).filter(|info| info.up) else { return Vec::new() };
        match self.ask_store(info, map.epoch, ChunkRequest::Stored(ids.to_vec())).await {
            Ok(ChunkReply::Stored(answers)) => {
                let known = ids.iter().zip(answers).filter_map(|(id, how)| Some((id, how?)));
                known.map(|(id, how)| (VersionId { chunk: id.chunk.whole(), ..*id }, server, how)).collect()
            }
            Ok(_) | Err(_) => Vec::new(),
        }
    }
}

/// The names of a chunk's version at the servers that have a copy or a shard of it.
fn copies(map: &ClusterMap, chunk: ChunkRef) -> Vec<(ServerId, VersionId)> {
    let members = map.placement(chunk.chunk).map_or(&[][..], |placement| &placement.members);
    let name = |place: u8| match chunk.chunk.class().shape() {
        Shape::Replicated(_) => chunk.chunk,
        Shape::Coded { .. } => chunk.chunk.with_shard(place),
    };
    let copy = |(place, server)| (server, VersionId { chunk: name(place), version: chunk.version });
    (0_u8..).zip(members.iter().map(|member| member.server)).map(copy).collect()
}

/// One chunk, for people and programs.
fn describe(map: &ClusterMap, stored: &Stored, index: u64, chunk: ChunkRef) -> Value {
    let name =
        |id: ServerId| map.server(id).map_or_else(|| id.to_string(), |server| format!("{id} ({})", server.label));
    let members = map.placement(chunk.chunk).map_or(&[][..], |placement| &placement.members);
    let servers: Vec<_> = members.iter().map(|member| name(member.server)).collect();
    json!({ "index": index, "chunk": chunk.chunk, "version": chunk.version, "len": chunk.len,
            "class": chunk.chunk.class(), "allocated": chunk.allocated, "servers": servers,
            "stored": describe_stored(stored, chunk) })
}

fn describe_stored(stored: &Stored, chunk: ChunkRef) -> Value {
    let id = VersionId { chunk: chunk.chunk.whole(), version: chunk.version };
    let copies = stored.get(&id).map_or(&[][..], Vec::as_slice).iter();
    let one = |(server, how): &(ServerId, StoredVersion)| {
        json!({ "server": server, "compression": how.compression.name(), "data_bytes": how.data_bytes,
                "disk_bytes": how.disk_bytes })
    };
    copies.map(one).collect()
}
