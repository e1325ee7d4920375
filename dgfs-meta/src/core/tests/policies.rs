//! Policies of directories: inherited, checked, followed by commits, and moves of old data.

use super::{
    Bench, ChunkId, ChunkRef, ChunkVersion, Commit, Ino, MetaReply, Mutation, NewContent, NewNode, Query, RemoveKind,
    RenameMode, Row, SlotEdit, Status, Timestamp, VersionId, XattrMode,
};
use dgfs_proto::class::Class;
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::Uuid;
use dgfs_proto::map::Labels;
use dgfs_proto::meta::{LiveQuery, ServerRequest};

const BIG: usize = 64 << 20;

fn class(text: &str) -> Class {
    text.parse().unwrap()
}

/// A core with five storage servers.
fn bench() -> Bench {
    let mut bench = Bench::new(BIG);
    for identity in 1..=5 {
        let join = ServerRequest::Join {
            identity: Uuid([identity; 16]),
            id: None,
            address: String::new(),
            label: String::new(),
            labels: Labels { host: format!("h{identity}"), ..Labels::default() },
            disk: 0,
            capacity_bytes: 1 << 40,
            used_bytes: 0,
            free_bytes: 1 << 40,
        };
        let reply = ask(&mut bench, &join);
        assert!(matches!(reply, MetaReply::Joined { .. }), "{reply:?}");
    }
    bench
}

fn ask(bench: &mut Bench, request: &ServerRequest) -> MetaReply {
    let now = Timestamp::from_ms(bench.now_ms);
    bench.settle(|core, _| core.server_request(now, request, u64::MAX))
}

fn set(bench: &mut Bench, ino: Ino, name: &str, value: &str) -> Result<(), Status> {
    let (name, value) = (format!("dgfs.policy.{name}").into_bytes(), value.as_bytes().to_vec());
    bench.mutate(&Mutation::SetXattr { ino, name, value, mode: XattrMode::Any, uid: 0 }).map(drop)
}

fn unset(bench: &mut Bench, ino: Ino, name: &str) -> Result<(), Status> {
    bench.mutate(&Mutation::RemoveXattr { ino, name: format!("dgfs.policy.{name}").into_bytes() }).map(drop)
}

fn followed(bench: &mut Bench, ino: Ino) -> String {
    match bench.query(&Query::Policy(ino)) {
        Ok(MetaReply::Policy { class, compression: Compression::None }) => class.to_string(),
        Ok(MetaReply::Policy { class, compression }) => format!("{class} {compression}"),
        other => panic!("a policy answered {other:?}"),
    }
}

fn directory(bench: &mut Bench, parent: Ino, name: &str) -> Ino {
    bench.make(parent, name, NewNode::Directory).unwrap().ino
}

/// A file with one chunk of a class, written by a mount that has heard of `policies`.
fn write(bench: &mut Bench, ino: Ino, new: ChunkRef, base: Option<ChunkRef>, policies: u64) -> Result<(), Status> {
    let attr = bench.attr(ino).unwrap();
    let inline_base = base.is_none().then_some(attr.data_version);
    let content = NewContent::Slots { inline_base, edits: vec![SlotEdit { index: 0, base, new: Some(new) }] };
    let mtime = Timestamp::from_ms(bench.now_ms);
    let commit = Commit { ino, content, size_at_least: 100_000, size_expected: None, mtime, policies };
    bench.mutate(&Mutation::Commit(commit)).map(drop)
}

fn chunk(of: &str, number: u64) -> ChunkRef {
    let chunk = ChunkId::of(class(of), number).unwrap();
    ChunkRef { chunk, version: ChunkVersion::new(number).unwrap(), len: 100_000, allocated: 100_000 }
}

fn name_of(held: ChunkRef) -> VersionId {
    VersionId { chunk: held.chunk, version: held.version }
}

