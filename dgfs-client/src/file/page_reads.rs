//! Pages that the kernel of this mount may hold of before a write of its own.
//!
//! Never judges content. Always: of a read and a write at the same time, either the read saw the write, or the write finds that
//! pages were read.
//!
//! The kernel copies a write into its pages first and asks the mount then, and it drops pages (when it is told to, and when a
//! file is opened whose pages must not be kept) also between the two. A read of such a page reaches the mount before the write
//! does: what it brings is old as soon as the write is there, and the kernel would keep it. The kernel has one such write of a file
//! at a time. A write past the pages lets reads bring old pages until it is there, whatever was dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use dgfs_proto::ids::Ino;

use crate::core::Core;
use crate::file::state::FileState;
use crate::handles::OpenFile;
use crate::recalls::OWN_WRITE;
use crate::vfs::{Forget, Handle};

/// How long a page that was written in part is waited for. The kernel may hold it until the program is told; then it reads it anew.
const PART: Duration = Duration::from_millis(5);
/// A read that was answered so long before a write reached the mount did not meet it.
const MEETS: Duration = Duration::from_secs(5);

/// Of one file.
#[derive(Debug)]
pub(crate) struct PageReads {
    made: Instant,
    /// When the kernel was given pages last: milliseconds since `made`, and one more; 0: never.
    given_ms: AtomicU64,
    /// How often it is dropping pages just now.
    dropping: AtomicU32,
    /// It dropped pages since the last write.
    dropped: AtomicBool,
    /// And was given pages after that.
    reread: AtomicBool,
}

impl Default for PageReads {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            given_ms: AtomicU64::new(0),
            dropping: AtomicU32::new(0),
            dropped: AtomicBool::new(false),
            reread: AtomicBool::new(false),
        }
    }
}

impl PageReads {
    /// A read whose bytes the kernel may keep begins. Call before looking at what the file holds.
    pub(crate) fn reading(&self) {
        self.given_ms.store(self.since_made(Instant::now()) + 1, Ordering::SeqCst);
        if self.dropped.load(Ordering::SeqCst) || self.dropping.load(Ordering::SeqCst) > 0 {
            self.reread.store(true, Ordering::SeqCst);
        }
    }

    /// The kernel begins to drop pages.
    fn begin_dropping(&self) {
        self.dropping.fetch_add(1, Ordering::SeqCst);
    }

    fn end_dropping(&self, may_be_missed: bool) {
        if may_be_missed {
            self.dropped.store(true, Ordering::SeqCst);
        }
        self.dropping.fetch_sub(1, Ordering::SeqCst);
    }

    fn since_made(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.made).as_millis()).unwrap_or(u64::MAX)
    }

    /// A write past the pages, that reached the mount at `arrived`, is in the file: may a read have met it?
    fn may_have_met(&self, arrived: Instant) -> bool {
        let given_ms = self.given_ms.load(Ordering::SeqCst);
        given_ms > 0 && given_ms > self.since_made(arrived.checked_sub(MEETS).unwrap_or(self.made))
    }

    /// A write by pages is in the file, and its program was not told yet: may pages be of before?
    fn are_old(&self) -> bool {
        let reread = self.reread.swap(false, Ordering::SeqCst);
        if self.dropping.load(Ordering::SeqCst) == 0 {
            self.dropped.store(false, Ordering::SeqCst);
        }
        reread
    }
}

/// While it lives, the kernel drops pages of a file.
pub(crate) struct Dropping {
    file: Arc<FileState>,
    /// Nothing can have been under way.
    is_alone: bool,
}

impl Dropping {
    pub(crate) fn new(file: Arc<FileState>) -> Self {
        file.page_reads.begin_dropping();
        Self { file, is_alone: false }
    }

    /// An open, with which the kernel dropped the file's pages, is there. No write was under way if no other handle is there.
    pub(crate) fn end_of_open(mut self) {
        self.is_alone = self.file.opens.load(Ordering::SeqCst) <= 1;
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        self.file.page_reads.end_dropping(!self.is_alone);
    }
}

