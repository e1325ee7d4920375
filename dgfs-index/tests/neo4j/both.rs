//! Chance against both back ends: any history, followed into a real Neo4j with restarts, rebuilds and a killed server, is
//! answered alike by the embedded engine and by the Cypher that its questions become; and a check finds no difference.
//!
//! Where chance decides, the seed is printed; `DGFS_SEED` repeats one, `DGFS_LONG=1` draws anew. Left out are what the two are
//! known to answer differently (`docs/CYPHER.md`): full text, saved queries, `related` and authors, and what follows from other
//! names of tags with values.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use dgfs_index::likeness::Print;
use dgfs_index::meta_link::MetaLink;
use dgfs_index::neo4j::follow::FollowStatus;
use dgfs_index::neo4j::link::Link;
use dgfs_index::neo4j::query::{Moment, Page, find};
use dgfs_index::neo4j::service::Neo4j;
use dgfs_index::service::Extension;
use dgfs_index::store::{Finding, Findings, FoundEdges, Hints};
use dgfs_proto::attr::FileKind;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, HandRelation, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;
use dgfs_proto::query::{Atom, Clause, Entry, Query, Relation, Test};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Handler, LocalChannel, MetaProtocol, Role};
use dgfs_runtime::lifecycle::Shutdown;

use crate::rig::{Rig, expr};
use crate::server::Server;
use crate::truth::{Truth, name, tag};

/// Longest wait for anything that a test waits for, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(240);
const ROUNDS: usize = 6;
const QUESTIONS: usize = 25;
/// Tags without values; some need quoting in every language there is.
const TAGS: [&str; 11] = [
    "a",
    "b",
    "place",
    "place:cn",
    "place:cn:hefei",
    "place:de",
    "Big",
    "it's \"quoted\" / slashed",
    "' }) DETACH DELETE n //",
    "$rows `tick` \\u0041",
    "鲸 {x:1}",
];
const VALUED: [&str; 4] = ["rating=3", "rating=7.5", "by=Ann O'Neil", "by=10 \"x\""];
/// Other names; each is one tag's.
const ALIASES: [(&str, &str); 3] = [("alias of a", "a"), ("place:cina", "place:cn"), ("it's", "b")];
const NAMES: [&str; 7] = ["x.jpg", "y.JPG", "x.txt", "z", "it's \"odd\".png", "' }) DELETE n", "new\nline.txt"];
const ATOMS: [&str; 36] = [
    "size>=3",
    "size<5",
    "size!=4",
    "size=",
    "size=1..4",
    "mtime>=2020-09-16",
    "mtime<2020-09-18",
    "mtime=2020-09",
    "type=file",
    "type=directory",
    "type=image",
    "type!=file",
    "type!=image",
    "ext=jpg",
    "ext=TXT",
    "ext=png",
    "mime=image",
    "mime=image/png",
    "mime=",
    "name:x*",
    "\"name:*'*\"",
    "name:*.txt",
    "rating=3",
    "rating>=3",
    "rating=4..",
    "rating!=3",
    "rating=",
    "by=",
    "\"by=ann o'neil\"",
    "creator=ann",
    "comment=",
    "@all",
    "@untagged",
    "owner=10",
    "nlink>1",
    "hash=",
];
/// Those of which nothing is computed when it is asked for (docs/CYPHER.md): no content here points at a file.
const RELATIONS: [Relation; 4] = [Relation::Tags, Relation::SameContent, Relation::LinksTo, Relation::LinkedFrom];

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

fn named(truth: &Truth) -> Vec<(Ino, Name, Ino)> {
    truth.names.iter().map(|((dir, name), ino)| (*dir, name.clone(), *ino)).collect()
}

fn dirs(truth: &Truth) -> Vec<Ino> {
    let is_dir = |ino: &Ino| truth.nodes[ino].kind == FileKind::Directory;
    let below = truth.names.values().copied().filter(is_dir);
    [Ino::ROOT].into_iter().chain(below).collect()
}

