//! Blocks of chunk versions on a local disk, shared by the mounts of a host.
//!
//! Never invalid: a version never changes, and a file that is not what its name says (torn, flipped, truncated) is removed
//! and fetched anew. Always: a file appears whole (written aside, then renamed), so mounts share a directory without
//! asking each other; whoever holds the directory's lock brings it back below its bound. A failure of the disk costs a fetch,
//! never an answer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::Semaphore;

use dgfs_proto::ids::Uuid;
use dgfs_runtime::disk::rename_undurably;

use crate::cache::blocks::BlockKey;
use crate::metrics::{Counters, count};

/// Marks a block's file and its layout.
const MAGIC: &[u8; 8] = b"dgfsblk1";
const HEADER_BYTES: usize = 40;
/// Blocks being written at once; more are left out.
const WRITES_MAX: usize = 8;
/// How much is written before the directory is measured again: this share of its bound.
const LOOK_SHARE: u64 = 32;
/// A use is noted in a file's time when the note before is older than this.
const NOTED: Duration = Duration::from_secs(60);
/// After a failed write nothing is written for so long.
const PAUSE: Duration = Duration::from_secs(30);

/// A directory of blocks.
pub(crate) struct DiskCache {
    directory: PathBuf,
    bytes_max: u64,
    /// Written since the directory was measured last.
    written: AtomicU64,
    measuring: AtomicBool,
    /// What the directory took when it was measured last.
    measured: AtomicU64,
    writes: Arc<Semaphore>,
    /// Until then nothing is written; seconds since 1970.
    paused_until: AtomicU64,
    counters: Arc<Counters>,
}

impl DiskCache {
    /// The blocks of `volume` in `directory`, at most about `bytes_max`.
    ///
    /// # Errors
    /// The directory cannot be made or written.
    pub(crate) fn open(
        directory: &Path,
        volume: Uuid,
        bytes_max: u64,
        counters: Arc<Counters>,
    ) -> io::Result<Arc<Self>> {
        let of_volume = directory.join(volume.to_string());
        // What is read here is as private as the volume.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&of_volume)?;
        for part in 0..=u8::MAX {
            let part = of_volume.join(format!("{part:02x}"));
            fs::DirBuilder::new().recursive(true).mode(0o700).create(part)?;
        }
        let probe = of_volume.join(format!("probe-{}", std::process::id()));
        File::create(&probe)?.write_all(MAGIC)?;
        fs::remove_file(&probe)?;
        let cache = Arc::new(Self {
            directory: of_volume,
            bytes_max,
            written: AtomicU64::new(0),
            measuring: AtomicBool::new(false),
            measured: AtomicU64::new(0),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            paused_until: AtomicU64::new(0),
            counters,
        });
        // A run before may have left more, or had more room.
        cache.measure();
        Ok(cache)
    }

    /// Bytes of blocks, as far as this mount knows: others may share the directory.
    pub(crate) fn bytes(&self) -> u64 {
        self.measured.load(Ordering::Relaxed) + self.written.load(Ordering::Relaxed)
    }

    fn path(&self, key: BlockKey) -> PathBuf {
        let (chunk, version) = (key.id.chunk.get(), key.id.version.get());
        self.directory.join(format!("{:02x}/{chunk:016x}-{version:016x}-{:04x}", version & 0xff, key.block))
    }

    /// Is there a file of this block? It may turn out to be damaged.
    pub(crate) fn has(&self, key: BlockKey) -> bool {
        self.path(key).exists()
    }

    /// A block's bytes, verified. Reads the disk: not on a thread that serves others.
    pub(crate) fn get(&self, key: BlockKey) -> Option<Bytes> {
        let path = self.path(key);
        let mut file = File::open(&path).ok()?;
        let mut bytes = Vec::new();
        let read = file.read_to_end(&mut bytes);
        if read.is_err() || !is_whole(&bytes, key) {
            count(&self.counters.disk_cache_damaged);
            tracing::warn!(path = %path.display(), "a cached block was damaged; it is fetched anew");
            drop(fs::remove_file(&path));
            return None;
        }
        count(&self.counters.disk_cache_hits);
        note_use(&file);
        Some(Bytes::from(bytes).split_off(HEADER_BYTES))
    }

