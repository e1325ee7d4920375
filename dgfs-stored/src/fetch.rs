//! Gets whole versions from other servers: copies as they are, shards also by rebuilding them from the others.
//!
//! Never keeps anything: the caller does. Always: what it answers matches its writer's checksums.

use bytes::Bytes;
use dgfs_client::coding;
use dgfs_proto::chunk::{ChunkReply, ChunkRequest, Patch, PatchKind, VersionId};
use dgfs_proto::class::Shape;
use dgfs_proto::limits::CHECKSUM_BLOCK_BYTES;
use dgfs_proto::map::ServerInfo;
use dgfs_proto::status::Status;

use crate::store::Whole;
use crate::view::ClusterView;

impl ClusterView {
    /// A version (of a coded chunk: one shard of it) as another server holds it, or as it follows from other shards.
    ///
    /// # Errors
    /// `NoVersion` when all who may hold it answered that they do not; `Unavailable` when some did not answer; `Corrupt` when
    /// only damaged copies are left.
    pub(crate) async fn fetch(&self, id: VersionId) -> Result<Whole, Status> {
        let shape = id.chunk.class().shape();
        let place = match shape {
            Shape::Replicated(_) => None,
            Shape::Coded { .. } => Some(id.chunk.shard()),
        };
        let direct = self.fetch_copy(id, place).await;
        match (direct, shape) {
            (Ok(whole), _) => Ok(whole),
            (Err(status), Shape::Replicated(_)) => Err(status),
            (Err(status), Shape::Coded { data, parity }) => {
                self.rebuild_shard(id, usize::from(data), data + parity).await.map_err(|rebuilt| worse(status, rebuilt))
            }
        }
    }

    async fn fetch_copy(&self, id: VersionId, place: Option<u8>) -> Result<Whole, Status> {
        let map = self.map();
        let mut outcome = Status::NoVersion;
        for server in self.sources(&map, id.chunk, place) {
            match self.fetch_from(&server, id).await {
                Ok(whole) => return Ok(whole),
                Err(status) => outcome = worse(outcome, status),
            }
        }
        Err(outcome)
    }

    async fn fetch_from(&self, server: &ServerInfo, id: VersionId) -> Result<Whole, Status> {
        let (reply, body) = self.ask(server, ChunkRequest::Export(id)).await?;
        let ChunkReply::Exported { owner, index, compression, patches } = reply else { return Err(Status::Malformed) };
        if !matches_checksums(&patches, &body) {
            return Err(Status::Corrupt);
        }
        Ok(Whole { owner, index, compression, patches, body })
    }

    /// Any `data` other shards give this one.
    async fn rebuild_shard(&self, id: VersionId, data: usize, width: u8) -> Result<Whole, Status> {
        let wanted = id.chunk.shard();
        let mut outcome = Status::NoVersion;
        let mut have: Vec<(u8, Bytes)> = Vec::with_capacity(data);
        let mut facts = None;
        for shard in (0..width).filter(|shard| *shard != wanted) {
            if have.len() == data {
                break;
            }
            let other = VersionId { chunk: id.chunk.with_shard(shard), version: id.version };
            match self.shard(other, shard).await {
                Ok(whole) => {
                    facts = facts.or(Some((whole.owner, whole.index, whole.compression)));
                    have.push((shard, whole.dense()));
                }
                Err(status) => outcome = worse(outcome, status),
            }
        }
        let Some((owner, index, compression)) = facts.filter(|_| have.len() == data) else { return Err(outcome) };
        let rebuilt = coding::rebuild(id.chunk.class(), &have, &[wanted]).map_err(|error| {
            tracing::error!(chunk = %id.chunk, version = %id.version, %error, "a shard could not be rebuilt");
            Status::Corrupt
        })?;
        let (_, body) = rebuilt.into_iter().next().ok_or(Status::Corrupt)?;
        Ok(Whole { owner, index, compression, patches: vec![patch_of(&body)], body })
    }

    /// Another shard: from this store, or from another server.
    async fn shard(&self, id: VersionId, shard: u8) -> Result<Whole, Status> {
        if let Ok(own) = self.blocking(move |store| store.export(id)).await {
            return Ok(own);
        }
        self.fetch_copy(id, Some(shard)).await
    }
}

fn patch_of(body: &Bytes) -> Patch {
    let crcs = body.chunks(CHECKSUM_BLOCK_BYTES as usize).map(crc32c::crc32c).collect();
    Patch { offset: 0, len: u32::try_from(body.len()).unwrap_or(u32::MAX), kind: PatchKind::Data { crcs } }
}

fn matches_checksums(patches: &[Patch], body: &[u8]) -> bool {
    let mut rest = body;
    let all = patches.iter().all(|patch| {
        let PatchKind::Data { crcs } = &patch.kind else { return false };
        let Some((data, behind)) = rest.split_at_checked(patch.len as usize) else { return false };
        rest = behind;
        let blocks = data.chunks(CHECKSUM_BLOCK_BYTES as usize);
        blocks.len() == crcs.len() && blocks.zip(crcs).all(|(block, crc)| crc32c::crc32c(block) == *crc)
    });
    all && rest.is_empty()
}

/// What says more about a version that could not be had: damage over silence over absence.
fn worse(one: Status, other: Status) -> Status {
    let rank = |status: Status| match status {
        Status::NoVersion => 0,
        Status::Corrupt => 2,
        _ => 1,
    };
    if rank(other) > rank(one) { other } else { one }
}
