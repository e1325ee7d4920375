//! Puts: a version to every server that a write of its chunk goes to, all at once.
//!
//! Never commits. Always: when a put returns, the version is on every server of the write set of one map, none of which has been
//! down since it took it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use dgfs_proto::chunk::{ChunkReply, ChunkRequest, Put, VersionId};
use dgfs_proto::ids::{ChunkId, Epoch, ServerId};
use dgfs_proto::map::ClusterMap;
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::operation::{Backoff, Op};
use crate::stores::Miss;

/// How long servers are waited for that are to forget a version.
const FORGET: Duration = Duration::from_secs(2);

/// Servers that took the version, the place they took it for, and the map they went by.
type Stored = Vec<(ServerId, u8, Epoch)>;

/// What goes to the server at one place.
pub(crate) trait ForPlace: Sync {
    /// The put and its body.
    fn at(&self, place: u8) -> (Put, Bytes);
}

/// The same copy for everybody.
pub(crate) struct Copies {
    pub(crate) put: Put,
    pub(crate) body: Bytes,
}

impl ForPlace for Copies {
    fn at(&self, _place: u8) -> (Put, Bytes) {
        (self.put.clone(), self.body.clone())
    }
}

impl Core {
    /// Stores a version of a replicated chunk; bytes it takes.
    pub(crate) async fn put_chunk(&self, op: &Op, put: Put, body: Bytes) -> Result<u32, Status> {
        let chunk = put.chunk;
        self.put_everywhere(op, chunk, &Copies { put, body }).await
    }

    /// Stores what each place gets; bytes the last one takes.
    pub(crate) async fn put_everywhere(&self, op: &Op, chunk: ChunkId, what: &impl ForPlace) -> Result<u32, Status> {
        let mut backoff = Backoff::new();
        let mut stored = Stored::new();
        let mut allocated = 0;
        loop {
            let map = self.stores.map();
            let set = map.write_set(chunk);
            stored.retain(|taken| still_counts(&map, chunk, taken));
            let missing: Vec<(ServerId, u8)> =
                set.targets.iter().copied().filter(|target| !has(&stored, *target)).collect();
            let mut outcomes = Vec::new();
            if set.enough {
                outcomes = join_all(missing.iter().map(|target| self.put_at(op, &map, *target, what))).await;
            }
            let mut renewed = false;
            let mut refused = None;
            for ((server, place), outcome) in missing.iter().zip(&outcomes) {
                match outcome {
                    Ok(taken) => {
                        allocated = *taken;
                        stored.push((*server, *place, map.epoch));
                    }
                    // It had this version and was to drop it, as one that nothing refers to: a new one is made.
                    Err(Miss::Refused(Status::Stale)) if !self.link.is_dead() => return Err(Status::Conflict),
                    Err(Miss::Refused(status)) => refused = refused.or(Some(*status)),
                    Err(Miss::OldMap) => renewed = true,
                    Err(Miss::Away) => {}
                }
            }
            if let Some(status) = refused {
                if status == Status::NoSpace {
                    self.forget_put(&map, what, &stored).await;
                }
                return Err(status);
            }
            let all = set.enough && outcomes.iter().all(Result::is_ok);
            if all {
                return Ok(allocated);
            }
            tracing::debug!(partition = chunk.partition().0, "a put did not reach every server; trying again");
            if !(renewed && self.stores.map().epoch > map.epoch) {
                self.look_again(op, &mut backoff).await?;
            }
        }
    }

    /// A version that is given up is dropped where it was taken: nobody else can know that it will never be committed. What does
    /// not answer at once is collected with the session.
    async fn forget_put(&self, map: &ClusterMap, what: &impl ForPlace, stored: &Stored) {
        let op = Op::within(FORGET, true);
        let drops = stored.iter().filter_map(|(server, place, _)| {
            let (put, _) = what.at(*place);
            let id = VersionId { chunk: put.chunk, version: put.version };
            Some((map.server(*server)?, ChunkRequest::Drop(vec![id])))
        });
        join_all(drops.map(|(server, request)| self.ask_while_up(&op, map, server, request, Bytes::new()))).await;
    }

    async fn put_at(
        &self,
        op: &Op,
        map: &ClusterMap,
        (server, place): (ServerId, u8),
        what: &impl ForPlace,
    ) -> Result<u32, Miss> {
        let Some(info) = map.server(server) else { return Err(Miss::Away) };
        let (put, body) = what.at(place);
        let bytes = body.len();
        match self.ask_while_up(op, map, info, ChunkRequest::Put(put), body).await {
            Ok((ChunkReply::Put { allocated }, _)) => {
                self.count_put(server);
                self.stores.full.has_room(server, bytes);
                Ok(allocated)
            }
            Ok(_) => Err(Miss::Refused(Status::Malformed)),
            Err(miss) => {
                if miss == Miss::Refused(Status::NoSpace) {
                    self.stores.full.note(server, bytes);
                }
                Err(miss)
            }
        }
    }
}

fn has(stored: &Stored, target: (ServerId, u8)) -> bool {
    stored.iter().any(|(server, place, _)| (*server, *place) == target)
}

/// Whoever was down or left since it took the version may not have it any more.
fn still_counts(map: &ClusterMap, chunk: ChunkId, (server, place, epoch): &(ServerId, u8, Epoch)) -> bool {
    let Some(placement) = map.placement(chunk) else { return false };
    match placement.members.get(usize::from(*place)).filter(|member| member.server == *server) {
        Some(member) => member.since <= *epoch,
        None => placement.changed <= *epoch,
    }
}
