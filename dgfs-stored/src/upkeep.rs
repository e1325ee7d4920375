//! Keeps the copies of this server good: replaces damaged versions, reads everything in a set period, gives away what is not its own.
//!
//! Never drops a version that the map says it holds. Always: a damaged version is replaced only by bytes that match their
//! writer's checksums.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dgfs_proto::chunk::VersionId;
use dgfs_proto::class::{Class, Shape};
use dgfs_proto::ids::{ChunkId, Epoch, Partition, ServerId};
use dgfs_proto::limits::LIST_MAX;
use dgfs_proto::map::{ClusterMap, Placement};
use dgfs_proto::status::Status;
use tokio::sync::watch;

use crate::fill::range_of;
use crate::pace::Pace;
use crate::store::Held;
use crate::view::ClusterView;

/// Pause before repairs that failed are tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Versions looked at in one page of the scrub.
const SCRUB_PAGE: usize = 256;
/// The scrub goes on at least so fast, bytes a second: a small store is not read byte by byte for days.
const SCRUB_RATE_MIN: u64 = 1 << 20;

/// Replaces damaged versions as they are found, until `stopped`.
pub(crate) async fn heal(view: Arc<ClusterView>, mut stopped: watch::Receiver<bool>) {
    loop {
        let failed = tokio::select! {
            failed = heal_all(&view) => failed,
            _ = stopped.changed() => return,
        };
        let woken = async {
            if failed {
                tokio::time::sleep(RETRY).await;
            } else {
                view.store().upkeep.wake.notified().await;
            }
        };
        tokio::select! {
            () = woken => {}
            _ = stopped.changed() => return,
        }
    }
}

/// True when some could not be replaced now.
async fn heal_all(view: &Arc<ClusterView>) -> bool {
    let mut left = Vec::new();
    while let Some((chunk, damaged)) = view.store().take_damaged() {
        match heal_chunk(view, chunk, &damaged).await {
            Ok(()) => {}
            Err(Status::NoVersion | Status::Corrupt) => {
                tracing::error!(%chunk, versions = damaged.len(), "damaged, and no other server has a good copy");
            }
            Err(_) => left.push((chunk, damaged)),
        }
    }
    let failed = !left.is_empty();
    for (_, damaged) in left {
        view.store().damaged.lock().extend(damaged);
    }
    failed
}

async fn heal_chunk(view: &Arc<ClusterView>, chunk: ChunkId, damaged: &BTreeSet<VersionId>) -> Result<(), Status> {
    let known = damaged.clone();
    let replace = view.blocking(move |store| store.to_replace(chunk, &known)).await?;
    // Those that show data of a damaged record first: once it is replaced, what they point at is gone.
    let (last, first): (Vec<VersionId>, Vec<VersionId>) = replace.into_iter().partition(|id| damaged.contains(id));
    let mut healed = import_missing(view, damaged, &last).await?;
    // Of each the newest first, which show data of older ones.
    for id in first.into_iter().rev().chain(last.into_iter().rev()) {
        let whole = view.fetch(id).await?;
        healed += u64::from(view.blocking(move |store| store.replace(id, &whole)).await?);
    }
    view.store().sync().await?;
    view.blocking(move |store| store.settle_chunk(chunk)).await?;
    view.store().count_healed(healed);
    tracing::info!(%chunk, versions = healed, "damaged versions were replaced by good copies");
    Ok(())
}

/// Versions that are not here at all, as `dgfs fsck` found; how many were kept.
async fn import_missing(
    view: &Arc<ClusterView>,
    damaged: &BTreeSet<VersionId>,
    held: &[VersionId],
) -> Result<u64, Status> {
    let mut imported = 0;
    for id in damaged.iter().copied().filter(|id| !held.contains(id)) {
        let whole = view.fetch(id).await?;
        // One that was dropped here meanwhile is not wanted.
        match view.blocking(move |store| store.import(id, &whole)).await {
            Ok(_) => imported += 1,
            Err(Status::Stale) => {}
            Err(status) => return Err(status),
        }
    }
    Ok(imported)
}

/// Reads everything once in each `period`, until `stopped`.
pub(crate) async fn scrub(view: Arc<ClusterView>, period: Duration, mut stopped: watch::Receiver<bool>) {
    loop {
        let began = tokio::time::Instant::now();
        let pass = scrub_once(&view, period);
        tokio::select! {
            () = pass => {}
            _ = stopped.changed() => return,
        }
        tokio::select! {
            () = tokio::time::sleep_until(began + period) => {}
            _ = stopped.changed() => return,
        }
    }
}

