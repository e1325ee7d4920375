//! Random queries: what Neo4j answers is what a plain walk over the vertices answers.
//!
//! `DGFS_TEST_SEED` repeats a run; the seed is printed.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::collections::BTreeSet;

use dgfs_index::neo4j::model::{Batch, Kind, Relation as Edge, RelationKind, Source, Tag, TagEdge, TagValue, Vertex};
use dgfs_index::neo4j::query::{Moment, Page, find};
use dgfs_index::neo4j::write::Writer;
use dgfs_proto::query::expr::parse_expr;
use dgfs_proto::query::{Atom, Compare, Context, Entry, Key, Query, Relation, Test, Value};

use crate::server::{VOLUME, graph};
use crate::writing::{batch, name_in, root, tag, tagged, written};

const FILES: u64 = 400;
const QUERIES: usize = 200;
/// 2024-06-01T00:00:00Z.
const NOW_US: i64 = 1_717_200_000_000_000;
const DAY_US: i64 = 86_400_000_000;
const MOMENT: Moment = Moment { now_us: NOW_US, utc_offset_secs: 3_600, recent_secs: 5 * 86_400 };
const TAGS: [&str; 9] =
    ["place", "place:cn", "place:cn:hefei", "place:fr", "beach", "holiday", "summer", "it's a tag", "rare"];
const NAMES: [&str; 8] = ["IMG_1.jpg", "img_2.JPG", "report.txt", "Bericht.txt", "a.b.c", "鲸 1.png", "x", "new\nline"];

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

fn tags() -> Vec<Tag> {
    let mut all: Vec<Tag> = TAGS.iter().map(|key| tag(key)).collect();
    for tag in &mut all {
        let above: Vec<&str> = tag.key.match_indices(':').map(|(at, _)| &tag.key[..at]).collect();
        tag.parents = above.into_iter().rev().map(str::to_owned).collect();
    }
    // A circle: each of the two implies the other.
    all[4].implies = vec!["holiday".to_owned()];
    all[5].implies = vec!["beach".to_owned(), "place".to_owned()];
    all.push(Tag { alias_of: Some("holiday".to_owned()), ..tag("vacation") });
    all
}

fn vertex(random: &mut Random, ino: u64) -> Vertex {
    let name = random.pick(&NAMES);
    let mut vertex = Vertex { names: vec![name_in(1, name)], ..Vertex::new(ino, Kind::File) };
    if random.one_in(10) {
        vertex.names.push(name_in(1, &format!("other {ino}")));
    }
    vertex.size = random.below(5);
    vertex.mtime = NOW_US - random.below(20) as i64 * DAY_US;
    vertex.ctime = vertex.mtime;
    vertex.nlink = vertex.names.len() as u32;
    vertex.taken = random.one_in(2).then(|| NOW_US - random.below(20) as i64 * DAY_US);
    // As the index tells it: what stands behind the last dot.
    vertex.ext = name.rsplit_once('.').map(|(_, ext)| ext.to_lowercase());
    vertex.uid = random.below(3) as u32;
    vertex.hash = random.one_in(3).then(|| [random.below(5) as u8; 32]);
    for _ in 0..random.below(4) {
        let source = if random.one_in(3) { Source::Tagger("auto".to_owned()) } else { Source::User };
        let mut all = TAGS.to_vec();
        all.push("vacation");
        vertex.tags.push(TagEdge { source, ..tagged(random.pick(&all)) });
    }
    if random.one_in(2) {
        let value = if random.one_in(3) {
            TagValue::Text(random.pick(&["Ada", "Bob"]).to_owned())
        } else {
            TagValue::Number(random.below(4) as f64)
        };
        vertex.tags.push(TagEdge { value: Some(value), ..tagged("rating") });
    }
    let kinds = [
        RelationKind::LinksTo,
        RelationKind::DerivedFrom,
        RelationKind::VersionOf,
        RelationKind::SimilarTo,
        RelationKind::RelatedTo,
    ];
    for _ in 0..random.below(3) {
        let kind = kinds[random.below(5) as usize];
        vertex.relations.push(Edge { kind, to: 2 + random.below(FILES), source: Source::User, score: 0.5 });
    }
    if random.one_in(4) {
        vertex.authors = vec![random.pick(&["Ada", "Bob", "Eve"]).to_owned()];
    }
    vertex
}

