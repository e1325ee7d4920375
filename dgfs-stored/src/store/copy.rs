//! Whole versions out to other servers, and in from them.
//!
//! Never changes what a version's bytes are. Always: what goes out was checked against its writer's checksums, and is
//! checked again before it is kept.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use dgfs_proto::chunk::{Patch, PatchKind, Put, PutDurability, VersionId};
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::{ChunkId, Ino};
use dgfs_proto::status::Status;

use super::Store;
use super::put::checksums;
use crate::cache::Record;
use crate::index::{Entry, State};
use crate::pieces;
use crate::read::Fault;

/// Damaged versions remembered for repair; the scrub finds the others again.
const DAMAGED_MAX: usize = 64 << 10;

/// A version with all its data, as it travels.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The inode it was written for.
    pub owner: Ino,
    /// Which chunk of that inode.
    pub index: u64,
    /// What it is compressed with where it lies.
    pub compression: Compression,
    /// Data patches, in order.
    pub patches: Vec<Patch>,
    /// Their bytes, joined.
    pub body: Bytes,
}

impl Whole {
    /// Its bytes from 0 to the end of its last patch, zeros between them.
    #[must_use]
    pub fn dense(&self) -> Bytes {
        if let [only] = self.patches.as_slice()
            && only.offset == 0
        {
            return self.body.clone();
        }
        let end = self.patches.iter().map(|patch| patch.offset as usize + patch.len as usize).max().unwrap_or(0);
        let mut bytes = vec![0; end];
        let mut at = 0;
        for patch in &self.patches {
            let (from, len) = (patch.offset as usize, patch.len as usize);
            if let (Some(target), Some(source)) = (bytes.get_mut(from..from + len), self.body.get(at..at + len)) {
                target.copy_from_slice(source);
            }
            at += len;
        }
        Bytes::from(bytes)
    }

    pub(super) fn as_put(&self, id: VersionId) -> Put {
        Put {
            chunk: id.chunk,
            base: None,
            version: id.version,
            owner: self.owner,
            index: self.index,
            durability: PutDurability::Handed,
            compression: self.compression,
            patches: self.patches.clone(),
        }
    }
}

impl Store {
    /// Reads a version whole.
    ///
    /// # Errors
    /// `NoVersion`, `Corrupt`, `Io`.
    pub fn export(&self, id: VersionId) -> Result<Whole, Status> {
        self.try_export(id).map_err(|fault| self.refuse(id, &fault))
    }

    fn try_export(&self, id: VersionId) -> Result<Whole, Fault> {
        self.with_live(id, |record| self.export_record(id, record))
    }

    fn export_record(&self, id: VersionId, record: &Record) -> Result<Whole, Fault> {
        let entry = self.shelf.table.get(id)?.ok_or(Fault::NoVersion)?;
        let runs = pieces::consolidated_runs(&record.manifest.pieces);
        let mut body = Vec::with_capacity(runs.iter().map(|run| run.len as usize).sum());
        for run in &runs {
            body.extend_from_slice(&self.shelf.read_range(id, record, run.offset, run.len)?);
        }
        let mut crcs = checksums(&runs, &body).into_iter();
        let patch = |run: &crate::record::Run| {
            let blocks = crate::record::blocks_of(run.len) as usize;
            Patch {
                offset: run.offset,
                len: run.len,
                kind: PatchKind::Data { crcs: crcs.by_ref().take(blocks).collect() },
            }
        };
        let patches = runs.iter().map(patch).collect();
        let owner = Ino::new(entry.owner).ok_or(Fault::NoVersion)?;
        let compression = record.manifest.compression;
        Ok(Whole { owner, index: entry.index, compression, patches, body: Bytes::from(body) })
    }

    /// Keeps a version that another server exported; handed to the operating system. Bytes of data in it.
    ///
    /// # Errors
    /// As [`Self::put`]; `Stale` for a version that was dropped here a moment ago.
    pub fn import(&self, id: VersionId, whole: &Whole) -> Result<u32, Status> {
        self.make(&whole.as_put(id), &whole.body, None).map(|(allocated, _)| allocated)
    }

