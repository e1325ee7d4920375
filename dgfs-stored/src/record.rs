//! The bytes of one record in a segment: header, tables, data.
//!
//! Never touches a file. Always: a header that decodes was written by this
//! store for exactly this place (its checksum is salted and covers segment and
//! offset), so record bytes that lie inside somebody's data are not mistaken for one.

use dgfs_proto::chunk::VersionId;
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::{ChunkId, ChunkVersion};
use dgfs_proto::limits::{CHECKSUM_BLOCK_BYTES, CHUNK_BYTES_MAX};

use crate::frames::{FRAME_BYTES, frames_of};

/// Bytes of a header, and the alignment of records: one header never spans two disk sectors,
/// so overwriting it in place is atomic.
pub(crate) const HEADER_BYTES: usize = 128;
/// The same as an offset.
pub(crate) const ALIGN: u32 = 128;
/// Pieces of one version; more are consolidated. Large enough that random 4 KiB overwrites of a
/// 4 MiB chunk rewrite the chunk only once in 250 puts; small enough that the table stays below 10 KiB.
pub(crate) const PIECES_MAX: usize = 512;
/// Runs of data in one record: a put's patches, or what a consolidation left.
pub(crate) const RUNS_MAX: usize = PIECES_MAX;
/// Largest record.
pub(crate) const RECORD_BYTES_MAX: u32 = CHUNK_BYTES_MAX + (64 << 10);

const MAGIC: u32 = u32::from_le_bytes(*b"DGS1");
/// Of records whose data lie there as they are.
const FORMAT_PLAIN: u8 = 1;
/// Of records whose data are compressed.
const FORMAT_PACKED: u8 = 2;
const SOURCE_BYTES: usize = 12;
const PIECE_BYTES: usize = 16;
const RUN_BYTES: usize = 8;
const CRCS_MAX: usize = (CHUNK_BYTES_MAX / CHECKSUM_BLOCK_BYTES) as usize + RUNS_MAX;
const FRAMES_MAX: usize = (CHUNK_BYTES_MAX / FRAME_BYTES) as usize + RUNS_MAX;
const TABLES_BYTES_MAX: usize =
    (PIECES_MAX + 1) * SOURCE_BYTES + PIECES_MAX * PIECE_BYTES + RUNS_MAX * RUN_BYTES + (CRCS_MAX + FRAMES_MAX) * 4;
const _: () = assert!(TABLES_BYTES_MAX + HEADER_BYTES < 64 << 10);

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// Segment number.
    pub(crate) segment: u32,
    /// First byte of the header.
    pub(crate) offset: u32,
    /// Bytes, a multiple of [`ALIGN`].
    pub(crate) total: u32,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A version of a chunk, held.
    Version,
    /// A version that was dropped; other versions show data of its record.
    Needed,
    /// Its data are given up (dropped, torn, or never finished); only its length counts.
    Dead,
}

/// A record whose data a version uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The version that record was written for (of the same chunk).
    pub(crate) version: ChunkVersion,
    /// Bytes of data in that record.
    pub(crate) data_len: u32,
}

/// A range of a version and the data it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// First byte in the chunk.
    pub(crate) offset: u32,
    /// Bytes.
    pub(crate) len: u32,
    /// Offset in the data of the source's record.
    pub(crate) at: u32,
    /// Position in the version's list of sources.
    pub(crate) source: u32,
}

/// A run of data in a record: one patch of its put. Checksums count from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// First byte in the chunk.
    pub(crate) offset: u32,
    /// Bytes.
    pub(crate) len: u32,
}

/// What a header says, apart from the tables' lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Which content.
    pub(crate) id: VersionId,
    /// The version it was patched from (0: none) and the length of it that counted; for people.
    pub(crate) base: (u64, u32),
    /// The inode it was written for.
    pub(crate) owner: u64,
    /// Which chunk of that inode.
    pub(crate) index: u64,
    /// Seconds since 1970 at the put.
    pub(crate) put_at: u64,
}

