//! Compressed records: read as what was written, smaller, and changed from one compression to another without harm.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dgfs_proto::chunk::{PutDurability, VersionId};
use dgfs_proto::compression::Compression;
use dgfs_proto::status::Status;

use super::crash::{LoopDisk, killed_child};
use super::{Random, TestDir, data_patch, id, open, options, put_of, read, reopen};
use crate::store::{Recompressed, Store, StoreOptions};

const CHUNK: usize = 1_000_000;

/// Bytes that become smaller, with noise in between.
pub(super) fn text(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 64);
    while bytes.len() < len {
        let word = random.below(50);
        bytes.extend_from_slice(format!("line {word} of a text that says little {}\n", random.below(1000)).as_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn put_packed(store: &Store, id: VersionId, base: Option<u64>, at: usize, bytes: &[u8], compression: Compression) {
    let mut put = put_of(id, base.map(|base| (base, CHUNK as u32)), vec![data_patch(at as u32, bytes)]);
    put.compression = compression;
    store.put(&put, &Bytes::copy_from_slice(bytes)).unwrap();
}

/// Puts version 1 and, over it, 2; drops 1. What is held is in two pieces at least.
fn patched(store: &Store, chunk: u64, random: &mut Random, compression: Compression) -> Vec<u8> {
    let mut bytes = text(random, CHUNK);
    put_packed(store, id(chunk, 1), None, 0, &bytes, compression);
    let patch = text(random, 70_000);
    let at = random.below((CHUNK - patch.len()) as u64) as usize;
    put_packed(store, id(chunk, 2), Some(1), at, &patch, compression);
    bytes[at..at + patch.len()].copy_from_slice(&patch);
    store.drop_versions(&[id(chunk, 1)]).unwrap();
    bytes
}

fn recompress(store: &Store, id: VersionId, compression: Compression) -> Recompressed {
    let done = store.recompress(id, compression).unwrap();
    if matches!(done, Recompressed::Written(_)) {
        store.sync_blocking().unwrap();
        store.settle_chunk(id.chunk).unwrap();
    }
    done
}

#[test]
fn every_range_of_compressed_data_reads_as_it_was_written_and_takes_less_room() {
    let mut random = Random::seeded();
    for compression in [Compression::Lz4, Compression::Zstd] {
        let directory = TestDir::new();
        let mut store = open(directory.path());
        let bytes = patched(&store, 1, &mut random, compression);
        let noise = random.bytes(CHUNK);
        put_packed(&store, id(2, 1), None, 0, &noise, compression);
        for round in 0..2 {
            for _ in 0..200 {
                let from = random.below(CHUNK as u64) as usize;
                let len = 1 + random.below((CHUNK - from) as u64) as usize;
                assert_eq!(store.get(id(1, 2), from as u32, len as u32).unwrap(), bytes[from..from + len]);
                assert_eq!(store.get(id(2, 1), from as u32, len as u32).unwrap(), noise[from..from + len]);
            }
            let stored = store.stored(id(2, 1)).unwrap().unwrap();
            assert!((stored.disk_bytes as usize) < CHUNK + 4096, "what does not become smaller is kept as it is");
            let status = store.status();
            assert!(status.record_bytes < status.live_bytes * 3 / 4, "{status:?}");
            assert_eq!(status.live_bytes as usize, 2 * CHUNK + 70_000);
            if round == 0 {
                // Records that compaction moves, and an index made of their headers.
                put_packed(&store, id(3, 1), None, 0, &noise, compression);
                store.drop_versions(&[id(3, 1)]).unwrap();
                store.checkpoint().unwrap();
                store.compact().unwrap();
                store = reopen(store);
                std::fs::remove_dir_all(directory.path().join("index")).unwrap();
                store.forget_checkpoint();
                drop(store);
                store = open(directory.path());
            }
        }
        store.verify(id(1, 2)).unwrap();
        let whole = store.export(id(1, 2)).unwrap();
        assert_eq!((whole.compression, whole.dense()), (compression, Bytes::from(bytes)));
        let other = TestDir::new();
        let other = open(other.path());
        other.import(id(1, 2), &whole).unwrap();
        assert_eq!(other.stored(id(1, 2)).unwrap().unwrap().compression, compression);
        assert_eq!(store.status().lost, Vec::<String>::new());
    }
}

#[test]
fn a_flipped_bit_in_compressed_data_is_found_and_never_served() {
    let mut random = Random::seeded();
    for compression in [Compression::Lz4, Compression::Zstd] {
        let directory = TestDir::new();
        let store = open(directory.path());
        let bytes = text(&mut random, CHUNK);
        put_packed(&store, id(1, 1), None, 0, &bytes, compression);
        let place = store.shelf.table.get(id(1, 1)).unwrap().unwrap().place;
        let path = directory.path().join(format!("segments/{:08}.seg", place.segment));
        let mut refused = 0;
        for _ in 0..50 {
            let inside = 2048 + random.below(u64::from(place.total) - 4096);
            let at = u64::from(place.offset) + inside;
            super::damage::flip(&path, at);
            match store.get(id(1, 1), 0, CHUNK as u32) {
                Ok(read) => assert_eq!(read, bytes),
                Err(status) => {
                    assert_eq!(status, Status::Corrupt);
                    refused += 1;
                }
            }
            super::damage::flip(&path, at);
        }
        assert!(refused > 40, "{refused} of 50 flips were found");
        assert_eq!(store.get(id(1, 1), 0, CHUNK as u32).unwrap(), bytes);
    }
}

#[test]
fn a_version_changes_its_compression_and_needs_no_other_then() {
    let mut random = Random::seeded();
    let directory = TestDir::new();
    let mut store = open(directory.path());
    let bytes = patched(&store, 1, &mut random, Compression::None);
    for compression in [Compression::Zstd, Compression::Lz4, Compression::None] {
        assert!(matches!(recompress(&store, id(1, 2), compression), Recompressed::Written(_)));
        assert_eq!(recompress(&store, id(1, 2), compression), Recompressed::Settled);
        assert_eq!(read(&store, id(1, 2), CHUNK), bytes);
        let stored = store.stored(id(1, 2)).unwrap().unwrap();
        assert_eq!((stored.compression, stored.data_bytes as usize), (compression, CHUNK));
        assert_eq!(store.status().live_bytes as usize, CHUNK, "what version 1 left is given up");
        store = reopen(store);
    }
    // While two versions are held, one may show data of the other.
    put_packed(&store, id(1, 3), Some(2), 5, b"new", Compression::None);
    assert_eq!(recompress(&store, id(1, 2), Compression::Lz4), Recompressed::Later);
    assert_eq!(recompress(&store, id(9, 9), Compression::Lz4), Recompressed::Settled, "not held");
    store.drop_versions(&[id(1, 2)]).unwrap();
    assert!(matches!(recompress(&store, id(1, 3), Compression::Lz4), Recompressed::Written(_)));
    assert_eq!(read(&store, id(1, 3), CHUNK)[5..8], *b"new");
}

#[test]
fn a_record_remembered_from_before_a_rewrite_gives_no_wrong_byte() {
    let mut random = Random::seeded();
    for compact in [false, true] {
        let directory = TestDir::new();
        let mut store = open(directory.path());
        let mut bytes = patched(&store, 1, &mut random, Compression::None);
        let stale = store.shelf.record(id(1, 2)).unwrap();
        assert!(matches!(recompress(&store, id(1, 2), Compression::Zstd), Recompressed::Written(_)));
        if compact {
            store.checkpoint().unwrap();
            store.compact().unwrap();
        }
        // As a reader leaves it who looked it up before, and was slow.
        store.shelf.cache.insert(id(1, 2), &stale);
        assert_eq!(read(&store, id(1, 2), CHUNK), bytes);
        store.shelf.cache.insert(id(1, 2), &stale);
        assert_eq!(store.export(id(1, 2)).unwrap().dense(), bytes);
        store.shelf.cache.insert(id(1, 2), &stale);
        put_packed(&store, id(1, 3), Some(2), 10, b"new", Compression::None);
        bytes[10..13].copy_from_slice(b"new");
        assert_eq!(read(&store, id(1, 3), CHUNK), bytes);
        store = reopen(store);
        assert_eq!(read(&store, id(1, 3), CHUNK), bytes, "what a new version shows of it");
        // One that shows data by the old layout is refused, not read by the new one.
        let answer = store.shelf.read_range(id(1, 2), &stale, 0, CHUNK as u32);
        assert!(answer.is_err() || !compact, "its pieces lie elsewhere now");
    }
}

#[test]
fn what_a_broken_pass_leaves_is_given_up_by_the_next_and_by_a_rebuilt_index() {
    let mut random = Random::seeded();
    let directory = TestDir::new();
    let mut store = open(directory.path());
    let bytes = patched(&store, 1, &mut random, Compression::Lz4);
    let wanted = Compression::None;
    assert!(matches!(store.recompress(id(1, 2), wanted).unwrap(), Recompressed::Written(_)));
    assert!(matches!(store.recompress(id(1, 2), Compression::Lz4).unwrap(), Recompressed::Written(_)));
    store.sync_blocking().unwrap();
    store = reopen(store);
    assert!(store.status().live_bytes as usize > CHUNK, "nothing was settled");
    assert_eq!(recompress(&store, id(1, 2), Compression::Lz4), Recompressed::Written(0));
    assert_eq!(store.status().live_bytes as usize, CHUNK);
    assert_eq!(recompress(&store, id(1, 2), Compression::Lz4), Recompressed::Settled);
    assert_eq!(read(&store, id(1, 2), CHUNK), bytes);

    assert!(matches!(recompress(&store, id(1, 2), Compression::Zstd), Recompressed::Written(_)));
    store.checkpoint().unwrap();
    store.drop_versions(&[id(1, 2)]).unwrap();
    store.checkpoint().unwrap();
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    store.forget_checkpoint();
    drop(store);
    let status = open(directory.path()).status();
    assert_eq!((status.versions, status.lost_versions), (0, 0), "no older record speaks for it: {:?}", status.lost);
}

#[test]
fn readers_see_nothing_of_a_change_of_compression() {
    let mut random = Random::seeded();
    let directory = TestDir::new();
    let store = open(directory.path());
    let done = AtomicBool::new(false);
    for chunk in 1..=40 {
        let bytes = patched(&store, chunk, &mut random, Compression::None);
        done.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let reader = || {
                let mut reads = 0;
                while !done.load(Ordering::Relaxed) || reads == 0 {
                    assert_eq!(read(&store, id(chunk, 2), CHUNK), bytes);
                    store.verify(id(chunk, 2)).unwrap();
                    reads += 1;
                }
            };
            scope.spawn(reader);
            for compression in [Compression::Lz4, Compression::Zstd, Compression::None] {
                recompress(&store, id(chunk, 2), compression);
            }
            done.store(true, Ordering::Relaxed);
        });
    }
    assert_eq!(store.status().checksum_errors, 0);
}

