//! One operation's view of the rows: what it read, what it will change.
//!
//! Never commits: dropping a `Tx` takes everything back. Never waits: a row
//! that is not in memory ends the attempt with [`Stop::Need`].

use std::collections::BTreeMap;
use std::sync::Arc;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::chunk::{ChunkRef, VersionId};
use dgfs_proto::ids::{ChunkVersion, Ino, SessionId, TagId, Uuid};
use dgfs_proto::log::Change;
use dgfs_proto::name::{Name, name_hash};
use dgfs_proto::status::Status;

use crate::core::cache::RowCache;
use crate::core::catalogue::TagUse;
use crate::core::opens::Opens;
use crate::engine::{RowKey, RowRange};
use crate::rows::{Counters, DentryRow, HeldLock, InodeRow, Row, SLOTS_PER_ROW, key};

/// Why an attempt ended without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The answer is no.
    Refused(Status),
    /// These rows are needed first.
    Need(Need),
}

/// What must be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Rows by key.
    Rows(Vec<RowKey>),
    /// The first rows of a range.
    Range(RowRange),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

pub(crate) type Step<T> = Result<T, Stop>;

/// A range an engine brought for this attempt: memory now knows every row of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoadedRange {
    pub(crate) range: RowRange,
    /// The last sort that is surely known.
    pub(crate) known_to: u64,
}

/// One attempt at one operation.
pub(crate) struct Tx<'a> {
    pub(crate) cache: &'a mut RowCache,
    pub(crate) volume: Uuid,
    pub(crate) chunk_bytes: u32,
    pub(crate) inline_bytes_max: u32,
    pub(crate) now: Timestamp,
    pub(crate) session: Option<SessionId>,
    pub(crate) counters: Counters,
    pub(crate) writes: BTreeMap<RowKey, Option<Arc<Row>>>,
    pub(crate) changes: Vec<Change>,
    pub(crate) loaded: &'a [LoadedRange],
    /// Who has what open.
    pub(crate) opens: &'a Opens,
    /// Opens to register.
    pub(crate) opened: Vec<(Ino, u32)>,
    /// Opens to take back.
    pub(crate) released: Vec<(Ino, u32)>,
    /// The newest batch among the rows read: an answer must wait for it.
    pub(crate) observed: u64,
    /// Directories made here: known to be empty.
    pub(crate) new_directories: Vec<Ino>,
    /// Inodes whose locks were loosened: waiters try again.
    pub(crate) unlocked: Vec<Ino>,
    /// Garbage made here: number and version.
    pub(crate) garbage: Vec<(u64, VersionId)>,
    /// Inodes that lost their last name here and stay until their last close.
    pub(crate) orphaned: Vec<Ino>,
    /// Inodes freed here.
    pub(crate) freed: Vec<Ino>,
    /// When tags were given to an inode last.
    pub(crate) tag_use: &'a TagUse,
    /// Tags given to an inode here.
    pub(crate) tagged: Vec<TagId>,
    /// Only a part was done: commit it and apply the operation again.
    pub(crate) more: bool,
}

