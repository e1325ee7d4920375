//! What a storage daemon knows of its cluster: the map, and ways to the other members.
//!
//! Never decides who holds what. Always: the map only grows newer, and a put that was admitted by an older map is in the store
//! before a newer one is in force, so that whoever lists a partition by the newer map misses nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dgfs_client::stores::ChunkDirectory;
use dgfs_proto::chunk::{ChunkCall, ChunkReply, ChunkRequest, VersionId};
use dgfs_proto::ids::{ChunkId, Epoch, ServerId};
use dgfs_proto::map::{ClusterMap, ServerInfo};
use dgfs_proto::meta::{MetaReply, MetaRequest, ServerRequest};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, MetaProtocol};
use dgfs_runtime::trace::request_id;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

use crate::fence::Fence;
use crate::metas::Metas;
use crate::store::Store;

/// How long one call to another server may take.
const CALL: Duration = Duration::from_secs(5);
/// How long a heartbeat has a newer map wait for puts that are being admitted: one may wait for a disk that hangs.
const ADOPT: Duration = Duration::from_millis(250);

/// The map in force and the peers.
pub struct ClusterView {
    store: Arc<Store>,
    metas: Metas,
    peers: Arc<dyn ChunkDirectory>,
    map: RwLock<Arc<ClusterMap>>,
    /// One asks meta, the others wait for its answer.
    asking: tokio::sync::Mutex<()>,
    epochs: watch::Sender<Epoch>,
    /// Which sessions are over.
    pub(crate) fence: Fence,
    /// Held while a partition that moved is dropped, and while it is listed as one's own: it may have moved back.
    pub(crate) vacating: tokio::sync::Mutex<()>,
}

impl ClusterView {
    /// A view without a map yet.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        metas: Vec<Arc<dyn Channel<MetaProtocol>>>,
        peers: Arc<dyn ChunkDirectory>,
    ) -> Arc<Self> {
        let (epochs, _) = watch::channel(Epoch(0));
        Arc::new(Self {
            store,
            metas: Metas::new(metas),
            peers,
            map: RwLock::default(),
            asking: tokio::sync::Mutex::new(()),
            epochs,
            fence: Fence::default(),
            vacating: tokio::sync::Mutex::new(()),
        })
    }

    /// The map in force.
    #[must_use]
    pub fn map(&self) -> Arc<ClusterMap> {
        Arc::clone(&self.map.read())
    }

    /// The map, which stays in force while the answer lives.
    pub(crate) fn hold(&self) -> RwLockReadGuard<'_, Arc<ClusterMap>> {
        self.map.read()
    }

    /// This daemon's number.
    pub(crate) fn own(&self) -> Option<ServerId> {
        self.store.server()
    }

    /// Hears of each newer map.
    pub(crate) fn epochs(&self) -> watch::Receiver<Epoch> {
        self.epochs.subscribe()
    }

    /// Brings the map to `epoch` or later; false when meta does not tell it now.
    pub(crate) async fn reach(&self, epoch: Epoch) -> bool {
        if self.map.read().epoch >= epoch {
            return true;
        }
        let _asking = self.asking.lock().await;
        let known = self.map.read().epoch;
        if known >= epoch {
            return true;
        }
        if let Ok((MetaReply::Map(Some(newer)), _)) = self.metas.ask(MetaRequest::GetMap(known)).await {
            self.adopt(newer);
        }
        self.map.read().epoch >= epoch
    }

    /// As [`Self::reach`], without ever waiting for a put for longer than a moment: false also when one held the map.
    pub(crate) async fn reach_soon(&self, epoch: Epoch) -> bool {
        // Not by the map itself: whoever looks at it waits for who waits to change it.
        let known = || Epoch(self.store.measures.epoch());
        if known() >= epoch {
            return true;
        }
        if let Ok((MetaReply::Map(Some(newer)), _)) = self.metas.ask(MetaRequest::GetMap(known())).await
            && let Some(map) = self.map.try_write_for(ADOPT)
        {
            self.put_in_force(map, newer);
        }
        known() >= epoch
    }

    /// Puts a newer map in force. Waits for puts that are being admitted.
    pub(crate) fn adopt(&self, newer: ClusterMap) {
        self.put_in_force(self.map.write(), newer);
    }

    fn put_in_force(&self, mut map: RwLockWriteGuard<'_, Arc<ClusterMap>>, newer: ClusterMap) {
        let epoch = newer.epoch;
        if epoch <= map.epoch {
            return;
        }
        *map = Arc::new(newer);
        drop(map);
        self.store.measures.set_epoch(epoch.0);
        self.epochs.send_replace(epoch);
    }

    /// Asks another server.
    pub(crate) async fn ask(&self, server: &ServerInfo, request: ChunkRequest) -> Result<(ChunkReply, Bytes), Status> {
        let map_epoch = self.map.read().epoch;
        self.send(server, map_epoch, request, Bytes::new()).await
    }

    /// As [`Self::ask`], with a body, by a map that the caller went by.
    pub(crate) async fn send(
        &self,
        server: &ServerInfo,
        map_epoch: Epoch,
        request: ChunkRequest,
        body: Bytes,
    ) -> Result<(ChunkReply, Bytes), Status> {
        let call = ChunkCall { request_id: request_id(), map_epoch, session: None, request };
        match self.peers.channel(server).call(call, body, Some(CALL)).await {
            Ok((ChunkReply::Refused(status), _)) => Err(status),
            Ok((ChunkReply::OldMap(newer), _)) => {
                self.adopt(newer);
                Err(Status::OldMap)
            }
            Ok(answer) => Ok(answer),
            Err(error) => {
                tracing::debug!(%error, server = server.id.0, "another storage server did not answer");
                Err(Status::Unavailable)
            }
        }
    }

    /// Asks the active metadata service.
    pub(crate) async fn ask_meta(&self, request: ServerRequest) -> Result<MetaReply, Status> {
        match self.metas.ask(MetaRequest::Server(request)).await {
            Ok((MetaReply::Refused(status), _)) => Err(status),
            Ok((reply, _)) => Ok(reply),
            Err(_) => Err(Status::Unavailable),
        }
    }

    /// Where to look for a version, or for a shard: the others in the order of hope.
    pub(crate) fn sources(&self, map: &ClusterMap, chunk: ChunkId, place: Option<u8>) -> Vec<ServerInfo> {
        let Some(placement) = map.placement(chunk) else { return Vec::new() };
        let own = self.own();
        let order = map.read_order(placement, place).into_iter().filter(|id| Some(*id) != own);
        order.filter_map(|id| map.server(id).cloned()).collect()
    }

    /// The store it is about.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Runs longer work on the store off the async threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || work(&store)).await.unwrap_or(Err(Status::Io))
    }

    /// What the store holds behind `after` and below `until`.
    pub(crate) async fn held(
        &self,
        after: Option<VersionId>,
        until: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<crate::store::Held>, Status> {
        self.blocking(move |store| store.list_until(after, until, limit)).await
    }
}
