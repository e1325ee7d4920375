//! The index of an embedded volume: it opens beside the mount, and follows the change log in this process.
//!
//! Never holds up a mount: who asks before it is open waits, within the call's own time. Always: when it cannot be opened, or
//! while it is not, files work as ever, and only questions to the graph are refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use dgfs_client::config::{VfsConfig, VfsDeps};
use dgfs_index::follower::follow;
use dgfs_index::index::Index;
use dgfs_index::meta_link::MetaLink;
use dgfs_index::metrics::{register, register_neo4j};
use dgfs_index::neo4j::service::Neo4j;
use dgfs_index::neo4j::settings::Neo4jConfig;
use dgfs_index::service::{Extension, IndexService, ServiceParts};
use dgfs_index::tagging::{Tagging, TaggingParts, worker_command};
use dgfs_proto::graph::{GraphCall, GraphReply};
use dgfs_proto::meta::ClientInfo;
use dgfs_runtime::channel::{CallError, Channel, GraphProtocol, LocalChannel, MetaProtocol, Role};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::lifecycle::Shutdown;
use dgfs_runtime::metrics::MetricSet;

/// Worker processes: one core is left to those who use the files.
const WORKERS: usize = 1;
/// How the index of an embedded volume is called in its change log.
const CONSUMER: &str = "index";

/// The change log, and the contents of files.
pub(super) type Sources = (Arc<dyn Channel<MetaProtocol>>, VfsDeps);

/// What became of opening it.
#[derive(Clone)]
enum State {
    Opening,
    Open(Arc<LocalChannel<GraphProtocol>>),
    /// A sentence.
    Failed(String),
}

/// An index that opens while the mount serves.
pub(super) struct EmbeddedIndex {
    state: watch::Receiver<State>,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl EmbeddedIndex {
    /// Opens the index in `dir` in the background; it follows `meta`, and `neo4j` follows it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(super) fn start(
        dir: PathBuf,
        (meta, contents): Sources,
        metrics: MetricSet,
        neo4j: Option<Neo4jConfig>,
    ) -> Self {
        let (sender, state) = watch::channel(State::Opening);
        let shutdown = Shutdown::new();
        let (asked, place) = (shutdown.clone(), dir.clone());
        let task = tokio::spawn(async move {
            let opened = tokio::task::spawn_blocking(move || Index::open(&dir)).await;
            let index = match opened {
                Ok(Ok(index)) => index,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the index cannot be opened: files work, questions to the graph do not");
                    sender.send_replace(State::Failed(error.to_string()));
                    return;
                }
                Err(_) => {
                    sender.send_replace(State::Failed("it panicked while it was opened: see the log".to_owned()));
                    return;
                }
            };
            let meta = MetaLink::new(vec![meta], CONSUMER);
            let tagging = tagging(&index, contents, &place);
            tagging.register(&metrics);
            let neo4j = neo4j.map(|neo4j| Neo4j::new(neo4j, Arc::clone(&index), Arc::clone(&meta)));
            if let Some(neo4j) = &neo4j {
                register_neo4j(&metrics, neo4j);
            }
            let service = IndexService::new(ServiceParts {
                index: Arc::clone(&index),
                meta: Arc::clone(&meta),
                clock: Clock::real(),
                numbers: register(&metrics, &index),
                cypher: neo4j.clone().map(|neo4j| Arc::new(neo4j) as Arc<dyn Extension>),
                taggers: Some(Arc::<Tagging>::clone(&tagging)),
                tagger_versions: tagging.versions(),
            });
            sender.send_replace(State::Open(Arc::new(LocalChannel::new(service, Role::Client))));
            let looking = tokio::spawn(tagging.run(asked.clone()));
            let followed = neo4j.map(|neo4j| tokio::spawn(neo4j.run(asked.clone())));
            follow(index, meta, asked).await;
            if let Some(followed) = followed
                && let Err(error) = followed.await
            {
                tracing::error!(%error, "Neo4j was not followed to the end");
            }
            if let Err(error) = looking.await {
                tracing::error!(%error, "taggers ended early");
            }
        });
        Self { state, shutdown, task }
    }

    /// Reaches it.
    pub(super) fn channel(&self) -> Arc<dyn Channel<GraphProtocol>> {
        Arc::new(IndexChannel { state: self.state.clone(), runtime: Handle::current() })
    }

    /// Ends it: it follows nothing any more when this returns.
    pub(super) async fn close(self) {
        self.shutdown.ask();
        if self.task.await.is_err() {
            tracing::error!("the index panicked: see above; it goes on from what it has stored");
        }
    }
}

fn tagging(index: &Arc<Index>, contents: VfsDeps, dir: &Path) -> Arc<Tagging> {
    Tagging::new(TaggingParts {
        index: Arc::clone(index),
        contents: (VfsConfig::embedded(ClientInfo::default()), contents),
        worker: worker_command(),
        workers: WORKERS,
        // Beside the index, which may be removed and is built anew: registrations are not.
        registrations: dir.with_file_name("taggers"),
        spool: dir.join("spool"),
    })
}

/// Waits for the index, then asks it.
struct IndexChannel {
    state: watch::Receiver<State>,
    runtime: Handle,
}

impl Channel<GraphProtocol> for IndexChannel {
    fn call(
        &self,
        call: GraphCall,
        body: Bytes,
        deadline: Option<Duration>,
    ) -> BoxFuture<'static, Result<(GraphReply, Bytes), CallError>> {
        let (mut state, runtime) = (self.state.clone(), self.runtime.clone());
        let opened = match &*self.state.borrow() {
            State::Open(channel) => Some(Arc::clone(channel)),
            State::Opening | State::Failed(_) => None,
        };
        Box::pin(async move {
            if let Some(channel) = opened {
                return channel.call(call, body, deadline).await;
            }
            let away = |reason: String| CallError::Unreachable { peer: "the index of this volume".to_owned(), reason };
            let patience = Duration::from_millis(u64::from(call.deadline_ms));
            let waited = {
                let waiting = state.wait_for(|state| !matches!(state, State::Opening));
                let bounded = {
                    let _entered = runtime.enter();
                    tokio::time::timeout(patience, waiting)
                };
                match bounded.await {
                    Ok(Ok(state)) => state.clone(),
                    Ok(Err(_)) => State::Failed("it ended while it was opened".to_owned()),
                    Err(_) => State::Failed("it is still being opened".to_owned()),
                }
            };
            match waited {
                State::Open(channel) => channel.call(call, body, deadline).await,
                State::Failed(reason) => Err(away(reason)),
                State::Opening => Err(away("it is still being opened".to_owned())),
            }
        })
    }

    fn peer(&self) -> &str {
        "the index of this volume"
    }
}
