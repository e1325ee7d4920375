//! The segment files: append, read, sync, punch, delete.
//!
//! Never knows what a record means. Always: a range is given out once; bytes
//! below the append position are never moved; a file that has unsynced bytes
//! stays open until they are synced, so that a failed sync is seen.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use dgfs_runtime::disk;
use parking_lot::Mutex;

use crate::health::Health;
use crate::record::{HEADER_BYTES, Place, align_up};

/// A new segment begins when a record would end behind this.
pub(crate) const SEGMENT_BYTES: u32 = 64 << 20;
/// Open segment files kept for reading; the system's limit is often 1024.
const FILES_MAX: usize = 256;
/// Head and body up to this are written by one call, joined in memory.
const JOIN_BYTES_MAX: usize = 64 << 10;
/// Ends the name of a segment file.
pub(crate) const SUFFIX: &str = ".seg";

/// A position in the append order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

struct Append {
    at: Position,
    file: Option<Arc<File>>,
}

#[derive(Default)]
struct Dirty {
    files: BTreeMap<u32, Arc<File>>,
    directory: bool,
}

/// The segment files of one store.
pub(crate) struct Segments {
    directory: PathBuf,
    segment_bytes: u32,
    append: Mutex<Append>,
    open: Mutex<HashMap<u32, Arc<File>>>,
    syncer: Syncer,
    health: Arc<Health>,
}

/// Syncs what was written, apart from the rest of the segments.
#[derive(Clone)]
pub(crate) struct Syncer {
    directory: PathBuf,
    dirty: Arc<Mutex<Dirty>>,
}

impl Syncer {
    /// Waits until everything written before the call is on the disk. Blocks.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let dirty = std::mem::take(&mut *self.dirty.lock());
        for file in dirty.files.values() {
            disk::sync_file(file)?;
        }
        if dirty.directory {
            disk::sync_dir(&self.directory)?;
        }
        Ok(())
    }
}

impl Segments {
    /// The segments in `directory`; appends go on behind the last of them.
    pub(crate) fn open(directory: PathBuf, segment_bytes: u32, health: Arc<Health>) -> io::Result<Self> {
        let syncer = Syncer { directory: directory.clone(), dirty: Arc::default() };
        let segments = Self {
            directory,
            segment_bytes,
            append: Mutex::new(Append { at: Position { segment: 1, offset: 0 }, file: None }),
            open: Mutex::new(HashMap::new()),
            syncer,
            health,
        };
        if let Some(last) = segments.numbers()?.last() {
            let len = segments.len(*last)?;
            let offset = u32::try_from(len).map_or(u32::MAX, align_up);
            segments.append.lock().at = Position { segment: *last, offset };
        }
        Ok(segments)
    }

    /// The numbers of the files there are, in order.
    pub(crate) fn numbers(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            if let Some(number) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok()) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Bytes of the file, holes included.
    pub(crate) fn len(&self, segment: u32) -> io::Result<u64> {
        Ok(self.file(segment)?.metadata()?.len())
    }

    /// Its bytes, holes included, and the bytes it takes on the disk; without opening it.
    pub(crate) fn lengths_on_disk(&self, segment: u32) -> io::Result<(u64, u64)> {
        let path = self.path(segment);
        let facts = std::fs::metadata(&path)?;
        let lengths = (facts.len(), facts.blocks() * 512);
        if facts.is_file() { Ok(lengths) } else { Err(named(&path, io::ErrorKind::InvalidInput, "is no file")) }
    }

    /// Where the next record goes.
    pub(crate) fn position(&self) -> Position {
        self.append.lock().at
    }

