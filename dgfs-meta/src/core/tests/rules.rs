//! Each rule by itself.

use super::{
    Bench, CHUNK, Caller, Change, ChunkVersion, Commit, Content, HeldLock, Ino, LockFamily, LockKind, LockSpec,
    MetaReply, Mutation, Name, NewContent, NewNode, Once, OpId, OpenMode, Query, RemoveKind, RenameMode, SessionId,
    SetAttr, SlotEdit, Status, Timestamp, TreeStat, VersionId, XattrMode, acl, lock, name,
};

pub(super) const BIG: usize = 64 << 20;

fn tree(files: u64, dirs: u64, bytes: u64) -> TreeStat {
    TreeStat { files, dirs, bytes }
}

#[test]
fn a_directory_never_moves_into_itself_or_below() {
    let mut bench = Bench::new(BIG);
    let a = bench.make(Ino::ROOT, "a", NewNode::Directory).unwrap().ino;
    let b = bench.make(a, "b", NewNode::Directory).unwrap().ino;
    let c = bench.make(b, "c", NewNode::Directory).unwrap().ino;
    for target in [a, b, c] {
        let refused = bench.rename((Ino::ROOT, "a"), (target, "x"), RenameMode::Replace);
        assert_eq!(refused, Err(Status::Invalid), "into {target}");
    }
    let refused = bench.rename((b, "c"), (Ino::ROOT, "a"), RenameMode::Exchange);
    assert_eq!(refused, Err(Status::Invalid), "exchange with an ancestor");
    assert_eq!(bench.tree(Ino::ROOT), tree(0, 3, 0));
}

#[test]
fn memory_stays_within_its_bound_while_a_large_directory_is_filled_and_read() {
    const ROWS_MAX: u64 = 1000;
    // A row weighs at least 160 bytes.
    let mut bench = Bench::new(160 * ROWS_MAX as usize);
    for at in 0..3000 {
        bench.make(Ino::ROOT, &format!("f{at}"), NewNode::File).unwrap();
        assert!(bench.core.rows_cached() <= ROWS_MAX, "{} rows after {at} files", bench.core.rows_cached());
    }
    let mut cookie = 0;
    let mut seen = 0;
    // Nothing but reading: no commit comes to the rescue.
    while let Ok(MetaReply::Entries { entries, end: false }) =
        bench.query(&Query::ReadDir { ino: Ino::ROOT, cookie, limit: 100 })
    {
        cookie = entries.last().unwrap().cookie;
        seen += entries.len();
        assert!(bench.core.rows_cached() <= ROWS_MAX + 300, "{} rows", bench.core.rows_cached());
    }
    assert!(seen > 2800, "{seen}");
}

#[test]
fn rename_replaces_only_what_posix_allows() {
    let cases = [
        ("file", "file2", Ok(())),
        ("file", "empty", Err(Status::IsDirectory)),
        ("empty", "file", Err(Status::NotDirectory)),
        ("empty", "full", Err(Status::NotEmpty)),
        ("full", "empty", Ok(())),
        ("missing", "file", Err(Status::NotFound)),
        ("file", "file", Ok(())),
    ];
    for (from, to, expected) in cases {
        let mut bench = Bench::new(BIG);
        for file in ["file", "file2"] {
            bench.make(Ino::ROOT, file, NewNode::File).unwrap();
        }
        bench.make(Ino::ROOT, "empty", NewNode::Directory).unwrap();
        let full = bench.make(Ino::ROOT, "full", NewNode::Directory).unwrap().ino;
        bench.make(full, "inside", NewNode::File).unwrap();
        let got = bench.rename((Ino::ROOT, from), (Ino::ROOT, to), RenameMode::Replace);
        assert_eq!(got, expected, "rename {from} to {to}");
    }
}