fn atom(random: &mut Random) -> String {
    let relation = random.pick(&Relation::ALL.map(Relation::as_str));
    match random.below(14) {
        0..=4 => format!("\"{}\"", random.pick(&TAGS)),
        5 => random.pick(&["vacation", "PLACE:cn", "nowhere", "rating"]).to_owned(),
        6 => format!("size{}{}", random.pick(&["=", "!=", "<", "<=", ">", ">="]), random.below(5)),
        7 => format!("rating{}{}", random.pick(&["=", "!=", "<", "<=", ">", ">="]), random.below(4)),
        8 => random.pick(&["rating=ada", "rating!=Ada", "rating=1..2", "rating=", "rating=..1", "owner=1"]).to_owned(),
        9 => random
            .pick(&[
                "ext=JPG",
                "ext!=jpg",
                "ext=",
                "taken=",
                "hash=",
                "nlink>1",
                "size=1..3",
                "taken=2024-05..2024-05-25",
            ])
            .to_owned(),
        10 => random
            .pick(&["mtime=7d", "mtime>7d", "mtime=2d..9d", "taken=2024-05", "mtime<2024-05-20", "mtime!=2024-05"])
            .to_owned(),
        11 => format!(
            "name:\"{}\"",
            random.pick(&["*.jpg", "img_?.jpg", "[a-i]*", "*e*t*t", "[!xX]", "*鲸*", "new*line", "*", "x"])
        ),
        12 => {
            random.pick(&["@untagged", "@all", "@recent", "@date/2024/05", "@date/2024/05/28", "@file/~5"]).to_owned()
        }
        _ => format!(
            "@of/~{}/{relation}",
            dgfs_proto::query::entry::ino_id(dgfs_proto::ids::Ino::new(2 + random.below(FILES)).unwrap())
        ),
    }
}

fn question(random: &mut Random) -> String {
    let mut clauses = Vec::new();
    for _ in 0..=random.below(3) {
        let mut atoms = Vec::new();
        for _ in 0..=random.below(3) {
            let not = if random.one_in(4) { "not " } else { "" };
            atoms.push(format!("{not}{}", atom(random)));
        }
        clauses.push(format!("({})", atoms.join(" or ")));
    }
    clauses.join(" and ")
}

/// The walk.
struct Oracle {
    vertices: Vec<Vertex>,
    tags: Vec<Tag>,
}

impl Oracle {
    fn answer(&self, query: &Query) -> Vec<u64> {
        let passes = |vertex: &&Vertex| {
            query.clauses.iter().all(|clause| clause.atoms.iter().any(|atom| self.passes(vertex, atom)))
        };
        self.vertices.iter().filter(passes).map(|vertex| vertex.ino).filter(|ino| *ino > 1).collect()
    }

    fn passes(&self, vertex: &Vertex, atom: &Atom) -> bool {
        self.test(vertex, &atom.test) != atom.negated
    }

    fn test(&self, vertex: &Vertex, test: &Test) -> bool {
        match test {
            Test::Tag(tag) => {
                let counts = self.counting(&tag.fold());
                vertex.tags.iter().any(|edge| edge.value.is_none() && counts.contains(&edge.key))
            }
            Test::Has(key) => !values(vertex, key).is_empty(),
            Test::Compare { key, op, value } => values(vertex, key).iter().any(|have| compare(have, *op, value)),
            Test::Range { key, low, high } => values(vertex, key).iter().any(|have| {
                let age = matches!((low, high), (Some(Value::Within(_)), _));
                let low = low.as_ref().is_none_or(|low| match low {
                    Value::Within(secs) if age => micros(have) <= NOW_US - *secs as i64 * 1_000_000,
                    low => compare(have, Compare::AtLeast, low),
                });
                low && high.as_ref().is_none_or(|high| compare(have, Compare::AtMost, high))
            }),
            Test::Name(glob) => vertex.names.iter().any(|name| glob.matches(name.name.as_bytes())),
            Test::Related { of: Entry::Ino(of), relation } => {
                let of = self.vertices.iter().find(|other| other.ino == of.get()).expect("the other file");
                of.ino != vertex.ino && self.related(of, vertex, *relation)
            }
            Test::All => true,
            Test::Untagged => vertex.tags.iter().all(|edge| edge.source != Source::User),
            Test::Recent => vertex.ctime >= NOW_US - 5 * DAY_US,
            Test::Date(date) => {
                let (from, until) = date.span(MOMENT.utc_offset_secs);
                let moment = vertex.taken.unwrap_or(vertex.mtime);
                (from.secs * 1_000_000..until.secs * 1_000_000).contains(&moment)
            }
            Test::File(ino) => vertex.ino == ino.get(),
            Test::Text(_) | Test::Saved(_) | Test::Related { of: Entry::Name(_), .. } => unreachable!("{test:?}"),
        }
    }

