//! Damage on the disk: found, named, never served.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use dgfs_proto::ids::ServerId;
use dgfs_proto::status::Status;

use super::{Random, TestDir, id, open, put, read, reopen};
use crate::identity::Identity;
use crate::store::Store;

pub(super) fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn filled(directory: &Path) -> (Arc<Store>, Vec<Vec<u8>>) {
    let store = open(directory);
    let mut random = Random::seeded();
    let mut contents = Vec::new();
    for version in 1..=20 {
        let bytes = random.bytes(50_000);
        put(&store, id(version, version), None, 0, &bytes);
        contents.push(bytes);
    }
    (store, contents)
}

/// A store of several segments, ended in order.
fn spread(directory: &Path) {
    let store = open(directory);
    for version in 1..=30 {
        put(&store, id(version, version), None, 0, &[1; 100_000]);
    }
    store.close();
}

fn check_filled(store: &Store, contents: &[Vec<u8>]) {
    for (version, bytes) in (1..).zip(contents) {
        assert_eq!(read(store, id(version, version), bytes.len()), *bytes);
    }
}

#[test]
fn flipped_bit_is_found_and_never_served() {
    let directory = TestDir::new();
    let (store, contents) = filled(directory.path());
    let place = store.shelf.table.get(id(3, 3)).unwrap().unwrap().place;
    let path = directory.path().join(format!("segments/{:08}.seg", place.segment));
    flip(&path, u64::from(place.offset) + 30_000);
    assert_eq!(store.get(id(3, 3), 20_000, 20_000), Err(Status::Corrupt));
    assert_eq!(store.verify(id(3, 3)), Err(Status::Corrupt));
    assert_eq!(store.get(id(3, 3), 0, 1000).unwrap(), contents[2][..1000], "blocks without damage are served");
    assert_eq!(store.status().checksum_errors, 2);
    assert_eq!(read(&store, id(4, 4), 50_000), contents[3]);
}

#[test]
fn flipped_bit_is_found_after_a_restart_too() {
    let directory = TestDir::new();
    let (store, contents) = filled(directory.path());
    let place = store.shelf.table.get(id(3, 3)).unwrap().unwrap().place;
    store.close();
    drop(store);
    flip(&directory.path().join(format!("segments/{:08}.seg", place.segment)), u64::from(place.offset) + 140);
    let store = open(directory.path());
    assert_eq!(store.get(id(3, 3), 0, 10), Err(Status::Corrupt), "damaged tables");
    assert_eq!(read(&store, id(4, 4), 50_000), contents[3]);
}

#[test]
fn torn_tail_is_dropped_named_and_hides_nothing() {
    let directory = TestDir::new();
    let (store, contents) = filled(directory.path());
    let places: Vec<_> =
        (1..=20).map(|version| store.shelf.table.get(id(version, version)).unwrap().unwrap().place).collect();
    drop(store); // No checkpoint: everything is above the mark.
    let path = |segment: u32| directory.path().join(format!("segments/{segment:08}.seg"));
    // One record's header is gone, one has damaged data, the last is cut off.
    let headless = OpenOptions::new().write(true).open(path(places[4].segment)).unwrap();
    headless.write_all_at(&[0; 40_000], u64::from(places[4].offset)).unwrap();
    flip(&path(places[9].segment), u64::from(places[9].offset) + 25_000);
    let last = OpenOptions::new().write(true).open(path(places[19].segment)).unwrap();
    last.set_len(u64::from(places[19].offset) + 20_000).unwrap();
    for _ in 0..2 {
        let store = open(directory.path());
        for (version, bytes) in (1..).zip(&contents) {
            if matches!(version, 5 | 10 | 20) {
                assert_eq!(store.get(id(version, version), 0, 10), Err(Status::NoVersion));
            } else {
                assert_eq!(read(&store, id(version, version), 50_000), *bytes);
            }
        }
        println!("{:#?}", store.status().lost);
    }
    let store = open(directory.path());
    put(&store, id(30, 30), None, 0, b"goes on");
    assert_eq!(read(&store, id(30, 30), 7), b"goes on");
}

