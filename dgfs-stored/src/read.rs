//! Reads: from a version's name to checked bytes.
//!
//! Never gives out a byte whose checksum it has not verified. Always: when a
//! record was moved by compaction in the middle of a read, the read finds it again.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use dgfs_proto::chunk::VersionId;
use dgfs_proto::ids::ChunkId;
use dgfs_proto::limits::CHECKSUM_BLOCK_BYTES;
use dgfs_proto::status::Status;

use crate::cache::{Record, RecordCache};
use crate::frames::{FRAME_BYTES, frames_of, unpack};
use crate::index::{IndexError, State};
use crate::record::{HEADER_BYTES, Header, Kind, Piece, Place, Source, decode_header, decode_tables};
use crate::segment::Segments;
use crate::table::Table;

/// Bytes read at a record's place before its tables' length is known.
const HEAD_READ_BYTES: usize = 4096;
/// Tries to follow a record that compaction moves.
const MOVES_MAX: usize = 4;

/// Why bytes could not be read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The version is not held.
    NoVersion,
    /// Bytes at this place do not match their checksums.
    Corrupt(Place, &'static str),
    /// The record of this version is not where it was.
    Moved(VersionId),
    /// A version shows data of one that is not there.
    NoSource(VersionId),
    /// The disk refused.
    Io(io::Error),
    /// The index refused.
    Index(IndexError),
}

impl From<IndexError> for Fault {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

/// Records and where they lie: all that reading needs.
pub(crate) struct Shelf {
    pub(crate) segments: Segments,
    pub(crate) table: Table,
    pub(crate) cache: RecordCache,
    pub(crate) salt: u32,
}

impl Shelf {
    /// The record of a version that is held, or that others show data of.
    pub(crate) fn record(&self, id: VersionId) -> Result<Arc<Record>, Fault> {
        if let Some(record) = self.cache.get(id) {
            return Ok(record);
        }
        let mut missed = None;
        loop {
            let entry = match self.table.get(id)? {
                Some(entry) if entry.state != State::Dead => entry,
                Some(_) | None => return Err(Fault::NoVersion),
            };
            match self.load(id, entry.place, entry.state == State::Live) {
                // Compaction changes the entry before it removes a file: one that still names it is the truth.
                Err(Fault::Moved(_)) if missed == Some(entry.place) => {
                    return Err(Fault::Corrupt(entry.place, "its segment file is missing"));
                }
                Err(Fault::Moved(_)) => missed = Some(entry.place),
                Err(fault) => return Err(fault),
                Ok(record) => {
                    let record = Arc::new(record);
                    self.cache.insert(id, &record);
                    // Written anew meanwhile: the record is right for this reader, and must not stay for later ones.
                    if self.table.get(id)?.is_none_or(|now| now.place != entry.place) {
                        self.cache.remove(id);
                    }
                    return Ok(record);
                }
            }
        }
    }

    fn load(&self, id: VersionId, place: Place, live: bool) -> Result<Record, Fault> {
        let (header, tables) = self.read_head(id, place)?;
        let right = header.kind != Kind::Dead && header.facts.id == id && header.total == place.total;
        if !right {
            return Err(Fault::Corrupt(place, "another record lies there"));
        }
        let manifest = decode_tables(&header, &tables).ok_or(Fault::Corrupt(place, "its tables are damaged"))?;
        Ok(Record::new(place, header.data_at(), manifest, live))
    }

    /// Header and bytes of the tables of the record at `place`.
    pub(crate) fn read_head(&self, id: VersionId, place: Place) -> Result<(Header, Vec<u8>), Fault> {
        let at = u64::from(place.offset);
        let first = HEAD_READ_BYTES.min(place.total as usize);
        let mut bytes = self.segments.read_some(place.segment, at, first).map_err(|error| moved_or_io(id, error))?;
        let header = decode_header(&bytes, place.segment, place.offset, self.salt)
            .ok_or(Fault::Corrupt(place, "its header is damaged"))?;
        let whole = header.data_at() as usize;
        if bytes.len() < whole {
            bytes = self.segments.read_some(place.segment, at, whole).map_err(|error| moved_or_io(id, error))?;
        }
        let tables = bytes.get(HEADER_BYTES..whole).ok_or(Fault::Corrupt(place, "the file ends inside it"))?;
        Ok((header, tables.to_vec()))
    }