fn change_names(truth: &mut Truth, chance: &mut Chance) {
    let (dir, text) = (*chance.pick(&dirs(truth)), *chance.pick(&NAMES));
    let free = !truth.names.contains_key(&(dir, name(text)));
    let all = named(truth);
    let unnamed = truth.nodes.keys().copied().find(|ino| *ino != Ino::ROOT && all.iter().all(|(_, _, to)| to != ino));
    match chance.below(10) {
        0..=4 if free => {
            let kind = *chance.pick(&[FileKind::File, FileKind::File, FileKind::Directory, FileKind::Symlink]);
            truth.make(dir, text, kind, chance.below(8) as u64);
        }
        5 if free && !all.is_empty() => {
            let (_, _, target) = chance.pick(&all).clone();
            if truth.nodes[&target].kind != FileKind::Directory {
                truth.link(target, dir, text);
            }
        }
        6 if unnamed.is_some() => {
            let unnamed = unnamed.unwrap();
            if free && chance.below(2) == 0 {
                truth.link(unnamed, dir, text);
            } else {
                truth.free(unnamed);
            }
        }
        7 if !all.is_empty() => {
            let (dir, text, target) = chance.pick(&all).clone();
            if !truth.names.keys().any(|(parent, _)| *parent == target) {
                let open = truth.nodes[&target].kind != FileKind::Directory && chance.below(2) == 0;
                truth.unlink(dir, &text, open);
            }
        }
        8 if free && !all.is_empty() => {
            let (from, text_from, moved) = chance.pick(&all).clone();
            if truth.nodes[&moved].kind != FileKind::Directory {
                truth.rename((from, text_from), (dir, name(text)), false);
            }
        }
        _ => {}
    }
}

/// The tag of that name, if it is still called so.
fn there(truth: &Truth, text: &str) -> bool {
    truth.tags.values().any(|facts| facts.name.fold() == tag(text).fold())
}

fn change_tags(truth: &mut Truth, chance: &mut Chance) {
    let (one, other) = (*chance.pick(&TAGS), *chance.pick(&TAGS));
    let (alias, owner) = *chance.pick(&ALIASES);
    match chance.below(7) {
        // A name means one tag: the metadata service refuses anything else.
        0 if truth.tags.values().all(|facts| facts.aliases.iter().all(|known| known.as_str() != alias)) => {
            truth.change_tag(owner, |facts| facts.aliases = vec![tag(alias)]);
        }
        1 => truth.change_tag(owner, |facts| facts.aliases.clear()),
        2 => {
            truth.change_tag(other, |_| ());
            let implied = truth.tag_id(other).0;
            truth.change_tag(one, |facts| facts.implies = vec![implied]);
        }
        3 if one != other => {
            truth.change_tag(other, |_| ());
            let into = truth.tag_id(other).0;
            truth.change_tag(one, |facts| facts.merged_into = Some(into));
        }
        4 => truth.change_tag(one, |facts| facts.merged_into = None),
        5 if there(truth, one) && !there(truth, "renamed") && !there(truth, other) => {
            let new = if chance.below(2) == 0 { "renamed" } else { other };
            truth.change_tag(one, |facts| facts.name = tag(new));
        }
        _ => {
            let text = if chance.below(3) == 0 { *chance.pick(&VALUED) } else { one };
            let id = truth.tag_id(text).0;
            truth.change_tag(text, |_| ());
            truth.delete_tag(id);
        }
    }
}

fn change_inode(truth: &mut Truth, chance: &mut Chance) {
    let all: Vec<Ino> = truth.nodes.keys().copied().filter(|ino| *ino != Ino::ROOT).collect();
    if all.is_empty() {
        return;
    }
    let target = *chance.pick(&all);
    match chance.below(9) {
        0..=3 => {
            let mut tags: Vec<&str> = (0..chance.below(4)).map(|_| *chance.pick(&TAGS)).collect();
            tags.extend((0..chance.below(2)).map(|_| *chance.pick(&VALUED)));
            truth.tag(target, &tags);
        }
        4 => truth.xattr(target, "user.baloo.rating", chance.pick(&[Some(&b"3"[..]), Some(b"9"), None]).to_owned()),
        5 => truth.xattr(target, "user.dublincore.creator", Some(*chance.pick(&[&b"Ann"[..], b"Bob 'x'"]))),
        6 => truth.xattr(target, "user.xdg.comment", chance.pick(&[Some(&b"the \"Fox\""[..]), None]).to_owned()),
        7 => {
            let vetoes = vec![tag(chance.pick::<&str>(&TAGS))];
            truth.veto(target, vetoes);
        }
        _ => {
            let kinds =
                [HandRelation::LinksTo, HandRelation::DerivedFrom, HandRelation::VersionOf, HandRelation::RelatedTo];
            let to: Vec<_> = (0..chance.below(3)).map(|_| (*chance.pick(&kinds), *chance.pick(&all))).collect();
            truth.relate(target, to);
        }
    }
}

fn change(truth: &mut Truth, chance: &mut Chance) {
    match chance.below(10) {
        0..=4 => change_names(truth, chance),
        5 => change_tags(truth, chance),
        _ => change_inode(truth, chance),
    }
}

