//! The bytes of version 1 of every row, kept in `golden/rows-v1.txt`, and damaged ones.
//!
//! Never opens an engine. `DGFS_BLESS=1` writes the file anew; that is right only before a first release, or for a file of
//! a new version. `DGFS_FUZZ_SECONDS` runs the damaged ones longer, `DGFS_TEST_SEED` repeats them.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dgfs_meta::engine::{RowKey, Table};
use dgfs_meta::rows::{
    ConsumerRow, Counters, DentryRow, HeldLock, InodeRow, JournalRow, Link, MemberRow, Row, RowError, SavedRow,
    ServerRow, SessionRow, SettingsRow, key,
};
use dgfs_proto::attr::{Attr, AttrFlags, FileKind, Timestamp, TreeStat};
use dgfs_proto::chunk::{ChunkRef, VersionId};
use dgfs_proto::class::Class;
use dgfs_proto::compression::Compression;
use dgfs_proto::graph::{NodeFacts, TagFacts};
use dgfs_proto::ids::{ChunkId, ChunkVersion, Epoch, Ino, OpId, Seq, ServerId, SessionId, TagId, Uuid};
use dgfs_proto::log::{Change, Event};
use dgfs_proto::map::{ClassMap, Extra, Holder, Labels, Placement, Standing};
use dgfs_proto::meta::{
    Announce, ClientInfo, ClusterEvent, EventKind, LockFamily, LockKind, LockSpec, MetaReply, Named, ProcessKind,
    VolumeInfo,
};
use dgfs_proto::name::Name;
use dgfs_proto::tag::Tag;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rows-v1.txt");
const REMEDY: &str = "volumes of older builds would be misread. If that is meant: raise ROW_FORMAT (and FORMAT, FORMATS.md), keep \
                      reading version 1 and golden/rows-v1.txt, and write golden/rows-v2.txt with DGFS_BLESS=1";

fn time(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 999_999_999 }
}

fn ino(raw: u64) -> Ino {
    Ino::new(raw).unwrap()
}

fn version() -> VersionId {
    VersionId { chunk: ChunkId::new(70_000).unwrap(), version: ChunkVersion::new(1 << 40).unwrap() }
}

fn inode() -> InodeRow {
    let attr = Attr {
        ino: ino(300),
        kind: FileKind::Directory,
        mode: 0o1777,
        uid: 1000,
        gid: 100,
        nlink: 3,
        size: 2,
        allocated: 0,
        rdev: 0,
        atime: time(-1),
        mtime: time(1_700_000_000),
        ctime: time(1_700_000_001),
        btime: time(0),
        data_version: 5,
        flags: AttrFlags(AttrFlags::HAS_DEFAULT_ACL),
        parent: Ino::ROOT,
    };
    let tree = TreeStat { files: 1, dirs: 2, bytes: 1 << 50 };
    InodeRow { attr, links: vec![Link { parent: Ino::ROOT, cookie: u64::MAX }], tree, target: b"t".to_vec() }
}

fn counters() -> Counters {
    Counters {
        next_ino: 301,
        next_chunk: 70_001,
        next_version: 1 << 41,
        next_session: 6,
        next_garbage: 7,
        next_server: 3,
        seq: Seq(99),
        trimmed: Seq(50),
        data_synced: Seq(98),
        map_epoch: Epoch(9),
        inodes: 12,
        allocated: 1 << 45,
        shares: 1,
    }
}