impl Tx<'_> {
    /// A row, with this attempt's own changes.
    pub(crate) fn row(&mut self, key: RowKey) -> Step<Option<Arc<Row>>> {
        if let Some(own) = self.writes.get(&key) {
            return Ok(own.clone());
        }
        match self.cache.get(key) {
            Some((row, ticket)) => {
                self.observed = self.observed.max(ticket);
                Ok(row)
            }
            None => Err(Stop::Need(Need::Rows(vec![key]))),
        }
    }

    /// Ends the attempt unless all `keys` are in memory, asking for all missing ones at once.
    pub(crate) fn want(&mut self, keys: &[RowKey]) -> Step<()> {
        let missing: Vec<RowKey> = keys
            .iter()
            .copied()
            .filter(|key| !self.writes.contains_key(key) && self.cache.get(*key).is_none())
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(Stop::Need(Need::Rows(missing))) }
    }

    /// As [`Tx::want`] for slot rows of a file of `size` bytes: a row wholly behind the end does not exist.
    pub(crate) fn want_slots(&mut self, ino: Ino, size: u64, keys: &[RowKey]) -> Step<()> {
        let end = size.div_ceil(u64::from(self.chunk_bytes)).div_ceil(SLOTS_PER_ROW);
        for key in keys.iter().filter(|key| key.partition == ino.get() && key.sort >= end) {
            self.cache.install(*key, None);
        }
        self.want(keys)
    }

    /// Changes a row.
    pub(crate) fn put(&mut self, key: RowKey, row: Row) {
        self.writes.insert(key, Some(Arc::new(row)));
    }

    /// Removes a row.
    pub(crate) fn delete(&mut self, key: RowKey) {
        self.writes.insert(key, None);
    }

    /// These tags were given to an inode.
    pub(crate) fn use_of_tags(&mut self, tags: &[TagId]) {
        self.tagged.extend_from_slice(tags);
    }

    /// An inode.
    pub(crate) fn inode(&mut self, ino: Ino) -> Step<InodeRow> {
        match self.row(key::inode(ino))?.as_deref() {
            Some(Row::Inode(row)) => Ok(row.clone()),
            Some(_) => Err(Status::Corrupt.into()),
            None => Err(Status::NotFound.into()),
        }
    }

    /// An inode a client refers to by number: gone means stale.
    pub(crate) fn live_inode(&mut self, ino: Ino) -> Step<InodeRow> {
        match self.inode(ino) {
            Err(Stop::Refused(Status::NotFound)) => Err(Status::Stale.into()),
            other => other,
        }
    }

    pub(crate) fn put_inode(&mut self, row: InodeRow) {
        self.put(key::inode(row.attr.ino), Row::Inode(row));
    }

    /// The order of a name in every directory.
    pub(crate) fn hash(&self, name: &Name) -> u64 {
        name_hash(self.volume, name.as_bytes())
    }

    /// The entries of a hash bucket.
    pub(crate) fn bucket(&mut self, parent: Ino, hash: u64) -> Step<Vec<DentryRow>> {
        match self.row(key::dentry(parent, hash))?.as_deref() {
            Some(Row::Dentries(entries)) => Ok(entries.clone()),
            Some(_) => Err(Status::Corrupt.into()),
            None => Ok(Vec::new()),
        }
    }

    /// An entry by name.
    pub(crate) fn dentry(&mut self, parent: Ino, name: &Name) -> Step<Option<DentryRow>> {
        let hash = self.hash(name);
        match self.row(key::dentry(parent, hash))?.as_deref() {
            Some(Row::Dentries(entries)) => Ok(entries.iter().find(|entry| entry.name == *name).cloned()),
            Some(_) => Err(Status::Corrupt.into()),
            None => Ok(None),
        }
    }

    /// Adds an entry that is not there yet; its cookie.
    pub(crate) fn add_dentry(&mut self, parent: Ino, name: &Name, target: &InodeRow) -> Step<u64> {
        let hash = self.hash(name);
        let mut entries = self.bucket(parent, hash)?;
        let slot = (0..=u8::MAX)
            .find(|slot| entries.iter().all(|entry| entry.slot != *slot))
            .ok_or(Stop::Refused(Status::NoSpace))?;
        entries.push(DentryRow { slot, name: name.clone(), ino: target.attr.ino, kind: target.attr.kind });
        self.put(key::dentry(parent, hash), Row::Dentries(entries));
        Ok(hash << 8 | u64::from(slot))
    }

    /// Removes an entry; its cookie.
    pub(crate) fn remove_dentry(&mut self, parent: Ino, name: &Name) -> Step<u64> {
        let hash = self.hash(name);
        let mut entries = self.bucket(parent, hash)?;
        let at = entries.iter().position(|entry| entry.name == *name).ok_or(Stop::Refused(Status::NotFound))?;
        let gone = entries.swap_remove(at);
        if entries.is_empty() {
            self.delete(key::dentry(parent, hash));
        } else {
            self.put(key::dentry(parent, hash), Row::Dentries(entries));
        }
        Ok(hash << 8 | u64::from(gone.slot))
    }

    /// Extended attributes.
    pub(crate) fn xattrs(&mut self, ino: Ino) -> Step<BTreeMap<Vec<u8>, Vec<u8>>> {
        match self.row(key::xattr(ino))?.as_deref() {
            Some(Row::Xattrs(all)) => Ok(all.clone()),
            Some(_) => Err(Status::Corrupt.into()),
            None => Ok(BTreeMap::new()),
        }
    }

    /// A file's inline bytes.
    pub(crate) fn inline(&mut self, ino: Ino) -> Step<Vec<u8>> {
        match self.row(key::inline(ino))?.as_deref() {
            Some(Row::Inline(bytes)) => Ok(bytes.clone()),
            Some(_) => Err(Status::Corrupt.into()),
            None => Ok(Vec::new()),
        }
    }

    /// The slots of the row that holds `index`.
    pub(crate) fn slot_row(&mut self, ino: Ino, index: u64) -> Step<Vec<(u8, ChunkRef)>> {
        match self.row(key::slots(ino, index))?.as_deref() {
            Some(Row::Slots(slots)) => Ok(slots.clone()),
            Some(_) => Err(Status::Corrupt.into()),
            None => Ok(Vec::new()),
        }
    }

    /// One chunk slot.
    pub(crate) fn slot(&mut self, ino: Ino, index: u64) -> Step<Option<ChunkRef>> {
        let at = (index % SLOTS_PER_ROW) as u8;
        let row = self.row(key::slots(ino, index))?;
        match row.as_deref() {
            Some(Row::Slots(slots)) => {
                Ok(slots.binary_search_by_key(&at, |slot| slot.0).ok().and_then(|i| slots.get(i)).map(|slot| slot.1))
            }
            Some(_) => Err(Status::Corrupt.into()),
            None => Ok(None),
        }
    }

    /// Sets one chunk slot.
    pub(crate) fn set_slot(&mut self, ino: Ino, index: u64, new: Option<ChunkRef>) -> Step<()> {
        let at = (index % SLOTS_PER_ROW) as u8;
        let mut slots = self.slot_row(ino, index)?;
        match (slots.binary_search_by_key(&at, |slot| slot.0), new) {
            (Ok(i), Some(new)) => {
                if let Some(slot) = slots.get_mut(i) {
                    slot.1 = new;
                }
            }
            (Ok(i), None) => {
                slots.remove(i);
            }
            (Err(i), Some(new)) => slots.insert(i, (at, new)),
            (Err(_), None) => return Ok(()),
        }
        if slots.is_empty() {
            self.delete(key::slots(ino, index));
        } else {
            self.put(key::slots(ino, index), Row::Slots(slots));
        }
        Ok(())
    }

    /// Locks held on an inode.
    pub(crate) fn locks(&mut self, ino: Ino) -> Step<Vec<HeldLock>> {
        match self.row(key::lock(ino))?.as_deref() {
            Some(Row::Locks(locks)) => Ok(locks.clone()),
            Some(_) => Err(Status::Corrupt.into()),
            None => Ok(Vec::new()),
        }
    }

    /// Other slots refer to the same version: one more does now.
    pub(crate) fn share(&mut self, version: ChunkVersion) -> Step<()> {
        let count = match self.shared_count(version)? {
            Some(count) => count,
            None => {
                self.counters.shares += 1;
                1
            }
        };
        self.put(key::shared(version), Row::Shared(count.saturating_add(1)));
        Ok(())
    }

    /// How many slots refer to a version that was shared; none when it never was.
    pub(crate) fn shared_count(&mut self, version: ChunkVersion) -> Step<Option<u32>> {
        if self.counters.shares == 0 {
            return Ok(None);
        }
        match self.row(key::shared(version))?.as_deref() {
            Some(Row::Shared(count)) => Ok(Some(*count)),
            Some(_) => Err(Status::Corrupt.into()),
            None => Ok(None),
        }
    }

    /// A slot refers to a version no more: garbage, unless others do.
    pub(crate) fn unrefer(&mut self, gone: ChunkRef) -> Step<()> {
        match self.shared_count(gone.version)? {
            Some(count) if count > 1 => {
                self.put(key::shared(gone.version), Row::Shared(count - 1));
                return Ok(());
            }
            Some(_) => {
                self.delete(key::shared(gone.version));
                self.counters.shares = self.counters.shares.saturating_sub(1);
            }
            None => {}
        }
        let number = self.counters.next_garbage;
        self.counters.next_garbage += 1;
        let id = VersionId { chunk: gone.chunk, version: gone.version };
        self.put(key::garbage(number), Row::Garbage(id));
        self.garbage.push((number, id));
        Ok(())
    }

    /// Was this range brought for this attempt? The last sort that is surely in memory.
    pub(crate) fn known_range(&self, wanted: RowRange) -> Option<u64> {
        self.loaded.iter().find(|loaded| loaded.range == wanted).map(|loaded| loaded.known_to)
    }
}
