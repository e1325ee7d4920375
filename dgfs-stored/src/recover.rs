//! The start: index checkpoint, then the segments' records behind it.
//!
//! Never gives up acknowledged data because something else is damaged: a torn
//! record in the middle hides none behind it (the scan goes on at the next header),
//! and an index that is missing, damaged or panics is thrown away and rebuilt from
//! all headers. Always: what had to be given up is named, in the log and in the report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dgfs_proto::chunk::VersionId;
use dgfs_proto::ids::ChunkId;
use dgfs_runtime::disk;

use crate::cache::RecordCache;
use crate::damage::{Damage, Lengths, Report, Ruin};
use crate::index::{Entry, Index, IndexError, SledIndex, State};
use crate::manifest::{self, Manifest};
use crate::read::{Fault, Shelf};
use crate::record::{ALIGN, Fields, HEADER_BYTES, Header, Kind, Place, Source, decode_header, has_magic};
use crate::segment::{Position, Segments};
use crate::space::Usage;
use crate::store::{OpenError, StoreOptions};
use crate::table::Table;

/// Bytes of a segment read at once by a scan.
const WINDOW_BYTES: usize = 32 << 10;
/// Entries of one index page.
const PAGE: usize = 1024;
/// Changes gathered by a rebuild before they are written to the index.
const REBUILD_BATCH: usize = 32 << 10;
/// With less room than this the index of a store is not replaced: that could not be finished.
const REBUILD_BYTES_MIN: u64 = 8 << 20;
const MARK_FILE: &str = "checkpoint";
const MARK_MAGIC: &[u8; 8] = b"DGFSCKP1";

/// Up to where the index is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) generation: u64,
    pub(crate) position: Position,
}

impl Mark {
    /// Replaces the mark in `directory`. Blocks.
    pub(crate) fn write(&self, directory: &Path, salt: u32) -> std::io::Result<()> {
        let mut out = MARK_MAGIC.to_vec();
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.position.segment.to_le_bytes());
        out.extend_from_slice(&self.position.offset.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c_append(salt, &out).to_le_bytes());
        disk::write_atomically_with_mode(&directory.join(MARK_FILE), &out, 0o600)
    }

    /// The mark in `directory`; none when it is missing or damaged.
    pub(crate) fn read(directory: &Path, salt: u32) -> Option<Self> {
        let bytes = std::fs::read(directory.join(MARK_FILE)).ok()?;
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c_append(salt, body).to_le_bytes() != *crc {
            return None;
        }
        let mut read = Fields(body.strip_prefix(MARK_MAGIC)?);
        Some(Self { generation: read.u64()?, position: Position { segment: read.u32()?, offset: read.u32()? } })
    }

    /// Removes it, so that the next start rebuilds the index.
    pub(crate) fn forget(directory: &Path) -> std::io::Result<()> {
        std::fs::remove_file(directory.join(MARK_FILE))
    }
}

/// A store's state after the start.
pub(crate) struct Recovered {
    pub(crate) shelf: Shelf,
    pub(crate) usage: Usage,
    pub(crate) dropped: Vec<(VersionId, State)>,
    pub(crate) replaced: Vec<(VersionId, Place)>,
    pub(crate) generation: u64,
    pub(crate) report: Report,
    /// What was mended, in sentences.
    pub(crate) mended: Vec<String>,
    /// The segment list on the disk.
    pub(crate) listed: Manifest,
}