fn rows() -> Vec<(&'static str, RowKey, Row)> {
    let session = SessionId::new(5).unwrap();
    let reference = ChunkRef { chunk: version().chunk, version: version().version, len: 4 << 20, allocated: 12_345 };
    let volume = VolumeInfo {
        uuid: Uuid([7; 16]),
        name: "main".to_owned(),
        chunk_bytes: 4 << 20,
        inline_bytes_max: 4096,
        format: 1,
        created: time(1_700_000_000),
        initial_servers: 1,
    };
    let client = ClientInfo { host: "h".to_owned(), pid: 1, mount_point: "/m".to_owned(), version: "0.1.0".to_owned() };
    let lock = LockSpec { family: LockFamily::Posix, owner: 3, kind: LockKind::Read, start: 0, end: u64::MAX, pid: 4 };
    let entry = DentryRow { slot: 1, name: Name::new(b"e").unwrap(), ino: ino(300), kind: FileKind::Symlink };
    let change = Change::Tagged {
        made: vec![(tag_id(), tag())],
        tags: vec![(ino(300), vec![tag_id()])],
        vetoes: vec![(ino(301), vec![tag().name])],
    };
    let nodes = vec![NodeFacts::from(&inode().attr)];
    let event = Event { seq: Seq(99), at: time(1), session: None, change, nodes, continues: true };
    let server =
        ServerRow { id: ServerId(2), identity: Uuid([9; 16]), address: "a:1".to_owned(), label: "l".to_owned() };
    let held = SessionRow { id: session, key: 8, client, versions: vec![(1, 1 << 24)], acked: OpId(300) };
    let consumer = ConsumerRow { name: "index".to_owned(), seq: Seq(98), seen: time(1_700_000_000) };
    let named = Named { ino: ino(300), lost: Some((ino(300), 0)), attrs: vec![inode().attr] };
    let xattrs = BTreeMap::from([(b"user.a".to_vec(), vec![0, 255]), (b"user.b".to_vec(), Vec::new())]);
    vec![
        ("volume", key::VOLUME, Row::Volume(volume)),
        ("counters", key::COUNTERS, Row::Counters(counters())),
        ("assignment", key::ASSIGNMENT, Row::Assignment(vec![vec![ServerId(1), ServerId(2)], Vec::new()])),
        ("inode", key::inode(ino(300)), Row::Inode(inode())),
        ("inline", key::inline(ino(300)), Row::Inline(b"hello".to_vec())),
        ("xattrs", key::xattr(ino(300)), Row::Xattrs(xattrs)),
        ("dentries", key::dentry(Ino::ROOT, 1 << 54), Row::Dentries(vec![entry])),
        ("slots", key::slots(ino(300), 70), Row::Slots(vec![(6, reference)])),
        ("locks", key::lock(ino(300)), Row::Locks(vec![HeldLock { session, lock }])),
        ("event", key::event(Seq(99)), Row::Event(event)),
        ("session", key::session(session), Row::Session(held)),
        ("answer", key::answer(session, OpId(300)), Row::Answer(MetaReply::Named(named))),
        ("garbage", key::garbage(7), Row::Garbage(version())),
        ("shared", key::shared(version().version), Row::Shared(2)),
        ("orphan", key::orphan(ino(300)), Row::Orphan),
        ("server", key::server(ServerId(2)), Row::Server(server)),
        ("consumer", key::consumer(u64::MAX), Row::Consumer(consumer)),
        ("settings", key::SETTINGS, Row::Settings(settings())),
        ("class", key::class(Class::coded(4, 2).unwrap()), Row::Class(class())),
        ("member", key::member(ServerId(2)), Row::Member(member())),
        ("tag", key::tag(tag_id()), Row::Tag(tag())),
        ("tag-names", key::tag_names(1 << 54), Row::TagNames(vec![("beach".to_owned(), tag_id())])),
        ("saved", key::saved(1 << 53), Row::Saved(vec![saved()])),
        ("happened", key::happened(1 << 40), Row::Happened(happened())),
        ("journal", key::JOURNAL, Row::Journal(JournalRow { first: 70_000, head: 1 << 40 })),
        ("announced", key::announced(ServerId(2)), Row::Announced(announced())),
    ]
}

fn happened() -> ClusterEvent {
    let (kind, subject, text) = (EventKind::EventsDropped, "2 l".to_owned(), "it is so".to_owned());
    ClusterEvent { number: 1 << 40, at: time(1_700_000_000), kind, subject, text }
}

fn announced() -> Announce {
    Announce {
        instance: u64::MAX,
        kind: ProcessKind::Stored,
        host: "h".to_owned(),
        pid: 70_000,
        name: "l".to_owned(),
        version: "0.1.0".to_owned(),
        metrics: "127.0.0.1:9521".to_owned(),
        started: time(1_700_000_000),
        server: Some(ServerId(2)),
    }
}

fn tag_id() -> TagId {
    TagId::new(302).unwrap()
}

fn saved() -> SavedRow {
    SavedRow { name: "trips".to_owned(), expression: "beach and sea".to_owned(), owner: 1000 }
}

fn tag() -> TagFacts {
    TagFacts {
        name: Tag::parse("Beach").unwrap(),
        aliases: vec![Tag::parse("strand").unwrap()],
        implies: vec![TagId::new(303).unwrap()],
        merged_into: Some(TagId::new(304).unwrap()),
        owner: 1000,
    }
}

#[test]
fn an_event_from_before_there_was_a_graph_is_read() {
    let before = [1, 99, 2, 0xff, 0x93, 0xeb, 0xdc, 3, 0, 7, 0xac, 2];
    let read = Row::decode(key::event(Seq(99)), &before).unwrap();
    let change = Change::Freed { ino: ino(300) };
    let nodes = Vec::new();
    let expected = Event { seq: Seq(99), at: time(1), session: None, change, nodes, continues: false };
    assert_eq!(read, Row::Event(expected));
}

