//! The follower: catches up by itself, survives a killed server, stops for a later writer, says what is wrong.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use dgfs_index::neo4j::alike::Alike;
use dgfs_index::neo4j::follow::{FollowConfig, FollowStatus, Source, StatusHandle, follow};
use dgfs_index::neo4j::liken::Asked;
use dgfs_index::neo4j::link::{Link, LinkConfig, LinkError, Statement};
use dgfs_index::neo4j::model::{Batch, Vertex};
use dgfs_index::neo4j::schema;
use dgfs_index::neo4j::write::{Applied, KnownTag, Writer};
use dgfs_runtime::lifecycle::Shutdown;

use crate::server::{Graph, Server, VOLUME, graph, shared, write_password};
use crate::writing::{ask, assert_is, batch, file, root, written};

/// Longest wait for anything that a test waits for, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(240);
/// Vertices of one part.
const PART: usize = 500;

/// An index in memory: the state of each inode, and the stamp that changed it last.
#[derive(Clone)]
pub(crate) struct Memory {
    /// With the stamp of its last change.
    states: Arc<Mutex<BTreeMap<u64, (u64, Vertex)>>>,
    stamp: watch::Sender<u64>,
    /// How often it was built anew.
    line: Arc<AtomicU64>,
    epoch: Arc<AtomicU64>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { states: Arc::default(), stamp: watch::Sender::new(0), line: Arc::default(), epoch: Arc::default() }
    }

    /// A change: the vertex's state from now on.
    pub(crate) fn put(&self, vertex: Vertex) {
        let mut states = self.states.lock().unwrap();
        let stamp = *self.stamp.borrow() + 1;
        states.insert(vertex.ino, (stamp, vertex));
        self.stamp.send_replace(stamp);
    }

    pub(crate) fn all(&self) -> Vec<Vertex> {
        self.states.lock().unwrap().values().map(|(_, vertex)| vertex.clone()).collect()
    }

    pub(crate) fn stamp(&self) -> u64 {
        *self.stamp.borrow()
    }

    /// Built anew: the same states, and nobody tells what was removed before.
    fn rebuild(&self) {
        self.line.fetch_add(1, Ordering::SeqCst);
        self.stamp.send_modify(|stamp| *stamp += 1);
    }
}

/// What one follower asks a [`Memory`] for.
pub(crate) struct Reader {
    memory: Memory,
    snapshot: Vec<Vertex>,
    next: u64,
}

impl Reader {
    pub(crate) fn new(memory: &Memory) -> Self {
        Self { memory: memory.clone(), snapshot: Vec::new(), next: 0 }
    }
}

impl Source for Reader {
    fn applied(&mut self) -> u64 {
        self.memory.stamp()
    }

    fn line(&mut self) -> String {
        format!("memory-{}", self.memory.line.load(Ordering::SeqCst))
    }

    fn continues(&mut self, graph: &Applied, _ours: bool) -> bool {
        graph.stamp <= self.memory.stamp()
    }

    fn epoch_above(&mut self, epoch: u64) -> Result<u64, String> {
        let next = epoch.max(self.memory.epoch.load(Ordering::SeqCst)) + 1;
        self.memory.epoch.store(next, Ordering::SeqCst);
        Ok(next)
    }

    fn begin(&mut self, _tags: Vec<KnownTag>) {}

    async fn past(&mut self, stamp: u64) {
        let mut seen = self.memory.stamp.subscribe();
        // The sender lives as long as `self`.
        let _ = seen.wait_for(|now| *now > stamp).await;
    }

    async fn part(&mut self, after: u64, part: u32, epoch: u64) -> Result<Batch, String> {
        if part == 0 {
            let states = self.memory.states.lock().unwrap();
            self.next = self.memory.stamp();
            let changed = states.values().filter(|(stamp, _)| *stamp > after);
            self.snapshot = changed.map(|(_, vertex)| vertex.clone()).collect();
        }
        let from = part as usize * PART;
        let vertices: Vec<Vertex> = self.snapshot.iter().skip(from).take(PART).cloned().collect();
        let last = from + PART >= self.snapshot.len();
        Ok(Batch { prev: after, next: self.next, seq: self.next, epoch, vertices, last, ..Batch::default() })
    }

