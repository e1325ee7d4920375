//! One value of each kind of message about tags and the graph.

use dgfs_proto::attr::FileKind;
use dgfs_proto::graph::answer::{
    DuplicateSet, Examined, Facet, FailedTagger, Hit, IndexStatus, Mark, RelatedTo, Retagged, Told,
};
use dgfs_proto::graph::request::{Sought, TaggerCommand};
use dgfs_proto::graph::{
    Catalogue, GraphAnswer, GraphCall, GraphNode, GraphReply, GraphRequest, HandRelation, NodeFacts, TagFacts, Viewer,
};
use dgfs_proto::ids::{Ino, Seq, TagId};
use dgfs_proto::log::{Change, Event};
use dgfs_proto::meta::{Actor, AdminRequest, ConsumerStatus, MetaReply, Mutation, TagCommand, TagEdit};
use dgfs_proto::query::expr::parse_expr;
use dgfs_proto::query::{Context, DatePrefix, Key};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use crate::values::{attr, ino, name, numbered, time};

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn tag_id() -> TagId {
    TagId::new(1 << 40).unwrap()
}

fn tag_facts() -> TagFacts {
    TagFacts {
        name: tag("Place:cn"),
        aliases: vec![tag("ort:cn")],
        implies: vec![TagId::new(7).unwrap()],
        merged_into: Some(tag_id()),
        owner: 1000,
    }
}

/// What the graph keeps of an inode.
pub(crate) fn node_facts() -> NodeFacts {
    NodeFacts::from(&attr())
}

/// Changes that the graph is told of.
pub(crate) fn changes() -> Vec<Change> {
    vec![
        Change::KeptXattr { ino: ino(2), name: b"user.xdg.comment".to_vec(), value: Some(b"hi".to_vec()) },
        Change::Tagged {
            made: vec![(tag_id(), tag_facts())],
            tags: vec![(ino(2), vec![tag_id()])],
            vetoes: vec![(ino(2), vec![tag("cat")])],
        },
        Change::TagsChanged(vec![(tag_id(), None), (tag_id(), Some(tag_facts()))]),
        Change::Related { ino: ino(2), to: relations() },
        Change::Saved { name: "trips".to_owned(), expression: Some("beach".to_owned()) },
    ]
}

fn relations() -> Vec<(HandRelation, Ino)> {
    let all = [HandRelation::LinksTo, HandRelation::DerivedFrom, HandRelation::VersionOf, HandRelation::RelatedTo];
    all.into_iter().map(|relation| (relation, ino(1 << 33))).collect()
}

/// Changes of tags that clients ask for.
pub(crate) fn mutations() -> Vec<Mutation> {
    let edit = TagEdit {
        inos: vec![ino(2), ino(3)],
        add: vec![tag("a"), tag("year=2020")],
        remove: vec![tag("b")],
        veto: vec![tag("c")],
        unveto: vec![tag("d")],
        exclusive: true,
        uid: 1000,
    };
    let by = Actor { uid: 1000, operator: true };
    let commands = [
        TagCommand::Make(tag("a")),
        TagCommand::Rename { from: tag("a"), to: tag("b") },
        TagCommand::Merge { from: tag("a"), into: tag("b") },
        TagCommand::Delete { tag: tag("a"), unused_at: Some(Seq(9)) },
        TagCommand::Alias { alias: tag("a"), tag: Some(tag("b")) },
        TagCommand::Imply { tag: tag("a"), implied: tag("b"), on: true },
    ];
    let mut all = vec![Mutation::Tag(edit)];
    all.extend(commands.into_iter().map(|command| Mutation::Tags { command, by }));
    all.push(Mutation::Relate { from: ino(2), relation: HandRelation::VersionOf, to: ino(3), on: false });
    all.push(Mutation::SaveQuery { name: "trips".to_owned(), expression: None, replace: true, by });
    all
}

/// What a graph that is built anew asks of the metadata service.
pub(crate) fn admin_requests() -> Vec<AdminRequest> {
    vec![
        AdminRequest::Graph { after: Some(ino(5)), limit: 4096 },
        AdminRequest::Catalogue { after: Some(tag_id()), limit: 4096 },
        AdminRequest::Consumers,
    ]
}