/// The process that is killed: runs only when started by the test below.
#[test]
#[ignore = "started by the test below"]
fn recompressing_child() {
    let Some(directory) = super::crash::child_directory() else { return };
    let store = Store::open(StoreOptions { maintain: true, ..options(&directory) }).unwrap();
    for turn in 0.. {
        for chunk in 1..=CHUNKS {
            let compression = Compression::ALL[(turn + chunk) as usize % 3];
            recompress(&store, id(chunk, 2), compression);
            super::crash::say("ACK 0 0");
        }
        store.checkpoint().unwrap();
        store.compact().unwrap();
    }
}

const CHUNKS: u64 = 8;

#[test]
fn power_cut_while_old_data_are_compressed_loses_no_byte() {
    let Some(disk) = LoopDisk::new(1024) else {
        println!("not run: no permission to mount a loop device");
        return;
    };
    let mut random = Random::seeded();
    let directory = disk.mount.join("store");
    let contents = filled(&directory, &mut random);
    for _ in 0..6 {
        let acks = 1 + random.below(40);
        killed_child("tests::compression::recompressing_child", &directory, acks);
        disk.lose_power();
        let store = open(&directory);
        for (chunk, bytes) in (1..).zip(&contents) {
            assert_eq!(read(&store, id(chunk, 2), CHUNK), *bytes, "chunk {chunk}");
        }
        let status = store.status();
        assert_eq!((status.checksum_errors, status.lost_versions), (0, 0), "{:?}", status.lost);
    }
}

fn filled(directory: &Path, random: &mut Random) -> Vec<Vec<u8>> {
    let store: Arc<Store> = open(directory);
    let contents = (1..=CHUNKS).map(|chunk| patched(&store, chunk, random, Compression::None)).collect();
    store.sync_blocking().unwrap();
    store.close();
    contents
}

/// A put that asks for the disk is none of its own kind: compression changes what is written, not when it is answered.
#[test]
fn small_and_empty_puts_are_compressed_like_large_ones() {
    let directory = TestDir::new();
    let store = open(directory.path());
    let mut put = put_of(id(1, 1), None, Vec::new());
    (put.compression, put.durability) = (Compression::Zstd, PutDurability::Synced);
    assert_eq!(store.put(&put, &Bytes::new()), Ok(0));
    put_packed(&store, id(2, 1), None, 10, b"x", Compression::Lz4);
    let store = reopen(store);
    assert_eq!(read(&store, id(1, 1), 100), vec![0; 100]);
    assert_eq!(read(&store, id(2, 1), 12)[9..], [0, b'x', 0]);
}
