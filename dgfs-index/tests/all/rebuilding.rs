//! Following, building anew, comparing, watching; and what happens when the metadata service is not what it was.

use std::collections::BTreeMap;

use dgfs_index::store::Changed;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, HandRelation, Viewer};
use dgfs_proto::ids::{Ino, Seq};
use dgfs_proto::status::Status;

use crate::rig::{Rig, Scratch, user};
use crate::truth::{Truth, ino, name};

fn volume(files: u32) -> Truth {
    let mut truth = Truth::new();
    let dir = truth.dir(Ino::ROOT, "d");
    for number in 0..files {
        let file = truth.file(dir, &format!("f{number}.txt"));
        if number % 3 == 0 {
            truth.tag(file, &["third"]);
        }
    }
    truth
}

#[tokio::test]
async fn a_rebuild_while_everything_changes_ends_where_the_log_does() {
    let mut truth = volume(300);
    truth.page_max = 7;
    let rig = Rig::new(truth);
    assert_eq!(rig.find(Ino::ROOT, "third").await.len(), 100);
    let before = rig.index.generation();
    let mut step = 0;
    *rig.meta.hook.lock() = Some(Box::new(move |truth| {
        step += 1;
        if step > 60 {
            return;
        }
        let number = step * 4;
        truth.rename((ino(2), name(&format!("f{number}.txt"))), (Ino::ROOT, name(&format!("moved{number}"))), false);
        truth.unlink(ino(2), &name(&format!("f{}.txt", number + 1)), false);
        let made = truth.file(ino(2), &format!("new{number}.txt"));
        truth.tag(made, &["third", "new"]);
    }));
    assert_eq!(rig.ask(GraphRequest::Rebuild).await, GraphAnswer::Done);
    rig.built(before + 1).await;
    *rig.meta.hook.lock() = None;
    let (third, news) = {
        let truth = rig.meta.truth.lock();
        let count = |text: &str| {
            let id = truth.tags.iter().find(|(_, facts)| facts.name.as_str() == text).map(|(id, _)| *id).unwrap();
            truth.tagged.values().filter(|tags| tags.contains(&id)).count()
        };
        (count("third"), count("new"))
    };
    assert!(news > 0, "the volume changed while it was read");
    assert_eq!(rig.find(Ino::ROOT, "third").await.len(), third);
    assert_eq!(rig.find(Ino::ROOT, "new").await.len(), news);
    match rig.ask(GraphRequest::Check).await {
        GraphAnswer::Text(text) => assert!(text.ends_with(" 0 differ\n"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_check_tells_what_differs() {
    let rig = Rig::new(volume(5));
    assert_eq!(rig.find(Ino::ROOT, "third").await, [3, 6]);
    {
        // Behind the log's back, as a bug would.
        let mut truth = rig.meta.truth.lock();
        truth.nodes.get_mut(&ino(4)).unwrap().uid = 99;
        truth.names.insert((Ino::ROOT, name("other")), ino(5));
    }
    match rig.ask(GraphRequest::Check).await {
        GraphAnswer::Text(text) => {
            assert!(text.contains("inode 4: attributes") && text.contains("inode 5: names"), "{text}");
            assert!(text.ends_with("7 inodes compared at seq 8, 2 differ\n"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

/// The metadata keep the relation and the index dropped the edge, which a check took for a difference; and a graph that was built
/// anew had an edge to nowhere.
#[tokio::test]
async fn a_relation_to_a_file_that_is_gone_is_no_edge_and_no_difference() {
    let mut truth = volume(5);
    truth.relate(ino(3), vec![(HandRelation::LinksTo, ino(4)), (HandRelation::LinksTo, ino(5))]);
    let rig = Rig::new(truth);
    rig.meta.change(|truth| truth.unlink(ino(2), &name("f1.txt"), false));
    for generation in [rig.index.generation(), rig.index.generation() + 1] {
        rig.built(generation).await;
        match rig.ask(GraphRequest::Check).await {
            GraphAnswer::Text(text) => assert!(text.ends_with(" 0 differ\n"), "{text}"),
            other => panic!("{other:?}"),
        }
        match rig.ask(GraphRequest::Related { ino: ino(3), limit: 10 }).await {
            GraphAnswer::Related(list) => assert_eq!(list.len(), 1, "{list:?}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.index.readers().vertex(ino(3)).unwrap().unwrap().edges.len(), 1);
        let _: GraphAnswer = rig.ask(GraphRequest::Rebuild).await;
    }
}

#[tokio::test]
async fn another_log_or_one_that_was_cut_makes_it_build_anew() {
    let rig = Rig::new(volume(5));
    assert_eq!(rig.find(Ino::ROOT, "third").await, [3, 6]);
    let before = rig.index.generation();
    // Brought back from a backup: the same seqs, another history.
    rig.meta.change(|truth| {
        let mut other = volume(4);
        other.file(ino(2), "instead.txt");
        other.file(ino(2), "more.txt");
        other.tag(ino(4), &["third"]);
        *truth = other;
    });
    rig.built(before + 1).await;
    assert_eq!(rig.find(Ino::ROOT, "third").await, [3, 4, 6]);
    assert_eq!(rig.find(Ino::ROOT, "name:instead*").await, [7]);
    let rig = {
        let meta = rig.meta.clone();
        let rig = rig.restart().await;
        meta.change(|truth| {
            truth.trimmed += truth.log.len() as u64 + 10;
            truth.log.clear();
            truth.file(ino(2), "after.txt");
        });
        rig
    };
    assert_eq!(rig.find(Ino::ROOT, "name:after*").await.len(), 1);
    assert!(rig.index.generation() > before + 1);
}

#[tokio::test]
async fn while_the_metadata_service_is_away_a_question_is_late_and_status_still_answers() {
    let rig = Rig::new(volume(5));
    assert_eq!(rig.find(Ino::ROOT, "third").await, [3, 6]);
    *rig.meta.away.lock() = true;
    assert_eq!(rig.ask(GraphRequest::Top { scope: Ino::ROOT }).await, GraphAnswer::Refused(Status::Unavailable));
    match rig.ask(GraphRequest::Status).await {
        GraphAnswer::Status(status) => assert_eq!((status.inodes, status.seq, status.edges > 1), (6, Seq(8), true)),
        other => panic!("{other:?}"),
    }
    *rig.meta.away.lock() = false;
    assert_eq!(rig.find(Ino::ROOT, "third").await, [3, 6]);
}

#[tokio::test]
async fn who_watches_hears_of_what_he_can_reach() {
    let rig = Rig::new(volume(2));
    let first = rig.index.applied().seq;
    assert_eq!(rig.find(Ino::ROOT, "third").await, [3]);
    let after = rig.index.applied().seq.max(first);
    let watch = |viewer: Viewer, after| rig.ask_as(viewer, GraphRequest::Watch { after, sought: None });
    rig.meta.change(|truth| {
        truth.file(ino(2), "seen");
        truth.change(ino(2), |node| node.mode = 0o700);
        truth.file(ino(2), "unseen");
        truth.file(Ino::ROOT, "open");
    });
    match watch(Viewer::root(), Some(after)).await {
        GraphAnswer::Told(events) => assert!(!events.is_empty()),
        other => panic!("{other:?}"),
    }
    rig.index.wait_for(Seq(after.0 + 4)).await;
    match watch(user(11, &[]), Some(after)).await {
        GraphAnswer::Told(events) => {
            assert!(events.iter().all(|event| !format!("{event:?}").contains("seen")), "{events:?}");
            assert!(events.iter().any(|event| format!("{event:?}").contains("open")), "{events:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_page_that_comes_twice_changes_nothing_and_a_damaged_database_is_begun_anew() {
    let rig = Rig::new(volume(30));
    assert_eq!(rig.find(Ino::ROOT, "third").await.len(), 10);
    let events: Vec<_> = rig.meta.truth.lock().log.iter().cloned().collect();
    rig.index.apply(&events).unwrap();
    assert_eq!(rig.find(Ino::ROOT, "third").await.len(), 10);
    let rig = rig.restart_damaged().await;
    assert_eq!(rig.find(Ino::ROOT, "third").await.len(), 10);
}

/// The random model failed once in some hundred runs: over the directory that a killed run with the same process number had
/// left, whose index had applied more than the new log had.
#[test]
fn a_scratch_directory_is_new_whatever_a_killed_run_left() {
    let within = Scratch::new();
    let prefix = within.path().join("run");
    let first = Scratch::beside(&prefix);
    let number: u32 = first.path().to_str().unwrap().rsplit('-').next().unwrap().parse().unwrap();
    // As many as other tests may take meanwhile, and more.
    for left in number + 1..number + 1000 {
        std::fs::create_dir(within.path().join(format!("run-{left}"))).unwrap();
    }
    let second = Scratch::beside(&prefix);
    assert!(std::fs::read_dir(second.path()).unwrap().next().is_none());
    let taken: u32 = second.path().to_str().unwrap().rsplit('-').next().unwrap().parse().unwrap();
    assert!(taken >= number + 1000, "{taken} was left by {number}");
}

#[tokio::test]
async fn pages_of_changes_end_with_whole_stamps_and_pass_none_over() {
    let rig = Rig::new(volume(5));
    assert_eq!(rig.find(Ino::ROOT, "third").await, [3, 6]);
    let begin = rig.index.applied().stamp;
    // One transaction larger than any page below, between small ones.
    for events in [1, 40, 2, 3] {
        let before = rig.meta.truth.lock().log.len();
        let mut truth = rig.meta.truth.lock().clone();
        for _ in 0..events {
            let name = format!("n{}", truth.log.len());
            truth.file(ino(2), &name);
        }
        truth.unlink(ino(2), &name(&format!("n{before}")), false);
        let new: Vec<_> = truth.log.iter().skip(before).cloned().collect();
        // Told at once, so that the follower does not cut them.
        rig.index.apply(&new).unwrap();
        rig.meta.change(|told| *told = truth);
    }
    let all = rig.index.readers().changes_after(begin, usize::MAX).unwrap();
    let of_stamp = |stamp| all.iter().filter(|changed| changed.stamp == stamp).count();
    // The directory changes with each, and is told with the last.
    assert_eq!([1, 2, 3, 4].map(|behind| of_stamp(begin + behind)), [1, 40, 2, 4], "{all:?}");
    assert_eq!(all.iter().filter(|changed| changed.gone).count(), 4);
    for limit in [0, 1, 2, 3, 7, 40, 41, 42, 1000] {
        let (mut told, mut after, mut pages) = (Vec::new(), begin, 0);
        loop {
            let page = rig.index.readers().changes_after(after, limit).unwrap();
            let Some(last) = page.last() else { break };
            assert!(last.stamp > after, "limit {limit}");
            let of_last =
                all.iter().filter(|changed| changed.stamp == last.stamp).all(|changed| page.contains(changed));
            assert!(of_last, "limit {limit}");
            after = last.stamp;
            told.extend(page);
            pages += 1;
        }
        let last_words = |changes: &[Changed]| -> BTreeMap<Ino, (u64, bool)> {
            changes.iter().map(|changed| (changed.ino, (changed.stamp, changed.gone))).collect()
        };
        assert_eq!(last_words(&told), last_words(&all), "limit {limit}");
        assert_eq!(pages > 1, limit <= 42, "limit {limit}: {pages} pages");
    }
}
