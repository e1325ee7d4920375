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
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures_util::future::BoxFuture;

use dgfs_proto::ids::Ino;

use crate::core::Core;
use crate::file::state::FileState;
use crate::handles::OpenFile;
use crate::recalls::OWN_WRITE;
use crate::vfs::{Forget, Handle};

/// Of one file.
#[derive(Debug, Default)]
pub(crate) struct PageReads {
    /// The kernel was given pages.
    given: AtomicBool,
    /// How often it is dropping pages just now.
    dropping: AtomicU32,
    /// It dropped pages since the last write.
    dropped: AtomicBool,
    /// And was given pages after that.
    reread: AtomicBool,
}

impl PageReads {
    /// A read whose bytes the kernel may keep begins. Call before looking at what the file holds.
    pub(crate) fn reading(&self) {
        if !self.given.load(Ordering::Relaxed) {
            self.given.store(true, Ordering::SeqCst);
        }
        if self.dropped.load(Ordering::SeqCst) || self.dropping.load(Ordering::SeqCst) > 0 {
            self.reread.store(true, Ordering::SeqCst);
        }
    }

    /// The kernel begins to drop pages.
    fn begin_dropping(&self) {
        self.dropping.fetch_add(1, Ordering::SeqCst);
    }

    fn end_dropping(&self) {
        self.dropped.store(true, Ordering::SeqCst);
        self.dropping.fetch_sub(1, Ordering::SeqCst);
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
pub(crate) struct Dropping(Arc<FileState>);

impl Dropping {
    pub(crate) fn new(file: Arc<FileState>) -> Self {
        file.page_reads.begin_dropping();
        Self(file)
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        self.0.page_reads.end_dropping();
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
        page_bytes: u64,
    ) -> Option<BoxFuture<'static, ()>> {
        let open = self.handles.file(handle).ok()?;
        let reads = &open.file.page_reads;
        let may_be_old = if open.direct_io { reads.given.load(Ordering::SeqCst) } else { reads.are_old() };
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
            return self.drop_range(file, if open.flags.append { append } else { Range { from: offset, len } }).await;
        }
        // A page that was written in part, and that it does not have, it holds until the program is told.
        let whole = (offset.next_multiple_of(page_bytes), (offset + len) / page_bytes * page_bytes);
        if whole.0 < whole.1 {
            self.drop_range(file, Range { from: whole.0, len: whole.1 - whole.0 }).await;
        }
        if whole != (offset, offset + len) {
            self.drop_soon(file, Range { from: offset, len });
        }
    }

    /// Has the kernel drop pages while no write by pages can be under way.
    async fn drop_range(self: &Arc<Self>, file: &Arc<FileState>, range: Range) {
        let (core, ino) = (Arc::clone(self), file.ino);
        let mut dropped = self.runtime.spawn(async move { core.forget_range(ino, range).await });
        if tokio::time::timeout(OWN_WRITE, &mut dropped).await.is_err() {
            let dropping = Dropping::new(Arc::clone(file));
            self.runtime.spawn(async move {
                drop(dropped.await);
                drop(dropping);
            });
        }
    }

    fn drop_soon(self: &Arc<Self>, file: &Arc<FileState>, range: Range) {
        let (core, ino, dropping) = (Arc::clone(self), file.ino, Dropping::new(Arc::clone(file)));
        self.runtime.spawn(async move {
            core.forget_range(ino, range).await;
            drop(dropping);
        });
    }

    async fn forget_range(&self, ino: Ino, Range { from, len }: Range) {
        self.forget_in_kernel(vec![Forget::Pages { ino, from, len }]).await;
    }
}

#[cfg(test)]
mod tests {
    use super::PageReads;

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
        reads.end_dropping();
        reads.reading();
        assert!(reads.are_old(), "dropped since the last write");
        reads.reading();
        assert!(!reads.are_old(), "nothing was dropped since the last write");
    }
}
