//! A storage server's membership in a cluster: it joins, beats, and drops what meta calls garbage.
//!
//! Never parses a command line; `cli` does. Dropped garbage is reported with the next beat, and again until
//! a beat was answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use dgfs_proto::ids::ServerId;
use dgfs_proto::limits::HEARTBEAT_MS;
use dgfs_proto::meta::{MetaCall, MetaReply, MetaRequest, ServerRequest};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, MetaProtocol};
use dgfs_runtime::disk::disk_space;
use dgfs_runtime::telemetry::fresh_request_id;
use dgfs_stored::store::Store;

/// How long one call to meta may take.
const CALL: Duration = Duration::from_secs(5);
/// How long a storage daemon tries to join at first.
const JOIN: Duration = Duration::from_secs(60);

/// A storage daemon's membership: it joined, and beats until it leaves.
pub struct Member {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Beating {
    store: Arc<Store>,
    metas: Vec<Arc<dyn Channel<MetaProtocol>>>,
    address: String,
    label: String,
}

impl Member {
    /// Joins the cluster under `address` (empty in process), and beats from then on.
    ///
    /// # Errors
    /// A sentence: no metadata service took it in within a minute.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn join(
        store: Arc<Store>,
        metas: Vec<Arc<dyn Channel<MetaProtocol>>>,
        address: String,
        label: String,
    ) -> Result<Self, String> {
        let beating = Beating { store, metas, address, label };
        let until = tokio::time::Instant::now() + JOIN;
        let mut pause = Duration::from_millis(50);
        let id = loop {
            match beating.join().await {
                Ok(id) => break id,
                Err(error) if tokio::time::Instant::now() >= until => return Err(format!("join the cluster: {error}")),
                Err(error) => tracing::debug!(%error, "not joined yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(beating.beat_until(id, stopped));
        Ok(Self { stop, task })
    }

    /// Stops beating.
    pub async fn leave(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

impl Beating {
    async fn ask(&self, request: ServerRequest) -> Result<MetaReply, String> {
        let mut last = "no metadata server was named".to_owned();
        for meta in &self.metas {
            let request = MetaRequest::Server(request.clone());
            let call = MetaCall { request_id: fresh_request_id(), session: None, request };
            match meta.call(call, Bytes::new(), Some(CALL)).await {
                Ok((MetaReply::Refused(Status::NotActive), _)) => last = format!("{} is a standby", meta.peer()),
                Ok((MetaReply::Refused(status), _)) => return Err(format!("{} refused: {status}", meta.peer())),
                Ok((reply, _)) => return Ok(reply),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    async fn join(&self) -> Result<ServerId, String> {
        let space = self.space();
        let request = ServerRequest::Join {
            identity: self.store.uuid(),
            id: self.store.server(),
            address: self.address.clone(),
            label: self.label.clone(),
            capacity_bytes: space.capacity,
            used_bytes: space.used,
            free_bytes: space.free,
        };
        match self.ask(request).await? {
            MetaReply::Joined { id, .. } => {
                self.store.set_server(id).map_err(|error| error.to_string())?;
                Ok(id)
            }
            _ => Err("the metadata service answered something else than a number".to_owned()),
        }
    }

    async fn beat_until(self, id: ServerId, mut stopped: watch::Receiver<bool>) {
        let mut collected = Vec::new();
        loop {
            let pause = tokio::time::sleep(Duration::from_millis(HEARTBEAT_MS / 2));
            tokio::select! {
                () = pause => {}
                _ = stopped.changed() => return,
            }
            collected = match self.beat(id, collected.clone()).await {
                Ok(done) => done,
                Err(error) => {
                    tracing::debug!(%error, "a heartbeat was not answered");
                    collected
                }
            };
        }
    }

    /// One heartbeat; the garbage dropped because of its answer, to be reported with the next.
    async fn beat(&self, id: ServerId, collected: Vec<u64>) -> Result<Vec<u64>, String> {
        let space = self.space();
        let request = ServerRequest::Beat {
            id,
            capacity_bytes: space.capacity,
            used_bytes: space.used,
            free_bytes: space.free,
            collected,
        };
        let MetaReply::Beat { garbage, .. } = self.ask(request).await? else {
            return Err("the metadata service answered something else than a beat".to_owned());
        };
        let versions: Vec<_> = garbage.iter().map(|item| item.id).collect();
        if !versions.is_empty() {
            let store = Arc::clone(&self.store);
            let dropped = tokio::task::spawn_blocking(move || store.drop_versions(&versions)).await;
            dropped.map_err(|_| "dropping garbage panicked".to_owned())?.map_err(|status| status.to_string())?;
        }
        Ok(garbage.iter().map(|item| item.number).collect())
    }

    fn space(&self) -> Space {
        let status = self.store.status();
        let disk = disk_space(self.store.directory());
        let capacity =
            if status.capacity_bytes > 0 { status.capacity_bytes } else { disk.map_or(0, |disk| disk.capacity_bytes) };
        Space { capacity, used: status.used_bytes, free: status.free_bytes }
    }
}

struct Space {
    capacity: u64,
    used: u64,
    free: u64,
}
