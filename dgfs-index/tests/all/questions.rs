//! Tables: what each kind of question finds in a small tree.

use dgfs_index::store::{Finding, Findings, FoundEdges, Hints};
use dgfs_proto::attr::Timestamp;
use dgfs_proto::graph::answer::Examined;
use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, HandRelation, TagFacts, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::query::{DatePrefix, Key, Query};
use dgfs_proto::status::Status;

use crate::rig::{Rig, expr, facets};
use crate::truth::{Truth, ino, name, tag};

/// 2 pics/ · 3 pics/beach.jpg · 4 pics/Tree.PNG · 5 notes.txt · 6 pics/deep/ · 7 pics/deep/far.jpg
fn small_tree() -> Truth {
    let mut truth = Truth::new();
    let pics = truth.dir(Ino::ROOT, "pics");
    let beach = truth.file(pics, "beach.jpg");
    let tree = truth.file(pics, "Tree.PNG");
    let notes = truth.file(Ino::ROOT, "notes.txt");
    let deep = truth.dir(pics, "deep");
    let far = truth.file(deep, "far.jpg");
    truth.tag(beach, &["Holiday", "place:cn:hefei", "rating=5"]);
    truth.tag(tree, &["holiday", "green"]);
    truth.tag(far, &["place:de"]);
    truth.tag(deep, &["green"]);
    truth.change(beach, |node| {
        node.size = 3 << 20;
        node.mtime = Timestamp { secs: 1_709_251_200, nanos: 0 }; // 2024-03-01
    });
    truth.change(notes, |node| node.uid = 7);
    truth.xattr(notes, "user.xdg.comment", Some("A quick brown Fox; 合肥市 in autumn".as_bytes()));
    truth.xattr(notes, "user.dublincore.creator", Some(b"Ann"));
    truth.xattr(notes, "user.baloo.rating", Some(b"8"));
    truth.xattr(notes, "user.mime_type", Some(b"text/plain"));
    truth
}

#[tokio::test]
async fn each_kind_of_question_finds_what_it_asks_for() {
    let rig = Rig::new(small_tree());
    for (text, found) in [
        ("holiday", vec![3, 4]),
        ("HOLIDAY and not green", vec![3]),
        ("place", vec![3, 7]),
        ("place:cn", vec![3]),
        ("plac", vec![]),
        ("green", vec![4, 6]),
        ("green and type=directory", vec![6]),
        ("not holiday", vec![5, 7]),
        ("not holiday and type=directory", vec![2, 6]),
        ("holiday or place:de", vec![3, 4, 7]),
        ("ext=jpg", vec![3, 7]),
        ("ext=png", vec![4]),
        ("rating=", vec![3, 5]),
        ("rating=5", vec![3]),
        ("rating=6..", vec![5]),
        ("rating>=5", vec![3, 5]),
        ("rating!=5", vec![5]),
        ("size=1M..", vec![3]),
        ("size<=1M", vec![4, 5, 7]),
        ("mtime=2024-03", vec![3]),
        ("mtime=2024-01..2024-04", vec![3]),
        ("owner=7", vec![5]),
        ("creator=ann", vec![5]),
        ("mime=text", vec![5]),
        ("mime=text/plain", vec![5]),
        ("type=text", vec![5]),
        ("text:'brown fox'", vec![5]),
        ("text:fo", vec![]),
        ("text:合肥", vec![5]),
        ("text:市", vec![5]),
        ("text:合市", vec![]),
        ("name:*.jpg", vec![3, 7]),
        ("name:tree*", vec![4]),
        ("@all", vec![3, 4, 5, 7]),
        ("@untagged", vec![5]),
        ("nlink=1 and owner=7", vec![5]),
    ] {
        assert_eq!(rig.find(Ino::ROOT, text).await, found, "{text}");
    }
}