    /// Gives out room for a record of `total` bytes.
    pub(crate) fn reserve(&self, total: u32) -> io::Result<(Place, Arc<File>)> {
        let mut append = self.append.lock();
        if append.at.offset > 0 && append.at.offset.saturating_add(total) > self.segment_bytes {
            append.at = Position { segment: append.at.segment + 1, offset: 0 };
            append.file = None;
        }
        let file = match &append.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = self.health.write(|| self.create(append.at.segment))?;
                append.file = Some(Arc::clone(&file));
                file
            }
        };
        let place = Place { segment: append.at.segment, offset: append.at.offset, total };
        append.at.offset = append.at.offset.saturating_add(total);
        Ok((place, file))
    }

    fn create(&self, segment: u32) -> io::Result<Arc<File>> {
        let path = self.path(segment);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let file = Arc::new(file);
        self.syncer.dirty.lock().directory = true;
        self.remember(segment, &file);
        Ok(file)
    }

    /// Writes a record's head and data to its reserved `place`; afterwards they wait for the next sync.
    pub(crate) fn write(&self, place: Place, file: &Arc<File>, head: &[u8], data: &[u8]) -> io::Result<()> {
        let at = u64::from(place.offset);
        let joined = head.len() + data.len() <= JOIN_BYTES_MAX && !data.is_empty();
        let write = || {
            if joined {
                return file.write_all_at(&[head, data].concat(), at);
            }
            // Data first: a process killed between the two leaves no header without its data.
            file.write_all_at(data, at + head.len() as u64).and_then(|()| file.write_all_at(head, at))
        };
        let written = self.health.write(write);
        if written.is_err() {
            // A header that did get there must not speak for data that did not.
            let wiped = file.write_all_at(&[0; HEADER_BYTES], at);
            if let Err(error) = wiped {
                tracing::warn!(segment = place.segment, offset = place.offset, %error, "an unfinished record could not be wiped");
            }
        }
        self.mark_dirty(place.segment, file);
        written
    }

    /// Overwrites a header in place.
    pub(crate) fn write_header(&self, place: Place, header: &[u8; HEADER_BYTES]) -> io::Result<()> {
        let file = self.file(place.segment)?;
        self.health.write(|| file.write_all_at(header, u64::from(place.offset)))?;
        self.mark_dirty(place.segment, &file);
        Ok(())
    }

    fn mark_dirty(&self, segment: u32, file: &Arc<File>) {
        self.syncer.dirty.lock().files.entry(segment).or_insert_with(|| Arc::clone(file));
    }

    /// Fills `out` from `offset`; `UnexpectedEof` when the file ends before.
    pub(crate) fn read(&self, segment: u32, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.health.read(|| self.file(segment)?.read_exact_at(out, offset))
    }

    /// Up to `len` bytes from `offset`, fewer at the file's end.
    pub(crate) fn read_some(&self, segment: u32, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.health.read(|| self.read_up_to(segment, offset, len))
    }

    fn read_up_to(&self, segment: u32, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = self.file(segment)?;
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// What syncs them.
    pub(crate) fn syncer(&self) -> Syncer {
        self.syncer.clone()
    }

    /// Appends go on at `position` or behind it.
    pub(crate) fn skip_to(&self, position: Position) {
        let mut append = self.append.lock();
        if append.at < position {
            *append = Append { at: Position { segment: position.segment.saturating_add(1), offset: 0 }, file: None };
        }
    }

    /// Gives the disk blocks behind a dead record's header back.
    pub(crate) fn punch(&self, place: Place) -> io::Result<()> {
        let file = self.file(place.segment)?;
        let from = i64::from(place.offset) + HEADER_BYTES as i64;
        let len = i64::from(place.total) - HEADER_BYTES as i64;
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the descriptor is open for the whole call; no memory is passed.
        let status = unsafe { libc::fallocate(file.as_raw_fd(), mode, from, len) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Deletes a segment that nothing refers to any more.
    pub(crate) fn delete(&self, segment: u32) -> io::Result<()> {
        self.open.lock().remove(&segment);
        self.syncer.dirty.lock().files.remove(&segment);
        std::fs::remove_file(self.path(segment))?;
        disk::sync_dir(&self.directory)
    }

    fn file(&self, segment: u32) -> io::Result<Arc<File>> {
        if let Some(file) = self.open.lock().get(&segment) {
            return Ok(Arc::clone(file));
        }
        let path = self.path(segment);
        let file =
            Arc::new(OpenOptions::new().read(true).write(true).open(&path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => error,
                kind => named(&path, kind, &error.to_string()),
            })?);
        self.remember(segment, &file);
        Ok(file)
    }

    fn remember(&self, segment: u32, file: &Arc<File>) {
        let mut open = self.open.lock();
        if open.len() >= FILES_MAX {
            // Any one will do: opening a file again costs microseconds.
            let victim = open.keys().next().copied();
            victim.map(|victim| open.remove(&victim));
        }
        open.insert(segment, Arc::clone(file));
    }

    fn path(&self, segment: u32) -> PathBuf {
        self.directory.join(format!("{segment:08}{SUFFIX}"))
    }
}

fn named(path: &std::path::Path, kind: io::ErrorKind, reason: &str) -> io::Error {
    io::Error::new(kind, format!("{}: {reason}", path.display()))
}