/// What it is answered.
pub(crate) fn meta_replies() -> Vec<MetaReply> {
    let node = GraphNode {
        facts: node_facts(),
        names: vec![(Ino::ROOT, name("a")), (ino(3), name("b"))],
        xattrs: vec![(b"user.xdg.comment".to_vec(), vec![0, 255])],
        tags: vec![tag_id()],
        vetoes: vec![tag("cat")],
        related: relations(),
    };
    let saved = vec![("trips".to_owned(), "beach".to_owned())];
    let consumer = ConsumerStatus { name: "index@host:1".to_owned(), seq: Seq(9), idle_ms: 70_000 };
    vec![
        MetaReply::Graph(vec![node]),
        MetaReply::Catalogue(Catalogue { tags: vec![(tag_id(), tag_facts())], saved }),
        MetaReply::Consumers(vec![consumer]),
    ]
}

fn sought() -> Sought {
    about("(beach or not sun) and size= and size=10M..20M")
}

/// A query; here every kind of test comes once.
fn every_test() -> Sought {
    about(
        "place:cn -sun year=2020..2023 mtime=2024-03 taken=7d lang!=zh 'text:deep sea' name:*.jp[ge] @of/a.txt/similar \
         @file/~2 @saved/trips @date/2024/03 (@all or @untagged or @recent)",
    )
}

fn about(expression: &str) -> Sought {
    Sought { scope: Ino::ROOT, query: parse_expr(expression, &Context { utc_offset_secs: 3600 }).unwrap() }
}

fn request_name(request: &GraphRequest) -> &'static str {
    match request {
        GraphRequest::Known { .. } => "known",
        GraphRequest::Search { .. } => "search",
        GraphRequest::Entry { .. } => "entry",
        GraphRequest::Count(_) => "count",
        GraphRequest::Facets { .. } => "facets",
        GraphRequest::Top { .. } => "top",
        GraphRequest::Values { .. } => "values",
        GraphRequest::Explain(_) => "explain",
        GraphRequest::Place { .. } => "place",
        GraphRequest::Marks(_) => "marks",
        GraphRequest::Related { .. } => "related",
        GraphRequest::Duplicates { .. } => "duplicates",
        GraphRequest::Tags { .. } => "tags",
        GraphRequest::Saved => "saved",
        GraphRequest::Status => "status",
        GraphRequest::Rebuild => "rebuild",
        GraphRequest::Check => "check",
        GraphRequest::Watch { .. } => "watch",
        GraphRequest::Cypher(_) => "cypher",
        GraphRequest::Tagger(_) => "tagger",
        GraphRequest::Step { .. } => "step",
        GraphRequest::Places { .. } => "places",
        GraphRequest::Dates { .. } => "dates",
    }
}

/// Every question to the graph.
pub(crate) fn graph_calls() -> Vec<(String, GraphCall)> {
    let clause = sought().query.clauses.remove(0);
    let next = clause.clone();
    let all = vec![
        GraphRequest::Known { scope: ino(2), clause },
        GraphRequest::Search { sought: sought(), after: Some(ino(9)), limit: 1024 },
        GraphRequest::Entry { sought: sought(), name: name("f.txt") },
        GraphRequest::Count(sought()),
        GraphRequest::Count(every_test()),
        GraphRequest::Facets { sought: sought(), prefix: "b".to_owned(), limit: 10_000 },
        GraphRequest::Top { scope: Ino::ROOT },
        GraphRequest::Values { scope: Ino::ROOT, key: Key::parse("camera").unwrap(), limit: 10 },
        GraphRequest::Explain(sought()),
        GraphRequest::Place { scope: Ino::ROOT, ino: ino(4) },
        GraphRequest::Marks(ino(4)),
        GraphRequest::Related { ino: ino(4), limit: 20 },
        GraphRequest::Duplicates { scope: Ino::ROOT, limit: 20 },
        GraphRequest::Tags { after: "a".to_owned(), limit: 20 },
        GraphRequest::Saved,
        GraphRequest::Status,
        GraphRequest::Rebuild,
        GraphRequest::Check,
        GraphRequest::Watch { after: Some(Seq(7)), sought: Some(sought()) },
        GraphRequest::Cypher("MATCH (n) RETURN n".to_owned()),
        GraphRequest::Tagger(TaggerCommand::List),
        GraphRequest::Tagger(TaggerCommand::Run { tagger: Some("exif".to_owned()), ino: ino(4) }),
        GraphRequest::Tagger(TaggerCommand::Pause(true)),
        GraphRequest::Step { sought: sought(), name: name("sun"), clause: next },
        GraphRequest::Places { scope: Ino::ROOT, inos: vec![ino(4), ino(1 << 40)] },
        GraphRequest::Dates { sought: sought(), within: DatePrefix::new(2024, Some(3), None) },
    ];
    let call = |request| GraphCall {
        request_id: 0x0123_4567_89ab_cdef,
        viewer: Viewer { uid: 1000, gids: vec![100, 70_000] },
        deadline_ms: 5000,
        at_least: Some(Seq(1 << 35)),
        request,
    };
    numbered(all.into_iter().map(|request| (request_name(&request).to_owned(), call(request))).collect())
}

