//! Promises of the table of uses and of its file.

use std::fs;
use std::path::Path;

use dgfs_proto::chunk::UseOrder;
use dgfs_proto::ids::ChunkId;

use super::journal::Journal;
use super::{CHUNKS_MAX, Use, Used, Uses};
use crate::tests::{Random, TestDir};

fn chunk(id: u64) -> ChunkId {
    ChunkId::new(id).unwrap()
}

/// What the file in `directory` says, by chunk.
fn on_disk(directory: &Path) -> Vec<Use> {
    rows(&Journal::open(directory).1)
}

fn rows(uses: &Uses) -> Vec<Use> {
    let mut rows: Vec<Use> = uses.all().flatten().map(|row| Use { is_dirty: false, ..row }).collect();
    rows.sort_unstable_by_key(|row| row.chunk);
    rows
}

#[test]
fn each_use_is_counted_with_its_chunk() {
    let uses = Uses::default();
    uses.count(chunk(5), 100, 4096, Used::Read(10));
    uses.count(chunk(5), 101, 8192, Used::Written(20));
    uses.count(chunk(5), 102, 0, Used::Failed);
    uses.count(chunk(6), 103, 1, Used::Read(1));
    let row = uses.get(chunk(5)).unwrap();
    assert_eq!((row.reads, row.writes, row.read_bytes, row.write_bytes, row.errors), (1, 1, 10, 20, 1));
    assert_eq!((row.last_use, row.bytes), (101, 8192), "a failure is no use");
    assert_eq!(uses.len(), 2);
}

/// Against a plain map, with removals, which move rows.
#[test]
fn rows_are_found_whatever_was_removed_before() {
    let mut random = Random::seeded();
    let uses = Uses::default();
    let mut plain = std::collections::BTreeMap::new();
    for _ in 0..200_000 {
        let id = 1 + random.below(20_000);
        if random.below(4) == 0 {
            uses.remove(chunk(id));
            plain.remove(&id);
        } else {
            uses.count(chunk(id), 1, 1, Used::Read(id));
            *plain.entry(id).or_insert(0) += 1;
        }
    }
    let counted: Vec<(u64, u64)> = rows(&uses).iter().map(|row| (row.chunk.get(), row.reads)).collect();
    assert_eq!(counted, plain.iter().map(|(id, reads)| (*id, *reads)).collect::<Vec<_>>());
    assert!(plain.keys().all(|id| uses.get(chunk(*id)).is_some_and(|row| row.chunk == chunk(*id))));
}

#[test]
fn the_first_in_each_order_come_first_and_what_has_none_is_left_out() {
    let uses = Uses::default();
    for id in 1..=500 {
        (0..id).for_each(|_| uses.count(chunk(id), 1000 - id, 1, Used::Read(1)));
        (id..=500).for_each(|_| uses.count(chunk(id), 1000 - id, 1, Used::Written(10)));
    }
    uses.count(chunk(7), 1, 1, Used::Failed);
    let first = |by, limit| uses.top(by, limit).iter().map(|row| row.chunk.get()).collect::<Vec<_>>();
    assert_eq!(first(UseOrder::Reads, 3), [500, 499, 498]);
    assert_eq!(first(UseOrder::Writes, 3), [1, 2, 3]);
    assert_eq!(first(UseOrder::Bytes, 2), [1, 2]);
    assert_eq!(first(UseOrder::Recent, 2), [1, 2]);
    assert_eq!(first(UseOrder::Errors, 10), [7]);
    assert_eq!(first(UseOrder::Reads, 1000).len(), 500);
}

#[test]
fn the_working_set_is_what_was_used_within_each_window() {
    let uses = Uses::default();
    for (id, ago) in [(1, 10), (2, 200), (3, 2000), (4, 50_000), (5, 500_000)] {
        uses.count(chunk(id), 1_000_000 - ago, 10, Used::Read(1));
    }
    let survey = uses.survey(1_000_000, 2);
    assert_eq!(survey.working_set, [(2, 20), (3, 30), (4, 40)]);
    assert_eq!((survey.chunks, survey.hot.len()), (5, 2));
}

/// The figures of the manual.
#[test]
fn a_million_chunks_take_at_most_75_bytes_each() {
    let uses = Uses::default();
    for id in 1..=1_000_000 {
        uses.count(chunk(id << 9), 1, 1, Used::Read(1));
    }
    let bytes = uses.survey(1, 0).memory_bytes;
    println!("{bytes} bytes for a million chunks");
    assert!(bytes < 75_000_000, "{bytes}");
}

