//! Answers chunk calls from a [`Store`].
//!
//! Never decides what a version means. Always: a get and a handed put are
//! answered at the first poll; only a disk sync is waited for.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dgfs_proto::chunk::{ChunkCall, ChunkReply, ChunkRequest, ChunkUse, Put, PutDurability, UsesOf, VersionId};
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::Epoch;
use dgfs_proto::limits::{LIST_MAX, USES_MAX};
use dgfs_proto::map::{ClusterMap, Placement};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{ChunkProtocol, Handler, Peer, Role};
use dgfs_runtime::trace::slow::{self, Served};
use dgfs_runtime::trace::{Stage, current, timed, timed_now, within};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::frames::{FRAME_BYTES, Packed};
use crate::measures::Op;
use crate::store::{Store, Whole, pack_body};
use crate::view::ClusterView;

/// The storage daemon's handler.
pub struct StoreService {
    store: Arc<Store>,
    /// The cluster; none for the one store of an embedded volume.
    view: Option<Arc<ClusterView>>,
}

impl StoreService {
    /// Answers from `store`.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self { store, view: None })
    }

    /// Answers from the store of `view`, a member of a cluster.
    #[must_use]
    pub fn of_member(view: Arc<ClusterView>) -> Arc<Self> {
        Arc::new(Self { store: Arc::clone(view.store()), view: Some(view) })
    }

    /// Puts, if the caller's map is not older than the last change of where the chunk lies.
    fn admit(&self, epoch: Epoch, put: &Put, body: &Bytes, packed: Option<Packed>) -> Result<u32, Refusal> {
        let Some(view) = &self.view else { return Ok(self.store.put_packed(put, body, packed)?) };
        // Held until the version is in the table: whoever lists by a newer map finds it.
        let map = view.hold();
        let placement = map.placement(put.chunk);
        let own = view.own();
        let is_current =
            |placement: &Placement| placement.changed <= epoch && own.is_some_and(|own| placement.holds(own));
        // A caller whose map is newer than this server's, which meta does not tell it now, knows better.
        if epoch <= map.epoch && !placement.is_some_and(is_current) {
            return Err(Refusal::OldMap);
        }
        Ok(self.store.put_packed(put, body, packed)?)
    }

    /// As [`Self::admit`]; a base that is not here is fetched from another server first.
    async fn put_admitted(&self, epoch: Epoch, put: &Put, body: &Bytes) -> Result<u32, Refusal> {
        let packed = self.pack(put, body).await?;
        let first = timed_now(Stage::Write, || self.admit(epoch, put, body, packed));
        let (Err(Refusal::Status(Status::NoVersion)), Some(view), Some(base)) = (&first, &self.view, put.base) else {
            return first;
        };
        let id = VersionId { chunk: put.chunk, version: base.version };
        let whole = view.fetch(id).await?;
        view.blocking(move |store| store.import(id, &whole).map(drop)).await?;
        self.admit(epoch, put, body, None)
    }

    /// Compresses a large body where it keeps nobody waiting; what is small is done with the put.
    async fn pack(&self, put: &Put, body: &Bytes) -> Result<Option<Packed>, Status> {
        if put.compression == Compression::None || body.len() <= FRAME_BYTES as usize {
            return Ok(None);
        }
        let (put, body) = (put.clone(), body.clone());
        self.blocking(move |_| Ok(pack_body(&put, &body))).await
    }

    async fn put(&self, epoch: Epoch, put: Put, body: Bytes) -> Result<ChunkReply, Refusal> {
        let allocated = self.put_admitted(epoch, &put, &body).await?;
        match put.durability {
            PutDurability::Handed => {}
            PutDurability::Synced => timed(Stage::Sync, self.store.sync()).await?,
        }
        Ok(ChunkReply::Put { allocated })
    }

    /// Brings this server's map to the caller's. A list is answered only by a map as new as the caller's.
    async fn reach(&self, epoch: Epoch, request: &ChunkRequest) -> Result<(), Status> {
        let Some(view) = &self.view else { return Ok(()) };
        let reached = view.reach(epoch).await;
        if !reached && matches!(request, ChunkRequest::List { .. }) { Err(Status::Busy) } else { Ok(()) }
    }

    async fn answer(&self, epoch: Epoch, request: ChunkRequest, body: Bytes) -> Result<(ChunkReply, Bytes), Refusal> {
        if matches!(request, ChunkRequest::Put(_) | ChunkRequest::List { .. }) {
            self.reach(epoch, &request).await?;
        }
        let reply = match request {
            ChunkRequest::Put(put) => self.put(epoch, put, body).await?,
            ChunkRequest::Get { id, offset, len } => {
                let bytes = timed_now(Stage::Read, || self.store.get(id, offset, len))?;
                return Ok((ChunkReply::Data { crc: crc32c::crc32c(&bytes) }, bytes));
            }
            ChunkRequest::Extents(id) => ChunkReply::Extents(self.store.extents(id)?),
            ChunkRequest::Sync => {
                timed(Stage::Sync, self.store.sync()).await?;
                ChunkReply::Done
            }
            ChunkRequest::Verify(id) => {
                self.blocking(move |store| store.verify(id)).await?;
                ChunkReply::Done
            }
            ChunkRequest::Export(id) => {
                let whole = self.blocking(move |store| store.export(id)).await?;
                let Whole { owner, index, compression, patches, body } = whole;
                return Ok((ChunkReply::Exported { owner, index, compression, patches }, body));
            }
            ChunkRequest::List { after, until, limit } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                if limit == 0 || limit > LIST_MAX {
                    return Err(Status::Malformed.into());
                }
                let page = self.blocking(move |store| store.list_until(after, until, limit)).await?;
                ChunkReply::Held(page.into_iter().map(|held| held.held).collect())
            }
            ChunkRequest::Status => ChunkReply::Status(Box::new(self.store.status())),
            ChunkRequest::Stored(ids) => {
                if ids.len() > LIST_MAX {
                    return Err(Status::Malformed.into());
                }
                ChunkReply::Stored(ids.into_iter().map(|id| self.store.stored(id)).collect::<Result<_, _>>()?)
            }
            ChunkRequest::Uses(of) => ChunkReply::Uses(self.uses(of).await?),
            ChunkRequest::Repair(ids) => {
                if ids.len() > LIST_MAX || self.view.is_none() {
                    return Err(Status::Malformed.into());
                }
                ids.into_iter().for_each(|id| self.store.note_damaged(id));
                ChunkReply::Done
            }
            ChunkRequest::Drop(ids) => {
                if ids.len() > LIST_MAX {
                    return Err(Status::Malformed.into());
                }
                self.blocking(move |store| store.drop_versions(&ids)).await?;
                ChunkReply::Done
            }
        };
        Ok((reply, Bytes::new()))
    }

    async fn reply(&self, peer: &Peer, call: ChunkCall, body: Bytes) -> (ChunkReply, Bytes) {
        if !may_ask(peer.role, &call.request) {
            return (ChunkReply::Refused(Status::Forbidden), Bytes::new());
        }
        let over = |session| self.view.as_ref().is_some_and(|view| view.fence.is_over(session));
        if call.session.is_some_and(over) {
            tracing::info!(session = ?call.session, peer = %peer.address, "a call of a session that is over was refused");
            return (ChunkReply::Refused(Status::Stale), Bytes::new());
        }
        match self.answer(call.map_epoch, call.request, body).await {
            Ok(answer) => answer,
            Err(Refusal::OldMap) => {
                tracing::debug!(peer = %peer.address, epoch = %call.map_epoch, "a call by an old map");
                let map = self.view.as_ref().map(|view| ClusterMap::clone(&view.map()));
                (ChunkReply::OldMap(map.unwrap_or_default()), Bytes::new())
            }
            Err(Refusal::Status(status)) => {
                tracing::debug!(peer = %peer.address, %status, "a chunk call was refused");
                (ChunkReply::Refused(status), Bytes::new())
            }
        }
    }

    async fn uses(&self, of: UsesOf) -> Result<Vec<ChunkUse>, Status> {
        match of {
            UsesOf::Top { by, limit } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                if limit == 0 || limit > USES_MAX {
                    return Err(Status::Malformed);
                }
                self.blocking(move |store| store.top_uses(by, limit)).await
            }
            UsesOf::Chunks(chunks) => {
                if chunks.len() > USES_MAX {
                    return Err(Status::Malformed);
                }
                self.blocking(move |store| store.uses_of(&chunks)).await
            }
        }
    }

    /// Runs longer work off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let (store, trace) = (Arc::clone(&self.store), current());
        let work = move |store: &Store| match trace {
            Some(trace) => within(trace, || work(store)),
            None => work(store),
        };
        match Handle::try_current() {
            Ok(runtime) => runtime.spawn_blocking(move || work(&store)).await.unwrap_or(Err(Status::Io)),
            Err(_) => work(&store),
        }
    }
}

