//! Directory handles and pages of entries.
//!
//! Never keeps a page: cookies are meta's and stay good whatever happens to the directory.

use dgfs_proto::ids::Ino;
use dgfs_proto::limits::READDIR_PAGE_MAX;
use dgfs_proto::meta::{DirEntry, MetaReply, Query};
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::vfs::Handle;

/// Entries asked for in one call. In process a page costs no round trip, so it need not hold more than one kernel reply.
const PAGE_LOCAL: u32 = 128;
const PAGE_REMOTE: u32 = 512;
const _: () = assert!(PAGE_REMOTE <= READDIR_PAGE_MAX);

impl Core {
    pub(crate) async fn readdir(&self, handle: Handle, cookie: u64) -> Result<Vec<DirEntry>, Status> {
        let ino = self.handles.directory(handle)?;
        let op = self.op();
        let limit = if self.config.local { PAGE_LOCAL } else { PAGE_REMOTE };
        let (asked_attrs, asked_entries) = (self.attrs.asking_any(), self.entries.asking_any());
        let mut entries = match self.link.query(&op, Query::ReadDir { ino, cookie, limit }).await {
            Ok(MetaReply::Entries { entries, .. }) => entries,
            Ok(_) => return Err(Status::Malformed),
            // The directory was removed while it was open: it has no entries.
            Err(Status::NotFound | Status::Stale) if !self.link.is_dead() => return Ok(Vec::new()),
            Err(status) => return Err(status),
        };
        for entry in &mut entries {
            if self.may_cache() {
                self.attrs.keep_any(asked_attrs, &entry.attr);
                self.entries.keep_any(asked_entries, (ino, entry.name.clone()), Some(entry.attr.ino));
            }
            let attr = entry.attr.clone();
            entry.attr = self.with_unsent(attr);
        }
        Ok(entries)
    }

    pub(crate) async fn readdir_dots(&self, handle: Handle) -> Result<(Ino, Ino), Status> {
        let ino = self.handles.directory(handle)?;
        let op = self.op();
        let attr = self.attr(&op, ino).await?;
        Ok((ino, attr.parent))
    }
}
