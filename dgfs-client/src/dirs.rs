//! Directory handles and pages of entries.
//!
//! Cookies are meta's and stay good whatever happens to the directory. What the kernel had no room for is kept for its next
//! request, but only by a sole mount, and only until anything at all changes: what is told is true when it is told.

use dgfs_proto::ids::Ino;
use dgfs_proto::limits::READDIR_PAGE_MAX;
use dgfs_proto::meta::{DirEntry, MetaReply, Query};
use dgfs_proto::status::Status;

use crate::cache::shards::AskedAny;
use crate::core::Core;
use crate::vfs::Handle;

/// Entries asked for in one call. In process a page costs no round trip, so it need not hold more than one kernel reply.
const PAGE_LOCAL: u32 = 128;
const PAGE_REMOTE: u32 = 512;
const _: () = assert!(PAGE_REMOTE <= READDIR_PAGE_MAX);

/// Entries handed out at once: about what one kernel reply holds.
const TOLD_MAX: usize = 160;

/// Entries fetched ahead of the kernel's requests.
pub(crate) struct Page {
    asked: (AskedAny, AskedAny),
    entries: Vec<DirEntry>,
}

impl Page {
    /// The entries behind `cookie`, if the page has them and nothing has changed since it was asked for.
    fn rest(&self, cookie: u64, now: (AskedAny, AskedAny)) -> Option<Vec<DirEntry>> {
        if self.asked != now {
            return None;
        }
        let known = self.entries.first().is_some_and(|first| first.cookie <= cookie);
        let start = self.entries.partition_point(|entry| entry.cookie <= cookie);
        let rest = self.entries.get(start..).filter(|rest| known && !rest.is_empty())?;
        Some(rest.iter().take(TOLD_MAX).cloned().collect())
    }
}

impl Core {
    pub(crate) async fn readdir(&self, handle: Handle, cookie: u64) -> Result<Vec<DirEntry>, Status> {
        let directory = self.handles.directory(handle)?;
        let ino = directory.ino;
        let op = self.op();
        let limit = if self.config.local { PAGE_LOCAL } else { PAGE_REMOTE };
        let asked = (self.attrs.asking_any(), self.entries.asking_any());
        let kept = if self.may_cache() {
            directory.page.lock().as_ref().and_then(|page| page.rest(cookie, asked))
        } else {
            None
        };
        if let Some(rest) = kept {
            return Ok(self.told(rest));
        }
        let mut entries = match self.link.query(&op, Query::ReadDir { ino, cookie, limit }).await {
            Ok(MetaReply::Entries { entries, .. }) => entries,
            Ok(_) => return Err(Status::Malformed),
            // The directory was removed while it was open: it has no entries.
            Err(Status::NotFound | Status::Stale) if !self.link.is_dead() => return Ok(Vec::new()),
            Err(status) => return Err(status),
        };
        if self.may_cache() {
            for entry in &entries {
                self.attrs.keep_any(asked.0, &entry.attr);
                self.entries.keep_any(asked.1, (ino, entry.name.clone()), Some(entry.attr.ino));
            }
            if entries.len() > TOLD_MAX {
                let told = entries.get(..TOLD_MAX).unwrap_or_default().to_vec();
                *directory.page.lock() = Some(Page { asked, entries: std::mem::replace(&mut entries, told) });
            }
        }
        Ok(self.told(entries))
    }

    /// With this mount's unsent writes in the attributes.
    fn told(&self, mut entries: Vec<DirEntry>) -> Vec<DirEntry> {
        for entry in &mut entries {
            let attr = entry.attr.clone();
            entry.attr = self.with_unsent(attr);
        }
        entries
    }

    pub(crate) async fn readdir_dots(&self, handle: Handle) -> Result<(Ino, Ino), Status> {
        let ino = self.handles.directory(handle)?.ino;
        let op = self.op();
        let attr = self.attr(&op, ino).await?;
        Ok((ino, attr.parent))
    }
}
