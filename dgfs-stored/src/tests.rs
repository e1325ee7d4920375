//! Tests of the whole store. Helpers first; the promises are in the files below.
//!
//! Random tests print their seed; `DGFS_TEST_SEED` repeats one.

mod compression;
mod copies;
mod cost;
mod crash;
mod damage;
mod golden;
mod member;
mod model;
mod room;
mod ruin;
mod watching;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dgfs_proto::chunk::{Patch, PatchKind, Put, PutBase, PutDurability, VersionId};
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::{ChunkId, ChunkVersion, Ino};
use dgfs_proto::limits::CHECKSUM_BLOCK_BYTES;

use dgfs_runtime::disk::LockError;

use crate::store::{OpenError, Store, StoreOptions};

static DIRECTORIES: AtomicU64 = AtomicU64::new(0);

/// A directory that is removed with its value.
pub(crate) struct TestDir(PathBuf);

impl TestDir {
    pub(crate) fn new() -> Self {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dgfs-stored-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// xorshift64*: enough for tests, and the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded() -> Self {
        let seed = std::env::var("DGFS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| dgfs_runtime::random::number().unwrap() | 1);
        println!("DGFS_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// Small segments and no background thread, so that a test decides what happens when.
fn options(directory: &Path) -> StoreOptions {
    StoreOptions { segment_bytes: 1 << 20, maintain: false, reserve_bytes: Some(0), ..StoreOptions::new(directory) }
}

/// Opens the store of `directory`. A process that another test is starting has, between fork and exec, the
/// descriptor of a lock that was just given back; so a held lock is tried again.
fn open(directory: &Path) -> Arc<Store> {
    for _ in 0..1000 {
        match Store::open(options(directory)) {
            Err(OpenError::Lock(LockError::Held { .. })) => std::thread::sleep(std::time::Duration::from_millis(2)),
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", directory.display());
}

fn id(chunk: u64, version: u64) -> VersionId {
    VersionId { chunk: ChunkId::new(chunk).unwrap(), version: ChunkVersion::new(version).unwrap() }
}

fn data_patch(offset: u32, bytes: &[u8]) -> Patch {
    let crcs = bytes.chunks(CHECKSUM_BLOCK_BYTES as usize).map(crc32c::crc32c).collect();
    Patch { offset, len: u32::try_from(bytes.len()).unwrap(), kind: PatchKind::Data { crcs } }
}

fn put_of(id: VersionId, base: Option<(u64, u32)>, patches: Vec<Patch>) -> Put {
    Put {
        chunk: id.chunk,
        base: base.map(|(version, len)| PutBase { version: ChunkVersion::new(version).unwrap(), len }),
        version: id.version,
        owner: Ino::new(7).unwrap(),
        index: 3,
        durability: PutDurability::Handed,
        compression: Compression::None,
        patches,
    }
}

/// Puts `bytes` at `offset` over `base`.
fn put(store: &Store, id: VersionId, base: Option<(u64, u32)>, offset: u32, bytes: &[u8]) -> u32 {
    store.put(&put_of(id, base, vec![data_patch(offset, bytes)]), &Bytes::copy_from_slice(bytes)).unwrap()
}

fn read(store: &Store, id: VersionId, len: usize) -> Vec<u8> {
    store.get(id, 0, u32::try_from(len).unwrap()).unwrap().to_vec()
}

fn reopen(store: Arc<Store>) -> Arc<Store> {
    let directory = store.directory().to_owned();
    store.close();
    drop(store);
    open(&directory)
}
