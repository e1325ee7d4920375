//! A version written anew with another compression.
//!
//! Never changes a byte that a reader gets. Always: the old record is of use until the new one is on the disk, and a chunk of
//! which several versions are held is left: one may show data of another.

use dgfs_proto::chunk::{StoredVersion, VersionId};
use dgfs_proto::compression::Compression;
use dgfs_proto::status::Status;

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

impl Store {
    /// Writes a version that is the only one of its chunk anew, compressed by `compression`, in a record that needs no other.
    ///
    /// # Errors
    /// `Corrupt`, `NoSpace`, `Io`.
    pub(crate) fn recompress(&self, id: VersionId, compression: Compression) -> Result<Recompressed, Status> {
        let _stripe = self.stripe(id.chunk).lock();
        let entries = self.shelf.table.of_chunk(id.chunk);
        let entries = entries.map_err(|error| self.refuse(id, &Fault::Index(error)))?;
        let is_right = |(_, entry): &(VersionId, Entry)| entry.state == State::Dead || entry.compression == compression;
        let old = match entries.iter().find(|(of, entry)| *of == id && entry.state == State::Live) {
            // Of a version in pieces the records that it shows count, too.
            Some(_) if entries.iter().all(is_right) => return Ok(Recompressed::Settled),
            Some((_, old)) => *old,
            None => return Ok(Recompressed::Settled),
        };
        if entries.iter().any(|(of, entry)| *of != id && entry.state == State::Live) {
            return Ok(Recompressed::Later);
        }
        let whole = Whole { compression, ..self.export(id)? };
        let put = whole.as_put(id);
        let manifest = pieces::overlay(id.version, None, &put.patches);
        self.shelf.cache.remove(id);
        self.append(&put, manifest, &whole.body, None, Some(&old))?;
        Ok(Recompressed::Written(old.allocated))
    }

    /// How a version is stored; none when it is not held.
    ///
    /// # Errors
    /// `Io` when the index fails.
    pub(crate) fn stored(&self, id: VersionId) -> Result<Option<StoredVersion>, Status> {
        let entry = self.shelf.table.get(id).map_err(|error| self.refuse(id, &Fault::Index(error)))?;
        Ok(entry.filter(|entry| entry.state == State::Live).map(|entry| StoredVersion {
            compression: entry.compression,
            data_bytes: entry.data_len,
            disk_bytes: entry.place.total,
        }))
    }
}