#[test]
fn rename_noreplace_and_exchange_keep_both_names() {
    let mut bench = Bench::new(BIG);
    let dir = bench.make(Ino::ROOT, "dir", NewNode::Directory).unwrap().ino;
    let file = bench.make(dir, "file", NewNode::File).unwrap().ino;
    let other = bench.make(Ino::ROOT, "other", NewNode::Directory).unwrap().ino;
    bench.make(other, "deep", NewNode::File).unwrap();
    let refused = bench.rename((dir, "file"), (Ino::ROOT, "other"), RenameMode::NoReplace);
    assert_eq!(refused, Err(Status::Exists));
    bench.rename((dir, "file"), (Ino::ROOT, "other"), RenameMode::Exchange).unwrap();
    assert_eq!(bench.list(dir, 10), vec![("file".to_owned(), other)]);
    assert_eq!(bench.attr(file).unwrap().parent, Ino::ROOT);
    assert_eq!(bench.attr(dir).unwrap().nlink, 3);
    assert_eq!(bench.attr(Ino::ROOT).unwrap().nlink, 3);
    assert_eq!(bench.tree(dir), tree(1, 1, 0));
    assert_eq!(bench.tree(Ino::ROOT), tree(2, 2, 0));
}

#[test]
fn an_unlinked_open_file_lives_until_its_last_close() {
    let mut bench = Bench::new(BIG);
    let ino = bench.make(Ino::ROOT, "f", NewNode::File).unwrap().ino;
    bench.must(&Mutation::Open { ino, mode: OpenMode::Write });
    bench.must(&Mutation::Open { ino, mode: OpenMode::Read });
    bench.remove(Ino::ROOT, "f", RemoveKind::Unlink).unwrap();
    assert_eq!(bench.attr(ino).unwrap().nlink, 0);
    let version = bench.write_chunk(ino, 0, 77).unwrap().version;
    bench.must(&Mutation::Release { opens: vec![(ino, 1)] });
    assert!(bench.attr(ino).is_ok());
    bench.must(&Mutation::Release { opens: vec![(ino, 1)] });
    assert_eq!(bench.attr(ino), Err(Status::Stale));
    assert_eq!(bench.garbage().iter().map(|id| id.version).collect::<Vec<_>>(), vec![version]);
}

#[test]
fn opens_that_a_client_took_by_itself_count_once_it_registers_them() {
    let mut bench = Bench::new(BIG);
    let ino = bench.make(Ino::ROOT, "f", NewNode::File).unwrap().ino;
    let gone = bench.make(Ino::ROOT, "gone", NewNode::File).unwrap().ino;
    bench.remove(Ino::ROOT, "gone", RemoveKind::Unlink).unwrap();
    bench.must(&Mutation::Register { opens: vec![(ino, 2), (gone, 1)] });
    bench.remove(Ino::ROOT, "f", RemoveKind::Unlink).unwrap();
    bench.must(&Mutation::Release { opens: vec![(ino, 1)] });
    assert_eq!(bench.attr(ino).unwrap().nlink, 0);
    bench.must(&Mutation::Release { opens: vec![(ino, 1)] });
    assert_eq!(bench.attr(ino), Err(Status::Stale));
}

#[test]
fn a_change_of_names_answers_the_attributes_it_left() {
    let mut bench = Bench::new(BIG);
    let (one, two) = (bench.make(Ino::ROOT, "1", NewNode::Directory).unwrap().ino, {
        bench.make(Ino::ROOT, "2", NewNode::Directory).unwrap().ino
    });
    let moved = bench.make(one, "f", NewNode::File).unwrap().ino;
    let replaced = bench.make(two, "g", NewNode::File).unwrap().ino;
    bench.must(&Mutation::Link { ino: replaced, parent: one, name: name("kept") });
    let MetaReply::Named(named) = bench.rename_named((one, "f"), (two, "g"), RenameMode::Replace) else {
        panic!("no names in the answer");
    };
    assert_eq!((named.ino, named.lost), (moved, Some((replaced, 1))));
    let asked: Vec<_> = [moved, one, two, replaced].into_iter().map(|ino| bench.attr(ino).unwrap()).collect();
    assert_eq!(named.attrs, asked);
    // Two names of one inode: nothing moves (POSIX rename).
    bench.must(&Mutation::Link { ino: moved, parent: one, name: name("same") });
    assert_eq!(bench.rename_named((one, "same"), (two, "g"), RenameMode::Replace), MetaReply::Done);
}

