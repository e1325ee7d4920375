//! The index in sled 0.34.7, with what that release needs to be trusted as far as it is.
//!
//! Never lets a panic of sled out, and never puts more than some dozen bytes in a
//! value. Always: `commit` syncs sled's file by hand, because its `flush` does not.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dgfs_proto::chunk::VersionId;
use dgfs_runtime::disk;

use super::{Change, Entry, Index, IndexError, decode_key, encode_key};

/// Memory sled may keep pages in.
const CACHE_BYTES: u64 = 32 << 20;
/// Changes of one sled batch: a larger one is a longer log message, and long ones leave the main file.
const BATCH_MAX: usize = 512;
/// How long a lock on sled's file is waited for: ten seconds.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
const TREE: &str = "versions";
const GENERATION_KEY: &str = "generation";

/// Entries in a sled tree.
pub(crate) struct SledIndex {
    directory: PathBuf,
    db: sled::Db,
    tree: sled::Tree,
}

impl SledIndex {
    /// Opens (or makes) the index in `directory`.
    pub(crate) fn open(directory: &Path) -> Result<Self, IndexError> {
        let open = || {
            let db = sled::Config::new().path(directory).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()?;
            let tree = db.open_tree(TREE)?;
            Ok(Self { directory: directory.to_owned(), db, tree })
        };
        let mut index = guarded("open", open);
        for _ in 0..LOCK_TRIES {
            match &index {
                // The store's own lock is ours, so this is a thread of a sled that is just ending, or a child process
                // between fork and exec: no reason to rebuild.
                Err(error) if error.0.contains("could not acquire lock") => {
                    std::thread::sleep(LOCK_PAUSE);
                    index = guarded("open", open);
                }
                Ok(_) | Err(_) => break,
            }
        }
        let index = index?;
        index.sync()?;
        disk::sync_dir(directory).map_err(|error| IndexError(format!("sync its directory: {error}")))?;
        Ok(index)
    }

    fn sync(&self) -> Result<(), IndexError> {
        guarded("flush", || self.db.flush())?;
        // sled 0.34's flush ends in sync_file_range, which neither commits the file's length nor
        // empties the disk's cache.
        let sync = |name: &str| match File::open(self.directory.join(name)) {
            Ok(file) => disk::sync_file(&file),
            Err(error) => Err(error),
        };
        sync("db").map_err(|error| IndexError(format!("sync its file: {error}")))
    }
}

impl Index for SledIndex {
    fn get(&self, id: VersionId) -> Result<Option<Entry>, IndexError> {
        let value = guarded("get", || self.tree.get(encode_key(id)))?;
        match value {
            None => Ok(None),
            Some(bytes) => Entry::decode(&bytes).map(Some).ok_or_else(malformed),
        }
    }

    fn scan(&self, from: VersionId, limit: usize) -> Result<Vec<(VersionId, Entry)>, IndexError> {
        let rows = guarded("scan", || self.tree.range(encode_key(from)..).take(limit).collect::<Result<Vec<_>, _>>())?;
        rows.iter()
            .map(|(key, value)| Some((decode_key(key)?, Entry::decode(value)?)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(malformed)
    }

    fn commit(&self, changes: &mut dyn Iterator<Item = Change>, generation: u64) -> Result<(), IndexError> {
        let mut changes = changes;
        loop {
            let mut batch = sled::Batch::default();
            let mut count = 0;
            for (id, entry) in (&mut changes).take(BATCH_MAX) {
                count += 1;
                match entry {
                    Some(entry) => batch.insert(&encode_key(id), entry.encode()),
                    None => batch.remove(&encode_key(id)),
                }
            }
            guarded("write", || self.tree.apply_batch(batch))?;
            if count < BATCH_MAX {
                break;
            }
        }
        guarded("write", || self.db.insert(GENERATION_KEY, &generation.to_le_bytes()))?;
        self.sync()
    }

    fn generation(&self) -> Result<u64, IndexError> {
        match guarded("get", || self.db.get(GENERATION_KEY))? {
            None => Ok(0),
            Some(bytes) => bytes.as_ref().try_into().map(u64::from_le_bytes).map_err(|_| malformed()),
        }
    }
}

fn malformed() -> IndexError {
    IndexError("an entry is malformed".to_owned())
}

/// Runs `work`; a panic inside sled (it panics on a damaged file) becomes an error.
fn guarded<T>(step: &str, work: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(IndexError(format!("{step}: {error}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(IndexError(format!("{step}: sled gave up: {text}")))
        }
    }
}
