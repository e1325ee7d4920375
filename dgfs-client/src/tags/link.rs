//! The way to the graph: any of several indexes answers.
//!
//! Never changes anything by asking, so every question may be asked of the next one. Always: a question ends by its deadline,
//! and one asked after an own change returned is answered with that change.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use dgfs_proto::graph::{GraphAnswer, GraphCall, GraphReply, GraphRequest, Viewer};
use dgfs_proto::limits::{GRAPH_DEADLINE_MS, POLL_MS};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{CallError, Channel, GraphProtocol};
use dgfs_runtime::trace::{self, Stage};

use crate::core::Core;
use crate::operation::{Backoff, Op};
use crate::tags::accounts;

/// How long a question may take.
const PATIENCE: Duration = Duration::from_millis(GRAPH_DEADLINE_MS);
/// One index is given so long before the next one is asked: two of them get their turn.
const TRY: Duration = Duration::from_millis(GRAPH_DEADLINE_MS / 2);
/// An index that waits for events is to answer before its caller gives up.
const WATCH: Duration = Duration::from_millis(POLL_MS + GRAPH_DEADLINE_MS);

/// A comparison with the metadata, and with Neo4j, reads everything.
const CHECK: Duration = Duration::from_secs(15 * 60);
/// A question in Cypher may take half a minute, and its way there and back.
const CYPHER: Duration = Duration::from_secs(40);

/// Channels to indexes.
pub(crate) struct GraphLink {
    channels: Vec<Arc<dyn Channel<GraphProtocol>>>,
    /// The one that answered last.
    active: AtomicUsize,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// With a reason that programs know.
    #[error("{0}")]
    Status(Status),
    /// With a sentence.
    #[error("{0}")]
    Sentence(String),
    /// What is named is not there: a sentence.
    #[error("{0}")]
    Unknown(String),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Refusal {
    /// What a system call is told.
    pub(crate) const fn status(&self) -> Status {
        match self {
            Self::Status(status) => *status,
            Self::Sentence(_) => Status::Invalid,
            Self::Unknown(_) => Status::NotFound,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        if let Refusal::Sentence(sentence) | Refusal::Unknown(sentence) = &refusal {
            tracing::debug!(sentence, "the index refused");
        }
        refusal.status()
    }
}

impl GraphLink {
    pub(crate) const fn new(channels: Vec<Arc<dyn Channel<GraphProtocol>>>) -> Self {
        Self { channels, active: AtomicUsize::new(0) }
    }

    async fn attempt(&self, at: usize, call: GraphCall, patience: Duration) -> Result<GraphReply, CallError> {
        let Some(channel) = self.channels.get(at) else {
            return Err(CallError::Unreachable { peer: String::new(), reason: "no such index".to_owned() });
        };
        let asked = trace::timed(Stage::Index, channel.call(call, Bytes::new(), Some(patience)));
        match tokio::time::timeout(patience, asked).await {
            Ok(answer) => answer.map(|(reply, _)| reply),
            // A channel inside this process does not count the time by itself.
            Err(_) => Err(CallError::TimedOut { peer: channel.peer().to_owned(), after: patience }),
        }
    }
}

/// An answer, or what the index says instead.
fn judged(reply: GraphReply) -> Result<GraphReply, Refusal> {
    match reply.answer {
        GraphAnswer::Refused(status) => Err(Refusal::Status(status)),
        GraphAnswer::Denied(sentence) => Err(Refusal::Sentence(sentence)),
        _ => Ok(reply),
    }
}

impl Core {
    /// Asks the graph, which knows of every change that this mount was told as done.
    pub(crate) async fn ask_graph(&self, viewer: &Viewer, mut request: GraphRequest) -> Result<GraphReply, Refusal> {
        accounts::number(&mut request, &self.runtime).await?;
        let (patience, each) = match request {
            GraphRequest::Watch { .. } => (WATCH, WATCH),
            GraphRequest::Check => (CHECK, CHECK),
            GraphRequest::Cypher(_) => (CYPHER, CYPHER),
            _ => (PATIENCE, TRY),
        };
        let end = Instant::now() + patience;
        // What takes long is given its time, but an index that is away is not waited for as long.
        let (op, mut backoff) = (Op::within(patience.min(WATCH), false), Backoff::new());
        let count = self.graph.channels.len();
        if count == 0 {
            return Err(Refusal::Status(Status::NotSupported));
        }
        // The index asks meta how far meta is; what this mount has not told meta yet would not be in that.
        self.link.kept.drained(&op).await?;
        loop {
            let first = self.graph.active.load(Ordering::Relaxed);
            for at in (first..first + count).map(|at| at % count) {
                let left = end.saturating_duration_since(Instant::now()).min(each);
                if left.is_zero() {
                    return Err(Refusal::Status(Status::Unavailable));
                }
                match self.graph.attempt(at, self.graph_call(viewer, &request, left), left).await.map(judged) {
                    Ok(Err(Refusal::Status(status))) if status.is_transient() => {
                        tracing::debug!(%status, index = at, "an index cannot answer now");
                    }
                    Ok(answer) => {
                        self.graph.active.store(at, Ordering::Relaxed);
                        return answer;
                    }
                    Err(error @ CallError::Rejected { .. }) => return Err(Refusal::Sentence(error.to_string())),
                    Err(error @ (CallError::Unreachable { .. } | CallError::TimedOut { .. })) => {
                        tracing::debug!(%error, "an index did not answer");
                    }
                }
            }
            backoff.pause(&op).await?;
        }
    }

    /// Waits until every index that answers has applied everything that meta had answered before the call.
    pub(crate) async fn sync_graph(&self, viewer: &Viewer, request: &GraphRequest) -> Result<(), Status> {
        let op = Op::within(PATIENCE, false);
        self.link.kept.drained(&op).await?;
        let mut outcome = Err(if self.graph.channels.is_empty() { Status::NotSupported } else { Status::Unavailable });
        for at in 0..self.graph.channels.len() {
            match self.graph.attempt(at, self.graph_call(viewer, request, PATIENCE), PATIENCE).await.map(judged) {
                Ok(Ok(_)) => outcome = Ok(()),
                Ok(Err(refusal)) => return Err(refusal.into()),
                // Who does not answer shows nobody anything old either.
                Err(CallError::Unreachable { .. }) => {}
                Err(CallError::TimedOut { .. } | CallError::Rejected { .. }) => return Err(Status::Unavailable),
            }
        }
        outcome
    }

    fn graph_call(&self, viewer: &Viewer, request: &GraphRequest, left: Duration) -> GraphCall {
        GraphCall {
            request_id: trace::request_id(),
            viewer: viewer.clone(),
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            at_least: None,
            request: request.clone(),
        }
    }
}