/// Opens the index in `directory` and brings it up to the segments. Blocks.
pub(crate) fn recover(options: &StoreOptions, segments: Segments, salt: u32) -> Result<Recovered, OpenError> {
    let (directory, cache_bytes) = (options.directory.as_path(), options.cache_bytes);
    let mark = Mark::read(directory, salt);
    if let Some(mark) = mark {
        segments.skip_to(mark.position);
    }
    let index_directory = directory.join("index");
    let shelf_of =
        |segments, index| Shelf { segments, table: Table::new(index), cache: RecordCache::new(cache_bytes), salt };
    let unusable = |reason: String| OpenError::Index { directory: directory.to_owned(), reason };
    let listed = manifest::read(directory, salt);
    let lengths = Lengths::of(&segments).map_err(|source| OpenError::Io {
        step: "look at the segments",
        directory: directory.to_owned(),
        source,
    })?;
    let mut damage = Damage::default();
    for (segment, len) in &listed {
        if let Some(ruin) = lengths.ruin_of(*segment, u64::from(*len)) {
            damage.file(*segment, ruin);
        }
    }
    if let Some(mark) = mark {
        // The zeros behind the last record are never written.
        let least = u64::from(mark.position.offset.saturating_sub(ALIGN - 1));
        let ruin = lengths.ruin_of(mark.position.segment, least).filter(|_| least > 0);
        ruin.into_iter().for_each(|ruin| damage.file(mark.position.segment, ruin));
    }
    let (segments, reason) = match open_index(&index_directory, mark, &segments) {
        Ok(index) => {
            let recovery = Recovery {
                puts_are_synced: options.puts_are_synced,
                ..Recovery::new(shelf_of(segments, index), mark.unwrap_or_default(), mark, &lengths)
            };
            match recovery.run(damage.clone()) {
                Ok(recovered) => return Ok(Recovered { listed, ..recovered }),
                Err(failed) => (failed.0, format!("{:?}", failed.1)),
            }
        }
        Err(error) => (segments, error.0),
    };
    // On a full disk no index can be opened, however good it is.
    let free_bytes = disk::disk_space(directory).map_or(u64::MAX, |space| space.free_bytes);
    if free_bytes < REBUILD_BYTES_MIN {
        return Err(unusable(format!("{free_bytes} bytes are free, nothing was changed ({reason})")));
    }
    tracing::warn!(reason, "the chunk index is thrown away and rebuilt from the segments");
    let first = Position { segment: 1, offset: 0 };
    if listed.is_empty() && mark.is_none_or(|mark| mark.position > first) {
        let sentence = "segments.list is missing or damaged, as is the index: if segment files vanished with them, \
                        only `dgfs fsck` can say which files lack data";
        damage.name(sentence.to_owned());
    }
    let index = fresh_index(&index_directory).map_err(&unusable)?;
    let generation = mark.map_or(0, |mark| mark.generation);
    let from_start = Mark { generation, position: Position::default() };
    // Without a mark nothing tells what was synced.
    let puts_are_synced = options.puts_are_synced || mark.is_none();
    let recovery = Recovery { puts_are_synced, ..Recovery::new(shelf_of(segments, index), from_start, mark, &lengths) };
    let recovered = recovery.run(damage).map_err(|failed| unusable(format!("{:?}", failed.1)))?;
    let mended = vec![format!("the chunk index was thrown away and rebuilt from the segments ({reason})")];
    Ok(Recovered { listed, mended, ..recovered })
}

/// The index, if it is at least as new as the mark says.
fn open_index(directory: &Path, mark: Option<Mark>, segments: &Segments) -> Result<Box<dyn Index>, IndexError> {
    let fresh = segments.numbers().is_ok_and(|numbers| numbers.is_empty());
    if mark.is_none() && !fresh {
        return Err(IndexError("there is no checkpoint mark".to_owned()));
    }
    if mark.is_some() && !directory.is_dir() {
        return Err(IndexError("its directory is missing".to_owned()));
    }
    let index = SledIndex::open(directory)?;
    let generation = index.generation()?;
    match mark {
        Some(mark) if generation < mark.generation => {
            Err(IndexError(format!("it is at checkpoint {generation}, the mark at {}", mark.generation)))
        }
        None if generation > 0 => Err(IndexError("it is of other segments".to_owned())),
        Some(_) | None => Ok(Box::new(index)),
    }
}

fn fresh_index(directory: &Path) -> Result<Box<dyn Index>, String> {
    match std::fs::remove_dir_all(directory).or_else(|_| std::fs::remove_file(directory)) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("remove {}: {error}", directory.display())),
    }
    SledIndex::open(directory).map(|index| Box::new(index) as Box<dyn Index>).map_err(|error| error.to_string())
}

