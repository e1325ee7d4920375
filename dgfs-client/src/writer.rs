//! The task that sends unsent writes before they grow old or take too much room, and releases in batches.
//!
//! Never drops what could not be sent: it tries again. Always: every file with unsent bytes is in its list.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;

use dgfs_proto::ids::Ino;
use dgfs_proto::status::Status;
use dgfs_runtime::trace::follow_current;

use crate::core::Core;
use crate::file::flush::Which;
use crate::file::state::FileState;
use crate::operation::Op;

/// Looks at the list this often per flush age.
const LOOKS_PER_AGE: u32 = 4;
const LOOK_MIN: Duration = Duration::from_millis(10);
/// Files sent at once in the background.
const FILES_AT_ONCE: usize = 8;

/// Files with unsent bytes.
#[derive(Default)]
pub(crate) struct DirtyFiles {
    files: Mutex<HashMap<Ino, Arc<FileState>>>,
}

impl DirtyFiles {
    /// The file has unsent bytes.
    pub(crate) fn add(&self, file: &Arc<FileState>) {
        if !file.listed.swap(true, Ordering::AcqRel) {
            self.files.lock().insert(file.ino, Arc::clone(file));
        }
    }

    /// Takes the file off the list, if nothing is unsent.
    pub(crate) fn settle(&self, file: &FileState) {
        let mut files = self.files.lock();
        // Unlisted first, looked at second: a write in between is seen here or lists the file again.
        if !file.listed.swap(false, Ordering::AcqRel) {
            return;
        }
        if file.inner.lock().is_dirty() {
            file.listed.store(true, Ordering::Release);
        } else {
            files.remove(&file.ino);
        }
    }

    fn all(&self) -> Vec<Arc<FileState>> {
        self.files.lock().values().cloned().collect()
    }
}

impl Core {
    /// Runs until the mount closes.
    pub(crate) async fn write_back_task(self: Arc<Self>) {
        let look = (self.config.flush_age / LOOKS_PER_AGE).max(LOOK_MIN);
        loop {
            let waited = async {
                tokio::select! {
                    () = tokio::time::sleep(look) => {}
                    () = self.budget.pressed.notified() => {}
                }
            };
            if self.unless_closing(waited).await.is_none() || self.link.is_dead() {
                return;
            }
            self.relieve().await;
            // One number for all that a round sends.
            follow_current(self.send_old()).await;
            let op = self.background_op();
            self.send_releases(&op).await;
            self.cancel_renewing(&op).await;
        }
    }

    /// While more than half of the budget is used: the file with the oldest bytes first.
    async fn relieve(self: &Arc<Self>) {
        if !self.budget.is_pressed() {
            return;
        }
        let mut files: Vec<(Instant, Arc<FileState>)> = self
            .dirty
            .all()
            .into_iter()
            .filter_map(|file| {
                let oldest = file.inner.lock().oldest()?;
                Some((oldest, file))
            })
            .collect();
        files.sort_by_key(|(since, _)| *since);
        let op = self.background_op();
        let send = |(_, file): (Instant, Arc<FileState>)| async move {
            if self.budget.is_pressed() {
                self.send_quietly(&op, &file).await;
            }
        };
        stream::iter(files).for_each_concurrent(self.files_at_once(), send).await;
    }

    async fn send_old(self: &Arc<Self>) {
        let op = self.background_op();
        let mut old = Vec::new();
        for file in self.dirty.all() {
            let oldest = file.inner.lock().oldest();
            match oldest {
                Some(since) if since.elapsed() >= self.config.flush_age => old.push(file),
                Some(_) => {}
                None => self.dirty.settle(&file),
            }
        }
        let send = |file: Arc<FileState>| async move { self.send_quietly(&op, &file).await };
        stream::iter(old).for_each_concurrent(self.files_at_once(), send).await;
    }

    /// One slow server must not hold back files that lie elsewhere; in process nothing is gained by more than one.
    const fn files_at_once(&self) -> usize {
        if self.config.local { 1 } else { FILES_AT_ONCE }
    }

    async fn send_quietly(self: &Arc<Self>, op: &Op, file: &Arc<FileState>) {
        match self.flush_file(op, file, Which::All).await {
            Ok(()) => self.files.forget_idle(file),
            Err(status) if status.is_transient() => {
                tracing::warn!(ino = file.ino.get(), %status, "writes could not be sent yet; they are kept");
            }
            // A lasting error was logged where the bytes were given up.
            Err(_) => self.files.forget_idle(file),
        }
    }

    /// Sends all unsent bytes of all files; the first failure.
    pub(crate) async fn flush_everything(self: &Arc<Self>, op: &Op) -> Result<(), Status> {
        let send = |file: Arc<FileState>| async move {
            let sent = self.flush_file(op, &file, Which::All).await;
            self.files.forget_idle(&file);
            sent.err()
        };
        let failures = stream::iter(self.dirty.all()).map(send).buffer_unordered(self.files_at_once());
        let failed: Vec<Status> = failures.filter_map(std::future::ready).collect().await;
        failed.first().map_or(Ok(()), |status| Err(*status))
    }

    /// Sends all unsent bytes of all files, also of those that were written this moment; the first failure.
    pub(crate) async fn flush_all_open(self: &Arc<Self>, op: &Op) -> Result<(), Status> {
        let mut first = self.flush_everything(op).await;
        for file in self.files.all() {
            let sent = self.flush_file(op, &file, Which::All).await;
            first = first.and(sent);
        }
        first
    }
}
