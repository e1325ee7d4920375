//! What a writer does unasked: keeps its lease, ends dead sessions, reaps
//! orphans, makes things durable by age, trims the log, reads garbage back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{info, warn};

use dgfs_proto::ids::Seq;
use dgfs_proto::limits::{LOG_PAGE_MAX, WRITER_LEASE_MS, WRITER_RENEW_MS};
use dgfs_proto::meta::MetaReply;

use crate::core::ITEMS_MAX;
use crate::engine::{EngineError, RowRange, Table};
use crate::rows::{Row, RowError};
use crate::service::active::{Active, Dead};
use crate::service::full::Fate;
use crate::service::now;
use crate::service::watch::Observer;

/// How often sessions, orphans, log and garbage are looked after; also the age at which what was
/// answered becomes durable without an fsync.
const TICK: Duration = Duration::from_secs(1);
/// Orphans reaped in one tick.
const REAPED_PER_TICK: usize = 10_000;
/// Events kept for consumers that come later.
const LOG_KEPT: u64 = 10_000;
/// Log rows removed in one tick.
const TRIMMED_PER_TICK: u64 = 50_000;

/// Starts the background work of a writer; it ends with the writer.
pub(crate) fn spawn(active: &Arc<Active>) {
    let lease = Arc::clone(active);
    tokio::spawn(async move { lease.keep_lease().await });
    let ticker = Arc::clone(active);
    // Before the first call: what comes with it is an event.
    let mut observer = Observer::default();
    active.observe(&mut observer, &[]);
    tokio::spawn(async move { ticker.tick_until_dead(observer).await });
}

impl Active {
    async fn keep_lease(self: Arc<Self>) {
        let mut renewed = self.options.clock.monotonic_ms();
        loop {
            tokio::select! {
                () = self.died() => return,
                () = tokio::time::sleep(Duration::from_millis(WRITER_RENEW_MS)) => {}
            }
            let began = self.options.clock.monotonic_ms();
            match self.engine.renew(self.epoch).await {
                Ok(()) => {
                    renewed = began;
                    self.renewed_ms.store(began, Ordering::Release);
                }
                Err(error @ EngineError::Fenced { .. }) => {
                    self.die(&error);
                    return;
                }
                Err(error) if began.saturating_sub(renewed) > WRITER_LEASE_MS * 4 => {
                    warn!(%error, "the writer's lease could not be renewed for some time");
                    renewed = began;
                }
                Err(_) => {}
            }
        }
    }

    async fn tick_until_dead(self: Arc<Self>, mut observer: Observer) {
        let mut last_seq = Seq(0);
        let mut sampled = 0;
        loop {
            tokio::select! {
                () = self.died() => return,
                () = tokio::time::sleep(TICK) => {}
            }
            // What was committed a whole tick ago is synced by the one that follows, bytes and metadata.
            let committed = self.committed.load(Ordering::Acquire);
            if self.tick(&mut last_seq, &mut observer).await.is_err() {
                return;
            }
            self.horizon.store(sampled, Ordering::Release);
            sampled = committed;
        }
    }

    async fn tick(&self, last_seq: &mut Seq, observer: &mut Observer) -> Result<(), Dead> {
        let expired = self.core.lock().expired(now(&self.options.clock));
        for id in &expired {
            warn!(session = %id, "the session gave no sign of life; it is fenced, its locks and opens end");
            let _: MetaReply = self.end_session(*id).await?;
        }
        self.core.lock().tick_cluster(now(&self.options.clock));
        self.observe(observer, &expired);
        self.write_journal().await?;
        self.evict_leases();
        self.queue_orphans_after_grace();
        self.reap().await?;
        let seq = self.core.lock().seq();
        if seq != *last_seq {
            self.make_durable(seq).await?;
            *last_seq = seq;
        }
        self.core.lock().trim_log(LOG_KEPT, TRIMMED_PER_TICK);
        self.read_garbage().await
    }

    /// Syncs data first, then metadata; then everything up to `seq` is safe from a power cut.
    pub(crate) async fn make_durable(&self, seq: Seq) -> Result<(), Dead> {
        if let Some(data) = &self.options.data
            && let Err(status) = data.sync().await
        {
            // The store refuses every write from now on; metadata of bytes that are not on disk must not grow older.
            self.die(&format_args!("stored data could not be synced: {status}"));
            return Err(Dead);
        }
        self.sync().await?;
        self.core.lock().set_data_synced(seq);
        Ok(())
    }

    fn queue_orphans_after_grace(&self) {
        let mut core = self.core.lock();
        let time = now(&self.options.clock);
        if core.orphans_due.is_some_and(|due| time >= due) {
            core.orphans_due = None;
            core.queue_orphans();
        }
    }

    pub(crate) async fn reap(&self) -> Result<(), Dead> {
        for _ in 0..REAPED_PER_TICK {
            let time = now(&self.options.clock);
            if self.core.lock().reapable.is_empty() {
                return Ok(());
            }
            let (_, ticket) = self
                .attempt(|core, _| {
                    core.reap(time).unwrap_or(crate::core::Outcome::Answer { reply: MetaReply::Done, ticket: 0 })
                })
                .await?;
            if self.commit_up_to(ticket).await? == Fate::Refused {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn read_garbage(&self) -> Result<(), Dead> {
        let from = self.core.lock().garbage.read_from();
        let Some(from) = from else { return Ok(()) };
        let range = RowRange { table: Table::Garbage, partition: 0, from, to: u64::MAX, limit: LOG_PAGE_MAX as usize };
        let mut from = range.from;
        for _ in 0..ITEMS_MAX / range.limit / 2 {
            let page = self.persistently("list garbage", || self.engine.list(RowRange { from, ..range })).await?;
            let complete = page.len() < range.limit;
            let items = decode_garbage(&page);
            self.core.lock().garbage.refill(&items, complete);
            match page.last() {
                Some((key, _)) if !complete => from = key.sort + 1,
                Some(_) | None => break,
            }
        }
        Ok(())
    }

    /// The orderly end: everything committed and synced, the lease given up.
    pub(crate) async fn finish(&self) -> Result<(), EngineError> {
        let seq = self.core.lock().seq();
        let _ = self.reap().await;
        let done = self.make_durable(seq).await;
        // The mark itself is one row more.
        let done = done.and(self.sync().await);
        let died = self.is_dead();
        self.retire();
        if done.is_err() || died {
            return Err(EngineError::Unavailable("the metadata service had stopped before".to_owned()));
        }
        self.engine.release(self.epoch).await?;
        info!(%seq, durable = self.durable.load(Ordering::Acquire), "metadata closed");
        Ok(())
    }
}

fn decode_garbage(page: &[(crate::engine::RowKey, Vec<u8>)]) -> Vec<(u64, dgfs_proto::chunk::VersionId)> {
    let decode = |(key, bytes): &(crate::engine::RowKey, Vec<u8>)| -> Result<_, RowError> {
        match Row::decode(*key, bytes)? {
            Row::Garbage(id) => Ok((key.sort, id)),
            _ => Err(RowError::Damaged { key: *key }),
        }
    };
    page.iter().filter_map(|row| decode(row).inspect_err(|error| warn!(%error, "garbage row skipped")).ok()).collect()
}
