//! Pages for whoever builds the graph anew say what the log said.

use std::collections::BTreeMap;

use dgfs_proto::graph::{GraphNode, TagFacts};
use dgfs_proto::ids::{Ino, Seq, TagId};
use dgfs_proto::log::{Change, Event};
use dgfs_proto::meta::{
    AdminRequest, Caller, MetaReply, MetaRequest, Mutation, NewNode, RemoveKind, TagCommand, TagEdit, XattrMode,
};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use super::{Bench, name};
use crate::engine::Engine as _;
use crate::service::State;

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
        bench.must(Mutation::Tags(TagCommand::Make(tag(&format!("t{at}"))))).await;
    }
    let rename = TagCommand::Rename { from: tag("t1"), to: tag("one") };
    bench.must(Mutation::Tags(rename)).await;
    let delete = TagCommand::Delete { tag: tag("t2"), unused_at: None };
    bench.must(Mutation::Tags(delete)).await;
    let save = Mutation::SaveQuery { name: "q".to_owned(), expression: Some("one".to_owned()) };
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