    /// `len` checked bytes of `record` (a live version) from `offset`; zeros where it has no data.
    pub(crate) fn read_range(&self, id: VersionId, record: &Record, offset: u32, len: u32) -> Result<Bytes, Fault> {
        let end = offset + len;
        let pieces = &record.manifest.pieces;
        let first = pieces.partition_point(|piece| piece.offset + piece.len <= offset);
        let touched = || pieces.iter().skip(first).take_while(|piece| piece.offset < end);
        let covers = |piece: &&Piece| piece.offset <= offset && piece.offset + piece.len >= end;
        if let Some(piece) = touched().next().filter(covers) {
            let at = piece.at + (offset - piece.offset);
            return self.with_source(id, record, piece, |source| self.read_checked(id, source, at, len));
        }
        let mut out = vec![0; len as usize];
        for piece in touched() {
            let from = piece.offset.max(offset);
            let to = (piece.offset + piece.len).min(end);
            let at = piece.at + (from - piece.offset);
            let Some(target) = out.get_mut((from - offset) as usize..(to - offset) as usize) else { continue };
            self.with_source(id, record, piece, |source| self.read_checked_into(id, source, at, target))?;
        }
        Ok(Bytes::from(out))
    }

    /// Runs `read` on the record with the piece's data.
    fn with_source<T>(
        &self,
        id: VersionId,
        record: &Record,
        piece: &Piece,
        read: impl FnMut(&Record) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let Some(source) = record.manifest.sources.get(piece.source as usize) else {
            return Err(Fault::Corrupt(record.place, "a piece has no source"));
        };
        let source_id = VersionId { chunk: id.chunk, version: source.version };
        self.with_record(source_id, (source_id == id).then_some(record), as_shown(source_id, *source, read))
    }

    /// Runs `read` on the record of `id`, first as `known`; finds it again when it was moved.
    fn with_record<T>(
        &self,
        id: VersionId,
        known: Option<&Record>,
        mut read: impl FnMut(&Record) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut known = known;
        for _ in 0..MOVES_MAX {
            let answer = match known.take() {
                Some(record) => read(record),
                None => match self.record(id) {
                    Ok(record) => read(&record),
                    Err(Fault::NoVersion) => return Err(Fault::NoSource(id)),
                    Err(fault) => Err(fault),
                },
            };
            match answer {
                Err(Fault::Moved(_)) => self.cache.remove(id),
                answer => return answer,
            }
        }
        Err(Fault::Moved(id))
    }

    /// `len` checked bytes from `at` in the data of a source of a version of this chunk.
    pub(crate) fn read_source(&self, chunk: ChunkId, source: Source, at: u32, len: u32) -> Result<Bytes, Fault> {
        let id = VersionId { chunk, version: source.version };
        self.with_record(id, None, as_shown(id, source, |record| self.read_checked(id, record, at, len)))
    }

    fn read_checked(&self, id: VersionId, record: &Record, at: u32, len: u32) -> Result<Bytes, Fault> {
        let span = BlockSpan::around(record, at, len)?;
        let mut bytes = vec![0; (span.end - span.start) as usize];
        self.read_data(id, record, &span, &mut bytes)?;
        span.verify(record, &bytes)?;
        let from = (at - span.start) as usize;
        Ok(Bytes::from(bytes).slice(from..from + len as usize))
    }

    fn read_checked_into(&self, id: VersionId, record: &Record, at: u32, target: &mut [u8]) -> Result<(), Fault> {
        let len = u32::try_from(target.len()).unwrap_or(u32::MAX);
        let span = BlockSpan::around(record, at, len)?;
        if span.start == at && span.end == at + len {
            self.read_data(id, record, &span, target)?;
            return span.verify(record, target);
        }
        let bytes = self.read_checked(id, record, at, len)?;
        target.copy_from_slice(&bytes);
        Ok(())
    }

    /// The bytes of a span, not checked.
    fn read_data(&self, id: VersionId, record: &Record, span: &BlockSpan, out: &mut [u8]) -> Result<(), Fault> {
        if record.frame_starts.is_empty() {
            return self.read_stored(id, record, span.start, out);
        }
        let damaged = || Fault::Corrupt(record.place, "its data do not unpack");
        let frames = span.first_frame as usize..=(span.first_frame + frames_of(span.end - span.start)) as usize;
        let starts = record.frame_starts.get(frames).ok_or_else(damaged)?;
        let (Some(first), Some(last)) = (starts.first(), starts.last()) else { return Err(damaged()) };
        let mut packed = vec![0; (last - first) as usize];
        self.read_stored(id, record, *first, &mut packed)?;
        let mut rest = packed.as_slice();
        for (ends, out) in starts.windows(2).zip(out.chunks_mut(FRAME_BYTES as usize)) {
            let [from, to] = ends else { return Err(damaged()) };
            let (frame, behind) = rest.split_at_checked((to - from) as usize).ok_or_else(damaged)?;
            rest = behind;
            if !unpack(record.manifest.compression, frame, out) {
                return Err(damaged());
            }
        }
        Ok(())
    }