/// Sizes 3 MiB (3) and 1 (4, 5, 7); changed in March 2024 (3) and September 2020.
#[tokio::test]
async fn classes_of_sizes_and_dates_follow_from_attributes_at_once() {
    let rig = Rig::new(small_tree());
    for (text, found) in [
        ("size-class=", vec![3, 4, 5, 7]),
        ("size-class=tiny", vec![4, 5, 7]),
        ("SIZE-CLASS=Medium", vec![3]),
        ("size-class!=tiny", vec![3]),
        ("size-class=huge", vec![]),
        ("date-year=2024", vec![3]),
        ("date-year=2019..2023", vec![4, 5, 7]),
        ("date-year>=2021", vec![3]),
        ("date-month=2020-09", vec![4, 5, 7]),
        ("date-month=2024-03 and not size-class=tiny", vec![3]),
    ] {
        assert_eq!(rig.find(Ino::ROOT, text).await, found, "{text}");
    }
    let values = |key| rig.ask(GraphRequest::Values { scope: Ino::ROOT, key: Key::parse(key).unwrap(), limit: 100 });
    let sizes = [("size-class=tiny".to_owned(), 3), ("size-class=medium".to_owned(), 1)];
    assert_eq!(facets(values("size-class").await), sizes, "by size, not by name");
    let months = [("date-month=2020-09".to_owned(), 3), ("date-month=2024-03".to_owned(), 1)];
    assert_eq!(facets(values("date-month").await), months);
    let clause = expr("date-year=1999").clauses[0].clone();
    assert_eq!(rig.ask(GraphRequest::Known { scope: Ino::ROOT, clause }).await, GraphAnswer::Done);
    rig.meta.change(|truth| truth.change(ino(4), |node| node.size = 1 << 30));
    assert_eq!(rig.find(Ino::ROOT, "size-class=huge").await, [4], "no tagger has to look");
    let taken = findings(3, 1, &[("taken=2019-12-31", 1000), ("size-class=tiny", 1000)], None);
    rig.index.put_findings(&[taken]).unwrap();
    assert_eq!(rig.find(Ino::ROOT, "date-month=2019-12").await, [3], "taken rather than changed");
    assert_eq!(rig.find(Ino::ROOT, "size-class=tiny").await, [5, 7], "nobody else says it");
    let beside = rig.facets(Viewer::root(), Ino::ROOT, Query::default(), "").await;
    assert!(!beside.iter().any(|(name, _)| name.contains("-class=") || name.starts_with("date-")), "{beside:?}");
}

#[tokio::test]
async fn a_scope_is_what_lies_below_it_and_not_itself() {
    let rig = Rig::new(small_tree());
    assert_eq!(rig.find(ino(2), "ext=jpg").await, [3, 7]);
    assert_eq!(rig.find(ino(6), "@all").await, [7]);
    assert_eq!(rig.find(ino(6), "green").await, Vec::<u64>::new());
    let refused = |scope| rig.ask(GraphRequest::Count(Sought { scope, query: Query::default() }));
    assert_eq!(refused(ino(5)).await, GraphAnswer::Refused(Status::NotDirectory));
    assert_eq!(refused(ino(99)).await, GraphAnswer::Refused(Status::NotFound));
}

#[tokio::test]
async fn counts_beside_a_query_tops_and_values() {
    let rig = Rig::new(small_tree());
    let beside = rig.facets(Viewer::root(), Ino::ROOT, expr("holiday"), "").await;
    assert!(beside.contains(&("green".to_owned(), 1)) && beside.contains(&("ext=jpg".to_owned(), 1)));
    assert!(!beside.iter().any(|(name, _)| name.eq_ignore_ascii_case("holiday")), "{beside:?}");
    assert_eq!(rig.facets(Viewer::root(), Ino::ROOT, expr("holiday"), "gr").await, [("green".to_owned(), 1)]);
    let top = facets(rig.ask(GraphRequest::Top { scope: ino(2) }).await);
    for wanted in [("place", 2), ("Holiday", 2), ("green", 2), ("rating=", 1), ("ext=", 3)] {
        assert!(top.contains(&(wanted.0.to_owned(), wanted.1)), "{wanted:?} in {top:?}");
    }
    assert!(!top.iter().any(|(name, _)| name == "creator="), "nothing below pics has a creator");
    let values = |key| rig.ask(GraphRequest::Values { scope: Ino::ROOT, key, limit: 100 });
    let rating = Key::parse("rating").unwrap();
    assert_eq!(facets(values(rating).await), [("rating=5".to_owned(), 1), ("rating=8".to_owned(), 1)]);
    assert_eq!(facets(values(Key::Size).await), [("size=0..1K".to_owned(), 3), ("size=1M..10M".to_owned(), 1)]);
    assert_eq!(facets(values(Key::Ext).await).len(), 3);
    let of_mtime = facets(values(Key::Mtime).await);
    for wanted in ["mtime=2024", "mtime=2024-03"] {
        assert!(of_mtime.contains(&(wanted.to_owned(), 1)), "{of_mtime:?}");
    }
    let dates = |month: Option<Option<u8>>| {
        let within = month.and_then(|month| DatePrefix::new(2024, month, None));
        let sought = Sought { scope: Ino::ROOT, query: expr("holiday") };
        rig.ask(GraphRequest::Dates { sought, within })
    };
    assert!(facets(dates(None).await).contains(&("2024".to_owned(), 1)));
    assert_eq!(facets(dates(Some(None)).await), [("03".to_owned(), 1)]);
    assert_eq!(facets(dates(Some(Some(3))).await), [("01".to_owned(), 1)]);
    assert_eq!(facets(dates(Some(Some(4))).await), []);
}

