//! The bytes of version 1 on the disk, kept in `golden/v1.txt`, and what the decoders make of damaged ones.
//!
//! `DGFS_BLESS=1` writes the file anew; that is right only before a first release, or for a file of a new version.
//! `DGFS_FUZZ_SECONDS` runs the hostile bytes longer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use dgfs_proto::compression::Compression;
use dgfs_proto::ids::{ServerId, Uuid};

use super::{Random, TestDir, id};
use crate::identity::Identity;
use crate::index::{Entry, State, decode_key, encode_key};
use crate::manifest::{self, Manifest as SegmentList};
use crate::record::{
    Facts, HEADER_BYTES, Header, Kind, Manifest, Piece, Place, Run, Source, decode_header, decode_tables, encode_head,
};
use crate::recover::Mark;
use crate::segment::Position;
use crate::uses::Used;
use crate::uses::journal::Journal;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/golden/v1.txt");
const SALT: u32 = 0xdead_beef;
const PLACE: Place = Place { segment: 7, offset: 1280, total: 20_096 };
const REMEDY: &str = "stores of older builds would not be read. If that is meant: raise the format's version (FORMATS.md), keep \
                      the old decoder and golden/v1.txt, and write golden/v2.txt with DGFS_BLESS=1";

fn facts() -> Facts {
    let id = id(70_000, u64::MAX);
    Facts { id, base: (300, 65_536), owner: 2, index: 1 << 33, put_at: 1_700_000_000 }
}

fn tables() -> Manifest {
    Manifest {
        sources: vec![
            Source { version: id(1, 300).version, data_len: 9000 },
            Source { version: id(1, u64::MAX).version, data_len: 19_000 },
        ],
        pieces: vec![
            Piece { offset: 0, len: 5000, at: 100, source: 0 },
            Piece { offset: 5000, len: 18_000, at: 0, source: 1 },
            Piece { offset: 100_000, len: 1000, at: 18_000, source: 1 },
        ],
        runs: vec![Run { offset: 5000, len: 18_000 }, Run { offset: 100_000, len: 1000 }],
        crcs: vec![1, u32::MAX, 3],
        compression: Compression::None,
        frames: Vec::new(),
    }
}

fn packed_tables() -> Manifest {
    Manifest { compression: Compression::Zstd, frames: vec![2000, 900], ..tables() }
}

fn entry(state: State) -> Entry {
    let (data_len, allocated) = (19_000, 24_000);
    let compression = Compression::None;
    Entry { state, place: PLACE, data_len, allocated, compression, owner: 2, index: 1 << 33, put_at: 1_700_000_000 }
}

fn packed_entry() -> Entry {
    Entry { compression: Compression::Lz4, ..entry(State::Live) }
}

fn identity() -> Identity {
    Identity { uuid: Uuid([0xa5; 16]), server: Some(ServerId(3)), salt: SALT }
}

fn segment_list() -> SegmentList {
    SegmentList::from([(1, 64 << 20), (7, 0)])
}

/// What is written today, by name.
fn written() -> BTreeMap<String, Vec<u8>> {
    let head = encode_head(&facts(), &tables(), PLACE, SALT);
    let header = decode_header(&head, PLACE.segment, PLACE.offset, SALT).unwrap();
    let directory = TestDir::new();
    let file = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
    let mark = Mark { generation: 12, position: Position { segment: 7, offset: 1280 } };
    mark.write(directory.path(), SALT).unwrap();
    identity().write(directory.path()).unwrap();
    let (mut journal, uses) = Journal::open(directory.path());
    uses.count(facts().id.chunk, 1_700_000_000, 70_000, Used::Read(5));
    uses.count(facts().id.chunk, 1_700_000_001, 80_000, Used::Written(1 << 40));
    uses.count(facts().id.chunk, 1_700_000_002, 0, Used::Failed);
    journal.save(&uses);
    uses.remove(facts().id.chunk);
    uses.count(id(5, 1).chunk, 1_700_000_003, 1, Used::Read(1));
    journal.save(&uses);
    let named = [
        ("record-head", head),
        ("record-head-packed", encode_head(&facts(), &packed_tables(), PLACE, SALT)),
        ("header-needed", header.turned(Kind::Needed, PLACE, SALT).to_vec()),
        ("header-dead", header.turned(Kind::Dead, PLACE, SALT).to_vec()),
        ("mark", file("checkpoint")),
        ("identity", file("identity")),
        ("chunk-uses", file("chunk-uses")),
        ("segment-list", manifest::encode(&segment_list(), SALT)),
        ("index-key", encode_key(facts().id).to_vec()),
        ("index-live", entry(State::Live).encode()),
        ("index-needed", entry(State::Needed).encode()),
        ("index-dead", entry(State::Dead).encode()),
        ("index-packed", packed_entry().encode()),
    ];
    named.map(|(name, bytes)| (name.to_owned(), bytes)).into()
}

