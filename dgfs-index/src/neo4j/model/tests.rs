//! Batches that Neo4j could not store are refused with a sentence that says where.

use super::{
    BATCH_VERTICES_MAX, Batch, Kind, Relation, RelationKind, Source, TagEdge, TagValue, VERTEX_EDGES_MAX, Vertex,
};

fn why(batch: &Batch) -> String {
    batch.check().unwrap_err().why
}

fn with(vertex: Vertex) -> Batch {
    Batch { next: 1, vertices: vec![vertex], ..Batch::default() }
}

#[test]
fn numbers_beyond_a_signed_word_are_refused() {
    let beyond = u64::try_from(i64::MAX).unwrap() + 1;
    assert_eq!(with(Vertex::new(beyond - 1, Kind::File)).check(), Ok(()));
    assert!(why(&with(Vertex::new(beyond, Kind::File))).contains("inode 9223372036854775808 is beyond"));
    assert!(why(&Batch { next: beyond, ..Batch::default() }).contains("next"));
    assert!(why(&Batch { gone: vec![beyond], ..Batch::default() }).contains("gone"));
}

#[test]
fn scores_and_values_that_are_no_numbers_are_refused() {
    let mut vertex = Vertex::new(7, Kind::File);
    vertex.relations = vec![Relation { kind: RelationKind::LinksTo, to: 8, source: Source::User, score: f64::NAN }];
    assert!(why(&with(vertex)).contains("inode 7: the score of a relation to 8"));
    let mut vertex = Vertex::new(7, Kind::File);
    vertex.tags = vec![TagEdge {
        key: "year".to_owned(),
        name: "Year".to_owned(),
        source: Source::User,
        confidence: 1.0,
        value: Some(TagValue::Number(f64::INFINITY)),
    }];
    assert!(why(&with(vertex)).contains("inode 7: the tag `year`"));
}

#[test]
fn lists_have_bounds_and_seqs_go_forward() {
    let many = Batch { vertices: vec![Vertex::new(1, Kind::File); BATCH_VERTICES_MAX + 1], ..Batch::default() };
    assert!(why(&many).contains("10001 vertices"));
    let mut vertex = Vertex::new(7, Kind::File);
    vertex.authors = vec!["a".to_owned(); VERTEX_EDGES_MAX + 1];
    assert!(why(&with(vertex)).contains("4097 authors"));
    assert!(why(&Batch { prev: 2, next: 1, ..Batch::default() }).contains("backwards"));
}
