//! Relations that nobody made: what is found, from both ends, whatever came first, and by nobody who may not know.

use dgfs_index::likeness::{Print, PrintKind, TEXT_CERTAIN};
use dgfs_index::pointer::Pointer;
use dgfs_index::store::{Finding, Findings, Hints};
use dgfs_proto::attr::Timestamp;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::query::entry::ino_id;

use crate::rig::{Rig, user};
use crate::truth::{Truth, ino, name};

const PLACES: usize = 64;
/// A hash with as many ones as zeros, as pictures have.
const PICTURE: u64 = 0x5a3c_96f0_0f69_c3a5;

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn hash(number: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    hash
}

/// What is said of a content; each inode has its own unless two are given the same.
fn of(number: u64, content: u64, found: Finding) -> Findings {
    let found = Finding { tagger: "test".to_owned(), version: 1, ..found };
    Findings {
        ino: ino(number),
        data_version: 0,
        content: hash(content),
        hints: Hints::default(),
        found: vec![found],
        edges: Vec::new(),
    }
}

fn prints(prints: impl IntoIterator<Item = Print>) -> Finding {
    Finding { prints: prints.into_iter().collect(), ..Finding::default() }
}

fn pointers(targets: &[&str]) -> Finding {
    Finding { pointers: targets.iter().filter_map(|target| Pointer::path(target)).collect(), ..Finding::default() }
}

fn imports(targets: &[&str]) -> Finding {
    Finding { pointers: targets.iter().filter_map(|target| Pointer::import(target)).collect(), ..Finding::default() }
}

fn words(words: &[&str]) -> Finding {
    Finding { marks: words.iter().map(|word| ((*word).to_owned(), 900)).collect(), ..Finding::default() }
}

fn signature(changed: usize, salt: u32) -> Vec<u32> {
    (0..PLACES).map(|at| at as u32 * 1000 + if at < changed { salt } else { 0 }).collect()
}

async fn to(rig: &Rig, number: u64, relation: &str) -> Vec<u64> {
    rig.find(Ino::ROOT, &format!("@of/~{}/{relation}", ino_id(ino(number)))).await
}

async fn to_as(rig: &Rig, viewer: Viewer, number: u64, relation: &str) -> Vec<u64> {
    rig.find_as(viewer, Ino::ROOT, &format!("@of/~{}/{relation}", ino_id(ino(number)))).await
}

/// Relation, other inode, permille, source.
async fn reasons(rig: &Rig, number: u64) -> Vec<(String, u64, u16, String)> {
    match rig.ask(GraphRequest::Related { ino: ino(number), limit: 100 }).await {
        GraphAnswer::Related(list) => {
            list.into_iter().map(|tie| (tie.relation, tie.ino.get(), tie.permille, tie.source)).collect()
        }
        other => panic!("{other:?}"),
    }
}

async fn rebuild(rig: &Rig) {
    let before = rig.index.generation();
    assert_eq!(rig.ask(GraphRequest::Rebuild).await, GraphAnswer::Done);
    rig.built(before + 1).await;
}

/// Files of the root: 2, 3, …
fn flat(names: &[&str]) -> Truth {
    let mut truth = Truth::new();
    for name in names {
        truth.file(Ino::ROOT, name);
    }
    truth
}

/// Signatures in families: each place of a member differs from its family's with a chance of its own.
fn families(chance: &mut Chance, count: usize) -> Vec<Vec<u32>> {
    let mut all: Vec<Vec<u32>> = Vec::new();
    while all.len() < count {
        let first: Vec<u32> = (0..PLACES).map(|_| chance.next() as u32).collect();
        for _ in 0..1 + chance.below(6) {
            let percent = chance.below(60);
            let change = |place: &u32, chance: &mut Chance| {
                if chance.below(100) < percent { chance.next() as u32 } else { *place }
            };
            all.push(first.iter().map(|place| change(place, chance)).collect());
        }
    }
    all.truncate(count);
    all
}

type Pairs = std::collections::BTreeMap<(u64, u64), u16>;