#[test]
fn a_write_that_was_interrupted_is_named_and_is_no_loss() {
    let directory = TestDir::new();
    let (store, _) = filled(directory.path());
    let place = store.shelf.table.get(id(9, 9)).unwrap().unwrap().place;
    drop(store);
    flip(&directory.path().join(format!("segments/{:08}.seg", place.segment)), u64::from(place.offset) + 25_000);
    let status = open(directory.path()).status();
    assert_eq!((status.interrupted.len(), status.lost_versions, status.lost.len()), (1, 0, 0), "{status:?}");
    assert!(status.interrupted[0].contains("chunk 9 version 9"), "{status:?}");
}

#[test]
fn version_whose_base_did_not_survive_is_given_up() {
    let directory = TestDir::new();
    let store = open(directory.path());
    put(&store, id(1, 1), None, 0, &[1; 50_000]);
    put(&store, id(1, 2), Some((1, 50_000)), 0, &[2; 1000]);
    put(&store, id(1, 3), Some((2, 1000)), 500, &[3; 500]);
    let place = store.shelf.table.get(id(1, 1)).unwrap().unwrap().place;
    drop(store);
    flip(&directory.path().join("segments/00000001.seg"), u64::from(place.offset) + 25_000);
    let store = open(directory.path());
    assert_eq!(store.get(id(1, 2), 0, 10), Err(Status::NoVersion));
    assert!(!store.has(id(1, 2)));
    assert_eq!(read(&store, id(1, 3), 1000), [vec![2; 500], vec![3; 500]].concat(), "it shows nothing of version 1");
}

#[test]
fn deleted_index_is_rebuilt() {
    let directory = TestDir::new();
    let (store, contents) = filled(directory.path());
    store.drop_versions(&[id(20, 20)]).unwrap();
    store.close();
    drop(store);
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let store = open(directory.path());
    check_filled(&store, &contents[..19]);
    assert_eq!(store.get(id(20, 20), 0, 1), Err(Status::NoVersion));
    assert_eq!(store.status().lost, Vec::<String>::new());
}

#[test]
fn garbage_in_the_index_is_thrown_away_and_rebuilt() {
    for (name, bytes) in [("db", vec![0xa5; 3_000_000]), ("conf", b"nonsense".to_vec())] {
        let directory = TestDir::new();
        let (store, contents) = filled(directory.path());
        store.close();
        drop(store);
        std::fs::write(directory.path().join("index").join(name), bytes).unwrap();
        check_filled(&open(directory.path()), &contents);
    }
}

#[test]
fn random_damage_in_the_index_is_survived() {
    let mut random = Random::seeded();
    for _ in 0..12 {
        let directory = TestDir::new();
        let (store, contents) = filled(directory.path());
        store.close();
        drop(store);
        let db = directory.path().join("index/db");
        let len = std::fs::metadata(&db).unwrap().len();
        for _ in 0..1 + random.below(30) {
            flip(&db, random.below(len));
        }
        check_filled(&open(directory.path()), &contents);
    }
}

#[test]
fn missing_or_damaged_mark_leads_to_a_rebuild() {
    for damaged in [false, true] {
        let directory = TestDir::new();
        let (store, contents) = filled(directory.path());
        store.close();
        drop(store);
        let mark = directory.path().join("checkpoint");
        if damaged {
            flip(&mark, 10)
        } else {
            std::fs::remove_file(mark).unwrap()
        }
        check_filled(&open(directory.path()), &contents);
    }
}