/// Everything of a version but its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Whose data the pieces use.
    pub(crate) sources: Vec<Source>,
    /// Sorted by offset, not overlapping.
    pub(crate) pieces: Vec<Piece>,
    /// The record's own data.
    pub(crate) runs: Vec<Run>,
    /// One for each block of each run.
    pub(crate) crcs: Vec<u32>,
    /// What the record's own data are compressed with.
    pub(crate) compression: Compression,
    /// Bytes on the disk of each frame of each run; empty where nothing is compressed.
    pub(crate) frames: Vec<u32>,
}

impl Manifest {
    /// Bytes of data in the record itself.
    pub(crate) fn data_len(&self) -> u32 {
        self.runs.iter().map(|run| run.len).sum()
    }

    /// Bytes these data take on the disk.
    pub(crate) fn stored_len(&self) -> u32 {
        match self.compression {
            Compression::None => self.data_len(),
            Compression::Lz4 | Compression::Zstd => self.frames.iter().sum(),
        }
    }

    /// Bytes of data the version shows.
    pub(crate) fn allocated(&self) -> u32 {
        self.pieces.iter().map(|piece| piece.len).sum()
    }

    fn tables_len(&self) -> usize {
        self.sources.len() * SOURCE_BYTES
            + self.pieces.len() * PIECE_BYTES
            + self.runs.len() * RUN_BYTES
            + (self.crcs.len() + self.frames.len()) * 4
    }

    /// Bytes of the whole record, aligned.
    pub(crate) fn total(&self) -> u32 {
        let bytes = HEADER_BYTES + self.tables_len() + self.stored_len() as usize;
        align_up(u32::try_from(bytes).unwrap_or(u32::MAX - ALIGN))
    }

    /// Bytes it takes in memory, for caches.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.tables_len() + self.sources.len() * 4 + 64
    }
}

/// The next record offset at or behind `offset`.
pub(crate) const fn align_up(offset: u32) -> u32 {
    offset.saturating_add(ALIGN - 1) / ALIGN * ALIGN
}

/// Checksums of `len` bytes in blocks.
pub(crate) const fn blocks_of(len: u32) -> u32 {
    len.div_ceil(CHECKSUM_BLOCK_BYTES)
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// What the record is.
    pub(crate) kind: Kind,
    /// What it is about.
    pub(crate) facts: Facts,
    /// Bytes of the whole record.
    pub(crate) total: u32,
    /// Bytes of data.
    pub(crate) data_len: u32,
    /// Bytes of data the version shows.
    pub(crate) allocated: u32,
    /// What the data are compressed with.
    pub(crate) compression: Compression,
    /// Bytes the data take in the record.
    pub(crate) stored_len: u32,
    counts: [u32; 4],
    tables_crc: u32,
    frames: u32,
}

impl Header {
    /// Bytes of the tables behind the header.
    pub(crate) fn tables_len(&self) -> usize {
        let [sources, pieces, runs, crcs] = self.counts.map(|count| count as usize);
        sources * SOURCE_BYTES + pieces * PIECE_BYTES + runs * RUN_BYTES + (crcs + self.frames as usize) * 4
    }

    /// Does the version show data of other records?
    pub(crate) fn shows_others(&self) -> bool {
        let [sources, ..] = self.counts;
        sources > 1 || (sources == 1 && self.data_len == 0)
    }

    /// Offset of the data inside the record.
    pub(crate) fn data_at(&self) -> u32 {
        u32::try_from(HEADER_BYTES + self.tables_len()).unwrap_or(u32::MAX)
    }

    /// The same record in another part of its life: a header to be written in place of the old one.
    pub(crate) fn turned(&self, kind: Kind, place: Place, salt: u32) -> [u8; HEADER_BYTES] {
        encode_header(&Self { kind, ..*self }, place, salt)
    }

    fn is_sound(&self) -> bool {
        let [sources, pieces, runs, crcs] = self.counts.map(|count| count as usize);
        let bounded = sources <= PIECES_MAX + 1 && pieces <= PIECES_MAX && runs <= RUNS_MAX && crcs <= CRCS_MAX;
        bounded
            && self.frames as usize <= FRAMES_MAX
            && self.data_len <= CHUNK_BYTES_MAX
            && self.stored_len <= self.data_len
            && self.total.is_multiple_of(ALIGN)
            && self.total as usize >= HEADER_BYTES + self.tables_len() + self.stored_len as usize
            && self.total <= RECORD_BYTES_MAX
    }
}