#[tokio::test]
async fn aliases_implications_merges_and_renames_of_tags_hold_at_once() {
    let rig = Rig::new(small_tree());
    rig.meta.change(|truth| truth.change_tag("green", |facts| facts.aliases = vec![tag("Grün")]));
    assert_eq!(rig.find(Ino::ROOT, "grün").await, [4, 6]);
    rig.meta.change(|truth| {
        let (colour, new) = truth.tag_id("colour");
        truth.change_tag("green", |facts: &mut TagFacts| facts.implies = vec![colour]);
        assert!(new.is_some());
        truth.change_tag("colour", |_| ());
    });
    assert_eq!(rig.find(Ino::ROOT, "colour").await, [4, 6]);
    rig.meta.change(|truth| {
        let (holiday, _) = truth.tag_id("holiday");
        truth.change_tag("place:de", |facts| facts.merged_into = Some(holiday));
    });
    assert_eq!(rig.find(Ino::ROOT, "holiday").await, [3, 4, 7]);
    assert_eq!(rig.find(Ino::ROOT, "place:de").await, [3, 4, 7]);
    rig.meta.change(|truth| truth.change_tag("green", |facts| facts.name = tag("verdant")));
    assert_eq!(rig.find(Ino::ROOT, "verdant").await, [4, 6]);
    assert_eq!(rig.find(Ino::ROOT, "green").await, Vec::<u64>::new());
    let green = rig.meta.change(|truth| truth.tag_id("verdant").0);
    rig.meta.change(|truth| truth.delete_tag(green));
    assert_eq!(rig.find(Ino::ROOT, "verdant or colour").await, Vec::<u64>::new());
    let rig = rig.restart().await;
    assert_eq!(rig.find(Ino::ROOT, "@untagged").await, [5], "4 still carries holiday");
}

#[tokio::test]
async fn saved_queries_are_followed_and_may_not_name_themselves() {
    let rig = Rig::new(small_tree());
    rig.meta.change(|truth| {
        truth.save("mine", Some("holiday and not green"));
        truth.save("circle", Some("@saved/circle"));
    });
    assert_eq!(rig.find(Ino::ROOT, "@saved/mine").await, [3]);
    let ask = |text| rig.ask(GraphRequest::Count(Sought { scope: Ino::ROOT, query: expr(text) }));
    assert!(matches!(ask("@saved/circle").await, GraphAnswer::Denied(_)));
    assert_eq!(ask("@saved/none").await, GraphAnswer::Refused(Status::NotFound));
    assert!(matches!(rig.ask(GraphRequest::Saved).await, GraphAnswer::Saved(list) if list.len() == 2));
}

#[tokio::test]
async fn what_a_clause_names_is_known_or_not() {
    let rig = Rig::new(small_tree());
    for (text, known) in [
        ("holiday", true),
        ("place", true),
        ("nothing", false),
        ("holiday or nothing", false),
        ("rating=4", true),
        ("creator=", true),
        ("colour=", false),
        ("size=1M..", true),
        ("@of/~99/similar", false),
    ] {
        let clause = expr(text).clauses[0].clone();
        let wanted = if known { GraphAnswer::Done } else { GraphAnswer::Refused(Status::NotFound) };
        assert_eq!(rig.ask(GraphRequest::Known { scope: Ino::ROOT, clause }).await, wanted, "{text}");
    }
}

