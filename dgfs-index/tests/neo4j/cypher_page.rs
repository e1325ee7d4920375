//! The examples of `docs/CYPHER.md`: each is run, and each finds something.

use std::path::Path;

use serde_json::{Map, Value, json};

use dgfs_index::neo4j::alike::Alike;
use dgfs_index::neo4j::liken::{self, State};
use dgfs_index::neo4j::model::{Batch, Kind, Relation, RelationKind, Source, Tag, TagEdge, TagValue, Vertex};
use dgfs_index::neo4j::raw::{RawLimits, query};
use dgfs_index::neo4j::write::Writer;

use crate::server::{VOLUME, graph};
use crate::writing::{batch, file, name_in, root, tag, tagged, written};

/// A graph in which every example has an answer.
fn vertices() -> Vec<Vertex> {
    let relation = |kind, to| Relation { kind, to, source: Source::Tagger("links".to_owned()), score: 0.9 };
    let year = TagEdge { value: Some(TagValue::Number(2023.0)), ..tagged("year") };
    let guess = TagEdge { source: Source::Tagger("image".to_owned()), confidence: 0.4, ..tagged("cat") };
    let photo = |ino, name: &str| Vertex {
        names: vec![name_in(2, name)],
        size: 5_000_000,
        ext: Some("jpg".to_owned()),
        mime: Some("image/jpeg".to_owned()),
        class: Some("image".to_owned()),
        taken: Some(1_688_000_000_000_000),
        mtime: 1_700_000_000_000_000,
        hash: Some([7; 32]),
        prints: Some(7),
        place: Some("Hefei".to_owned()),
        authors: vec!["Ada".to_owned()],
        tags: vec![tagged("beach"), tagged("summer"), tagged("place:cn:hefei"), year.clone(), guess.clone()],
        ..Vertex::new(ino, Kind::File)
    };
    let mut report = file(6, "report.txt");
    report.relations = vec![relation(RelationKind::LinksTo, 4), relation(RelationKind::VersionOf, 7)];
    report.vetoes = vec!["cat".to_owned()];
    report.urls = vec!["https://example.org/report".to_owned()];
    let mut second = photo(5, "IMG_2.jpg");
    second.relations = vec![relation(RelationKind::SimilarTo, 4), relation(RelationKind::DerivedFrom, 4)];
    second.names.push(name_in(1, "copy.jpg"));
    second.nlink = 2;
    let dir = |ino, parent, name| Vertex { names: vec![name_in(parent, name)], ..Vertex::new(ino, Kind::Dir) };
    let scan = Vertex { hash: Some([8; 32]), prints: Some(8), ..file(9, "scan.jpg") };
    let draft = Vertex { relations: vec![relation(RelationKind::VersionOf, 8)], ..file(7, "draft.txt") };
    vec![
        root(),
        dir(2, 3, "China"),
        dir(3, 1, "Photos"),
        photo(4, "IMG_1.jpg"),
        second,
        report,
        draft,
        file(8, "notes.txt"),
        scan,
    ]
}

fn tags() -> Vec<Tag> {
    let parents = vec!["place:cn".to_owned(), "place".to_owned()];
    vec![
        Tag { parents, ..tag("place:cn:hefei") },
        Tag { parents: vec!["place".to_owned()], ..tag("place:cn") },
        tag("place"),
        Tag { implies: vec!["holiday".to_owned()], ..tag("beach") },
        tag("holiday"),
        tag("unused"),
        tag("cat"),
    ]
}

/// What stands between "```cypher" and "```".
fn blocks(page: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut block: Option<String> = None;
    for line in page.lines() {
        match (&mut block, line) {
            (None, "```cypher") => block = Some(String::new()),
            (Some(_), "```") => all.extend(block.take()),
            (Some(text), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    all
}

#[tokio::test]
async fn every_example_runs_as_a_query_of_a_user_and_finds_something() {
    let graph = graph().await;
    let (writer, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    written(&writer, &Batch { tags: tags(), ..batch(0, 1, vertices()) }).await;
    let due = liken::due(&graph.link).await.expect("contents that are due");
    let other = |state: &State| if state.content.starts_with("07") { "08" } else { "07" };
    let like = |state| Alike { other: other(state).repeat(32), source: "picture".to_owned(), permille: 900 };
    let alike: Vec<Vec<Alike>> = due.iter().map(|state| vec![like(state)]).collect();
    liken::settle(&writer, &due, &alike).await.expect("tie what is alike");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CYPHER.md");
    let page = std::fs::read_to_string(page).expect("read docs/CYPHER.md");
    let blocks = blocks(&page);
    assert!(blocks.len() >= 15, "{} examples", blocks.len());
    let params: Map<String, Value> = [("id", json!(4)), ("tag", json!("beach")), ("name", json!("IMG_1.jpg"))]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    for block in &blocks {
        let answer = query(&graph.link, block, params.clone(), RawLimits::default()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{block}{error}"));
        assert!(!answer.rows.is_empty(), "finds nothing:\n{block}");
        let empty = |value: &Value| *value == json!(0) || *value == json!([]) || value.is_null();
        assert!(!answer.rows.iter().all(|row| row.values().all(empty)), "finds nothing but zeros:\n{block}");
    }
}
