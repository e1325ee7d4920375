//! Waits for locks: rings, and who goes first.

use dgfs_proto::ids::{Ino, OpId, SessionId};
use dgfs_proto::meta::{LockFamily, LockKind, LockSpec, MetaReply, Mutation, NewNode};
use dgfs_proto::status::Status;

use crate::core::Once;
use crate::core::tests::Bench;

const BIG: usize = 64 << 20;

const SPEC: LockSpec =
    LockSpec { family: LockFamily::Posix, owner: 1, kind: LockKind::Write, start: 0, end: 9, pid: 1 };

fn wait(ino: Ino, kind: LockKind) -> Mutation {
    Mutation::Lock { ino, lock: LockSpec { kind, ..SPEC }, wait: true }
}

/// The request begins to wait; false when that is a deadlock.
fn begins(bench: &mut Bench, session: SessionId, op: u64, mutation: &Mutation) -> bool {
    assert_eq!(bench.mutate_as(session, mutation), MetaReply::Refused(Status::WouldBlock));
    !bench.core.would_deadlock(&Once {
        session,
        op: OpId(op),
        acked: OpId(0),
        mutation,
        keep_answer: false,
        kept_back: false,
    })
}

#[test]
fn a_ring_of_lock_waits_is_a_deadlock() {
    let mut bench = Bench::new(BIG);
    let (one, other) = (bench.session, bench.open_session());
    let [a, b] = ["a", "b"].map(|text| bench.make(Ino::ROOT, text, NewNode::File).unwrap().ino);
    assert_eq!(bench.mutate_as(one, &wait(a, LockKind::Write)), MetaReply::Done);
    assert_eq!(bench.mutate_as(other, &wait(b, LockKind::Write)), MetaReply::Done);
    assert!(begins(&mut bench, one, 1_000_000, &wait(b, LockKind::Write)));
    assert!(!begins(&mut bench, other, 1_000_001, &wait(a, LockKind::Write)));
}

#[test]
fn a_ring_through_the_second_of_two_readers_is_found_too() {
    let mut bench = Bench::new(BIG);
    let (one, other, third) = (bench.session, bench.open_session(), bench.open_session());
    let [a, b] = ["a", "b"].map(|text| bench.make(Ino::ROOT, text, NewNode::File).unwrap().ino);
    for session in [other, third] {
        assert_eq!(bench.mutate_as(session, &wait(a, LockKind::Read)), MetaReply::Done);
    }
    assert_eq!(bench.mutate_as(one, &wait(b, LockKind::Write)), MetaReply::Done);
    assert!(begins(&mut bench, third, 1_000_000, &wait(b, LockKind::Write)));
    assert!(!begins(&mut bench, one, 1_000_001, &wait(a, LockKind::Write)));
}

#[test]
fn of_writers_who_waits_first_goes_first_unless_it_waits_for_the_other() {
    let mut bench = Bench::new(BIG);
    let (holder, first, second) = (bench.session, bench.open_session(), bench.open_session());
    let a = bench.make(Ino::ROOT, "a", NewNode::File).unwrap().ino;
    assert_eq!(bench.mutate_as(holder, &wait(a, LockKind::Write)), MetaReply::Done);
    bench.core.set_locked(holder, a, true);
    assert!(begins(&mut bench, first, 1_000_000, &wait(a, LockKind::Write)));
    assert!(begins(&mut bench, second, 1_000_001, &wait(a, LockKind::Write)));
    // The first waits for the holder: the holder passes it.
    let more = Mutation::Lock { ino: a, lock: LockSpec { start: 5, end: 30, ..SPEC }, wait: true };
    assert_eq!(bench.mutate_as(holder, &more), MetaReply::Done);
    let lock = LockSpec { end: u64::MAX, kind: LockKind::Unlock, ..SPEC };
    let unlock = Mutation::Lock { ino: a, lock, wait: false };
    assert_eq!(bench.mutate_as(holder, &unlock), MetaReply::Done);
    // Free, but the first has waited for longer; readers pass.
    assert_eq!(bench.mutate_as(second, &wait(a, LockKind::Write)), MetaReply::Refused(Status::WouldBlock));
    assert_eq!(bench.mutate_as(second, &wait(a, LockKind::Read)), MetaReply::Done);
    assert_eq!(bench.mutate_as(second, &unlock), MetaReply::Done);
    // The wait is given up: the second's turn.
    bench.core.end_lock_wait((first, OpId(1_000_000)));
    assert_eq!(bench.mutate_as(second, &wait(a, LockKind::Write)), MetaReply::Done);
}
