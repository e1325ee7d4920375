//! Writes: taken at once where nothing has to be waited for.
//!
//! Never tells a program that its write is there while the kernel may show older bytes, unless the kernel does not let go of a page in
//! time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fuser::{FileHandle, OpenFlags, ReplyWrite, WriteFlags};

use crate::adapter::Adapter;
use crate::adapter::files::OpenFile;
use crate::adapter::noting::asker;
use crate::adapter::respond::Respond;
use crate::errno::Errno;
use crate::metrics::Op;

/// How the kernel came to ask for a write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// A program wrote, at a place.
    Program,
    /// A program wrote to the end.
    Append,
    /// Pages of a mapping: they come through any handle of the file and say where they belong.
    Mapping,
}

impl By {
    pub(super) fn of(flags: OpenFlags, write_flags: WriteFlags) -> Self {
        match write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
            true => Self::Mapping,
            false if flags.0 & libc::O_APPEND != 0 => Self::Append,
            false => Self::Program,
        }
    }
}

/// Bytes of the kernel's pages.
pub(super) fn page_bytes() -> u64 {
    // SAFETY: sysconf has no memory effects.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
}

impl Adapter {
    /// Takes a write: inline if it can be, else with a copy of its bytes.
    pub(super) fn take_write(&self, handle: FileHandle, offset: u64, data: &[u8], by: By, reply: ReplyWrite) {
        let file = match self.shared.files.get(handle.0) {
            Ok(file) => file,
            Err(errno) => return Respond::<u32>::refuse(reply, errno),
        };
        let (append, started) = (by == By::Append, Instant::now());
        let shared = Arc::clone(&self.shared);
        // Where the kernel appended by itself, beside others, all pages are forgotten below.
        let is_other = by == By::Mapping || append && !file.append;
        let overwritten = move |file: &OpenFile, written: u32| {
            let (vfs, at) = (&shared.vfs, (offset, written));
            if is_other { None } else { vfs.overwritten(file.handle, at, (shared.page_bytes, started)) }
        };
        let inline = (append == file.append).then(|| self.write_inline(&file, offset, data)).flatten();
        if let Some(outcome) = inline {
            if let Some((old_pages, written)) =
                outcome.ok().and_then(|written| Some((overwritten(&file, written)?, written)))
            {
                return self.serve(Op::Write, reply, async move {
                    old_pages.await;
                    Ok(written)
                });
            }
            self.shared.metrics.answered_at_once(Op::Write, (started, asker()), outcome.err());
            return match outcome {
                Ok(written) => reply.accept(written, &self.shared),
                Err(errno) => Respond::<u32>::refuse(reply, errno),
            };
        }
        let (data, shared) = (Bytes::copy_from_slice(data), Arc::clone(&self.shared));
        self.serve(Op::Write, reply, async move {
            let open = shared.handle_for(&file, append).await?;
            let written = shared.vfs.write(open, offset, data).await;
            if append && !file.append {
                shared.vfs.forget_misplaced(file.ino);
            }
            let written = written?;
            if let Some(old_pages) = overwritten(&file, written) {
                old_pages.await;
            }
            Ok(written)
        });
    }

    /// Takes a write without a copy, if the file system has room and nothing to fetch.
    fn write_inline(&self, file: &OpenFile, offset: u64, data: &[u8]) -> Option<Result<u32, Errno>> {
        let _runtime = self.dispatch.runtime().enter();
        let attempt = AssertUnwindSafe(|| self.shared.vfs.write_now(file.handle, offset, data));
        match std::panic::catch_unwind(attempt) {
            Ok(outcome) => outcome.map(|written| written.map_err(Errno::from)),
            Err(_) => {
                self.shared.metrics.panics.inc();
                tracing::error!(op = "write", "a request panicked and was answered with EIO; please report this");
                Some(Err(Errno::IO))
            }
        }
    }
}
