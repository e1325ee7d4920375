//! Reads: from the first server that has the bytes, from a second one when the first is slow.
//!
//! Never answers bytes that do not match their checksum. Always: everybody who may hold a version is asked before it counts as
//! gone or damaged.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use dgfs_proto::chunk::{ChunkRef, ChunkReply, ChunkRequest, DataRange, VersionId};
use dgfs_proto::class::Shape;
use dgfs_proto::ids::{ChunkId, ServerId};
use dgfs_proto::map::ClusterMap;
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::operation::{Backoff, Op};
use crate::stores::Miss;

/// A second server is asked when the first has not answered for so long: several times what a read takes here.
const HEDGE: Duration = Duration::from_millis(80);

/// How one round over all servers ended.
enum Round {
    Answer(ChunkReply, Bytes),
    /// Everybody who is meant to have it said no.
    No(Status),
    /// Somebody who may have it did not answer.
    Open,
}

impl Core {
    /// Reads a range of what a slot refers to.
    pub(crate) async fn get_chunk(&self, op: &Op, slot: ChunkRef, offset: u32, len: u32) -> Result<Bytes, Status> {
        match slot.chunk.class().shape() {
            Shape::Replicated(_) => {
                let id = VersionId { chunk: slot.chunk, version: slot.version };
                self.get_copy(op, id, None, (offset, len)).await
            }
            Shape::Coded { .. } => self.get_coded(op, slot, offset, len).await,
        }
    }

    /// Reads a range of a version from whoever has it: with `place` only from those who hold that shard.
    pub(crate) async fn get_copy(
        &self,
        op: &Op,
        id: VersionId,
        place: Option<u8>,
        (offset, len): (u32, u32),
    ) -> Result<Bytes, Status> {
        let (reply, body) = self.read_store(op, id.chunk, place, ChunkRequest::Get { id, offset, len }).await?;
        let ChunkReply::Data { .. } = reply else { return Err(Status::Malformed) };
        if body.len() == len as usize { Ok(body) } else { Err(Status::Corrupt) }
    }

    /// Where a version has data.
    pub(crate) async fn chunk_extents(&self, op: &Op, id: VersionId) -> Result<Vec<DataRange>, Status> {
        match self.read_store(op, id.chunk, None, ChunkRequest::Extents(id)).await? {
            (ChunkReply::Extents(ranges), _) => Ok(ranges),
            _ => Err(Status::Malformed),
        }
    }

    async fn read_store(
        &self,
        op: &Op,
        chunk: ChunkId,
        place: Option<u8>,
        request: ChunkRequest,
    ) -> Result<(ChunkReply, Bytes), Status> {
        let mut backoff = Backoff::new();
        loop {
            let map = self.stores.map();
            match self.read_round(op, &map, chunk, place, &request).await {
                Round::Answer(reply, body) => return Ok((reply, body)),
                Round::No(status) => return Err(status),
                Round::Open => {}
            }
            if self.stores.map().epoch == map.epoch {
                self.look_again(op, &mut backoff).await?;
            }
        }
    }

    /// One round for a shard that may be had another way: an error also when somebody does not answer.
    pub(crate) async fn try_copy(
        &self,
        op: &Op,
        id: VersionId,
        place: u8,
        (offset, len): (u32, u32),
    ) -> Result<Bytes, Status> {
        let map = self.stores.map();
        match self.read_round(op, &map, id.chunk, Some(place), &ChunkRequest::Get { id, offset, len }).await {
            Round::Answer(ChunkReply::Data { .. }, body) if body.len() == len as usize => Ok(body),
            Round::Answer(..) => Err(Status::Malformed),
            Round::No(status) => Err(status),
            Round::Open => Err(Status::Unavailable),
        }
    }

    async fn read_round(
        &self,
        op: &Op,
        map: &ClusterMap,
        chunk: ChunkId,
        place: Option<u8>,
        request: &ChunkRequest,
    ) -> Round {
        let Some(placement) = map.placement(chunk) else { return Round::Open };
        let mut order = map.read_order(placement, place).into_iter();
        let ask = |id: ServerId| async move {
            let Some(server) = map.server(id) else { return (id, Err(Miss::Away)) };
            (id, self.ask_while_up(op, map, server, request.clone(), Bytes::new()).await)
        };
        let mut running = FuturesUnordered::new();
        running.extend(order.next().map(ask));
        let is_full = |id: ServerId| placement.members.iter().any(|member| member.server == id && member.full);
        let (mut refused, mut away, mut surely_gone) = (None, running.is_empty(), false);
        while !running.is_empty() {
            let hedge = async {
                if order.len() == 0 || self.config.local {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(HEDGE).await;
            };
            let (id, answer) = tokio::select! {
                Some(answered) = running.next() => answered,
                () = hedge => {
                    running.extend(order.next().map(ask));
                    continue;
                }
            };
            match answer {
                Ok((reply, body)) if is_sound(&reply, &body, self.config.local) => return Round::Answer(reply, body),
                Ok(_) => refused = Some(Status::Corrupt),
                Err(Miss::Refused(status)) => {
                    surely_gone |= status == Status::NoVersion && is_full(id);
                    refused = Some(worse(refused, status));
                }
                Err(Miss::Away | Miss::OldMap) => away = true,
            }
            if running.is_empty() {
                running.extend(order.next().map(ask));
            }
        }
        match refused {
            Some(status) if !away || (surely_gone && status == Status::NoVersion) => Round::No(status),
            Some(_) | None => Round::Open,
        }
    }
}

/// A reply whose bytes are what the server read.
fn is_sound(reply: &ChunkReply, body: &Bytes, local: bool) -> bool {
    match reply {
        ChunkReply::Data { crc } => local || crc32c::crc32c(body) == *crc,
        _ => true,
    }
}

/// Damage says more than absence.
fn worse(known: Option<Status>, new: Status) -> Status {
    match (known, new) {
        (Some(Status::Corrupt), _) | (_, Status::Corrupt) => Status::Corrupt,
        (_, new) => new,
    }
}
