//! Fetches what this server lacks of the partitions it is a member of: after an outage, and when a partition moves to it.
//!
//! Never calls a partition filled unless a list of somebody who had all of it, or of everybody who has some of it, was gone
//! through by a map that was in force everywhere. Always: the partitions with the fewest full members come first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use dgfs_proto::chunk::{ChunkReply, ChunkRequest, HeldVersion, VersionId};
use dgfs_proto::class::{Class, Shape};
use dgfs_proto::ids::{ChunkId, ChunkVersion, Epoch, Partition, ServerId};
use dgfs_proto::limits::LIST_MAX;
use dgfs_proto::map::{ClusterMap, Holder, Placement, ServerInfo};
use dgfs_proto::meta::{Filled, LiveQuery, MetaReply, ServerRequest};
use dgfs_proto::status::Status;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::pace::Pace;
use crate::progress::Progress;
use crate::store::Store;
use crate::view::ClusterView;

/// Partitions compared at once.
const PARTITIONS_AT_ONCE: usize = 4;
/// Versions of one partition fetched at once.
const FETCHES_AT_ONCE: usize = 4;
/// Pause before partitions that could not be filled are tried again: so much more after each pass that filled none.
const RETRY: Duration = Duration::from_secs(1);
/// It grows no longer than this; a newer map ends it, as when a server comes back.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// After so many passes in which nothing could be filled, most of a minute, a person should look.
const FRUITLESS_MAX: u32 = 12;

/// The task that fills.
pub(crate) struct Filler {
    view: Arc<ClusterView>,
    pace: Pace,
    /// Filled partitions that meta may not have heard of, with the `since` they were filled for.
    done: Mutex<BTreeMap<(Class, Partition), Epoch>>,
    /// Something was filled since the last look.
    caught_up: AtomicBool,
    /// Passes in a row in which nothing could be filled.
    fruitless: AtomicU32,
}

/// One partition to fill.
#[derive(Clone, Debug)]
struct Work {
    class: Class,
    partition: Partition,
    place: u8,
    holder: Holder,
    placement: Placement,
}

impl Filler {
    pub(crate) fn new(view: Arc<ClusterView>, pace: Pace) -> Arc<Self> {
        Arc::new(Self {
            view,
            pace,
            done: Mutex::default(),
            caught_up: AtomicBool::new(false),
            fruitless: AtomicU32::new(0),
        })
    }