#[test]
fn missing_segment_is_named_and_the_rest_is_served() {
    let directory = TestDir::new();
    spread(directory.path());
    std::fs::remove_file(directory.path().join("segments/00000002.seg")).unwrap();
    for _ in 0..2 {
        let store = open(directory.path());
        let gone = (1..=30).filter(|version| store.get(id(*version, *version), 0, 10) == Err(Status::Corrupt)).count();
        let status = store.status();
        assert_eq!((status.lost_versions, status.lost_bytes), (gone as u64, gone as u64 * 100_000));
        assert!((5..15).contains(&gone) && status.lost.len() == 1, "{gone} {:?}", status.lost);
        assert!(
            status.lost[0].contains("00000002.seg is missing: 10 chunk versions with 1000000 bytes"),
            "{:?}",
            status.lost
        );
        put(&store, id(100, 100), None, 0, &[1; 1000]);
        store.close();
    }
    let store = open(directory.path());
    let all: Vec<_> = (1..=30).map(|version| id(version, version)).collect();
    store.drop_versions(&all).unwrap();
    assert_eq!(reopen(store).status().lost, Vec::<String>::new(), "what was dropped is missed no more");
}

#[test]
fn segment_cut_off_after_a_clean_end_is_named_at_the_start() {
    let directory = TestDir::new();
    let (store, contents) = filled(directory.path());
    put(&store, id(19, 40), Some((19, 50_000)), 0, b"shows most of version 19");
    let cut = u64::from(store.shelf.table.get(id(15, 15)).unwrap().unwrap().place.offset) + 20_000;
    store.close();
    drop(store);
    let path = directory.path().join("segments/00000001.seg");
    OpenOptions::new().write(true).open(path).unwrap().set_len(cut).unwrap();
    let store = open(directory.path());
    let status = store.status();
    assert!(status.lost[0].contains(&format!("00000001.seg is cut off at byte {cut}")), "{:?}", status.lost);
    for version in 1..=20 {
        let read = store.get(id(version, version), 0, 50_000);
        let right =
            if version < 15 { read.unwrap() == contents[version as usize - 1] } else { read == Err(Status::Corrupt) };
        assert!(right, "version {version}");
        assert_eq!(version >= 15, status.lost[0].contains(&format!("chunk {version} version {version}")));
    }
    assert_eq!(status.lost_versions, 7, "{:?}", status.lost);
}

#[test]
fn segment_missing_together_with_the_index_is_named() {
    let directory = TestDir::new();
    spread(directory.path());
    std::fs::remove_file(directory.path().join("segments/00000001.seg")).unwrap();
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let status = open(directory.path()).status();
    assert!(status.lost[0].contains("00000001.seg is missing"), "{:?}", status.lost);
    assert!(status.mended[0].contains("rebuilt from the segments"), "{:?}", status.mended);
}

#[test]
fn identity_is_checked() {
    let directory = TestDir::new();
    let (store, _) = filled(directory.path());
    let uuid = store.uuid();
    store.set_server(ServerId(4)).unwrap();
    store.close();
    drop(store);
    let store = open(directory.path());
    assert_eq!((store.uuid(), store.server()), (uuid, Some(ServerId(4))));
    drop(store);
    let path = directory.path().join("identity");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let store = open(directory.path());
    assert_eq!((store.uuid(), store.server()), (uuid, Some(ServerId(4))), "its copy is as good");
    assert_eq!(store.status().mended.len(), 1);
    drop(store);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    std::fs::remove_file(directory.path().join("identity.copy")).unwrap();
    for (changed, says) in [
        (text.replace("server 4", "server 5"), "checksum"),
        (text.replace("dgfs-stored 1", "dgfs-stored 2"), "newer dgfs"),
        (String::new(), "damaged"),
    ] {
        std::fs::write(&path, changed).unwrap();
        let refused = Identity::open(directory.path(), false, &mut Vec::new()).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
    std::fs::remove_file(&path).unwrap();
    let refused = Store::open(super::options(directory.path())).err().unwrap().to_string();
    assert!(refused.contains("no identity file"), "{refused}");
}
