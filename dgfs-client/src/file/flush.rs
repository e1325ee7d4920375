//! Sends unsent writes: seals a round of chunks, stores them, commits them in one call.
//!
//! Never loses a byte to a failure that may pass. Always: one round of a file at a time, so per chunk at most one
//! version is under way; a file's flush lock is held throughout.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use dgfs_proto::attr::{Attr, Timestamp};
use dgfs_proto::limits::EDITS_MAX;
use dgfs_proto::meta::{Commit, Leasing, Mutation, NewContent, SlotEdit};
use dgfs_proto::status::Status;

use crate::cache::shards::Asked;
use crate::core::Core;
use crate::file::dirty::{DirtyChunk, Sealed};
use crate::file::put::{ChunkChange, data_patch};
use crate::file::slots::{PAGE_SLOTS, Slot, Slots};
use crate::file::state::{Content, FileState, Inner};
use crate::meta_link::attr_of;
use crate::metrics::count;
use crate::operation::{Backoff, Op};

/// Bytes sealed in one round.
const ROUND_BYTES_MAX: u64 = 64 << 20;
/// How often a commit is rebased on what other writers did before the writer is told.
const REBASES_MAX: usize = 64;

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Everything written before this moment.
    All,
    /// Chunks that are written from end to end.
    Full,
}

/// Chunks sealed together, to be committed by one call.
pub(crate) struct Round {
    pub(crate) chunks: Vec<(u64, Arc<Sealed>)>,
    /// End of the last byte in it.
    pub(crate) end: u64,
    pub(crate) written_at: Timestamp,
    /// Commit only if the file has this size.
    pub(crate) size_expected: Option<u64>,
}

/// How a round becomes part of the file.
enum Plan {
    Inline { bytes: Bytes, base_data_version: u64 },
    Slots { inline_base: Option<u64>, changes: Vec<ChunkChange>, planned_at: u64 },
}

/// What a commit comes from and leads to.
pub(crate) struct After {
    /// All the content, if it is inline then.
    pub(crate) inline: Option<Bytes>,
    /// The data version that it was planned for, if it is of one.
    pub(crate) planned_at: Option<u64>,
}

