//! Recalls: what meta takes back is forgotten, here and in the kernel, before it is answered.
//!
//! Never answers a recall before what it takes back can be believed by nobody, and writes kept back were sent. Always:
//! caches first, then own opens and unsent writes, then the kernel, then the answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use dgfs_proto::ids::Ino;
use dgfs_proto::limits::LIST_MAX;
use dgfs_proto::meta::{MetaRequest, Recall, RecallOf, SessionRequest};

use crate::core::Core;
use crate::file::flush::Which;
use crate::operation::{Backoff, Op};
use crate::vfs::Forget;

/// How long the kernel keeps no names of a directory in which it was at work when one had to be forgotten.
const BUSY: Duration = Duration::from_secs(2);
/// Directories remembered as busy; beyond, all are forgotten that are not any more.
const BUSY_MAX: usize = 1024;
/// How often the kernel is told to forget pages that were read again meanwhile.
const ROUNDS_MAX: usize = 64;
/// How long pages are waited for while this mount writes the file by itself.
pub(crate) const OWN_WRITE: Duration = Duration::from_secs(2);
const ANSWER_TRY: Duration = Duration::from_secs(5);
/// How long further pushes wait for the kernel.
const QUICK: Duration = Duration::from_millis(100);

/// Directories whose names the kernel does not keep for now: forgetting one would wait for this mount's own requests.
#[derive(Debug, Default)]
pub(crate) struct BusyNames(Mutex<HashMap<Ino, Instant>>);

impl BusyNames {
    pub(crate) fn is_busy(&self, parent: Ino) -> bool {
        self.0.lock().get(&parent).is_some_and(|since| since.elapsed() < BUSY)
    }

    pub(crate) fn add(&self, parents: Vec<Ino>) {
        if parents.is_empty() {
            return;
        }
        let mut busy = self.0.lock();
        if busy.len() + parents.len() > BUSY_MAX {
            busy.retain(|_, since| since.elapsed() < BUSY);
        }
        busy.extend(parents.into_iter().map(|parent| (parent, Instant::now())));
    }
}

/// Inodes whose pages are being taken from the kernel, with the count of reads that put such pages there meanwhile.
#[derive(Debug, Default)]
pub(crate) struct UnderRecall(Mutex<HashMap<Ino, Under>>);

#[derive(Debug, Default)]
struct Under {
    recalls: u32,
    reads: u64,
    /// Own writes under way, which take the pages away again by themselves.
    writes: u32,
}

impl UnderRecall {
    pub(crate) fn begin(&self, ino: Ino) {
        self.0.lock().entry(ino).or_default().recalls += 1;
    }

    /// An own write of an inode goes through, in which its kernel may hold pages until it is answered.
    pub(crate) fn begin_write(&self, ino: Ino) {
        let mut all = self.0.lock();
        let under = all.entry(ino).or_default();
        under.recalls += 1;
        under.writes += 1;
    }

    /// It ends; true when nothing was read meanwhile. Otherwise it counts as a recall under way from now on.
    pub(crate) fn end_write(&self, ino: Ino) -> bool {
        if let Some(under) = self.0.lock().get_mut(&ino) {
            under.writes = under.writes.saturating_sub(1);
        }
        self.end(ino, 0)
    }

    fn writes(&self, ino: Ino) -> bool {
        self.0.lock().get(&ino).is_some_and(|under| under.writes > 0)
    }

    /// A read brings pages of an inode that must not be kept; true when they will be taken away again.
    pub(crate) fn will_forget(&self, ino: Ino) -> bool {
        self.0.lock().get_mut(&ino).map(|under| under.reads += 1).is_some()
    }

    fn reads(&self, ino: Ino) -> u64 {
        self.0.lock().get(&ino).map_or(0, |under| under.reads)
    }

    /// Ends it, unless there were reads since.
    pub(crate) fn end(&self, ino: Ino, reads: u64) -> bool {
        let mut all = self.0.lock();
        let quiet = all.get(&ino).is_none_or(|under| under.reads == reads);
        if quiet {
            end_one(&mut all, ino);
        }
        quiet
    }

    fn end_anyhow(&self, ino: Ino) {
        end_one(&mut self.0.lock(), ino);
    }
}

fn end_one(all: &mut HashMap<Ino, Under>, ino: Ino) {
    if let Some(under) = all.get_mut(&ino) {
        under.recalls -= 1;
        if under.recalls == 0 {
            all.remove(&ino);
        }
    }
}

impl Core {
    /// Carries recalls out: those that are done when this returns, by their numbers. Those for which writes must be
    /// sent first, or for which the kernel takes its time, are answered later, by themselves.
    pub(crate) async fn recall(self: &Arc<Self>, recalls: Vec<Recall>) -> Vec<u64> {
        recalls.iter().for_each(|recall| self.disbelieve(&recall.of));
        if self.link.kept.is_empty() {
            return self.carry_out_all(recalls).await;
        }
        // What is kept back may be of them: it was allowed until just now.
        let core = Arc::clone(self);
        self.runtime.spawn(async move {
            core.send_kept_back_first().await;
            let done = core.carry_out_all(recalls).await;
            core.answer_recalls(done).await;
        });
        Vec::new()
    }

