//! How fast it is: printed, and held to a bound that only a change of kind would pass.

use std::time::{Duration, Instant};

use dgfs_index::neo4j::model::{Relation, RelationKind, Source, TagEdge, TagValue, Vertex};

use crate::following::{Memory, Running, config};
use crate::server::graph;
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