fn answer_name(answer: &GraphAnswer) -> &'static str {
    match answer {
        GraphAnswer::Done => "done",
        GraphAnswer::Hits { .. } => "hits",
        GraphAnswer::Count(_) => "count",
        GraphAnswer::Facets(_) => "facets",
        GraphAnswer::Path(_) => "path",
        GraphAnswer::Marks { .. } => "marks",
        GraphAnswer::Related(_) => "related",
        GraphAnswer::Duplicates(_) => "duplicates",
        GraphAnswer::Catalogue(_) => "catalogue",
        GraphAnswer::Saved(_) => "saved",
        GraphAnswer::Text(_) => "text",
        GraphAnswer::Status(_) => "status",
        GraphAnswer::Events(_) => "events",
        GraphAnswer::Hand(_) => "hand",
        GraphAnswer::Refused(_) => "refused",
        GraphAnswer::Denied(_) => "denied",
        GraphAnswer::Places(_) => "places",
        GraphAnswer::Told(_) => "told",
    }
}

fn status() -> IndexStatus {
    IndexStatus {
        seq: Seq(1),
        head: Seq(2),
        building: Some(3),
        inodes: 4,
        tags: 5,
        edges: 6,
        jobs: 7,
        failed: 8,
        memory_bytes: 9,
        disk_bytes: 10,
        neo4j: Some((Seq(11), Some("no route".to_owned()))),
        applied_at: time(12),
    }
}

/// Every answer of the graph.
pub(crate) fn graph_replies() -> Vec<(String, GraphReply)> {
    let hit = Hit { ino: ino(4), kind: FileKind::Symlink, name: name("f~4.txt"), permille: 1000 };
    let mark = Mark { name: "cat".to_owned(), tagger: "image".to_owned(), version: 3, permille: 900 };
    let related = RelatedTo { relation: "links-to".to_owned(), ino: ino(5), permille: 1, source: "user".to_owned() };
    let marks = |examined| GraphAnswer::Marks { marks: vec![mark.clone()], examined };
    let event = Event {
        seq: Seq(9),
        at: time(1),
        session: None,
        change: Change::AttrSet { ino: ino(2) },
        nodes: vec![node_facts()],
        continues: false,
    };
    let retagged = Retagged { ino: ino(2), given: vec!["beach".to_owned()], taken: vec!["draft".to_owned()] };
    let all = vec![
        GraphAnswer::Done,
        GraphAnswer::Hits { hits: vec![hit], end: true, changed: time(3) },
        GraphAnswer::Count(1 << 40),
        GraphAnswer::Facets(vec![Facet { name: "year=2020".to_owned(), count: 3 }]),
        GraphAnswer::Path(vec![name("a"), name("b")]),
        marks(Examined::Never),
        marks(Examined::Pending),
        marks(Examined::Done),
        marks(Examined::Failed(vec![FailedTagger { tagger: "pdf".to_owned(), reason: "it is damaged".to_owned() }])),
        GraphAnswer::Related(vec![related]),
        GraphAnswer::Duplicates(vec![DuplicateSet { size: 1 << 33, inos: vec![ino(2), ino(3)] }]),
        GraphAnswer::Catalogue(vec![(tag_id(), tag_facts(), 300)]),
        GraphAnswer::Saved(vec![("trips".to_owned(), "beach".to_owned())]),
        GraphAnswer::Text("words".to_owned()),
        GraphAnswer::Status(status()),
        GraphAnswer::Events(vec![event.clone()]),
        GraphAnswer::Hand(relations()),
        GraphAnswer::Refused(Status::NotFound),
        GraphAnswer::Denied("no".to_owned()),
        GraphAnswer::Places(vec![None, Some(vec![name("a"), name("b")])]),
        GraphAnswer::Told(vec![Told {
            seq: Seq(9),
            at: time(1),
            event: Some(event),
            retagged: vec![retagged],
            left: vec![ino(3)],
        }]),
    ];
    let reply = |answer| GraphReply { seq: Seq(1 << 35), answer };
    numbered(all.into_iter().map(|answer| (answer_name(&answer).to_owned(), reply(answer))).collect())
}