    /// Keeps a block, unless the disk is busy or has failed lately. Nobody waits for it.
    pub(crate) fn put_soon(self: &Arc<Self>, runtime: &tokio::runtime::Handle, key: BlockKey, bytes: Bytes) {
        if seconds_now() < self.paused_until.load(Ordering::Relaxed) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.writes).try_acquire_owned() else { return };
        let cache = Arc::clone(self);
        runtime.spawn_blocking(move || {
            let _permit = permit;
            if let Err(error) = cache.put(key, &bytes) {
                tracing::warn!(directory = %cache.directory.display(), %error, "the local cache cannot be written; going on without");
                cache.paused_until.store(seconds_now() + PAUSE.as_secs(), Ordering::Relaxed);
                cache.measure();
            }
        });
    }

    fn put(&self, key: BlockKey, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(key);
        let aside = path.with_extension(format!("new-{}-{:?}", std::process::id(), std::thread::current().id()));
        let written = File::create(&aside)
            .and_then(|mut file| file.write_all(&header(key, bytes)).and_then(|()| file.write_all(bytes)))
            .and_then(|()| rename_undurably(&aside, &path));
        if written.is_err() {
            drop(fs::remove_file(&aside));
        }
        written?;
        let more = (bytes.len() + HEADER_BYTES) as u64;
        if self.written.fetch_add(more, Ordering::Relaxed) + more > self.bytes_max / LOOK_SHARE {
            self.measure();
        }
        Ok(())
    }

    /// Brings the directory below its bound, unless another mount is at it: what was used longest ago goes.
    fn measure(&self) {
        if self.measuring.swap(true, Ordering::AcqRel) {
            return;
        }
        self.written.store(0, Ordering::Relaxed);
        if let Err(error) = self.measure_alone() {
            tracing::warn!(directory = %self.directory.display(), %error, "the local cache could not be measured");
        }
        self.measuring.store(false, Ordering::Release);
    }

    fn measure_alone(&self) -> io::Result<()> {
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(self.directory.join("lock"))?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        let mut files = Vec::new();
        let mut total = 0;
        for part in fs::read_dir(&self.directory)? {
            let part = part?.path();
            let Ok(entries) = fs::read_dir(&part) else { continue };
            for entry in entries.flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                let bytes = meta.blocks() * 512;
                total += bytes;
                files.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), bytes, entry.path()));
            }
        }
        self.measured.store(total, Ordering::Relaxed);
        if total <= self.bytes_max {
            return Ok(());
        }
        files.sort();
        // A margin, so that not each new block measures again.
        let goal = self.bytes_max - self.bytes_max / 8;
        for (_, bytes, path) in files {
            if total <= goal {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= bytes;
            }
        }
        self.measured.store(total, Ordering::Relaxed);
        Ok(())
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn header(key: BlockKey, bytes: &[u8]) -> [u8; HEADER_BYTES] {
    let fields = [
        MAGIC.to_vec(),
        key.id.chunk.get().to_le_bytes().to_vec(),
        key.id.version.get().to_le_bytes().to_vec(),
        key.block.to_le_bytes().to_vec(),
        (bytes.len() as u32).to_le_bytes().to_vec(),
        crc32c::crc32c(bytes).to_le_bytes().to_vec(),
    ];
    let mut header = [0; HEADER_BYTES];
    header.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = from);
    // The header itself may be what is damaged.
    let sum = crc32c::crc32c(header.get(..HEADER_BYTES - 4).unwrap_or_default()).to_le_bytes();
    header.iter_mut().rev().zip(sum.into_iter().rev()).for_each(|(to, from)| *to = from);
    header
}

fn is_whole(file: &[u8], key: BlockKey) -> bool {
    file.split_at_checked(HEADER_BYTES).is_some_and(|(head, bytes)| *head == header(key, bytes))
}

/// The time of a file says when it was used last, for those who make room.
fn note_use(file: &File) {
    let noted = file.metadata().and_then(|meta| meta.modified());
    if noted.is_ok_and(|noted| noted.elapsed().is_ok_and(|age| age > NOTED)) {
        drop(file.set_modified(SystemTime::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dgfs_proto::chunk::VersionId;
    use dgfs_proto::ids::{ChunkId, ChunkVersion};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(what: &str) -> Self {
            let path = std::env::temp_dir().join(format!("dgfs-disk-cache-{what}-{}", std::process::id()));
            drop(fs::remove_dir_all(&path));
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn key(block: u32) -> BlockKey {
        let id = VersionId { chunk: ChunkId::new(77).unwrap(), version: ChunkVersion::new(5).unwrap() };
        BlockKey { id, block }
    }

    #[test]
    fn a_block_is_found_again_by_another_mount_and_a_damaged_one_is_not_believed() {
        let scratch = Scratch::new("found");
        let open = || DiskCache::open(&scratch.0, Uuid([3; 16]), 1 << 20, Arc::default()).unwrap();
        let (one, other) = (open(), open());
        let bytes = vec![9; 10_000];
        one.put(key(0), &bytes).unwrap();
        assert_eq!(other.get(key(0)).unwrap(), bytes);
        assert!(other.get(key(1)).is_none());
        for at in [3, 30, 39, 5_000] {
            one.put(key(0), &bytes).unwrap();
            let mut file = fs::read(one.path(key(0))).unwrap();
            file[at] ^= 1;
            fs::write(one.path(key(0)), file).unwrap();
            assert!(other.get(key(0)).is_none(), "byte {at}");
            assert!(!other.has(key(0)), "it was removed");
        }
        one.put(key(0), &bytes).unwrap();
        fs::write(one.path(key(2)), fs::read(one.path(key(0))).unwrap()).unwrap();
        assert!(one.get(key(2)).is_none(), "another block under this name");
        assert!(
            DiskCache::open(&scratch.0, Uuid([4; 16]), 1 << 20, Arc::default()).unwrap().get(key(0)).is_none(),
            "another volume"
        );
    }

    #[test]
    fn the_directory_stays_near_its_bound_and_what_is_used_stays() {
        let scratch = Scratch::new("bound");
        let cache = DiskCache::open(&scratch.0, Uuid([3; 16]), 1 << 20, Arc::default()).unwrap();
        let old = SystemTime::now() - Duration::from_secs(3600);
        for block in 0..200 {
            cache.put(key(block), &[1; 16 << 10]).unwrap();
            File::options()
                .write(true)
                .open(cache.path(key(block)))
                .unwrap()
                .set_modified(old + Duration::from_secs(u64::from(block)))
                .unwrap();
            assert!(block < 2 || cache.get(key(0)).is_some(), "the block in use went at {block}");
        }
        let total: u64 =
            (0..200).filter_map(|block| fs::metadata(cache.path(key(block))).ok()).map(|meta| meta.len()).sum();
        assert!(total <= (1 << 20) + (1 << 20) / 16, "{total} bytes");
        assert!(cache.has(key(199)) && !cache.has(key(3)));
    }
}
