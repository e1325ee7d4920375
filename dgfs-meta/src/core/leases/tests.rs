//! Leases one by one: who is told what, in which order, and the bounds.

use dgfs_proto::ids::{Ino, SessionId};
use dgfs_proto::limits::{RECALL_MS_MAX, RECALLS_MAX};
use dgfs_proto::meta::RecallOf;
use dgfs_proto::name::Name;

use super::{Changes, Leases, Told, Wanted};

fn session(number: u64) -> SessionId {
    SessionId::new(number).unwrap()
}

fn ino(number: u64) -> Ino {
    Ino::new(number).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn content(of: Ino) -> Changes {
    Changes { content: vec![of], ..Changes::default() }
}

/// Everything a session is told, carried out.
fn obey(leases: &mut Leases, who: SessionId, received: &mut u64) -> Vec<RecallOf> {
    let mut told = Vec::new();
    while let Some((number, recalls)) = leases.batch(who, *received) {
        *received = number;
        let ids: Vec<u64> = recalls.iter().map(|recall| recall.id).collect();
        leases.carried_out(who, &ids);
        told.extend(recalls.into_iter().map(|recall| recall.of));
    }
    told
}

#[test]
fn a_change_waits_for_the_holders_and_nothing_of_it_is_leased_meanwhile() {
    let mut leases = Leases::default();
    let (one, other, third) = (session(1), session(2), session(3));
    assert!(leases.lease(one, &[Told::Inode(ino(5))]) && leases.lease(other, &[Told::Inode(ino(5))]));
    let wanted = leases.conflicts(one, &content(ino(5)), None);
    assert_eq!(wanted, [Wanted { session: other, of: RecallOf::Inode(ino(5)) }], "one's own lease is no conflict");
    let wait = leases.recall(None, wanted, 0);
    assert_eq!(leases.take_rung(), [other]);
    assert!(!leases.is_carried_out(wait) && !leases.lease(third, &[Told::Inode(ino(5))]));
    assert!(leases.lease(third, &[Told::Inode(ino(6))]), "another inode is not concerned");
    assert_eq!(obey(&mut leases, other, &mut 0), [RecallOf::Inode(ino(5))]);
    assert!(leases.is_carried_out(wait) && leases.conflicts(one, &content(ino(5)), Some(wait)).is_empty());
    leases.end_wait(wait);
    assert!(leases.lease(third, &[Told::Inode(ino(5))]));
}

#[test]
fn of_a_directory_only_the_name_is_recalled_until_nobody_heeds_it() {
    let mut leases = Leases::default();
    let (one, other) = (session(1), session(2));
    assert!(leases.lease(other, &[Told::AllNames(ino(5))]));
    let mut received = 0;
    let mut parts = 0;
    for round in 0..1000 {
        let of = name(&format!("n{round}"));
        let changes = Changes { names: vec![(ino(5), of.clone())], ..Changes::default() };
        let wanted = leases.conflicts(one, &changes, None);
        if wanted.is_empty() {
            break;
        }
        let wait = leases.recall(None, wanted, 0);
        let told = obey(&mut leases, other, &mut received);
        assert!(leases.conflicts(one, &changes, Some(wait)).is_empty(), "{told:?}");
        leases.end_wait(wait);
        parts += 1;
    }
    assert!((10..100).contains(&parts), "told of {parts} names without looking once");
    assert_eq!(leases.len(), 0);
}

#[test]
fn the_death_of_a_session_carries_out_what_it_should_have() {
    let mut leases = Leases::default();
    let (one, dead) = (session(1), session(2));
    assert!(leases.lease_writes(dead, ino(5)));
    assert!(leases.lease(dead, &[Told::AllNames(ino(9))]));
    let wait = leases.recall(None, leases.kept_back(one, std::iter::once(ino(5))), 1000);
    assert_eq!(leases.waits_since(dead), Some(1000));
    assert!(leases.overdue(1000 + RECALL_MS_MAX).is_empty());
    assert_eq!(leases.overdue(1001 + RECALL_MS_MAX), [dead]);
    leases.end_session(dead);
    assert!(leases.is_carried_out(wait));
    assert_eq!((leases.len(), leases.kept_back(one, std::iter::once(ino(5))).len()), (0, 0));
}

#[test]
fn a_batch_is_sent_again_until_it_is_known_to_have_arrived_and_is_bounded() {
    let mut leases = Leases::default();
    let (one, other) = (session(1), session(2));
    let many = RECALLS_MAX as u64 + 10;
    for number in 0..many {
        assert!(leases.lease(other, &[Told::Inode(ino(number + 2))]));
        let wanted = leases.conflicts(one, &content(ino(number + 2)), None);
        let _: u64 = leases.recall(None, wanted, 0);
    }
    let first = leases.batch(other, 0).unwrap();
    assert_eq!(first.1.len(), RECALLS_MAX);
    assert_eq!(leases.batch(other, 0), Some(first.clone()), "it was lost");
    let second = leases.batch(other, first.0).unwrap();
    assert_eq!((second.0, second.1.len()), (first.0 + 1, 10));
    assert_eq!(leases.batch(other, second.0), None);
}

#[test]
fn the_oldest_leases_go_when_a_session_has_too_many() {
    let mut leases = Leases { per_session_max: 64, ..Leases::default() };
    let one = session(1);
    let mut refused = 0;
    for number in 0..200 {
        refused += u32::from(!leases.lease(one, &[Told::Inode(ino(number + 2))]));
    }
    assert!(leases.len() <= 70 && refused > 100, "{} leases, {refused} refused", leases.len());
    leases.evict();
    let told = obey(&mut leases, one, &mut 0);
    assert_eq!(told.first(), Some(&RecallOf::Inode(ino(2))), "the oldest first");
    assert!(leases.lease(one, &[Told::Inode(ino(900))]));
}

#[test]
fn what_is_leased_again_and_again_stays() {
    let mut leases = Leases { per_session_max: 64, ..Leases::default() };
    let one = session(1);
    let directory = Told::Inode(ino(2));
    let mut told = Vec::new();
    for number in 0..500 {
        assert!(leases.lease(one, &[directory.clone(), Told::Inode(ino(number + 10))]));
        leases.evict();
        told.extend(obey(&mut leases, one, &mut 0));
    }
    assert!(told.len() > 400 && !told.contains(&RecallOf::Inode(ino(2))), "{} recalls", told.len());
}

#[test]
fn leases_of_what_is_gone_end_when_that_is_committed() {
    let mut leases = Leases::default();
    let (one, other) = (session(1), session(2));
    for number in 2..12 {
        assert!(leases.lease(one, &[Told::Inode(ino(number)), Told::AllNames(ino(number))]));
        assert!(leases.lease(other, &[Told::Inode(ino(number))]));
        leases.freed(ino(number), number);
    }
    leases.take_back(7);
    leases.committed(4);
    assert_eq!(leases.len(), 30 - 9);
    leases.committed(20);
    assert_eq!(leases.len(), 30 - 15, "what a refused batch freed is still there");
}

#[test]
fn writes_are_kept_back_by_one_session_and_by_none_while_others_ask() {
    let mut leases = Leases::default();
    let (one, other) = (session(1), session(2));
    assert!(leases.lease_writes(one, ino(5)) && leases.is_held_elsewhere(ino(5), other));
    let wanted = leases.kept_back(other, std::iter::once(ino(5)));
    assert_eq!(wanted, [Wanted { session: one, of: RecallOf::Writes(ino(5)) }]);
    let wait = leases.recall(None, wanted, 0);
    assert!(!leases.lease_writes(one, ino(5)), "it would be recalled again before the other was answered");
    let _: Vec<RecallOf> = obey(&mut leases, one, &mut 0);
    assert!(leases.kept_back(other, std::iter::once(ino(5))).is_empty());
    leases.end_wait(wait);
    assert!(
        leases.lease_writes(one, ino(5)) && leases.may_keep_back(ino(5), one) && !leases.may_keep_back(ino(5), other)
    );
}
