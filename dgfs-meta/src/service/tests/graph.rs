//! Pages for whoever builds the graph anew say what the log said.

use std::collections::{BTreeMap, BTreeSet};

use dgfs_proto::graph::{GraphNode, HandRelation, TagFacts};
use dgfs_proto::ids::{Ino, Seq, TagId};
use dgfs_proto::log::{Change, Event};
use dgfs_proto::meta::{
    Actor, AdminRequest, Caller, MetaReply, MetaRequest, Mutation, NewNode, Query, RemoveKind, TagCommand, TagEdit,
    XattrMode,
};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use super::{Bench, name};
use crate::engine::Engine as _;
use crate::service::State;

/// Root.
const BY: Actor = Actor { uid: 0, operator: false };

fn tags_changed(command: TagCommand) -> Mutation {
    Mutation::Tags { command, by: BY }
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

impl Bench {
    async fn admin(&self, request: AdminRequest) -> MetaReply {
        self.call(MetaRequest::Admin(request)).await
    }

    async fn must(&self, mutation: Mutation) {
        let answer = self.mutate(mutation.clone()).await;
        assert!(answer.is_ok(), "{mutation:?} answered {answer:?}");
    }

    async fn made(&self, parent: Ino, text: &str, node: NewNode) -> Ino {
        let (caller, name) = (Caller { uid: 0, gid: 0 }, name(text));
        let make = Mutation::Make { parent, name, node, mode: 0o644, umask: 0, caller, open: false, ino: None };
        match self.mutate(make).await {
            Ok(MetaReply::Named(named)) => named.ino,
            other => panic!("{other:?}"),
        }
    }

    async fn nodes(&self, limit: u32) -> BTreeMap<Ino, GraphNode> {
        let (mut all, mut after) = (BTreeMap::new(), None);
        loop {
            match self.admin(AdminRequest::Graph { after, limit }).await {
                MetaReply::Graph(page) if page.is_empty() => return all,
                MetaReply::Graph(page) => {
                    assert!(page.len() <= limit as usize);
                    after = page.last().map(|node| node.facts.ino);
                    all.extend(page.into_iter().map(|node| (node.facts.ino, node)));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn events(&self) -> Vec<Event> {
        let all = AdminRequest::Log { consumer: String::new(), after: Seq(0), limit: 4096, wait: false };
        match self.admin(all).await {
            MetaReply::Log { events, .. } => events,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn pages_for_the_graph_say_what_the_log_said() {
    let bench = Bench::new(true).await;
    let dir = bench.made(Ino::ROOT, "d", NewNode::Directory).await;
    let mut files = Vec::new();
    for at in 0..300 {
        files.push(bench.made(dir, &format!("f{at}"), NewNode::File).await);
    }
    let tagged = TagEdit { inos: files.clone(), add: vec![tag("all"), tag("year=2020")], ..TagEdit::default() };
    bench.must(Mutation::Tag(tagged)).await;
    bench.must(Mutation::Link { ino: files[7], parent: Ino::ROOT, name: name("seven") }).await;
    bench.must(Mutation::Remove { parent: dir, name: name("f9"), kind: RemoveKind::Unlink }).await;
    let comment = |value: &str| Mutation::SetXattr {
        ino: dir,
        name: b"user.xdg.comment".to_vec(),
        value: value.as_bytes().to_vec(),
        mode: XattrMode::Any,
        uid: 0,
    };
    bench.must(comment("hello")).await;
    for limit in [7, 4096] {
        let nodes = bench.nodes(limit).await;
        assert_eq!(nodes.len(), 301, "the root, the directory, and 299 files");
        assert_eq!(nodes[&files[7]].names, [(dir, name("f7")), (Ino::ROOT, name("seven"))]);
        assert_eq!(nodes[&dir].xattrs, [(b"user.xdg.comment".to_vec(), b"hello".to_vec())]);
        assert!(nodes.values().filter(|node| files.contains(&node.facts.ino)).all(|node| node.tags.len() == 2));
        let mut followed = BTreeMap::new();
        for event in bench.events().await {
            followed.extend(event.nodes.into_iter().map(|node| (node.ino, node)));
        }
        for (ino, node) in &nodes {
            assert_eq!(followed.get(ino).unwrap_or(&node.facts), &node.facts, "inode {ino}");
        }
    }
}

#[tokio::test]
async fn pages_of_the_catalogue_say_what_the_log_said() {
    let bench = Bench::new(true).await;
    for at in 0..50 {
        bench.must(tags_changed(TagCommand::Make(tag(&format!("t{at}"))))).await;
    }
    let rename = TagCommand::Rename { from: tag("t1"), to: tag("one") };
    bench.must(tags_changed(rename)).await;
    let delete = TagCommand::Delete { tag: tag("t2"), unused_at: None };
    bench.must(tags_changed(delete)).await;
    let save = Mutation::SaveQuery { name: "q".to_owned(), expression: Some("one".to_owned()), replace: false, by: BY };
    bench.must(save).await;
    let mut followed: BTreeMap<TagId, TagFacts> = BTreeMap::new();
    for event in bench.events().await {
        if let Change::TagsChanged(changed) = event.change {
            for (id, facts) in changed {
                match facts {
                    Some(facts) => drop(followed.insert(id, facts)),
                    None => drop(followed.remove(&id)),
                }
            }
        }
    }
    let (mut listed, mut after) = (BTreeMap::new(), None);
    loop {
        let MetaReply::Catalogue(page) = bench.admin(AdminRequest::Catalogue { after, limit: 7 }).await else {
            panic!()
        };
        let saved = if after.is_none() { vec![("q".to_owned(), "one".to_owned())] } else { Vec::new() };
        assert_eq!(page.saved, saved, "with the first page only");
        let Some((last, _)) = page.tags.last() else { break };
        after = Some(*last);
        listed.extend(page.tags);
    }
    assert_eq!(listed, followed);
    assert_eq!(listed.len(), 49);
}

/// A consumer that stays away keeps the log, but not for ever; and one that came back can tell that the log is its own.
#[tokio::test]
async fn the_last_event_that_a_consumer_carried_out_stays_in_the_log() {
    let bench = Bench::new(true).await;
    for at in 0..20 {
        bench.made(Ino::ROOT, &format!("f{at}"), NewNode::File).await;
    }
    let head = bench.events().await.last().unwrap().seq;
    let ask = |after| AdminRequest::Log { consumer: "index:a".to_owned(), after, limit: 10, wait: false };
    assert!(matches!(bench.admin(ask(head)).await, MetaReply::Log { .. }));
    {
        let State::Active(active) = &*bench.service.state.lock() else { panic!("it is the writer") };
        let mut core = active.core.lock();
        core.set_data_synced(head);
        core.trim_log(0, 1000);
        assert_eq!(core.counters.trimmed, Seq(head.0 - 1));
    }
    let again = bench.admin(ask(Seq(head.0 - 1))).await;
    assert!(matches!(&again, MetaReply::Log { events, .. } if events.len() == 1 && events[0].seq == head), "{again:?}");
    assert_eq!(bench.admin(ask(Seq(head.0 - 2))).await, MetaReply::Refused(Status::Stale));
}

/// Who keeps up is told from memory; what is told is what the engine keeps.
#[tokio::test]
async fn the_end_of_the_log_is_told_from_memory_as_the_engine_has_it() {
    let bench = Bench::new(true).await;
    for at in 0..300 {
        bench.made(Ino::ROOT, &format!("f{at}"), NewNode::File).await;
    }
    let calls = bench.engine.calls();
    let told = bench.events().await;
    assert_eq!(bench.engine.calls(), calls, "nothing was read");
    let read = bench.taken_over().await.events().await;
    assert!(told.len() >= 300 && read.starts_with(&told), "{} and {} events", told.len(), read.len());
}

/// What an index knows that followed the log: tags by number, and what each inode carries and is related to.
#[derive(Default)]
struct Followed {
    tags: BTreeMap<TagId, TagFacts>,
    carried: BTreeMap<Ino, Vec<TagId>>,
    related: BTreeMap<Ino, Vec<(HandRelation, Ino)>>,
}

impl Followed {
    /// As the index takes an event: rows of a deleted tag, and edges to an inode that is gone, do not count.
    fn take(&mut self, event: Event) {
        match event.change {
            Change::Tagged { made, tags, .. } => {
                self.tags.extend(made);
                self.carried.extend(tags);
            }
            Change::TagsChanged(changed) => {
                for (id, facts) in changed {
                    match facts {
                        Some(facts) => drop(self.tags.insert(id, facts)),
                        None => drop(self.tags.remove(&id)),
                    }
                }
            }
            Change::Related { ino, to } => drop(self.related.insert(ino, to)),
            Change::Freed { ino } => {
                self.carried.remove(&ino);
                self.related.remove(&ino);
                self.related.values_mut().for_each(|to| to.retain(|(_, other)| *other != ino));
            }
            _ => {}
        }
    }

    fn carried(&self, ino: Ino) -> Vec<TagId> {
        let all = self.carried.get(&ino).cloned().unwrap_or_default();
        all.into_iter().filter(|tag| self.tags.contains_key(tag)).collect()
    }
}

impl Bench {
    async fn follow(&self) -> Followed {
        let mut followed = Followed::default();
        self.events().await.into_iter().for_each(|event| followed.take(event));
        followed
    }

    /// Pages of inodes and of the catalogue say what the log said.
    async fn check_pages(&self, what: &str) {
        let followed = self.follow().await;
        for (ino, node) in self.nodes(4096).await {
            assert_eq!(node.tags, followed.carried(ino), "{what}: tags of inode {ino}");
            let related = followed.related.get(&ino).cloned().unwrap_or_default();
            assert_eq!(node.related, related, "{what}: relations of inode {ino}");
        }
        let all = AdminRequest::Catalogue { after: None, limit: 4096 };
        let MetaReply::Catalogue(page) = self.admin(all).await else { panic!("{what}") };
        assert_eq!(page.tags.into_iter().collect::<BTreeMap<_, _>>(), followed.tags, "{what}: the catalogue");
    }

    async fn tags_shown(&self, ino: Ino) -> Vec<String> {
        let value = self.call(MetaRequest::Query(Query::GetXattr { ino, name: b"user.xdg.tags".to_vec() })).await;
        let MetaReply::Bytes(value) = value else { return Vec::new() };
        let mut shown: Vec<String> = String::from_utf8(value).unwrap().split(',').map(str::to_owned).collect();
        shown.sort();
        shown
    }
}

/// `dgfs index check` told a difference for ever after a tag was deleted that files carry, or a file that another links to.
#[tokio::test]
async fn pages_have_no_deleted_tags_and_no_relations_to_what_is_gone() {
    let bench = Bench::new(true).await;
    let (one, two, three) = (
        bench.made(Ino::ROOT, "x1", NewNode::File).await,
        bench.made(Ino::ROOT, "x2", NewNode::File).await,
        bench.made(Ino::ROOT, "x3", NewNode::File).await,
    );
    bench.must(Mutation::Tag(TagEdit { inos: vec![one], add: vec![tag("a"), tag("b")], ..TagEdit::default() })).await;
    bench.must(tags_changed(TagCommand::Delete { tag: tag("a"), unused_at: None })).await;
    let relate = |to| Mutation::Relate { from: one, relation: HandRelation::LinksTo, to, on: true };
    bench.must(relate(two)).await;
    bench.must(Mutation::Remove { parent: Ino::ROOT, name: name("x2"), kind: RemoveKind::Unlink }).await;
    bench.check_pages("one was removed").await;
    let node = bench.nodes(4096).await.remove(&one).unwrap();
    assert_eq!((node.tags.len(), node.related.len()), (1, 0));
    bench.must(relate(three)).await;
    bench.check_pages("another is linked to").await;
}

/// Random merges, renames and deletions: no file loses a tag, and whoever follows the log knows what the pages say.
#[tokio::test]
async fn random_changes_of_the_catalogue_lose_no_tag_and_are_told_whole() {
    let seed = 0x5eed_u64;
    let mut state = seed;
    let mut random = |below: usize| {
        // Knuth's multiplicative generator (The Art of Computer Programming, volume 2, 3.3.4); its high bits are good enough.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let bench = Bench::new(true).await;
    let mut files = Vec::new();
    for at in 0..5 {
        files.push(bench.made(Ino::ROOT, &format!("f{at}"), NewNode::File).await);
    }
    let mut carriers: BTreeMap<String, BTreeSet<Ino>> = BTreeMap::new();
    for at in 0..400 {
        let names: Vec<String> = carriers.keys().cloned().collect();
        let (fresh, file) = (format!("t{at}"), files[random(files.len())]);
        let picked = if names.is_empty() { fresh.clone() } else { names[random(names.len())].clone() };
        let other = if names.is_empty() { fresh.clone() } else { names[random(names.len())].clone() };
        let command = match random(8) {
            0..4 => {
                let add = if random(2) == 0 { fresh } else { picked };
                let edit = TagEdit { inos: vec![file], add: vec![tag(&add)], ..TagEdit::default() };
                bench.must(Mutation::Tag(edit)).await;
                carriers.entry(add).or_default().insert(file);
                continue;
            }
            4..6 if picked != other => {
                let gone = carriers.remove(&picked).unwrap_or_default();
                carriers.entry(other.clone()).or_default().extend(gone);
                TagCommand::Merge { from: tag(&picked), into: tag(&other) }
            }
            6 if carriers.contains_key(&picked) => {
                let moved = carriers.remove(&picked).unwrap_or_default();
                carriers.insert(fresh.clone(), moved);
                TagCommand::Rename { from: tag(&picked), to: tag(&fresh) }
            }
            7 if carriers.len() > 3 => {
                carriers.remove(&picked);
                TagCommand::Delete { tag: tag(&picked), unused_at: None }
            }
            _ => continue,
        };
        bench.must(tags_changed(command)).await;
        for ino in &files {
            let expected: Vec<String> =
                carriers.iter().filter(|(_, by)| by.contains(ino)).map(|(name, _)| name.clone()).collect();
            assert_eq!(bench.tags_shown(*ino).await, expected, "seed {seed:#x}, step {at}");
        }
    }
    bench.check_pages(&format!("seed {seed:#x}")).await;
}
