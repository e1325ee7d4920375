//! The store against plain vectors.

use std::collections::BTreeMap;

use bytes::Bytes;
use dgfs_proto::chunk::{Patch, PatchKind, VersionId};
use dgfs_proto::compression::Compression;
use dgfs_proto::status::Status;

use super::compression::text;
use super::{Random, TestDir, data_patch, id, open, put, put_of, read, reopen};
use crate::record::PIECES_MAX;
use crate::store::Store;

const CHUNK: usize = 200_000;

type Model = BTreeMap<VersionId, Vec<u8>>;

#[test]
fn random_puts_gets_and_drops_read_as_plain_vectors_do() {
    let mut random = Random::seeded();
    let directory = TestDir::new();
    let mut store = open(directory.path());
    let mut model = Model::new();
    let mut version = 0;
    for step in 0..1500 {
        match random.below(100) {
            0..55 => {
                version += 1;
                random_put(&store, &mut model, &mut random, version);
            }
            55..85 => random_get(&store, &model, &mut random),
            85..94 => {
                let gone: Vec<VersionId> = model.keys().copied().filter(|_| random.below(8) == 0).collect();
                store.drop_versions(&gone).unwrap();
                for id in gone {
                    model.remove(&id);
                    assert_eq!(store.get(id, 0, 1), Err(Status::NoVersion));
                }
            }
            94..95 => recompress_all(&store, &model, &mut random),
            95..97 => store.checkpoint().unwrap(),
            97..99 => store.compact().unwrap(),
            _ => store = reopen(store),
        }
        if step % 250 == 0 {
            check_all(&store, &model);
        }
    }
    check_all(&store, &model);
    std::fs::remove_dir_all(directory.path().join("index")).unwrap_or_else(|_| panic!("no index"));
    store.forget_checkpoint();
    drop(store);
    let store = open(directory.path());
    for (id, bytes) in &model {
        assert_eq!(read(&store, *id, CHUNK), *bytes, "{id:?} after a rebuild");
    }
    assert_eq!(store.status().lost, Vec::<String>::new());
}

fn check_all(store: &Store, model: &Model) {
    let listed: Vec<VersionId> = store.list(None, 4096).unwrap().iter().map(|held| held.held.id).collect();
    assert_eq!(listed, model.keys().copied().collect::<Vec<_>>());
    for (id, bytes) in model {
        assert_eq!(read(store, *id, CHUNK), *bytes, "{id:?}");
        store.verify(*id).unwrap();
    }
    let status = store.status();
    assert_eq!(status.versions, model.len() as u64);
    assert_eq!(status.checksum_errors, 0);
}

fn random_put(store: &Store, model: &mut Model, random: &mut Random, version: u64) {
    let chunk = 1 + random.below(6);
    let id = id(chunk, version);
    let bases: Vec<VersionId> = model.keys().copied().filter(|other| other.chunk == id.chunk).collect();
    let base = (!bases.is_empty() && random.below(5) > 0).then(|| bases[random.below(bases.len() as u64) as usize]);
    let mut bytes = vec![0; CHUNK];
    let base = base.map(|base| {
        let len = random.below(CHUNK as u64 + 1) as usize;
        bytes[..len].copy_from_slice(&model[&base][..len]);
        (base.version.get(), u32::try_from(len).unwrap())
    });
    let mut patches: Vec<Patch> = Vec::new();
    let mut body = Vec::new();
    let mut at = 0;
    for _ in 0..random.below(9) {
        let from = at + random.below(30_000) as usize;
        let bound = if random.below(4) == 0 { 60_000 } else { 900 };
        let len = 1 + random.below(bound) as usize;
        if from + len > CHUNK {
            break;
        }
        let offset = u32::try_from(from).unwrap();
        if random.below(5) == 0 {
            bytes[from..from + len].fill(0);
            patches.push(Patch { offset, len: u32::try_from(len).unwrap(), kind: PatchKind::Zero });
        } else {
            let data = if random.below(2) == 0 { random.bytes(len) } else { text(random, len) };
            bytes[from..from + len].copy_from_slice(&data);
            patches.push(data_patch(offset, &data));
            body.extend_from_slice(&data);
        }
        at = from + len;
    }
    let mut put = put_of(id, base, patches);
    put.compression = Compression::ALL[random.below(3) as usize];
    let allocated = store.put(&put, &Bytes::from(body)).unwrap();
    let extents: u32 = store.extents(id).unwrap().iter().map(|range| range.len).sum();
    assert_eq!(allocated, extents);
    model.insert(id, bytes);
}

/// Gives everything that may have another compression one.
fn recompress_all(store: &Store, model: &Model, random: &mut Random) {
    let compression = Compression::ALL[random.below(3) as usize];
    for id in model.keys() {
        store.recompress(*id, compression).unwrap();
    }
    store.sync_blocking().unwrap();
    for id in model.keys() {
        store.settle_chunk(id.chunk).unwrap();
    }
}

