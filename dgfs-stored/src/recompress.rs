//! Compresses what is stored already, where a policy is to hold for old data, too.
//!
//! Never decides which: meta does. Always: a version is written anew and synced before what it was is given up; what a broken
//! pass leaves is found by the next one, which every start and every change of a policy begins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dgfs_proto::chunk::VersionId;
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::ChunkId;
use dgfs_proto::meta::{MetaReply, ServerRequest};
use dgfs_proto::status::Status;
use tokio::sync::watch;

use crate::beat::{Failure, Link};
use crate::orphans::question_of;
use crate::pace::Pace;
use crate::store::{Held, Recompressed};

/// Versions asked about in one call.
const PAGE: usize = 256;
/// Pause before a pass that left something out is made again.
const AGAIN: Duration = Duration::from_secs(10);
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
    /// Chunks that were being changed, or could not be read or written.
    left: u64,
}

impl Recompressor {
    pub(crate) fn new(link: Arc<Link>, policies: watch::Receiver<u64>, pace: Pace) -> Self {
        Self { link, policies, pace }
    }

    /// Runs until `stopped`.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            let known = *self.policies.borrow_and_update();
            let mut again = REPASS;
            if known > 0 {
                let passed = tokio::select! {
                    passed = self.pass() => passed,
                    _ = stopped.changed() => return,
                };
                match passed {
                    Ok(passed) if passed.left == 0 => {}
                    Ok(passed) => {
                        tracing::debug!(left = passed.left, "some versions are compressed later");
                        again = AGAIN;
                    }
                    Err(failure) => {
                        tracing::debug!(reason = failure.reason(), "compressing old data goes on later");
                        again = AGAIN;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(again), if known > 0 => {}
                changed = self.policies.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = stopped.changed() => return,
            }
        }
    }

    async fn pass(&self) -> Result<Passed, Failure> {
        let mut passed = Passed::default();
        let mut after = None;
        loop {
            let page = self.link.blocking(move |store| store.list(after, PAGE).map_err(told)).await?;
            let Some(last) = page.last().map(|held| held.held.id) else { break };
            self.page(&page, &mut passed).await?;
            after = Some(last);
        }
        let Passed { written, bytes, .. } = passed;
        if written > 0 {
            tracing::info!(versions = written, bytes, "old data were compressed as their directory wants");
        }
        Ok(passed)
    }

    async fn page(&self, page: &[Held], passed: &mut Passed) -> Result<(), Failure> {
        let asked = ServerRequest::CheckCompression(page.iter().map(question_of).collect());
        let wanted = match self.link.ask(asked).await? {
            MetaReply::Compressions(wanted) if wanted.len() == page.len() => wanted,
            _ => return Err(Failure::Later("the metadata service answered a question with something else".to_owned())),
        };
        let wanted = page.iter().zip(wanted).filter_map(|(held, wanted)| Some((held.held.id, wanted?)));
        let wanted: Vec<(VersionId, Compression)> = wanted.collect();
        for batch in wanted.chunks(BATCH) {
            self.write(batch.to_vec(), passed).await?;
        }
        Ok(())
    }

    async fn write(&self, batch: Vec<(VersionId, Compression)>, passed: &mut Passed) -> Result<(), Failure> {
        let outcomes = self.link.blocking(move |store| {
            let one = |(id, compression): (VersionId, Compression)| (id, store.recompress(id, compression));
            Ok(batch.into_iter().map(one).collect::<Vec<_>>())
        });
        let (mut chunks, mut bytes, mut full) = (Vec::<ChunkId>::new(), 0, false);
        for (id, outcome) in outcomes.await? {
            match outcome {
                Ok(Recompressed::Settled) => {}
                Ok(Recompressed::Later) => passed.left += 1,
                Ok(Recompressed::Written(len)) => {
                    chunks.push(id.chunk);
                    bytes += u64::from(len);
                }
                Err(Status::NoVersion) => {}
                // A new record takes room before the old one gives its own back.
                Err(Status::NoSpace) => full = true,
                // Damage was named where it was found, and is healed from other copies.
                Err(status) => {
                    tracing::debug!(chunk = %id.chunk, version = %id.version, %status, "a version could not be compressed anew");
                    passed.left += 1;
                }
            }
        }
        if !chunks.is_empty() {
            self.settle(chunks, bytes, passed).await?;
        }
        if full { Err(Failure::Later("there is no room to write old data anew".to_owned())) } else { Ok(()) }
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

fn told(status: Status) -> String {
    format!("the store: {status}")
}