#[test]
fn when_it_is_full_what_was_not_used_for_long_makes_room() {
    let uses = Uses::default();
    let all = CHUNKS_MAX as u64 * 5 / 4;
    for id in 1..=all {
        uses.count(chunk(id), id, 1, Used::Read(1));
    }
    assert!(uses.len() <= CHUNKS_MAX);
    let newest = (all - 1000..=all).filter(|id| uses.get(chunk(*id)).is_some()).count();
    assert!(newest > 990, "{newest} of the 1,001 newest are there");
}

#[test]
fn counts_survive_a_kill_after_a_save_and_removed_chunks_stay_removed() {
    let directory = TestDir::new();
    let (mut journal, uses) = Journal::open(directory.path());
    for id in 1..=10_000 {
        uses.count(chunk(id), id, 1, Used::Read(id));
    }
    journal.save(&uses);
    assert_eq!(on_disk(directory.path()), rows(&uses));
    uses.count(chunk(3), 77, 9, Used::Written(5));
    (100..200).for_each(|id| uses.remove(chunk(id)));
    uses.remove(chunk(300));
    uses.count(chunk(300), 78, 9, Used::Written(6));
    let length = fs::metadata(directory.path().join("chunk-uses")).unwrap().len();
    journal.save(&uses);
    // No close: the process could be killed here.
    assert_eq!(on_disk(directory.path()), rows(&uses));
    let grown = fs::metadata(directory.path().join("chunk-uses")).unwrap().len() - length;
    assert!(grown < 10_000, "only what changed was written: {grown} bytes");
}

#[test]
fn more_removals_than_can_be_named_are_not_forgotten() {
    let directory = TestDir::new();
    let (mut journal, uses) = Journal::open(directory.path());
    (1..=600_000).for_each(|id| uses.count(chunk(id), id, 1, Used::Read(id)));
    journal.save(&uses);
    (1..=599_000).for_each(|id| uses.remove(chunk(id)));
    journal.save(&uses);
    assert_eq!(on_disk(directory.path()), rows(&uses));
}

#[test]
fn the_file_stays_in_proportion_to_the_table() {
    let directory = TestDir::new();
    let (mut journal, uses) = Journal::open(directory.path());
    for round in 0..200 {
        (1..=2_000).for_each(|id| uses.count(chunk(id), round, 1, Used::Read(id)));
        journal.save(&uses);
    }
    let length = fs::metadata(directory.path().join("chunk-uses")).unwrap().len();
    assert!(length < 140_000 * 60, "{length}");
    assert_eq!(on_disk(directory.path()), rows(&uses));
}

#[test]
fn what_is_in_front_of_damage_stays_and_counting_goes_on() {
    let mut random = Random::seeded();
    for _ in 0..20 {
        let directory = TestDir::new();
        let (mut journal, uses) = Journal::open(directory.path());
        (1..=100).for_each(|id| uses.count(chunk(id), 1, 1, Used::Read(id)));
        journal.save(&uses);
        let path = directory.path().join("chunk-uses");
        let first = fs::read(&path).unwrap().len() as u64;
        (200..=300).for_each(|id| uses.count(chunk(id), 1, 1, Used::Read(id)));
        journal.save(&uses);
        let mut bytes = fs::read(&path).unwrap();
        let at = first + random.below(bytes.len() as u64 - first);
        if random.below(2) == 0 {
            bytes[at as usize] ^= 1 << random.below(8);
        } else {
            bytes.truncate(at as usize);
        }
        fs::write(&path, &bytes).unwrap();
        let (mut journal, uses) = Journal::open(directory.path());
        assert!((1..=100).all(|id| uses.get(chunk(id)).is_some_and(|row| row.reads == 1)), "damage at {at}");
        uses.count(chunk(1), 1, 1, Used::Read(1));
        journal.save(&uses);
        assert_eq!(on_disk(directory.path()), rows(&uses));
    }
}

#[test]
fn a_file_that_is_something_else_begins_anew() {
    for bytes in [&b""[..], b"DGFSUSE", b"something else entirely", b"DGFSUSE1\xff\xff\xff\xff\0\0\0\0"] {
        let directory = TestDir::new();
        fs::write(directory.path().join("chunk-uses"), bytes).unwrap();
        let (mut journal, uses) = Journal::open(directory.path());
        assert_eq!(uses.len(), 0, "{bytes:?}");
        uses.count(chunk(1), 1, 1, Used::Read(1));
        journal.save(&uses);
        assert_eq!(on_disk(directory.path()), rows(&uses));
    }
}
