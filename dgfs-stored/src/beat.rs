//! Membership in the cluster: join, heartbeats, garbage.
//!
//! Never decides that a version is garbage: meta does. Always: it tries for ever,
//! with growing pauses, until it is told to stop; what was dropped is reported
//! until meta has heard it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use dgfs_proto::chunk::{Upkeep, VersionId};
use dgfs_proto::class::Shape;
use dgfs_proto::ids::{Epoch, ServerId};
use dgfs_proto::limits::SERVER_BEAT_MS;
use dgfs_proto::map::Labels;
use dgfs_proto::meta::{Filled, GarbageItem, MetaReply, MetaRequest, ServerRequest};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, MetaProtocol};
use dgfs_runtime::supervisor;

use crate::fill::Filler;
use crate::metas::Metas;
use crate::mover::Mover;
use crate::orphans::Orphans;
use crate::pace::Pace;
use crate::recompress::Recompressor;
use crate::silence::Silence;
use crate::space::disk_name;
use crate::store::Store;
use crate::upkeep;
use crate::view::ClusterView;

/// How long the first join is tried before the caller hears of it.
const JOIN: Duration = Duration::from_secs(60);
/// Pauses between failed attempts.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Pause between heartbeats while meta has garbage to hand out.
const PAUSE_BUSY: Duration = Duration::from_millis(50);

/// How long a beat waits for a newer map to come into force: that waits for puts, which may wait for a disk that hangs. The next beat
/// tries again.
const MAP_WAIT: Duration = Duration::from_millis(SERVER_BEAT_MS / 2);

/// Who joins. It beats on the runtime on which it joins.
pub struct Joining {
    /// Its chunks.
    pub store: Arc<Store>,
    /// The metadata services, tried in turn.
    pub metas: Vec<Arc<dyn Channel<MetaProtocol>>>,
    /// Where others reach it; empty in process.
    pub address: String,
    /// Its name, for people.
    pub label: String,
    /// Where it stands.
    pub labels: Labels,
    /// The others; none for the one store of an embedded volume.
    pub peers: Option<Peers>,
    /// Where everything else is done that a member does.
    pub work: Handle,
}

/// What a member of a real cluster does besides storing.
#[derive(Clone)]
pub struct Peers {
    /// The map it goes by.
    pub view: Arc<ClusterView>,
    /// Bytes a second that repair may fetch; none: as fast as it goes.
    pub repair_bytes_per_s: Option<u64>,
    /// Everything is read and checked once in this time.
    pub scrub_period: Duration,
}

/// A storage daemon that joined, and beats until it leaves.
pub struct Member {
    id: ServerId,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Member {
    /// Joins the cluster, and beats from then on.
    ///
    /// # Errors
    /// A sentence: refused, or no metadata service took it in within a minute.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn join(joining: Joining) -> Result<Self, String> {
        let disk = disk_name(joining.store.directory());
        let Joining { store, metas, address, label, labels, peers, work } = joining;
        let link = Arc::new(Link { store, metas: Metas::new(metas), address, label, labels, disk });
        let until = Instant::now() + JOIN;
        let mut pause = PAUSE_MIN;
        let id = loop {
            match link.join().await {
                Ok(id) => break id,
                Err(Failure::Final(reason)) => return Err(reason),
                Err(failure) if Instant::now() >= until => {
                    return Err(format!("join the cluster: {}", failure.reason()));
                }
                Err(failure) => tracing::debug!(reason = failure.reason(), "not joined yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        };
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        let mut filler = None;
        if let Some(Peers { view, repair_bytes_per_s, scrub_period }) = peers.clone() {
            let filling = Filler::new(Arc::clone(&view), Pace::new(repair_bytes_per_s));
            tasks.push(work.spawn(Arc::clone(&filling).run(stopped.clone())));
            tasks.push(work.spawn(upkeep::heal(Arc::clone(&view), stopped.clone())));
            tasks.push(work.spawn(upkeep::vacate(Arc::clone(&view), stopped.clone())));
            tasks.push(work.spawn(upkeep::scrub(Arc::clone(&view), scrub_period, stopped.clone())));
            tasks.push(work.spawn(Mover::new(view, Pace::new(repair_bytes_per_s)).run(stopped.clone())));
            filler = Some(filling);
        }
        let (policies, told) = watch::channel(0);
        let pace = Pace::new(peers.as_ref().and_then(|peers| peers.repair_bytes_per_s));
        let recompressor = Recompressor::new(Arc::clone(&link), told, pace);
        tasks.push(work.spawn(recompressor.run(stopped.clone())));
        let view = peers.map(|peers| peers.view);
        let chores = Chores::Idle(Orphans::default());
        let beating =
            Beating { link, id, collected: Vec::new(), chores, view, filler, policies, silence: Silence::default() };
        tasks.push(tokio::spawn(beating.run(stopped)));
        Ok(Self { id, stop, tasks })
    }

    /// Its number in the cluster.
    #[must_use]
    pub const fn id(&self) -> ServerId {
        self.id
    }

    /// Stops beating.
    pub async fn leave(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // A panic in it has been printed; there is nothing left to do.
            let _ = task.await;
        }
    }
}

pub(crate) enum Failure {
    /// Trying again may help.
    Later(String),
    /// Meta does not know this server (any more).
    Unknown,
    /// It will never be taken in like this.
    Final(String),
}

impl Failure {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Later(reason) | Self::Final(reason) => reason,
            Self::Unknown => "the metadata service does not know this server",
        }
    }
}