    /// Keys that count for `key`: a fixed point of all rules.
    fn counting(&self, key: &str) -> BTreeSet<String> {
        let alias = self.tags.iter().find(|tag| tag.key == key).and_then(|tag| tag.alias_of.clone());
        let mut keys = BTreeSet::from([alias.unwrap_or_else(|| key.to_owned())]);
        loop {
            let more = self.tags.iter().filter(|tag| {
                let points = tag.parents.iter().chain(&tag.implies).chain(&tag.alias_of);
                points.into_iter().any(|to| keys.contains(to))
            });
            let before = keys.len();
            let more: Vec<String> = more.map(|tag| tag.key.clone()).collect();
            keys.extend(more);
            if keys.len() == before {
                return keys;
            }
        }
    }

    fn related(&self, of: &Vertex, vertex: &Vertex, relation: Relation) -> bool {
        let edge = |from: &Vertex, to: &Vertex, kind| from.relations.iter().any(|r| r.kind == kind && r.to == to.ino);
        let either = |kind| edge(of, vertex, kind) || edge(vertex, of, kind);
        let shared = |a: &[String], b: &[String]| a.iter().any(|x| b.contains(x));
        let keys = |vertex: &Vertex| vertex.tags.iter().map(|tag| tag.key.clone()).collect::<BTreeSet<_>>();
        let common: Vec<String> = keys(of).intersection(&keys(vertex)).cloned().collect();
        match relation {
            Relation::Tags => !of_people(of).is_disjoint(&of_people(vertex)),
            Relation::Similar => either(RelationKind::SimilarTo),
            Relation::SameContent => of.hash.is_some() && of.hash == vertex.hash,
            Relation::LinksTo => edge(of, vertex, RelationKind::LinksTo),
            Relation::LinkedFrom => edge(vertex, of, RelationKind::LinksTo),
            Relation::Derived => edge(vertex, of, RelationKind::DerivedFrom),
            Relation::Sources => edge(of, vertex, RelationKind::DerivedFrom),
            Relation::Versions => either(RelationKind::VersionOf),
            Relation::Authors => shared(&of.authors, &vertex.authors),
            Relation::Related => {
                let kinds = [
                    RelationKind::LinksTo,
                    RelationKind::DerivedFrom,
                    RelationKind::VersionOf,
                    RelationKind::SimilarTo,
                    RelationKind::RelatedTo,
                ];
                let rare = common.iter().filter(|key| self.degree(key) <= 100).count();
                kinds.into_iter().any(either)
                    || (of.hash.is_some() && of.hash == vertex.hash)
                    || shared(&of.authors, &vertex.authors)
                    || rare >= 2
            }
        }
    }

    /// Edges, as Neo4j has them: one for each source and value.
    fn degree(&self, key: &str) -> usize {
        let edges = |vertex: &Vertex| {
            let own = vertex.tags.iter().filter(|tag| tag.key == key);
            own.map(|tag| format!("{:?}{:?}", tag.source, tag.value)).collect::<BTreeSet<_>>().len()
        };
        self.vertices.iter().map(edges).sum()
    }
}

/// Tags that people gave, with their values.
fn of_people(vertex: &Vertex) -> BTreeSet<String> {
    let own = vertex.tags.iter().filter(|tag| tag.source == Source::User);
    own.map(|tag| format!("{}={:?}", tag.key, tag.value)).collect()
}

/// What a vertex has of a key.
enum Have {
    Number(f64),
    Time(i64),
    Text(String),
}