/// What a tagger found in some inode.
fn find_something(rig: &Rig, chance: &mut Chance) {
    let inos: Vec<Ino> = rig.meta.truth.lock().nodes.keys().copied().collect();
    let ino = *chance.pick(&inos);
    let words =
        ["a", "place:fr:paris", "place:cn", "it's", "type=image", "mime=image/png", "width=10", "by=Ann O'Neil"];
    let marks = (0..chance.below(4)).map(|_| ((*chance.pick(&words)).to_owned(), chance.below(1001) as u16)).collect();
    // A hash with as many ones as zeros, and some bits of it otherwise.
    let print = Print::picture(0x5a3c_96f0_0f69_c3a5 ^ 0x111_1111_1111 >> chance.below(40));
    let prints = print.into_iter().filter(|_| chance.below(2) == 0).collect();
    let finding = Finding { tagger: "image".to_owned(), version: 1, marks, prints, ..Finding::default() };
    let edges = vec![("similar".to_owned(), *chance.pick(&inos), 700)];
    let found = Findings {
        ino,
        data_version: 0,
        content: [chance.below(6) as u8; 32],
        hints: Hints::default(),
        found: vec![finding],
        edges: vec![FoundEdges { tagger: "likeness".to_owned(), edges }],
    };
    rig.index.put_findings(&[found]).unwrap();
}