#[test]
fn orphans_of_a_dead_session_are_removed() {
    let mut bench = Bench::new(BIG);
    let other = bench.open_session();
    let ino = bench.make(Ino::ROOT, "f", NewNode::File).unwrap().ino;
    let opened = bench.mutate_as(other, &Mutation::Open { ino, mode: OpenMode::Write });
    assert!(matches!(opened, MetaReply::Opened { .. }), "{opened:?}");
    bench.remove(Ino::ROOT, "f", RemoveKind::Unlink).unwrap();
    let time = Timestamp::from_ms(5000);
    let _: MetaReply = bench.settle(|core, _| core.end_session(time, other));
    bench.reap_all(time);
    assert_eq!(bench.attr(ino), Err(Status::Stale));
    let fenced = bench.mutate_as(other, &Mutation::Open { ino: Ino::ROOT, mode: OpenMode::Read });
    assert_eq!(fenced, MetaReply::Refused(Status::Stale));
}

#[test]
fn a_repeated_operation_gets_its_first_answer() {
    let mut bench = Bench::new(BIG);
    let make = Mutation::Make {
        parent: Ino::ROOT,
        name: name("once"),
        node: NewNode::File,
        mode: 0o644,
        umask: 0,
        caller: Caller::default(),
        open: false,
        ino: None,
    };
    let session = bench.session;
    let time = Timestamp::from_ms(10);
    let mut send = |op, acked| {
        let once =
            Once { session, op: OpId(op), acked: OpId(acked), mutation: &make, keep_answer: true, kept_back: false };
        bench.settle(|core, attempt| core.mutate(time, &once, attempt))
    };
    let first = send(9, 0);
    assert!(matches!(first, MetaReply::Named(_)));
    assert_eq!(send(9, 0), first);
    assert_eq!(send(10, 9), MetaReply::Refused(Status::Exists));
    assert_eq!(send(9, 9), MetaReply::Refused(Status::Malformed), "forgotten after it was acknowledged");
}

#[test]
fn opening_an_empty_file_to_truncate_it_touches_it() {
    let mut bench = Bench::new(BIG);
    let made = bench.make(Ino::ROOT, "f", NewNode::File).unwrap();
    bench.must(&Mutation::Open { ino: made.ino, mode: OpenMode::Truncate });
    let touched = bench.attr(made.ino).unwrap();
    assert!(touched.mtime > made.mtime && touched.ctime > made.ctime);
    bench.must(&Mutation::Open { ino: made.ino, mode: OpenMode::Write });
    assert_eq!(bench.attr(made.ino).unwrap(), touched);
}

/// `git add` remembers ctime after close; a commit that moved it later made every file look changed.
#[test]
fn a_change_happens_when_it_is_written_not_when_it_is_sent() {
    let mut bench = Bench::new(BIG);
    let ino = bench.make(Ino::ROOT, "f", NewNode::File).unwrap().ino;
    bench.write_chunk(ino, 0, 5).unwrap();
    let written = bench.attr(ino).unwrap().mtime;
    assert_eq!(bench.attr(ino).unwrap().ctime, written);
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    bench.must(&Mutation::SetAttr { ino, set });
    let changed = bench.attr(ino).unwrap().ctime;
    let edit = SlotEdit { index: 1, base: None, new: None };
    let content = NewContent::Slots { inline_base: None, edits: vec![edit] };
    let commit = Commit { ino, content, size_at_least: CHUNK + 1, size_expected: None, mtime: written, policies: 0 };
    bench.must(&Mutation::Commit(commit));
    assert!(changed > written);
    assert_eq!(bench.attr(ino).unwrap().ctime, changed);
}

#[test]
fn a_commit_on_an_old_base_is_a_conflict() {
    let mut bench = Bench::new(BIG);
    let ino = bench.make(Ino::ROOT, "f", NewNode::File).unwrap().ino;
    let first = bench.write_chunk(ino, 0, 5).unwrap();
    bench.write_chunk(ino, 0, 6).unwrap();
    let commit = Commit {
        ino,
        content: NewContent::Slots {
            inline_base: None,
            edits: vec![SlotEdit { index: 0, base: Some(first), new: Some(first) }],
        },
        size_at_least: 1,
        policies: 0,
        size_expected: None,
        mtime: Timestamp::from_ms(1),
    };
    assert_eq!(bench.mutate(&Mutation::Commit(commit.clone())), Err(Status::Conflict));
    let append = Commit { size_expected: Some(1), ..commit };
    assert_eq!(bench.mutate(&Mutation::Commit(append)), Err(Status::Conflict));
}

