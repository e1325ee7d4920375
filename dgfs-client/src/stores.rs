//! The storage servers: where a chunk's replicas lie, and calls to them.
//!
//! Never reads a chunk map (that is metadata). Always: a put has reached every replica that is up; a read
//! is verified unless it never left this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};

use dgfs_proto::chunk::{ChunkCall, ChunkReply, ChunkRequest, DataRange, Put, PutDurability, VersionId};
use dgfs_proto::ids::{ChunkId, ServerId};
use dgfs_proto::limits::CALL_DEADLINE_MS;
use dgfs_proto::map::{ClusterMap, ServerInfo};
use dgfs_proto::meta::{MetaReply, MetaRequest};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{CallError, Channel, ChunkProtocol};

use crate::core::Core;
use crate::metrics::ChunkKind;
use crate::operation::{Backoff, Op};

const TRY: Duration = Duration::from_millis(CALL_DEADLINE_MS / 3);

/// Reaches storage servers.
pub trait ChunkDirectory: Send + Sync + 'static {
    /// A channel to `server`; the same one for the same address.
    fn channel(&self, server: &ServerInfo) -> Arc<dyn Channel<ChunkProtocol>>;
}

/// The one storage server of an embedded volume.
pub struct OneStore(pub Arc<dyn Channel<ChunkProtocol>>);

impl ChunkDirectory for OneStore {
    fn channel(&self, _server: &ServerInfo) -> Arc<dyn Channel<ChunkProtocol>> {
        Arc::clone(&self.0)
    }
}

/// Channels by address, made when first needed and kept.
pub struct StoresByAddress<F> {
    make: F,
    channels: Mutex<BTreeMap<String, Arc<dyn Channel<ChunkProtocol>>>>,
}

impl<F> StoresByAddress<F>
where
    F: Fn(&str) -> Arc<dyn Channel<ChunkProtocol>> + Send + Sync + 'static,
{
    /// `make` builds a channel to a `HOST:PORT`; it must not wait.
    pub fn new(make: F) -> Self {
        Self { make, channels: Mutex::new(BTreeMap::new()) }
    }
}

impl<F> ChunkDirectory for StoresByAddress<F>
where
    F: Fn(&str) -> Arc<dyn Channel<ChunkProtocol>> + Send + Sync + 'static,
{
    fn channel(&self, server: &ServerInfo) -> Arc<dyn Channel<ChunkProtocol>> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(&server.address) {
            return Arc::clone(channel);
        }
        let channel = (self.make)(&server.address);
        channels.insert(server.address.clone(), Arc::clone(&channel));
        channel
    }
}

/// What is known of the storage servers.
pub(crate) struct Stores {
    directory: Arc<dyn ChunkDirectory>,
    map: RwLock<Arc<ClusterMap>>,
    /// Puts answered and puts synced, by server.
    puts: Mutex<BTreeMap<ServerId, PutClock>>,
}

/// Puts of one server. `done` starts above `synced`, so the first sync is never skipped.
#[derive(Clone, Copy, Debug)]
struct PutClock {
    done: u64,
    synced: u64,
}

impl Default for PutClock {
    fn default() -> Self {
        Self { done: 1, synced: 0 }
    }
}

/// Why one replica did not answer.
enum Miss {
    Away,
    OldMap,
    Refused(Status),
}

impl Stores {
    pub(crate) fn new(directory: Arc<dyn ChunkDirectory>) -> Self {
        Self { directory, map: RwLock::new(Arc::default()), puts: Mutex::new(BTreeMap::new()) }
    }

    fn map(&self) -> Arc<ClusterMap> {
        Arc::clone(&self.map.read())
    }
}