#[test]
fn a_policy_holds_for_everything_below_that_has_none_of_its_own_wherever_it_is_moved() {
    let mut bench = bench();
    let (a, b) = (directory(&mut bench, Ino::ROOT, "a"), directory(&mut bench, Ino::ROOT, "b"));
    let below = directory(&mut bench, a, "below");
    let file = bench.make(below, "f", NewNode::File).unwrap().ino;
    assert_eq!(followed(&mut bench, file), "r1");
    set(&mut bench, a, "redundancy", "r3").unwrap();
    set(&mut bench, b, "redundancy", "ec:2+1").unwrap();
    assert_eq!(followed(&mut bench, file), "r3");
    set(&mut bench, below, "redundancy", "r2").unwrap();
    assert_eq!(followed(&mut bench, file), "r2");
    bench.rename((below, "f"), (b, "g"), RenameMode::Replace).unwrap();
    assert_eq!(followed(&mut bench, file), "ec:2+1");
    unset(&mut bench, b, "redundancy").unwrap();
    assert_eq!(followed(&mut bench, file), "r1");
    bench.remove(a, "below", RemoveKind::Rmdir).unwrap();
    assert_eq!(bench.core.settings.classes.len(), 1, "what is gone has no policy");
    let again = bench.rows.values().find_map(|bytes| match Row::decode(crate::rows::key::SETTINGS, bytes) {
        Ok(Row::Settings(row)) if !row.classes.is_empty() => Some(row),
        _ => None,
    });
    assert_eq!(again.unwrap().classes.get(&a), Some(&class("r3")), "a writer that takes over knows it");
}

#[test]
fn a_policy_that_makes_no_sense_or_cannot_be_followed_is_refused_and_changes_nothing() {
    let mut bench = bench();
    let a = directory(&mut bench, Ino::ROOT, "a");
    for (name, value, refusal) in [
        ("redundancy", "r9", Status::Invalid),
        ("redundancy", "", Status::Invalid),
        ("redundancy", "ec:4+2", Status::Range),
        ("availability", "100", Status::Invalid),
        ("availability", "nines", Status::Invalid),
        ("availability", "99.9999999999", Status::Invalid),
        ("apply", "1", Status::Invalid),
        ("colour", "blue", Status::NotSupported),
    ] {
        let answer = set(&mut bench, a, name, value);
        // A target that rounds to all of the time is one that nobody reaches.
        let all = (name, value) == ("availability", "99.9999999999");
        assert_eq!(answer, Err(if all { Status::Range } else { refusal }), "{name} {value}");
    }
    assert_eq!(followed(&mut bench, a), "r1");
    assert_eq!(bench.core.settings.policies, 0);
    set(&mut bench, a, "availability", "99.99").unwrap();
    assert_eq!(followed(&mut bench, a), "ec:3+2", "the cheapest of five servers without a record");
}

#[test]
fn what_was_stored_by_a_policy_of_before_is_refused_until_it_is_stored_again() {
    let mut bench = bench();
    let a = directory(&mut bench, Ino::ROOT, "a");
    let file = bench.make(a, "f", NewNode::File).unwrap().ino;
    set(&mut bench, a, "redundancy", "r3").unwrap();
    let policies = bench.core.settings.policies;
    assert_eq!(write(&mut bench, file, chunk("r1", 5), None, 0), Err(Status::OldMap), "it had not heard of it");
    assert_eq!(write(&mut bench, file, chunk("r1", 5), None, policies), Err(Status::OldMap), "another class");
    write(&mut bench, file, chunk("r3", 6), None, policies).unwrap();
    // A patch of a chunk that is there needs no policy.
    let patched = ChunkRef { version: ChunkVersion::new(7).unwrap(), ..chunk("r3", 6) };
    write(&mut bench, file, patched, Some(chunk("r3", 6)), 0).unwrap();
}

