//! A check finds what was planted, and a rebuild with its sweep mends it.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;

use serde_json::json;

use dgfs_index::neo4j::check::{CheckError, check, check_some};
use dgfs_index::neo4j::link::Statement;
use dgfs_index::neo4j::model::{Batch, Relation, RelationKind, Source, Vertex};
use dgfs_index::neo4j::sweep::sweep;
use dgfs_index::neo4j::write::Writer;

use crate::server::{Graph, VOLUME, graph};
use crate::writing::{ask, assert_is, batch, file, root, tag, tagged, written};

/// Two thousand files, so that a check takes several pages.
fn files() -> Vec<Vertex> {
    let mut all = vec![root()];
    for ino in 2..2_002 {
        let linked = Relation { kind: RelationKind::LinksTo, to: ino / 2, source: Source::User, score: 1.0 };
        all.push(Vertex { tags: vec![tagged("all")], relations: vec![linked], ..file(ino, &format!("f{ino}")) });
    }
    all
}

async fn plant(graph: &Graph, text: &str) {
    graph.link.run_alone(&Statement::new(text), 120_000).await.unwrap();
}

#[tokio::test]
async fn a_check_finds_each_planted_difference_and_nothing_else() {
    let graph = graph().await;
    let (writer, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    let files = files();
    written(&writer, &batch(0, 1, files.clone())).await;
    assert_is(&graph.link, &files).await;

    plant(&graph, "MATCH (f:File {id: 700}) SET f.size = 7").await;
    plant(&graph, "MATCH (f:File {id: 800})-[x:TAGGED]->() DELETE x").await;
    plant(&graph, "MATCH (f:File {id: 900})<-[c:CONTAINS]-() SET c.name = 'other'").await;
    plant(&graph, "MATCH (f:File {id: 1000}) DETACH DELETE f").await;
    plant(&graph, "CREATE (:Inode:File {id: 5000})").await;
    plant(&graph, "MATCH (f:File {id: 1100}), (g:File {id: 1101}) CREATE (f)-[:VERSION_OF {src: 'user'}]->(g)").await;
    plant(&graph, "MATCH (f:File {id: 1200})-[x:LINKS_TO]->() SET x.score = 0.5").await;
    plant(&graph, "MATCH (f:File {id: 1300}) REMOVE f:File SET f:Dir").await;

    let report = check(&graph.link, files.iter().cloned(), 100).await.unwrap();
    assert_eq!(
        report.differences,
        [
            "inode 700: its size is 7 instead of 0",
            "inode 800: the edge TAGGED to \"all\" (source \"user\", value \"\") is missing",
            "inode 900: its name \"f900\" in directory 1 is missing",
            "inode 900: it has a name \"other\" in directory 1 that it should not have",
            "inode 1000 is missing in Neo4j",
            "inode 1100: the edge VERSION_OF to \"1101\" (source \"user\", value \"\") should not be there",
            "inode 1200: the edge LINKS_TO to \"600\" (source \"user\", value \"\") has weight Some(0.5) instead of Some(1.0)",
            "inode 1300: its labels are {\"Dir\", \"Inode\"} instead of {\"File\", \"Inode\"}",
            // Its edge went with inode 1000.
            "inode 2000: the edge LINKS_TO to \"1000\" (source \"user\", value \"\") is missing",
            "inode 2001: the edge LINKS_TO to \"1000\" (source \"user\", value \"\") is missing",
            "inode 5000 is in Neo4j but not in the index",
        ]
    );
    let suspects = BTreeSet::from([700, 800, 900, 1_000, 1_100, 1_200, 1_300, 2_000, 2_001, 5_000]);
    assert_eq!(report.suspects, suspects);
    plant(&graph, "MATCH (f:File {id: 700}) SET f.size = 0").await;
    let of_suspects = files.iter().filter(|file| suspects.contains(&file.ino)).cloned();
    let again = check_some(&graph.link, &suspects, of_suspects, 100).await.unwrap();
    assert_eq!((again.differences.len(), again.compared), (10, 8), "{again:?}");
    plant(&graph, "MATCH (f:File {id: 700}) SET f.size = 7").await;
    let bounded = check(&graph.link, files.iter().cloned(), 3).await.unwrap();
    assert_eq!((bounded.differences.len(), bounded.more), (3, 8));
    let backwards = check(&graph.link, files.iter().rev().cloned(), 3).await;
    assert!(matches!(backwards, Err(CheckError::Order { first: 2001, then: 2000 })), "{backwards:?}");
}

#[tokio::test]
async fn a_rebuild_removes_strays_and_keeps_what_is_right() {
    let graph = graph().await;
    let (writer, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    let mut old = files();
    old[5].authors = vec!["Gone".to_owned()];
    old[5].hash = Some([1; 32]);
    old[5].place = Some("Nowhere".to_owned());
    old[5].urls = vec!["gone".to_owned()];
    old[5].tags.push(tagged("gone"));
    old.extend((9_000..12_000).map(|ino| file(ino, &format!("stray{ino}"))));
    let tags = vec![tag("all"), tag("gone"), tag("unused")];
    written(&writer, &Batch { tags, ..batch(0, 1, old) }).await;
    plant(&graph, "MATCH (f:File {id: 700}) SET f.size = 7").await;

    let (writer, _) = Writer::claim(&graph.link, VOLUME, 2).await.unwrap();
    writer.restart("a line").await.unwrap();
    let files = files();
    let (first, second) = files.split_at(1_000);
    let part = |vertices: &[Vertex]| Batch { epoch: 2, tags: vec![tag("all")], ..batch(0, 9, vertices.to_vec()) };
    written(&writer, &Batch { last: false, ..part(first) }).await;
    // Whoever takes over in the middle knows that a sweep is due, and that it begins at stamp 0.
    let (writer, applied) = Writer::claim(writer.link(), VOLUME, 2).await.unwrap();
    assert_eq!((applied.stamp, applied.sweep), (0, Some(2)));
    written(&writer, &Batch { last: false, ..part(first) }).await;
    written(&writer, &part(second)).await;
    // A later writer ends it, and must not take what the rebuild's epoch marked for strays.
    let (writer, applied) = Writer::claim(writer.link(), VOLUME, 3).await.unwrap();
    assert_eq!((applied.stamp, applied.sweep), (9, Some(2)));
    let gone = sweep(&writer, 2).await.unwrap();
    assert_eq!(gone.nodes_gone, 3_000 + 6, "strays, two tags, and what only inode 6 pointed to");
    assert_is(&graph.link, &files).await;
    let left = "MATCH (n) WHERE n:Tag OR n:Person OR n:Place OR n:Source OR n:Content RETURN n.key AS row";
    assert_eq!(ask(&graph.link, left).await, [json!("all")]);
    let (_, applied) = Writer::claim(writer.link(), VOLUME, 3).await.unwrap();
    assert_eq!((applied.stamp, applied.sweep), (9, None));
    assert_eq!(sweep(&writer, 2).await.unwrap().nodes_gone, 0);
}
