//! A put: check, find the base, overlay, write one record, set its entry.
//!
//! Never waits for the disk to sync. Always: a body that does not match the
//! client's checksums is refused before anything is written.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use dgfs_proto::chunk::{Patch, PatchKind, Put, VersionId};
use dgfs_proto::compression::Compression;
use dgfs_proto::limits::{CHECKSUM_BLOCK_BYTES, CHUNK_BYTES_MAX, PATCHES_MAX};
use dgfs_proto::status::Status;

use super::Store;
use crate::cache::Record;
use crate::frames::{Packed, pack};
use crate::health::{Trouble, is_full};
use crate::index::{Entry, State};
use crate::pieces;
use crate::read::Fault;
use crate::record::{Facts, Manifest, RUNS_MAX, Run, blocks_of, encode_head};
use crate::table::CHANGES_MAX;
use crate::uses::Used;

impl Store {
    /// Makes a version; on return it is handed to the operating system (durability of the request
    /// is the caller's affair: [`Store::sync`]). Answers the bytes of data it shows.
    /// Putting a version that is held changes nothing.
    ///
    /// # Errors
    /// `Malformed` (a bound or the order of patches), `Corrupt` (the body does not match its
    /// checksums), `NoVersion` (no such base), `NoSpace`, `Busy`, `Stale` (the version was dropped), `Io`.
    pub fn put(&self, put: &Put, body: &Bytes) -> Result<u32, Status> {
        self.put_packed(put, body, None)
    }

    /// As [`Self::put`], with what [`pack_body`] made of the body before.
    pub(crate) fn put_packed(&self, put: &Put, body: &Bytes, packed: Option<Packed>) -> Result<u32, Status> {
        if put.patches.len() > PATCHES_MAX {
            return Err(Status::Malformed);
        }
        let (allocated, made) = self.make(put, body, packed)?;
        if !made {
            return Ok(allocated);
        }
        self.numbers.puts.fetch_add(1, Ordering::Relaxed);
        self.numbers.put_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        self.count_use(put.chunk, allocated, Used::Written(body.len() as u64));
        Ok(allocated)
    }

    /// As [`Self::put`], uncounted and of as many patches as a record has runs: a copy of what another server holds. False when
    /// it was held already.
    pub(super) fn make(&self, put: &Put, body: &Bytes, packed: Option<Packed>) -> Result<(u32, bool), Status> {
        check_shape(put, body)?;
        if !matches_checksums(&put.patches, body) {
            tracing::warn!(chunk = %put.chunk, version = %put.version, "a put was refused: its bytes do not match its checksums");
            return Err(Status::Corrupt);
        }
        if self.sync.has_failed() {
            return Err(Status::Io);
        }
        if self.shelf.table.changes() > CHANGES_MAX {
            self.maintenance.wake();
            return Err(Status::Busy);
        }
        let id = VersionId { chunk: put.chunk, version: put.version };
        let _stripe = self.stripe(put.chunk).lock();
        match self.shelf.table.get(id) {
            Ok(Some(entry)) if entry.state == State::Live => return Ok((entry.allocated, false)),
            Ok(Some(_)) => return Err(Status::Stale),
            Ok(None) => {}
            Err(error) => return Err(self.refuse(id, &Fault::Index(error))),
        }
        let manifest = self.overlay_base(id, put)?;
        let allocated = if pieces::wants_consolidation(&manifest) {
            let (manifest, data) = self.consolidate(id, &manifest, body)?;
            self.append(put, manifest, &data, None, None)?
        } else {
            self.append(put, manifest, body, packed, None)?
        };
        Ok((allocated, true))
    }

    fn overlay_base(&self, id: VersionId, put: &Put) -> Result<Manifest, Status> {
        let Some(base) = put.base else { return Ok(pieces::overlay(id.version, None, &put.patches)) };
        let base_id = VersionId { chunk: id.chunk, version: base.version };
        let entry = match self.shelf.table.get(base_id) {
            Ok(Some(entry)) if entry.state == State::Live => entry,
            Ok(_) => return Err(Status::NoVersion),
            Err(error) => return Err(self.refuse(base_id, &Fault::Index(error))),
        };
        let load = || self.shelf.record(base_id).map_err(|fault| self.refuse(base_id, &fault));
        let mut record = load()?;
        // The pieces of a record that was written anew since it was remembered are not those of the one that is there.
        if record.place != entry.place {
            self.shelf.cache.remove(base_id);
            record = load()?;
        }
        if record.place != entry.place {
            return Err(Status::Busy);
        }
        Ok(pieces::overlay(id.version, Some((&record.manifest, base.len)), &put.patches))
    }

    /// All data of the version that `manifest` describes, read from its sources and `body`, as one record.
    fn consolidate(&self, id: VersionId, manifest: &Manifest, body: &Bytes) -> Result<(Manifest, Vec<u8>), Status> {
        let runs = pieces::consolidated_runs(&manifest.pieces);
        let mut data = vec![0; runs.iter().map(|run| run.len as usize).sum()];
        let mut starts = Vec::with_capacity(runs.len());
        let mut next = 0;
        for run in &runs {
            starts.push(next);
            next += run.len as usize;
        }
        for piece in &manifest.pieces {
            let number = runs.partition_point(|run| run.offset <= piece.offset).wrapping_sub(1);
            let (Some(run), Some(start)) = (runs.get(number), starts.get(number)) else { continue };
            let from = start + (piece.offset - run.offset) as usize;
            let Some(target) = data.get_mut(from..from + piece.len as usize) else { continue };
            let Some(source) = manifest.sources.get(piece.source as usize) else { continue };
            if source.version == id.version {
                let Some(own) = body.get(piece.at as usize..(piece.at + piece.len) as usize) else { continue };
                target.copy_from_slice(own);
            } else {
                let read = self.shelf.read_source(id.chunk, *source, piece.at, piece.len);
                target.copy_from_slice(&read.map_err(|fault| self.refuse(id, &fault))?);
            }
        }
        let crcs = checksums(&runs, &data);
        Ok((pieces::whole(id.version, runs, crcs), data))
    }