/// Header and tables of a held version's record for `place`.
pub(crate) fn encode_head(facts: &Facts, manifest: &Manifest, place: Place, salt: u32) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEADER_BYTES + manifest.tables_len());
    head.resize(HEADER_BYTES, 0);
    for source in &manifest.sources {
        head.extend_from_slice(&source.version.get().to_le_bytes());
        head.extend_from_slice(&source.data_len.to_le_bytes());
    }
    for piece in &manifest.pieces {
        for field in [piece.offset, piece.len, piece.at, piece.source] {
            head.extend_from_slice(&field.to_le_bytes());
        }
    }
    for run in &manifest.runs {
        head.extend_from_slice(&run.offset.to_le_bytes());
        head.extend_from_slice(&run.len.to_le_bytes());
    }
    for number in manifest.crcs.iter().chain(&manifest.frames) {
        head.extend_from_slice(&number.to_le_bytes());
    }
    let tables_crc = head.get(HEADER_BYTES..).map_or(0, crc32c::crc32c);
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let header = Header {
        kind: Kind::Version,
        facts: *facts,
        total: place.total,
        data_len: manifest.data_len(),
        allocated: manifest.allocated(),
        compression: manifest.compression,
        stored_len: manifest.stored_len(),
        counts: [
            count(manifest.sources.len()),
            count(manifest.pieces.len()),
            count(manifest.runs.len()),
            count(manifest.crcs.len()),
        ],
        tables_crc,
        frames: count(manifest.frames.len()),
    };
    if let Some(front) = head.get_mut(..HEADER_BYTES) {
        front.copy_from_slice(&encode_header(&header, place, salt));
    }
    head
}