impl Core {
    /// Takes the right to change the committed content of a file.
    pub(crate) async fn lock_flush<'a>(
        &self,
        op: &Op,
        file: &'a FileState,
    ) -> Result<tokio::sync::MutexGuard<'a, ()>, Status> {
        if let Ok(guard) = file.flush.try_lock() {
            return Ok(guard);
        }
        let patience = op.left(std::time::Duration::from_secs(24 * 3600));
        tokio::time::timeout(patience, file.flush.lock()).await.map_err(|_| Status::Unavailable)
    }

    /// Sends unsent writes of a file.
    pub(crate) async fn flush_file(
        self: &Arc<Self>,
        op: &Op,
        file: &Arc<FileState>,
        which: Which,
    ) -> Result<(), Status> {
        if !file.inner.lock().is_dirty() {
            return Ok(());
        }
        let _changing = self.lock_flush(op, file).await?;
        self.flush_locked(op, file, which).await
    }

    /// As [`Self::flush_file`], by the holder of the flush lock.
    pub(crate) async fn flush_locked(
        self: &Arc<Self>,
        op: &Op,
        file: &Arc<FileState>,
        which: Which,
    ) -> Result<(), Status> {
        let until = {
            let mut inner = file.inner.lock();
            // A round whose sender was dropped half way: its bytes are sent again under new versions.
            self.take_back(&mut inner);
            inner.writes
        };
        loop {
            let Some(round) = file.inner.lock().seal_round(which, until) else { break };
            if let Err(status) = self.send_round(op, file, &round).await {
                self.not_sent(file, status)?;
            }
        }
        if which == Which::All {
            self.dirty.settle(file);
        }
        Ok(())
    }

    /// Stores and commits one round, rebasing it when other writers were first.
    pub(crate) async fn send_round(
        self: &Arc<Self>,
        op: &Op,
        file: &Arc<FileState>,
        round: &Round,
    ) -> Result<(), Status> {
        let mut backoff = Backoff::new();
        for rebase in 0..REBASES_MAX {
            match self.try_round(op, file, round).await {
                Err(Status::Conflict | Status::NoVersion) if round.size_expected.is_none() => {
                    count(&self.counters.conflicts);
                    file.inner.lock().forget_content();
                    if rebase > 2 {
                        backoff.pause(op).await?;
                    }
                }
                other => return other,
            }
        }
        tracing::error!(ino = file.ino.get(), "a write was overtaken by other writers again and again");
        Err(Status::Io)
    }

    async fn try_round(self: &Arc<Self>, op: &Op, file: &Arc<FileState>, round: &Round) -> Result<(), Status> {
        let (content, after) = match self.plan(op, file, round).await? {
            Plan::Inline { bytes, base_data_version } => {
                let content = NewContent::Inline { base_data_version, bytes: bytes.to_vec() };
                (content, After { inline: Some(bytes), planned_at: Some(base_data_version) })
            }
            Plan::Slots { inline_base, changes, planned_at } => {
                let edits = self.put_all(op, file.ino, changes).await?;
                (NewContent::Slots { inline_base, edits }, After { inline: None, planned_at: Some(planned_at) })
            }
        };
        let commit = Commit {
            ino: file.ino,
            content,
            size_at_least: round.end,
            size_expected: round.size_expected,
            mtime: round.written_at,
            policies: self.stores.map().policies,
        };
        let mut inner = self.commit(op, file, commit, after).await?;
        let mut held = 0;
        for (index, _) in &round.chunks {
            held += inner.flying.remove(index).map_or(0, |sealed| sealed.held);
        }
        drop(inner);
        self.budget.change(held, 0);
        Ok(())
    }

    /// Commits; what is known of the file afterwards, locked.
    pub(crate) async fn commit<'a>(
        &self,
        op: &Op,
        file: &'a FileState,
        commit: Commit,
        after: After,
    ) -> Result<parking_lot::MutexGuard<'a, Inner>, Status> {
        let edits = match &commit.content {
            NewContent::Slots { edits, .. } => edits.clone(),
            NewContent::Inline { .. } => Vec::new(),
        };
        let (attr, since, leasing) = self.send_commit(op, file, commit, after.planned_at).await?;
        self.learn_leasing(file, since, leasing);
        let mut inner = file.inner.lock();
        // What was foretold may have been given up meanwhile.
        if since.is_some_and(|since| !self.attrs.unchanged(since, file.ino)) {
            inner.doubt();
        } else if inner.own_change(&attr) {
            inner.landed(after.inline, &edits);
        }
        Ok(inner)
    }

    /// Sends a commit; the attributes after it, since when they are known, and what the answer allows.
    async fn send_commit(
        &self,
        op: &Op,
        file: &FileState,
        commit: Commit,
        planned_at: Option<u64>,
    ) -> Result<(Attr, Option<Asked>, Leasing), Status> {
        let ino = commit.ino;
        if let Some((attr, since, count)) = self.keep_commit(&commit, planned_at) {
            file.kept.fetch_max(count, Ordering::AcqRel);
            return Ok((attr, since, Leasing { writes: true, ..Leasing::default() }));
        }
        let asked = self.attrs.asking();
        let (reply, leasing, _changing) = self.link.change(op, Mutation::Commit(commit)).await;
        let attr = match reply {
            Ok(reply) => attr_of(reply),
            Err(Status::OldMap) => {
                // The policy of its directory changed: what was stored is stored again, as it says now.
                self.forget_policy_of(ino);
                self.refresh_map(op).await?;
                Err(Status::Conflict)
            }
            Err(status) => Err(status),
        };
        match attr {
            Ok(attr) => {
                let since = self.settle_content(asked, &attr, leasing);
                Ok((attr, since, leasing))
            }
            Err(status) => {
                self.attrs.change(ino);
                Err(status)
            }
        }
    }

    async fn plan(self: &Arc<Self>, op: &Op, file: &Arc<FileState>, round: &Round) -> Result<Plan, Status> {
        loop {
            let planned = file.inner.lock().plan(round, self.volume.inline_bytes_max);
            match planned {
                Ok(plan) => return Ok(plan),
                Err(page) => self.load_page(op, file, page).await?,
            }
            if op.expired() {
                return Err(Status::Unavailable);
            }
        }
    }

    /// Asks meta for the page of slots (or the inline bytes) of a file that `missing` names, unless somebody else has just
    /// learnt it.
    pub(crate) async fn load_missing_page(
        &self,
        op: &Op,
        file: &FileState,
        missing: impl Fn(&Inner) -> Option<u64>,
    ) -> Result<(), Status> {
        let patience = op.left(std::time::Duration::from_secs(24 * 3600));
        let asking = tokio::time::timeout(patience, file.asking.lock()).await;
        let _asking = asking.map_err(|_| Status::Unavailable)?;
        let page = missing(&file.inner.lock());
        match page {
            Some(0) => {
                let attr = file.inner.lock().attr.clone();
                self.ask_contents(op, file, 0, self.expected_next(&attr)).await.map(drop)
            }
            Some(first) => self.load_page(op, file, first).await,
            None => Ok(()),
        }
    }

    /// Asks meta for a page of slots (or the inline bytes) of a file.
    pub(crate) async fn load_page(&self, op: &Op, file: &FileState, first: u64) -> Result<(), Status> {
        self.ask_content(op, file, first).await.map(drop)
    }

    /// A round could not be sent: kept when that may pass, given up when not. No error when nobody can miss its bytes: the
    /// file had lost its name, and its last close overtook them.
    fn not_sent(&self, file: &FileState, status: Status) -> Result<(), Status> {
        let mut inner = file.inner.lock();
        if status.is_transient() && !self.link.is_dead() {
            self.take_back(&mut inner);
            return Err(status);
        }
        let flying = std::mem::take(&mut inner.flying);
        let held = flying.values().map(|sealed| sealed.held).sum();
        let gone = file.nameless.load(Ordering::Acquire) && matches!(status, Status::Stale | Status::NotFound);
        if !gone {
            inner.fail(status);
            count(&self.counters.write_errors);
            let bytes: usize = flying.values().map(|sealed| sealed.body.len()).sum();
            tracing::error!(ino = file.ino.get(), bytes, %status, "written bytes are lost: they could not be stored");
        }
        drop(inner);
        self.budget.change(held, 0);
        self.dirty.settle(file);
        if gone && file.opens.load(Ordering::Acquire) == 0 { Ok(()) } else { Err(status) }
    }

    /// Puts what is flying back under what was written since.
    fn take_back(&self, inner: &mut Inner) {
        if inner.flying.is_empty() {
            return;
        }
        let (chunk_bytes, mut before, mut after) = (inner.chunk_bytes, 0, 0);
        for (index, sealed) in std::mem::take(&mut inner.flying) {
            let chunk = inner.dirty.entry(index).or_insert_with(|| DirtyChunk::new(sealed.born, sealed.since));
            before += sealed.held + chunk.held();
            chunk.put_under(&sealed, chunk_bytes);
            after += chunk.held();
        }
        self.budget.change(before, after);
    }
}

