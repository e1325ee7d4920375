//! How the chunks of a file are stored: asked of the servers that hold them.
//!
//! Never waits for a server that is down. What is silent is left out.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use serde_json::{Value, json};

use dgfs_proto::chunk::{ChunkRef, ChunkReply, ChunkRequest, StoredVersion, VersionId};
use dgfs_proto::class::Shape;
use dgfs_proto::ids::ServerId;
use dgfs_proto::limits::LIST_MAX;
use dgfs_proto::map::ClusterMap;

use super::VolumeLink;

/// Calls under way at once.
const CALLS_AT_ONCE: usize = 8;

/// What each server says of a version it holds a copy or a shard of.
pub(super) type Stored = BTreeMap<VersionId, Vec<(ServerId, StoredVersion)>>;

impl VolumeLink {
    /// Asks for all copies and shards of `chunks`, by the version's whole name.
    pub(super) async fn stored(&self, map: &ClusterMap, chunks: impl Iterator<Item = ChunkRef>) -> Stored {
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

/// For people and programs.
pub(super) fn describe(stored: &Stored, chunk: ChunkRef) -> Value {
    let id = VersionId { chunk: chunk.chunk.whole(), version: chunk.version };
    let copies = stored.get(&id).map_or(&[][..], Vec::as_slice).iter();
    let one = |(server, how): &(ServerId, StoredVersion)| {
        json!({ "server": server, "compression": how.compression.name(), "data_bytes": how.data_bytes,
                "disk_bytes": how.disk_bytes })
    };
    copies.map(one).collect()
}