impl Core {
    /// Stores a version on every replica that is up; bytes it takes.
    pub(crate) async fn put_chunk(&self, op: &Op, put: Put, body: Bytes) -> Result<u32, Status> {
        let partition = put.chunk.partition();
        let mut backoff = Backoff::new();
        let mut stored: Vec<ServerId> = Vec::new();
        let mut allocated = 0;
        loop {
            let map = self.stores.map();
            let up = replicas_up(&map, put.chunk);
            let mut missing = up.is_empty();
            let wanted: Vec<&ServerInfo> = up.into_iter().filter(|server| !stored.contains(&server.id)).collect();
            let asked = wanted
                .iter()
                .map(|server| self.ask_store(op, &map, server, ChunkRequest::Put(put.clone()), body.clone()));
            for (server, answer) in wanted.iter().zip(join_all(asked).await) {
                match answer {
                    Ok((ChunkReply::Put { allocated: taken }, _)) => {
                        allocated = taken;
                        stored.push(server.id);
                        self.stores.puts.lock().entry(server.id).or_default().done += 1;
                    }
                    Ok(_) => return Err(Status::Malformed),
                    Err(Miss::Refused(status)) => return Err(status),
                    Err(Miss::Away | Miss::OldMap) => missing = true,
                }
            }
            if !missing {
                return Ok(allocated);
            }
            tracing::debug!(partition = partition.0, "a put did not reach every replica; trying again");
            self.look_again(op, &mut backoff).await?;
        }
    }

    /// Reads a range of a version from the first replica that has it.
    pub(crate) async fn get_chunk(&self, op: &Op, id: VersionId, offset: u32, len: u32) -> Result<Bytes, Status> {
        let request = ChunkRequest::Get { id, offset, len };
        let (reply, body) = self.read_store(op, id.chunk, request).await?;
        let ChunkReply::Data { .. } = reply else { return Err(Status::Malformed) };
        if body.len() == len as usize { Ok(body) } else { Err(Status::Corrupt) }
    }

    /// Where a version has data.
    pub(crate) async fn chunk_extents(&self, op: &Op, id: VersionId) -> Result<Vec<DataRange>, Status> {
        match self.read_store(op, id.chunk, ChunkRequest::Extents(id)).await? {
            (ChunkReply::Extents(ranges), _) => Ok(ranges),
            _ => Err(Status::Malformed),
        }
    }

    async fn read_store(&self, op: &Op, chunk: ChunkId, request: ChunkRequest) -> Result<(ChunkReply, Bytes), Status> {
        let mut backoff = Backoff::new();
        loop {
            let map = self.stores.map();
            let mut refused = None;
            let mut away = map.replicas(chunk.partition()).is_empty();
            for server in replicas_by_preference(&map, chunk) {
                match self.ask_store(op, &map, server, request.clone(), Bytes::new()).await {
                    Ok(answer) if is_sound(&answer, self.config.local) => return Ok(answer),
                    Ok(_) => refused = Some(Status::Corrupt),
                    Err(Miss::Refused(status)) => refused = Some(worse(refused, status)),
                    Err(Miss::Away | Miss::OldMap) => away = true,
                }
            }
            match refused {
                Some(status) if !away => return Err(status),
                Some(_) | None => self.look_again(op, &mut backoff).await?,
            }
        }
    }

    /// Syncs every server that took puts since its last sync. Nothing to do where each put was synced.
    pub(crate) async fn sync_stores(&self, op: &Op) -> Result<(), Status> {
        if self.config.durability == PutDurability::Synced {
            return Ok(());
        }
        let map = self.stores.map();
        for server in &map.servers {
            self.sync_store(op, server.id).await?;
        }
        Ok(())
    }

