//! The whole service on an engine that becomes full, and has room again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::class::Class;
use dgfs_proto::ids::{Epoch, Ino, OpId, SessionId, Uuid};
use dgfs_proto::meta::{
    Caller, ClientInfo, MetaCall, MetaReply, MetaRequest, Mutation, NewNode, Query, RemoveKind, SessionRequest,
    VolumeInfo,
};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Handler, Peer, Role};
use dgfs_runtime::clock::Clock;

use crate::engine::fjall::FjallEngine;
use crate::engine::testing::TestDir;
use crate::engine::{Batch, Durability, Engine, EngineError, EngineFuture, RowKey, RowRange, Table, WriterLease};
use crate::format::{FORMAT, format_volume};
use crate::service::{MEMORY_BYTES_DEFAULT, MetaOptions, MetaService, SERVER_GRACE_MS_DEFAULT};

mod graph;
mod kept_back;
mod watch;

/// How long the service may take to notice that there is room again.
const PATIENCE: Duration = Duration::from_secs(20);

/// An engine that is full when it is told so.
struct Filling {
    inner: FjallEngine,
    full: AtomicBool,
    /// Room for removals only.
    tight: AtomicBool,
    refused: AtomicU32,
}

impl Engine for Filling {
    fn acquire(&self, holder: String) -> EngineFuture<Option<WriterLease>> {
        self.inner.acquire(holder)
    }

    fn renew(&self, epoch: Epoch) -> EngineFuture<()> {
        self.inner.renew(epoch)
    }

    fn release(&self, epoch: Epoch) -> EngineFuture<()> {
        self.inner.release(epoch)
    }

    fn load(&self, keys: Vec<RowKey>) -> EngineFuture<Vec<Option<Vec<u8>>>> {
        self.inner.load(keys)
    }

    fn list(&self, range: RowRange) -> EngineFuture<Vec<(RowKey, Vec<u8>)>> {
        self.inner.list(range)
    }

    fn partitions(&self, table: Table, from: u64, limit: usize) -> EngineFuture<Vec<u64>> {
        self.inner.partitions(table, from, limit)
    }

    fn commit(&self, epoch: Epoch, batch: Batch, durability: Durability) -> EngineFuture<()> {
        let full = self.full.load(Ordering::Acquire);
        let work = self.inner.commit(epoch, batch, durability);
        if full {
            self.refused.fetch_add(1, Ordering::AcqRel);
            return Box::pin(async {
                // A real one takes its time: others change rows meanwhile.
                tokio::task::yield_now().await;
                Err(EngineError::NoSpace)
            });
        }
        Box::pin(async {
            tokio::task::yield_now().await;
            work.await
        })
    }

    fn sync(&self) -> EngineFuture<()> {
        self.inner.sync()
    }

    fn has_room(&self) -> bool {
        !self.tight.load(Ordering::Acquire)
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn calls(&self) -> u64 {
        self.inner.calls()
    }
}

struct Bench {
    engine: Arc<Filling>,
    service: Arc<MetaService>,
    session: SessionId,
    op: AtomicU32,
    local: bool,
    _dir: Arc<TestDir>,
}

async fn engine(dir: &TestDir) -> Arc<Filling> {
    let inner = FjallEngine::create(&dir.path().join("meta")).unwrap();
    let volume = volume();
    format_volume(&inner, &volume, Class::SINGLE).await.unwrap();
    let off = || AtomicBool::new(false);
    Arc::new(Filling { inner, full: off(), tight: off(), refused: AtomicU32::new(0) })
}

fn volume() -> VolumeInfo {
    VolumeInfo {
        uuid: Uuid([7; 16]),
        name: "test".to_owned(),
        chunk_bytes: 1 << 20,
        inline_bytes_max: 4096,
        format: FORMAT,
        created: Timestamp::from_ms(1),
        initial_servers: 1,
    }
}

impl Bench {
    async fn new(local: bool) -> Self {
        let dir = Arc::new(TestDir::new("service-full"));
        let engine = engine(&dir).await;
        Self::start(dir, engine, local).await
    }