    /// Runs until `stopped`.
    pub(crate) async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut epochs = self.view.epochs();
        loop {
            let left = tokio::select! {
                left = self.pass() => left,
                _ = stopped.changed() => return,
            };
            let fruitless = self.fruitless.load(Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep((RETRY * fruitless.max(1)).min(RETRY_MAX)), if left => {}
                _ = epochs.changed() => self.fruitless.store(fruitless.min(1), Ordering::Relaxed),
                _ = stopped.changed() => return,
            }
        }
    }

    /// Goes through what the map says is to be filled; true when some of it is left.
    async fn pass(&self) -> bool {
        let work = self.work();
        let upkeep = &self.view.store().upkeep;
        upkeep.begin(work.len() as u64, self.view.store().now_ms());
        if work.is_empty() {
            upkeep.bytes_left.store(0, Ordering::Relaxed);
            self.fruitless.store(0, Ordering::Relaxed);
            return false;
        }
        let count = work.len();
        // What was in vain once is said again when it is not.
        let in_vain = self.fruitless.load(Ordering::Relaxed) > 0;
        if !in_vain {
            tracing::info!(partitions = count, "fetching what this server lacks");
        }
        let fills: Vec<BoxFuture<'_, bool>> = work.into_iter().map(|work| self.fill(work).boxed()).collect();
        let mut under_way = stream::iter(fills).buffer_unordered(PARTITIONS_AT_ONCE);
        let mut failed = 0;
        while let Some(done) = under_way.next().await {
            failed += usize::from(!done);
        }
        if !in_vain || failed < count {
            tracing::info!(partitions = count, failed, "went through the partitions that were not full");
        }
        self.note_fruitless(failed == count);
        self.caught_up.fetch_or(failed < count, Ordering::AcqRel);
        // What was done is reported with the next heartbeats; more may have come by a newer map.
        failed > 0 || !self.work().is_empty()
    }

    /// Says once that nothing can be filled; the reasons are in the log of level debug.
    fn note_fruitless(&self, nothing: bool) {
        if !nothing {
            self.fruitless.store(0, Ordering::Relaxed);
        } else if self.fruitless.fetch_add(1, Ordering::Relaxed) + 1 == FRUITLESS_MAX {
            tracing::warn!(
                passes = FRUITLESS_MAX,
                "nothing of what this server lacks can be fetched; `dgfs status` shows which servers are away, `dgfs fsck` what \
                 is missing"
            );
        }
    }

    /// Partitions of which this server is a member and not full, the least redundant first.
    fn work(&self) -> Vec<Work> {
        let map = self.view.map();
        let Some(own) = self.view.own() else { return Vec::new() };
        let mut done = self.done.lock();
        let mut work = Vec::new();
        let mut still = BTreeSet::new();
        for class in &map.classes {
            for (partition, placement) in (0_u16..).zip(&class.placements) {
                let members = (0_u8..).zip(&placement.members);
                for (place, holder) in members.filter(|(_, holder)| holder.server == own && !holder.full) {
                    let key = (class.class, Partition(partition));
                    if done.get(&key) == Some(&holder.since) {
                        still.insert(key);
                        continue;
                    }
                    let (class, partition) = key;
                    work.push(Work { class, partition, place, holder: *holder, placement: placement.clone() });
                }
            }
        }
        done.retain(|key, _| still.contains(key));
        work.sort_by_key(|work| work.placement.full_members());
        work
    }

    /// Has it caught up since the last time this was asked? What others dropped meanwhile is still here then.
    pub(crate) fn take_caught_up(&self) -> bool {
        self.caught_up.swap(false, Ordering::AcqRel)
    }

    /// What the next heartbeat reports.
    pub(crate) fn report(&self) -> Vec<Filled> {
        let done = self.done.lock();
        let filled = |((class, partition), since): (&(Class, Partition), &Epoch)| Filled {
            class: *class,
            partition: *partition,
            since: *since,
        };
        done.iter().take(LIST_MAX).map(filled).collect()
    }

    /// Meta has heard these; those that the next map still shows as not full are reported again.
    pub(crate) fn reported(&self, filled: &[Filled]) {
        let map = self.view.map();
        let mut done = self.done.lock();
        for Filled { class, partition, since } in filled {
            let placement = map.placement_of(*class, *partition);
            let own = self.view.own();
            let holder = placement.and_then(|placement| placement.members.iter().find(|h| Some(h.server) == own));
            if holder.is_none_or(|holder| holder.full || holder.since != *since) {
                done.remove(&(*class, *partition));
            }
        }
    }

    async fn fill(&self, work: Work) -> bool {
        let (class, partition, since) = (work.class, work.partition, work.holder.since);
        match self.try_fill(&work).await {
            Ok(true) => {
                self.done.lock().insert((class, partition), since);
                Progress::lower(&self.view.store().upkeep.partitions_left, 1);
                true
            }
            Ok(false) => false,
            Err(status) => {
                tracing::debug!(%class, partition = partition.0, %status, "a partition could not be filled yet");
                false
            }
        }
    }

    /// True when it holds everything now.
    async fn try_fill(&self, work: &Work) -> Result<bool, Status> {
        let map = self.view.map();
        let (held, complete) = self.held_by_others(&map, work).await?;
        let own = self.own_versions(work).await?;
        let names = held.into_iter().map(|held| (name_for(held, work.place), held));
        let missing: BTreeMap<VersionId, HeldVersion> = names.filter(|(id, _)| !own.contains(id)).collect();
        let bytes: u64 = missing.values().map(|held| u64::from(held.allocated)).sum();
        let upkeep = &self.view.store().upkeep;
        if bytes > self.view.store().status().free_bytes {
            // What does not fit is not fetched to be thrown away.
            return Err(Status::NoSpace);
        }
        upkeep.bytes_left.fetch_add(bytes, Ordering::Relaxed);
        let any = !missing.is_empty();
        let fetches: Vec<BoxFuture<'_, Result<(), Status>>> =
            missing.into_iter().map(|(id, held)| self.fetch_one(id, held).boxed()).collect();
        let mut under_way = stream::iter(fetches).buffer_unordered(FETCHES_AT_ONCE);
        let mut failed = Vec::new();
        while let Some(fetched) = under_way.next().await {
            failed.extend(fetched.err());
        }
        if failed.contains(&Status::Stale) {
            // Dropped here a moment ago, and wanted again: what is dropped is forgotten at the second checkpoint.
            self.view
                .blocking(|store| store.checkpoint().and_then(|()| store.checkpoint()).map_err(|_| Status::Io))
                .await?;
        }
        if let Some(status) = failed.first() {
            return Err(*status);
        }
        if any {
            self.view.store().sync().await?;
        }
        Ok(complete)
    }

    async fn own_versions(&self, work: &Work) -> Result<BTreeSet<VersionId>, Status> {
        let _nothing_is_dropped = self.view.vacating.lock().await;
        let mut own = BTreeSet::new();
        let (mut after, until) = bounds(work);
        loop {
            let page = self.view.held(after, until, LIST_MAX).await?;
            own.extend(page.iter().map(|held| held.held.id));
            match page.last() {
                Some(last) if page.len() == LIST_MAX => after = Some(last.held.id),
                Some(_) | None => return Ok(own),
            }
        }
    }

    /// What others hold of the partition, and whether that is all there is.
    async fn held_by_others(&self, map: &ClusterMap, work: &Work) -> Result<(Vec<HeldVersion>, bool), Status> {
        let own = self.view.own();
        let mut others: Vec<ServerId> = map.read_order(&work.placement, None);
        others.retain(|id| Some(*id) != own);
        let mut seen = BTreeSet::new();
        others.retain(|id| seen.insert(*id));
        let mut held = Vec::new();
        let mut all_answered = true;
        for id in others {
            let Some(server) = map.server(id) else { continue };
            match self.list_of(server, work).await {
                Ok(list) => {
                    held.extend(list);
                    if work.placement.suffices(id, &work.holder) {
                        return Ok((held, true));
                    }
                }
                Err(Status::OldMap) => return Err(Status::OldMap),
                Err(_) => all_answered = false,
            }
        }
        Ok((held, all_answered))
    }

    async fn list_of(&self, server: &ServerInfo, work: &Work) -> Result<Vec<HeldVersion>, Status> {
        if !self.view.map().is_up(server.id) {
            return Err(Status::Unavailable);
        }
        let mut all = Vec::new();
        let limit = u32::try_from(LIST_MAX).unwrap_or(u32::MAX);
        let (mut after, until) = bounds(work);
        loop {
            let (reply, _) = self.view.ask(server, ChunkRequest::List { after, until, limit }).await?;
            let ChunkReply::Held(page) = reply else { return Err(Status::Malformed) };
            let full = page.len() == LIST_MAX;
            after = page.last().map(|held| held.id).or(after);
            all.extend(page);
            if !full {
                return Ok(all);
            }
        }
    }

    async fn fetch_one(&self, id: VersionId, held: HeldVersion) -> Result<(), Status> {
        let upkeep = &self.view.store().upkeep;
        let outcome = self.view.fetch(id).await;
        Progress::lower(&upkeep.bytes_left, u64::from(held.allocated));
        let whole = match outcome {
            Ok(whole) => whole,
            // Collected since it was listed, or of a coded chunk whose write never came to its end.
            Err(Status::NoVersion) => return Ok(()),
            Err(Status::Corrupt) => {
                upkeep.not_found.fetch_add(1, Ordering::Relaxed);
                tracing::error!(chunk = %id.chunk, version = %id.version, "no good copy is left of a chunk version: `dgfs fsck` names its file");
                return Ok(());
            }
            Err(status) => return Err(status),
        };
        let len = whole.body.len() as u64;
        match self.view.blocking(move |store: &Store| store.import(id, &whole).map(drop)).await {
            // It was dropped here, and is held by a server that has not heard of that. While others show its data it was dropped
            // alone, which only garbage is; else it may be of a life when the partition was elsewhere.
            Err(Status::Stale) if self.view.store().is_garbage(id) || !self.is_referred(held).await? => return Ok(()),
            imported => imported?,
        }
        upkeep.fetched.fetch_add(1, Ordering::Relaxed);
        upkeep.fetched_bytes.fetch_add(len, Ordering::Relaxed);
        self.pace.after(len).await;
        Ok(())
    }

    /// Does anything refer to the version, or may it still?
    async fn is_referred(&self, held: HeldVersion) -> Result<bool, Status> {
        let question = LiveQuery { id: held.id, owner: held.owner, index: held.index };
        match self.view.ask_meta(ServerRequest::CheckLive(vec![question])).await? {
            MetaReply::Live(live) => live.first().copied().ok_or(Status::Malformed),
            _ => Err(Status::Malformed),
        }
    }
}

/// Positions before the first and behind the last chunk of a partition.
fn bounds(work: &Work) -> (Option<VersionId>, Option<ChunkId>) {
    range_of(work.class, work.partition)
}

/// As [`bounds`], by class and partition.
pub(crate) fn range_of(class: Class, partition: Partition) -> (Option<VersionId>, Option<ChunkId>) {
    let first = ChunkId::new(ChunkId::before(class, partition));
    let after = first.zip(ChunkVersion::new(u64::MAX)).map(|(chunk, version)| VersionId { chunk, version });
    (after, ChunkId::new(ChunkId::behind(class, partition)))
}

/// What a server with this place holds of a version that another one holds.
fn name_for(held: HeldVersion, place: u8) -> VersionId {
    let chunk = match held.id.chunk.class().shape() {
        Shape::Replicated(_) => held.id.chunk,
        Shape::Coded { .. } => held.id.chunk.with_shard(place),
    };
    VersionId { chunk, version: held.id.version }
}