fn kept() -> BTreeMap<String, Vec<u8>> {
    let text = std::fs::read_to_string(FILE).unwrap();
    let bytes =
        |hex: &str| (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    text.lines().map(|line| line.split_once(' ').unwrap()).map(|(name, hex)| (name.to_owned(), bytes(hex))).collect()
}

fn head_of(bytes: &[u8]) -> Option<Header> {
    decode_header(bytes, PLACE.segment, PLACE.offset, SALT)
}

#[test]
fn everything_on_the_disk_has_the_bytes_of_version_1() {
    let written = written();
    if std::env::var_os("DGFS_BLESS").is_some() {
        let lines = written.iter().map(|(name, bytes)| {
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            format!("{name} {hex}\n")
        });
        std::fs::write(FILE, lines.collect::<String>()).unwrap();
    }
    for (name, bytes) in kept() {
        assert!(written.get(&name) == Some(&bytes), "{name} is written differently: {REMEDY}");
    }
    assert_eq!(written.len(), kept().len(), "a format without golden bytes: add its line");
}

#[test]
fn the_bytes_of_version_1_are_read_as_what_was_written() {
    let kept = kept();
    let directory = TestDir::new();
    for (file, name) in [("checkpoint", "mark"), ("identity", "identity"), ("chunk-uses", "chunk-uses")] {
        std::fs::write(directory.path().join(file), &kept[name]).unwrap();
    }
    let header = head_of(&kept["record-head"]).expect(REMEDY);
    assert_eq!((header.kind, header.facts, header.total), (Kind::Version, facts(), PLACE.total), "{REMEDY}");
    assert_eq!(decode_tables(&header, &kept["record-head"][HEADER_BYTES..]), Some(tables()), "{REMEDY}");
    let packed = head_of(&kept["record-head-packed"]).expect(REMEDY);
    assert_eq!((packed.stored_len, packed.compression), (2900, Compression::Zstd), "{REMEDY}");
    assert_eq!(decode_tables(&packed, &kept["record-head-packed"][HEADER_BYTES..]), Some(packed_tables()), "{REMEDY}");
    assert_eq!(Entry::decode(&kept["index-packed"]), Some(packed_entry()), "{REMEDY}");
    for (name, kind) in [("header-needed", Kind::Needed), ("header-dead", Kind::Dead)] {
        let mut turned = header;
        turned.kind = kind;
        assert_eq!(head_of(&kept[name]), Some(turned), "{REMEDY}");
    }
    let mark = Mark { generation: 12, position: Position { segment: 7, offset: 1280 } };
    assert_eq!(Mark::read(directory.path(), SALT), Some(mark), "{REMEDY}");
    assert_eq!(Identity::open(directory.path(), false, &mut Vec::new()).unwrap(), identity(), "{REMEDY}");
    let (_, uses) = Journal::open(directory.path());
    assert_eq!((uses.len(), uses.get(id(5, 1).chunk).map(|row| row.last_use)), (1, Some(1_700_000_003)), "{REMEDY}");
    assert_eq!(manifest::decode(&kept["segment-list"], SALT), Some(segment_list()), "{REMEDY}");
    assert_eq!(decode_key(&kept["index-key"]), Some(facts().id), "{REMEDY}");
    for (name, state) in [("index-live", State::Live), ("index-needed", State::Needed), ("index-dead", State::Dead)] {
        assert_eq!(Entry::decode(&kept[name]), Some(entry(state)), "{REMEDY}");
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len().max(1) as u64) as usize;
        let value = [0, 1, 0x7f, 0x80, 0xff, random.next() as u8][random.below(6) as usize];
        bytes.get_mut(at).into_iter().for_each(|byte| *byte = value);
    }
    if random.below(8) == 0 {
        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
    }
}

/// Damaged bytes whose checksums are right again: the fields behind them are what is tried.
fn damaged_head(golden: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = golden.to_vec();
    damage(&mut bytes, random);
    if bytes.len() >= HEADER_BYTES {
        bytes[..8].copy_from_slice(&golden[..8]);
        let crc = crc32c::crc32c(&bytes[HEADER_BYTES..]);
        bytes[96..100].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c_append(SALT, &bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

fn with_checksum(mut bytes: Vec<u8>, salt: u32) -> Vec<u8> {
    let body = bytes.len().saturating_sub(4);
    bytes.truncate(body);
    let crc = crc32c::crc32c_append(salt, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn damaged_bytes_are_refused_or_read_within_their_bounds() {
    let mut random = Random::seeded();
    let kept = kept();
    let seconds = std::env::var("DGFS_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(2);
    let until = Instant::now() + Duration::from_secs(seconds);
    let directory = TestDir::new();
    let (mut tried, mut heads, mut manifests) = (0_u64, 0_u64, 0_u64);
    while Instant::now() < until {
        tried += 1;
        let golden = ["record-head", "record-head-packed"][random.below(2) as usize];
        let head = damaged_head(&kept[golden], &mut random);
        if let Some(header) = head_of(&head) {
            heads += 1;
            assert!(header.data_at() as usize <= 64 << 10, "{header:?}");
            if let Some(tables) = decode_tables(&header, &head[HEADER_BYTES..]) {
                manifests += 1;
                assert!(tables.pieces.len() + tables.runs.len() + tables.crcs.len() <= 4096);
                let _ = (tables.total(), tables.allocated(), tables.memory_bytes());
            }
        }
        let mut some = |name: &str| {
            let mut bytes = kept[name].clone();
            damage(&mut bytes, &mut random);
            bytes
        };
        let _ = (Entry::decode(&some("index-live")), Entry::decode(&some("index-packed")));
        let _ = decode_key(&some("index-key"));
        let _ = manifest::decode(&with_checksum(some("segment-list"), SALT), SALT);
        if tried % 64 == 0 {
            std::fs::write(directory.path().join("checkpoint"), with_checksum(some("mark"), SALT)).unwrap();
            std::fs::write(directory.path().join("chunk-uses"), some("chunk-uses")).unwrap();
            std::fs::write(directory.path().join("identity"), some("identity")).unwrap();
            let _ = (Mark::read(directory.path(), SALT), Journal::open(directory.path()).1.len());
            let _ = Identity::open(directory.path(), false, &mut Vec::new());
        }
    }
    println!("{tried} inputs, {heads} headers, {manifests} whole tables");
    assert!(heads > 0 && manifests > 0);
}