#[test]
fn a_truncate_cuts_references_and_a_copy_keeps_the_version_alive() {
    let mut bench = Bench::new(BIG);
    let ino = bench.make(Ino::ROOT, "f", NewNode::File).unwrap().ino;
    let copy = bench.make(Ino::ROOT, "copy", NewNode::File).unwrap().ino;
    for index in 0..3 {
        bench.write_chunk(ino, index, 10 + index).unwrap();
    }
    let share =
        Mutation::CopyChunks { from: ino, from_index: 0, to: copy, to_index: 0, count: 2, size_at_least: 2 * CHUNK };
    bench.must(&share);
    let cut = SetAttr { size: Some(CHUNK + 40), ..SetAttr::default() };
    bench.must(&Mutation::SetAttr { ino, set: cut });
    let Ok(MetaReply::Opened { attr, content: Content::Slots { slots, .. } }) =
        bench.query(&Query::Content { ino, first: 0, count: 10 })
    else {
        panic!("no content")
    };
    assert_eq!((attr.size, attr.allocated), (CHUNK + 40, 200));
    assert_eq!(slots.iter().map(|slot| slot.map(|slot| slot.len)).collect::<Vec<_>>(), vec![Some(100), Some(40)]);
    bench.remove(Ino::ROOT, "f", RemoveKind::Unlink).unwrap();
    let garbage: Vec<ChunkVersion> = bench.garbage().iter().map(|id| id.version).collect();
    assert_eq!(garbage, vec![ChunkVersion::new(12).unwrap()], "shared versions stay");
    bench.remove(Ino::ROOT, "copy", RemoveKind::Unlink).unwrap();
    assert_eq!(bench.garbage().len(), 3);
    assert_eq!(bench.core.counters.allocated, 0);
}

#[test]
fn a_huge_sparse_file_is_cut_in_steps() {
    let mut bench = Bench::new(BIG);
    let ino = bench.make(Ino::ROOT, "f", NewNode::File).unwrap().ino;
    let last = (200u64 << 30) / CHUNK;
    for index in [0, 1000, last] {
        bench.write_chunk(ino, index, 50 + index).unwrap();
    }
    bench.must(&Mutation::SetAttr { ino, set: SetAttr { size: Some(50), ..SetAttr::default() } });
    assert_eq!(bench.attr(ino).unwrap().size, 50);
    assert_eq!(bench.garbage().len(), 2);
    assert_eq!(bench.tree(Ino::ROOT), tree(1, 0, 50));
    bench.write_chunk(ino, last, 7).unwrap();
    let next = bench.query(&Query::NextChunk { ino, first: 1 });
    assert!(matches!(next, Ok(MetaReply::NextChunk(Some((index, _)))) if index == last), "{next:?}");
    bench.remove(Ino::ROOT, "f", RemoveKind::Unlink).unwrap();
    bench.reap_all(Timestamp::from_ms(9000));
    assert_eq!(bench.attr(ino), Err(Status::Stale));
    assert_eq!(bench.garbage().len(), 4);
}

#[test]
fn hard_links_count_once_and_follow_their_first_name() {
    let mut bench = Bench::new(BIG);
    let a = bench.make(Ino::ROOT, "a", NewNode::Directory).unwrap().ino;
    let b = bench.make(Ino::ROOT, "b", NewNode::Directory).unwrap().ino;
    let ino = bench.make(a, "f", NewNode::File).unwrap().ino;
    bench.write_chunk(ino, 0, 3).unwrap();
    bench.must(&Mutation::Link { ino, parent: b, name: name("g") });
    assert_eq!((bench.tree(a), bench.tree(b)), (tree(1, 0, 100), tree(0, 0, 0)));
    bench.remove(a, "f", RemoveKind::Unlink).unwrap();
    assert_eq!((bench.tree(a), bench.tree(b)), (tree(0, 0, 0), tree(1, 0, 100)));
    assert_eq!(bench.tree(Ino::ROOT), tree(1, 2, 100));
    let path = bench.query(&Query::PathOf(ino)).unwrap();
    assert_eq!(path, MetaReply::Path(vec![name("b"), name("g")]));
}

#[test]
fn a_setgid_directory_hands_its_group_down() {
    let mut bench = Bench::new(BIG);
    let dir = bench.make(Ino::ROOT, "d", NewNode::Directory).unwrap().ino;
    let set = SetAttr { mode: Some(0o2775), gid: Some(99), ..SetAttr::default() };
    bench.must(&Mutation::SetAttr { ino: dir, set });
    let sub = bench.make(dir, "sub", NewNode::Directory).unwrap();
    let file = bench.make(dir, "file", NewNode::File).unwrap();
    assert_eq!((sub.gid, sub.mode & 0o2000), (99, 0o2000));
    assert_eq!((file.gid, file.mode & 0o2000), (99, 0));
}

