//! Directory handles and pages of entries.
//!
//! Cookies are meta's and stay good whatever happens to the directory. What the kernel had no room for is kept for its next
//! request, but only by a sole mount, and only until something in the page changes: what is told is true when it is told.

use std::sync::Arc;

use dgfs_proto::ids::Ino;
use dgfs_proto::limits::READDIR_PAGE_MAX;
use dgfs_proto::meta::{DirEntry, Leasing, MetaReply, Query};
use dgfs_proto::name::name_hash;
use dgfs_proto::status::Status;

use crate::cache::shards::Asked;
use crate::core::Core;
use crate::names::AskedNames;
use crate::operation::Op;
use crate::vfs::{Handle, Listed, Since};

/// Entries asked for in one call. In process a page costs no round trip, so it need not hold more than one kernel reply.
const PAGE_LOCAL: u32 = 128;
const PAGE_REMOTE: u32 = 512;
const _: () = assert!(PAGE_REMOTE <= READDIR_PAGE_MAX);

/// Entries handed out at once: about what one kernel reply holds.
const TOLD_MAX: usize = 160;
/// A directory with more entries is not read as a whole for the sake of single look-ups.
const WHOLE_MAX: u64 = 16 << 10;

/// Entries fetched ahead of the kernel's requests.
pub(crate) struct Page {
    asked: AskedNames,
    entries: Vec<DirEntry>,
    /// The cookie behind which nothing follows, if the end was reached.
    end: Option<u64>,
}

/// A reading from the first entry on, without a gap.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    since: Asked,
    next: u64,
}

fn since_of(directory: Ino, asked: AskedNames) -> Since {
    Since { attrs: Some(asked.attrs), names: Some((directory, asked.entries)) }
}

impl Page {
    /// The entries behind `cookie`, if the page has them and they are still true.
    fn rest(&self, core: &Core, ino: Ino, cookie: u64) -> Option<(Vec<DirEntry>, AskedNames)> {
        if self.end == Some(cookie) {
            return core.entries.unchanged(self.asked.entries, ino).then(|| (Vec::new(), self.asked));
        }
        let known = self.entries.first().is_some_and(|first| first.cookie <= cookie);
        let start = self.entries.partition_point(|entry| entry.cookie <= cookie);
        let rest = self.entries.get(start..).filter(|rest| known && !rest.is_empty())?;
        let rest = rest.get(..TOLD_MAX.min(rest.len()))?;
        let still = core.entries.unchanged(self.asked.entries, ino)
            && rest.iter().all(|entry| core.attrs.unchanged(self.asked.attrs, entry.attr.ino));
        still.then(|| (rest.to_vec(), self.asked))
    }
}

impl Core {
    pub(crate) async fn readdir(&self, handle: Handle, cookie: u64) -> Result<Listed, Status> {
        let directory = self.handles.directory(handle)?;
        let ino = directory.ino;
        let op = self.op();
        let limit = if self.config.local { PAGE_LOCAL } else { PAGE_REMOTE };
        let kept = if self.may_cache() {
            directory.page.lock().as_ref().and_then(|page| page.rest(self, ino, cookie))
        } else {
            None
        };
        if let Some((rest, since)) = kept {
            return Ok(Listed { entries: self.told(rest), since: since_of(ino, since) });
        }
        let asked = self.asking();
        if cookie == 0
            && let Some(entries) = self.list_known(ino)
        {
            let end = Some(entries.last().map_or(0, |last| last.cookie));
            let told = entries.get(..TOLD_MAX.min(entries.len())).unwrap_or_default().to_vec();
            *directory.page.lock() = Some(Page { asked, entries, end });
            return Ok(Listed { entries: self.told(told), since: since_of(ino, asked) });
        }
        let fetched = match self.fetch_page(&op, ino, cookie, limit).await {
            // The directory was removed while it was open: it has no entries.
            Err(Status::NotFound | Status::Stale) if !self.link.is_dead() => {
                return Ok(Listed { entries: Vec::new(), since: Since::default() });
            }
            fetched => fetched?,
        };
        let (mut entries, end, leasing) = fetched;
        let kept = self.may_cache() && !leasing.unkept;
        if kept {
            self.keep_page(asked, ino, &entries);
            let mut reading = directory.reading.lock();
            let since = match *reading {
                _ if cookie == 0 => Some(asked.entries),
                Some(reading) if reading.next == cookie => Some(reading.since),
                Some(_) | None => None,
            };
            if let (Some(since), true) = (since, end) {
                self.entries.completed(since, ino);
            }
            *reading = since.zip(entries.last()).map(|(since, last)| Reading { since, next: last.cookie });
            drop(reading);
            let end = end.then(|| entries.last().map_or(cookie, |last| last.cookie));
            let told = entries.get(..TOLD_MAX.min(entries.len())).unwrap_or_default().to_vec();
            *directory.page.lock() = Some(Page { asked, entries: std::mem::replace(&mut entries, told), end });
        }
        let since = if kept { since_of(ino, asked) } else { Since::default() };
        Ok(Listed { entries: self.told(entries), since })
    }