impl Inner {
    /// Takes chunks to be sent together out of `dirty`; `None` when there is nothing to send.
    fn seal_round(&mut self, which: Which, until: u64) -> Option<Round> {
        let wanted = |chunk: &DirtyChunk| match which {
            Which::All => chunk.born <= until,
            Which::Full => chunk.is_full(self.chunk_bytes),
        };
        let mut bytes = 0;
        let mut indexes = Vec::new();
        for (index, chunk) in self.dirty.iter().filter(|(_, chunk)| wanted(chunk)) {
            // One edit is left for the first chunk, which may have to carry inline bytes.
            if indexes.len() + 1 >= EDITS_MAX || (bytes > 0 && bytes + chunk.held() > ROUND_BYTES_MAX) {
                break;
            }
            bytes += chunk.held();
            indexes.push(*index);
        }
        let mut round = Round { chunks: Vec::new(), end: 0, written_at: self.written_at, size_expected: None };
        for index in indexes {
            let Some(chunk) = self.dirty.remove(&index) else { continue };
            let (sealed, rest) = chunk.seal();
            if let Some(rest) = rest {
                self.dirty.insert(index, rest);
            }
            round.end = round.end.max(index * u64::from(self.chunk_bytes) + u64::from(sealed.end()));
            let sealed = Arc::new(sealed);
            self.flying.insert(index, Arc::clone(&sealed));
            round.chunks.push((index, sealed));
        }
        (!round.chunks.is_empty()).then_some(round)
    }

