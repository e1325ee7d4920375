//! In the background: checkpoints of the index, dead records, compaction.
//!
//! Never between a put and its reply. Always, in this order, so that a crash
//! between any two steps loses nothing:
//! 1. checkpoint: segments synced, index committed, then the mark moved;
//! 2. records that the checkpointed index calls dropped get a header that says so, and
//!    dead ones a hole punched for their data — never above the mark, where replay checks data;
//! 3. compaction copies what the index still knows out of a segment, a checkpoint
//!    follows, and only then the segment's file is deleted.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dgfs_proto::chunk::VersionId;
use parking_lot::{Condvar, Mutex};

use crate::index::{Entry, State};
use crate::manifest::{self, Manifest};
use crate::read::Fault;
use crate::record::{HEADER_BYTES, Header, Kind, Place, decode_tables, encode_head};
use crate::recover::{Mark, Walk};
use crate::store::Store;

/// Bytes written before a checkpoint: what a start after a crash reads again.
const CHECKPOINT_BYTES: u64 = 128 << 20;
/// Changed entries before a checkpoint.
const CHECKPOINT_CHANGES: usize = 16 << 10;
/// A checkpoint at least so often while anything changes.
const CHECKPOINT_MS: u64 = 10_000;
/// Rounds of the thread.
const ROUND: Duration = Duration::from_secs(1);
/// How often the disk is looked at for segments worth compacting.
const SURVEY_MS: u64 = 15_000;
/// Records waiting to be marked dropped before a drop waits for a checkpoint: 1 MiB of memory.
const DROPPED_MAX: usize = 64 << 10;
/// Smaller dead records are left to compaction: a hole costs an extent.
const PUNCH_BYTES_MIN: u32 = 16 << 10;
/// Segments compacted in one survey, so that checkpoints are not kept waiting.
const COMPACT_MAX: usize = 8;
/// A segment with less than this part of its length alive is rewritten even where holes gave the room back.
const SPARSE_PART: u64 = 16;

/// State of the background work.
pub(crate) struct Maintenance {
    /// Held while one piece of work runs.
    running: Mutex<()>,
    wake: Arc<Wake>,
    thread: Mutex<Option<JoinHandle<()>>>,
    mark: Mutex<Mark>,
    written: AtomicU64,
    used_bytes: AtomicU64,
    /// What of it is the index's, as of the last survey.
    index_bytes: AtomicU64,
    segments: AtomicU64,
    index_failed: AtomicBool,
    /// Segments with damage: left as they are, for a person.
    damaged: Mutex<HashSet<u32>>,
    /// The segment list as it is on the disk.
    listed: Mutex<Manifest>,
}

#[derive(Default)]
struct Wake {
    state: Mutex<WakeState>,
    condvar: Condvar,
}

#[derive(Default)]
struct WakeState {
    stop: bool,
    woken: bool,
}

impl Maintenance {
    pub(crate) fn new(generation: u64, listed: Manifest) -> Self {
        Self {
            running: Mutex::new(()),
            wake: Arc::default(),
            thread: Mutex::new(None),
            mark: Mutex::new(Mark { generation, ..Mark::default() }),
            written: AtomicU64::new(0),
            used_bytes: AtomicU64::new(0),
            index_bytes: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            index_failed: AtomicBool::new(false),
            damaged: Mutex::default(),
            listed: Mutex::new(listed),
        }
    }

    /// Counts a record written, and starts a checkpoint when there are enough.
    pub(crate) fn wrote(&self, total: u32) {
        self.used_bytes.fetch_add(u64::from(total), Ordering::Relaxed);
        let before = self.written.fetch_add(u64::from(total), Ordering::Relaxed);
        if before < CHECKPOINT_BYTES && before + u64::from(total) >= CHECKPOINT_BYTES {
            self.wake();
        }
    }

    /// Starts a round now.
    pub(crate) fn wake(&self) {
        self.wake.state.lock().woken = true;
        self.wake.condvar.notify_all();
    }

    /// Has the index failed since the start?
    pub(crate) fn index_has_failed(&self) -> bool {
        self.index_failed.load(Ordering::Acquire)
    }

    /// Bytes that segments take on the disk.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.used_bytes().saturating_sub(self.index_bytes.load(Ordering::Relaxed))
    }

    /// Bytes on the disk, as of the last survey and what was written since.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Segment files at the last survey.
    pub(crate) fn segment_count(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.wake.state.lock().stop = true;
        self.wake.condvar.notify_all();
    }
}

