//! A version written anew with another compression.
//!
//! Never changes a byte that a reader gets. Always: the old record is of use until the new one is on the disk, and a chunk of
//! which several versions are held is left: one may show data of another.

use dgfs_proto::chunk::{StoredVersion, VersionId};
use dgfs_proto::compression::Compression;
use dgfs_proto::status::Status;

use super::put::pack_body;
use super::{Store, Whole};
use crate::index::{Entry, State};
use crate::pieces;
use crate::read::Fault;

/// What became of a version that should be compressed otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recompressed {
    /// It is so already, or not held any more.
    Settled,
    /// Written, so many bytes of data: a sync is to follow, then [`Store::settle_chunk`].
    Written(u32),
    /// Not now: its chunk is being changed.
    Later,
}

/// What is to be done with a version.
enum Finding {
    Done(Recompressed),
    /// To be written anew; it lies there now.
    Rewrite(Entry),
}

impl Store {
    /// Writes a version that is the only one of its chunk anew, compressed by `compression`, in a record that needs no other.
    ///
    /// # Errors
    /// `Corrupt`, `NoSpace`, `Io`.
    pub(crate) fn recompress(&self, id: VersionId, compression: Compression) -> Result<Recompressed, Status> {
        if self.sync.has_failed() {
            return Err(Status::Io);
        }
        let old = match self.look_at(id, compression)? {
            Finding::Done(done) => return Ok(done),
            Finding::Rewrite(old) => old,
        };
        // Reading and compressing keep nobody waiting; whether it is still so is looked at again.
        let whole = Whole { compression, ..self.export(id)? };
        let put = whole.as_put(id);
        let manifest = pieces::overlay(id.version, None, &put.patches);
        let packed = pack_body(&put, &whole.body);
        let _stripe = self.stripe(id.chunk).lock();
        match self.look_at(id, compression)? {
            Finding::Done(done) => return Ok(done),
            Finding::Rewrite(now) if now.place != old.place => return Ok(Recompressed::Later),
            Finding::Rewrite(_) => {}
        }
        self.shelf.cache.remove(id);
        self.append(&put, manifest, &whole.body, packed, Some(&old))?;
        Ok(Recompressed::Written(old.allocated))
    }

    fn look_at(&self, id: VersionId, compression: Compression) -> Result<Finding, Status> {
        let entries = self.shelf.table.of_chunk(id.chunk);
        let entries = entries.map_err(|error| self.refuse(id, &Fault::Index(error)))?;
        let Some((_, old)) = entries.iter().find(|(of, entry)| *of == id && entry.state == State::Live) else {
            return Ok(Finding::Done(Recompressed::Settled));
        };
        // Of a version in pieces the records that it shows count, too.
        let needed = || entries.iter().filter(|(_, entry)| entry.state == State::Needed);
        let is_only = !entries.iter().any(|(of, entry)| *of != id && entry.state == State::Live);
        if old.compression == compression && needed().all(|(_, entry)| entry.compression == compression) {
            if needed().next().is_none() || !is_only {
                return Ok(Finding::Done(Recompressed::Settled));
            }
            // A pass that was broken off may have left records that nothing shows any more.
            let record = self.shelf.record(id).map_err(|fault| self.refuse(id, &fault))?;
            let shows_others = record.manifest.sources.iter().any(|source| source.version != id.version);
            return Ok(Finding::Done(if shows_others { Recompressed::Settled } else { Recompressed::Written(0) }));
        }
        if !is_only {
            return Ok(Finding::Done(Recompressed::Later));
        }
        Ok(Finding::Rewrite(*old))
    }

    /// How a version is stored, with the dropped ones whose data it may show; none when it is not held. One that shows data
    /// which are compressed otherwise is told by their compression.
    ///
    /// # Errors
    /// `Io` when the index fails.
    pub(crate) fn stored(&self, id: VersionId) -> Result<Option<StoredVersion>, Status> {
        let entries = self.shelf.table.of_chunk(id.chunk);
        let entries = entries.map_err(|error| self.refuse(id, &Fault::Index(error)))?;
        let live = entries.iter().find(|(of, entry)| *of == id && entry.state == State::Live);
        let Some((_, live)) = live else { return Ok(None) };
        let (mut compression, mut data_bytes, mut disk_bytes) = (live.compression, live.data_len, live.place.total);
        for (_, needed) in entries.iter().filter(|(_, entry)| entry.state == State::Needed) {
            if needed.compression != live.compression {
                compression = needed.compression;
            }
            data_bytes = data_bytes.saturating_add(needed.data_len);
            disk_bytes = disk_bytes.saturating_add(needed.place.total);
        }
        Ok(Some(StoredVersion { compression, data_bytes, disk_bytes }))
    }
}
