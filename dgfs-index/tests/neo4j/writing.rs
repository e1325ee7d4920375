//! Batches: exactly once, in order, by one writer, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use serde_json::{Value, json};

use dgfs_index::neo4j::check::check;
use dgfs_index::neo4j::link::{Link, Statement, Touched};
use dgfs_index::neo4j::model::{Batch, Kind, Name, Relation, RelationKind, Source, Tag, TagEdge, TagValue, Vertex};
use dgfs_index::neo4j::schema;
use dgfs_index::neo4j::write::{Outcome, WriteError, Writer, known_tags};

use crate::server::{VOLUME, graph};

/// A file named `name` in directory 1.
pub(crate) fn file(ino: u64, name: &str) -> Vertex {
    Vertex { names: vec![name_in(1, name)], ..Vertex::new(ino, Kind::File) }
}

/// The root directory, which has no name.
pub(crate) fn root() -> Vertex {
    Vertex::new(1, Kind::Dir)
}

/// A name.
pub(crate) fn name_in(parent: u64, name: &str) -> Name {
    Name { parent, name: name.to_owned(), raw: None }
}

/// A tag that a person put there.
pub(crate) fn tagged(key: &str) -> TagEdge {
    TagEdge { key: key.to_owned(), name: key.to_owned(), source: Source::User, confidence: 1.0, value: None }
}

/// A tag without any relation to others.
pub(crate) fn tag(key: &str) -> Tag {
    Tag {
        key: key.to_owned(),
        id: None,
        name: key.to_owned(),
        parents: Vec::new(),
        implies: Vec::new(),
        alias_of: None,
    }
}

/// The only part of a change from `prev` to `next`.
pub(crate) fn batch(prev: u64, next: u64, vertices: Vec<Vertex>) -> Batch {
    Batch { prev, next, seq: next * 10, epoch: 1, vertices, last: true, ..Batch::default() }
}

/// The column `row` of all rows.
pub(crate) async fn ask(link: &Link, text: &str) -> Vec<Value> {
    link.column(&Statement::new(text), 1_000_000).await.unwrap()
}

/// Writes `batch` and tells what changed.
pub(crate) async fn written(writer: &Writer<'_>, batch: &Batch) -> Touched {
    match writer.apply(batch).await.unwrap() {
        Outcome::Written(touched) => touched,
        Outcome::Known => panic!("the batch from {} was known", batch.prev),
    }
}

/// Fails with every difference unless the graph is `expected`.
pub(crate) async fn assert_is(link: &Link, expected: &[Vertex]) {
    let report = check(link, expected.iter().cloned(), 20).await.unwrap();
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.compared, expected.len() as u64);
}

/// A vertex with everything that a vertex can have.
fn rich(ino: u64) -> Vertex {
    let number = TagEdge { value: Some(TagValue::Number(2024.5)), ..tagged("year") };
    let text = TagEdge {
        value: Some(TagValue::Text("Ada".to_owned())),
        source: Source::Tagger("exif".to_owned()),
        confidence: 0.5,
        ..tagged("by")
    };
    let related = [
        RelationKind::LinksTo,
        RelationKind::DerivedFrom,
        RelationKind::VersionOf,
        RelationKind::SimilarTo,
        RelationKind::RelatedTo,
    ];
    Vertex {
        size: 10,
        mtime: -5,
        btime: 6,
        ctime: 7,
        uid: 8,
        gid: 9,
        mode: 0o644,
        names: vec![name_in(1, "one"), name_in(1, "two")],
        ext: Some("jpg".to_owned()),
        mime: Some("image/jpeg".to_owned()),
        lang: Some("en".to_owned()),
        class: Some("image".to_owned()),
        taken: Some(11),
        title: Some("A title".to_owned()),
        hash: Some([7; 32]),
        tags: vec![tagged("sea"), number, text],
        vetoes: vec!["cat".to_owned()],
        relations: related.map(|kind| Relation { kind, to: 1, source: Source::User, score: 0.25 }).to_vec(),
        authors: vec!["Ada".to_owned(), "Bob".to_owned()],
        urls: vec!["https://example.org/1".to_owned(), "1".to_owned()],
        place: Some("Hefei".to_owned()),
        ..Vertex::new(ino, Kind::File)
    }
}

#[tokio::test]
async fn the_schema_is_made_once_and_found_the_second_time() {
    let graph = graph().await;
    assert_eq!(schema::missing(&graph.link).await.unwrap(), Vec::<String>::new());
    graph.link.run_alone(&Statement::new("DROP INDEX dgfs_file_ext"), 120_000).await.unwrap();
    assert_eq!(schema::missing(&graph.link).await.unwrap(), ["dgfs_file_ext"]);
    schema::ensure(&graph.link).await.unwrap();
    schema::ensure(&graph.link).await.unwrap();
    assert_eq!(schema::missing(&graph.link).await.unwrap(), Vec::<String>::new());
    println!("{}", schema::server_version(&graph.link).await.unwrap());
}