impl Store {
    /// Starts the thread; it ends with the store.
    pub(crate) fn start_maintenance(store: &Arc<Self>) {
        let weak = Arc::downgrade(store);
        let wake = Arc::clone(&store.maintenance.wake);
        let spawned = std::thread::Builder::new().name("dgfs-stored-keep".to_owned()).spawn(move || {
            let mut last = Rounds::default();
            while wake.wait() {
                let Some(store) = weak.upgrade() else { break };
                store.round(&mut last);
            }
        });
        match spawned {
            Ok(thread) => *store.maintenance.thread.lock() = Some(thread),
            Err(error) => {
                tracing::error!(%error, "the store's background thread did not start: no room is given back until a restart")
            }
        }
    }

    /// Ends the thread.
    pub(crate) fn stop_maintenance(&self) {
        self.maintenance.wake.state.lock().stop = true;
        self.maintenance.wake.condvar.notify_all();
        let thread = self.maintenance.thread.lock().take();
        let others = thread.filter(|thread| thread.thread().id() != std::thread::current().id());
        if others.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's background thread had panicked");
        }
    }

    fn round(&self, last: &mut Rounds) {
        let now = self.options.clock.monotonic_ms();
        let changes = self.shelf.table.changes();
        let due = now.saturating_sub(last.checkpoint_ms) >= CHECKPOINT_MS && changes > 0;
        let full =
            changes >= CHECKPOINT_CHANGES || self.maintenance.written.load(Ordering::Relaxed) >= CHECKPOINT_BYTES;
        if due || full {
            last.checkpoint_ms = now;
            self.report(self.checkpoint());
        }
        if now.saturating_sub(last.survey_ms) >= SURVEY_MS || last.survey_ms == 0 {
            last.survey_ms = now.max(1);
            self.report(self.compact());
        }
    }

    fn report(&self, result: Result<(), String>) {
        if let Err(reason) = result {
            tracing::error!(reason, "background work on the chunk store failed; it is tried again");
        }
    }

    /// Makes the next start rebuild the index, because it failed.
    pub(crate) fn forget_checkpoint(&self) {
        if self.maintenance.index_failed.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = Mark::forget(self.directory()) {
            tracing::error!(%error, "remove the file `checkpoint` by hand before the next start");
        }
    }

    /// Brings the index up to all that was put, and marks dead records. Blocks.
    ///
    /// # Errors
    /// A sentence; nothing is lost, the next start then reads more of the segments.
    pub fn checkpoint(&self) -> Result<(), String> {
        let _one = self.maintenance.running.lock();
        self.checkpoint_alone()
    }

    fn checkpoint_alone(&self) -> Result<(), String> {
        if self.maintenance.index_has_failed() {
            return Err("the chunk index failed; restart the daemon, it will rebuild it".to_owned());
        }
        let (position, dropped, replaced) = {
            let _gate = self.gate.write();
            self.shelf.table.freeze();
            let (dropped, replaced) = (&mut *self.dropped.lock(), &mut *self.replaced.lock());
            (self.shelf.segments.position(), std::mem::take(dropped), std::mem::take(replaced))
        };
        self.maintenance.written.store(0, Ordering::Relaxed);
        let generation = self.maintenance.mark.lock().generation + 1;
        let mark = Mark { generation, position };
        let done = self
            .sync_blocking()
            .map_err(|status| format!("sync the segments: {status}"))
            .and_then(|()| self.shelf.table.commit_frozen(generation).map_err(|error| error.to_string()))
            .and_then(|()| {
                self.list_segments(position.segment, None).map_err(|error| format!("list the segments: {error}"))
            })
            .and_then(|()| {
                mark.write(self.directory(), self.shelf.salt).map_err(|error| format!("write the mark: {error}"))
            });
        if let Err(reason) = done {
            self.dropped.lock().extend(dropped);
            self.replaced.lock().extend(replaced);
            return Err(reason);
        }
        *self.maintenance.mark.lock() = mark;
        for (id, state) in dropped {
            if let Err(fault) = self.bury(id, state) {
                self.refuse(id, &fault);
                self.dropped.lock().push((id, state));
            }
        }
        for (id, place) in replaced {
            if let Err(fault) = self.bury_replaced(id, place) {
                self.refuse(id, &fault);
                self.replaced.lock().push((id, place));
            }
        }
        Ok(())
    }

    /// Notes how long the last segment is, too: nothing more is appended. Called at the end.
    pub(crate) fn seal_list(&self) {
        let past = self.maintenance.mark.lock().position.segment.saturating_add(1);
        if let Err(error) = self.list_segments(past, None) {
            tracing::warn!(%error, "the list of segments could not be written");
        }
    }

    /// Writes the segment list where it changed: all files but `leaving`, with the lengths of those below `appending`.
    /// Files that were lost are not in it any more: the index names what was in them.
    fn list_segments(&self, appending: u32, leaving: Option<u32>) -> std::io::Result<()> {
        let mut listed = self.maintenance.listed.lock();
        // Files in front of the last one listed are finished and keep their length; that one may have grown.
        let last = listed.last_key_value().map_or(0, |(last, _)| *last);
        let mut now = Manifest::new();
        for segment in self.shelf.segments.numbers()?.into_iter().filter(|segment| Some(*segment) != leaving) {
            let known = listed.get(&segment).copied().unwrap_or(0);
            let on_disk =
                || self.shelf.segments.lengths_on_disk(segment).map(|(len, _)| u32::try_from(len).unwrap_or(u32::MAX));
            let is_settled = segment >= appending || (segment < last && known > 0);
            now.insert(segment, if is_settled { known } else { known.max(on_disk()?) });
        }
        if *listed != now {
            manifest::write(self.directory(), self.shelf.salt, &now)?;
            *listed = now;
        }
        Ok(())
    }

    /// Says in a dropped version's record what became of it; a dead one is forgotten.
    /// `state` is what the checkpointed index says; a later one waits for the next checkpoint.
    fn bury(&self, id: VersionId, state: State) -> Result<(), Fault> {
        let _stripe = self.stripe(id.chunk).lock();
        let Some(entry) = self.shelf.table.get(id)? else { return Ok(()) };
        let kind = match state {
            State::Live => return Ok(()),
            State::Needed => Kind::Needed,
            State::Dead => Kind::Dead,
        };
        match self.shelf.read_head(id, entry.place) {
            Ok((header, _)) => {
                let turned = header.turned(kind, entry.place, self.shelf.salt);
                self.shelf.segments.write_header(entry.place, &turned).map_err(Fault::Io)?;
            }
            // Nothing there speaks for the version any more, which is all that is wanted.
            Err(Fault::Corrupt(..) | Fault::Moved(_)) => {}
            Err(fault) => return Err(fault),
        }
        if kind == Kind::Dead {
            self.punch(entry.place);
            self.shelf.table.set(id, None);
        }
        Ok(())
    }

    /// Marks a record dead whose version lies elsewhere, as the checkpointed index says.
    fn bury_replaced(&self, id: VersionId, place: Place) -> Result<(), Fault> {
        let _stripe = self.stripe(id.chunk).lock();
        if self.shelf.table.get(id)?.is_some_and(|entry| entry.place == place) {
            return Ok(());
        }
        match self.shelf.read_head(id, place) {
            Ok((header, _)) if header.facts.id == id && header.kind != Kind::Dead => {
                let turned = header.turned(Kind::Dead, place, self.shelf.salt);
                self.shelf.segments.write_header(place, &turned).map_err(Fault::Io)?;
                self.punch(place);
                Ok(())
            }
            Ok(_) | Err(Fault::Corrupt(..) | Fault::Moved(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Gives the room of a dead record back, if it is worth a hole.
    fn punch(&self, place: Place) {
        if place.total < PUNCH_BYTES_MIN {
            return;
        }
        match self.shelf.segments.punch(place) {
            Ok(()) => {
                let used = &self.maintenance.used_bytes;
                let given = u64::from(place.total);
                let _ =
                    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(given)));
            }
            // A file system that cannot punch holes gives the room back by compaction.
            Err(error) => tracing::debug!(%error, segment = place.segment, "no hole was punched"),
        }
    }

    /// Waits for a checkpoint when very many records wait to be marked dropped.
    pub(crate) fn relieve(&self) {
        if self.dropped.lock().len() > DROPPED_MAX {
            self.report(self.checkpoint());
        }
    }

    /// Rewrites the segments with the most dead bytes. Blocks.
    ///
    /// # Errors
    /// A sentence; nothing is lost.
    pub fn compact(&self) -> Result<(), String> {
        let _one = self.maintenance.running.lock();
        // Only what lies below the mark may be moved, and what was dropped must be marked so before a file goes.
        self.checkpoint_alone()?;
        for segment in self.survey()? {
            self.compact_segment(segment).map_err(|fault| format!("compact segment {segment:08}: {fault:?}"))?;
        }
        Ok(())
    }

    /// Measures the disk, for whoever asks before the first survey.
    pub(crate) fn measure(&self) {
        if let Err(reason) = self.survey() {
            tracing::warn!(reason, "what the store takes on the disk is not known yet");
        }
    }

    /// Measures the disk; the segments worth rewriting, the emptiest first.
    fn survey(&self) -> Result<Vec<u32>, String> {
        let failed = |error: std::io::Error| format!("look at the segments: {error}");
        let numbers = self.shelf.segments.numbers().map_err(failed)?;
        let below = self.maintenance.mark.lock().position.segment;
        let mut used = directory_bytes(&self.directory().join("index"));
        self.maintenance.index_bytes.store(used, Ordering::Relaxed);
        let mut worth = Vec::new();
        for segment in &numbers {
            let (len, allocated) = self.shelf.segments.lengths_on_disk(*segment).map_err(failed)?;
            used += allocated;
            let live = self.usage.lock().segments.get(segment).copied().unwrap_or(0);
            let is_worth = live * 2 < allocated || live * SPARSE_PART < len;
            if *segment < below && is_worth && !self.maintenance.damaged.lock().contains(segment) {
                worth.push((live, *segment));
            }
        }
        self.maintenance.used_bytes.store(used, Ordering::Relaxed);
        self.maintenance.segments.store(numbers.len() as u64, Ordering::Relaxed);
        let room = self.space.free_with_reserve();
        worth.sort_unstable();
        Ok(worth.into_iter().filter(|(live, _)| *live < room).take(COMPACT_MAX).map(|(_, segment)| segment).collect())
    }

    fn compact_segment(&self, segment: u32) -> Result<(), Fault> {
        let mut walk = Walk::new(segment, 0);
        while let Some((header, place)) = walk.next(&self.shelf)? {
            if header.kind != Kind::Dead {
                match self.copy(&header, place) {
                    Err(fault @ (Fault::Corrupt(..) | Fault::NoSource(_))) => {
                        self.refuse(header.facts.id, &fault);
                        self.maintenance.damaged.lock().insert(segment);
                    }
                    copied => copied?,
                }
            }
        }
        if self.maintenance.damaged.lock().contains(&segment) {
            return Ok(());
        }
        if self.usage.lock().segments.get(&segment).is_some_and(|live| *live > 0) {
            tracing::error!(
                segment,
                "a segment is kept although half of it is dead: the index names records in it that are not found"
            );
            self.maintenance.damaged.lock().insert(segment);
            return Ok(());
        }
        if let Err(reason) = self.checkpoint_alone() {
            tracing::warn!(reason, segment, "a compacted segment is kept until the next checkpoint");
            return Ok(());
        }
        // A crash between the two leaves a file that the list does not name, which is no damage.
        let appending = self.maintenance.mark.lock().position.segment;
        self.list_segments(appending, Some(segment)).map_err(Fault::Io)?;
        self.usage.lock().segments.remove(&segment);
        self.shelf.segments.delete(segment).map_err(Fault::Io)
    }

    /// Writes a record that the index still knows again, at the end.
    fn copy(&self, header: &Header, place: Place) -> Result<(), Fault> {
        let id = header.facts.id;
        let is_here = |entry: &Entry| entry.place == place;
        if !self.shelf.table.get(id)?.is_some_and(|entry| is_here(&entry)) {
            return Ok(());
        }
        let record = self.shelf.check_record(id, place)?;
        let data = self.shelf.raw_data(id, &record)?;
        let (_, tables) = self.shelf.read_head(id, place)?;
        let manifest = decode_tables(header, &tables).ok_or(Fault::Corrupt(place, "its tables are damaged"))?;
        let _stripe = self.stripe(id.chunk).lock();
        let Some(entry) = self.shelf.table.get(id)?.filter(is_here) else { return Ok(()) };
        let _gate = self.gate.read();
        let (new, file) = self.shelf.segments.reserve(place.total).map_err(Fault::Io)?;
        let mut head = encode_head(&header.facts, &manifest, new, self.shelf.salt);
        if let Some(front) = head.get_mut(..HEADER_BYTES).filter(|_| entry.state != State::Live) {
            front.copy_from_slice(&header.turned(Kind::Needed, new, self.shelf.salt));
        }
        self.shelf.segments.write(new, &file, &head, &data).map_err(Fault::Io)?;
        self.relocate(id, &entry, new);
        Ok(())
    }
}

#[derive(Default)]
struct Rounds {
    checkpoint_ms: u64,
    survey_ms: u64,
}

impl Wake {
    /// Waits for a round; false means the end.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        if !state.stop && !state.woken {
            self.condvar.wait_for(&mut state, ROUND);
        }
        state.woken = false;
        !state.stop
    }
}

fn directory_bytes(directory: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}
