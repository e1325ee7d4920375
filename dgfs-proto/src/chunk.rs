//! Client ↔ storage daemon.
//!
//! A (chunk, version) never changes once put, so every answer about it may be
//! cached for ever. Offsets are inside the chunk, in bytes.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::compression::Compression;
use crate::ids::{ChunkId, ChunkVersion, Epoch, Ino, ServerId, SessionId};
use crate::map::ClusterMap;
use crate::status::Status;

/// What an inode's chunk map says of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// The stored unit.
    pub chunk: ChunkId,
    /// Its current content.
    pub version: ChunkVersion,
    /// Bytes of it that count; everything behind reads as zeros (a truncate is only this number).
    pub len: u32,
    /// Bytes of it that take space in storage.
    pub allocated: u32,
}

/// A chunk version by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionId {
    /// The stored unit.
    pub chunk: ChunkId,
    /// Its content.
    pub version: ChunkVersion,
}

/// The content a put starts from: `version`, of which only the first `len` bytes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBase {
    /// The version patched.
    pub version: ChunkVersion,
    /// Its bytes at and behind this offset read as zeros in the new version.
    pub len: u32,
}

/// What one patch does to its range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PatchKind {
    /// New bytes, the next `len` of the body; one CRC32C for each
    /// [`crate::limits::CHECKSUM_BLOCK_BYTES`] of them, counted from the patch's
    /// start, made by the writing client.
    Data {
        /// `ceil(len / CHECKSUM_BLOCK_BYTES)` checksums.
        crcs: Vec<u32>,
    },
    /// A hole: reads as zeros and takes no space.
    Zero,
}

/// One change of a range. Patches of a put are sorted by offset and do not overlap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// First byte.
    pub offset: u32,
    /// Bytes, at least 1.
    pub len: u32,
    /// What happens to them.
    pub kind: PatchKind,
}

/// When the reply to a put may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PutDurability {
    /// Handed to the operating system: survives `kill -9`, not a power cut.
    Handed,
    /// Synced to disk.
    Synced,
}

/// Makes `version` of `chunk` out of `base` and `patches`. Idempotent by version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The chunk.
    pub chunk: ChunkId,
    /// What to patch; none starts from an empty chunk.
    pub base: Option<PutBase>,
    /// The name of the result.
    pub version: ChunkVersion,
    /// The inode written (its first owner; copies share chunks).
    pub owner: Ino,
    /// Which chunk of that inode.
    pub index: u64,
    /// When to answer.
    pub durability: PutDurability,
    /// What becomes of the data on the disk.
    pub compression: Compression,
    /// At most [`crate::limits::PATCHES_MAX`].
    pub patches: Vec<Patch>,
}

/// A request to a storage daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkRequest {
    /// Stores a version; the body carries the data of its `Data` patches, joined.
    Put(Put),
    /// Reads a range; the reply's body is exactly `len` bytes, zeros where nothing was written.
    Get {
        /// Which content.
        id: VersionId,
        /// First byte.
        offset: u32,
        /// Bytes, at least 1.
        len: u32,
    },
    /// Where a version has data (for `SEEK_DATA` and `dgfs info`).
    Extents(VersionId),
    /// Answers once everything put before is synced to disk.
    Sync,
    /// Reads a version whole and checks it.
    Verify(VersionId),
    /// The versions held after `after` and below `until`, at most `limit`.
    List {
        /// Where the last page ended.
        after: Option<VersionId>,
        /// Chunks from this id on are left out.
        until: Option<ChunkId>,
        /// At most [`crate::limits::LIST_MAX`].
        limit: u32,
    },
    /// Numbers for people and metrics.
    Status,
    /// Drops versions that meta has just called dead (`dgfs fsck --repair`); those not held are passed over. At most
    /// [`crate::limits::LIST_MAX`].
    Drop(Vec<VersionId>),
    /// Reads a version whole, with the checksums its writers made: for another server that lacks it.
    Export(VersionId),
    /// Looks for good copies of these at other servers and keeps them, where they are missing or damaged here; in the
    /// background. At most [`crate::limits::LIST_MAX`].
    Repair(Vec<VersionId>),
    /// How these versions are stored here. At most [`crate::limits::LIST_MAX`].
    Stored(Vec<VersionId>),
    /// How often chunks are used: for operators.
    Uses(UsesOf),
}

/// Of which chunks the use is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UsesOf {
    /// The first in an order; those that have none of what it goes by are left out.
    Top {
        /// The order, the greatest first.
        by: UseOrder,
        /// 1 to [`crate::limits::USES_MAX`].
        limit: u32,
    },
    /// These, as far as they were used; in any order, at most [`crate::limits::USES_MAX`].
    Chunks(Vec<ChunkId>),
}

/// What chunks are put in order by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UseOrder {
    /// Gets.
    Reads,
    /// Puts.
    Writes,
    /// Bytes got and put.
    Bytes,
    /// Gets and puts that failed.
    Errors,
    /// The last use.
    Recent,
}

/// Not an order of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("chunks are put in order by reads, writes, bytes, errors or recent")]
pub struct UseOrderError;

impl FromStr for UseOrder {
    type Err = UseOrderError;

    fn from_str(word: &str) -> Result<Self, UseOrderError> {
        match word {
            "reads" => Ok(Self::Reads),
            "writes" => Ok(Self::Writes),
            "bytes" => Ok(Self::Bytes),
            "errors" => Ok(Self::Errors),
            "recent" => Ok(Self::Recent),
            _ => Err(UseOrderError),
        }
    }
}

impl fmt::Display for UseOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Bytes => "bytes",
            Self::Errors => "errors",
            Self::Recent => "recent",
        })
    }
}

