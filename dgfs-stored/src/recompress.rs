//! Compresses what is stored already, where a policy is to hold for old data, too.
//!
//! Never decides which: meta does. Always: a version is written anew and synced before what it was is given up; what a broken
//! pass leaves is found by the next one, which every start and every change of a policy begins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dgfs_proto::compression::Compression;
use dgfs_proto::ids::ChunkId;
use dgfs_proto::meta::{MetaReply, ServerRequest};
use dgfs_proto::status::Status;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::beat::{Failure, Link};
use crate::orphans::question_of;
use crate::pace::Pace;
use crate::store::{Held, Recompressed};

/// Versions asked about in one call.
const PAGE: usize = 256;
/// Pause before what was left out is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// Pause before a pass that ended early begins anew.
const ANEW: Duration = Duration::from_secs(60);
/// Versions left out that are remembered; with more a whole pass is made again.
const LEFT_MAX: usize = 4096;
/// Old data are left alone while less is free: a new record takes room before the old one gives its own back.
const FREE_BYTES_MIN: u64 = 2 * BATCH as u64 * (4 << 20);
/// How often everything is asked about although no policy changed: a directory may have been moved to where another one holds.
const REPASS: Duration = Duration::from_secs(600);
/// Versions written anew between two syncs.
const BATCH: usize = 16;

/// The task that compresses.
pub(crate) struct Recompressor {
    link: Arc<Link>,
    policies: watch::Receiver<u64>,
    pace: Pace,
}

/// What a pass came to.
#[derive(Default)]
struct Passed {
    written: u64,
    bytes: u64,
    /// Versions whose chunks were being changed, or that could not be read.
    left: Vec<Held>,
}

impl Recompressor {
    pub(crate) fn new(link: Arc<Link>, policies: watch::Receiver<u64>, pace: Pace) -> Self {
        Self { link, policies, pace }
    }

    /// Runs until `stopped`.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut left: Vec<Held> = Vec::new();
        let mut pause = AGAIN;
        let mut whole_due = Instant::now();
        loop {
            let known = *self.policies.borrow_and_update();
            if known > 0 {
                let is_whole = whole_due <= Instant::now();
                let pass = async { if is_whole { self.pass().await } else { self.some(&left).await } };
                let passed = tokio::select! {
                    passed = pass => passed,
                    _ = stopped.changed() => return,
                };
                if is_whole {
                    whole_due = Instant::now() + REPASS;
                }
                match passed {
                    Ok(passed) if passed.left.len() <= LEFT_MAX => {
                        // What stays left out for long is asked about less and less often.
                        let fewer = is_whole || passed.left.len() < left.len();
                        pause = if fewer { AGAIN } else { (pause * 2).min(REPASS) };
                        left = passed.left;
                    }
                    Ok(_) => (left, whole_due) = (Vec::new(), Instant::now() + ANEW),
                    Err(failure) => {
                        tracing::debug!(reason = failure.reason(), "compressing old data goes on later");
                        (left, whole_due) = (Vec::new(), Instant::now() + ANEW);
                    }
                }
            }
            let due = if left.is_empty() { whole_due } else { whole_due.min(Instant::now() + pause) };
            tokio::select! {
                () = tokio::time::sleep_until(due), if known > 0 => {}
                changed = self.policies.changed() => {
                    whole_due = Instant::now();
                    if changed.is_err() {
                        return;
                    }
                }
                _ = stopped.changed() => return,
            }
        }
    }

    /// Asks about everything that is held.
    async fn pass(&self) -> Result<Passed, Failure> {
        let mut passed = Passed::default();
        let mut after = None;
        loop {
            let page = self.link.blocking(move |store| store.list(after, PAGE).map_err(told)).await?;
            let Some(last) = page.last().map(|held| held.held.id) else { break };
            self.page(&page, &mut passed).await?;
            after = Some(last);
        }
        Ok(passed.named())
    }

    /// Asks again about what was left out.
    async fn some(&self, left: &[Held]) -> Result<Passed, Failure> {
        let mut passed = Passed::default();
        for page in left.chunks(PAGE) {
            self.page(page, &mut passed).await?;
        }
        Ok(passed.named())
    }

    async fn page(&self, page: &[Held], passed: &mut Passed) -> Result<(), Failure> {
        let asked = ServerRequest::CheckCompression(page.iter().map(question_of).collect());
        let wanted = match self.link.ask(asked).await? {
            MetaReply::Compressions(wanted) if wanted.len() == page.len() => wanted,
            _ => return Err(Failure::Later("the metadata service answered a question with something else".to_owned())),
        };
        let wanted = page.iter().zip(wanted).filter_map(|(held, wanted)| Some((*held, wanted?)));
        let wanted: Vec<(Held, Compression)> = wanted.collect();
        for batch in wanted.chunks(BATCH) {
            self.write(batch.to_vec(), passed).await?;
        }
        Ok(())
    }

    async fn write(&self, batch: Vec<(Held, Compression)>, passed: &mut Passed) -> Result<(), Failure> {
        if self.link.store.status().free_bytes < FREE_BYTES_MIN {
            return Err(no_room());
        }
        let outcomes = self.link.blocking(move |store| {
            let one = |(held, compression): (Held, Compression)| (held, store.recompress(held.held.id, compression));
            Ok(batch.into_iter().map(one).collect::<Vec<_>>())
        });
        let (mut chunks, mut bytes, mut full) = (Vec::<ChunkId>::new(), 0, false);
        for (held, outcome) in outcomes.await? {
            let id = held.held.id;
            match outcome {
                Ok(Recompressed::Settled) => {}
                Ok(Recompressed::Later) => passed.leave(held),
                Ok(Recompressed::Written(len)) => {
                    chunks.push(id.chunk);
                    bytes += u64::from(len);
                }
                Err(Status::NoVersion) => {}
                Err(Status::NoSpace) => full = true,
                // Damage was named where it was found, and is healed from other copies.
                Err(status) => {
                    tracing::debug!(chunk = %id.chunk, version = %id.version, %status, "a version could not be compressed anew");
                    passed.leave(held);
                }
            }
        }
        if !chunks.is_empty() {
            self.settle(chunks, bytes, passed).await?;
        }
        if full { Err(no_room()) } else { Ok(()) }
    }

    /// Syncs what was written anew and gives up what was there before.
    async fn settle(&self, chunks: Vec<ChunkId>, bytes: u64, passed: &mut Passed) -> Result<(), Failure> {
        let store = &self.link.store;
        store.sync().await.map_err(|status| Failure::Later(told(status)))?;
        store.upkeep.recompressed.fetch_add(chunks.len() as u64, Ordering::Relaxed);
        passed.written += chunks.len() as u64;
        passed.bytes += bytes;
        self.link
            .blocking(move |store| chunks.into_iter().try_for_each(|chunk| store.settle_chunk(chunk)).map_err(told))
            .await?;
        self.pace.after(bytes).await;
        Ok(())
    }
}

impl Passed {
    /// Remembers a version for later; of very many only that they are.
    fn leave(&mut self, held: Held) {
        if self.left.len() <= LEFT_MAX {
            self.left.push(held);
        }
    }

    /// Says what was done.
    fn named(self) -> Self {
        let Self { written, bytes, .. } = self;
        if written > 0 {
            tracing::info!(versions = written, bytes, "old data were compressed as their directory wants");
        }
        self
    }
}

fn no_room() -> Failure {
    Failure::Later("there is no room to write old data anew".to_owned())
}

fn told(status: Status) -> String {
    format!("the store: {status}")
}
