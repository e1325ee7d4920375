//! The shell around the state machine: answers calls, loads rows, commits
//! batches, keeps the writer's lease, tells sessions.
//!
//! Never decides file-system rules (the core does). Invariants: an answer is
//! sent only once the batch that carries its change, and every change it could
//! have seen, is committed; a service whose epoch is not the newest answers
//! `NotActive` and nothing else.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch::{Sender, channel};
use tracing::{debug, error, info, warn};

use dgfs_proto::attr::Timestamp;
use dgfs_proto::chunk::VersionId;
use dgfs_proto::limits::WRITER_RENEW_MS;
use dgfs_proto::meta::{Announce, Caller, EventKind, Leasing, MemberStatus, MetaCall, MetaReply, MetaStatus};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Handler, MetaProtocol, Peer};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::metrics::MetricSet;
use dgfs_runtime::trace::slow::{self, Served};

use crate::engine::{Engine, EngineError};

mod active;
mod admin;
mod background;
mod commit;
mod full;
mod graph;
mod kept_back;
mod locks;
mod recalls;
mod rows_io;
mod start;
mod watch;

use active::Active;

pub(crate) use watch::{Watch, is_out};

/// Bytes of rows a service keeps in memory unless told otherwise.
pub const MEMORY_BYTES_DEFAULT: usize = 256 << 20;

/// [`MetaOptions::server_grace_ms`] unless told otherwise: long enough for a restart of a machine.
pub const SERVER_GRACE_MS_DEFAULT: u64 = 600_000;

/// The data of an embedded volume, as far as metadata must know of it.
pub trait LocalData: Send + Sync + 'static {
    /// Answers once every byte put before is synced to disk.
    fn sync(&self) -> BoxFuture<'static, Result<(), Status>>;
    /// Those of `versions` whose bytes are not (all) there.
    fn lost(&self, versions: Vec<VersionId>) -> BoxFuture<'static, Vec<VersionId>>;
}

/// How a service runs.
#[derive(Clone)]
pub struct MetaOptions {
    /// Names this writer to people: host, pid.
    pub holder: String,
    /// Bytes of rows kept in memory, about.
    pub memory_bytes: usize,
    /// The engine belongs to this process alone (embedded): sessions of earlier runs are over.
    pub exclusive: bool,
    /// The storage in the same process (embedded): its syncs and its recovery go together with the metadata's.
    pub data: Option<Arc<dyn LocalData>>,
    /// Who owns the root directory of a volume that starts for the first time.
    pub root_owner: Caller,
    /// How long a storage server may be down before its partitions move to others.
    pub server_grace_ms: u64,
    /// Time.
    pub clock: Clock,
}

#[derive(Clone)]
enum State {
    /// Waiting for the writer's lease.
    Standby,
    /// The one writer.
    Active(Arc<Active>),
    /// Shut down.
    Closed,
}

/// A metadata service: a standby until it gets the writer's lease, then the active one.
pub struct MetaService {
    engine: Arc<dyn Engine>,
    options: MetaOptions,
    state: Mutex<State>,
    closed: Sender<bool>,
    watch: Arc<Watch>,
}

/// Now, on meta's clock.
pub(crate) fn now(clock: &Clock) -> Timestamp {
    let ns = clock.wall_ns();
    Timestamp { secs: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX), nanos: (ns % 1_000_000_000) as u32 }
}

impl MetaService {
    /// Starts a service on a formatted engine. With `exclusive` it is active when this returns; otherwise it may
    /// be a standby for as long as another holds the lease.
    ///
    /// # Errors
    /// The engine cannot be reached, is not a volume, is of a newer format, or is damaged.
    pub async fn start(engine: Arc<dyn Engine>, options: MetaOptions) -> Result<Arc<Self>, EngineError> {
        crate::format::read_volume(engine.as_ref()).await?;
        let (closed, _) = channel(false);
        let exclusive = options.exclusive;
        let watch = Arc::new(Watch::default());
        let service = Arc::new(Self { engine, options, state: Mutex::new(State::Standby), closed, watch });
        if exclusive && !service.try_become_active().await? {
            return Err(EngineError::Refused(
                "another process writes this volume; end it first (`dgfs status` names it)".to_owned(),
            ));
        }
        let standby = Arc::clone(&service);
        tokio::spawn(async move { standby.stand_by().await });
        Ok(service)
    }

