//! Like contents are tied: when their fingerprints come, after a rebuild, never too many, and not beyond their files.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use serde_json::{Value, json};

use dgfs_index::likeness::Print;
use dgfs_index::neo4j::alike::ALIKE_MAX;
use dgfs_index::neo4j::link::{Link, Statement};
use dgfs_index::service::Extension;
use dgfs_index::store::{Finding, Findings, Hints};
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::Ino;

use crate::both::Both;
use crate::rig::Rig;
use crate::server::{Graph, graph, shared};
use crate::truth::{Truth, ino, name};
use crate::writing::ask;

/// A hash with as many ones as zeros, as pictures have.
const PICTURE: u64 = 0x5a3c_96f0_0f69_c3a5;

/// What taggers say of an inode, each with a content of its own.
pub(crate) fn of(number: u64, prints: Vec<Print>) -> Findings {
    let found = Finding { tagger: "test".to_owned(), version: 1, prints, ..Finding::default() };
    Findings {
        ino: ino(number),
        data_version: 0,
        content: content(number),
        hints: Hints::default(),
        found: vec![found],
        edges: Vec::new(),
    }
}

fn content(number: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    // Hashes of different beginnings, as real ones.
    hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    hash
}

fn hex(number: u64) -> String {
    content(number).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A text of a group: 60 of 64 places are those of the group, so that two of one have 56 in common and two of two none.
pub(crate) fn text(group: u32, member: u32) -> Print {
    let at = |place: u32| {
        let own = place / 4 == member % 16;
        group.wrapping_mul(100_003) + place * 1_000 + if own { member + 1 } else { 0 }
    };
    Print::text(&(0..64).map(at).collect::<Vec<u32>>()).unwrap()
}

fn volume(files: u64) -> Truth {
    let mut truth = Truth::new();
    for number in 0..files {
        truth.file(Ino::ROOT, &format!("f{}", number + 2));
    }
    truth
}

/// An empty graph, followed.
async fn start(files: u64) -> (Graph, Both) {
    let graph = graph().await;
    let both = Both::start(Rig::new(volume(files)), shared());
    both.caught_up("the files are there").await;
    (graph, both)
}

/// Edges by fingerprints: less, greater, source, score.
async fn edges(link: &Link) -> Vec<Value> {
    let text =
        "MATCH (a:Content)-[s:SIMILAR_TO]->(b:Content) RETURN [a.hash, b.hash, s.src, s.score] AS row ORDER BY row";
    ask(link, text).await
}

fn edge(one: u64, other: u64, source: &str, score: f64) -> Value {
    let (one, other) = (hex(one), hex(other));
    if one < other { json!([one, other, source, score]) } else { json!([other, one, source, score]) }
}

async fn differences(both: &Both) -> Vec<String> {
    match both.neo4j.answer(Viewer::root(), GraphRequest::Check).await {
        GraphAnswer::Text(text) => text.lines().map(str::to_owned).collect(),
        other => panic!("{other:?}"),
    }
}

async fn plant(link: &Link, text: &str) {
    link.run_alone(&Statement::new(text), 120_000).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn like_contents_are_tied_when_their_fingerprints_come_and_untied_with_their_files() {
    let (graph, both) = start(5).await;
    let picture = |bits| Print::picture(PICTURE ^ bits).unwrap();
    both.rig.index.put_findings(&[of(2, vec![picture(0)]), of(3, vec![picture(0b11)]), of(4, vec![])]).unwrap();
    both.caught_up("two are alike").await;
    let first = edge(2, 3, "picture", 0.938);
    assert_eq!(edges(&graph.link).await, std::slice::from_ref(&first));
    // The file was written long before; a text and a picture in one are two edges.
    both.rig.index.put_findings(&[of(5, vec![picture(0b1), text(1, 1)]), of(6, vec![text(1, 2)])]).unwrap();
    both.caught_up("more are").await;
    let mut all = vec![first, edge(2, 5, "picture", 0.969), edge(3, 5, "picture", 0.969), edge(5, 6, "text", 0.875)];
    all.sort_by_key(Value::to_string);
    assert_eq!(edges(&graph.link).await, all);
    both.check("with edges").await;

    let generation = both.rig.index.generation() + 1;
    assert_eq!(both.rig.ask(GraphRequest::Rebuild).await, GraphAnswer::Done);
    both.rig.built(generation).await;
    both.caught_up("rebuilt").await;
    assert_eq!(edges(&graph.link).await, all);
    both.check("rebuilt").await;

    // One file goes, one loses its name and stays open, one is read anew and is another picture.
    both.rig.meta.change(|truth| {
        truth.unlink(Ino::ROOT, &name("f5"), false);
        truth.unlink(Ino::ROOT, &name("f6"), true);
    });
    let other = Findings { content: content(99), ..of(3, vec![picture(u64::MAX)]) };
    // The guard must not live as long as the wait: the service needs the truth.
    let head = both.rig.meta.truth.lock().head();
    both.rig.index.wait_for(head).await;
    both.rig.index.put_findings(&[other]).unwrap();
    both.caught_up("they are gone").await;
    assert_eq!(edges(&graph.link).await, Vec::<Value>::new());
    let mut left = vec![json!(hex(2)), json!(hex(4)), json!(hex(99))];
    left.sort_by_key(Value::to_string);
    assert_eq!(ask(&graph.link, "MATCH (c:Content) RETURN c.hash AS row ORDER BY row").await, left);
    both.check("gone").await;
    drop(both.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_content_is_tied_to_more_than_twenty_and_who_loses_one_finds_another() {
    let (graph, both) = start(60).await;
    let all: Vec<Findings> = (0..50).map(|at| of(u64::from(at) + 2, vec![text(1, at)])).collect();
    // As they would come: some at once, some one by one.
    both.rig.index.put_findings(&all[..30]).unwrap();
    both.caught_up("the first").await;
    for one in &all[30..] {
        both.rig.index.put_findings(std::slice::from_ref(one)).unwrap();
    }
    both.caught_up("all of them").await;
    let degrees = "MATCH (c:Content)-[s:SIMILAR_TO]-() WITH c, count(s) AS degree RETURN degree AS row ORDER BY row";
    let count = |rows: &[Value]| rows.iter().map(|row| row.as_u64().unwrap()).collect::<Vec<u64>>();
    let before = count(&ask(&graph.link, degrees).await);
    assert_eq!(before.len(), 50);
    assert_eq!(before.iter().max(), Some(&(ALIKE_MAX as u64)), "{before:?}");
    let full = |degrees: &[u64]| degrees.iter().filter(|degree| **degree == ALIKE_MAX as u64).count();
    assert!(full(&before) > 40, "{before:?}");
    both.check("a crowd").await;
    // Who was tied to the ten that go is tied to others.
    both.rig
        .meta
        .change(|truth| (2..12).for_each(|number| truth.unlink(Ino::ROOT, &name(&format!("f{number}")), false)));
    both.caught_up("ten are gone").await;
    let after = count(&ask(&graph.link, degrees).await);
    assert_eq!((after.len(), after.iter().max()), (40, Some(&(ALIKE_MAX as u64))), "{after:?}");
    assert!(full(&after) > 30, "{after:?}");
    both.check("a smaller crowd").await;
    drop(both.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_ties_of_contents_and_of_tags_that_were_changed_by_hand() {
    let (graph, both) = start(4).await;
    both.rig.meta.change(|truth| {
        truth.tag(ino(2), &["place:cn", "beach"]);
        truth.change_tag("beach", |facts| facts.aliases = vec![crate::truth::tag("strand")]);
        truth.tag(ino(3), &["holiday"]);
        let implied = truth.tag_id("holiday").0;
        truth.change_tag("beach", |facts| facts.implies = vec![implied]);
    });
    both.rig.index.put_findings(&[of(2, vec![text(1, 0)]), of(3, vec![text(1, 1)]), of(4, vec![text(1, 2)])]).unwrap();
    both.caught_up("all is there").await;
    both.check("nothing was changed").await;
    let pair =
        |one: u64, other: u64| if hex(one) < hex(other) { (hex(one), hex(other)) } else { (hex(other), hex(one)) };
    let (less, greater) = pair(2, 3);
    plant(&graph.link, &format!("MATCH (:Content {{hash: '{less}'}})-[s:SIMILAR_TO]-({{hash: '{greater}'}}) DELETE s"))
        .await;
    plant(&graph.link, "MATCH (:Tag {key: 'strand'})-[x:ALIAS_OF]->() DELETE x").await;
    plant(&graph.link, "MATCH (:Tag {key: 'beach'})-[x:IMPLIES]->() DELETE x").await;
    plant(&graph.link, "MATCH (:Tag {key: 'place:cn'})-[x:WITHIN]->() DELETE x").await;
    plant(&graph.link, "MATCH (a:Tag {key: 'holiday'}), (b:Tag {key: 'place'}) CREATE (a)-[:IMPLIES]->(b)").await;
    let found = differences(&both).await;
    assert_eq!(
        found[..5],
        [
            format!("content {less}: the edge SIMILAR_TO to {greater:?} (source \"text\", score 0.875) is missing"),
            "tag \"beach\": the edge IMPLIES to \"holiday\" is missing".to_owned(),
            "tag \"holiday\": the edge IMPLIES to \"place\" should not be there".to_owned(),
            "tag \"place:cn\": the edge WITHIN to \"place\" is missing".to_owned(),
            "tag \"strand\": the edge ALIAS_OF to \"beach\" is missing".to_owned(),
        ]
    );
    assert!(found[5].ends_with("compared with Neo4j, 5 differences"), "{found:?}");
    // What is not alike, what is alike otherwise, and what no file has.
    let (low, high) = pair(2, 4);
    plant(
        &graph.link,
        &format!("MATCH (:Content {{hash: '{low}'}})-[s:SIMILAR_TO]-({{hash: '{high}'}}) SET s.score = 0.1"),
    )
    .await;
    plant(&graph.link, &format!("MATCH (a:Content {{hash: '{}'}}) CREATE (a)-[:SIMILAR_TO {{src: 'picture', score: 0.7}}]->(:Content {{hash: 'ff'}})", hex(3))).await;
    let found = differences(&both).await.join("\n");
    for sentence in [
        "content ff: no file has it".to_owned(),
        format!("to {high:?} (source \"text\", score 0.1) should not be there"),
    ] {
        assert!(found.contains(&sentence), "{sentence}: {found}");
    }
    // A rebuild puts all of it right.
    let generation = both.rig.index.generation() + 1;
    assert_eq!(both.rig.ask(GraphRequest::Rebuild).await, GraphAnswer::Done);
    both.rig.built(generation).await;
    both.caught_up("rebuilt").await;
    both.check("rebuilt").await;
    drop(both.stop().await);
}