/// Everything that is found from every content.
fn found(rig: &Rig, count: u64) -> Pairs {
    let readers = rig.index.readers();
    let mut pairs = Pairs::new();
    for one in 0..count {
        for likeness in readers.likenesses_of(&hash(one)).unwrap() {
            let other = u64::from_le_bytes(likeness.content[..8].try_into().unwrap());
            assert_eq!(likeness.kind, PrintKind::Text);
            assert_eq!(pairs.insert((one, other), likeness.permille), None);
        }
    }
    pairs
}

#[tokio::test]
async fn banding_misses_no_pair_that_is_promised_and_invents_none() {
    const COUNT: u64 = 150;
    let seed = std::env::var("DGFS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_126);
    println!("DGFS_SEED={seed}");
    let mut chance = Chance(seed);
    let signatures = families(&mut chance, COUNT as usize);
    let names: Vec<String> = (0..COUNT).map(|at| format!("f{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut answers = Vec::new();
    for round in 0..2 {
        let rig = Rig::new(flat(&names));
        assert_eq!(rig.find(Ino::ROOT, "@all").await.len() as u64, COUNT);
        let mut order: Vec<u64> = (0..COUNT).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, chance.below(at + 1));
        }
        for (at, one) in order.iter().enumerate() {
            let print = Print::text(&signatures[*one as usize]);
            rig.index.put_findings(&[of(one + 2, *one, prints(print))]).unwrap();
            if round == 1 && at == 70 {
                rebuild(&rig).await;
            }
        }
        answers.push(found(&rig, COUNT));
    }
    assert_eq!(answers[0], answers[1], "neither the order of arrival nor a rebuild shows");
    let mut promised = 0;
    for (one, first) in signatures.iter().enumerate() {
        for (other, second) in signatures.iter().enumerate().filter(|(other, _)| *other != one) {
            let equal = first.iter().zip(second).filter(|(one, two)| one == two).count();
            let pair = answers[0].get(&(one as u64, other as u64)).copied();
            assert_eq!(pair, answers[0].get(&(other as u64, one as u64)).copied(), "the same from both sides");
            promised += usize::from(equal >= TEXT_CERTAIN);
            assert!(pair.is_some() || equal < TEXT_CERTAIN, "{one} and {other} have {equal} places in common");
            assert!(pair.is_none_or(|permille| permille == (equal * 1000 / PLACES) as u16 || equal >= 32), "{equal}");
        }
    }
    assert!(promised > 50 && answers[0].len() > promised, "{promised} of {}", answers[0].len());
}

#[tokio::test]
async fn like_texts_and_pictures_are_found_by_how_alike_they_are() {
    let rig = Rig::new(flat(&["a.txt", "b.txt", "c.txt", "p.png", "q.jpg", "r.jpg", "copy.txt"]));
    assert_eq!(rig.find(Ino::ROOT, "@all").await.len(), 7);
    let said = [
        of(2, 2, prints(Print::text(&signature(0, 0)))),
        of(3, 3, prints(Print::text(&signature(8, 1)))),
        of(4, 4, prints(Print::text(&signature(60, 2)))),
        of(5, 5, prints(Print::picture(PICTURE))),
        of(6, 6, prints(Print::picture(PICTURE ^ 0b111))),
        of(7, 7, prints(Print::picture(!PICTURE))),
        of(8, 2, Finding::default()),
    ];
    rig.index.put_findings(&said).unwrap();
    assert_eq!(to(&rig, 2, "similar").await, [3], "and its copy is no file that is like it");
    assert_eq!(to(&rig, 3, "similar").await, [2, 8], "what is known of a content holds for each of its files");
    assert_eq!(to(&rig, 5, "similar").await, [6]);
    assert_eq!(to(&rig, 7, "similar").await, Vec::<u64>::new());
    assert_eq!(reasons(&rig, 5).await, [("similar".to_owned(), 6, 906, "picture".to_owned())]);
    let reasons = reasons(&rig, 3).await;
    assert_eq!(reasons[0], ("similar".to_owned(), 2, 875, "text".to_owned()));
    // A new content of the file: nothing of the old one is said of it any more.
    rig.index.put_findings(&[of(3, 9, prints(Print::text(&signature(64, 3))))]).unwrap();
    assert_eq!(to(&rig, 2, "similar").await, Vec::<u64>::new());
}

#[tokio::test]
async fn vectors_of_one_model_are_compared_and_the_best_are_named() {
    let names: Vec<String> = (0..30).map(|at| format!("f{at}")).collect();
    let rig = Rig::new(flat(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(rig.find(Ino::ROOT, "@all").await.len(), 30);
    let vector = |angle: f32| prints(Print::vector(&[angle.cos(), angle.sin()]));
    let mut said: Vec<Findings> = (0..30).map(|at| of(at + 2, at, vector(at as f32 / 100.0))).collect();
    said[1].found[0].tagger = "another".to_owned();
    rig.index.put_findings(&said).unwrap();
    let similar = to(&rig, 2, "similar").await;
    assert_eq!(similar, (4..24).collect::<Vec<u64>>(), "twenty, and none of another model");
    assert_eq!(rig.index.readers().likenesses_of(&hash(0)).unwrap().len(), 28, "between contents all are told");
}

#[tokio::test]
async fn pointers_lead_where_the_tree_says_now_and_back() {
    let mut truth = Truth::new();
    let site = truth.dir(Ino::ROOT, "site");
    let page = truth.file(site, "page.html");
    let pics = truth.dir(Ino::ROOT, "pics");
    let pic = truth.file(pics, "a b.png");
    let notes = truth.file(Ino::ROOT, "notes.md");
    let deep = truth.dir(site, "deep");
    assert_eq!([site, page, pics, pic, notes, deep].map(Ino::get), [2, 3, 4, 5, 6, 7]);
    let rig = Rig::new(truth);
    assert_eq!(rig.find(Ino::ROOT, "@all").await, [3, 5, 6]);
    let targets = [
        "../pics/a%20b.png#x",
        "https://example.org/notes.md",
        "/notes.md",
        "none.html",
        "page.html",
        "../../../notes.md",
    ];
    rig.index.put_findings(&[of(3, 1, pointers(&targets))]).unwrap();
    assert_eq!(to(&rig, 3, "links-to").await, [5, 6], "and not itself");
    assert_eq!(to(&rig, 5, "linked-from").await, [3]);
    assert_eq!(to(&rig, 6, "linked-from").await, [3]);
    assert_eq!(to(&rig, 3, "related").await, [5, 6]);
    rig.meta.change(|truth| truth.rename((ino(4), name("a b.png")), (ino(4), name("c.png")), false));
    assert_eq!(to(&rig, 3, "links-to").await, [6], "nothing is there any more");
    assert_eq!(to(&rig, 5, "linked-from").await, Vec::<u64>::new());
    rig.meta.change(|truth| truth.rename((ino(4), name("c.png")), (ino(4), name("a b.png")), false));
    // The page moves: its relative links lead elsewhere, its absolute ones do not.
    rig.meta.change(|truth| truth.rename((ino(2), name("page.html")), (ino(7), name("page.html")), false));
    assert_eq!(to(&rig, 3, "links-to").await, [6]);
    rig.meta.change(|truth| truth.rename((ino(7), name("page.html")), (Ino::ROOT, name("page.html")), false));
    assert_eq!(to(&rig, 3, "links-to").await, [5, 6], "above the root is the root");
    rebuild(&rig).await;
    assert_eq!(to(&rig, 5, "linked-from").await, [3], "a rebuild keeps what contents say");
}

#[tokio::test]
async fn imports_lead_to_the_files_of_modules() {
    let mut truth = Truth::new();
    let src = truth.dir(Ino::ROOT, "src");
    let main = truth.file(src, "main.rs");
    let graph = truth.file(src, "graph.rs");
    let below = truth.dir(src, "graph");
    let tags = truth.file(below, "tags.rs");
    let package = truth.dir(Ino::ROOT, "pkg");
    let init = truth.file(package, "__init__.py");
    let script = truth.file(Ino::ROOT, "run.py");
    let header = truth.file(src, "x.h");
    let c = truth.file(src, "x.c");
    let rig = Rig::new(truth);
    assert_eq!(rig.find(Ino::ROOT, "@all").await.len(), 7);
    let said = [
        of(main.get(), 1, imports(&["graph", "std::io"])),
        of(graph.get(), 2, imports(&["tags"])),
        of(tags.get(), 3, imports(&["crate::graph::Graph", "super::Other"])),
        of(script.get(), 4, imports(&["pkg", "os"])),
        of(c.get(), 5, imports(&["x.h", "stdio.h"])),
    ];
    rig.index.put_findings(&said).unwrap();
    for (from, target) in [(main, graph), (graph, tags), (tags, graph), (script, init), (c, header)] {
        assert_eq!(to(&rig, from.get(), "links-to").await, [target.get()], "from {from}");
        assert!(to(&rig, target.get(), "linked-from").await.contains(&from.get()), "to {target}");
    }
    assert_eq!(to(&rig, graph.get(), "linked-from").await, [main.get(), tags.get()]);
}

#[tokio::test]
async fn copies_come_from_the_earliest_and_thumbnails_from_the_larger_picture() {
    let mut truth = flat(&["late.txt", "early.txt", "big.png", "small.png", "empty1", "empty2"]);
    for (number, secs) in [(2, 200), (3, 100), (4, 100), (5, 50), (6, 1), (7, 2)] {
        truth.change(ino(number), |node| node.btime = Timestamp { secs, nanos: 0 });
    }
    for number in [6, 7] {
        truth.change(ino(number), |node| node.size = 0);
    }
    let rig = Rig::new(truth);
    assert_eq!(rig.find(Ino::ROOT, "@all").await.len(), 6);
    let picture = |bits, width: &str, height: &str| Finding {
        marks: words(&[width, height]).marks,
        ..prints(Print::picture(bits))
    };
    rig.index
        .put_findings(&[
            of(2, 1, Finding::default()),
            of(3, 1, Finding::default()),
            of(4, 2, picture(PICTURE, "width=4000", "height=3000")),
            of(5, 3, picture(PICTURE ^ 1, "width=400", "height=300")),
            of(6, 4, Finding::default()),
            of(7, 4, Finding::default()),
        ])
        .unwrap();
    for (number, relation, expected) in [
        (2, "sources", vec![3]),
        (3, "derived", vec![2]),
        (3, "sources", vec![]),
        (5, "sources", vec![4]),
        (4, "derived", vec![5]),
        (4, "sources", vec![]),
        (6, "same-content", vec![7]),
        (7, "sources", vec![]),
        (7, "related", vec![]),
    ] {
        assert_eq!(to(&rig, number, relation).await, expected, "{relation} of {number}");
    }
}

#[tokio::test]
async fn versions_are_told_by_names_and_parts_of_a_series_by_likeness_only() {
    let names = ["report.txt", "report-v2.txt", "report.pdf", "IMG_1.jpg", "IMG_2.jpg", "IMG_3.jpg"];
    let mut truth = flat(&names);
    let old = truth.dir(Ino::ROOT, "old");
    let far = truth.file(old, "report (1).txt");
    let other = truth.file(old, "report-v3.txt");
    let rig = Rig::new(truth);
    assert_eq!((rig.find(Ino::ROOT, "@all").await.len(), far.get(), other.get()), (8, 9, 10));
    rig.index
        .put_findings(&[
            of(2, 1, prints(Print::text(&signature(0, 0)))),
            of(9, 2, prints(Print::text(&signature(4, 1)))),
            of(10, 6, prints(Print::text(&signature(64, 9)))),
            of(5, 3, prints(Print::picture(PICTURE))),
            of(6, 4, prints(Print::picture(PICTURE ^ 3))),
            of(7, 5, prints(Print::picture(!PICTURE))),
        ])
        .unwrap();
    assert_eq!(to(&rig, 2, "versions").await, [3, 9], "beside it by name, elsewhere by likeness");
    assert_eq!(to(&rig, 9, "versions").await, [2, 10]);
    assert_eq!(to(&rig, 3, "versions").await, [2]);
    assert_eq!(to(&rig, 4, "versions").await, Vec::<u64>::new());
    assert_eq!(to(&rig, 5, "versions").await, [6]);
    assert_eq!(to(&rig, 7, "versions").await, Vec::<u64>::new());
}

#[tokio::test]
async fn files_on_one_matter_are_alike_by_keywords_that_few_have() {
    let names: Vec<String> = (0..40).map(|at| format!("f{at}.txt")).collect();
    let rig = Rig::new(flat(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(rig.find(Ino::ROOT, "@all").await.len(), 40);
    let mut said = vec![
        of(2, 2, words(&["erasure coding", "replication", "common", "width=10"])),
        of(3, 3, words(&["erasure coding", "replication", "common", "width=10"])),
        of(4, 4, words(&["erasure coding", "replication", "gardening", "roses", "soil"])),
        of(5, 5, words(&["erasure coding", "painting"])),
        of(6, 6, words(&["type=image", "erasure coding", "replication"])),
    ];
    said.extend((7..42).map(|at| of(at, at, words(&["common", "width=10"]))));
    rig.index.put_findings(&said).unwrap();
    let similar: Vec<(u64, bool)> = reasons(&rig, 2)
        .await
        .into_iter()
        .filter(|tie| tie.0 == "similar")
        .map(|tie| (tie.1, tie.3 == "keywords"))
        .collect();
    assert_eq!(
        similar,
        [(3, true), (4, true), (5, true)],
        "a word that all have in common is chance, and pictures have none"
    );
}

#[tokio::test]
async fn nothing_is_told_of_what_the_viewer_cannot_reach() {
    let mut truth = flat(&["a.txt", "b.txt"]);
    let closed = truth.dir(Ino::ROOT, "closed");
    let hidden = truth.file(closed, "a-v2.txt");
    let beside = truth.file(Ino::ROOT, "a-v3.txt");
    truth.change(hidden, |node| node.btime = Timestamp { secs: -5, nanos: 0 });
    truth.change(closed, |node| node.mode = 0o700);
    let rig = Rig::new(truth);
    assert_eq!((rig.find(Ino::ROOT, "@all").await.len(), hidden.get(), beside.get()), (4, 5, 6));
    let text =
        |salt| Finding { marks: words(&["one", "two", "three"]).marks, ..prints(Print::text(&signature(salt, 7))) };
    let mut links = of(3, 3, pointers(&["closed/../a.txt", "closed/a-v2.txt"]));
    links.found[0].marks = words(&["one", "two"]).marks;
    rig.index
        .put_findings(&[
            of(2, 1, Finding { pointers: pointers(&["closed/a-v2.txt"]).pointers, ..text(0) }),
            of(5, 1, Finding { pointers: pointers(&["../b.txt"]).pointers, ..text(0) }),
            of(6, 4, text(3)),
            links,
        ])
        .unwrap();
    for relation in ["same-content", "sources", "links-to", "linked-from", "similar", "versions", "related"] {
        let all = to(&rig, 2, relation).await;
        let seen = to_as(&rig, user(11, &[]), 2, relation).await;
        assert!(!seen.contains(&hidden.get()), "{relation}");
        let reachable: Vec<u64> = all.into_iter().filter(|number| *number != hidden.get()).collect();
        assert!(seen.iter().all(|number| reachable.contains(number)), "{relation}: {seen:?}");
    }
    assert_eq!(to(&rig, 2, "sources").await, [5], "root sees where it came from");
    assert_eq!(to(&rig, 3, "links-to").await, [2, 5]);
    assert_eq!(
        to_as(&rig, user(11, &[]), 3, "links-to").await,
        Vec::<u64>::new(),
        "the way leads through a closed directory"
    );
    match rig.ask_as(user(11, &[]), GraphRequest::Related { ino: ino(2), limit: 100 }).await {
        GraphAnswer::Related(list) => assert!(!list.is_empty() && list.iter().all(|tie| tie.ino != hidden), "{list:?}"),
        other => panic!("{other:?}"),
    }
}
