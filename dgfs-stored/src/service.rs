//! Answers chunk calls from a [`Store`].
//!
//! Never decides what a version means. Always: a get and a handed put are
//! answered at the first poll; only a disk sync is waited for.

use std::sync::Arc;

use bytes::Bytes;
use dgfs_proto::chunk::{ChunkCall, ChunkReply, ChunkRequest, Put, PutDurability};
use dgfs_proto::limits::LIST_MAX;
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{ChunkProtocol, Handler, Peer, Role};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::store::Store;

/// The storage daemon's handler.
pub struct StoreService {
    store: Arc<Store>,
}

impl StoreService {
    /// Answers from `store`.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self { store })
    }

    async fn put(&self, put: Put, body: Bytes) -> Result<ChunkReply, Status> {
        let allocated = self.store.put(&put, &body)?;
        match put.durability {
            PutDurability::Handed => {}
            PutDurability::Synced => self.store.sync().await?,
        }
        Ok(ChunkReply::Put { allocated })
    }

    async fn answer(&self, request: ChunkRequest, body: Bytes) -> Result<(ChunkReply, Bytes), Status> {
        let reply = match request {
            ChunkRequest::Put(put) => self.put(put, body).await?,
            ChunkRequest::Get { id, offset, len } => {
                let bytes = self.store.get(id, offset, len)?;
                return Ok((ChunkReply::Data { crc: crc32c::crc32c(&bytes) }, bytes));
            }
            ChunkRequest::Extents(id) => ChunkReply::Extents(self.store.extents(id)?),
            ChunkRequest::Sync => {
                self.store.sync().await?;
                ChunkReply::Done
            }
            ChunkRequest::Verify(id) => {
                self.blocking(move |store| store.verify(id)).await?;
                ChunkReply::Done
            }
            ChunkRequest::List { after, limit } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                if limit == 0 || limit > LIST_MAX {
                    return Err(Status::Malformed);
                }
                let page = self.blocking(move |store| store.list(after, limit)).await?;
                ChunkReply::Held(page.into_iter().map(|held| held.held).collect())
            }
            ChunkRequest::Status => ChunkReply::Status(self.store.status()),
            ChunkRequest::Drop(ids) => {
                if ids.len() > LIST_MAX {
                    return Err(Status::Malformed);
                }
                self.blocking(move |store| store.drop_versions(&ids)).await?;
                ChunkReply::Done
            }
        };
        Ok((reply, Bytes::new()))
    }

    /// Runs longer work off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let store = Arc::clone(&self.store);
        match Handle::try_current() {
            Ok(runtime) => runtime.spawn_blocking(move || work(&store)).await.unwrap_or(Err(Status::Io)),
            Err(_) => work(&store),
        }
    }
}

impl Handler<ChunkProtocol> for StoreService {
    fn handle(
        self: Arc<Self>,
        peer: Arc<Peer>,
        call: ChunkCall,
        body: Bytes,
    ) -> BoxFuture<'static, (ChunkReply, Bytes)> {
        Box::pin(async move {
            let changes = matches!(call.request, ChunkRequest::Put(_) | ChunkRequest::Drop(_));
            if changes && !matches!(peer.role, Role::Client | Role::Stored) {
                return (ChunkReply::Refused(Status::Forbidden), Bytes::new());
            }
            let request_id = call.request_id;
            match self.answer(call.request, body).await {
                Ok(answer) => answer,
                Err(status) => {
                    tracing::debug!(request_id, peer = %peer.address, %status, "a chunk call was refused");
                    (ChunkReply::Refused(status), Bytes::new())
                }
            }
        })
    }
}