    async fn carry_out_all(self: &Arc<Self>, recalls: Vec<Recall>) -> Vec<u64> {
        let (slow, quick): (Vec<Recall>, Vec<Recall>) =
            recalls.into_iter().partition(|recall| self.is_slow(&recall.of));
        for recall in slow {
            let core = Arc::clone(self);
            self.runtime.spawn(async move {
                let id = recall.id;
                core.carry_out_slow(recall).await;
                core.answer_recalls(vec![id]).await;
            });
        }
        let ids: Vec<u64> = quick.iter().map(|recall| recall.id).collect();
        let core = Arc::clone(self);
        let mut forgotten = Box::pin(async move { core.carry_out_quick(&quick).await });
        if tokio::time::timeout(QUICK, &mut forgotten).await.is_ok() {
            return ids;
        }
        let core = Arc::clone(self);
        self.runtime.spawn(async move {
            forgotten.await;
            core.answer_recalls(ids).await;
        });
        Vec::new()
    }

    /// Says that recalls were carried out, until that is heard.
    async fn answer_recalls(&self, ids: Vec<u64>) {
        for ids in ids.chunks(LIST_MAX) {
            let answer = || MetaRequest::Session(SessionRequest::Recalled(ids.to_vec()));
            let mut backoff = Backoff::new();
            while !self.link.is_dead() && !self.is_closing() {
                match self.link.call(&self.background_op(), answer(), ANSWER_TRY).await {
                    Ok(_) => break,
                    Err(status) => tracing::warn!(%status, "a recall was carried out, and could not be answered yet"),
                }
                let _: Result<(), _> = backoff.pause(&Op::endless()).await;
            }
        }
    }

    /// Sends what is kept back of all files; what cannot be sent for good is given up there.
    async fn send_all_writes(self: &Arc<Self>) {
        let mut backoff = Backoff::new();
        while !self.link.is_dead() && !self.is_closing() {
            if let Err(status) = self.flush_all_open(&self.background_op()).await {
                tracing::warn!(%status, "writes that others may wait for could not be sent yet");
            }
            let drained = self.link.kept.drained(&self.background_op()).await.is_ok();
            if drained && self.files.all().iter().all(|file| !file.inner.lock().is_dirty()) {
                return;
            }
            let _: Result<(), _> = backoff.pause(&Op::endless()).await;
        }
    }

    /// Pages that a read or write put into the kernel must not stay there: they are taken away as soon as it was answered.
    pub(crate) fn forget_pages_soon(self: &Arc<Self>, ino: Ino) {
        self.under_recall.begin(ino);
        let _: bool = self.under_recall.will_forget(ino);
        self.forget_begun_pages(ino);
    }

    /// As [`Self::forget_pages_soon`], of an inode that is under recall already.
    pub(crate) fn forget_begun_pages(self: &Arc<Self>, ino: Ino) {
        let core = Arc::clone(self);
        self.runtime.spawn(async move { core.forget_inodes(vec![ino], Vec::new()).await });
    }

    /// From here on nothing of it is believed: neither what is known, nor answers that are on their way.
    pub(crate) fn disbelieve(&self, of: &RecallOf) {
        match of {
            RecallOf::Attrs(ino) => {
                self.attrs.change(*ino);
                self.link.kept.revoke(*ino);
            }
            RecallOf::Inode(ino) => {
                self.under_recall.begin(*ino);
                self.attrs.change(*ino);
                self.link.kept.revoke(*ino);
                self.contents.change(*ino);
                if let Some(file) = self.files.get(*ino) {
                    let mut inner = file.inner.lock();
                    inner.writes_kept = false;
                    inner.leased = false;
                }
            }
            RecallOf::Writes(ino) => {
                self.attrs.change(*ino);
                self.link.kept.revoke(*ino);
                if let Some(file) = self.files.get(*ino) {
                    file.inner.lock().writes_kept = false;
                }
            }
            RecallOf::Name { parent, name } => {
                self.entries.change(*parent, name);
                self.link.kept.revoke(*parent);
            }
            RecallOf::Names(parent) => {
                self.entries.forget(*parent);
                self.link.kept.revoke(*parent);
            }
            RecallOf::AllWrites => self.link.kept.revoke_all(),
        }
    }

    /// Must something else than changes kept back be sent before it is carried out?
    fn is_slow(&self, of: &RecallOf) -> bool {
        match of {
            RecallOf::Attrs(ino) => self.link.ledger.has_own(*ino),
            RecallOf::Inode(ino) | RecallOf::Writes(ino) => {
                let dirty = self.files.get(*ino).is_some_and(|file| file.inner.lock().is_dirty());
                dirty || self.link.ledger.has_own(*ino)
            }
            RecallOf::AllWrites => true,
            RecallOf::Name { .. } | RecallOf::Names(_) => false,
        }
    }