    /// All entries of a directory, in the order of their cookies, if everything about them is known.
    fn list_known(&self, ino: Ino) -> Option<Vec<DirEntry>> {
        if !self.may_cache() {
            return None;
        }
        let mut entries = Vec::new();
        for (name, child) in self.entries.all(ino, WHOLE_MAX as usize)? {
            // The slot tells names of one hash apart: as long as there are none, it is the first.
            let cookie = name_hash(self.volume.uuid, name.as_bytes()) << 8;
            entries.push(DirEntry { cookie, name, attr: self.attrs.get(child)? });
        }
        entries.sort_unstable_by_key(|entry| entry.cookie);
        let alone = entries.windows(2).all(|pair| matches!(pair, [one, next] if one.cookie != next.cookie));
        alone.then_some(entries)
    }

    async fn fetch_page(
        &self,
        op: &Op,
        ino: Ino,
        cookie: u64,
        limit: u32,
    ) -> Result<(Vec<DirEntry>, bool, Leasing), Status> {
        let (reply, leasing) = self.link.ask(op, Query::ReadDir { ino, cookie, limit }).await;
        match reply? {
            MetaReply::Entries { entries, end } => Ok((entries, end, leasing)),
            _ => Err(Status::Malformed),
        }
    }

    fn keep_page(&self, asked: AskedNames, ino: Ino, entries: &[DirEntry]) {
        for entry in entries {
            self.attrs.keep(asked.attrs, &entry.attr);
            self.entries.keep(asked.entries, ino, entry.name.clone(), Some(entry.attr.ino));
        }
    }

    /// Reads a directory as a whole in the background: many of its names are being asked for one by one.
    pub(crate) fn read_whole(self: &Arc<Self>, ino: Ino) {
        let Ok(permit) = Arc::clone(&self.prefetches).try_acquire_owned() else { return };
        let core = Arc::clone(self);
        self.runtime.spawn(async move {
            let _permit = permit;
            if let Err(status) = core.fetch_whole(ino).await {
                tracing::debug!(ino = ino.get(), %status, "a directory could not be read ahead");
            }
        });
    }

    async fn fetch_whole(&self, ino: Ino) -> Result<(), Status> {
        let op = self.background_op();
        if self.attr(&op, ino).await?.size > WHOLE_MAX {
            return Ok(());
        }
        let since = self.entries.asking();
        let mut cookie = 0;
        // Bounded although the directory may grow meanwhile.
        for _ in 0..=WHOLE_MAX / u64::from(PAGE_REMOTE) {
            let asked = self.asking();
            let (entries, end, leasing) = self.fetch_page(&op, ino, cookie, PAGE_REMOTE).await?;
            if !self.may_cache() || leasing.unkept || !self.entries.unchanged(since, ino) {
                return Ok(());
            }
            self.keep_page(asked, ino, &entries);
            let Some(last) = entries.last().filter(|_| !end) else {
                self.entries.completed(since, ino);
                return Ok(());
            };
            cookie = last.cookie;
        }
        Ok(())
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