/// A range of a file, to its end where `len` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: u64,
    len: u64,
}

impl Core {
    /// A write through a handle was taken, and its program was not told yet: what is left to be waited for before that, if the
    /// kernel may hold pages of before.
    pub(crate) fn overwritten(
        self: &Arc<Self>,
        handle: Handle,
        (offset, written): (u64, u32),
        (page_bytes, arrived): (u64, Instant),
    ) -> Option<BoxFuture<'static, ()>> {
        let open = self.handles.file(handle).ok()?;
        let reads = &open.file.page_reads;
        let may_be_old = if open.direct_io { reads.may_have_met(arrived) } else { reads.are_old() };
        if !may_be_old {
            return None;
        }
        let core = Arc::clone(self);
        Some(Box::pin(async move { core.forget_overwritten(&open, (offset, written), page_bytes).await }))
    }

    async fn forget_overwritten(self: &Arc<Self>, open: &OpenFile, (offset, written): (u64, u32), page_bytes: u64) {
        let (file, len) = (&open.file, u64::from(written));
        if open.direct_io {
            // The kernel holds no page of such a write. An append went to the end, wherever the kernel takes that to be.
            let end = file.inner.lock().size();
            let append = Range { from: offset.min(end.saturating_sub(len)), len: 0 };
            let range = if open.flags.append { append } else { Range { from: offset, len } };
            return self.drop_range(file, range, OWN_WRITE).await;
        }
        let whole = (offset.next_multiple_of(page_bytes), (offset + len) / page_bytes * page_bytes);
        if whole.0 < whole.1 {
            self.drop_range(file, Range { from: whole.0, len: whole.1 - whole.0 }, OWN_WRITE).await;
        }
        if whole != (offset, offset + len) {
            self.drop_range(file, Range { from: offset, len }, PART).await;
        }
    }

    /// Has the kernel drop pages, at best while no other write by pages can be under way.
    async fn drop_range(self: &Arc<Self>, file: &Arc<FileState>, range: Range, patience: Duration) {
        let (core, ino) = (Arc::clone(self), file.ino);
        let mut dropped = self.runtime.spawn(async move { core.forget_range(ino, range).await });
        if tokio::time::timeout(patience, &mut dropped).await.is_err() {
            let dropping = Dropping::new(Arc::clone(file));
            self.runtime.spawn(async move {
                drop(dropped.await);
                drop(dropping);
            });
        }
    }

    async fn forget_range(&self, ino: Ino, Range { from, len }: Range) {
        self.forget_in_kernel(vec![Forget::Pages { ino, from, len }]).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{MEETS, PageReads};

    #[test]
    fn a_write_finds_reads_only_after_pages_were_dropped() {
        let reads = PageReads::default();
        reads.reading();
        assert!(!reads.are_old(), "what was read before was overwritten in its page");
        reads.begin_dropping();
        assert!(!reads.are_old(), "nothing was read meanwhile");
        reads.reading();
        assert!(reads.are_old());
        reads.reading();
        assert!(reads.are_old(), "it still drops");
        reads.end_dropping(true);
        reads.reading();
        assert!(reads.are_old(), "dropped since the last write");
        reads.reading();
        assert!(!reads.are_old(), "nothing was dropped since the last write");
        reads.begin_dropping();
        reads.end_dropping(false);
        reads.reading();
        assert!(!reads.are_old(), "with its first open nothing of it was under way");
    }

    #[test]
    fn a_write_past_the_pages_meets_reads_of_its_time_only() {
        let reads = PageReads::default();
        let now = Instant::now();
        assert!(!reads.may_have_met(now), "nothing was read");
        reads.reading();
        assert!(reads.may_have_met(now) && reads.may_have_met(now + MEETS / 2));
        assert!(!reads.may_have_met(now + MEETS * 2), "it was read long before");
    }
}
