//! Batches go to the engine, one at a time; whoever finds one on its way waits
//! and takes everything that gathered meanwhile with the next.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::warn;

use crate::core::Pending;
use crate::engine::{Batch, Durability, EngineError};
use crate::service::active::{Active, Dead};
use crate::service::full::Fate;

/// Pauses between attempts while the engine is away.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(500);

impl Active {
    /// Answers once batch `ticket` is in the engine, or the engine had no room for it. Tries for as long as the engine
    /// is away.
    pub(crate) async fn commit_up_to(&self, ticket: u64) -> Result<Fate, Dead> {
        if self.committed.load(Ordering::Acquire) >= ticket {
            return if self.is_dead() { Err(Dead) } else { Ok(self.full.fate(ticket)) };
        }
        let _one_at_a_time = self.commit_lock.lock().await;
        while self.committed.load(Ordering::Acquire) < ticket {
            if self.is_dead() {
                return Err(Dead);
            }
            let taken = self.core.lock().take_pending();
            let Some((number, pending)) = taken else { return Ok(Fate::Committed) };
            if self.commit(number, pending).await? == Fate::Refused {
                self.take_back(number).await?;
                break;
            }
            self.commits.fetch_add(1, Ordering::Relaxed);
            self.core.lock().set_committed(number);
            self.committed.store(number, Ordering::Release);
        }
        Ok(self.full.fate(ticket))
    }

    async fn commit(&self, number: u64, pending: Pending) -> Result<Fate, Dead> {
        let rows = pending.rows.into_iter().map(|(key, row)| (key, row.map(|row| row.encode()))).collect();
        let batch = Batch { number: self.full.number(number), rows, new: pending.new };
        let began = self.options.clock.monotonic();
        let first = self.engine.commit(self.epoch, batch.clone(), Durability::Handed).await;
        match first {
            Ok(()) => {
                let took = self.options.clock.monotonic().saturating_sub(began);
                self.watch.numbers.committed(took, self.new_mutations());
                return Ok(Fate::Committed);
            }
            // Only the first answer is sure: an attempt before whose answer was lost may have been carried out.
            Err(EngineError::NoSpace) => {
                self.watch.numbers.engine_failed();
                return Ok(Fate::Refused);
            }
            Err(_) => self.watch.numbers.engine_failed(),
        }
        let commit = || self.engine.commit(self.epoch, batch.clone(), Durability::Handed);
        self.persistently("commit metadata", commit).await?;
        let took = self.options.clock.monotonic().saturating_sub(began);
        self.watch.numbers.committed(took, self.new_mutations());
        Ok(Fate::Committed)
    }

    /// Mutations since this was asked last, about: those that come while a batch is on its way count with it.
    fn new_mutations(&self) -> u64 {
        let all = self.core.lock().mutations;
        all.saturating_sub(self.mutations_told.swap(all, Ordering::AcqRel))
    }

    /// Everything answered before is durable in the engine when this returns. Many callers share one sync.
    pub(crate) async fn sync(&self) -> Result<(), Dead> {
        let target = self.core.lock().newest_ticket();
        // What was refused was answered so: there is nothing of it to be made durable.
        let _: Fate = self.commit_up_to(target).await?;
        if self.durable.load(Ordering::Acquire) >= target {
            return Ok(());
        }
        let _one_at_a_time = self.sync_lock.lock().await;
        if self.durable.load(Ordering::Acquire) >= target {
            return Ok(());
        }
        let reached = self.committed.load(Ordering::Acquire);
        self.persistently("sync metadata", || self.engine.sync()).await?;
        self.durable.fetch_max(reached, Ordering::AcqRel);
        Ok(())
    }

    /// Tries an engine call until it succeeds or this writer must stop.
    pub(crate) async fn persistently<T>(
        &self,
        step: &str,
        call: impl Fn() -> crate::engine::EngineFuture<T>,
    ) -> Result<T, Dead> {
        let mut pause = RETRY_FIRST;
        let mut complained = false;
        loop {
            match call().await {
                Ok(value) => {
                    if complained {
                        warn!(step, "the metadata engine is back");
                        self.engine_answers();
                    }
                    return Ok(value);
                }
                Err(error @ (EngineError::Unavailable(_) | EngineError::NoSpace)) => {
                    self.engine_failed(&error);
                    if !complained {
                        warn!(step, %error, "waiting for the metadata engine");
                    }
                    complained = true;
                }
                Err(
                    error @ (EngineError::Fenced { .. }
                    | EngineError::Regressed { .. }
                    | EngineError::Refused(_)
                    | EngineError::Damaged(_)),
                ) => {
                    self.die(&error);
                    return Err(Dead);
                }
            }
            if self.is_dead() {
                return Err(Dead);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }
}