    async fn start(dir: Arc<TestDir>, engine: Arc<Filling>, local: bool) -> Self {
        let options = MetaOptions {
            holder: "test".to_owned(),
            memory_bytes: MEMORY_BYTES_DEFAULT,
            exclusive: local,
            data: None,
            root_owner: Caller { uid: 0, gid: 0 },
            server_grace_ms: SERVER_GRACE_MS_DEFAULT,
            clock: Clock::real(),
        };
        let service = MetaService::start(Arc::clone(&engine) as Arc<dyn Engine>, options).await.unwrap();
        let session = SessionId::new(1).unwrap();
        let mut bench = Self { engine, service, session, op: AtomicU32::new(0), local, _dir: dir };
        bench.session = bench.open().await;
        bench
    }

    async fn open(&self) -> SessionId {
        let open = SessionRequest::Open { client: ClientInfo::default(), key: 7, resume: None, opens: Vec::new() };
        loop {
            match self.call(MetaRequest::Session(open.clone())).await {
                MetaReply::Session { id, .. } => return id,
                MetaReply::Refused(Status::NotActive) => tokio::task::yield_now().await,
                other => panic!("opening a session answered {other:?}"),
            }
        }
    }

    async fn call(&self, request: MetaRequest) -> MetaReply {
        let peer = Arc::new(Peer { role: Role::Client, address: "test".to_owned(), local: self.local });
        let call = MetaCall { request_id: 1, session: Some(self.session), request };
        let answer = Arc::clone(&self.service).handle(peer, call, Bytes::new());
        tokio::time::timeout(PATIENCE, answer).await.expect("every call is answered").0
    }

    async fn mutate(&self, mutation: Mutation) -> Result<MetaReply, Status> {
        let op = OpId(u64::from(self.op.fetch_add(1, Ordering::AcqRel)) + 1);
        match self.call(MetaRequest::Mutate { op, acked: OpId(0), mutation }).await {
            MetaReply::Refused(status) => Err(status),
            reply => Ok(reply),
        }
    }

    async fn make(&self, text: &str, open: bool) -> Result<(), Status> {
        let (caller, node) = (Caller { uid: 0, gid: 0 }, NewNode::File);
        self.mutate(Mutation::Make {
            parent: Ino::ROOT,
            name: name(text),
            node,
            mode: 0o644,
            umask: 0,
            caller,
            open,
            ino: None,
        })
        .await
        .map(drop)
    }

    async fn remove(&self, text: &str) -> Result<(), Status> {
        let kind = RemoveKind::Unlink;
        self.mutate(Mutation::Remove { parent: Ino::ROOT, name: name(text), kind }).await.map(drop)
    }

    async fn names(&self) -> BTreeSet<String> {
        let query = Query::ReadDir { ino: Ino::ROOT, cookie: 0, limit: 1000 };
        match self.call(MetaRequest::Query(query)).await {
            MetaReply::Entries { entries, end: true } => {
                entries.into_iter().map(|entry| entry.name.to_string()).collect()
            }
            other => panic!("listing the root answered {other:?}"),
        }
    }

