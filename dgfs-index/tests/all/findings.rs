//! What taggers found: kept by content and by what else took part, for as long as a file has the content, and a while longer.

use dgfs_index::store::{Finding, Findings, Hints};
use dgfs_proto::graph::{GraphAnswer, GraphRequest};
use dgfs_proto::ids::Ino;

use crate::rig::Rig;
use crate::truth::{Truth, ino};

/// 2 a.txt · 3 a.md · 4 a.py · 5 b.txt
fn four_files() -> Truth {
    let mut truth = Truth::new();
    for name in ["a.txt", "a.md", "a.py", "b.txt"] {
        truth.file(Ino::ROOT, name);
    }
    truth
}

fn content(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn found(of: u64, number: u64, hints: Hints, mark: &str) -> Findings {
    let finding = Finding {
        tagger: "type".to_owned(),
        version: 1,
        marks: vec![(mark.to_owned(), 1000)],
        text: Some(format!("text of {number}")),
        ..Finding::default()
    };
    Findings {
        ino: ino(of),
        data_version: number,
        content: content(number),
        hints,
        found: vec![finding],
        edges: Vec::new(),
    }
}

fn hints(number: u8) -> Hints {
    Hints { digest: [number; 8], matter: true }
}

async fn same_content(rig: &Rig) -> Vec<Vec<u64>> {
    match rig.ask(GraphRequest::Duplicates { scope: Ino::ROOT, limit: 10 }).await {
        GraphAnswer::Duplicates(sets) => {
            sets.into_iter().map(|set| set.inos.into_iter().map(Ino::get).collect()).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Of a.txt, a.md and a.py with equal bytes, the first one's kind was everybody's.
#[tokio::test]
async fn files_of_one_content_and_different_names_have_kinds_of_their_own() {
    let rig = Rig::new(four_files());
    assert_eq!(rig.find(Ino::ROOT, "@all").await, [2, 3, 4, 5]);
    let plain = Hints { digest: [1; 8], matter: false };
    rig.index
        .put_findings(&[
            found(2, 7, plain, "type=text"),
            found(3, 7, hints(2), "lang=markdown"),
            found(4, 7, hints(3), "type=code"),
        ])
        .unwrap();
    // Another name that changes nothing shares what the first one has.
    let shared = Hints { digest: [9; 8], matter: false };
    rig.index.put_findings(&[Findings { found: Vec::new(), ..found(5, 7, shared, "") }]).unwrap();
    let kinds = [
        ("type=text", vec![2, 5]),
        ("lang=markdown", vec![3]),
        ("type=code", vec![4]),
        ("text:text", vec![2, 3, 4, 5]),
    ];
    let readers = rig.index.readers();
    assert!(readers.is_examined((&content(7), &shared), "type", 1).unwrap());
    assert!(!readers.is_examined((&content(7), &hints(4)), "type", 1).unwrap());
    let mut rig = rig;
    for round in ["at once", "after a restart", "after a rebuild"] {
        for (question, files) in &kinds {
            assert_eq!(rig.find(Ino::ROOT, question).await, *files, "{question} {round}");
        }
        assert_eq!(same_content(&rig).await, [[2, 3, 4, 5]], "{round}");
        if round == "at once" {
            rig = rig.restart().await;
        } else {
            let generation = rig.index.generation();
            assert_eq!(rig.ask(GraphRequest::Rebuild).await, GraphAnswer::Done);
            rig.built(generation + 1).await;
        }
    }
    // Renamed: the content is the same, its kind another one.
    rig.index.put_findings(&[found(2, 7, hints(2), "lang=markdown")]).unwrap();
    assert_eq!(rig.find(Ino::ROOT, "lang=markdown").await, [2, 3]);
    assert_eq!(rig.find(Ino::ROOT, "type=text").await, [5]);
}

/// Of a large file, taggers read the beginning only: its findings stand under a hash of its own until it was hashed as a whole.
#[tokio::test]
async fn the_hash_of_a_whole_content_takes_the_place_of_the_one_that_stood_for_it() {
    let rig = Rig::new(four_files());
    assert_eq!(rig.find(Ino::ROOT, "@all").await.len(), 4);
    rig.index
        .put_findings(&[
            found(2, 1, Hints::default(), "same"),
            found(3, 2, Hints::default(), "same"),
            found(4, 3, hints(1), "other"),
        ])
        .unwrap();
    assert_eq!(same_content(&rig).await, Vec::<Vec<u64>>::new());
    for (of, data_version) in [(2, 1), (3, 2), (4, 3), (5, 0)] {
        rig.index.put_whole_hash(ino(of), data_version, content(77)).unwrap();
    }
    assert_eq!(same_content(&rig).await, [[2, 3, 4]], "of 5 nothing was read");
    assert_eq!(rig.find(Ino::ROOT, "same and text:text").await, [2, 3]);
    assert_eq!(rig.find(Ino::ROOT, "other").await, [4]);
    // Its data changed meanwhile: the hash is that of others.
    rig.index.put_findings(&[found(3, 9, Hints::default(), "new")]).unwrap();
    rig.index.put_whole_hash(ino(3), 2, content(77)).unwrap();
    assert_eq!(same_content(&rig).await, [[2, 4]]);
    assert_eq!(rig.find(Ino::ROOT, "new").await, [3]);
    let rig = rig.restart().await;
    assert_eq!(same_content(&rig).await, [[2, 4]]);
}

/// Contents of which findings are kept.
fn kept(rig: &Rig) -> u64 {
    rig.number("SELECT count(*) FROM (SELECT DISTINCT hash, hints FROM finding)")
}

#[tokio::test]
async fn what_no_file_has_any_more_is_forgotten_after_a_while_and_not_at_once() {
    let rig = Rig::new(four_files());
    assert_eq!(rig.find(Ino::ROOT, "@all").await.len(), 4);
    rig.index.put_findings(&[found(3, 1, Hints::default(), "kept")]).unwrap();
    for number in 1..=1000 {
        rig.index.put_findings(&[found(2, number, Hints::default(), "kept")]).unwrap();
    }
    assert_eq!(kept(&rig), 512 + 2, "those without a file, and the two that files have");
    let known =
        |rig: &Rig, number| rig.index.readers().is_examined((&content(number), &Hints::default()), "type", 1).unwrap();
    assert_eq!([1, 2, 400, 999, 1000].map(|number| known(&rig, number)), [true, false, false, true, true]);
    // The last change is undone: nothing has to be looked at.
    rig.index.put_findings(&[Findings { found: Vec::new(), ..found(2, 999, Hints::default(), "") }]).unwrap();
    assert_eq!(rig.find(Ino::ROOT, "text:999 and kept").await, [2]);
    let generation = rig.index.generation();
    assert_eq!(rig.ask(GraphRequest::Rebuild).await, GraphAnswer::Done);
    rig.built(generation + 1).await;
    assert_eq!(kept(&rig), 512 + 1, "a rebuild takes them over, 999 is one of the last forsaken and is had again");
    for number in 1001..=1600 {
        rig.index.put_findings(&[found(2, number, Hints::default(), "kept")]).unwrap();
    }
    assert_eq!((kept(&rig), known(&rig, 999), known(&rig, 1)), (514, false, true));
    assert_eq!(rig.find(Ino::ROOT, "kept").await, [2, 3]);
}

#[tokio::test]
async fn the_end_of_many_files_removes_what_was_found_in_them_step_by_step() {
    let mut truth = Truth::new();
    let files: Vec<Ino> = (0..1000).map(|number| truth.file(Ino::ROOT, &format!("f{number}"))).collect();
    let stays = truth.file(Ino::ROOT, "stays");
    let rig = Rig::new(truth);
    assert_eq!(rig.find(Ino::ROOT, "@all").await.len(), 1001);
    let all: Vec<Findings> = files.iter().map(|ino| found(ino.get(), ino.get(), Hints::default(), "kept")).collect();
    rig.index.put_findings(&all).unwrap();
    rig.index.put_findings(&[found(stays.get(), 5, Hints::default(), "kept")]).unwrap();
    rig.meta.change(|truth| {
        for number in 0..1000 {
            truth.unlink(Ino::ROOT, &crate::truth::name(&format!("f{number}")), false);
        }
    });
    assert_eq!(rig.find(Ino::ROOT, "@all").await, [stays.get()]);
    let left = kept(&rig);
    assert!((513..=1000 - 64 + 1).contains(&left), "one transaction at least removed some: {left}");
    for _ in 0..10 {
        rig.meta.change(|truth| truth.change(stays, |node| node.mtime.secs += 1));
        assert_eq!(rig.find(Ino::ROOT, "kept").await, [stays.get()]);
    }
    assert_eq!(kept(&rig), 512 + 1, "the last that were forsaken, and what the file that stays has");
}

/// An owner says so when he finds what was found.
#[tokio::test]
async fn what_was_found_is_not_told_once_the_owner_does_not_want_it() {
    let rig = Rig::new(four_files());
    assert_eq!(rig.find(Ino::ROOT, "@all").await, [2, 3, 4, 5]);
    let (one, other) = (found(2, 7, hints(1), "pangolin"), found(3, 7, hints(1), "pangolin"));
    rig.index.put_findings(&[one, other]).unwrap();
    for (value, shown) in [(None, vec![2, 3]), (Some(&b"false"[..]), vec![3]), (Some(b"true"), vec![2, 3])] {
        rig.meta.change(|truth| truth.xattr(ino(2), "user.xdg.robots.index", value));
        assert_eq!(rig.find(Ino::ROOT, "pangolin").await, shown, "{value:?}");
        assert_eq!(rig.find(Ino::ROOT, "text:7").await, shown, "{value:?}");
        assert_eq!(same_content(&rig).await.len(), shown.len() - 1, "{value:?}");
        let hash = content(7).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(rig.find(Ino::ROOT, &format!("hash={hash}")).await, shown, "{value:?}");
    }
}