fn values(vertex: &Vertex, key: &Key) -> Vec<Have> {
    match key {
        Key::Size => vec![Have::Number(vertex.size as f64)],
        Key::Mtime => vec![Have::Time(vertex.mtime)],
        Key::Taken => vertex.taken.map(Have::Time).into_iter().collect(),
        Key::Ext => vertex.ext.clone().map(Have::Text).into_iter().collect(),
        Key::Owner => vec![Have::Number(f64::from(vertex.uid))],
        Key::Nlink => vec![Have::Number(vertex.names.len() as f64)],
        Key::Hash => vertex.hash.map(|hash| Have::Text(format!("{hash:?}"))).into_iter().collect(),
        Key::Other(key) => {
            let of_key = vertex.tags.iter().filter(|tag| tag.key == key.as_str());
            let value = |tag: &TagEdge| match tag.value.clone()? {
                TagValue::Number(number) => Some(Have::Number(number)),
                TagValue::Text(text) => Some(Have::Text(text)),
            };
            of_key.filter_map(value).collect()
        }
        other => unreachable!("{other:?}"),
    }
}

fn micros(have: &Have) -> i64 {
    match have {
        Have::Time(time) => *time,
        Have::Number(_) | Have::Text(_) => unreachable!("an age of what is no time"),
    }
}

fn compare(have: &Have, op: Compare, value: &Value) -> bool {
    let by = |ordering: std::cmp::Ordering| match op {
        Compare::Equal => ordering.is_eq(),
        Compare::Differs => ordering.is_ne(),
        Compare::Less => ordering.is_lt(),
        Compare::AtMost => ordering.is_le(),
        Compare::Greater => ordering.is_gt(),
        Compare::AtLeast => ordering.is_ge(),
    };
    match (have, value) {
        (Have::Number(have), Value::Number(want)) => by(have.total_cmp(&want.get())),
        (Have::Number(have), Value::Size(want)) => by(have.total_cmp(&(*want as f64))),
        (Have::Text(have), Value::Text(want)) => by(have.to_lowercase().cmp(&want.to_lowercase())),
        (Have::Time(have), Value::Time { from, until }) => {
            let (from, until) = (from.secs * 1_000_000, until.secs * 1_000_000);
            match op {
                Compare::Equal => (from..until).contains(have),
                Compare::Differs => !(from..until).contains(have),
                Compare::Less => *have < from,
                Compare::AtMost => *have < until,
                Compare::Greater => *have >= until,
                Compare::AtLeast => *have >= from,
            }
        }
        (Have::Time(have), Value::Within(secs)) => {
            let young = *have >= NOW_US - *secs as i64 * 1_000_000;
            match op {
                Compare::Equal | Compare::Less | Compare::AtMost => young,
                Compare::Differs | Compare::Greater | Compare::AtLeast => !young,
            }
        }
        // Of another type: another value, and in no order.
        (Have::Number(_) | Have::Time(_) | Have::Text(_), _) => op == Compare::Differs,
    }
}

#[tokio::test]
async fn neo4j_answers_random_queries_as_a_plain_walk_does() {
    let seed = std::env::var("DGFS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| dgfs_runtime::random::number().unwrap());
    println!("DGFS_TEST_SEED={seed}");
    let mut random = Random(seed);
    let graph = graph().await;
    let (writer, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    let mut vertices = vec![root()];
    vertices.extend((2..2 + FILES).map(|ino| vertex(&mut random, ino)));
    let oracle = Oracle { vertices, tags: tags() };
    written(&writer, &Batch { tags: tags(), ..batch(0, 1, oracle.vertices.clone()) }).await;

    let mut answered = 0;
    for _ in 0..QUERIES {
        let text = question(&mut random);
        let context = Context { utc_offset_secs: MOMENT.utc_offset_secs };
        let query = parse_expr(&text, &context).unwrap_or_else(|error| panic!("{text}: {error}"));
        let page = Page { after: 0, limit: 10_000 };
        let found = find(&graph.link, &query, MOMENT, page).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(found, oracle.answer(&query), "DGFS_TEST_SEED={seed} {text}");
        answered += usize::from(!found.is_empty());
        if answered % 10 != 0 {
            continue;
        }
        // The same in two pages.
        let half = Page { after: 0, limit: found.len() / 2 };
        let mut paged = find(&graph.link, &query, MOMENT, half).await.unwrap();
        let after = paged.last().copied().unwrap_or(0);
        paged.extend(find(&graph.link, &query, MOMENT, Page { after, limit: 10_000 }).await.unwrap());
        assert_eq!(paged, found, "DGFS_TEST_SEED={seed} {text}");
    }
    println!("{answered} of {QUERIES} queries had answers");
    assert!(answered > QUERIES / 4, "too many queries find nothing: {answered} of {QUERIES} find something");
}
