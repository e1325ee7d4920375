//! Nobody sees or counts what he cannot reach.

use dgfs_index::store::{Finding, Findings, Hints};
use dgfs_proto::graph::request::{Sought, TaggerCommand};
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
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
    assert!(!top.iter().any(|(name, _)| name == "secret"), "a tag is as unknown as all its carriers: {top:?}");
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

/// All of it was root's: the owner of a file could not have it looked at again.
#[tokio::test]
async fn taggers_look_again_for_who_may_write_and_pause_for_root_alone() {
    let rig = Rig::new(tree());
    rig.meta.change(|truth| {
        truth.change(ino(3), |node| {
            node.uid = 11;
            node.mode = 0o600;
        });
    });
    let run = |number| GraphRequest::Tagger(TaggerCommand::Run { tagger: None, ino: ino(number) });
    let pause = || GraphRequest::Tagger(TaggerCommand::Pause(true));
    let refused = GraphAnswer::Refused;
    // This index has no taggers to ask: who may ask hears that.
    let allowed = || GraphAnswer::Denied("this index runs no taggers".to_owned());
    for (uid, request, expected) in [
        (11, run(3), allowed()),
        (0, run(3), allowed()),
        (12, run(3), refused(Status::AccessDenied)),
        (11, run(5), refused(Status::NotFound)),
        (0, run(4711), refused(Status::NotFound)),
        (12, GraphRequest::Tagger(TaggerCommand::List), allowed()),
        (11, pause(), refused(Status::NotPermitted)),
        (0, pause(), allowed()),
    ] {
        assert_eq!(rig.ask_patiently(user(uid, &[21]), request.clone()).await, expected, "{uid}: {request:?}");
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

/// 2 own (of 10, 0600) · 3 copy (of 11) · 4 open (0644)
async fn told() -> Rig {
    let mut truth = Truth::new();
    for (name, mode, uid) in [("own", 0o600, 10), ("copy", 0o600, 11), ("open", 0o644, 10)] {
        let file = truth.file(Ino::ROOT, name);
        truth.change(file, |node| {
            (node.mode, node.uid, node.gid, node.size) = (mode, uid, uid, 100);
        });
        truth.tag(file, &["t"]);
    }
    let rig = Rig::new(truth);
    let _: Vec<u64> = rig.find(Ino::ROOT, "t").await;
    let said = |of: u64, content: u8, word: &str| Findings {
        ino: ino(of),
        data_version: 0,
        content: [content; 32],
        hints: Hints::default(),
        found: vec![Finding {
            tagger: "text".to_owned(),
            version: 1,
            marks: vec![(word.to_owned(), 1000), ("shared".to_owned(), 900), ("taken=2020-05-05".to_owned(), 1000)],
            text: Some(format!("the {word} is swordfish")),
            ..Finding::default()
        }],
        edges: Vec::new(),
    };
    rig.index.put_findings(&[said(2, 1, "zanzibar"), said(3, 1, "zanzibar"), said(4, 2, "harbour")]).unwrap();
    rig
}

#[tokio::test]
async fn what_a_content_says_is_found_by_those_who_may_read_it() {
    let rig = told().await;
    let hash = "01".repeat(32);
    let rows = [
        ("zanzibar", vec![2, 3], vec![2], vec![]),
        ("text:swordfish", vec![2, 3, 4], vec![2, 4], vec![4]),
        ("text:zanzibar", vec![2, 3], vec![2], vec![]),
        ("t -zanzibar", vec![4], vec![3, 4], vec![2, 3, 4]),
        ("taken=2020", vec![2, 3, 4], vec![2, 4], vec![4]),
        ("taken=", vec![2, 3, 4], vec![2, 4], vec![4]),
        (&format!("hash={hash}"), vec![2, 3], vec![2], vec![]),
        ("@of/~2/same-content", vec![3], vec![], vec![]),
        ("t", vec![2, 3, 4], vec![2, 3, 4], vec![2, 3, 4]),
        ("type=file", vec![2, 3, 4], vec![2, 3, 4], vec![2, 3, 4]),
    ];
    let viewers = || [Viewer::root(), user(10, &[10]), user(12, &[12])];
    for (text, of_root, of_owner, of_stranger) in rows {
        for (viewer, expected) in viewers().into_iter().zip([of_root, of_owner, of_stranger]) {
            assert_eq!(rig.find_as(viewer.clone(), Ino::ROOT, text).await, expected, "{text} of {viewer:?}");
        }
    }
    let sought = || Sought { scope: Ino::ROOT, query: expr("t") };
    for (viewer, counts) in viewers().into_iter().zip([[2, 3, 1], [1, 2, 1], [0, 1, 1]]) {
        let facets = rig.facets(viewer.clone(), Ino::ROOT, expr("t"), "").await;
        let count = |name: &str| facets.iter().find(|facet| facet.0 == name).map_or(0, |facet| facet.1);
        assert_eq!(["zanzibar", "shared", "harbour"].map(count), counts, "{viewer:?}");
        let top = facets_of_top(&rig, viewer.clone()).await;
        assert_eq!(top.iter().any(|name| name == "zanzibar"), counts[0] > 0, "{viewer:?}");
        let duplicates = rig.ask_as(viewer.clone(), GraphRequest::Duplicates { scope: Ino::ROOT, limit: 9 }).await;
        let GraphAnswer::Duplicates(sets) = duplicates else { panic!("{duplicates:?}") };
        assert_eq!(sets.len(), usize::from(viewer.uid == 0), "{viewer:?}");
        let related = rig.ask_as(viewer.clone(), GraphRequest::Related { ino: ino(2), limit: 9 }).await;
        let GraphAnswer::Related(related) = related else { panic!("{related:?}") };
        assert_eq!(related.iter().any(|one| one.ino == ino(3)), viewer.uid == 0, "{viewer:?}: {related:?}");
        let marks = rig.ask_as(viewer.clone(), GraphRequest::Marks(ino(2))).await;
        assert_eq!(marks == GraphAnswer::Refused(Status::AccessDenied), viewer.uid == 12, "{marks:?}");
        // Nobody but root is told what there was before it was looked at who asks.
        let GraphAnswer::Text(explained) = rig.ask_as(viewer.clone(), GraphRequest::Explain(sought())).await else {
            panic!("no explanation")
        };
        assert_eq!(explained.contains("left 3"), viewer.uid == 0, "{explained}");
    }
}

async fn facets_of_top(rig: &Rig, viewer: Viewer) -> Vec<String> {
    let top = facets(rig.ask_as(viewer, GraphRequest::Top { scope: Ino::ROOT }).await);
    top.into_iter().map(|(name, _)| name).collect()
}

/// Each names the one before thirty times: evaluated at each mention, the last one would take thirty times thirty … questions.
#[tokio::test]
async fn a_saved_query_is_evaluated_once_however_often_it_is_named() {
    let mut truth = Truth::new();
    let file = truth.file(Ino::ROOT, "f");
    truth.tag(file, &["t"]);
    truth.save("s0", Some("t"));
    for level in 1..7 {
        let clause = format!("(@saved/s{} or name:x)", level - 1);
        truth.save(&format!("s{level}"), Some(&vec![clause; 30].join(" ")));
    }
    let rig = Rig::new(truth);
    assert_eq!(rig.find(Ino::ROOT, "@saved/s6").await, [2]);
}