/// Changes are for mounts and other storage servers; who uses what is for operators.
fn may_ask(role: Role, request: &ChunkRequest) -> bool {
    match request {
        ChunkRequest::Put(_) | ChunkRequest::Drop(_) | ChunkRequest::Repair(_) => {
            matches!(role, Role::Client | Role::Stored)
        }
        ChunkRequest::Uses(_) => role == Role::Client,
        ChunkRequest::Get { .. }
        | ChunkRequest::Extents(_)
        | ChunkRequest::Sync
        | ChunkRequest::Verify(_)
        | ChunkRequest::Export(_)
        | ChunkRequest::List { .. }
        | ChunkRequest::Status
        | ChunkRequest::Stored(_) => true,
    }
}

/// Why a call was refused.
#[derive(Debug)]
enum Refusal {
    /// The caller's map is old.
    OldMap,
    /// Anything else.
    Status(Status),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Handler<ChunkProtocol> for StoreService {
    fn handle(
        self: Arc<Self>,
        peer: Arc<Peer>,
        call: ChunkCall,
        body: Bytes,
    ) -> BoxFuture<'static, (ChunkReply, Bytes)> {
        let served = Served { part: "stored", op: call.request.op(), waits: false };
        let (request, caller) = (call.request_id, Arc::clone(&peer));
        Box::pin(slow::serve(request, served, caller, async move {
            let (op, began) = (Op::of(&call.request), Instant::now());
            let (reply, body) = self.reply(&peer, call, body).await;
            let refused = match &reply {
                ChunkReply::Refused(status) => Some(*status),
                ChunkReply::OldMap(_) => Some(Status::OldMap),
                ChunkReply::Put { .. }
                | ChunkReply::Data { .. }
                | ChunkReply::Exported { .. }
                | ChunkReply::Extents(_)
                | ChunkReply::Done
                | ChunkReply::Held(_)
                | ChunkReply::Status(_)
                | ChunkReply::Stored(_)
                | ChunkReply::Uses(_) => None,
            };
            self.store.measures.answered(op, began, refused);
            (reply, body)
        }))
    }
}