    /// Writes a version's record; `old` is the entry that it replaces. Data that are to be compressed and are not yet, are here.
    pub(super) fn append(
        &self,
        put: &Put,
        manifest: Manifest,
        data: &[u8],
        packed: Option<Packed>,
        old: Option<&Entry>,
    ) -> Result<u32, Status> {
        let id = VersionId { chunk: put.chunk, version: put.version };
        let packed = packed.or_else(|| pack_runs(put.compression, &manifest.runs, data));
        let (manifest, packed) = match packed {
            None => (manifest, None),
            Some(Packed { compression, frames, data }) => (Manifest { compression, frames, ..manifest }, Some(data)),
        };
        let data = packed.as_deref().unwrap_or(data);
        let facts = Facts {
            id,
            base: put.base.map_or((0, 0), |base| (base.version.get(), base.len)),
            owner: put.owner.get(),
            index: put.index,
            put_at: self.now(),
        };
        let total = manifest.total();
        if !self.space.take(total) {
            self.health.count(Trouble::Full);
            return Err(Status::NoSpace);
        }
        let _gate = self.gate.read();
        let segments = &self.shelf.segments;
        let (place, file) = segments.reserve(total).map_err(|error| self.refuse_write(id, &error))?;
        let head = encode_head(&facts, &manifest, place, self.shelf.salt);
        segments.write(place, &file, &head, data).map_err(|error| self.refuse_write(id, &error))?;
        let entry = Entry {
            state: State::Live,
            place,
            data_len: manifest.data_len(),
            allocated: manifest.allocated(),
            compression: manifest.compression,
            owner: facts.owner,
            index: facts.index,
            put_at: facts.put_at,
        };
        let data_at = u32::try_from(head.len()).unwrap_or(u32::MAX);
        self.usage.lock().change(old, Some(&entry));
        self.shelf.table.set(id, Some(entry));
        self.replaced.lock().extend(old.map(|old| (id, old.place)));
        self.shelf.cache.insert(id, &Arc::new(Record::new(place, data_at, manifest, true)));
        self.maintenance.wrote(total);
        Ok(entry.allocated)
    }

    fn refuse_write(&self, id: VersionId, error: &std::io::Error) -> Status {
        if is_full(error) {
            return Status::NoSpace;
        }
        tracing::error!(chunk = %id.chunk, version = %id.version, %error, "the disk refused a write");
        self.count_use(id.chunk, 0, Used::Failed);
        Status::Io
    }
}

/// The body of a put as it is to lie on the disk; none when it lies there as it is.
pub(crate) fn pack_body(put: &Put, body: &[u8]) -> Option<Packed> {
    pack_runs(put.compression, &pieces::runs_of(&put.patches), body)
}

fn pack_runs(compression: Compression, runs: &[Run], data: &[u8]) -> Option<Packed> {
    match compression {
        Compression::None => None,
        Compression::Lz4 | Compression::Zstd => Some(pack(compression, runs, data)),
    }
}

/// Is a copy that came from another server what it says it is?
pub(super) fn check_whole(put: &Put, body: &Bytes) -> Result<(), Status> {
    check_shape(put, body)?;
    if matches_checksums(&put.patches, body) { Ok(()) } else { Err(Status::Corrupt) }
}

/// Bounds of a put, before anything is looked at.
fn check_shape(put: &Put, body: &Bytes) -> Result<(), Status> {
    if put.patches.len() > RUNS_MAX {
        return Err(Status::Malformed);
    }
    let mut end = 0_u32;
    let mut data = 0_u64;
    for patch in &put.patches {
        let behind = patch.offset.checked_add(patch.len).ok_or(Status::Malformed)?;
        if patch.len == 0 || patch.offset < end || behind > CHUNK_BYTES_MAX {
            return Err(Status::Malformed);
        }
        end = behind;
        match &patch.kind {
            PatchKind::Data { crcs } => {
                data += u64::from(patch.len);
                if crcs.len() != blocks_of(patch.len) as usize {
                    return Err(Status::Malformed);
                }
            }
            PatchKind::Zero => {}
        }
    }
    let base_fits = put.base.is_none_or(|base| base.version != put.version);
    if data == body.len() as u64 && base_fits { Ok(()) } else { Err(Status::Malformed) }
}

fn matches_checksums(patches: &[Patch], body: &[u8]) -> bool {
    let mut rest = body;
    patches.iter().all(|patch| match &patch.kind {
        PatchKind::Zero => true,
        PatchKind::Data { crcs } => {
            let Some((data, behind)) = rest.split_at_checked(patch.len as usize) else { return false };
            rest = behind;
            data.chunks(CHECKSUM_BLOCK_BYTES as usize).zip(crcs).all(|(block, crc)| crc32c::crc32c(block) == *crc)
        }
    })
}

pub(super) fn checksums(runs: &[Run], data: &[u8]) -> Vec<u32> {
    let mut crcs = Vec::new();
    let mut rest = data;
    for run in runs {
        let Some((own, behind)) = rest.split_at_checked(run.len as usize) else { break };
        crcs.extend(own.chunks(CHECKSUM_BLOCK_BYTES as usize).map(crc32c::crc32c));
        rest = behind;
    }
    crcs
}