    async fn sync_store(&self, op: &Op, id: ServerId) -> Result<(), Status> {
        let clock = self.stores.puts.lock().get(&id).copied().unwrap_or_default();
        if clock.synced >= clock.done {
            return Ok(());
        }
        let mut backoff = Backoff::new();
        loop {
            let map = self.stores.map();
            let Some(server) = map.server(id) else { return Ok(()) };
            match self.ask_store(op, &map, server, ChunkRequest::Sync, Bytes::new()).await {
                Ok(_) => break,
                Err(Miss::Refused(status)) => return Err(status),
                Err(Miss::Away | Miss::OldMap) => self.look_again(op, &mut backoff).await?,
            }
        }
        let mut puts = self.stores.puts.lock();
        let now = puts.entry(id).or_default();
        now.synced = now.synced.max(clock.done);
        Ok(())
    }

    async fn ask_store(
        &self,
        op: &Op,
        map: &ClusterMap,
        server: &ServerInfo,
        request: ChunkRequest,
        body: Bytes,
    ) -> Result<(ChunkReply, Bytes), Miss> {
        if self.link.is_dead() {
            return Err(Miss::Refused(Status::Stale));
        }
        self.counters.chunk(ChunkKind::of(&request));
        let call = ChunkCall {
            request_id: self.link.request_id(),
            map_epoch: map.epoch,
            session: self.link.session(),
            request,
        };
        let channel = self.stores.directory.channel(server);
        match channel.call(call, body, Some(op.left(TRY))).await {
            Ok((ChunkReply::Refused(Status::OldMap), _)) => Err(Miss::OldMap),
            Ok((ChunkReply::Refused(Status::Busy | Status::Unavailable | Status::NotActive), _)) => Err(Miss::Away),
            Ok((ChunkReply::Refused(status), _)) => Err(Miss::Refused(status)),
            Ok(answer) => Ok(answer),
            Err(error @ CallError::Rejected { .. }) => {
                tracing::error!(%error, server = server.id.0, "a storage server refused this client for good");
                Err(Miss::Refused(Status::Io))
            }
            Err(error @ (CallError::Unreachable { .. } | CallError::TimedOut { .. })) => {
                tracing::debug!(%error, server = server.id.0, "a storage server did not answer");
                Err(Miss::Away)
            }
        }
    }

    /// Fetches the map, and pauses before the next try.
    async fn look_again(&self, op: &Op, backoff: &mut Backoff) -> Result<(), Status> {
        let before = self.stores.map().epoch;
        self.refresh_map(op).await?;
        if self.stores.map().epoch == before { backoff.pause(op).await } else { Ok(()) }
    }

    /// Asks meta for a newer map.
    pub(crate) async fn refresh_map(&self, op: &Op) -> Result<(), Status> {
        let known = self.stores.map();
        let MetaReply::Map(newer) = self.link.call(op, MetaRequest::GetMap(known.epoch), TRY).await? else {
            return Err(Status::Malformed);
        };
        if let Some(newer) = newer {
            let mut map = self.stores.map.write();
            if map.assignment.is_empty() || newer.epoch > map.epoch {
                *map = Arc::new(newer);
            }
        }
        Ok(())
    }
}

/// The replicas a put must reach: those that are up, or all when none is.
fn replicas_up(map: &ClusterMap, chunk: ChunkId) -> Vec<&ServerInfo> {
    let all: Vec<&ServerInfo> = map.replicas(chunk.partition()).iter().filter_map(|id| map.server(*id)).collect();
    let up: Vec<&ServerInfo> = all.iter().copied().filter(|server| server.up).collect();
    if up.is_empty() { all } else { up }
}

/// Replicas that are up first, in the map's order.
fn replicas_by_preference(map: &ClusterMap, chunk: ChunkId) -> impl Iterator<Item = &ServerInfo> {
    let ids = map.replicas(chunk.partition());
    let of = move |up: bool| ids.iter().filter_map(|id| map.server(*id)).filter(move |server| server.up == up);
    of(true).chain(of(false))
}

/// A reply whose bytes are what the server read.
fn is_sound(answer: &(ChunkReply, Bytes), local: bool) -> bool {
    match answer {
        (ChunkReply::Data { crc }, body) => local || crc32c::crc32c(body) == *crc,
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
