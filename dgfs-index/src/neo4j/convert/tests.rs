//! Vertices of the index as Neo4j has them.

use dgfs_proto::attr::{FileKind, Timestamp};
use dgfs_proto::graph::{GraphNode, NodeFacts};
use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;
use dgfs_proto::tag::Tag;

use super::vertex;
use crate::neo4j::catalogue::Catalogue;
use crate::neo4j::model::{Kind, Source, TagValue, VERTEX_EDGES_MAX};
use crate::step::Derived;
use crate::store::{EdgeRow, Examination, Finding, Vertex as Row};

fn ino(number: u64) -> Ino {
    Ino::new(number).unwrap()
}

fn row(kind: FileKind, names: &[&[u8]], words: &[&str]) -> Row {
    let at = Timestamp { secs: -1, nanos: 999_999_999 };
    let facts = NodeFacts {
        ino: ino(7),
        kind,
        mode: 0o644,
        uid: 1,
        gid: 2,
        nlink: 3,
        size: 4,
        mtime: at,
        ctime: at,
        btime: at,
        data_version: 0,
    };
    let node = GraphNode {
        facts,
        names: names.iter().map(|name| (Ino::ROOT, Name::new(name).unwrap())).collect(),
        xattrs: Vec::new(),
        tags: Vec::new(),
        vetoes: vec![Tag::parse("Cat").unwrap()],
        related: Vec::new(),
    };
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    Row { node, derived: Derived { words, ..Derived::default() }, edges: Vec::new() }
}

#[test]
fn words_become_properties_people_and_tags_with_who_says_so() {
    let row = row(
        FileKind::File,
        &[b"\xff.JPG", b"b"],
        &[
            "mime=Image/PNG",
            "type=image",
            "creator=Ann",
            "title=A B",
            "origin=https://x",
            "Sea",
            "rating=4",
            "width=10",
        ],
    );
    let finding = Finding {
        tagger: "image".to_owned(),
        marks: vec![(" sea ".to_owned(), 250), ("width=10".to_owned(), 1000)],
        ..Finding::default()
    };
    let examination = Examination { findings: vec![finding], ..Examination::default() };
    let vertex = vertex(&row, &examination, &Catalogue::default());
    assert_eq!((vertex.mime.as_deref(), vertex.class.as_deref()), (Some("image/png"), Some("image")));
    assert_eq!((vertex.title.as_deref(), vertex.ext.as_deref()), (Some("A B"), Some("jpg")));
    assert_eq!((vertex.authors, vertex.urls), (vec!["Ann".to_owned()], vec!["https://x".to_owned()]));
    assert_eq!((vertex.mtime, vertex.nlink, vertex.vetoes), (-1, 3, vec!["cat".to_owned()]));
    assert_eq!(vertex.names[0].raw.as_deref(), Some(&b"\xff.JPG"[..]));
    let said = |key: &str| vertex.tags.iter().find(|tag| tag.key == key).unwrap();
    assert_eq!((&said("sea").source, said("sea").confidence), (&Source::Tagger("image".to_owned()), 0.25));
    assert_eq!(said("rating").source, Source::Tagger("attributes".to_owned()));
    assert_eq!(said("rating").value, Some(TagValue::Number(4.0)));
    assert_eq!(said("creator").value, Some(TagValue::Text("Ann".to_owned())));
}

#[test]
fn what_is_no_file_says_what_it_is_and_lists_are_cut_at_the_weakest() {
    let mut row = row(FileKind::Symlink, &[b"link"], &[]);
    let edge = |to: u64, kind: &str| EdgeRow {
        from: ino(7),
        kind: kind.to_owned(),
        to: ino(to),
        source: "user".to_owned(),
        permille: u16::try_from(to % 1000).unwrap(),
    };
    row.edges = (1..10_000).map(|to| edge(to, "similar")).chain([edge(3, "of-tomorrow")]).collect();
    let vertex = vertex(&row, &Examination::default(), &Catalogue::default());
    assert_eq!((vertex.kind, vertex.class.as_deref()), (Kind::Other, Some("symlink")));
    assert_eq!(vertex.relations.len(), VERTEX_EDGES_MAX);
    assert!(vertex.relations.iter().all(|relation| relation.score >= 0.59 && relation.source == Source::User));
}