fn settings() -> SettingsRow {
    SettingsRow {
        class: Class::replicated(3).unwrap(),
        policies: 7,
        classes: BTreeMap::from([(ino(300), Class::coded(8, 3).unwrap())]),
        applied: BTreeSet::from([ino(300)]),
        targets: BTreeMap::from([(ino(301), 999_990_000)]),
        compressions: BTreeMap::from([(ino(300), Compression::Lz4), (ino(302), Compression::Zstd)]),
        recompressed: BTreeSet::from([ino(302)]),
    }
}

#[test]
fn settings_of_a_volume_from_before_there_was_compression_are_read() {
    let before = [1, 3, 7, 1, 0xac, 2, 0x62, 1, 0xac, 2, 1, 0xad, 2, 0xf0, 0xc5, 0xea, 0xdc, 3];
    let read = Row::decode(key::SETTINGS, &before).unwrap();
    let expected = SettingsRow { compressions: BTreeMap::new(), recompressed: BTreeSet::new(), ..settings() };
    assert_eq!(read, Row::Settings(expected));
}

fn class() -> ClassMap {
    let members = vec![Holder { server: ServerId(2), full: true, since: Epoch(300) }];
    let extras = vec![Extra { server: ServerId(3), place: 1, until: Epoch(0) }];
    let placements = vec![Placement { members, extras, changed: Epoch(301) }, Placement::default()];
    ClassMap { class: Class::coded(4, 2).unwrap(), placements }
}

fn member() -> MemberRow {
    MemberRow {
        labels: Labels { zone: "z".to_owned(), host: "h".to_owned(), disk: "d".to_owned() },
        named: true,
        weight: Some(7),
        standing: Standing::Draining,
        up: false,
        joined_ms: 1 << 40,
        changed_ms: (1 << 40) + 1,
        down_ms: 5,
        downs: 6,
    }
}

/// A golden line: `NAME KEY ROW`, the key as table, partition and sort.
fn kept() -> BTreeMap<String, (String, Vec<u8>)> {
    let text = std::fs::read_to_string(FILE).unwrap();
    let line = |line: &str| {
        let [name, key, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        (name.to_owned(), (key.to_owned(), bytes))
    };
    text.lines().map(line).collect()
}

fn key_text(key: RowKey) -> String {
    format!("{}:{:x}:{:x}", key.table as u8, key.partition, key.sort)
}

#[test]
fn every_row_has_the_key_and_the_bytes_of_version_1() {
    if std::env::var_os("DGFS_BLESS").is_some() {
        let mut out = String::new();
        for (name, key, row) in rows() {
            let hex = row.encode().iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            writeln!(out, "{name} {} {hex}", key_text(key)).unwrap();
        }
        std::fs::write(FILE, out).unwrap();
    }
    let kept = kept();
    for (name, key, row) in rows() {
        let (at, bytes) = &kept[name];
        assert!(
            Row::decode(key, bytes).as_ref() == Ok(&row),
            "old bytes of {name} are read as something else: {REMEDY}"
        );
        assert!(row.encode() == *bytes, "{name} is written differently: {REMEDY}");
        assert!(key_text(key) == *at, "{name} lies elsewhere: {REMEDY}");
    }
    assert_eq!(kept.len(), rows().len());
    // A table that is new needs a row above: the last number is that of what the cluster tells of itself.
    assert_eq!(Table::Watch as u8, 17);
}

#[test]
fn a_row_of_a_newer_format_is_refused_as_such() {
    for (name, key, row) in rows().into_iter().filter(|(name, _, _)| *name != "orphan") {
        let mut bytes = row.encode();
        bytes[0] += 1;
        assert!(matches!(Row::decode(key, &bytes), Err(RowError::Newer { .. })), "{name}");
    }
}

#[test]
fn damaged_rows_are_refused_or_read_without_a_panic() {
    let given = std::env::var("DGFS_TEST_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let mut state =
        given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64) | 1;
    println!("DGFS_TEST_SEED={state}");
    let mut below = |bound: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as usize % bound
    };
    let seconds = std::env::var("DGFS_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
    let until = Instant::now() + Duration::from_secs(seconds);
    let golden: Vec<_> = rows().into_iter().map(|(_, key, row)| (key, row.encode())).collect();
    let mut read = 0_u64;
    while Instant::now() < until {
        for _ in 0..100 {
            let mut bytes = golden[below(golden.len())].1.clone();
            for _ in 0..below(4) {
                let at = below(bytes.len());
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)];
            }
            if below(6) == 0 {
                let at = below(bytes.len());
                bytes.splice(at..at, [0xff; 9]);
            }
            bytes.truncate(1 + below(bytes.len() * 2));
            // Also as a row of a table it is not of.
            if let Ok(row) = Row::decode(golden[below(golden.len())].0, &bytes) {
                read += 1;
                assert!(row.weight() < 64 << 20 && !row.encode().is_empty());
            }
        }
    }
    assert!(read > 0);
}