fn findings(of: u64, hash: u8, marks: &[(&str, u16)], text: Option<&str>) -> Findings {
    let found = Finding {
        tagger: "test".to_owned(),
        version: 1,
        marks: marks.iter().map(|(mark, permille)| ((*mark).to_owned(), *permille)).collect(),
        text: text.map(str::to_owned),
        ..Finding::default()
    };
    let hints = Hints::default();
    Findings { ino: ino(of), data_version: 0, content: [hash; 32], hints, found: vec![found], edges: Vec::new() }
}

#[tokio::test]
async fn what_taggers_find_is_asked_for_like_tags_and_vetoes_hide_it() {
    let rig = Rig::new(small_tree());
    assert_eq!(rig.find(Ino::ROOT, "@all").await.len(), 4);
    let found = findings(7, 1, &[("sunset", 900), ("taken=2020-05-06T07:08", 1000), ("size=1", 1)], Some("far away"));
    let other = Findings { ino: ino(4), ..findings(7, 1, &[], None) };
    let edges = FoundEdges { tagger: "test".to_owned(), edges: vec![("similar".to_owned(), ino(3), 700)] };
    rig.index.put_findings(&[found, Findings { found: Vec::new(), edges: vec![edges], ..other }]).unwrap();
    assert_eq!(rig.find(Ino::ROOT, "sunset").await, [4, 7], "both have that content");
    assert_eq!(rig.find(Ino::ROOT, "@date/2020/05").await, [4, 7]);
    assert_eq!(rig.find(Ino::ROOT, "text:away").await, [4, 7]);
    assert_eq!(rig.find(Ino::ROOT, "taken=2020 and size=1").await, [4, 7]);
    rig.meta.change(|truth| truth.veto(ino(7), vec![tag("Sunset")]));
    assert_eq!(rig.find(Ino::ROOT, "sunset").await, [4]);
    match rig.ask(GraphRequest::Marks(ino(4))).await {
        GraphAnswer::Marks { marks, examined } => assert_eq!((marks.len(), examined), (3, Examined::Done)),
        other => panic!("{other:?}"),
    }
    match rig.ask(GraphRequest::Duplicates { scope: Ino::ROOT, limit: 10 }).await {
        GraphAnswer::Duplicates(sets) => assert_eq!(sets[0].inos, [ino(4), ino(7)]),
        other => panic!("{other:?}"),
    }
    let rig = rig.restart().await;
    assert_eq!(rig.find(Ino::ROOT, "sunset").await, [4]);
    assert_eq!(rig.find(Ino::ROOT, "@of/~4/similar or @of/~4/same-content").await, [3, 7]);
}

/// A model's version is a hash of its file, which may be smaller than the one before.
#[tokio::test]
async fn another_version_of_a_tagger_replaces_what_was_said_whatever_its_number() {
    let rig = Rig::new(small_tree());
    assert_eq!(rig.find(Ino::ROOT, "@all").await.len(), 4);
    for (version, mark) in [(9, "sunset"), (3, "sunrise")] {
        let mut found = findings(7, 1, &[(mark, 900)], None);
        found.found[0].version = version;
        rig.index.put_findings(&[found]).unwrap();
        let readers = rig.index.readers();
        let is_examined =
            [9, 3, 1].map(|asked| readers.is_examined((&[1; 32], &Hints::default()), "test", asked).unwrap());
        assert_eq!(is_examined, [version == 9, version == 3, false]);
        assert_eq!(rig.find(Ino::ROOT, mark).await, [7]);
    }
    assert_eq!(rig.find(Ino::ROOT, "sunset").await, Vec::<u64>::new());
}