/// An index with Neo4j beside it.
pub(crate) struct Both {
    pub(crate) rig: Rig,
    pub(crate) neo4j: Neo4j,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Both {
    pub(crate) fn start(rig: Rig, server: &Server) -> Self {
        let handler: Arc<dyn Handler<MetaProtocol>> = rig.meta.clone();
        let meta = MetaLink::new(vec![Arc::new(LocalChannel::new(handler, Role::Index))], "neo4j");
        let neo4j = Neo4j::new(server.settings(), Arc::clone(&rig.index), meta);
        let shutdown = Shutdown::new();
        let task = tokio::spawn(neo4j.clone().run(shutdown.clone()));
        Self { rig, neo4j, shutdown, task }
    }

    pub(crate) async fn stop(self) -> Rig {
        self.shutdown.ask();
        self.task.await.unwrap();
        self.rig
    }

    /// Waits until Neo4j has what the index has, and the index what the metadata have.
    pub(crate) async fn caught_up(&self, what: &str) {
        let head = self.rig.meta.truth.lock().head();
        self.rig.index.wait_for(head).await;
        self.until(what, |status, stamp| status.written == stamp && status.likened == stamp).await;
    }

    /// Waits until the status fits the stamp that the index has.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&FollowStatus, u64) -> bool) {
        let end = Instant::now() + SOON;
        loop {
            let (status, stamp) = (self.neo4j.status().read(), self.rig.index.applied().stamp);
            if status.connected && wanted(&status, stamp) {
                return;
            }
            assert!(Instant::now() < end, "{what}: not within {SOON:?}: {status:?} instead of stamp {stamp}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn check(&self, what: &str) {
        match self.neo4j.answer(Viewer::root(), GraphRequest::Check).await {
            GraphAnswer::Text(text) => assert!(text.ends_with(" 0 differences"), "{what}: {text}"),
            other => panic!("{what}: {other:?}"),
        }
    }

    async fn compare(&self, link: &Link, chance: &mut Chance, what: &str) {
        let now_us = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
        let moment = Moment { now_us, utc_offset_secs: 0, recent_secs: 7 * 86_400 };
        for _ in 0..QUESTIONS {
            let query = question(&self.rig.meta.truth.lock(), chance);
            let hits = self.rig.hits_as(Viewer::root(), Ino::ROOT, &query, 100).await;
            let embedded: Vec<u64> = hits.iter().map(|hit| hit.ino.get()).collect();
            self.caught_up(what).await;
            let page = Page { after: 0, limit: 10_000 };
            let cypher = find(link, &query, moment, page).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            let text = dgfs_proto::query::show::show_expr(&query);
            assert_eq!(cypher, embedded, "{what}: {text}: Cypher (left) and the embedded engine differ");
        }
    }
}

fn question(truth: &Truth, chance: &mut Chance) -> Query {
    let inos: Vec<Ino> = truth.names.values().copied().collect();
    let mut clauses = Vec::new();
    for _ in 0..=chance.below(3) {
        let mut atoms = Vec::new();
        for _ in 0..=chance.below(3) {
            let test = match chance.below(10) {
                0..=3 => Test::Tag(tag(chance.pick::<&str>(&TAGS))),
                4 => Test::Tag(tag(chance.pick::<&str>(&[
                    "ALIAS of a",
                    "place:cina",
                    "it's",
                    "renamed",
                    "nowhere",
                    "place:fr",
                ]))),
                5 if !inos.is_empty() => {
                    Test::Related { of: Entry::Ino(*chance.pick(&inos)), relation: *chance.pick(&RELATIONS) }
                }
                6 if !inos.is_empty() => Test::File(*chance.pick(&inos)),
                _ => expr(chance.pick::<&str>(&ATOMS)).clauses[0].atoms[0].test.clone(),
            };
            atoms.push(Atom { negated: chance.below(4) == 0, test });
        }
        clauses.push(Clause { atoms });
    }
    Query { clauses }
}

async fn run(seed: u64, mut server: Server) -> Server {
    println!("seed {seed} (DGFS_SEED repeats it)");
    let mut chance = Chance(seed);
    let mut truth = Truth::new();
    truth.page_max = 1 + chance.below(40);
    (0..chance.below(150)).for_each(|_| change(&mut truth, &mut chance));
    let link = Link::open(&server.config()).unwrap();
    let mut both = Both::start(Rig::new(truth), &server);
    for round in 0..ROUNDS {
        let what = format!("seed {seed}, round {round}");
        for _ in 0..chance.below(60) {
            both.rig.meta.change(|truth| change(truth, &mut chance));
            if chance.below(8) == 0 {
                find_something(&both.rig, &mut chance);
            }
        }
        match round {
            1 => both = Both::start(both.stop().await.restart().await, &server),
            2 => {
                server.kill();
                both.rig.meta.change(|truth| (0..20).for_each(|_| change(truth, &mut chance)));
                server = tokio::task::spawn_blocking(move || {
                    server.restart();
                    server
                })
                .await
                .unwrap();
            }
            3 => {
                let built = both.rig.index.generation() + 1;
                assert_eq!(both.rig.ask(GraphRequest::Rebuild).await, GraphAnswer::Done);
                let mut applied = both.rig.index.subscribe();
                while both.rig.index.generation() < built {
                    applied.changed().await.unwrap();
                }
            }
            // What was changed while nobody followed is found when somebody does again.
            4 => {
                let rig = both.stop().await;
                rig.meta.change(|truth| (0..20).for_each(|_| change(truth, &mut chance)));
                both = Both::start(rig, &server);
            }
            _ => {}
        }
        both.compare(&link, &mut chance, &what).await;
        both.check(&what).await;
    }
    drop(both.stop().await);
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_history_is_answered_alike_by_neo4j_and_the_embedded_index() {
    let seeds: Vec<u64> = match std::env::var("DGFS_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        // The long form draws anew; of the short one a red run means a change.
        None if std::env::var("DGFS_LONG").is_ok_and(|long| long == "1") => {
            let first = u64::from(std::process::id()) << 16;
            (first..first + 12).collect()
        }
        None => vec![1, 2],
    };
    let mut server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    for seed in seeds {
        // Another index follows with each seed: the graph of the one before is replaced.
        server = run(seed, server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cypher_is_for_root_and_a_server_that_is_away_is_said() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = crate::server::shared();
    let mut settings = server.settings();
    settings.address = format!("bolt://{port}");
    let rig = Rig::new(Truth::new());
    let handler: Arc<dyn Handler<MetaProtocol>> = rig.meta.clone();
    let meta = MetaLink::new(vec![Arc::new(LocalChannel::new(handler, Role::Index))], "neo4j");
    let neo4j = Neo4j::new(settings, Arc::clone(&rig.index), meta);
    let shutdown = Shutdown::new();
    let task = tokio::spawn(neo4j.clone().run(shutdown.clone()));
    let cypher = || GraphRequest::Cypher("MATCH (n) RETURN n".to_owned());
    let refused = neo4j.answer(Viewer { uid: 7, gids: Vec::new() }, cypher()).await;
    assert_eq!(refused, GraphAnswer::Refused(Status::NotPermitted));
    match neo4j.answer(Viewer::root(), cypher()).await {
        GraphAnswer::Denied(sentence) => assert!(sentence.contains("no connection to Neo4j"), "{sentence}"),
        other => panic!("{other:?}"),
    }
    let end = Instant::now() + SOON;
    while neo4j.followed().is_none_or(|(_, error)| error.is_none()) {
        assert!(Instant::now() < end, "it does not say what is wrong");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    match neo4j.answer(Viewer::root(), GraphRequest::Check).await {
        GraphAnswer::Denied(sentence) => assert!(sentence.contains("was not compared: no connection"), "{sentence}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.find(Ino::ROOT, "@all").await, Vec::<u64>::new(), "the index answers all the same");
    shutdown.ask();
    task.await.unwrap();
}