    /// Bytes of the data as they lie on the disk.
    fn read_stored(&self, id: VersionId, record: &Record, at: u32, out: &mut [u8]) -> Result<(), Fault> {
        let place = record.place;
        let offset = u64::from(place.offset) + u64::from(record.data_at) + u64::from(at);
        self.segments.read(place.segment, offset, out).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::Corrupt(place, "the file ends inside it"),
            _ => moved_or_io(id, error),
        })
    }

    /// Checks all data in the record itself.
    pub(crate) fn check_own_data(&self, id: VersionId, record: &Record) -> Result<(), Fault> {
        for (run, start) in record.manifest.runs.iter().zip(&record.run_starts) {
            self.read_checked(id, record, start.0, run.len)?;
        }
        Ok(())
    }

    /// All data in the record itself as they lie on the disk, not checked.
    pub(crate) fn raw_data(&self, id: VersionId, record: &Record) -> Result<Vec<u8>, Fault> {
        let mut data = vec![0; record.manifest.stored_len() as usize];
        self.read_stored(id, record, 0, &mut data)?;
        Ok(data)
    }

    /// Reads and checks the head and data of the record at `place`.
    pub(crate) fn check_record(&self, id: VersionId, place: Place) -> Result<Record, Fault> {
        let record = self.load(id, place, true)?;
        self.check_own_data(id, &record)?;
        Ok(record)
    }
}

/// Reads of a record whose data are laid out as when it became a source. One that was written anew meanwhile is so only if it
/// has as many bytes: then all of it was its own before, in the same order.
fn as_shown<T>(
    id: VersionId,
    source: Source,
    mut read: impl FnMut(&Record) -> Result<T, Fault>,
) -> impl FnMut(&Record) -> Result<T, Fault> {
    let mut looked_up_again = false;
    move |record| {
        if record.manifest.data_len() == source.data_len {
            return read(record);
        }
        // It may be remembered from before it was written anew; the one that is there has the last word.
        if std::mem::replace(&mut looked_up_again, true) {
            return Err(Fault::Corrupt(record.place, "it was written anew, and is shown as it was before"));
        }
        Err(Fault::Moved(id))
    }
}

fn moved_or_io(id: VersionId, error: io::Error) -> Fault {
    if error.kind() == io::ErrorKind::NotFound { Fault::Moved(id) } else { Fault::Io(error) }
}

/// The whole checksum blocks, and frames of compressed data, around a range of one run.
struct BlockSpan {
    start: u32,
    end: u32,
    first_crc: u32,
    first_frame: u32,
}

impl BlockSpan {
    fn around(record: &Record, at: u32, len: u32) -> Result<Self, Fault> {
        let runs = &record.run_starts;
        let number = runs.partition_point(|(start, ..)| *start <= at).wrapping_sub(1);
        let (Some((start, first_crc, first_frame)), Some(run)) = (runs.get(number), record.manifest.runs.get(number))
        else {
            return Err(Fault::Corrupt(record.place, "a piece lies outside its data"));
        };
        let (from, to) = (at - start, at - start + len);
        if to > run.len || len == 0 {
            return Err(Fault::Corrupt(record.place, "a piece lies outside its run"));
        }
        let unit = if record.frame_starts.is_empty() { CHECKSUM_BLOCK_BYTES } else { FRAME_BYTES };
        let begin = from / unit * unit;
        let end = (to.div_ceil(unit) * unit).min(run.len);
        Ok(Self {
            start: start + begin,
            end: start + end,
            first_crc: first_crc + begin / CHECKSUM_BLOCK_BYTES,
            first_frame: first_frame + begin / FRAME_BYTES,
        })
    }

    fn verify(&self, record: &Record, bytes: &[u8]) -> Result<(), Fault> {
        let crcs = record.manifest.crcs.iter().skip(self.first_crc as usize);
        let mut blocks = bytes.chunks(CHECKSUM_BLOCK_BYTES as usize).zip(crcs);
        if blocks.all(|(block, crc)| crc32c::crc32c(block) == *crc) {
            Ok(())
        } else {
            Err(Fault::Corrupt(record.place, "its data do not match their checksums"))
        }
    }
}

impl Fault {
    /// What the caller is told.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::NoVersion => Status::NoVersion,
            Self::Corrupt(..) | Self::NoSource(_) => Status::Corrupt,
            Self::Moved(_) => Status::Busy,
            Self::Io(_) | Self::Index(_) => Status::Io,
        }
    }
}
