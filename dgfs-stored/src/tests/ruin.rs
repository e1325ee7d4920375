//! Random damage to a whole store: bits flipped, files cut off and deleted.
//!
//! Never expects luck: whatever is damaged, the store opens, every version is given out as it was or refused, and what
//! the start says is gone is gone. `DGFS_RUIN_ROUNDS` runs it longer.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use dgfs_proto::chunk::VersionId;
use dgfs_proto::status::Status;

use super::{Random, TestDir, id, open, put, read};
use crate::store::Store;

const ROUNDS: u64 = 40;
const LEN: usize = 60_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Blow {
    Flip,
    Cut,
    Delete,
}

/// A store with versions made of one another, some dropped, after compaction and a clean end.
fn build(directory: &Path, random: &mut Random) -> BTreeMap<VersionId, Vec<u8>> {
    let store = open(directory);
    let mut held = BTreeMap::new();
    let mut version = 0;
    for chunk in 1..=12 {
        let mut content = vec![0; LEN];
        let mut base = None;
        for _ in 0..1 + random.below(5) {
            version += 1;
            let len = 1 + random.below(LEN as u64) as usize;
            let at = random.below((LEN - len) as u64 + 1) as usize;
            let bytes = random.bytes(len);
            content[at..at + len].copy_from_slice(&bytes);
            put(&store, id(chunk, version), base, at as u32, &bytes);
            held.insert(id(chunk, version), content.clone());
            base = Some((version, LEN as u32));
        }
    }
    let dropped: Vec<_> = held.keys().filter(|_| random.below(3) == 0).copied().collect();
    store.drop_versions(&dropped).unwrap();
    held.retain(|id, _| !dropped.contains(id));
    if random.below(2) == 0 {
        store.compact().unwrap();
    }
    store.close();
    held
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.file_name() != "lock" {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// One blow at a random file; its path inside the store.
fn strike(directory: &Path, random: &mut Random) -> (String, Blow) {
    let files = files(directory);
    let mut path = &files[random.below(files.len() as u64) as usize];
    if random.below(2) == 0 {
        let segments: Vec<_> = files.iter().filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
        if !segments.is_empty() {
            path = segments[random.below(segments.len() as u64) as usize];
        }
    }
    let len = std::fs::metadata(path).unwrap().len();
    let blow = [Blow::Flip, Blow::Cut, Blow::Delete][random.below(3) as usize];
    match blow {
        Blow::Delete => std::fs::remove_file(path).unwrap(),
        Blow::Cut => {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(random.below(len.max(1))).unwrap();
        }
        Blow::Flip => {
            let mut bytes = std::fs::read(path).unwrap();
            for _ in 0..1 + random.below(4) {
                let at = random.below(len.max(1)) as usize;
                let mask = 1 << random.below(8);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= mask);
            }
            std::fs::write(path, bytes).unwrap();
        }
    }
    (path.strip_prefix(directory).unwrap().display().to_string(), blow)
}

/// Everything held is given out whole or refused, in parts too; what is refused.
fn unreadable(store: &Store, held: &BTreeMap<VersionId, Vec<u8>>, random: &mut Random) -> Vec<VersionId> {
    let mut refused = Vec::new();
    for (id, content) in held {
        let at = random.below(LEN as u64) as usize;
        let len = 1 + random.below((LEN - at) as u64) as usize;
        if let Ok(bytes) = store.get(*id, at as u32, len as u32) {
            assert_eq!(bytes, content[at..at + len], "a part of {id:?}");
        }
        match store.get(*id, 0, LEN as u32) {
            Ok(bytes) => assert_eq!(bytes, *content, "{id:?}"),
            Err(Status::Corrupt | Status::NoVersion) => refused.push(*id),
            Err(status) => panic!("{id:?} is answered by {status:?}"),
        }
    }
    refused
}

#[test]
fn whatever_is_damaged_nothing_wrong_is_served_and_what_is_gone_is_named() {
    let mut random = Random::seeded();
    let rounds = std::env::var("DGFS_RUIN_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    for round in 0..rounds {
        let directory = TestDir::new();
        let held = build(directory.path(), &mut random);
        let blows: Vec<_> = (0..1 + random.below(4)).map(|_| strike(directory.path(), &mut random)).collect();
        println!("round {round}: {blows:?}");
        if blows.iter().filter(|(path, _)| path.starts_with("identity")).count() > 1 {
            continue; // Both copies may be gone: then it is refused, which another test looks at.
        }
        let store = open(directory.path());
        let status = store.status();
        let named = store.not_whole();
        let refused = unreadable(&store, &held, &mut random);
        let context = format!("round {round}: {blows:?} {status:#?} refused {refused:?}");
        for id in named.iter().filter(|id| held.contains_key(id)) {
            assert!(refused.contains(id), "{id:?} is said to be lost and is there; {context}");
        }
        let flipped = blows.iter().any(|(path, blow)| path.starts_with("segments/") && *blow == Blow::Flip);
        let has_index = blows.iter().all(|(path, _)| !path.starts_with("index") && path != "checkpoint");
        if !flipped && has_index {
            let missed: Vec<_> = refused.iter().filter(|id| !named.contains(id)).collect();
            assert!(missed.is_empty(), "{missed:?} are gone and not named; {context}");
        }
        if !flipped {
            let is_said = !status.lost.is_empty() || !status.interrupted.is_empty();
            assert!(refused.is_empty() || is_said, "something is gone and no word is said; {context}");
        }
        put(&store, id(900, 900), None, 0, b"goes on");
        store.close();
        drop(store);
        let store = open(directory.path());
        assert_eq!(unreadable(&store, &held, &mut random), refused, "the same the next time; {context}");
        assert_eq!(read(&store, id(900, 900), 7), b"goes on");
    }
}
