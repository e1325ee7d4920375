//! Room on the disk: given back, kept back, and refused in time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dgfs_proto::status::Status;

use super::{Random, TestDir, data_patch, id, open, options, put, put_of, read, reopen};
use crate::store::{Store, StoreOptions};

fn segment_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory.join("segments")).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512).sum()
}

#[test]
fn dropped_large_versions_give_their_room_back_at_once() {
    let directory = TestDir::new();
    let store = open(directory.path());
    for version in 1..=20 {
        put(&store, id(1, version), None, 0, &[1; 200_000]);
    }
    let full = segment_bytes(directory.path());
    let gone: Vec<_> = (1..20).map(|version| id(1, version)).collect();
    store.drop_versions(&gone).unwrap();
    store.checkpoint().unwrap();
    assert!(segment_bytes(directory.path()) < full / 5);
    let store = reopen(store);
    assert_eq!(read(&store, id(1, 20), 200_000), [1; 200_000]);
    assert_eq!(store.status().versions, 1);
}

#[test]
fn data_that_a_live_version_shows_are_kept() {
    let directory = TestDir::new();
    let store = open(directory.path());
    put(&store, id(1, 1), None, 0, &[1; 100_000]);
    put(&store, id(1, 2), Some((1, 100_000)), 0, &[2; 1000]);
    store.drop_versions(&[id(1, 1)]).unwrap();
    store.checkpoint().unwrap();
    store.compact().unwrap();
    let store = reopen(store);
    assert_eq!(read(&store, id(1, 2), 100_000), [vec![2; 1000], vec![1; 99_000]].concat());
    assert_eq!(store.get(id(1, 1), 0, 1), Err(Status::NoVersion));
}

#[test]
fn reads_go_on_during_compaction() {
    let directory = TestDir::new();
    let store = open(directory.path());
    let mut random = Random::seeded();
    let contents: Vec<Vec<u8>> = (0..600).map(|_| random.bytes(9000)).collect();
    for (version, bytes) in (1..).zip(&contents) {
        put(&store, id(version, version), None, 0, bytes);
    }
    let contents = Arc::new(contents);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (store, contents, stop) = (Arc::clone(&store), Arc::clone(&contents), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut random = Random(reader + 77);
                while !stop.load(Ordering::Relaxed) {
                    let at = random.below(120) * 5;
                    assert_eq!(read(&store, id(at + 1, at + 1), 9000), contents[at as usize]);
                }
            })
        })
        .collect();
    let before = segment_bytes(directory.path());
    for part in 1..5 {
        let gone: Vec<_> = (0..120).map(|at| id(at * 5 + part + 1, at * 5 + part + 1)).collect();
        store.drop_versions(&gone).unwrap();
        store.compact().unwrap();
    }
    store.compact().unwrap();
    stop.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let after = segment_bytes(directory.path());
    assert!(after < before * 2 / 3, "{after} of {before}, {:?}", store.usage.lock().segments);
    let store = reopen(store);
    for at in 0..120 {
        assert_eq!(read(&store, id(at * 5 + 1, at * 5 + 1), 9000), contents[at as usize * 5]);
    }
}

/// A small tmpfs; none where this process may not mount.
pub(super) struct SmallDisk(pub(super) PathBuf, TestDir);

impl SmallDisk {
    pub(super) fn new(megabytes: u64) -> Option<Self> {
        let directory = TestDir::new();
        let mount = directory.path().join("mount");
        std::fs::create_dir(&mount).unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&mount).status().ok()?;
        mounted.success().then_some(Self(mount, directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = self.1.path();
    }
}

pub(super) fn fill_up(store: &Store, from: u64) -> u64 {
    let bytes = vec![7; 100_000];
    for version in from.. {
        let request = put_of(id(version, version), None, vec![data_patch(0, &bytes)]);
        match store.put(&request, &Bytes::from(bytes.clone())) {
            Ok(_) => {}
            Err(Status::NoSpace) => return version,
            Err(other) => panic!("{other:?}"),
        }
    }
    unreachable!()
}

#[test]
fn full_disk_refuses_puts_early_and_still_drops_and_compacts() {
    let Some(disk) = SmallDisk::new(64) else {
        println!("not run: no permission to mount");
        return;
    };
    let store = Store::open(StoreOptions { reserve_bytes: Some(8 << 20), ..options(&disk.0.join("store")) }).unwrap();
    let end = fill_up(&store, 1);
    assert!(end > 400, "{end}");
    assert!(store.space.free_with_reserve() > 7 << 20, "the reserve is still there");
    assert_eq!(store.status().free_bytes / 1_000_000, 0);
    store.checkpoint().unwrap();
    let gone: Vec<_> = (1..end).filter(|version| version % 3 != 0).map(|version| id(version, version)).collect();
    store.drop_versions(&gone).unwrap();
    store.compact().unwrap();
    store.compact().unwrap();
    assert!(store.status().free_bytes > 30 << 20, "{:?}", store.status());
    let again = fill_up(&store, 10_000);
    assert!(again > 10_200);
    assert_eq!(read(&store, id(3, 3), 100_000), [7; 100_000]);
}

#[test]
fn disk_filled_by_others_loses_nothing() {
    let Some(disk) = SmallDisk::new(64) else {
        println!("not run: no permission to mount");
        return;
    };
    let store = open(&disk.0.join("store"));
    put(&store, id(1, 1), None, 0, &[1; 100_000]);
    store.checkpoint().unwrap();
    let hog = disk.0.join("hog");
    let mut size = 60 << 20;
    while size > 4096 {
        if std::fs::write(&hog, vec![1; size]).is_ok() {
            break;
        }
        size -= 1 << 20;
    }
    let end = fill_up(&store, 2);
    store.sync_blocking().unwrap();
    std::fs::remove_file(&hog).unwrap();
    let store = reopen(store);
    for version in 1..end {
        let first = store.get(id(version, version), 0, 1).unwrap();
        assert!(matches!(first[0], 1 | 7));
    }
    put(&store, id(5000, 5000), None, 0, b"goes on");
}
