//! An index that follows a metadata service made of maps, and the questions that tests put to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use dgfs_index::follower::follow;
use dgfs_index::index::{Index, OpenError};
use dgfs_index::meta_link::MetaLink;
use dgfs_index::metrics::register;
use dgfs_index::service::{IndexService, ServiceParts};
use dgfs_proto::graph::answer::{Facet, Hit};
use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphCall, GraphReply, GraphRequest, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::query::expr::parse_expr;
use dgfs_proto::query::{Context, Query};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, GraphProtocol, LocalChannel, MetaProtocol, Role};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::lifecycle::Shutdown;
use dgfs_runtime::metrics::MetricSet;

use crate::truth::{FakeMeta, Truth};

/// How often a question is put that has no answer in time: two minutes, after which it has none.
const TRIES: u32 = 24;

/// A directory that is gone with its owner.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("dgfs-index-test-{}", std::process::id()));
        Self::beside(&path)
    }

    /// A new directory whose path begins so. One that is there is passed over: a run that was killed left it, and the numbers of
    /// processes come round. The index in it is ahead of a young log, and answered for it until it was built anew.
    pub(crate) fn beside(prefix: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let mut path = prefix.as_os_str().to_owned();
            path.push(format!("-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
            match std::fs::create_dir(&path) {
                Ok(()) => return Self(path.into()),
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{}: {error}", prefix.display())
                }
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// See the module.
pub(crate) struct Rig {
    pub(crate) meta: Arc<FakeMeta>,
    pub(crate) index: Arc<Index>,
    scratch: Scratch,
    channel: Arc<dyn Channel<GraphProtocol>>,
    shutdown: Shutdown,
    follower: JoinHandle<()>,
}

pub(crate) fn expr(text: &str) -> Query {
    parse_expr(text, &Context::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Waits until whoever still works with an index (a thread that answers, a follower of its own) has let go of it.
async fn given_up(index: Arc<Index>) {
    let rest = Arc::downgrade(&index);
    drop(index);
    let gone = async {
        while rest.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), gone).await.unwrap_or_else(|_| panic!("the index is still in use"));
}

/// Opens the index, once the one before has closed its last file.
fn opened(directory: &Path) -> Arc<Index> {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        match Index::open(directory) {
            Err(OpenError::Lock(_)) if std::time::Instant::now() < end => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

impl Rig {
    pub(crate) fn new(truth: Truth) -> Self {
        Self::in_directory(FakeMeta::new(truth), Scratch::new())
    }

    fn in_directory(meta: Arc<FakeMeta>, scratch: Scratch) -> Self {
        let index = opened(scratch.path());
        let handler: Arc<dyn dgfs_runtime::channel::Handler<MetaProtocol>> = meta.clone();
        let link = MetaLink::new(vec![Arc::new(LocalChannel::new(handler, Role::Index))], "test");
        let service = IndexService::new(ServiceParts {
            index: index.clone(),
            meta: link.clone(),
            clock: Clock::real(),
            numbers: register(&MetricSet::new(), &index),
            cypher: None,
            taggers: None,
            tagger_versions: Vec::new(),
        });
        let shutdown = Shutdown::new();
        let follower = tokio::spawn(follow(index.clone(), link, shutdown.clone()));
        let channel = Arc::new(LocalChannel::new(service, Role::Client));
        Self { meta, index, scratch, channel, shutdown, follower }
    }

    /// Stops the index and opens it again.
    pub(crate) async fn restart(self) -> Self {
        let Self { meta, index, scratch, channel, shutdown, follower } = self;
        shutdown.ask();
        follower.await.unwrap();
        drop(channel);
        given_up(index).await;
        Self::in_directory(meta, scratch)
    }

    /// Stops the index, writes over its database, and opens it again.
    pub(crate) async fn restart_damaged(self) -> Self {
        let Self { meta, index, scratch, channel, shutdown, follower } = self;
        shutdown.ask();
        follower.await.unwrap();
        drop(channel);
        given_up(index).await;
        for entry in std::fs::read_dir(scratch.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "sqlite") {
                std::fs::write(&path, vec![0x5a; 8192]).unwrap();
            }
        }
        Self::in_directory(meta, scratch)
    }

    /// Waits until the index is of this generation, or a later one.
    pub(crate) async fn built(&self, generation: u64) {
        let mut applied = self.index.subscribe();
        let reached = async {
            while self.index.generation() < generation {
                applied.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(120), reached)
            .await
            .unwrap_or_else(|_| panic!("it is not built in time"));
    }

    /// A number that the tables tell.
    pub(crate) fn number(&self, sql: &str) -> u64 {
        let path = self.scratch.path().join(format!("graph-{}.sqlite", self.index.generation()));
        let connection =
            rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let number: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        u64::try_from(number).unwrap()
    }

    pub(crate) async fn ask_as(&self, viewer: Viewer, request: GraphRequest) -> GraphAnswer {
        self.reply(viewer, request).await.answer
    }

    pub(crate) async fn reply(&self, viewer: Viewer, request: GraphRequest) -> GraphReply {
        let call = GraphCall { request_id: 1, viewer, deadline_ms: 5000, at_least: None, request };
        self.channel.call(call, Bytes::new(), None).await.unwrap().0
    }

    /// Asks again what came too late: a machine that is busy with other things may take longer than a question's five seconds
    /// (a rebuild syncs its directory), and that is no wrong answer.
    pub(crate) async fn ask_patiently(&self, viewer: Viewer, request: GraphRequest) -> GraphAnswer {
        for _ in 1..TRIES {
            let answer = self.ask_as(viewer.clone(), request.clone()).await;
            if answer != GraphAnswer::Refused(Status::Unavailable) {
                return answer;
            }
        }
        self.ask_as(viewer, request).await
    }

    pub(crate) async fn ask(&self, request: GraphRequest) -> GraphAnswer {
        self.ask_as(Viewer::root(), request).await
    }

    /// All hits, page by page.
    pub(crate) async fn hits_as(&self, viewer: Viewer, scope: Ino, query: &Query, limit: u32) -> Vec<Hit> {
        let mut all: Vec<Hit> = Vec::new();
        loop {
            let after = all.last().map(|hit| hit.ino);
            let sought = Sought { scope, query: query.clone() };
            match self.ask_patiently(viewer.clone(), GraphRequest::Search { sought, after, limit }).await {
                GraphAnswer::Hits { hits, end, .. } => {
                    assert!(hits.len() <= limit as usize);
                    all.extend(hits);
                    if end {
                        return all;
                    }
                }
                other => panic!("{query:?}: {other:?}"),
            }
        }
    }

    /// Inodes that fit an expression.
    pub(crate) async fn find(&self, scope: Ino, text: &str) -> Vec<u64> {
        self.find_as(Viewer::root(), scope, text).await
    }

    pub(crate) async fn find_as(&self, viewer: Viewer, scope: Ino, text: &str) -> Vec<u64> {
        self.hits_as(viewer, scope, &expr(text), 100).await.into_iter().map(|hit| hit.ino.get()).collect()
    }

    pub(crate) async fn facets(&self, viewer: Viewer, scope: Ino, query: Query, prefix: &str) -> Vec<(String, u64)> {
        let request =
            GraphRequest::Facets { sought: Sought { scope, query }, prefix: prefix.to_owned(), limit: 10_000 };
        facets(self.ask_patiently(viewer, request).await)
    }
}

pub(crate) fn facets(answer: GraphAnswer) -> Vec<(String, u64)> {
    match answer {
        GraphAnswer::Facets(facets) => facets.into_iter().map(|Facet { name, count }| (name, count)).collect(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn user(uid: u32, gids: &[u32]) -> Viewer {
    Viewer { uid, gids: gids.to_vec() }
}