    /// Until the service tries the engine again.
    async fn make_when_there_is_room(&self, text: &str) {
        let end = std::time::Instant::now() + PATIENCE;
        while self.make(text, false).await == Err(Status::NoSpace) {
            assert!(std::time::Instant::now() < end, "it never noticed that there is room");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A further service on what the engine holds: it reads everything anew. Sessions go on.
    async fn taken_over(&self) -> Self {
        self.service.shutdown().await.unwrap();
        Self::start(Arc::clone(&self._dir), Arc::clone(&self.engine), self.local).await
    }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_engine_refuses_changes_with_no_space_and_everything_else_goes_on() {
    for local in [true, false] {
        let bench = Bench::new(local).await;
        bench.make("before", false).await.unwrap();
        bench.engine.full.store(true, Ordering::Release);
        for text in ["one", "two", "three"] {
            assert_eq!(bench.make(text, true).await, Err(Status::NoSpace));
        }
        assert_eq!(bench.remove("before").await, Err(Status::NoSpace));
        assert_eq!(bench.names().await, set(&["before"]), "what was refused has not happened");
        assert_eq!(bench.call(MetaRequest::Sync).await, MetaReply::Done);
        bench.engine.full.store(false, Ordering::Release);
        bench.make_when_there_is_room("after").await;
        bench.remove("before").await.unwrap();
        assert_eq!(bench.names().await, set(&["after"]));
        let bench = bench.taken_over().await;
        assert_eq!(bench.names().await, set(&["after"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_room_for_removals_only_they_succeed_and_what_grows_is_refused() {
    let bench = Bench::new(true).await;
    for text in ["a", "b"] {
        bench.make(text, false).await.unwrap();
    }
    bench.engine.tight.store(true, Ordering::Release);
    assert_eq!(bench.make("c", false).await, Err(Status::NoSpace));
    bench.remove("a").await.unwrap();
    assert_eq!(bench.names().await, set(&["b"]));
    assert_eq!(bench.engine.refused.load(Ordering::Acquire), 0, "the engine was not even asked");
    bench.engine.tight.store(false, Ordering::Release);
    bench.make("c", false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_starts_on_a_full_engine_and_reads() {
    let bench = Bench::new(true).await;
    bench.make("file", false).await.unwrap();
    bench.engine.full.store(true, Ordering::Release);
    // The session before has not ended, as after a kill.
    let bench = bench.taken_over().await;
    assert_eq!(bench.names().await, set(&["file"]));
    assert_eq!(bench.make("more", false).await, Err(Status::NoSpace));
    bench.engine.full.store(false, Ordering::Release);
    bench.make_when_there_is_room("more").await;
    bench.remove("file").await.unwrap();
    let bench = bench.taken_over().await;
    assert_eq!(bench.names().await, set(&["more"]));
}

/// Many at once, and an engine that is full now and then: whoever was told yes finds his file, now and after another service took over;
/// whoever was told no does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_never_runs_ahead_of_an_engine_that_refuses_batches() {
    for local in [true, false] {
        let bench = Arc::new(Bench::new(local).await);
        let makers: Vec<_> = (0..8)
            .map(|maker| {
                let bench = Arc::clone(&bench);
                tokio::spawn(async move {
                    let mut there = BTreeSet::new();
                    for round in 0..60 {
                        let text = format!("{maker}-{round}");
                        if bench.make(&text, round % 3 == 0).await.is_ok() {
                            there.insert(text.clone());
                        }
                        if round % 4 == 1 && there.contains(&text) && bench.remove(&text).await.is_ok() {
                            there.remove(&text);
                        }
                        if round % 5 == 0 {
                            let listed = bench.names().await;
                            let mine = |name: &&String| name.starts_with(&format!("{maker}-"));
                            assert_eq!(listed.iter().filter(mine).cloned().collect::<BTreeSet<_>>(), there);
                        }
                        tokio::time::sleep(Duration::from_millis(15)).await;
                    }
                    there
                })
            })
            .collect();
        let filler = {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                for round in 0..200 {
                    bench.engine.full.store(round % 3 == 1, Ordering::Release);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                bench.engine.full.store(false, Ordering::Release);
            })
        };
        let mut there = BTreeSet::new();
        for maker in makers {
            there.extend(maker.await.unwrap());
        }
        filler.await.unwrap();
        assert!(bench.engine.refused.load(Ordering::Acquire) > 0, "nothing was refused");
        assert_eq!(bench.names().await, there);
        bench.make_when_there_is_room("last").await;
        there.insert("last".to_owned());
        let bench = bench.taken_over().await;
        assert_eq!(bench.names().await, there);
    }
}
