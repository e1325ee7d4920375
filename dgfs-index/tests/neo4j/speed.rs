//! How fast it is: printed, and held to a bound that only a change of kind would pass.

use std::time::{Duration, Instant};

use dgfs_index::neo4j::model::{Relation, RelationKind, Source, TagEdge, TagValue, Vertex};

use dgfs_index::store::Findings;
use dgfs_proto::ids::Ino;

use crate::both::Both;
use crate::following::{Memory, Running, config};
use crate::rig::Rig;
use crate::server::{graph, shared};
use crate::truth::Truth;
use crate::tying::{of, text};
use crate::writing::{file, root, tagged};

/// A file as a tagger leaves it: four tags, one with a value, a content and a relation.
fn typical(ino: u64) -> Vertex {
    let year = TagEdge { value: Some(TagValue::Number((2000 + ino % 25) as f64)), ..tagged("year") };
    let mut tags: Vec<TagEdge> = [ino % 7, 100 + ino % 91, 1_000 + ino % 977].map(|n| tagged(&format!("t{n}"))).into();
    tags.push(year);
    let similar =
        Relation { kind: RelationKind::SimilarTo, to: ino / 2, source: Source::Tagger("phash".to_owned()), score: 0.9 };
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&ino.to_le_bytes());
    Vertex {
        size: ino,
        mtime: 1_700_000_000_000_000 + ino as i64,
        ext: Some("jpg".to_owned()),
        mime: Some("image/jpeg".to_owned()),
        class: Some("image".to_owned()),
        hash: Some(hash),
        relations: vec![similar],
        tags,
        ..file(ino, &format!("picture {ino}.jpg"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_changes_are_caught_up_in_seconds() {
    let graph = graph().await;
    let memory = Memory::new();
    memory.put(root());
    (2..10_002).for_each(|ino| memory.put(typical(ino)));
    let began = Instant::now();
    let running = Running::start(config(&graph.config), &memory);
    running.until("caught up", |status| status.written == memory.stamp()).await;
    let took = began.elapsed();
    println!("10,000 new vertices: {took:.2?}, {:.0}/s", 10_000.0 / took.as_secs_f64());

    let began = Instant::now();
    for ino in 2..10_002 {
        memory.put(Vertex { tags: vec![tagged("t1"), tagged("t5")], ..typical(ino) });
    }
    running.until("caught up", |status| status.written == memory.stamp()).await;
    let took = began.elapsed();
    println!("10,000 changes: caught up after {took:.2?}");
    assert!(took < Duration::from_secs(180), "{took:?}");
    running.stop().await;
}

/// Files of the collection, and how many of them are alike.
const FILES: u64 = 1_000;
const GROUP: u64 = 40;

/// Follows a collection of texts into an empty graph; `alike`: with fingerprints. Returns until when all vertices were there, until
/// when all edges were, and how many contents were looked up.
async fn follow_texts(alike: bool) -> (Duration, Duration, u64) {
    let _graph = graph().await;
    let mut truth = Truth::new();
    for number in 0..FILES {
        truth.file(Ino::ROOT, &format!("f{number}"));
    }
    let rig = Rig::new(truth);
    let head = rig.meta.truth.lock().head();
    rig.index.wait_for(head).await;
    let prints = |at: u64| if alike { vec![text((at / GROUP) as u32, (at % GROUP) as u32)] } else { Vec::new() };
    let findings: Vec<Findings> = (0..FILES).map(|at| of(at + 2, prints(at))).collect();
    for page in findings.chunks(500) {
        assert!(rig.index.put_findings(page).is_ok(), "findings are kept");
    }
    let began = Instant::now();
    let both = Both::start(rig, shared());
    both.until("the vertices are there", |status, stamp| status.written == stamp).await;
    let written = began.elapsed();
    both.caught_up("the edges are there").await;
    let (likened, lookups) = (began.elapsed(), both.neo4j.status().read().lookups);
    drop(both.stop().await);
    (written, likened, lookups)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_in_which_all_are_alike_takes_a_bounded_number_of_look_ups() {
    // The first is slower: the server warms up.
    follow_texts(true).await;
    for _ in 0..2 {
        let (plain, _, none) = follow_texts(false).await;
        let (written, likened, lookups) = follow_texts(true).await;
        let rate = |took: Duration| FILES as f64 / took.as_secs_f64();
        println!(
            "{FILES} files, {GROUP} alike each: {:.0}/s without fingerprints; with: {:.0}/s vertices, {:.0}/s with \
             edges, {lookups} look-ups",
            rate(plain),
            rate(written),
            rate(likened)
        );
        assert_eq!(none, 0, "what has no fingerprint is not looked up");
        assert!((FILES..FILES * 3).contains(&lookups), "{lookups} look-ups");
    }
}