    /// Was it dropped while versions that show its data stay? What moves away goes with all versions of its chunk.
    #[must_use]
    pub fn is_garbage(&self, id: VersionId) -> bool {
        matches!(self.shelf.table.get(id), Ok(Some(Entry { state: State::Needed, .. })))
    }

    /// Live versions of a chunk that cannot be kept when `damaged` ones of it are replaced: these, those that show data of them, and
    /// so on: what is replaced has its data laid out otherwise. Oldest first.
    ///
    /// # Errors
    /// `Io` when the index fails.
    pub fn to_replace(&self, chunk: ChunkId, damaged: &BTreeSet<VersionId>) -> Result<Vec<VersionId>, Status> {
        let entries = self.shelf.table.of_chunk(chunk);
        let entries = entries.map_err(|error| self.refuse_index(chunk, error))?;
        let live = entries.into_iter().filter(|(_, entry)| entry.state == State::Live).map(|(id, _)| id);
        let mut replaced = damaged.clone();
        // A version shows data of older ones only: going up in order finds all that follow from one another.
        for id in live {
            let shows_replaced = match self.shelf.record(id) {
                Ok(record) => record.manifest.sources.iter().any(|source| {
                    let source = VersionId { chunk, version: source.version };
                    source != id && replaced.contains(&source)
                }),
                Err(_) => true,
            };
            if shows_replaced {
                replaced.insert(id);
            }
        }
        let is_live = |id: &VersionId| matches!(self.shelf.table.get(*id), Ok(Some(Entry { state: State::Live, .. })));
        Ok(replaced.into_iter().filter(is_live).collect())
    }

    /// Writes a held version anew from a good copy, in a record of its own that needs no other. False when it is not held any more.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn replace(&self, id: VersionId, whole: &Whole) -> Result<bool, Status> {
        let put = whole.as_put(id);
        super::put::check_whole(&put, &whole.body)?;
        let _stripe = self.stripe(id.chunk).lock();
        let old: Entry = match self.shelf.table.get(id) {
            Ok(Some(entry)) if entry.state == State::Live => entry,
            Ok(_) => return Ok(false),
            Err(error) => return Err(self.refuse(id, &Fault::Index(error))),
        };
        let manifest = pieces::overlay(id.version, None, &put.patches);
        self.shelf.cache.remove(id);
        let _allocated = self.append(&put, manifest, &whole.body, None, Some(&old))?;
        Ok(true)
    }

    /// Dropped records of a chunk that only replaced versions showed are of no use any more.
    ///
    /// # Errors
    /// `Io` when the index fails.
    pub fn settle_chunk(&self, chunk: ChunkId) -> Result<(), Status> {
        let none = BTreeSet::new();
        self.drop_of_chunk(chunk, &none).map_err(|fault| {
            tracing::error!(%chunk, ?fault, "a chunk could not be settled");
            Status::Io
        })
    }

    fn refuse_index(&self, chunk: ChunkId, error: crate::index::IndexError) -> Status {
        tracing::error!(%chunk, %error, "the index refused to name a chunk's versions");
        Status::Io
    }

    /// Remembers a version for repair.
    pub(crate) fn note_damaged(&self, id: VersionId) {
        let mut damaged = self.damaged.lock();
        if damaged.len() < DAMAGED_MAX {
            damaged.insert(id);
        }
        drop(damaged);
        self.upkeep.wake.notify_one();
    }

    /// The damaged versions of one chunk, taken off the list.
    pub(crate) fn take_damaged(&self) -> Option<(ChunkId, BTreeSet<VersionId>)> {
        let mut damaged = self.damaged.lock();
        let chunk = damaged.first()?.chunk;
        let of_chunk: BTreeSet<VersionId> = damaged.iter().copied().take_while(|id| id.chunk == chunk).collect();
        for id in &of_chunk {
            damaged.remove(id);
        }
        Some((chunk, of_chunk))
    }

    /// Counts versions that were repaired.
    pub(crate) fn count_healed(&self, count: u64) {
        self.upkeep.healed.fetch_add(count, Ordering::Relaxed);
    }
}