/// Use of one chunk, or shard of one, at one storage server since it was first counted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkUse {
    /// The chunk, or the shard.
    pub chunk: ChunkId,
    /// The inode it was written for (its first owner; copies share chunks); none when nothing of it is held any more.
    pub owner: Option<Ino>,
    /// Which chunk of that inode.
    pub index: u64,
    /// Bytes of data it had at the last use.
    pub bytes: u32,
    /// Gets.
    pub reads: u64,
    /// Puts.
    pub writes: u64,
    /// Bytes got.
    pub read_bytes: u64,
    /// Bytes put.
    pub write_bytes: u64,
    /// Gets and puts that failed because of the disk or of damage.
    pub errors: u64,
    /// Seconds since 1970 of the last get or put; 0: none.
    pub last_use: u64,
}

/// A request with what every request carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkCall {
    /// Made at the edge, in every log line on the way.
    pub request_id: u64,
    /// The caller's map.
    pub map_epoch: Epoch,
    /// The caller's session; reads by daemons and tools have none.
    pub session: Option<SessionId>,
    /// What is asked.
    pub request: ChunkRequest,
}

/// A range with data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRange {
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// A held version, for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldVersion {
    /// Which.
    pub id: VersionId,
    /// Bytes of data it refers to.
    pub allocated: u32,
    /// The inode it was written for.
    pub owner: Ino,
    /// Which chunk of that inode.
    pub index: u64,
}

/// How a version is stored at one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVersion {
    /// What its data are compressed with; of a version in pieces, where they differ, what those are that are not its own.
    pub compression: Compression,
    /// Bytes of data in its record and in those of older versions that are kept because it may show some of them.
    pub data_bytes: u32,
    /// Bytes that these records take on the disk.
    pub disk_bytes: u32,
}

/// Repair and scrub of one storage daemon, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    /// Partitions of which it has yet to fetch what it lacks.
    pub partitions_left: u64,
    /// Bytes it knows it has yet to fetch: of the partitions it has compared so far.
    pub bytes_left: u64,
    /// Seconds until nothing is left, if it goes on like this; 0: nothing is left, or not known yet.
    pub estimate_s: u64,
    /// Versions fetched from other servers.
    pub fetched: u64,
    /// Bytes of them.
    pub fetched_bytes: u64,
    /// Versions that no other server could give.
    pub not_found: u64,
    /// Damaged versions replaced by a good copy.
    pub healed: u64,
    /// Versions written anew with another compression.
    pub recompressed: u64,
    /// Bytes read by the scrub.
    pub scrubbed_bytes: u64,
    /// Damaged versions that the scrub found.
    pub scrub_errors: u64,
    /// When the last whole scrub ended, seconds since 1970; 0: none yet.
    pub scrubbed_at: u64,
    /// Reads refused because of damage.
    pub damaged_reads: u64,
}

/// Numbers of one storage daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Its number.
    pub server: ServerId,
    /// Its directory, as given.
    pub directory: String,
    /// Bytes of the file system it lies on.
    pub capacity_bytes: u64,
    /// Bytes its segments and index take on disk.
    pub used_bytes: u64,
    /// Bytes it can still take.
    pub free_bytes: u64,
    /// Bytes of data in live versions.
    pub live_bytes: u64,
    /// Bytes their records take on the disk: less where data are compressed.
    pub record_bytes: u64,
    /// Live versions.
    pub versions: u64,
    /// Segment files.
    pub segments: u64,
    /// Since the start: puts, gets, bytes in, bytes out, checksum failures, syncs.
    pub puts: u64,
    /// Gets since the start.
    pub gets: u64,
    /// Bytes written since the start.
    pub put_bytes: u64,
    /// Bytes read since the start.
    pub get_bytes: u64,
    /// Reads refused because of a bad checksum since the start.
    pub checksum_errors: u64,
    /// Disk syncs since the start.
    pub syncs: u64,
    /// What the last start-up recovery had to give up, in words; empty when nothing.
    pub lost: Vec<String>,
    /// Writes that a crash interrupted before they were synced, in words. No file is damaged by that, unless `dgfs fsck`
    /// finds one that names them.
    pub interrupted: Vec<String>,
    /// Versions it could not find whole.
    pub lost_versions: u64,
    /// Bytes of data that are gone with them.
    pub lost_bytes: u64,
    /// What the last start-up mended without loss, in words.
    pub mended: Vec<String>,
    /// What it does for the copies of others and its own.
    pub upkeep: Upkeep,
}

/// A storage daemon's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub enum ChunkReply {
    /// Stored; `allocated` is what the new version takes.
    Put {
        /// Bytes of data in the new version.
        allocated: u32,
    },
    /// The body has the bytes; `crc` is their CRC32C.
    Data {
        /// CRC32C of the body.
        crc: u32,
    },
    /// The body has the data of these patches, joined; put without a base they give the version.
    Exported {
        /// The inode it was written for.
        owner: Ino,
        /// Which chunk of that inode.
        index: u64,
        /// How it is stored there.
        compression: Compression,
        /// Data patches only.
        patches: Vec<Patch>,
    },
    /// The caller's map is older than a change of where the chunk lies; this one is not.
    OldMap(ClusterMap),
    /// Ranges with data, sorted.
    Extents(Vec<DataRange>),
    /// Done: a sync or a verify that found nothing wrong.
    Done,
    /// A page of held versions; shorter than asked means the end.
    Held(Vec<HeldVersion>),
    /// Numbers.
    Status(Box<StoreStatus>),
    /// Refused.
    Refused(Status),
    /// One answer for each version asked about; none for one that is not held.
    Stored(Vec<Option<StoredVersion>>),
    /// Uses of chunks; of the first in an order, in that order.
    Uses(Vec<ChunkUse>),
}
