//! Hashes of files that are longer than what taggers read of one, so that equal ones are known.
//!
//! Never reads a file whose size no other file has: nothing can be equal to it. Always: one file at a time and one chunk of it in
//! memory, [`BYTES_PER_SECOND`] at most, and no further once the file changed: its next look begins anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use dgfs_client::reader::{Pieces, Reader};
use dgfs_proto::ids::Ino;
use dgfs_proto::status::Status;

use crate::step::ContentHash;
use crate::store::{LARGE_BYTES, StoreError};
use crate::tagging::found::own_hash;
use crate::tagging::look::PATIENCE;
use crate::tagging::{PAUSE, Tagging, blocking};

/// A day for 5 TiB; reading, verifying and hashing so much takes less than a tenth of a core.
const BYTES_PER_SECOND: u64 = 64 << 20;
/// Bytes hashed before others have their turn: less than a millisecond.
const BYTES_AT_ONCE: usize = 1 << 20;
/// Files that wait at most; of more, those that come later wait for the next start of the index.
const WAITING_MAX: usize = 65_536;

const _: () =
    assert!(LARGE_BYTES == dgfs_taggers::job::BYTES_MAX as u64, "what taggers do not read whole is hashed here");

/// Files that wait for their hash.
#[derive(Default)]
pub(super) struct Large {
    waiting: Mutex<Waiting>,
    grew: Notify,
}

#[derive(Default)]
struct Waiting {
    files: BTreeSet<Ino>,
    under_way: bool,
}

impl Large {
    /// Files that wait or are under way.
    pub(super) fn len(&self) -> usize {
        let waiting = self.waiting.lock();
        waiting.files.len() + usize::from(waiting.under_way)
    }

    fn add(&self, files: impl IntoIterator<Item = Ino>) {
        let mut waiting = self.waiting.lock();
        for file in files {
            if waiting.files.len() < WAITING_MAX {
                waiting.files.insert(file);
            }
        }
        drop(waiting);
        self.grew.notify_one();
    }

    async fn next(&self) -> Ino {
        loop {
            {
                let mut waiting = self.waiting.lock();
                let next = waiting.files.pop_first();
                waiting.under_way = next.is_some();
                if let Some(next) = next {
                    return next;
                }
            }
            self.grew.notified().await;
        }
    }
}

/// How reading a file as a whole ended.
enum Ended {
    Hashed(u64, ContentHash),
    /// It changed, or is not wanted any more.
    Given,
}

impl Tagging {
    /// Of files that were looked at, those wait for their hash whose size others have, with these others.
    pub(super) async fn queue_large(&self, looked: Vec<Ino>) -> Result<(), StoreError> {
        let readers = self.index.readers();
        let found = blocking(move || {
            let mut found = BTreeSet::new();
            for ino in looked {
                let alike = readers.large_alike(ino)?;
                let unread = alike.iter().filter(|one| one.content == own_hash(one.ino, one.data_version));
                found.extend(unread.map(|one| one.ino));
            }
            Ok(found)
        })
        .await?;
        if !found.is_empty() {
            self.large.add(found);
        }
        Ok(())
    }

    /// Hashes what waits, one after another; to be dropped at the end.
    pub(super) async fn hash_large(&self) {
        loop {
            let ino = self.large.next().await;
            let Some(reader) = self.reader.get() else { continue };
            let hashed = match self.hash(reader, ino).await {
                Ok(Ended::Hashed(data_version, hash)) => {
                    let index = Arc::clone(&self.index);
                    blocking(move || index.put_whole_hash(ino, data_version, hash)).await
                }
                Ok(Ended::Given) => Ok(()),
                Err(Status::Unavailable) => {
                    tokio::time::sleep(PAUSE).await;
                    self.large.add([ino]);
                    Ok(())
                }
                Err(status) => {
                    tracing::debug!(ino = ino.get(), %status, "a large file could not be hashed; its next change tries again");
                    Ok(())
                }
            };
            if let Err(error) = hashed {
                tracing::warn!(%error, "the hash of a large file could not be kept; trying again");
                tokio::time::sleep(PAUSE).await;
                self.large.add([ino]);
            }
        }
    }

    async fn hash(&self, reader: &Reader, ino: Ino) -> Result<Ended, Status> {
        let readers = self.index.readers();
        let wanted = blocking(move || {
            let vertex = readers.vertex(ino)?;
            Ok(vertex.filter(|vertex| !vertex.derived.unindexed && !vertex.node.names.is_empty()))
        });
        let Ok(Some(_)) = wanted.await else { return Ok(Ended::Given) };
        let mut pieces = match reader.pieces(ino, PATIENCE).await {
            Ok(pieces) => pieces,
            Err(Status::Busy | Status::Stale | Status::NoVersion) => return Ok(Ended::Given),
            Err(status) => return Err(status),
        };
        let mut hasher = blake3::Hasher::new();
        loop {
            let until = Instant::now();
            let Some(read) = self.hash_piece(&mut pieces, &mut hasher).await? else {
                return Ok(Ended::Hashed(pieces.attr().data_version, *hasher.finalize().as_bytes()));
            };
            if read == 0 || !self.is_unchanged(ino, pieces.attr().data_version).await {
                return Ok(Ended::Given);
            }
            tokio::time::sleep_until(until + Duration::from_micros(read * 1_000_000 / BYTES_PER_SECOND)).await;
            while self.pause.is_on() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Bytes of the next piece; none at the end, 0 when the file changed.
    async fn hash_piece(&self, pieces: &mut Pieces<'_>, hasher: &mut blake3::Hasher) -> Result<Option<u64>, Status> {
        match pieces.next(PATIENCE).await {
            Ok(Some(piece)) => {
                for part in piece.chunks(BYTES_AT_ONCE) {
                    hasher.update(part);
                    tokio::task::yield_now().await;
                }
                Ok(Some(piece.len() as u64))
            }
            Ok(None) => Ok(None),
            Err(Status::Busy | Status::Stale | Status::NoVersion) => Ok(Some(0)),
            Err(status) => Err(status),
        }
    }

    async fn is_unchanged(&self, ino: Ino, data_version: u64) -> bool {
        let readers = self.index.readers();
        let now = blocking(move || readers.data_version(ino)).await;
        now.is_ok_and(|now| now == Some(data_version))
    }
}