fn encode_header(header: &Header, place: Place, salt: u32) -> [u8; HEADER_BYTES] {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    let (format, compression) = match header.compression {
        Compression::None => (FORMAT_PLAIN, 0),
        Compression::Lz4 => (FORMAT_PACKED, 1),
        Compression::Zstd => (FORMAT_PACKED, 2),
    };
    out.push(format);
    out.push(match header.kind {
        Kind::Version => 1,
        Kind::Dead => 2,
        Kind::Needed => 3,
    });
    out.extend_from_slice(&[compression, 0]);
    for field in [place.segment, place.offset] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    let facts = &header.facts;
    for field in [facts.id.chunk.get(), facts.id.version.get(), facts.base.0, facts.owner, facts.index, facts.put_at] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for field in [facts.base.1, header.total, header.data_len, header.allocated] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for field in header.counts {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&header.tables_crc.to_le_bytes());
    if format == FORMAT_PACKED {
        for field in [header.stored_len, header.frames] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
    out.resize(HEADER_BYTES - 4, 0);
    let crc = crc32c::crc32c_append(salt, &out);
    out.extend_from_slice(&crc.to_le_bytes());
    let mut bytes = [0; HEADER_BYTES];
    bytes.copy_from_slice(&out);
    bytes
}

/// The header at the front of `bytes`, if one of this store lies at (`segment`, `offset`).
pub(crate) fn decode_header(bytes: &[u8], segment: u32, offset: u32, salt: u32) -> Option<Header> {
    let bytes = bytes.get(..HEADER_BYTES)?;
    let (fields, crc) = bytes.split_at_checked(HEADER_BYTES - 4)?;
    let mut read = Fields(fields);
    if read.u32()? != MAGIC || crc != crc32c::crc32c_append(salt, fields).to_le_bytes() {
        return None;
    }
    let [format, kind, compression, _] = read.u32()?.to_le_bytes();
    let kind = match kind {
        1 => Kind::Version,
        2 => Kind::Dead,
        3 => Kind::Needed,
        _ => return None,
    };
    let compression = match (format, compression) {
        (FORMAT_PLAIN, _) => Compression::None,
        (FORMAT_PACKED, 1) => Compression::Lz4,
        (FORMAT_PACKED, 2) => Compression::Zstd,
        _ => return None,
    };
    if read.u32()? != segment || read.u32()? != offset {
        return None;
    }
    let id = VersionId { chunk: ChunkId::new(read.u64()?)?, version: ChunkVersion::new(read.u64()?)? };
    let (base, owner, index, put_at) = (read.u64()?, read.u64()?, read.u64()?, read.u64()?);
    let base = (base, read.u32()?);
    let (total, data_len, allocated) = (read.u32()?, read.u32()?, read.u32()?);
    let counts = [read.u32()?, read.u32()?, read.u32()?, read.u32()?];
    let tables_crc = read.u32()?;
    let (stored_len, frames) = match compression {
        Compression::None => (data_len, 0),
        Compression::Lz4 | Compression::Zstd => (read.u32()?, read.u32()?),
    };
    let facts = Facts { id, base, owner, index, put_at };
    let header =
        Header { kind, facts, total, data_len, allocated, compression, stored_len, counts, tables_crc, frames };
    header.is_sound().then_some(header)
}

/// Does a record's header perhaps begin here? Quick, for scans.
pub(crate) fn has_magic(bytes: &[u8]) -> bool {
    bytes.get(..4) == Some(&MAGIC.to_le_bytes())
}

/// The tables behind `header`; none when they are damaged or do not fit together.
pub(crate) fn decode_tables(header: &Header, bytes: &[u8]) -> Option<Manifest> {
    let bytes = bytes.get(..header.tables_len())?;
    if crc32c::crc32c(bytes) != header.tables_crc {
        return None;
    }
    let mut read = Fields(bytes);
    let [sources, pieces, runs, crcs] = header.counts;
    let manifest = Manifest {
        sources: (0..sources).map(|_| read.source()).collect::<Option<_>>()?,
        pieces: (0..pieces).map(|_| read.piece()).collect::<Option<_>>()?,
        runs: (0..runs).map(|_| Some(Run { offset: read.u32()?, len: read.u32()? })).collect::<Option<_>>()?,
        crcs: (0..crcs).map(|_| read.u32()).collect::<Option<_>>()?,
        compression: header.compression,
        frames: (0..header.frames).map(|_| read.u32()).collect::<Option<_>>()?,
    };
    is_consistent(header, &manifest).then_some(manifest)
}

fn is_consistent(header: &Header, manifest: &Manifest) -> bool {
    let data_len: u64 = manifest.runs.iter().map(|run| u64::from(run.len)).sum();
    let blocks: u64 = manifest.runs.iter().map(|run| u64::from(blocks_of(run.len))).sum();
    let mut end = 0_u64;
    let ordered = manifest.pieces.iter().all(|piece| {
        let after = u64::from(piece.offset) >= end && piece.len > 0;
        end = u64::from(piece.offset) + u64::from(piece.len);
        let fits = manifest
            .sources
            .get(piece.source as usize)
            .is_some_and(|source| u64::from(piece.at) + u64::from(piece.len) <= u64::from(source.data_len));
        after && fits
    });
    ordered
        && end <= u64::from(CHUNK_BYTES_MAX)
        && data_len == u64::from(header.data_len)
        && blocks == manifest.crcs.len() as u64
        && are_frames_consistent(header, manifest)
}

/// Each frame takes at most what it holds, and all of them what the header says.
fn are_frames_consistent(header: &Header, manifest: &Manifest) -> bool {
    if manifest.compression == Compression::None {
        return manifest.frames.is_empty();
    }
    let wanted: u64 = manifest.runs.iter().map(|run| u64::from(frames_of(run.len))).sum();
    let stored: u64 = manifest.frames.iter().map(|len| u64::from(*len)).sum();
    let small = manifest.frames.iter().all(|len| (1..=FRAME_BYTES).contains(len));
    small && wanted == manifest.frames.len() as u64 && stored == u64::from(header.stored_len)
}

/// Reads little-endian fields off the front.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*front))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*front))
    }

    fn source(&mut self) -> Option<Source> {
        Some(Source { version: ChunkVersion::new(self.u64()?)?, data_len: self.u32()? })
    }

    fn piece(&mut self) -> Option<Piece> {
        Some(Piece { offset: self.u32()?, len: self.u32()?, at: self.u32()?, source: self.u32()? })
    }
}
