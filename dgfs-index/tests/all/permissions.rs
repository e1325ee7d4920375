//! Nobody sees or counts what he cannot reach.

use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphRequest};
use dgfs_proto::ids::Ino;
use dgfs_proto::query::Query;
use dgfs_proto::status::Status;

use crate::rig::{Rig, expr, facets, user};
use crate::truth::{Truth, ino};

/// 2 open/ · 3 open/a · 4 closed/ (0700 of 10) · 5 closed/b · 6 closed/in/ (0755) · 7 closed/in/c ·
/// 8 blind/ (0711: search only) · 9 blind/d · 10 listed/ (0744: read only) · 11 listed/e
fn tree() -> Truth {
    let mut truth = Truth::new();
    let open = truth.dir(Ino::ROOT, "open");
    let a = truth.file(open, "a");
    let closed = truth.dir(Ino::ROOT, "closed");
    let b = truth.file(closed, "b");
    let inner = truth.dir(closed, "in");
    let c = truth.file(inner, "c");
    let blind = truth.dir(Ino::ROOT, "blind");
    let d = truth.file(blind, "d");
    let listed = truth.dir(Ino::ROOT, "listed");
    let e = truth.file(listed, "e");
    for (dir, mode) in [(closed, 0o700), (blind, 0o711), (listed, 0o744)] {
        truth.change(dir, |node| {
            node.mode = mode;
            node.uid = 10;
            node.gid = 20;
        });
    }
    for file in [a, b, c, d, e] {
        truth.tag(file, &["t"]);
    }
    truth.tag(b, &["t", "secret"]);
    truth
}

#[tokio::test]
async fn hits_and_counts_are_what_the_viewer_can_reach() {
    let rig = Rig::new(tree());
    assert_eq!(rig.find(Ino::ROOT, "t").await, [3, 5, 7, 9, 11]);
    assert_eq!(rig.find_as(user(10, &[20]), Ino::ROOT, "t").await, [3, 5, 7, 9, 11], "the owner");
    assert_eq!(rig.find_as(user(11, &[21]), Ino::ROOT, "t").await, [3]);
    let query = || Sought { scope: Ino::ROOT, query: expr("t") };
    assert_eq!(rig.ask_as(user(11, &[]), GraphRequest::Count(query())).await, GraphAnswer::Count(1));
    let beside = rig.facets(user(11, &[]), Ino::ROOT, Query::default(), "").await;
    assert!(!beside.iter().any(|(name, _)| name == "secret"), "{beside:?}");
    let top = facets(rig.ask_as(user(11, &[]), GraphRequest::Top { scope: Ino::ROOT }).await);
    assert!(top.contains(&("secret".to_owned(), 0)), "that a tag exists is no secret, who carries it is: {top:?}");
}

#[tokio::test]
async fn what_is_asked_by_number_is_not_told_either() {
    let rig = Rig::new(tree());
    for request in [
        GraphRequest::Marks(ino(9)),
        GraphRequest::Related { ino: ino(5), limit: 10 },
        GraphRequest::Place { scope: Ino::ROOT, ino: ino(9) },
        GraphRequest::Count(Sought { scope: ino(6), query: Query::default() }),
        GraphRequest::Known { scope: Ino::ROOT, clause: expr("@file/~5").clauses[0].clone() },
    ] {
        let answer = rig.ask_as(user(11, &[21]), request.clone()).await;
        assert_eq!(answer, GraphAnswer::Refused(Status::NotFound), "{request:?}");
    }
    for request in [GraphRequest::Rebuild, GraphRequest::Check] {
        assert_eq!(rig.ask_as(user(11, &[21]), request).await, GraphAnswer::Refused(Status::NotPermitted));
    }
}

#[tokio::test]
async fn a_change_of_mode_an_acl_and_a_second_name_count_at_once() {
    let rig = Rig::new(tree());
    let viewer = || user(11, &[21]);
    rig.meta.change(|truth| truth.change(ino(4), |node| node.mode = 0o755));
    assert_eq!(rig.find_as(viewer(), Ino::ROOT, "t").await, [3, 5, 7]);
    let mut acl = vec![2u8, 0, 0, 0];
    for (entry, permissions, id) in [(1u16, 7u16, 0u32), (2, 0, 11), (4, 5, 0), (0x10, 7, 0), (0x20, 5, 0)] {
        acl.extend(entry.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    rig.meta.change(|truth| truth.xattr(ino(4), "system.posix_acl_access", Some(&acl)));
    assert_eq!(rig.find_as(viewer(), Ino::ROOT, "t").await, [3], "the ACL shuts him out");
    assert_eq!(rig.find_as(user(12, &[]), Ino::ROOT, "t").await, [3, 5, 7]);
    rig.meta.change(|truth| truth.link(ino(9), ino(2), "second"));
    let hits = rig.hits_as(viewer(), Ino::ROOT, &expr("t"), 10).await;
    assert_eq!(hits.iter().map(|hit| hit.ino.get()).collect::<Vec<_>>(), [3, 9]);
    assert_eq!(hits[1].name.as_bytes(), b"second", "by the name that he can see");
    let rig = rig.restart().await;
    assert_eq!(rig.find_as(viewer(), Ino::ROOT, "t").await, [3, 9]);
}

#[tokio::test]
async fn a_word_that_only_others_files_carry_is_not_known() {
    let rig = Rig::new(tree());
    rig.meta.change(|truth| truth.xattr(ino(5), "user.dublincore.creator", Some(b"Ann")));
    let known = |viewer| {
        let clause = expr("creator=").clauses[0].clone();
        rig.ask_as(viewer, GraphRequest::Known { scope: Ino::ROOT, clause })
    };
    assert_eq!(known(user(10, &[20])).await, GraphAnswer::Done);
    assert_eq!(known(user(11, &[])).await, GraphAnswer::Refused(Status::NotFound));
}
