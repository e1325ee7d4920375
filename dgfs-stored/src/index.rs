//! Which record holds a version: a trait, and sled behind it.
//!
//! Never the truth: everything here can be rebuilt from the segments. Always:
//! when `commit` returned, its changes and all before are on the disk.

mod sled_index;

use dgfs_proto::chunk::VersionId;
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::{ChunkId, ChunkVersion};
use thiserror::Error;

use crate::record::{Fields, Place};

pub(crate) use sled_index::SledIndex;

/// What is known of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) state: State,
    pub(crate) place: Place,
    /// Bytes of data in the record.
    pub(crate) data_len: u32,
    /// Bytes of data the version shows.
    pub(crate) allocated: u32,
    /// What the record's data are compressed with.
    pub(crate) compression: Compression,
    pub(crate) owner: u64,
    pub(crate) index: u64,
    /// Seconds since 1970 at the put.
    pub(crate) put_at: u64,
}

/// How far a version's life went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Held.
    Live,
    /// Dropped, but a live version of the chunk shows some of its data.
    Needed,
    /// Dropped and of no use; its record is not yet marked so on the disk.
    Dead,
}

const ENTRY_BYTES: usize = 46;

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENTRY_BYTES);
        out.push(match self.state {
            State::Live => 1,
            State::Needed => 2,
            State::Dead => 3,
        });
        for field in [self.place.segment, self.place.offset, self.place.total, self.data_len, self.allocated] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.owner, self.index, self.put_at] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        // Left out where nothing is compressed, as entries were before anything could be.
        match self.compression {
            Compression::None => {}
            Compression::Lz4 => out.push(1),
            Compression::Zstd => out.push(2),
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (state, rest) = bytes.split_first()?;
        let state = match state {
            1 => State::Live,
            2 => State::Needed,
            3 => State::Dead,
            _ => return None,
        };
        let mut read = Fields(rest);
        let place = Place { segment: read.u32()?, offset: read.u32()?, total: read.u32()? };
        let (data_len, allocated) = (read.u32()?, read.u32()?);
        let (owner, index, put_at) = (read.u64()?, read.u64()?, read.u64()?);
        let compression = match read.0 {
            [] => Compression::None,
            [1] => Compression::Lz4,
            [2] => Compression::Zstd,
            _ => return None,
        };
        Some(Self { state, place, data_len, allocated, compression, owner, index, put_at })
    }
}

pub(crate) fn encode_key(id: VersionId) -> [u8; 16] {
    let mut key = [0; 16];
    let (chunk, version) = key.split_at_mut(8);
    chunk.copy_from_slice(&id.chunk.get().to_be_bytes());
    version.copy_from_slice(&id.version.get().to_be_bytes());
    key
}

pub(crate) fn decode_key(key: &[u8]) -> Option<VersionId> {
    let (chunk, rest) = key.split_first_chunk()?;
    let (version, _) = rest.split_first_chunk()?;
    Some(VersionId {
        chunk: ChunkId::new(u64::from_be_bytes(*chunk))?,
        version: ChunkVersion::new(u64::from_be_bytes(*version))?,
    })
}

/// A change of one entry; `None` removes it.
pub(crate) type Change = (VersionId, Option<Entry>);

/// The index could not be used; it is to be thrown away and rebuilt.
#[derive(Debug, Error)]
#[error("chunk index: {0}")]
pub(crate) struct IndexError(pub(crate) String);

/// An ordered, durable map of entries.
pub(crate) trait Index: Send + Sync {
    /// The entry of `id`.
    fn get(&self, id: VersionId) -> Result<Option<Entry>, IndexError>;

    /// Entries at and behind `from`, in order, at most `limit`.
    fn scan(&self, from: VersionId, limit: usize) -> Result<Vec<(VersionId, Entry)>, IndexError>;

    /// Applies changes and then `generation`; on return all is on the disk. Blocks.
    fn commit(&self, changes: &mut dyn Iterator<Item = Change>, generation: u64) -> Result<(), IndexError>;

    /// The generation of the last commit; 0 when there was none.
    fn generation(&self) -> Result<u64, IndexError>;
}