/// The way to meta.
pub(crate) struct Link {
    pub(crate) store: Arc<Store>,
    metas: Metas,
    address: String,
    label: String,
    labels: Labels,
    disk: u64,
}

impl Link {
    pub(crate) async fn ask(&self, request: ServerRequest) -> Result<MetaReply, Failure> {
        match self.metas.ask(MetaRequest::Server(request)).await {
            Ok((MetaReply::Refused(Status::Stale), _)) => Err(Failure::Unknown),
            Ok((MetaReply::Refused(Status::Forbidden), peer)) => Err(Failure::Final(format!(
                "{peer} does not take this server in: its directory belongs to another cluster, or its certificate has another role; use an empty directory or the right certificate"
            ))),
            Ok((MetaReply::Refused(status), peer)) => Err(Failure::Later(format!("{peer} refused: {status}"))),
            Ok((reply, _)) => Ok(reply),
            Err(reason) => Err(Failure::Later(reason)),
        }
    }

    /// Asks meta what changes nothing.
    async fn hear_meta(&self) -> Result<(), Failure> {
        // There is no map that is newer.
        match self.metas.ask(MetaRequest::GetMap(Epoch(u64::MAX))).await {
            Ok((MetaReply::Map(_), _)) => {
                self.store.measures.heard_meta();
                Ok(())
            }
            Ok((_, peer)) => Err(Failure::Later(format!("{peer} did not tell of its map"))),
            Err(reason) => Err(Failure::Later(reason)),
        }
    }

    async fn join(&self) -> Result<ServerId, Failure> {
        let status = self.store.status();
        let request = ServerRequest::Join {
            identity: self.store.uuid(),
            id: self.store.server(),
            address: self.address.clone(),
            label: self.label.clone(),
            labels: self.labels.clone(),
            disk: self.disk,
            capacity_bytes: status.capacity_bytes,
            used_bytes: status.used_bytes,
            free_bytes: status.free_bytes,
        };
        match self.ask(request).await? {
            MetaReply::Joined { id, .. } => {
                self.blocking(move |store| store.set_server(id).map_err(|error| error.to_string())).await?;
                tracing::info!(server = %id, "joined the cluster");
                Ok(id)
            }
            _ => Err(Failure::Later("the metadata service answered a join with something else".to_owned())),
        }
    }

    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, String> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result.map_err(Failure::Later),
            Err(_) => Err(Failure::Later("work on the store ended early".to_owned())),
        }
    }

    pub(crate) async fn drop_versions(&self, ids: Vec<VersionId>) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        self.blocking(move |store| store.drop_versions(&ids).map_err(|status| format!("drop garbage: {status}"))).await
    }
}

struct Beating {
    link: Arc<Link>,
    id: ServerId,
    /// Numbers of garbage dropped, until meta has heard them.
    collected: Vec<u64>,
    chores: Chores,
    view: Option<Arc<ClusterView>>,
    filler: Option<Arc<Filler>>,
    /// The change of policies that meta told last.
    policies: watch::Sender<u64>,
    silence: Silence,
}

/// What follows from heartbeats and may take its time on the disk: beats go on meanwhile, or a slow disk would look like a dead
/// server.
enum Chores {
    Idle(Orphans),
    Busy(JoinHandle<Done>),
}

/// What chores came to: garbage dropped, and how it ended.
struct Done {
    orphans: Orphans,
    collected: Vec<u64>,
    outcome: Result<(), Failure>,
}