struct Recovery<'a> {
    shelf: Shelf,
    /// From where records are read.
    from: Mark,
    /// Above it data are checked too; none checks all.
    synced_to: Option<Mark>,
    /// So were those above it that were answered.
    puts_are_synced: bool,
    lengths: &'a Lengths,
    damage: Damage,
    usage: Usage,
    dropped: Vec<(VersionId, State)>,
    /// Older places of versions that were written anew.
    replaced: Vec<(VersionId, Place)>,
    /// Chunks with dropped records whose use is to be found out.
    unsettled: BTreeMap<ChunkId, BTreeSet<VersionId>>,
    /// Versions read that show data of other records.
    composed: Vec<VersionId>,
}

impl<'a> Recovery<'a> {
    fn new(shelf: Shelf, from: Mark, synced_to: Option<Mark>, lengths: &'a Lengths) -> Self {
        Self {
            shelf,
            from,
            synced_to,
            puts_are_synced: false,
            lengths,
            damage: Damage::default(),
            usage: Usage::default(),
            dropped: Vec::new(),
            replaced: Vec::new(),
            unsettled: BTreeMap::new(),
            composed: Vec::new(),
        }
    }

    fn run(mut self, damage: Damage) -> Result<Recovered, Box<(Segments, Fault)>> {
        self.damage = damage;
        match self.steps() {
            Ok(()) => Ok(Recovered {
                shelf: self.shelf,
                usage: self.usage,
                dropped: self.dropped,
                replaced: self.replaced,
                generation: self.from.generation,
                report: self.damage.report(),
                mended: Vec::new(),
                listed: Manifest::new(),
            }),
            Err(fault) => Err(Box::new((self.shelf.segments, fault))),
        }
    }

    fn steps(&mut self) -> Result<(), Fault> {
        let numbers = self.shelf.segments.numbers().map_err(Fault::Io)?;
        self.scan_index()?;
        let first = self.from.position.segment;
        for number in numbers.into_iter().filter(|number| *number >= first) {
            self.replay_segment(number)?;
        }
        self.name_dependents()?;
        for id in std::mem::take(&mut self.composed) {
            self.check_sources(id)?;
        }
        for (chunk, incomplete) in std::mem::take(&mut self.unsettled) {
            let settled = self.shelf.settle(chunk, &incomplete)?;
            if let Some((id, fault)) = &settled.fault {
                self.damage.name(format!("chunk {} version {}: it cannot be read ({fault:?})", id.chunk, id.version));
            }
            for (id, old, new) in &settled.changed {
                self.usage.change(Some(old), Some(new));
                self.dropped.push((*id, new.state));
            }
        }
        Ok(())
    }

