//! Prints which texts are alike, for `bench/relations.py`.
//!
//! Never reads a file and never keeps one: each line of the input is a JSON object `{"name": …, "text": …}`, examined by the
//! taggers and put into an index of its own; each line of the output names the numbers of the texts most alike, for each way
//! of telling.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use dgfs_index::index::Index;
use dgfs_index::likeness::Print;
use dgfs_index::meta_link::MetaLink;
use dgfs_index::metrics::register;
use dgfs_index::service::{IndexService, ServiceParts};
use dgfs_index::store::{Finding, Findings, Hints};
use dgfs_proto::attr::{FileKind, Timestamp};
use dgfs_proto::graph::{GraphAnswer, GraphCall, GraphRequest, NodeFacts, Viewer};
use dgfs_proto::ids::{Ino, Seq};
use dgfs_proto::log::{Change, Event};
use dgfs_proto::meta::{MetaCall, MetaReply};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, Handler, LocalChannel, MetaProtocol, Peer, Role};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::metrics::MetricSet;
use dgfs_taggers::{Job, Tagger, builtin, kind_of};

type Failure = Box<dyn std::error::Error>;

/// The first inode that is a text.
const FIRST: u64 = 2;
/// Texts that are named.
const NAMED: usize = 10;

/// All that is asked of the metadata here is refused: the index is told everything.
struct Nobody;

impl Handler<MetaProtocol> for Nobody {
    fn handle(self: Arc<Self>, _: Arc<Peer>, _: MetaCall, _: Bytes) -> BoxFuture<'static, (MetaReply, Bytes)> {
        Box::pin(async { (MetaReply::Refused(Status::NotSupported), Bytes::new()) })
    }
}

fn facts(ino: Ino, kind: FileKind, size: u64) -> NodeFacts {
    let at = Timestamp::default();
    let (mtime, ctime, btime) = (at, at, at);
    NodeFacts { ino, kind, mode: 0o755, uid: 0, gid: 0, nlink: 1, size, mtime, ctime, btime, data_version: 1 }
}

/// The events of a volume with these texts in its root.
fn volume(texts: &[(String, String)]) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    for (seq, (_, text)) in (1..).zip(texts) {
        let ino = Ino::new(FIRST + seq - 1).ok_or("no inode")?;
        let name = Name::new(format!("{seq}.md").as_bytes()).map_err(|_| "no name")?;
        let nodes =
            vec![facts(Ino::ROOT, FileKind::Directory, 0), facts(ino, FileKind::File, u64::try_from(text.len())?)];
        let change = Change::Made { ino, parent: Ino::ROOT, name, kind: FileKind::File };
        events.push(Event { seq: Seq(seq), at: Timestamp::default(), session: None, change, nodes, continues: false });
    }
    Ok(events)
}

fn examined(ino: Ino, name: &str, text: &str, taggers: &[Box<dyn Tagger>]) -> Result<Findings, Failure> {
    let bytes = text.as_bytes();
    let job = Job { name, size: u64::try_from(bytes.len())?, bytes, mime_hint: None, charset_hint: Some("utf-8") };
    let kind = kind_of(&job);
    let mut found = Vec::new();
    for (at, tagger) in taggers.iter().enumerate().filter(|(_, tagger)| tagger.wants(&kind)) {
        let mut said = dgfs_taggers::Findings::default();
        tagger.examine(&job, &kind, &mut said)?;
        found.push(Finding {
            tagger: at.to_string(),
            marks: said.marks.into_iter().map(|mark| (mark.tag, 1000)).collect(),
            prints: said.fingerprints.text.as_deref().and_then(Print::text).into_iter().collect(),
            ..Finding::default()
        });
    }
    Ok(Findings {
        ino,
        data_version: 1,
        content: *blake3::hash(bytes).as_bytes(),
        hints: Hints::default(),
        found,
        edges: Vec::new(),
    })
}

/// Numbers of the texts in the order of an answer, by way of telling.
fn ranked(answer: GraphAnswer) -> Result<BTreeMap<&'static str, Vec<u64>>, Failure> {
    let GraphAnswer::Related(ties) = answer else { return Err(format!("not answered: {answer:?}").into()) };
    let mut ways = BTreeMap::new();
    for way in ["similar", "text", "keywords", "related"] {
        let of_way = |tie: &&dgfs_proto::graph::answer::RelatedTo| match way {
            "related" => true,
            "similar" => tie.relation == way,
            source => tie.relation == "similar" && tie.source == source,
        };
        let mut numbers = Vec::new();
        for tie in ties.iter().filter(of_way) {
            let number = tie.ino.get() - FIRST;
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        numbers.truncate(NAMED);
        ways.insert(way, numbers);
    }
    Ok(ways)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut texts = Vec::new();
    for line in io::stdin().lock().lines() {
        let document: serde_json::Value = serde_json::from_str(&line?)?;
        let field = |key: &str| document.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        texts.push((field("name").ok_or("each line needs a name")?, field("text").ok_or("each line needs a text")?));
    }
    let directory = std::env::temp_dir().join(format!("dgfs-similar-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let index = Index::open(&directory)?;
    index.apply(&volume(&texts)?)?;
    let taggers = builtin();
    for (number, (name, text)) in (FIRST..).zip(&texts) {
        index.put_findings(&[examined(Ino::new(number).ok_or("no inode")?, name, text, &taggers)?])?;
    }
    let channel = Arc::new(LocalChannel::new(
        IndexService::new(ServiceParts {
            index: index.clone(),
            meta: MetaLink::new(vec![Arc::new(LocalChannel::new(Arc::new(Nobody), Role::Index))], "similar"),
            clock: Clock::real(),
            numbers: register(&MetricSet::new(), &index),
            cypher: None,
            taggers: None,
            tagger_versions: Vec::new(),
        }),
        Role::Client,
    ));
    for number in (FIRST..).take(texts.len()) {
        let request = GraphRequest::Related { ino: Ino::new(number).ok_or("no inode")?, limit: 1000 };
        let viewer = Viewer::root();
        let call = GraphCall { request_id: number, viewer, deadline_ms: 5000, at_least: Some(Seq(0)), request };
        let (reply, _) = channel.call(call, Bytes::new(), None).await?;
        writeln!(io::stdout(), "{}", serde_json::to_string(&ranked(reply.answer)?)?)?;
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
