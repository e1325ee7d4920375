//! A thread beside the store: it saves the counts by chunk, counts what is shown of them, and tries the disk when nobody else does.
//!
//! Never changes a chunk, and never keeps the store alive. Always: it is not the thread of checkpoints, so that a long
//! compaction keeps no count from the disk and no fault of the disk from being noticed.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use dgfs_runtime::disk;
use parking_lot::{Condvar, Mutex};

use crate::store::Store;
use crate::uses::Survey;
use crate::uses::journal::Journal;

/// Chunks shown by number: the busiest.
pub(crate) const HOT_MAX: usize = 20;
/// How often counts are saved: what a killed process loses of them.
pub(crate) const SAVE: Duration = Duration::from_secs(5);
/// A disk that took no write for so long is tried with one; one that refuses, at each round.
const IDLE_MS_MAX: u64 = 5_000;
/// What the probe writes.
const PROBE_FILE: &str = "probe";
const PROBE: &[u8; 8] = b"DGFSTRY1";

/// What the thread keeps.
pub(crate) struct Tending {
    journal: Mutex<Journal>,
    survey: Mutex<Arc<Survey>>,
    stop: Arc<Stop>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Stop {
    is_asked: Mutex<bool>,
    condvar: Condvar,
}

impl Tending {
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal: Mutex::new(journal), survey: Mutex::default(), stop: Arc::default(), thread: Mutex::new(None) }
    }

    /// What was counted last, at most [`SAVE`] ago.
    pub(crate) fn survey(&self) -> Arc<Survey> {
        Arc::clone(&self.survey.lock())
    }
}

impl Store {
    /// Starts the thread, which ends with the store.
    pub(crate) fn start_tending(store: &Arc<Self>) {
        let (weak, stop) = (Arc::downgrade(store), Arc::clone(&store.tending.stop));
        let spawned = std::thread::Builder::new().name("dgfs-tend".to_owned()).spawn(move || {
            while stop.wait() {
                let Some(store) = weak.upgrade() else { break };
                store.tend();
            }
        });
        match spawned {
            Ok(thread) => *store.tending.thread.lock() = Some(thread),
            Err(error) => {
                tracing::error!(%error, "a background thread did not start: counts by chunk are saved at the end only");
            }
        }
    }

    /// Ends the thread.
    pub(crate) fn stop_tending(&self) {
        *self.tending.stop.is_asked.lock() = true;
        self.tending.stop.condvar.notify_all();
        let thread = self.tending.thread.lock().take();
        let others = thread.filter(|thread| thread.thread().id() != std::thread::current().id());
        if others.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a background thread of the store had panicked");
        }
    }

    /// One round. Blocks.
    pub(crate) fn tend(&self) {
        if self.health.is_refusing() || self.health.idle_ms() >= IDLE_MS_MAX {
            self.probe();
        }
        *self.tending.survey.lock() = Arc::new(self.uses.survey(self.now(), HOT_MAX));
        self.save_uses();
    }

    /// Brings the counts on the disk up to those in memory. Blocks.
    pub(crate) fn save_uses(&self) {
        self.tending.journal.lock().save(&self.uses);
    }

    /// Writes some bytes, and syncs them where puts are synced (the disk of a laptop may sleep).
    pub(crate) fn probe(&self) {
        let path = self.directory().join(PROBE_FILE);
        let written = self.health.write(|| {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
            file.write_all_at(PROBE, 0).map(|()| file)
        });
        let Ok(file) = written else { return };
        if self.options.puts_are_synced
            && let Err(error) = self.health.sync(|| disk::sync_file(&file))
        {
            tracing::warn!(%error, "the disk did not sync a probe");
        }
    }
}

impl Stop {
    /// Waits for a round; false means the end.
    fn wait(&self) -> bool {
        let mut is_asked = self.is_asked.lock();
        if !*is_asked {
            self.condvar.wait_for(&mut is_asked, SAVE);
        }
        !*is_asked
    }
}