#[tokio::test]
async fn relations_are_seen_from_both_ends() {
    let rig = Rig::new(small_tree());
    rig.meta.change(|truth| {
        truth.relate(ino(5), vec![(HandRelation::LinksTo, ino(3)), (HandRelation::DerivedFrom, ino(4))]);
    });
    let of = |number, relation: &str| {
        let id = dgfs_proto::query::entry::ino_id(ino(number));
        format!("@of/~{id}/{relation}")
    };
    for (text, found) in [
        (of(5, "links-to"), vec![3]),
        (of(3, "linked-from"), vec![5]),
        (of(5, "sources"), vec![4]),
        (of(4, "derived"), vec![5]),
        (of(3, "links-to"), vec![]),
        (of(3, "related"), vec![5]),
    ] {
        assert_eq!(rig.find(Ino::ROOT, &text).await, found, "{text}");
    }
    assert_eq!(rig.find(Ino::ROOT, "@of/notes.txt/links-to").await, [3]);
    match rig.ask(GraphRequest::Related { ino: ino(5), limit: 10 }).await {
        GraphAnswer::Related(list) => {
            assert_eq!(list.iter().map(|related| related.ino.get()).collect::<Vec<_>>(), [3, 4]);
        }
        other => panic!("{other:?}"),
    }
    rig.meta.change(|truth| truth.unlink(ino(2), &name("beach.jpg"), false));
    assert_eq!(rig.find(Ino::ROOT, &of(5, "links-to")).await, Vec::<u64>::new());
}

#[tokio::test]
async fn a_name_leads_to_where_the_inode_lies_now() {
    let rig = Rig::new(small_tree());
    let place = |scope, of| rig.ask(GraphRequest::Place { scope, ino: of });
    assert_eq!(place(Ino::ROOT, ino(7)).await, GraphAnswer::Path(vec![name("pics"), name("deep"), name("far.jpg")]));
    assert_eq!(place(ino(2), ino(7)).await, GraphAnswer::Path(vec![name("deep"), name("far.jpg")]));
    assert_eq!(place(ino(6), ino(3)).await, GraphAnswer::Refused(Status::NotFound));
    rig.meta.change(|truth| truth.rename((ino(2), name("deep")), (Ino::ROOT, name("up")), false));
    assert_eq!(place(Ino::ROOT, ino(7)).await, GraphAnswer::Path(vec![name("up"), name("far.jpg")]));
    assert_eq!(rig.find(ino(2), "ext=jpg").await, [3]);
}

#[tokio::test]
async fn explain_says_how_and_what_is_not_there_is_denied_with_a_sentence() {
    let rig = Rig::new(small_tree());
    match rig.ask(GraphRequest::Explain(Sought { scope: Ino::ROOT, query: expr("holiday and green") })).await {
        GraphAnswer::Text(text) => assert!(text.contains("1. ") && text.contains("seq"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(rig.ask(GraphRequest::Cypher("MATCH (n) RETURN n".to_owned())).await, GraphAnswer::Denied(_)));
    match rig.ask(GraphRequest::Tags { after: String::new(), limit: 2 }).await {
        GraphAnswer::Catalogue(tags) => assert_eq!(tags.iter().map(|(_, _, count)| *count).collect::<Vec<_>>(), [2, 2]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn names_of_views_are_shown_with_ids_and_found_by_them_only() {
    let mut truth = small_tree();
    let odd: Vec<Ino> = ["@counts", "@refine", "11"].iter().map(|text| truth.file(Ino::ROOT, text)).collect();
    odd.iter().for_each(|ino| truth.tag(*ino, &["odd"]));
    let rig = Rig::new(truth);
    let shown =
        |hits: Vec<dgfs_proto::graph::answer::Hit>| hits.iter().map(|hit| hit.name.to_string()).collect::<Vec<_>>();
    let plain = shown(rig.hits_as(Viewer::root(), Ino::ROOT, &expr("odd"), 10).await);
    assert_eq!(plain, ["@counts~8", "@refine~9", "11"]);
    let dated = shown(rig.hits_as(Viewer::root(), Ino::ROOT, &expr("odd not:@date/2024 @date/1970"), 10).await);
    assert!(dated.is_empty() || dated[2] == "11~a", "{dated:?}");
    for (text, found) in [("@counts", false), ("@counts~8", true), ("11", true)] {
        let sought = Sought { scope: Ino::ROOT, query: expr("odd") };
        let answer = rig.ask(GraphRequest::Entry { sought, name: name(text) }).await;
        assert_eq!(matches!(answer, GraphAnswer::Hits { .. }), found, "{text}: {answer:?}");
    }
    let without = dgfs_proto::query::path::parse_path("-nosuch", &dgfs_proto::query::Context::default()).unwrap();
    let known = GraphRequest::Known { scope: Ino::ROOT, clause: without.clauses[0].clone() };
    assert_eq!(rig.ask(known).await, GraphAnswer::Done, "without an unknown tag is a plain question");
}