    /// Of which nothing is alike.
    async fn alike(&mut self, contents: Vec<Asked>) -> Result<Vec<Vec<Alike>>, String> {
        Ok(contents.iter().map(|_| Vec::new()).collect())
    }
}

pub(crate) fn config(link: &LinkConfig) -> FollowConfig {
    FollowConfig { link: link.clone(), volume: VOLUME.to_owned() }
}

/// Runs a follower beside the test.
pub(crate) struct Running {
    pub(crate) status: StatusHandle,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(config: FollowConfig, memory: &Memory) -> Self {
        let (status, shutdown) = (StatusHandle::default(), Shutdown::new());
        let task = tokio::spawn(follow(config, Reader::new(memory), status.clone(), shutdown.clone()));
        Self { status, shutdown, task }
    }

    /// Waits until the status is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&FollowStatus) -> bool) -> FollowStatus {
        let end = Instant::now() + SOON;
        loop {
            let status = self.status.read();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < end, "not within {SOON:?}: {what}; {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.ask();
        timeout(SOON, self.task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn it_catches_up_goes_on_and_is_told_apart_by_its_epoch() {
    let graph = graph().await;
    let memory = Memory::new();
    memory.put(root());
    (2..1_202).for_each(|ino| memory.put(file(ino, &format!("f{ino}"))));
    let running = Running::start(config(&graph.config), &memory);
    let status = running.until("caught up", |status| status.written == 1_201).await;
    assert_eq!((status.lag(), status.connected, status.vertices, status.batches), (0, true, 1_201, 3));
    assert_is(&graph.link, &memory.all()).await;
    memory.put(file(7, "renamed"));
    running.until("the change is there", |status| status.written == 1_202).await;
    assert_is(&graph.link, &memory.all()).await;

    let later = Running::start(config(&graph.config), &memory);
    later.until("the later one has it", |status| status.connected).await;
    memory.put(file(8, "by the later one"));
    later.until("the change is there", |status| status.written == 1_203).await;
    let fenced = running.until("the older one is fenced", |status| status.fenced).await;
    assert_eq!(
        fenced.last_error.as_deref(),
        Some("another writer with epoch 2 writes this graph; this one has epoch 1 and stops")
    );
    timeout(SOON, running.task).await.unwrap().unwrap();
    assert_is(&graph.link, &memory.all()).await;
    later.stop().await;
}

#[tokio::test]
async fn a_rebuild_while_it_follows_leaves_what_the_index_has() {
    let graph = graph().await;
    let memory = Memory::new();
    memory.put(root());
    (2..702).for_each(|ino| memory.put(file(ino, &format!("f{ino}"))));
    let (writer, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    written(&writer, &batch(0, 3, vec![root(), file(2, "wrong"), file(9_999, "stray")])).await;
    memory.epoch.store(1, Ordering::SeqCst);
    let running = Running::start(config(&graph.config), &memory);
    running.until("the graph of nobody is replaced", |status| status.written == 701).await;
    swept(&graph, 701).await;
    assert_is(&graph.link, &memory.all()).await;
    // And of an earlier index than the one that there is now.
    let stray = Statement::new("CREATE (:Inode:File {id: 9999, ep: 1})");
    graph.link.run_alone(&stray, 60_000).await.unwrap();
    memory.rebuild();
    let status = running.until("rebuilt", |status| status.written == 702).await;
    assert_eq!((status.epoch, status.connects), (3, 2));
    swept(&graph, 702).await;
    assert_is(&graph.link, &memory.all()).await;
    running.stop().await;
}

/// Waits until what a rebuild left over is gone.
async fn swept(graph: &Graph, stamp: u64) {
    let sweep = "MATCH (a:Applied) WHERE a.sweep IS NULL RETURN a.stamp AS row";
    let end = Instant::now() + SOON;
    while ask(&graph.link, sweep).await != [json!(stamp)] {
        assert!(Instant::now() < end, "the sweep does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_caught_up_when_it_is_back_and_nothing_is_there_twice() {
    let mut server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let memory = Memory::new();
    memory.put(root());
    let running = Running::start(config(&server.config()), &memory);
    running.until("connected", |status| status.connected && status.written == 1).await;
    // It is killed while batches are on their way.
    (2..3_002).for_each(|ino| memory.put(file(ino, &format!("f{ino}"))));
    running.until("a part is written", |status| status.batches >= 3).await;
    server.kill();
    let down = running.until("it shows", |status| !status.connected).await;
    assert!(down.last_error.as_deref().unwrap().contains("no connection to Neo4j"), "{down:?}");
    memory.put(file(7, "while it was away"));
    assert!(running.until("the lag shows", |status| status.lag() > 0).await.written < memory.stamp());
    let mut server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    })
    .await
    .unwrap();
    let back = Instant::now();
    running.until("caught up", |status| status.written == memory.stamp()).await;
    println!("caught up {:?} after the server was back", back.elapsed());
    let link = Link::open(&server.config()).unwrap();
    assert_is(&link, &memory.all()).await;
    assert_eq!(ask(&link, "MATCH (f:File) RETURN count(f) AS row").await, [json!(3_000)]);
    assert_eq!(ask(&link, "MATCH ()-[c:CONTAINS]->() RETURN count(c) AS row").await, [json!(3_000)]);
    // An idle follower notices, too.
    server.kill();
    running.until("it shows", |status| !status.connected).await;
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_password_is_one_clear_error_and_fast() {
    let server = shared();
    let file = std::env::temp_dir().join(format!("dgfs-neo4j-password-{}", std::process::id()));
    write_password(&file, "not it");
    let wrong = LinkConfig { password_file: file.clone(), ..server.config() };
    let began = Instant::now();
    let refused = Link::open(&wrong).unwrap().begin().await.map(drop).unwrap_err();
    // The driver's releases before 0.9 try a wrong password again for a minute.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(matches!(refused, LinkError::Refused { .. }) && !refused.passes(), "{refused:?}");
    let said = refused.to_string();
    assert!(said.contains("refuses the user `neo4j`") && !said.contains("not it"), "{said}");
    let running = Running::start(config(&wrong), &Memory::new());
    running.until("it says so", |status| status.last_error.as_deref().is_some_and(|e| e.contains("refuses"))).await;
    running.stop().await;
    std::fs::remove_file(&file).unwrap();
    let gone = Link::open(&wrong).map(drop).unwrap_err().to_string();
    assert!(gone.contains("cannot be read"), "{gone}");
}

#[tokio::test]
async fn tls_takes_the_certificate_it_is_told_to_trust_and_no_other() {
    let server = shared();
    let address = server.config().address.replace("bolt://127.0.0.1", "bolt+s://localhost");
    let trusting = LinkConfig { address, ca: Some(server.authority()), ..server.config() };
    let link = Link::open(&trusting).unwrap();
    assert!(schema::server_version(&link).await.unwrap().contains("community"));
    let other = LinkConfig { ca: None, ..trusting.clone() };
    let refused = Link::open(&other).unwrap().begin().await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    let empty = LinkConfig { ca: Some(trusting.password_file.clone()), ..trusting };
    assert!(Link::open(&empty).map(drop).unwrap_err().to_string().contains("holds no PEM certificate"));
}

#[tokio::test]
async fn addresses_that_cannot_be_are_refused_with_a_sentence() {
    for (address, why) in [
        ("http://localhost", "must begin with bolt://"),
        ("neo4j://localhost:7687", "must begin with bolt://"),
        ("bolt://ada:secret@localhost:7687", "must not hold a user"),
        ("bolt://localhost:7687/graph", "nothing after the port"),
        ("bolt://", "must be bolt://HOST:PORT"),
    ] {
        let refused = Link::open(&LinkConfig::new(address, "neo4j", "/dev/null")).map(drop).unwrap_err().to_string();
        assert!(refused.contains(why) && !refused.contains("secret"), "{address}: {refused}");
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = LinkConfig {
        address: format!("bolt://{}", port.local_addr().unwrap()),
        connect_ms_max: 300,
        ..shared().config()
    };
    // It takes the connection and never says a word.
    let late = Link::open(&silent).unwrap().begin().await.map(drop).unwrap_err();
    assert!(matches!(late, LinkError::Late { ms: 300, .. }) && late.passes(), "{late:?}");
    drop(port);
    let nobody = Link::open(&silent).unwrap().begin().await.map(drop).unwrap_err();
    assert!(matches!(nobody, LinkError::Unreachable { .. }) && nobody.passes(), "{nobody:?}");
}