#[test]
fn old_data_move_where_that_is_applied_and_copies_that_wait_to_be_coded_in_any_case() {
    let mut bench = bench();
    let a = directory(&mut bench, Ino::ROOT, "a");
    let file = bench.make(a, "f", NewNode::File).unwrap().ino;
    let old = chunk("r1", 5);
    write(&mut bench, file, old, None, 0).unwrap();
    let wanted = |bench: &mut Bench, held: ChunkRef| {
        let question = LiveQuery { id: name_of(held), owner: file, index: 0 };
        match ask(bench, &ServerRequest::CheckMoves(vec![question])) {
            MetaReply::Moves(classes) => classes[0].map(|class| class.to_string()),
            other => panic!("moves answered {other:?}"),
        }
    };
    set(&mut bench, a, "redundancy", "ec:2+1").unwrap();
    assert_eq!(wanted(&mut bench, old), None, "old data stay");
    set(&mut bench, a, "apply", "1").unwrap();
    assert_eq!(wanted(&mut bench, old).as_deref(), Some("ec:2+1"));
    assert_eq!(wanted(&mut bench, chunk("r1", 99)), None, "not what the file holds");

    let before = bench.attr(file).unwrap();
    let new = chunk("ec:2+1", 8);
    let order = |from: ChunkRef| ServerRequest::Move {
        owner: file,
        index: 0,
        from: name_of(from),
        to: name_of(new),
        allocated: 100_000,
    };
    assert_eq!(ask(&mut bench, &order(chunk("r1", 99))), MetaReply::Refused(Status::Conflict));
    assert_eq!(ask(&mut bench, &order(old)), MetaReply::Done);
    assert_eq!(bench.attr(file).unwrap(), before, "the same bytes: nothing shows");
    assert_eq!(bench.garbage(), [name_of(old)]);
    assert_eq!(wanted(&mut bench, new), None);
    assert_eq!(ask(&mut bench, &order(old)), MetaReply::Refused(Status::Conflict), "once only");

    // Written in pieces, it waits as two copies.
    unset(&mut bench, a, "apply").unwrap();
    let policies = bench.core.settings.policies;
    write(&mut bench, file, chunk("r2", 9), Some(new), policies).unwrap();
    assert_eq!(wanted(&mut bench, chunk("r2", 9)).as_deref(), Some("ec:2+1"));
}

#[test]
fn the_compression_is_inherited_beside_the_class_and_old_data_follow_where_that_is_applied() {
    let mut bench = bench();
    let a = directory(&mut bench, Ino::ROOT, "a");
    let b = directory(&mut bench, a, "b");
    let file = bench.make(b, "f", NewNode::File).unwrap().ino;
    let held = chunk("r1", 5);
    write(&mut bench, file, held, None, 0).unwrap();
    let wanted = |bench: &mut Bench, held: ChunkRef| {
        let question = LiveQuery { id: name_of(held), owner: file, index: 0 };
        match ask(bench, &ServerRequest::CheckCompression(vec![question])) {
            MetaReply::Compressions(answers) => answers[0],
            other => panic!("compressions answered {other:?}"),
        }
    };
    assert_eq!(set(&mut bench, a, "compression", "gzip"), Err(Status::Invalid));
    assert_eq!(set(&mut bench, a, "apply.compression", "1"), Err(Status::Invalid), "there is none to apply");
    set(&mut bench, a, "compression", "lz4").unwrap();
    set(&mut bench, b, "redundancy", "r3").unwrap();
    assert_eq!((followed(&mut bench, a), followed(&mut bench, file)), ("r1 lz4".to_owned(), "r3 lz4".to_owned()));
    assert_eq!(wanted(&mut bench, held), None, "old data stay");
    set(&mut bench, a, "apply.compression", "1").unwrap();
    assert_eq!(wanted(&mut bench, held), Some(Compression::Lz4));
    assert_eq!(wanted(&mut bench, chunk("r1", 99)), None, "not what the file holds");
    set(&mut bench, b, "compression", "none").unwrap();
    assert_eq!(
        (followed(&mut bench, file), wanted(&mut bench, held)),
        ("r3".to_owned(), None),
        "the nearest one holds"
    );
    unset(&mut bench, b, "compression").unwrap();
    assert_eq!(wanted(&mut bench, held), Some(Compression::Lz4));
    unset(&mut bench, a, "apply.compression").unwrap();
    unset(&mut bench, a, "compression").unwrap();
    assert_eq!((followed(&mut bench, file), wanted(&mut bench, held)), ("r3".to_owned(), None));

    set(&mut bench, b, "compression", "zstd").unwrap();
    set(&mut bench, b, "apply.compression", "1").unwrap();
    bench.remove(b, "f", RemoveKind::Unlink).unwrap();
    bench.remove(a, "b", RemoveKind::Rmdir).unwrap();
    let settings = &bench.core.settings;
    assert!(settings.compressions.is_empty() && settings.recompressed.is_empty(), "gone with the directory");
}
