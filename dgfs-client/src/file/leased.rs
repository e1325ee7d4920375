//! What a mount may believe of an open file while other sessions exist, and the right to keep its writes back.
//!
//! Never believes what was answered before a recall. Always: pages that the kernel gets from a read are either leased, or
//! will be taken from it before the recall under way is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use dgfs_proto::attr::Attr;
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{Leasing, MetaReply, Query};
use dgfs_proto::status::Status;

use crate::cache::shards::Asked;
use crate::core::Core;
use crate::file::flush::Which;
use crate::file::slots::PAGE_SLOTS;
use crate::file::state::{Content, FileState};
use crate::file::write::Place;
use crate::operation::{Backoff, Op};

/// How long a read waits for metadata that are away before it is answered from what was seen last.
const AWAY: Duration = Duration::from_secs(1);

/// How often a file that must not be kept is asked for anew, before its pages are taken from the kernel after each read.
const UNKEPT_TRIES_MAX: u32 = 4;

/// How true what is known of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Current {
    /// Until it is recalled.
    Leased,
    /// It was a moment ago.
    Asked,
    /// Nobody could be asked.
    LastSeen,
}

impl Core {
    /// May what is known of a file be used without asking?
    fn knows(&self, file: &FileState) -> bool {
        let inner = file.inner.lock();
        !inner.doubtful && (self.link.sole() || (inner.leased && !self.link.lease_left().is_zero()))
    }

    /// May pages of a file be given to the kernel? They are leased, or will be taken from it again.
    pub(crate) fn may_give_pages(&self, file: &FileState) -> bool {
        self.knows(file) || self.under_recall.will_forget(file.ino)
    }

    /// Asks what a file holds, unless that is leased. While meta is away, open files stay readable as they were last seen.
    pub(crate) async fn be_current(self: &Arc<Self>, op: &Op, file: &FileState) -> Result<Current, Status> {
        let mut backoff = Backoff::new();
        for tries in 0.. {
            if self.knows(file) {
                return Ok(Current::Leased);
            }
            let readable = !matches!(file.inner.lock().content, Content::Unknown);
            let away = readable && self.link.lease_left().is_zero();
            let patience = if away { Op::within(AWAY, true) } else { *op };
            match self.ask_content(&patience, file, 0).await {
                Ok(true) => return Ok(Current::Leased),
                // It is about to change. Pages of it must not stay with the kernel.
                Ok(false) if self.under_recall.will_forget(file.ino) => return Ok(Current::Asked),
                // It changes all the time, or meta has no room to remember who knows it.
                Ok(false) if tries >= UNKEPT_TRIES_MAX => {
                    self.forget_pages_soon(file.ino);
                    return Ok(Current::Asked);
                }
                Ok(false) => backoff.pause(op).await?,
                Err(status) if away && status.is_transient() => return Ok(Current::LastSeen),
                Err(status) => return Err(status),
            }
        }
        Err(Status::Unavailable)
    }

    /// Asks for a page of slots (or the inline bytes) of a file; true when it is leased.
    pub(crate) async fn ask_content(&self, op: &Op, file: &FileState, first: u64) -> Result<bool, Status> {
        self.ask_contents(op, file, first, Vec::new()).await
    }

    /// As [`Self::ask_content`]; files that will be read next may come along with the first page.
    pub(crate) async fn ask_contents(
        &self,
        op: &Op,
        file: &FileState,
        first: u64,
        also: Vec<Ino>,
    ) -> Result<bool, Status> {
        let asked = self.attrs.asking();
        let contents = self.contents.asking();
        let count = u32::try_from(PAGE_SLOTS).unwrap_or(u32::MAX);
        let query = match also.is_empty() {
            true => Query::Content { ino: file.ino, first, count },
            false => Query::Contents { ino: file.ino, also },
        };
        let (reply, leasing) = self.link.ask(op, query).await;
        let (attr, content, also) = match reply? {
            MetaReply::Opened { attr, content } => (attr, content, Vec::new()),
            MetaReply::Contents { attr, content, also } => (attr, content, also),
            _ => return Err(Status::Malformed),
        };
        if self.may_cache() && !leasing.unkept {
            self.attrs.keep(asked, &attr);
            self.keep_contents(asked, contents, also);
        }
        let mut inner = file.inner.lock();
        if inner.doubtful && !self.attrs.unchanged(asked, file.ino) {
            // It may be from before what made it doubtful.
            return Ok(false);
        }
        inner.learn_page(attr, content);
        inner.leased = self.is_kept(asked, file, leasing);
        Ok(inner.leased)
    }