fn random_get(store: &Store, model: &Model, random: &mut Random) {
    if model.is_empty() {
        return;
    }
    let id = *model.keys().nth(random.below(model.len() as u64) as usize).unwrap();
    let from = random.below(CHUNK as u64) as usize;
    let len = 1 + random.below((CHUNK - from) as u64) as usize;
    let got = store.get(id, u32::try_from(from).unwrap(), u32::try_from(len).unwrap()).unwrap();
    assert_eq!(got, model[&id][from..from + len], "{id:?} {from}+{len}");
}

#[test]
fn put_of_a_held_version_changes_nothing() {
    let directory = TestDir::new();
    let store = open(directory.path());
    assert_eq!(put(&store, id(1, 1), None, 0, b"first"), 5);
    assert_eq!(put(&store, id(1, 1), None, 0, b"second time"), 5);
    assert_eq!(read(&store, id(1, 1), 8), b"first\0\0\0");
    assert_eq!(store.status().puts, 1);
}

#[test]
fn put_over_a_base_that_is_not_here_is_refused() {
    let directory = TestDir::new();
    let store = open(directory.path());
    let refused = store.put(&put_of(id(1, 2), Some((1, 9)), vec![data_patch(0, b"x")]), &Bytes::from_static(b"x"));
    assert_eq!(refused, Err(Status::NoVersion));
}

#[test]
fn body_that_does_not_match_its_checksums_is_refused_and_not_held() {
    let directory = TestDir::new();
    let store = open(directory.path());
    let refused = store.put(&put_of(id(1, 1), None, vec![data_patch(0, b"right")]), &Bytes::from_static(b"wrong"));
    assert_eq!(refused, Err(Status::Corrupt));
    assert!(!store.has(id(1, 1)));
}

#[test]
fn malformed_puts_and_gets_are_refused() {
    let directory = TestDir::new();
    let store = open(directory.path());
    let overlapping = put_of(id(1, 1), None, vec![data_patch(0, b"ab"), data_patch(1, b"cd")]);
    assert_eq!(store.put(&overlapping, &Bytes::from_static(b"abcd")), Err(Status::Malformed));
    let long = put_of(id(1, 1), None, vec![data_patch(0, b"ab")]);
    assert_eq!(store.put(&long, &Bytes::from_static(b"abc")), Err(Status::Malformed));
    let behind = put_of(id(1, 1), None, vec![data_patch(u32::MAX, b"a")]);
    assert_eq!(store.put(&behind, &Bytes::from_static(b"a")), Err(Status::Malformed));
    assert_eq!(store.get(id(1, 1), u32::MAX, 2), Err(Status::Malformed));
    assert_eq!(store.get(id(1, 1), 0, 0), Err(Status::Malformed));
}

#[test]
fn small_overwrite_of_a_large_chunk_writes_little() {
    let directory = TestDir::new();
    let store = open(directory.path());
    let mut random = Random::seeded();
    let mut bytes = random.bytes(4 << 20);
    put(&store, id(1, 1), None, 0, &bytes);
    let before = store.status().used_bytes;
    let patch = random.bytes(4096);
    put(&store, id(1, 2), Some((1, 4 << 20)), 1 << 20, &patch);
    assert!(store.status().used_bytes - before < 6000);
    bytes[1 << 20..(1 << 20) + 4096].copy_from_slice(&patch);
    assert_eq!(read(&store, id(1, 2), 4 << 20), bytes);
}

#[test]
fn version_of_too_many_pieces_is_consolidated() {
    let directory = TestDir::new();
    let store = open(directory.path());
    let mut random = Random::seeded();
    let mut bytes = random.bytes(1 << 20);
    put(&store, id(1, 1), None, 0, &bytes);
    for version in 2..800 {
        let at = random.below((1 << 20) - 64) as usize;
        let patch = random.bytes(64);
        bytes[at..at + 64].copy_from_slice(&patch);
        put(&store, id(1, version), Some((version - 1, 1 << 20)), u32::try_from(at).unwrap(), &patch);
        store.drop_versions(&[id(1, version - 1)]).unwrap();
        let pieces = store.shelf.record(id(1, version)).unwrap().manifest.pieces.len();
        assert!(pieces <= PIECES_MAX);
    }
    assert_eq!(read(&store, id(1, 799), 1 << 20), bytes);
    assert!(store.status().live_bytes < 3 << 20);
}

#[test]
fn sparse_version_of_very_many_small_runs_is_stored() {
    let directory = TestDir::new();
    let store = open(directory.path());
    let mut bytes = vec![0; 4 << 20];
    for round in 0..8_u64 {
        let mut patches = Vec::new();
        for at in 0..200 {
            let from = (at * 8 + round as usize) * 2600;
            bytes[from] = 1 + round as u8;
            patches.push(data_patch(u32::try_from(from).unwrap(), &[1 + round as u8]));
        }
        let base = (round > 0).then_some((round, 4 << 20));
        store.put(&put_of(id(1, round + 1), base, patches), &Bytes::from(vec![1 + round as u8; 200])).unwrap();
    }
    assert_eq!(read(&store, id(1, 8), 4 << 20), bytes);
}

#[test]
fn second_daemon_on_a_directory_is_told_who_has_it() {
    let directory = TestDir::new();
    let _store = open(directory.path());
    let refused = crate::store::Store::open(super::options(directory.path())).err().unwrap().to_string();
    assert!(refused.contains("is in use by"), "{refused}");
}
