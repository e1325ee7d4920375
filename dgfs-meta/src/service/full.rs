//! When the engine is full: who is refused at once, and how a refused batch is taken back.
//!
//! Never lets memory run ahead of the engine: after a refused batch the state is read again, and everybody who waits for
//! what the batch carried hears of it. Reads go on; removals may use the engine's reserve.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::warn;

use dgfs_proto::meta::{Leasing, MetaReply, Mutation};
use dgfs_proto::status::Status;

use crate::core::{Attempt, Core, Once, Survivors, grows};
use crate::service::active::{Active, Dead};
use crate::service::now;
use crate::service::start::read_snapshot;

/// How long changes are refused unasked after the engine refused a batch: each attempt costs reading the state again.
const REFUSED_MS: u64 = 500;
/// Spans of refused batches that are remembered: far more than there can be calls that still wait for one.
const SPANS_MAX: usize = 4096;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Fate {
    /// It is in the engine.
    Committed,
    /// The engine had no room for it; nothing of it has happened.
    Refused,
}

/// What is remembered of refused batches.
#[derive(Debug, Default)]
pub(crate) struct Fullness {
    /// First and last ticket of each span.
    spans: Mutex<Vec<(u64, u64)>>,
    any: AtomicBool,
    /// Tickets that never became a batch of the engine.
    skipped: AtomicU64,
    /// Until then (monotonic, ms) what grows is refused unasked, …
    growth_refused_until: AtomicU64,
    /// … and everything.
    all_refused_until: AtomicU64,
}

impl Fullness {
    /// What became of batch `ticket`, which is settled.
    pub(crate) fn fate(&self, ticket: u64) -> Fate {
        if !self.any() {
            return Fate::Committed;
        }
        let spans = self.spans.lock();
        let refused = spans.iter().rev().any(|(first, last)| (*first..=*last).contains(&ticket));
        if refused { Fate::Refused } else { Fate::Committed }
    }

    /// Was a batch refused since the start?
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// The engine's number of the batch `ticket`.
    pub(crate) fn number(&self, ticket: u64) -> u64 {
        ticket - self.skipped.load(Ordering::Acquire)
    }

    fn add(&self, first: u64, last: u64) {
        self.skipped.fetch_add(last - first + 1, Ordering::AcqRel);
        let mut spans = self.spans.lock();
        match spans.last_mut() {
            Some(before) if before.1 + 1 == first => before.1 = last,
            Some(_) | None => spans.push((first, last)),
        }
        if spans.len() > SPANS_MAX {
            spans.remove(0);
        }
        self.any.store(true, Ordering::Release);
    }
}

impl Active {
    /// Batch `refused` found no room. Called while no other batch is on its way.
    pub(crate) async fn take_back(&self, refused: u64) -> Result<(), Dead> {
        let time = self.options.clock.monotonic_ms();
        let until = &self.full.growth_refused_until;
        if until.swap(time + REFUSED_MS, Ordering::AcqRel) + 10 * REFUSED_MS < time {
            warn!(
                "the metadata engine is full: changes that need room fail until there is some, reads and removals go on"
            );
        }
        let read = || -> crate::engine::EngineFuture<_> {
            let engine = Arc::clone(&self.engine);
            Box::pin(async move { read_snapshot(engine.as_ref()).await.map(|(snapshot, _)| snapshot) })
        };
        let snapshot = self.persistently("read the metadata again", read).await?;
        let survivors = if self.options.exclusive { Survivors::InMemory } else { Survivors::Stored };
        {
            let mut core = self.core.lock();
            let last = core.rebuild(snapshot, refused, survivors, now(&self.options.clock));
            self.full.add(refused, last);
            self.committed.store(last, Ordering::Release);
        }
        self.locks_changed.notify_waiters();
        self.sessions_changed.notify_waiters();
        self.recalled.notify_waiters();
        Ok(())
    }

    /// One mutation, refused at once where the engine has no room for it.
    pub(crate) async fn mutate_if_room(&self, once: &Once<'_>, leasing: &mut Leasing) -> Result<MetaReply, Dead> {
        let grows = grows(once.mutation);
        if self.refuses(grows) && !self.core.lock().has_answered(once) {
            return Ok(self.without_room(once));
        }
        if crate::core::is_waiting_lock(once.mutation) {
            return self.wait_for_lock(once).await;
        }
        // What removes may have shared its batch with what grows: it gets a second try.
        for _ in 0..if grows { 1 } else { 2 } {
            let time = now(&self.options.clock);
            let step = |core: &mut Core, attempt: &mut Attempt<'_>| {
                let outcome = core.mutate(time, once, attempt);
                *leasing = attempt.leasing;
                outcome
            };
            if let Some(reply) = self.settle_if_room(step).await? {
                return Ok(reply);
            }
        }
        if !grows {
            let until = self.options.clock.monotonic_ms() + REFUSED_MS;
            self.full.all_refused_until.store(until, Ordering::Release);
        }
        Ok(self.without_room(once))
    }

    pub(crate) fn refuses(&self, grows: bool) -> bool {
        if self.full.any() {
            let time = self.options.clock.monotonic_ms();
            let until = |limit: &AtomicU64| limit.load(Ordering::Acquire) > time;
            if until(&self.full.all_refused_until) || grows && until(&self.full.growth_refused_until) {
                return true;
            }
        }
        grows && !self.engine.has_room()
    }

    /// The answer where there is no room. Opens are given back all the same: only memory knows of them.
    fn without_room(&self, once: &Once<'_>) -> MetaReply {
        match once.mutation {
            Mutation::Release { opens } => {
                self.core.lock().release_later(once, opens);
                MetaReply::Done
            }
            _ => MetaReply::Refused(Status::NoSpace),
        }
    }
}