    /// Reads every entry: counts what is held, and finds entries whose record is gone. Those stay, so that their
    /// versions are refused and named at each start until they are dropped.
    fn scan_index(&mut self) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let page = self.shelf.table.page(after, PAGE)?;
            for (id, entry) in page.entries.iter().filter_map(|(id, entry)| Some((*id, (*entry)?))) {
                self.usage.change(None, Some(&entry));
                if entry.state == State::Dead {
                    self.dropped.push((id, State::Dead));
                } else {
                    self.check_there(id, &entry);
                }
            }
            after = page.entries.last().map(|(id, _)| *id);
            if page.end {
                return Ok(());
            }
        }
    }

    /// Does the file reach to the end of the record?
    fn check_there(&mut self, id: VersionId, entry: &Entry) {
        let place = entry.place;
        let (Some(ruin), is_sure) = self.lengths.ruin_at(place) else { return };
        let reaches = |len: u64| {
            let head = self.shelf.read_head(id, place);
            head.is_ok_and(|(header, _)| {
                u64::from(place.offset) + u64::from(header.data_at()) + u64::from(header.stored_len) <= len
            })
        };
        if let (Ruin::CutAt(len), false) = (ruin, is_sure)
            && reaches(len)
        {
            return;
        }
        self.damage.record(id, place.segment, ruin, entry.data_len, entry.state == State::Live);
    }

    /// Names held versions that show data of records that are gone.
    fn name_dependents(&mut self) -> Result<(), Fault> {
        let chunks: BTreeSet<ChunkId> = self.damage.records().iter().map(|id| id.chunk).collect();
        for chunk in chunks {
            for (id, entry) in self.shelf.table.of_chunk(chunk)? {
                if entry.state != State::Live || self.damage.has(id) {
                    continue;
                }
                let Ok(record) = self.shelf.record(id) else { continue };
                let gone = record
                    .manifest
                    .sources
                    .iter()
                    .find(|source| self.damage.records().contains(&VersionId { chunk, version: source.version }));
                if let Some(gone) = gone {
                    let why = format!("it shows data of version {}, which is lost", gone.version);
                    self.damage.give_up(id, 0, &why);
                }
            }
        }
        Ok(())
    }

    fn replay_segment(&mut self, segment: u32) -> Result<(), Fault> {
        let start = if segment == self.from.position.segment { self.from.position.offset } else { 0 };
        let mut walk = Walk::new(segment, start);
        while let Some((header, place)) = walk.next(&self.shelf)? {
            self.replay(&header, place)?;
        }
        for (from, to) in walk.gaps {
            let found = format!("segment {segment:08}: bytes {from} to {to} are no records");
            let ends_the_file = self.lengths.ruin_of(segment, u64::from(to) + 1).is_some();
            if self.is_synced(Position { segment, offset: from }) || (self.puts_are_synced && !ends_the_file) {
                self.damage.name(format!("{found} (damaged; `dgfs fsck` names the files whose data lay there)"));
            } else {
                self.damage.interrupt(format!("{found} (an interrupted write)"));
            }
        }
        if self.shelf.table.changes() > REBUILD_BATCH {
            self.shelf.table.freeze();
            // The generation stays: the mark is not moved, so an interrupted rebuild begins anew.
            self.shelf.table.commit_frozen(0)?;
        }
        Ok(())
    }

    fn replay(&mut self, header: &Header, place: Place) -> Result<(), Fault> {
        if header.kind == Kind::Dead {
            return Ok(());
        }
        let id = header.facts.id;
        let at = Position { segment: place.segment, offset: place.offset };
        let is_synced = self.is_synced(at);
        if !is_synced {
            match self.shelf.check_record(id, place) {
                Ok(_) => {}
                Err(Fault::Corrupt(_, reason)) => {
                    // Above the mark nothing was synced for good: once the mark passes it, only its header speaks for it.
                    self.shelf
                        .segments
                        .write_header(place, &header.turned(Kind::Dead, place, self.shelf.salt))
                        .map_err(Fault::Io)?;
                    let Place { segment, offset, .. } = place;
                    if self.shelf.table.get(id)?.is_some_and(|known| known.place != place) {
                        // It was being written anew: what it was before is there.
                        tracing::info!(segment, offset, reason, "an interrupted rewrite of a version is given up");
                        return Ok(());
                    }
                    let why = format!("not whole in segment {segment:08} at {offset} ({reason}; an interrupted write)");
                    if self.puts_are_synced && self.lengths.ruin_at(place).0.is_none() {
                        self.damage.give_up(id, header.data_len, &why);
                    } else {
                        self.damage.give_up_unfinished(id, &why);
                    }
                    return Ok(());
                }
                Err(fault) => return Err(fault),
            }
        }
        let known = self.shelf.table.get(id)?;
        let state = match (header.kind, known.map(|known| known.state)) {
            (_, Some(State::Dead)) => State::Dead,
            (Kind::Needed, _) => State::Needed,
            (Kind::Version | Kind::Dead, known) => known.unwrap_or(State::Live),
        };
        let entry = Entry {
            state,
            place,
            data_len: header.data_len,
            allocated: header.allocated,
            compression: header.compression,
            owner: header.facts.owner,
            index: header.facts.index,
            put_at: header.facts.put_at,
        };
        self.replaced.extend(known.filter(|known| known.place != place).map(|known| (id, known.place)));
        self.usage.change(known.as_ref(), Some(&entry));
        self.shelf.table.set(id, Some(entry));
        if header.shows_others() && state == State::Live {
            self.composed.push(id);
        }
        if is_synced && state != State::Dead {
            self.check_there(id, &entry);
        }
        if state == State::Needed {
            self.unsettled.entry(id.chunk).or_default();
        }
        Ok(())
    }

    /// Gives a version up whose data in other records did not survive, where they were not synced. Its own record
    /// stays while others show data of it. Synced ones are only named: the rest of their data is good.
    fn check_sources(&mut self, id: VersionId) -> Result<(), Fault> {
        let entry = self.shelf.table.get(id)?.filter(|entry| entry.state == State::Live);
        let Some(entry) = entry.filter(|_| !self.damage.has(id)) else { return Ok(()) };
        let at = Position { segment: entry.place.segment, offset: entry.place.offset };
        let is_synced = self.is_synced(at);
        let record = match self.shelf.record(id) {
            Ok(record) => record,
            Err(Fault::Corrupt(_, reason)) if is_synced => {
                self.damage.give_up(id, entry.data_len, &format!("it is damaged ({reason})"));
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        let missing = record.manifest.sources.iter().find(|source| !self.holds(id, **source));
        if let Some(missing) = missing {
            let why = format!("it shows data of version {}, which is not there", missing.version);
            if is_synced {
                self.damage.give_up(id, 0, &why);
            } else {
                self.damage.give_up_unfinished(id, &why);
                self.unsettled.entry(id.chunk).or_default().insert(id);
            }
        }
        Ok(())
    }

    fn is_synced(&self, at: Position) -> bool {
        self.synced_to.is_some_and(|mark| at < mark.position)
    }

    /// Is the record there that was meant? One that was written anew has other data than before.
    fn holds(&self, id: VersionId, source: Source) -> bool {
        let known = self.shelf.table.get(VersionId { chunk: id.chunk, version: source.version });
        matches!(known, Ok(Some(entry)) if entry.data_len == source.data_len)
    }
}

/// Goes through the records of a segment; where there is none it looks for the next header.
pub(crate) struct Walk {
    segment: u32,
    offset: u32,
    window_at: u32,
    window: Vec<u8>,
    /// Stretches without records.
    pub(crate) gaps: Vec<(u32, u32)>,
}

impl Walk {
    pub(crate) fn new(segment: u32, start: u32) -> Self {
        Self { segment, offset: start, window_at: 0, window: Vec::new(), gaps: Vec::new() }
    }

    /// The next record.
    pub(crate) fn next(&mut self, shelf: &Shelf) -> Result<Option<(Header, Place)>, Fault> {
        let begin = self.offset;
        loop {
            let (segment, offset) = (self.segment, self.offset);
            let Some(bytes) = self.at_offset(shelf)? else {
                if offset > begin {
                    self.gaps.push((begin, offset));
                }
                return Ok(None);
            };
            let found = has_magic(bytes).then(|| decode_header(bytes, segment, offset, shelf.salt)).flatten();
            let Some(header) = found else {
                self.offset = self.offset.saturating_add(ALIGN);
                continue;
            };
            if offset > begin {
                self.gaps.push((begin, offset));
            }
            self.offset = offset.saturating_add(header.total);
            return Ok(Some((header, Place { segment: self.segment, offset, total: header.total })));
        }
    }

    /// A header's worth of bytes at the offset; none at the file's end.
    fn at_offset(&mut self, shelf: &Shelf) -> Result<Option<&[u8]>, Fault> {
        let in_window = |at: u32, len: usize| self.offset >= at && (self.offset - at) as usize + HEADER_BYTES <= len;
        if !in_window(self.window_at, self.window.len()) {
            let read = shelf.segments.read_some(self.segment, u64::from(self.offset), WINDOW_BYTES);
            self.window = read.map_err(Fault::Io)?;
            self.window_at = self.offset;
        }
        let from = (self.offset - self.window_at) as usize;
        Ok(self.window.get(from..from + HEADER_BYTES))
    }
}
