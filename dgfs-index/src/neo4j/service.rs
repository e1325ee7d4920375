//! Neo4j beside an index: follows it, answers Cypher, says how far it is, and compares the two.
//!
//! Never in the way of the index: when the server is away, only questions in Cypher are refused. Always: Cypher, which sees
//! everything, is for root; an answer that does not fit is refused, not cut; and a comparison takes no change under way for a
//! difference.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::{error, warn};

use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::Seq;
use dgfs_proto::limits::FRAME_HEAD_BYTES_MAX;
use dgfs_proto::status::Status;
use dgfs_runtime::lifecycle::Shutdown;

use super::catalogue::Catalogue;
use super::check::{CheckReport, check, check_contents, check_some, check_tags};
use super::follow::{FollowConfig, StatusHandle, follow};
use super::liken::Asked;
use super::link::Link;
use super::raw::{self, RawLimits};
use super::settings::Neo4jConfig;
use super::source::{Expected, IndexSource, alike};
use crate::index::Index;
use crate::meta_link::MetaLink;
use crate::service::Extension;
use crate::store::Readers;

/// How long the metadata service is given before it is asked again which volume it has.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a comparison waits for the graph to catch up.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(120);
/// How often it looks whether the graph has.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Differences told; what is behind is counted only.
const LINES_MAX: usize = 1_000;
/// What differs is compared so often: it may change all the time.
const TRIES: usize = 4;
/// Bytes of one answer: a frame holds it with its head.
const ANSWER_BYTES_MAX: usize = FRAME_HEAD_BYTES_MAX as usize - (64 << 10);

/// See the module.
#[derive(Clone)]
pub struct Neo4j {
    config: Neo4jConfig,
    index: Arc<Index>,
    meta: Arc<MetaLink>,
    /// The stamp that the index had when it was opened.
    opened: u64,
    status: StatusHandle,
    runtime: Handle,
}