#[tokio::test]
async fn a_batch_written_twice_counts_once() {
    let graph = graph().await;
    let (writer, applied) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    assert_eq!((applied.stamp, applied.epoch, applied.sweep), (0, 1, None));
    let vertices = vec![root(), rich(2), file(3, "three")];
    let first = batch(0, 7, vertices.clone());
    written(&writer, &first).await;
    assert_is(&graph.link, &vertices).await;
    assert_eq!(writer.apply(&first).await.unwrap(), Outcome::Known);
    // The same states under another seq change no node and no edge.
    let again = written(&writer, &batch(7, 8, vertices.clone())).await;
    assert_eq!(again, Touched::default());
    assert_is(&graph.link, &vertices).await;
    assert_eq!(
        ask(&graph.link, "MATCH (a:Applied) RETURN [a.stamp, a.seq, a.epoch, a.pending] AS row").await,
        [json!([8, 80, 1, null])]
    );
}

#[tokio::test]
async fn a_state_replaces_what_was_there() {
    let graph = graph().await;
    let (writer, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    written(&writer, &batch(0, 1, vec![root(), rich(2), file(3, "three")])).await;
    let bare = vec![root(), file(2, "bare")];
    let change = Batch { gone: vec![3], ..batch(1, 2, bare.clone()) };
    written(&writer, &change).await;
    assert_is(&graph.link, &bare).await;
    // An inode number that comes back as something else is that.
    let other = vec![root(), Vertex { names: vec![name_in(1, "link")], ..Vertex::new(2, Kind::Other) }];
    written(&writer, &batch(2, 3, other.clone())).await;
    assert_is(&graph.link, &other).await;
}

#[tokio::test]
async fn parts_move_the_seq_only_at_their_end_and_may_be_written_again() {
    let graph = graph().await;
    let (writer, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    // Children come before their directory.
    let first = Batch { last: false, ..batch(0, 5, (10..2_600).map(|ino| file(ino, &format!("f{ino}"))).collect()) };
    written(&writer, &first).await;
    let pending = "MATCH (a:Applied) RETURN [a.stamp, a.pending] AS row";
    assert_eq!(ask(&graph.link, pending).await, [json!([0, 5])]);
    written(&writer, &first).await;
    written(&writer, &batch(0, 5, vec![root()])).await;
    assert_eq!(ask(&graph.link, pending).await, [json!([5, null])]);
    assert_eq!(ask(&graph.link, "MATCH (:Dir)-[c:CONTAINS]->(:File) RETURN count(c) AS row").await, [json!(2_590)]);
    assert_eq!(ask(&graph.link, "MATCH (u:Unknown) RETURN count(u) AS row").await, [json!(0)]);
}

#[tokio::test]
async fn the_fence_refuses_a_gap_an_older_epoch_and_another_volume() {
    let graph = graph().await;
    let (old, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    let vertices = vec![root(), file(2, "two")];
    written(&old, &batch(0, 3, vertices.clone())).await;
    let gap = old.apply(&batch(4, 5, vec![file(3, "three")])).await;
    assert!(matches!(gap, Err(WriteError::Gap { have: 3, prev: 4 })), "{gap:?}");

    let (new, applied) = Writer::claim(&graph.link, VOLUME, 2).await.unwrap();
    assert_eq!((applied.stamp, applied.epoch), (3, 2));
    let fenced = old.apply(&batch(3, 4, vec![file(3, "three")])).await;
    assert!(matches!(fenced, Err(WriteError::Fenced { ours: 1, theirs: 2 })), "{fenced:?}");
    let claimed = Writer::claim(&graph.link, VOLUME, 1).await.map(drop);
    assert!(matches!(claimed, Err(WriteError::Fenced { ours: 1, theirs: 2 })), "{claimed:?}");
    assert!(matches!(old.restart("other").await, Err(WriteError::Fenced { ours: 1, theirs: 2 })));
    let foreign = Writer::claim(&graph.link, "another", 9).await.map(drop);
    assert!(matches!(foreign, Err(WriteError::Foreign { .. })), "{foreign:?}");
    assert_is(&graph.link, &vertices).await;
    written(&new, &Batch { epoch: 2, ..batch(3, 4, Vec::new()) }).await;
}

#[tokio::test]
async fn of_writers_at_one_seq_one_writes() {
    let graph = graph().await;
    let second = Link::open(&graph.config).unwrap();
    let (one, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    let (two, _) = Writer::claim(&second, VOLUME, 1).await.unwrap();
    for seq in 0..20 {
        let mine = Batch { gone: vec![seq + 1_000], ..batch(seq, seq + 1, vec![file(seq + 10, "one")]) };
        let theirs = Batch { vertices: vec![file(seq + 10, "two")], ..mine.clone() };
        let (one, two) = tokio::join!(one.apply(&mine), two.apply(&theirs));
        let writers = [one.unwrap(), two.unwrap()].into_iter().filter(|outcome| *outcome != Outcome::Known).count();
        assert_eq!(writers, 1, "at seq {seq}");
    }
}

#[tokio::test]
async fn names_and_tags_arrive_as_they_are() {
    let graph = graph().await;
    let (writer, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    let hostile = [
        "' }) DETACH DELETE n //",
        "a b",
        "\"quoted\"",
        "back\\slash",
        "`tick`",
        "$rows",
        "{x: 1}",
        "\u{1F40B}鲸",
        "new\nline",
        "null",
        "\\u0041",
        "/* */",
        "%2F",
    ];
    let mut vertices = vec![root()];
    for (at, text) in hostile.iter().enumerate() {
        let raw = Name { raw: Some(vec![0xff, at as u8]), ..name_in(1, "\u{fffd}") };
        let vertex = Vertex {
            names: vec![name_in(1, text), raw],
            tags: vec![TagEdge {
                name: (*text).to_owned(),
                value: Some(TagValue::Text((*text).to_owned())),
                source: Source::Tagger((*text).to_owned()),
                ..tagged(text)
            }],
            authors: vec![(*text).to_owned()],
            title: Some((*text).to_owned()),
            ..file(at as u64 + 2, text)
        };
        vertices.push(vertex);
    }
    let tags = hostile.iter().map(|text| tag(text)).collect();
    written(&writer, &Batch { tags, ..batch(0, 1, vertices.clone()) }).await;
    assert_is(&graph.link, &vertices).await;
    let again = written(&writer, &batch(1, 2, vertices.clone())).await;
    assert_eq!(again, Touched::default());
    let keys = ask(&graph.link, "MATCH (t:Tag) RETURN t.key AS row").await;
    assert_eq!(keys.len(), hostile.len());
    assert!(hostile.iter().all(|text| keys.contains(&json!(text))));
}

#[tokio::test]
async fn renaming_a_directory_rewrites_one_edge() {
    let graph = graph().await;
    let (writer, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    let dir = |name: &str| Vertex {
        names: vec![name_in(1, name)],
        tags: vec![tagged("kept"), tagged("also")],
        ..Vertex::new(2, Kind::Dir)
    };
    let mut vertices = vec![root(), dir("before")];
    let inside = |ino| Vertex { names: vec![name_in(2, &format!("f{ino}"))], ..file(ino, "") };
    vertices.extend((3..503).map(inside));
    written(&writer, &batch(0, 1, vertices.clone())).await;
    let renamed = written(&writer, &batch(1, 2, vec![dir("after")])).await;
    assert_eq!(renamed, Touched { edges_made: 1, edges_gone: 1, ..Touched::default() });
    vertices[1] = dir("after");
    assert_is(&graph.link, &vertices).await;
}

#[tokio::test]
async fn a_tag_that_is_gone_stays_where_a_tagger_says_it_and_goes_where_nobody_does() {
    let graph = graph().await;
    let (writer, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    let said = TagEdge { source: Source::Tagger("image".to_owned()), ..tagged("sea") };
    let numbered = |key: &str, id| Tag { id: Some(id), implies: vec!["wet".to_owned()], ..tag(key) };
    let tags = vec![
        numbered("sea", 1),
        numbered("lake", 2),
        tag("wet"),
        Tag { alias_of: Some("sea".to_owned()), ..tag("ocean") },
    ];
    let with = |tags: Vec<TagEdge>| Vertex { tags, ..file(2, "f") };
    let before = vec![with(vec![tagged("sea"), tagged("lake"), said.clone()])];
    written(&writer, &Batch { tags, ..batch(0, 1, before) }).await;
    let known = known_tags(&graph.link).await.unwrap();
    let known: Vec<(&str, Option<u64>)> = known.iter().map(|tag| (tag.key.as_str(), tag.id)).collect();
    assert_eq!(known, [("lake", Some(2)), ("ocean", None), ("sea", Some(1))]);
    let gone_tags = ["sea", "lake", "ocean"].map(str::to_owned).to_vec();
    let after = vec![with(vec![said])];
    written(&writer, &Batch { gone_tags, ..batch(1, 2, after.clone()) }).await;
    assert_is(&graph.link, &after).await;
    let left = "MATCH (t:Tag) RETURN [t.key, t.id, COUNT { (t)-->() }] AS row ORDER BY row";
    assert_eq!(ask(&graph.link, left).await, [json!(["sea", null, 0]), json!(["wet", null, 0])]);
    assert_eq!(known_tags(&graph.link).await.unwrap(), []);
}