    /// Is an answer about a file leased, and was not recalled meanwhile? Asked with the file's state locked, so that a
    /// recall comes before or after.
    fn is_kept(&self, asked: Asked, file: &FileState, leasing: Leasing) -> bool {
        !leasing.unkept && self.attrs.unchanged(asked, file.ino)
    }

    /// A change of this mount was answered; what it allows. `since` is none when the answer must not be kept.
    pub(crate) fn learn_leasing(&self, file: &FileState, since: Option<Asked>, leasing: Leasing) {
        let mut inner = file.inner.lock();
        inner.leased = since.is_some_and(|since| self.is_kept(since, file, leasing));
        let writes = leasing.writes && inner.leased;
        if writes {
            inner.writes_kept = true;
            inner.contended = false;
        }
        inner.contended |= leasing.contended;
        drop(inner);
        if let (true, false, Some(since)) = (writes, self.link.sole(), since) {
            self.link.kept.grant([file.ino], || self.attrs.unchanged(since, file.ino));
        }
    }

    /// Asks for the right to keep writes of a file back; false when others have it open.
    pub(crate) async fn lease_writes(&self, op: &Op, file: &FileState) -> Result<bool, Status> {
        if file.inner.lock().contended {
            return Ok(false);
        }
        let asked = self.attrs.asking();
        let (reply, leasing) = self.link.ask(op, Query::LeaseWrites(file.ino)).await;
        let MetaReply::WritesLeased(answer) = reply? else { return Err(Status::Malformed) };
        let Some(attr) = answer else {
            file.inner.lock().contended = true;
            return Ok(false);
        };
        self.attrs.keep(asked, &attr);
        let mut inner = file.inner.lock();
        if self.is_kept(asked, file, leasing) {
            inner.learn_attr(&attr);
            inner.leased = true;
            inner.writes_kept = true;
        }
        drop(inner);
        self.link.kept.grant([file.ino], || !leasing.unkept && self.attrs.unchanged(asked, file.ino));
        Ok(true)
    }

    /// Takes a write that may not be kept back: it is in the file when this returns.
    pub(crate) async fn write_through(
        self: &Arc<Self>,
        op: &Op,
        file: &Arc<FileState>,
        place: Place,
        data: Bytes,
    ) -> Result<u32, Status> {
        // Reads of other programs meanwhile may bring pages of before.
        self.under_recall.begin_write(file.ino);
        let written = self.store_through(op, file, place, data).await;
        let quiet = self.under_recall.end_write(file.ino);
        if !quiet {
            self.forget_begun_pages(file.ino);
        } else if written.is_ok() && !self.may_give_pages(file) {
            // The kernel holds pages of the write.
            self.forget_pages_soon(file.ino);
        }
        written
    }

    async fn store_through(
        self: &Arc<Self>,
        op: &Op,
        file: &Arc<FileState>,
        place: Place,
        data: Bytes,
    ) -> Result<u32, Status> {
        match place {
            Place::End => self.append_shared(op, file, data).await,
            Place::At(offset) => {
                let written = u32::try_from(data.len()).map_err(|_| Status::Invalid)?;
                let _changing = self.lock_flush(op, file).await?;
                self.flush_locked(op, file, Which::All).await?;
                if !self.knows(file) {
                    file.inner.lock().forget_content();
                }
                let round = self.round_at(file, offset, &data, None)?;
                self.send_round(op, file, &round).await?;
                Ok(written)
            }
        }
    }

    /// Attributes of an own change of content, as far as they may be kept.
    pub(crate) fn settle_content(&self, asked: Asked, attr: &Attr, leasing: Leasing) -> Option<Asked> {
        self.pages.own_change(attr);
        if leasing.unkept {
            self.attrs.change(attr.ino);
            return None;
        }
        self.attrs.settle(asked, attr)
    }
}