impl Neo4j {
    /// Neo4j at `config`, beside an `index` of which nothing was applied yet since it was opened. It works on the runtime that it
    /// is made in, once [`Self::run`] is called.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(config: Neo4jConfig, index: Arc<Index>, meta: Arc<MetaLink>) -> Self {
        let (opened, status) = (index.applied().stamp, StatusHandle::default());
        Self { config, index, meta, opened, status, runtime: Handle::current() }
    }

    /// Follows the index until `shutdown`, or until another writer takes over.
    pub async fn run(self, shutdown: Shutdown) {
        let source = match IndexSource::open(Arc::clone(&self.index), self.opened) {
            Ok(source) => source,
            Err(error) => {
                error!(%error, "the graph in Neo4j is not followed: the file `neo4j` of the index cannot be read");
                self.status.fail(format!("the file `neo4j` of the index cannot be read: {error}"));
                return;
            }
        };
        let volume = loop {
            match self.meta.volume().await {
                Ok(volume) => break volume.uuid.to_string(),
                Err(_away) => tokio::select! {
                    () = tokio::time::sleep(ASK_AGAIN) => {}
                    () = shutdown.asked() => return,
                },
            }
        };
        let config = FollowConfig { link: self.config.link(), volume };
        follow(config, source, self.status.clone(), shutdown).await;
    }

    /// How far it is, for whoever outlives it.
    #[must_use]
    pub fn status(&self) -> StatusHandle {
        self.status.clone()
    }

    /// The index that is followed.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    async fn query(&self, text: &str) -> GraphAnswer {
        let answered = async {
            let link = Link::open(&self.config.link())?;
            raw::query(&link, text, Map::new(), RawLimits::default()).await
        };
        let answer = match answered.await {
            Ok(answer) => answer,
            Err(error) => return GraphAnswer::Denied(error.to_string()),
        };
        if answer.cut {
            let sentence = format!("the answer has more than {} rows: add a LIMIT", raw::ROWS_MAX);
            return GraphAnswer::Denied(sentence);
        }
        let mut text = String::new();
        for row in answer.rows {
            text.push_str(&Value::Object(row).to_string());
            text.push('\n');
            if text.len() > ANSWER_BYTES_MAX {
                let sentence = format!("the answer has more than {} KiB: return less", ANSWER_BYTES_MAX >> 10);
                return GraphAnswer::Denied(sentence);
            }
        }
        GraphAnswer::Text(text)
    }

    async fn check(&self) -> Result<String, String> {
        let link = Link::open(&self.config.link()).map_err(|error| error.to_string())?;
        let link = Arc::new(link);
        let (mut lines, mut counts, mut differ) = (Vec::new(), Vec::new(), 0);
        for what in [What::Vertices, What::Contents, What::Tags] {
            let (compared, report) = self.compare_patiently(&link, what).await?;
            differ += report.differences.len() as u64 + report.more;
            lines.extend(report.differences);
            counts.push(format!("{compared} {}", what.name()));
        }
        lines.push(format!("{} compared with Neo4j, {differ} differences", counts.join(", ")));
        Ok(lines.join("\n"))
    }

    /// How many were compared, and what differs still when all had time to be written.
    async fn compare_patiently(&self, link: &Arc<Link>, what: What) -> Result<(u64, CheckReport), String> {
        self.caught_up().await?;
        let mut report = self.compare(link, what, None).await?;
        let compared = report.compared;
        for _ in 1..TRIES {
            if report.is_clean() {
                break;
            }
            self.caught_up().await?;
            let untold = report.more;
            let again = self.compare(link, what, Some(report)).await?;
            // What did not fit among the suspects is not looked at again.
            let more = if again.is_clean() { 0 } else { untold.max(again.more) };
            report = CheckReport { more, ..again };
        }
        Ok((compared, report))
    }

    /// Waits until the graph has what the index has now.
    async fn caught_up(&self) -> Result<(), String> {
        let wanted = self.index.applied().stamp;
        let end = Instant::now() + CAUGHT_UP_MAX;
        loop {
            let status = self.status.read();
            if status.connected && status.likened >= wanted {
                return Ok(());
            }
            if let Some(error) = status.last_error {
                return Err(format!("the graph in Neo4j was not compared: {error}"));
            }
            if Instant::now() > end {
                let behind = wanted.saturating_sub(status.likened);
                return Err(format!("the graph in Neo4j was not compared: it is {behind} changes behind"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Compares in a thread that may block: the index is read while Neo4j is.
    async fn compare(&self, link: &Arc<Link>, what: What, some: Option<CheckReport>) -> Result<CheckReport, String> {
        let (link, readers, runtime) = (Arc::clone(link), self.index.readers(), self.runtime.clone());
        let compared = tokio::task::spawn_blocking(move || match what {
            What::Vertices => compare_vertices(&runtime, &link, readers, some.map(|report| report.suspects)),
            What::Contents => {
                let some = some.map(|report| report.contents);
                let said = |asked: &Asked| alike(&readers, asked).map_err(|error| error.to_string());
                runtime
                    .block_on(check_contents(&link, some.as_ref(), said, LINES_MAX))
                    .map_err(|error| error.to_string())
            }
            What::Tags => {
                let nodes = Catalogue::read(&readers).map_err(|error| error.to_string())?.into_nodes();
                runtime.block_on(check_tags(&link, nodes, LINES_MAX)).map_err(|error| error.to_string())
            }
        });
        compared.await.map_err(|_| "comparing with Neo4j ended early; see the log".to_owned())?
    }
}

/// What a comparison goes through, one after the other.
#[derive(Clone, Copy)]
enum What {
    Vertices,
    /// The edges between like ones.
    Contents,
    /// The edges between them.
    Tags,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Vertices => "vertices",
            Self::Contents => "contents",
            Self::Tags => "tags",
        }
    }
}

fn compare_vertices(
    runtime: &Handle,
    link: &Link,
    readers: Readers,
    some: Option<BTreeSet<u64>>,
) -> Result<CheckReport, String> {
    let mut failed = None;
    let expected = Expected::of(readers, some.as_ref(), &mut failed).map_err(|error| error.to_string())?;
    let report = runtime.block_on(async {
        match &some {
            Some(some) => check_some(link, some, expected, LINES_MAX).await,
            None => check(link, expected, LINES_MAX).await,
        }
    });
    match failed {
        Some(error) => Err(error.to_string()),
        None => report.map_err(|error| error.to_string()),
    }
}

impl Extension for Neo4j {
    fn answer(&self, viewer: Viewer, request: GraphRequest) -> BoxFuture<'static, GraphAnswer> {
        let (own, runtime) = (self.clone(), self.runtime.clone());
        Box::pin(async move {
            if viewer.uid != 0 {
                return GraphAnswer::Refused(Status::NotPermitted);
            }
            // The caller may poll from a thread that has no runtime.
            let answered = runtime.spawn(async move {
                match request {
                    GraphRequest::Cypher(text) => own.query(&text).await,
                    GraphRequest::Check => own.check().await.map_or_else(GraphAnswer::Denied, GraphAnswer::Text),
                    _ => GraphAnswer::Refused(Status::NotSupported),
                }
            });
            answered.await.unwrap_or_else(|error| {
                warn!(%error, "a question to Neo4j ended early");
                GraphAnswer::Refused(Status::Io)
            })
        })
    }

    fn followed(&self) -> Option<(Seq, Option<String>)> {
        let status = self.status.read();
        Some((Seq(status.seq), status.last_error))
    }
}