fn acl_bytes(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn a_default_acl_takes_the_umasks_place_and_chmod_moves_the_mask() {
    let mut bench = Bench::new(BIG);
    let dir = bench.make(Ino::ROOT, "d", NewNode::Directory).unwrap().ino;
    let default = acl_bytes(&[(1, 7, 0), (2, 6, 5), (4, 5, 0), (16, 7, 0), (32, 0, 0)]);
    let set =
        Mutation::SetXattr { ino: dir, name: acl::DEFAULT.to_vec(), value: default, mode: XattrMode::Any, uid: 0 };
    bench.must(&set);
    let file = bench.make(dir, "f", NewNode::File).unwrap();
    assert_eq!(file.mode, 0o660, "the default ACL, limited by 0666; no umask");
    let chmod = SetAttr { mode: Some(0o640), ..SetAttr::default() };
    bench.must(&Mutation::SetAttr { ino: file.ino, set: chmod });
    let access = bench.query(&Query::GetXattr { ino: file.ino, name: acl::ACCESS.to_vec() }).unwrap();
    let no_id = u32::MAX;
    let expected = acl_bytes(&[(1, 6, no_id), (2, 6, 5), (4, 5, no_id), (16, 4, no_id), (32, 0, no_id)]);
    assert_eq!(access, MetaReply::Bytes(expected));
}

#[test]
fn xattr_modes_and_bounds_are_refused_by_their_status() {
    let mut bench = Bench::new(BIG);
    let ino = bench.make(Ino::ROOT, "f", NewNode::File).unwrap().ino;
    let mut set = |name: &[u8], bytes: usize, mode| {
        bench.mutate(&Mutation::SetXattr { ino, name: name.to_vec(), value: vec![1; bytes], mode, uid: 0 }).map(drop)
    };
    assert_eq!(set(b"user.a", 10, XattrMode::Replace), Err(Status::NoXattr));
    assert_eq!(set(b"user.a", 10, XattrMode::Create), Ok(()));
    assert_eq!(set(b"user.a", 10, XattrMode::Create), Err(Status::Exists));
    assert_eq!(set(b"user.a", 65_537, XattrMode::Any), Err(Status::XattrTooBig));
    assert_eq!(set(b"other.a", 1, XattrMode::Any), Err(Status::NotSupported));
    for at in 0..3 {
        assert_eq!(set(format!("user.{at}").as_bytes(), 65_536, XattrMode::Any), Ok(()));
    }
    assert_eq!(set(b"user.last", 65_536, XattrMode::Any), Err(Status::NoSpace));
    let asked = |name: &[u8]| Query::GetXattr { ino, name: name.to_vec() };
    assert_eq!(bench.query(&asked(b"other.a")), Err(Status::NotSupported));
    assert_eq!(bench.query(&asked(b"user.none")), Err(Status::NoXattr));
}

fn held(owner: u64, kind: LockKind, start: u64, end: u64) -> HeldLock {
    let session = SessionId::new(1).unwrap();
    HeldLock { session, lock: LockSpec { family: LockFamily::Posix, owner, kind, start, end, pid: 1 } }
}

#[test]
fn lock_ranges_split_merge_and_convert() {
    use LockKind::{Read, Unlock, Write};
    let session = SessionId::new(1).unwrap();
    let split = vec![held(1, Read, 0, 49), held(1, Read, 60, 99), held(1, Write, 50, 59)];
    let cases = [
        (vec![held(1, Write, 0, 99)], (Unlock, 10, 19), vec![held(1, Write, 0, 9), held(1, Write, 20, 99)]),
        (vec![held(1, Read, 0, 9)], (Read, 10, 19), vec![held(1, Read, 0, 19)]),
        (vec![held(1, Read, 0, 99)], (Write, 50, 59), split),
        (vec![held(2, Read, 0, 9)], (Read, 0, 9), vec![held(2, Read, 0, 9), held(1, Read, 0, 9)]),
        (vec![held(1, Write, 5, u64::MAX)], (Unlock, 0, u64::MAX), vec![]),
    ];
    for (before, (kind, start, end), after) in cases {
        let wanted = held(1, kind, start, end).lock;
        assert_eq!(lock::replaced(&before, session, &wanted), after, "{wanted:?}");
    }
    assert!(lock::blocker(&[held(2, Write, 0, 9)], session, &held(1, Read, 9, 20).lock).is_some());
    assert!(lock::blocker(&[held(2, Read, 0, 9)], session, &held(1, Read, 9, 20).lock).is_none());
}

#[test]
fn each_change_has_its_event_in_order() {
    let mut bench = Bench::new(BIG);
    let ino = bench.make(Ino::ROOT, "f", NewNode::File).unwrap().ino;
    bench.rename((Ino::ROOT, "f"), (Ino::ROOT, "g"), RenameMode::Replace).unwrap();
    bench.remove(Ino::ROOT, "g", RemoveKind::Unlink).unwrap();
    let changes: Vec<Change> = bench.events().into_iter().map(|event| event.change).collect();
    assert!(
        matches!(
            changes.as_slice(),
            [
                Change::Made { .. },
                Change::Renamed { .. },
                Change::Freed { ino: freed },
                Change::Unlinked { last: true, .. }
            ] if *freed == ino
        ),
        "{changes:?}"
    );
}

#[test]
fn a_directory_is_listed_once_while_it_changes() {
    let mut bench = Bench::new(200_000);
    let dir = bench.make(Ino::ROOT, "d", NewNode::Directory).unwrap().ino;
    let mut stays: Vec<String> = (0..400).map(|at| format!("stays-{at}")).collect();
    for text in &stays {
        bench.make(dir, text, NewNode::File).unwrap();
    }
    let mut cookie = 0;
    let mut seen = Vec::new();
    for round in 0.. {
        bench.make(dir, &format!("new-{round}"), NewNode::File).unwrap();
        if round > 3 {
            bench.remove(dir, &format!("new-{}", round - 3), RemoveKind::Unlink).unwrap();
        }
        let Ok(MetaReply::Entries { entries, end }) = bench.query(&Query::ReadDir { ino: dir, cookie, limit: 7 })
        else {
            panic!("readdir failed")
        };
        seen.extend(entries.iter().map(|entry| entry.name.to_string()).filter(|text| text.starts_with("stays")));
        match entries.last() {
            Some(last) if !end => cookie = last.cookie,
            _ => break,
        }
    }
    seen.sort();
    stays.sort();
    assert_eq!(seen, stays);
}

#[test]
fn lost_writes_are_taken_back_newest_first() {
    let mut bench = Bench::new(BIG);
    let ino = bench.make(Ino::ROOT, "f", NewNode::File).unwrap().ino;
    let kept = bench.write_chunk(ino, 0, 5).unwrap();
    let lost = bench.write_chunk(ino, 0, 6).unwrap();
    bench.write_chunk(ino, 3, 7).unwrap();
    let lost = [VersionId { chunk: lost.chunk, version: lost.version }].into_iter().collect();
    let undo = crate::core::changes_to_undo(&bench.events(), &lost);
    assert_eq!(undo.len(), 2, "the lost one and everything after it");
    let time = Timestamp::from_ms(1);
    for (_, change) in undo {
        let _: MetaReply = bench.settle(|core, _| core.undo(time, &change));
    }
    let Ok(MetaReply::Opened { attr, content }) = bench.query(&Query::Content { ino, first: 0, count: 8 }) else {
        panic!("no content")
    };
    assert_eq!(attr.size, 100);
    assert_eq!(content, Content::Slots { first: 0, slots: vec![Some(kept)] });
}

#[test]
fn a_second_session_starts_only_after_the_first_dropped_its_caches() {
    let mut bench = Bench::new(BIG);
    let first = bench.session;
    let second = bench.open_session();
    assert_eq!(bench.core.may_start(second), None);
    let notice = bench.core.notice(first, 0).unwrap();
    assert_eq!(bench.core.notice(first, notice.0), None);
    assert_eq!(bench.core.may_start(second), Some(false));
}

#[test]
fn names_too_long_or_bad_never_reach_a_row() {
    assert_eq!(Name::new(&[b'a'; 256]), Err(Status::NameTooLong));
    for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
        assert_eq!(Name::new(bad), Err(Status::Invalid));
    }
}