async fn scrub_once(view: &Arc<ClusterView>, period: Duration) {
    let bytes = view.store().status().live_bytes;
    // Half the period is kept for what comes in between.
    let rate = (bytes * 2 / period.as_secs().max(1)).max(SCRUB_RATE_MIN);
    let pace = Pace::new(Some(rate));
    let upkeep = &view.store().upkeep;
    let mut after = None;
    loop {
        let Ok(page) = view.held(after, None, SCRUB_PAGE).await else { return };
        for held in &page {
            let id = held.held.id;
            match view.blocking(move |store| store.verify(id)).await {
                Ok(()) | Err(Status::NoVersion) => {}
                Err(status) => {
                    upkeep.scrub_errors.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(chunk = %id.chunk, version = %id.version, %status, "the scrub found a damaged version");
                }
            }
            let len = u64::from(held.held.allocated);
            upkeep.scrubbed_bytes.fetch_add(len, Ordering::Relaxed);
            pace.after(len).await;
        }
        match page.last() {
            Some(last) if page.len() == SCRUB_PAGE => after = Some(last.held.id),
            Some(_) | None => break,
        }
    }
    upkeep.scrubbed_at.store(view.store().now(), Ordering::Relaxed);
}

/// Drops what has moved to others, as each newer map says, until `stopped`.
pub(crate) async fn vacate(view: Arc<ClusterView>, mut stopped: watch::Receiver<bool>) {
    let mut epochs = view.epochs();
    // Partitions in which nothing is left to drop, and the change of the map up to which that holds.
    let mut clean: BTreeMap<(Class, Partition), Epoch> = BTreeMap::new();
    loop {
        let map = view.map();
        if let Some(own) = view.own() {
            for (key, left) in settled_partitions(&map, own) {
                if clean.get(&key) == Some(&left.changed) {
                    continue;
                }
                match drop_partition(&view, key, left.keeps).await {
                    Ok(dropped) => {
                        clean.insert(key, left.changed);
                        if dropped > 0 {
                            let (class, partition) = key;
                            tracing::info!(%class, partition = partition.0, versions = dropped, "dropped what has moved to others");
                        }
                    }
                    Err(status) => tracing::debug!(%status, "a partition that has moved could not be dropped yet"),
                }
            }
        }
        tokio::select! {
            changed = epochs.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            _ = stopped.changed() => return,
        }
    }
}

/// What of a partition this server need not hold.
#[derive(Clone, Copy)]
struct Left {
    /// Its place, if it is a member: of a coded class other shards go, which it held for others.
    keeps: Option<u8>,
    changed: Epoch,
}

/// Partitions whose members all hold everything, so that nobody else needs to.
fn settled_partitions(map: &ClusterMap, own: ServerId) -> Vec<((Class, Partition), Left)> {
    let mut settled = Vec::new();
    for class in &map.classes {
        for (partition, placement) in (0_u16..).zip(&class.placements) {
            let keeps = placement.place_of(own);
            let is_copy = matches!(class.class.shape(), Shape::Replicated(_));
            if is_settled(class.class, placement) && !(is_copy && keeps.is_some()) {
                let left = Left { keeps, changed: placement.changed };
                settled.push(((class.class, Partition(partition)), left));
            }
        }
    }
    settled
}

fn is_settled(class: Class, placement: &Placement) -> bool {
    placement.members.len() == class.width()
        && placement.extras.is_empty()
        && placement.members.iter().all(|member| member.full)
}

/// Versions of a page, without those of a chunk that may go on behind it: a chunk goes as a whole.
fn whole_chunks(page: &[Held]) -> Vec<VersionId> {
    let all: Vec<VersionId> = page.iter().map(|held| held.held.id).collect();
    let Some(last) = all.last().filter(|_| all.len() == LIST_MAX).map(|id| id.chunk) else { return all };
    let before: Vec<VersionId> = all.iter().copied().filter(|id| id.chunk != last).collect();
    if before.is_empty() { all } else { before }
}

/// Drops all of a partition but the shards of one's own place.
async fn drop_partition(
    view: &Arc<ClusterView>,
    (class, partition): (Class, Partition),
    keeps: Option<u8>,
) -> Result<usize, Status> {
    let (mut after, until) = range_of(class, partition);
    let mut dropped = 0;
    loop {
        let _one_at_a_time = view.vacating.lock().await;
        let page = view.held(after, until, LIST_MAX).await?;
        let ids = whole_chunks(&page);
        let Some(last) = ids.last().copied() else { return Ok(dropped) };
        let ids: Vec<VersionId> = ids.into_iter().filter(|id| keeps != Some(id.chunk.shard())).collect();
        // A newer map may have given it back meanwhile: then nothing more goes.
        let map = view.map();
        let still = map
            .placement_of(class, partition)
            .is_some_and(|now| is_settled(class, now) && view.own().is_some_and(|own| now.place_of(own) == keeps));
        if !still {
            return Err(Status::OldMap);
        }
        if !ids.is_empty() {
            dropped += ids.len();
            view.blocking(move |store| store.drop_versions(&ids)).await?;
        }
        after = Some(last);
    }
}
