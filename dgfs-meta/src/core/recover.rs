//! After a power cut of an embedded volume: content changes whose bytes did
//! not survive are taken back, newest first.
//!
//! Runs before the first session, over the events after the last mark at which
//! all data were known to be synced.

use std::collections::BTreeSet;

use dgfs_proto::attr::{AttrFlags, Timestamp};
use dgfs_proto::chunk::VersionId;
use dgfs_proto::ids::{Ino, Seq};
use dgfs_proto::log::{Change, DataChange, Event};
use dgfs_proto::meta::ConsumerStatus;
use dgfs_proto::status::Status;

use crate::core::ops::commit::replace;
use crate::core::ops::truncate::count_size;
use crate::core::tx::{Step, Stop, Tx};
use crate::core::{Core, Outcome};
use crate::rows::{ConsumerRow, Row, key};

/// Followers of the log of one volume.
const CONSUMERS_MAX: usize = 64;
/// Events that are kept for a consumer that does not come; one that comes later builds what it has anew, which takes less
/// time than reading more of them.
const CONSUMER_LAG_MAX: u64 = 2_000_000;

/// Versions that events refer to as new content.
pub(crate) fn versions_named(events: &[Event]) -> Vec<VersionId> {
    let mut named = BTreeSet::new();
    for event in events {
        if let Change::Data(change) = &event.change {
            let new = change.slots.iter().filter_map(|slot| slot.new);
            named.extend(new.map(|slot| VersionId { chunk: slot.chunk, version: slot.version }));
        }
    }
    named.into_iter().collect()
}

/// The changes to take back, newest first: of each file everything from the first change on whose bytes are lost.
pub(crate) fn changes_to_undo(events: &[Event], lost: &BTreeSet<VersionId>) -> Vec<(Seq, DataChange)> {
    let is_lost = |change: &DataChange| {
        change
            .slots
            .iter()
            .filter_map(|slot| slot.new)
            .any(|slot| lost.contains(&VersionId { chunk: slot.chunk, version: slot.version }))
    };
    let mut damaged = BTreeSet::new();
    let mut undo = Vec::new();
    for event in events {
        if let Change::Data(change) = &event.change
            && (damaged.contains(&change.ino) || is_lost(change))
        {
            damaged.insert(change.ino);
            undo.push((event.seq, change.clone()));
        }
    }
    undo.reverse();
    undo
}

impl Core {
    /// Takes one change back.
    pub(crate) fn undo(&mut self, now: Timestamp, change: &DataChange) -> Outcome {
        match self.run(now, None, |tx| undo(tx, change)) {
            Ok((_, ticket, _)) => Outcome::Answer { reply: dgfs_proto::meta::MetaReply::Done, ticket },
            Err(Stop::Need(need)) => Outcome::Need(need),
            Err(Stop::Refused(status)) => {
                Outcome::Answer { reply: dgfs_proto::meta::MetaReply::Refused(status), ticket: 0 }
            }
        }
    }

    /// All data of events up to `seq` are synced.
    pub(crate) fn set_data_synced(&mut self, seq: Seq) {
        if self.counters.data_synced < seq {
            self.counters.data_synced = seq;
            self.counters_dirty = true;
        }
    }

    /// Remembers how far a consumer has come.
    pub(crate) fn register_consumer(&mut self, name: &str, seq: Seq, now: Timestamp) -> Result<(), Status> {
        let hash = dgfs_proto::name::name_hash(self.volume.uuid, name.as_bytes());
        if !self.consumers.contains_key(&hash) && self.consumers.len() >= CONSUMERS_MAX {
            return Err(Status::Busy);
        }
        let row = ConsumerRow { name: name.to_owned(), seq, seen: now };
        self.consumers.insert(hash, row.clone());
        self.pending.rows.insert(key::consumer(hash), Some(std::sync::Arc::new(Row::Consumer(row))));
        Ok(())
    }

    /// Who follows the log, and how far.
    pub(crate) fn consumer_list(&self, now: Timestamp) -> Vec<ConsumerStatus> {
        let idle = |row: &ConsumerRow| now.as_ms().saturating_sub(row.seen.as_ms());
        let status = |row: &ConsumerRow| ConsumerStatus { name: row.name.clone(), seq: row.seq, idle_ms: idle(row) };
        let mut all: Vec<ConsumerStatus> = self.consumers.values().map(status).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Events that every consumer has carried out and recovery does not need: their rows go, a bounded number.
    pub(crate) fn trim_log(&mut self, keep: u64, rows_max: u64) {
        let late = |row: &ConsumerRow| row.seq.0 + CONSUMER_LAG_MAX < self.counters.seq.0;
        let late: Vec<u64> = self.consumers.iter().filter(|(_, row)| late(row)).map(|(hash, _)| *hash).collect();
        for hash in late {
            self.consumers.remove(&hash);
            self.pending.rows.insert(key::consumer(hash), None);
        }
        // The last event that a consumer has carried out stays: by it, it knows that the log is still the one it followed.
        let consumers = self.consumers.values().map(|row| row.seq.0.saturating_sub(1)).min().unwrap_or(u64::MAX);
        let behind = self.counters.seq.0.saturating_sub(keep);
        let to = behind.min(consumers).min(self.counters.data_synced.0).min(self.counters.trimmed.0 + rows_max);
        for seq in self.counters.trimmed.0 + 1..=to {
            self.pending.rows.insert(key::event(Seq(seq)), None);
        }
        if to > self.counters.trimmed.0 {
            self.counters.trimmed = Seq(to);
            self.counters_dirty = true;
        }
    }
}

fn undo(tx: &mut Tx<'_>, change: &DataChange) -> Step<()> {
    let ino: Ino = change.ino;
    let mut row = match tx.inode(ino) {
        // Freed later: there is nothing to mend.
        Err(Stop::Refused(Status::NotFound)) => return Ok(()),
        other => other?,
    };
    let size_before = row.attr.size;
    for slot in &change.slots {
        let now = tx.slot(ino, slot.index)?;
        tx.set_slot(ino, slot.index, slot.old)?;
        replace(tx, &mut row, now, slot.old)?;
    }
    if let Some(bytes) = &change.old_inline {
        tx.put(key::inline(ino), Row::Inline(bytes.clone()));
        row.attr.flags.set(AttrFlags::INLINE, true);
    }
    row.attr.size = change.old_size;
    row.attr.mtime = change.old_mtime;
    row.attr.data_version += 1;
    count_size(tx, &row, size_before)?;
    tx.put_inode(row);
    Ok(())
}
