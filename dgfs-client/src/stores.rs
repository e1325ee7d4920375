//! The storage servers: where a chunk lies, and calls to them.
//!
//! Never reads a chunk map (that is metadata). Always: a put has reached every server that its map says a write goes to; a read
//! is verified unless it never left this process. `put` and `get` are about copies, `coded` about shards,
//! `room` about servers that are full.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};

use dgfs_proto::chunk::{ChunkCall, ChunkReply, ChunkRequest, PutDurability};
use dgfs_proto::ids::{Epoch, ServerId};
use dgfs_proto::limits::CALL_DEADLINE_MS;
use dgfs_proto::map::{ClusterMap, ServerInfo};
use dgfs_proto::meta::{MetaReply, MetaRequest};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{CallError, Channel, ChunkProtocol};
use dgfs_runtime::trace::{self, Stage};

use crate::core::Core;
use crate::metrics::ChunkKind;
use crate::operation::{Backoff, Op};
use crate::stores::room::FullServers;

const TRY: Duration = Duration::from_millis(CALL_DEADLINE_MS / 3);
/// A server that takes longer may be down: meta knows.
const LOOK: Duration = Duration::from_millis(500);

mod coded;
mod get;
mod put;
pub(crate) mod room;

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

/// In place of a channel that could not be made: every call is refused with the reason.
pub struct NoChannel {
    reason: String,
}

impl NoChannel {
    /// `reason` is a sentence.
    #[must_use]
    pub fn new(reason: String) -> Self {
        Self { reason }
    }
}

impl Channel<ChunkProtocol> for NoChannel {
    fn call(
        &self,
        _: ChunkCall,
        _: Bytes,
        _: Option<Duration>,
    ) -> BoxFuture<'static, Result<(ChunkReply, Bytes), CallError>> {
        let error = CallError::Rejected { peer: "a storage server".to_owned(), reason: self.reason.clone() };
        Box::pin(std::future::ready(Err(error)))
    }

    fn peer(&self) -> &str {
        "a storage server"
    }
}

/// What is known of the storage servers.
pub(crate) struct Stores {
    directory: Arc<dyn ChunkDirectory>,
    map: RwLock<Arc<ClusterMap>>,
    /// Puts answered and puts synced, by server.
    puts: Mutex<BTreeMap<ServerId, PutClock>>,
    /// Who had no room.
    pub(crate) full: FullServers,
    /// When meta was last asked for its map because a server was slow.
    looked: Mutex<Option<Instant>>,
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

/// Why one server did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// It does not answer.
    Away,
    /// It goes by a newer map, which is known now.
    OldMap,
    /// No.
    Refused(Status),
}

impl Stores {
    pub(crate) fn new(directory: Arc<dyn ChunkDirectory>) -> Self {
        Self {
            directory,
            map: RwLock::new(Arc::default()),
            puts: Mutex::new(BTreeMap::new()),
            looked: Mutex::new(None),
            full: FullServers::default(),
        }
    }

    pub(crate) fn map(&self) -> Arc<ClusterMap> {
        Arc::clone(&self.map.read())
    }

    /// A newer map replaces the one that is known.
    fn learn(&self, newer: ClusterMap) {
        let mut map = self.map.write();
        if map.classes.is_empty() || newer.epoch > map.epoch {
            *map = Arc::new(newer);
        }
    }

    /// Nobody looked at meta's map within the last moments; the caller does now.
    fn is_due(&self) -> bool {
        let mut looked = self.looked.lock();
        let due = looked.is_none_or(|at: Instant| at.elapsed() >= LOOK);
        if due {
            *looked = Some(Instant::now());
        }
        due
    }
}

impl Core {
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

    /// A server took a put.
    fn count_put(&self, id: ServerId) {
        self.stores.puts.lock().entry(id).or_default().done += 1;
    }

    /// As [`Self::ask_store`], given up when a newer map says that the server is down: a stopped one holds nobody up for longer
    /// than it takes to notice.
    async fn ask_while_up(
        &self,
        op: &Op,
        map: &ClusterMap,
        server: &ServerInfo,
        request: ChunkRequest,
        body: Bytes,
    ) -> Result<(ChunkReply, Bytes), Miss> {
        let mut call = std::pin::pin!(self.ask_store(op, map, server, request, body));
        if self.config.local {
            return call.await;
        }
        loop {
            tokio::select! {
                answer = &mut call => return answer,
                () = tokio::time::sleep(LOOK) => {}
            }
            if self.stores.is_due() {
                let looking = Op::within(LOOK, true);
                tokio::select! {
                    answer = &mut call => return answer,
                    looked = self.refresh_map(&looking) => {
                        if let Err(status) = looked {
                            tracing::trace!(%status, "no newer map");
                        }
                    }
                }
            }
            if !self.stores.map().is_up(server.id) {
                return Err(Miss::Away);
            }
        }
    }

    pub(crate) async fn ask_store(
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
        let kind = ChunkKind::of(&request);
        self.counters.chunk(kind);
        let call =
            ChunkCall { request_id: trace::request_id(), map_epoch: map.epoch, session: self.link.session(), request };
        let channel = self.stores.directory.channel(server);
        let began = Instant::now();
        let answer = channel.call(call, body, Some(op.left(TRY))).await;
        let took = began.elapsed();
        self.counters.chunk_took(kind, took);
        trace::add(Stage::Chunk, took);
        if matches!(answer, Err(_) | Ok((ChunkReply::Refused(_), _))) {
            self.counters.chunk_failed(kind);
        }
        match answer {
            Ok((ChunkReply::OldMap(newer), _)) => {
                self.stores.learn(newer);
                Err(Miss::OldMap)
            }
            Ok((ChunkReply::Refused(Status::OldMap), _)) => Err(Miss::OldMap),
            Ok((ChunkReply::Refused(Status::Busy | Status::Unavailable | Status::NotActive), _)) => Err(Miss::Away),
            Ok((ChunkReply::Refused(Status::Stale), _)) => Err(Miss::Refused(self.link.judge_stale(op).await)),
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
    pub(crate) async fn look_again(&self, op: &Op, backoff: &mut Backoff) -> Result<(), Status> {
        let before = self.stores.map().epoch;
        match self.refresh_map(op).await {
            // Storage alone may be enough: a server that is back answers by the map there is.
            Err(status) if !status.is_transient() || op.soft => return Err(status),
            Ok(()) | Err(_) => {}
        }
        if self.stores.map().epoch == before { backoff.pause(op).await } else { Ok(()) }
    }

    /// Asks meta for a newer map.
    pub(crate) async fn refresh_map(&self, op: &Op) -> Result<(), Status> {
        let known = self.stores.map();
        let MetaReply::Map(newer) = self.link.call(op, MetaRequest::GetMap(known.epoch), TRY).await? else {
            return Err(Status::Malformed);
        };
        if let Some(newer) = newer {
            self.stores.learn(newer);
        }
        Ok(())
    }

    /// Meta says that its map has this epoch.
    pub(crate) async fn reach_epoch(&self, epoch: Epoch) {
        if self.stores.map().epoch < epoch
            && let Err(status) = self.refresh_map(&self.background_op()).await
        {
            tracing::debug!(%status, "the newer map could not be had");
        }
    }
}