    async fn carry_out_quick(&self, recalls: &[Recall]) {
        let mut forget = Vec::new();
        let mut inodes = Vec::new();
        for recall in recalls {
            match &recall.of {
                RecallOf::Attrs(ino) => forget.push(Forget::Attrs(*ino)),
                RecallOf::Inode(ino) => inodes.push(*ino),
                RecallOf::Writes(_) | RecallOf::AllWrites => {}
                RecallOf::Name { parent, name } => {
                    if !self.busy_names.is_busy(*parent) {
                        forget.push(Forget::Name(*parent, name.clone()));
                    }
                }
                RecallOf::Names(_) => forget.push(Forget::AllNames),
            }
        }
        self.forget_inodes(inodes, forget).await;
    }

    async fn send_kept_back_first(&self) {
        let mut backoff = Backoff::new();
        while let Err(status) = self.link.kept.drained(&self.background_op()).await {
            if self.link.is_dead() || self.is_closing() {
                break;
            }
            tracing::warn!(%status, "changes kept back that others wait for could not be sent yet");
            let _: Result<(), _> = backoff.pause(&Op::endless()).await;
        }
    }

    async fn carry_out_slow(self: &Arc<Self>, recall: Recall) {
        match &recall.of {
            RecallOf::AllWrites => self.send_all_writes().await,
            RecallOf::Attrs(ino) => self.tell_opens(*ino).await,
            RecallOf::Inode(ino) | RecallOf::Writes(ino) => {
                self.tell_opens(*ino).await;
                self.send_writes(*ino).await;
            }
            RecallOf::Name { .. } | RecallOf::Names(_) => {}
        }
        self.carry_out_quick(&[recall]).await;
    }

    /// Answered before it was registered, an open file could lose its last name, and its bytes, elsewhere; or others could
    /// take it for unused.
    async fn tell_opens(&self, ino: Ino) {
        let mut backoff = Backoff::new();
        while !self.link.is_dead() && !self.is_closing() {
            match self.register_own_opens(&self.background_op(), Some(ino)).await {
                Ok(()) => break,
                Err(status) => tracing::warn!(ino = ino.get(), %status, "an open file could not be registered yet"),
            }
            let _: Result<(), _> = backoff.pause(&Op::endless()).await;
        }
    }

    async fn send_writes(self: &Arc<Self>, ino: Ino) {
        let Some(file) = self.files.get(ino) else { return };
        let mut result = self.flush_file(&self.background_op(), &file, Which::All).await;
        // As long as they may still be sent, others wait: giving them up is for meta to decide.
        while matches!(result, Err(status) if status.is_transient()) && !self.link.is_dead() && !self.is_closing() {
            result = self.flush_file(&self.background_op(), &file, Which::All).await;
        }
        self.files.forget_idle(&file);
    }

    /// Has the kernel forget inodes whole, and the rest. A read of such an inode that was answered meanwhile may have
    /// brought pages back: then once more, until there was none.
    async fn forget_inodes(&self, mut inodes: Vec<Ino>, mut forget: Vec<Forget>) {
        for ino in &inodes {
            self.pages.forget(*ino);
            if let Some(file) = self.files.get(*ino) {
                file.inner.lock().forget_content();
            }
        }
        for _ in 0..ROUNDS_MAX {
            let seen: Vec<(Ino, u64)> = inodes.iter().map(|ino| (*ino, self.under_recall.reads(*ino))).collect();
            forget.extend(inodes.iter().map(|ino| Forget::Inode(*ino)));
            // A page of an own write is held by the kernel until that write is answered, for which others may wait for this.
            let own = inodes.iter().any(|ino| self.under_recall.writes(*ino));
            let limit = if own { OWN_WRITE } else { Duration::MAX };
            drop(tokio::time::timeout(limit, self.forget_in_kernel(std::mem::take(&mut forget))).await);
            inodes = seen
                .into_iter()
                .filter(|(ino, reads)| !self.under_recall.end(*ino, *reads))
                .map(|(ino, _)| ino)
                .collect();
            if inodes.is_empty() {
                return;
            }
        }
        inodes.iter().for_each(|ino| self.under_recall.end_anyhow(*ino));
    }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::ids::Ino;

    use super::UnderRecall;

    #[test]
    fn a_read_while_pages_are_taken_away_has_them_taken_away_once_more() {
        let under = UnderRecall::default();
        let ino = Ino::new(7).unwrap();
        assert!(!under.will_forget(ino), "nothing takes its pages away");
        under.begin(ino);
        let seen = under.reads(ino);
        assert!(under.will_forget(ino));
        assert!(!under.end(ino, seen));
        let seen = under.reads(ino);
        assert!(under.end(ino, seen));
        assert!(!under.will_forget(ino));
    }
}