    /// Is this the active writer now?
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active().is_some()
    }

    /// Commits and syncs everything, ends background work and gives the lease up.
    ///
    /// # Errors
    /// The last commit or sync failed: what was answered before and not synced may be lost by a power cut.
    pub async fn shutdown(&self) -> Result<(), EngineError> {
        let state = std::mem::replace(&mut *self.state.lock(), State::Closed);
        self.closed.send_replace(true);
        match state {
            State::Active(active) => active.finish().await,
            State::Standby | State::Closed => Ok(()),
        }
    }

    /// Numbers for people and metrics; none from a standby.
    #[must_use]
    pub fn status(&self) -> Option<MetaStatus> {
        self.active().map(|active| active.status())
    }

    /// Says who this process is: from now on it is among those of the cluster, and the engine's server is watched.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn introduce(self: &Arc<Self>, who: Announce) {
        self.watch.introduce(who);
        self.watch_engine();
    }

    /// Shows how far this process's clock is from the active service's; once.
    pub fn register_clock(&self, set: &MetricSet) {
        self.watch.offset.register(set);
    }

    /// The processes of the cluster, as far as this service knows them: a standby knows itself.
    #[must_use]
    pub fn processes(&self) -> Vec<MemberStatus> {
        match self.active() {
            Some(active) => active.processes(),
            None => self.watch.me().map(|who| MemberStatus { who, silent_ms: 0 }).into_iter().collect(),
        }
    }

    /// Shows how long calls and commits take, once.
    pub(crate) fn register_numbers(&self, set: &MetricSet) {
        self.watch.numbers.register(set);
    }

    /// What is known of the cluster besides files.
    pub(crate) fn watched(&self) -> &Watch {
        &self.watch
    }

    /// Does a server hold the rows?
    pub(crate) fn engine_is_server(&self) -> bool {
        self.engine.is_server()
    }

    /// Puts something into the journal; false from a standby.
    pub(crate) fn note(&self, kind: EventKind, subject: &str, text: &str) -> bool {
        let active = self.active();
        active.as_ref().inspect(|active| active.note(kind, subject, text)).is_some()
    }

    /// The writer that this service is, if it is.
    pub(crate) fn active(&self) -> Option<Arc<Active>> {
        match &*self.state.lock() {
            State::Active(active) if !active.is_dead() => Some(Arc::clone(active)),
            State::Active(_) | State::Standby | State::Closed => None,
        }
    }

    async fn try_become_active(&self) -> Result<bool, EngineError> {
        let Some(lease) = self.engine.acquire(self.options.holder.clone()).await? else { return Ok(false) };
        info!(epoch = %lease.epoch, engine = %self.engine.describe(), "metadata service is active");
        self.watch.forget();
        let shared = (Arc::clone(&self.engine), Arc::clone(&self.watch));
        let active = start::activate(shared, self.options.clone(), lease).await?;
        active.note(EventKind::MetaActive, &self.options.holder, &format!("it is active now, epoch {}", lease.epoch));
        background::spawn(&active);
        *self.state.lock() = State::Active(active);
        Ok(true)
    }

    /// Waits for the lease; when this writer is fenced or fails, becomes a standby again.
    async fn stand_by(self: Arc<Self>) {
        let mut closed = self.closed.subscribe();
        let mut complained = false;
        loop {
            let active = match &*self.state.lock() {
                State::Active(active) => Some(Arc::clone(active)),
                State::Standby => None,
                State::Closed => return,
            };
            if let Some(active) = active {
                tokio::select! {
                    () = active.died() => {}
                    _ = closed.changed() => return,
                }
                let mut state = self.state.lock();
                if matches!(&*state, State::Closed) {
                    return;
                }
                *state = State::Standby;
                warn!("this metadata service is a standby now");
            }
            match self.try_become_active().await {
                Ok(true) => complained = false,
                Ok(false) => {}
                Err(error) if !complained => {
                    complained = true;
                    error!(%error, "cannot become the active metadata service; trying again");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(std::time::Duration::from_millis(WRITER_RENEW_MS)) => {}
                _ = closed.changed() => return,
            }
        }
    }
}

impl Handler<MetaProtocol> for MetaService {
    fn handle(self: Arc<Self>, peer: Arc<Peer>, call: MetaCall, _: Bytes) -> BoxFuture<'static, (MetaReply, Bytes)> {
        let active = match &*self.state.lock() {
            State::Active(active) => Some(Arc::clone(active)),
            State::Standby | State::Closed => None,
        };
        let (op, request) = (call.request.op(), call.request_id);
        let served = Served { part: "meta", op, waits: call.request.waits() };
        let caller = Arc::clone(&peer);
        Box::pin(slow::serve(request, served, caller, async move {
            let (reply, leasing) = match active {
                Some(active) => active.answer(&peer, call).await,
                None => (MetaReply::Refused(Status::NotActive), Leasing::default()),
            };
            if let MetaReply::Refused(status) = &reply {
                debug!(op, peer = %peer.address, %status, "a call was refused");
            }
            let body = leasing.to_byte().map_or_else(Bytes::new, |byte| Bytes::copy_from_slice(&[byte]));
            (reply, body)
        }))
    }
}

#[cfg(test)]
mod tests;
