//! Who watches: what comes, what leaves, and which tags did it.

use dgfs_proto::graph::answer::Told;
use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::{Ino, Seq};

use crate::rig::{Rig, expr, user};
use crate::truth::{Truth, ino, name};

/// 2 pics/ · 3 pics/a · 4 pics/b · 5 pics/c, all with the tag `beach`.
fn pictures() -> Truth {
    let mut truth = Truth::new();
    let pics = truth.dir(Ino::ROOT, "pics");
    for file in ["a", "b", "c"] {
        let made = truth.file(pics, file);
        truth.tag(made, &["beach"]);
    }
    truth
}

/// Everything that is told behind `after` up to the log's end.
async fn told(rig: &Rig, viewer: &Viewer, (scope, text): (Ino, &str), after: &mut Seq) -> Vec<Told> {
    let head = rig.meta.truth.lock().head();
    rig.index.wait_for(head).await;
    let mut all = Vec::new();
    while *after < head {
        let sought = Some(Sought { scope, query: expr(text) });
        let reply = rig.reply(viewer.clone(), GraphRequest::Watch { after: Some(*after), sought }).await;
        let GraphAnswer::Told(mut told) = reply.answer else { panic!("{reply:?}") };
        *after = reply.seq;
        all.append(&mut told);
    }
    all
}

fn left(told: &[Told]) -> Vec<u64> {
    let mut left: Vec<u64> = told.iter().flat_map(|one| &one.left).map(|ino| ino.get()).collect();
    left.sort_unstable();
    left
}

/// A watch begins with an answer: what fits then is what can leave.
async fn begun(rig: &Rig, viewer: &Viewer, watch: (Ino, &str)) -> Seq {
    let mut after = rig.index.applied().seq;
    rig.meta.change(|truth| truth.tag(ino(3), &["beach", "begun"]));
    let first = told(rig, viewer, watch, &mut after).await;
    assert_eq!((first.len(), left(&first).len()), (1, 0));
    assert_eq!(
        (first[0].retagged[0].given.as_slice(), first[0].retagged[0].taken.len()),
        (["begun".to_owned()].as_slice(), 0)
    );
    after
}

#[tokio::test]
async fn what_leaves_is_told_however_it_left() {
    for viewer in [Viewer::root(), user(11, &[])] {
        let rig = Rig::new(pictures());
        assert_eq!(rig.find(Ino::ROOT, "beach").await, [3, 4, 5]);
        let mut after = begun(&rig, &viewer, (Ino::ROOT, "beach")).await;
        rig.meta.change(|truth| truth.tag(ino(3), &["sun"]));
        let seen = told(&rig, &viewer, (Ino::ROOT, "beach"), &mut after).await;
        assert_eq!(left(&seen), [3]);
        let retagged = &seen.iter().find(|one| !one.retagged.is_empty()).unwrap().retagged[0];
        assert_eq!((retagged.ino, retagged.given.clone()), (ino(3), vec!["sun".to_owned()]));
        assert_eq!(retagged.taken, ["beach", "begun"]);
        rig.meta.change(|truth| truth.unlink(ino(2), &name("b"), false));
        assert_eq!(left(&told(&rig, &viewer, (Ino::ROOT, "beach"), &mut after).await), [4]);
        rig.meta.change(|truth| truth.tag(ino(3), &["beach"]));
        let seen = told(&rig, &viewer, (Ino::ROOT, "beach"), &mut after).await;
        assert_eq!((seen.len(), left(&seen).len()), (1, 0), "it came back");
    }
}

#[tokio::test]
async fn what_lay_in_a_directory_leaves_with_it() {
    let rig = Rig::new(pictures());
    assert_eq!(rig.find(ino(2), "beach").await, [3, 4, 5]);
    let inner = rig.meta.change(|truth| {
        let inner = truth.dir(ino(2), "inner");
        truth.rename((ino(2), name("c")), (inner, name("c")), false);
        inner
    });
    let head = rig.meta.truth.lock().head();
    rig.index.wait_for(head).await;
    let mut after = begun(&rig, &Viewer::root(), (ino(2), "beach")).await;
    rig.meta.change(|truth| truth.rename((ino(2), name("inner")), (Ino::ROOT, name("outer")), false));
    let seen = told(&rig, &Viewer::root(), (ino(2), "beach"), &mut after).await;
    assert_eq!(left(&seen), [5], "no change named it; {inner} was moved");
}