    /// Decides how a round is committed; the page of slots to ask for when something is not known.
    fn plan(&self, round: &Round, inline_bytes_max: u32) -> Result<Plan, u64> {
        match &self.content {
            Content::Unknown => Err(round.chunks.first().map_or(0, |(index, _)| index / PAGE_SLOTS * PAGE_SLOTS)),
            Content::Inline(bytes) if self.size().max(round.end) <= u64::from(inline_bytes_max) => {
                let bytes = self.inline_with(bytes, round);
                Ok(Plan::Inline { bytes, base_data_version: self.attr.data_version })
            }
            Content::Inline(bytes) => {
                let changes = spill(bytes, round, self.chunk_bytes);
                Ok(Plan::Slots {
                    inline_base: Some(self.attr.data_version),
                    changes,
                    planned_at: self.attr.data_version,
                })
            }
            Content::Slots(slots) => {
                let changes = round.chunks.iter().map(|(index, sealed)| match slots.get(*index) {
                    Slot::Known(old) => Ok(change_of(*index, sealed, old)),
                    Slot::Unknown(page) => Err(page),
                });
                let changes = changes.collect::<Result<_, _>>()?;
                Ok(Plan::Slots { inline_base: None, changes, planned_at: self.attr.data_version })
            }
        }
    }

    /// The whole of a small file with the round's bytes in it.
    fn inline_with(&self, committed: &[u8], round: &Round) -> Bytes {
        let end = usize::try_from(round.end).unwrap_or(0);
        let mut bytes = BytesMut::zeroed(committed.len().max(end));
        if let Some(target) = bytes.get_mut(..committed.len()) {
            target.copy_from_slice(committed);
        }
        for (_, sealed) in &round.chunks {
            sealed.overlay(0, &mut bytes);
        }
        bytes.freeze()
    }

    /// The round is committed and nobody else changed the file in between.
    pub(crate) fn landed(&mut self, inline: Option<Bytes>, edits: &[SlotEdit]) {
        if let Some(bytes) = inline {
            self.content = Content::Inline(bytes);
            return;
        }
        if matches!(self.content, Content::Inline(_)) {
            self.content = Content::Slots(Slots::default());
        }
        if let Content::Slots(slots) = &mut self.content {
            for edit in edits {
                slots.set(edit.index, edit.new);
            }
        }
    }
}

fn change_of(index: u64, sealed: &Sealed, old: Option<dgfs_proto::chunk::ChunkRef>) -> ChunkChange {
    let patches = sealed.patches.iter().map(|(offset, bytes)| data_patch(*offset, bytes)).collect();
    ChunkChange { index, old, patches, body: sealed.body.clone(), was: None }
}

/// The chunks of a file that stops being inline: the first one carries the inline bytes too.
fn spill(inline: &[u8], round: &Round, chunk_bytes: u32) -> Vec<ChunkChange> {
    let mut changes: Vec<ChunkChange> =
        round.chunks.iter().map(|(index, sealed)| change_of(*index, sealed, None)).collect();
    if inline.is_empty() {
        return changes;
    }
    let mut first = DirtyChunk::new(0, std::time::Instant::now());
    first.write(0, inline, chunk_bytes);
    for (_, sealed) in round.chunks.iter().filter(|(index, _)| *index == 0) {
        for (offset, bytes) in &sealed.patches {
            first.write(*offset, bytes, chunk_bytes);
        }
    }
    let (sealed, _) = first.seal();
    changes.retain(|change| change.index != 0);
    changes.insert(0, change_of(0, &sealed, None));
    changes
}