impl Beating {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        let mut away = false;
        loop {
            let next = match self.beat().await {
                Ok(()) => {
                    if std::mem::replace(&mut away, false) {
                        tracing::info!("the metadata service answers again");
                    }
                    pause = PAUSE_MIN;
                    Duration::from_millis(SERVER_BEAT_MS)
                }
                Err(failure) => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(reason = failure.reason(), "heartbeats fail; they are tried for ever");
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                    pause
                }
            };
            let mut due = Instant::now() + next;
            while Instant::now() < due {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    dropped = self.chores_done() => {
                        // There may be more where that came from.
                        due = if dropped > 0 { due.min(Instant::now() + PAUSE_BUSY) } else { due };
                    }
                    _ = stopped.changed() => {
                        // What was begun is finished.
                        if matches!(self.chores, Chores::Busy(_)) {
                            self.chores_done().await;
                        }
                        return;
                    }
                }
            }
        }
    }

    /// One heartbeat, and what follows from its answer.
    async fn beat(&mut self) -> Result<(), Failure> {
        // An embedded volume has nobody who could stand in.
        if self.view.is_some() && self.silence.holds(self.link.store.health.waiting_s()) {
            // The threads that would give a sign of life may wait for the disk, too: a new process could not use it either.
            supervisor::give_sign_of_life();
            // The way to meta is watched all the same.
            return self.link.hear_meta().await;
        }
        let status = self.link.store.status();
        let filled = self.filler.as_ref().map(|filler| filler.report()).unwrap_or_default();
        let request = ServerRequest::Beat {
            id: self.id,
            disk: self.link.disk,
            capacity_bytes: status.capacity_bytes,
            used_bytes: status.used_bytes,
            free_bytes: status.free_bytes,
            collected: self.collected.clone(),
            filled: filled.clone(),
            upkeep: Upkeep { damaged_reads: status.checksum_errors, ..status.upkeep },
            sessions: self.view.as_ref().map_or(0, |view| view.fence.version()),
        };
        match self.link.ask(request).await {
            Ok(MetaReply::Beat { epoch, policies, garbage, sessions }) => {
                self.link.store.measures.heard_meta();
                if let (Some(view), Some(sessions)) = (&self.view, sessions) {
                    view.fence.learn(sessions);
                }
                self.policies.send_if_modified(|known| std::mem::replace(known, policies) != policies);
                self.collected.clear();
                self.heard(epoch, &filled).await;
                self.begin_chores(garbage);
                Ok(())
            }
            Ok(_) => Err(Failure::Later("the metadata service answered a beat with something else".to_owned())),
            Err(Failure::Unknown) => {
                self.id = self.link.join().await?;
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Drops garbage and asks about orphans, unless that is still being done: meta tells again what was not reported.
    fn begin_chores(&mut self, garbage: Vec<GarbageItem>) {
        let Chores::Idle(orphans) = &mut self.chores else { return };
        let (link, mut orphans) = (Arc::clone(&self.link), std::mem::take(orphans));
        if self.filler.as_ref().is_some_and(|filler| filler.take_caught_up()) {
            orphans.begin_anew();
        }
        self.chores = Chores::Busy(tokio::spawn(async move {
            let dropped = link.drop_versions(garbage.iter().flat_map(|item| held_names(item.id)).collect()).await;
            let (collected, outcome) = match dropped {
                Ok(()) => (garbage.iter().map(|item| item.number).collect(), orphans.step(&link).await),
                Err(failure) => (Vec::new(), Err(failure)),
            };
            Done { orphans, collected, outcome }
        }));
    }

    /// Waits until chores are done; how much garbage was dropped. For ever when there are none.
    async fn chores_done(&mut self) -> usize {
        let Chores::Busy(task) = &mut self.chores else { return std::future::pending().await };
        let Ok(Done { orphans, collected, outcome }) = task.await else {
            // It panicked, which has been printed; the next pass begins at the start.
            self.chores = Chores::Idle(Orphans::default());
            return 0;
        };
        self.chores = Chores::Idle(orphans);
        let dropped = collected.len();
        self.collected.extend(collected);
        if let Err(failure) = outcome {
            tracing::debug!(reason = failure.reason(), "garbage and orphans are seen to later");
        }
        dropped
    }

    /// Meta has this map and knows what was filled.
    async fn heard(&self, epoch: Epoch, filled: &[Filled]) {
        let (Some(view), Some(filler)) = (&self.view, &self.filler) else { return };
        if tokio::time::timeout(MAP_WAIT, view.reach_soon(epoch)).await == Ok(true) {
            filler.reported(filled);
        }
    }
}

/// The names under which a version may be held here: of a coded chunk each shard.
fn held_names(id: VersionId) -> Vec<VersionId> {
    let shards = match id.chunk.class().shape() {
        Shape::Replicated(_) => 1,
        Shape::Coded { data, parity } => data + parity,
    };
    (0..shards).map(|shard| VersionId { chunk: id.chunk.with_shard(shard), version: id.version }).collect()
}
