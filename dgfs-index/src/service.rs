//! Answers [`GraphProtocol`]: waits for what came before a question, then asks the graph.
//!
//! Never holds the graph's lock while it waits. Always: at most [`QUERIES_MAX`] questions are worked on at a time and
//! [`WAITING_MAX`] wait; more are refused with `Busy`.

mod watches;
mod watching;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{AcquireError, Semaphore};
use tokio::time::Sleep;

use dgfs_proto::graph::answer::IndexStatus;
use dgfs_proto::graph::request::TaggerCommand;
use dgfs_proto::graph::{GraphAnswer, GraphCall, GraphReply, GraphRequest, Viewer};
use dgfs_proto::ids::{Ino, Seq};
use dgfs_proto::limits::{GRAPH_DEADLINE_MS, GROUPS_MAX};
use dgfs_proto::permission::Wanted;
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{GraphProtocol, Handler, Peer};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::trace::slow::{self, Served};

use crate::graph::Graph;
use crate::index::Index;
use crate::meta_link::MetaLink;
use crate::metrics::QueryNumbers;
use crate::query::answer::Question;
use crate::query::view::View;
use crate::query::{Ask, Deadline, Refusal};
use crate::rebuild::check;
use crate::service::watches::Watches;

/// Questions worked on at a time: each takes a thread.
const QUERIES_MAX: usize = 16;
/// Questions of one user worked on at a time: the others are left room.
const QUERIES_OF_USER_MAX: usize = 4;
/// Users whose questions are counted apart; beyond, those with none under way are forgotten.
const USERS_MAX: usize = 1024;
/// So long a user's question is worked on in any case; then it gives way to changes, which all other questions wait for.
const UNDISTURBED: Duration = Duration::from_secs(1);
/// Questions that wait for changes, for their turn, or for something to happen.
const WAITING_MAX: usize = 4096;
/// A comparison with the metadata reads everything: it may take longer than a question.
const CHECK_MS: u64 = 10 * 60_000;
const NS_PER_MS: u64 = 1_000_000;

/// Answers what is not the embedded graph's: questions in Cypher and comparisons with Neo4j, and commands to taggers.
pub trait Extension: Send + Sync + 'static {
    /// Answers it.
    fn answer(&self, viewer: Viewer, request: GraphRequest) -> BoxFuture<'static, GraphAnswer>;

    /// Jobs that wait or are under way.
    fn jobs(&self) -> u64 {
        0
    }

    /// Up to where something that follows the index is, and what is wrong with it; none where nothing does.
    fn followed(&self) -> Option<(Seq, Option<String>)> {
        None
    }
}

/// What a service is made of.
pub struct ServiceParts {
    /// What it answers from.
    pub index: Arc<Index>,
    /// Asked for the log's end.
    pub meta: Arc<MetaLink>,
    /// Time.
    pub clock: Clock,
    /// Where questions are counted.
    pub numbers: QueryNumbers,
    /// Answers Cypher, where Neo4j is configured.
    pub cypher: Option<Arc<dyn Extension>>,
    /// Answers for the taggers, where there are any.
    pub taggers: Option<Arc<dyn Extension>>,
    /// Taggers that are to look at every file, with their versions.
    pub tagger_versions: Vec<(String, u32)>,
}

/// See the module.
pub struct IndexService {
    parts: ServiceParts,
    runtime: Handle,
    working: Semaphore,
    users: Mutex<HashMap<u32, Arc<Semaphore>>>,
    waiting: Semaphore,
    checking: Semaphore,
    watches: Watches,
}

impl IndexService {
    /// A service that works on the runtime it is made in.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(parts: ServiceParts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            runtime: Handle::current(),
            working: Semaphore::new(QUERIES_MAX),
            users: Mutex::default(),
            waiting: Semaphore::new(WAITING_MAX),
            checking: Semaphore::new(1),
            watches: Watches::default(),
        })
    }

    async fn reply(self: Arc<Self>, call: GraphCall) -> GraphReply {
        let numbers = &self.parts.numbers;
        numbers.queries.inc();
        let (seq, answer) = self.answer(call).await.unwrap_or_else(|refusal| {
            numbers.refused.inc();
            let answer = match refusal {
                Refusal::Status(status) => {
                    numbers.late.inc_by(u64::from(status == Status::Unavailable));
                    GraphAnswer::Refused(status)
                }
                Refusal::Sentence(sentence) => GraphAnswer::Denied(sentence),
            };
            (self.parts.index.applied().seq, answer)
        });
        GraphReply { seq, answer }
    }

    async fn answer(self: &Arc<Self>, call: GraphCall) -> Result<(Seq, GraphAnswer), Refusal> {
        if call.viewer.gids.len() > GROUPS_MAX {
            return Err(Status::Malformed.into());
        }
        let Ok(_waiting) = self.waiting.try_acquire() else { return Err(Status::Busy.into()) };
        let applied = || self.parts.index.applied().seq;
        match call.request {
            GraphRequest::Status => {
                let jobs = self.parts.taggers.as_ref().map_or(0, |taggers| taggers.jobs());
                let neo4j = self.parts.cypher.as_ref().and_then(|cypher| cypher.followed());
                Ok((applied(), GraphAnswer::Status(IndexStatus { jobs, neo4j, ..self.parts.index.status() })))
            }
            GraphRequest::Rebuild => {
                administrators_only(&call.viewer)?;
                self.parts.index.rebuild.notify_one();
                Ok((applied(), GraphAnswer::Done))
            }
            GraphRequest::Check => {
                administrators_only(&call.viewer)?;
                Ok((applied(), self.check().await?))
            }
            GraphRequest::Cypher(_) => {
                let refusal = "Cypher needs Neo4j, which is not configured for this index";
                let answer = extended(self.parts.cypher.as_ref(), refusal, call).await?;
                Ok((applied(), answer))
            }
            GraphRequest::Tagger(ref command) => {
                self.check_may_command(&call, command).await?;
                let answer = extended(self.parts.taggers.as_ref(), "this index runs no taggers", call).await?;
                Ok((applied(), answer))
            }
            _ => self.question(call).await,
        }
    }

    /// Everybody may see the taggers, and let them look again at what he may write; to stop them is root's.
    async fn check_may_command(&self, call: &GraphCall, command: &TaggerCommand) -> Result<(), Refusal> {
        let ino = match command {
            TaggerCommand::List => return Ok(()),
            TaggerCommand::Pause(_) => return administrators_only(&call.viewer),
            TaggerCommand::Run { ino, .. } => *ino,
        };
        let patience = Duration::from_millis(u64::from(call.deadline_ms).min(GRAPH_DEADLINE_MS));
        tokio::select! {
            reached = self.wait_for_past(call.at_least) => reached?,
            () = self.sleep(patience) => return Err(Status::Unavailable.into()),
        }
        self.parts.index.read(|shared| may_be_run(&shared.graph, ino, &call.viewer))
    }

    async fn question(self: &Arc<Self>, call: GraphCall) -> Result<(Seq, GraphAnswer), Refusal> {
        let clock = &self.parts.clock;
        let patience = Duration::from_millis(u64::from(call.deadline_ms).min(GRAPH_DEADLINE_MS));
        let began = clock.monotonic();
        let deadline = began.saturating_add(patience);
        tokio::select! {
            reached = self.wait_for_past(call.at_least) => reached?,
            () = self.sleep(patience) => return Err(Status::Unavailable.into()),
        }
        if matches!(call.request, GraphRequest::Watch { .. }) {
            return self.watch(call, patience).await;
        }
        let left = deadline.saturating_sub(clock.monotonic());
        let of_user = self.of_user(call.viewer.uid);
        let turns = async {
            let own = of_user.acquire().await?;
            Ok::<_, AcquireError>((own, self.working.acquire().await?))
        };
        let _turns = tokio::select! {
            turns = turns => turns.map_err(|_| Status::Unavailable)?,
            () = self.sleep(left) => return Err(Status::Busy.into()),
        };
        self.parts.numbers.wait_seconds.observe(clock.monotonic().saturating_sub(began).as_secs_f64());
        let service = Arc::clone(self);
        let worked = self.runtime.spawn_blocking(move || service.work(&call.viewer, &call.request, deadline)).await;
        // A panic is a bug; the runtime has printed it.
        worked.unwrap_or(Err(Status::Io.into()))
    }

    /// The turns of one user.
    fn of_user(&self, uid: u32) -> Arc<Semaphore> {
        let mut users = self.users.lock();
        if users.len() >= USERS_MAX {
            users.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let most = if uid == 0 { QUERIES_MAX } else { QUERIES_OF_USER_MAX };
        Arc::clone(users.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(most))))
    }

    /// Waits until everything is applied that a question has to see.
    async fn wait_for_past(&self, at_least: Option<Seq>) -> Result<(), Refusal> {
        let seq = match at_least {
            Some(seq) => seq,
            None => self.parts.meta.head().await.map_err(|_| Status::Unavailable)?,
        };
        self.parts.index.wait_for(seq).await;
        Ok(())
    }

    fn work(&self, viewer: &Viewer, request: &GraphRequest, deadline: Duration) -> Result<(Seq, GraphAnswer), Refusal> {
        let began = self.parts.clock.monotonic();
        let answered = self.parts.index.read(|shared| {
            // Root asks for what nobody else may (the whole of a large volume), and is not who would stop others.
            let change =
                (viewer.uid != 0).then_some((&self.parts.index.change_waits, began.saturating_add(UNDISTURBED)));
            let ask = Ask {
                graph: &shared.graph,
                readers: &shared.readers,
                viewer,
                deadline: Deadline { clock: &self.parts.clock, at: deadline, gives_way: change },
                now_ns: i64::try_from(self.parts.clock.wall_ms().saturating_mul(NS_PER_MS)).unwrap_or(i64::MAX),
            };
            let question =
                Question { ask, viewer, cache: &self.parts.index.cache, taggers: &self.parts.tagger_versions };
            question.answer(request).map(|answer| (shared.graph.applied.seq, answer))
        });
        self.parts.numbers.seconds.observe(self.parts.clock.monotonic().saturating_sub(began).as_secs_f64());
        match answered? {
            (seq, Some(answer)) => Ok((seq, answer)),
            (_, None) => Err(Status::NotSupported.into()),
        }
    }

    async fn check(&self) -> Result<GraphAnswer, Refusal> {
        let Ok(_turn) = self.checking.try_acquire() else { return Err(Status::Busy.into()) };
        tokio::select! {
            checked = self.compare() => checked.map(GraphAnswer::Text).map_err(Refusal::Sentence),
            () = self.sleep(Duration::from_millis(CHECK_MS)) => Err(Status::Unavailable.into()),
        }
    }

    /// The index with the metadata, and what follows the index with the index: a line for each difference, and a last one that says
    /// what was compared.
    async fn compare(&self) -> Result<String, String> {
        let own = check(&self.parts.index, &self.parts.meta).await?;
        let Some(cypher) = &self.parts.cypher else { return Ok(own) };
        let theirs = match cypher.answer(Viewer::root(), GraphRequest::Check).await {
            GraphAnswer::Text(text) => text,
            // That it could not be compared is worth a line, and the exit code of a difference.
            GraphAnswer::Denied(sentence) => format!("{sentence}\nNeo4j was not compared"),
            other => format!("Neo4j: {other:?}\nNeo4j was not compared"),
        };
        Ok(joined(&own, &theirs))
    }

    /// A timer of the service's runtime: the caller may poll from a thread that has none.
    fn sleep(&self, time: Duration) -> Sleep {
        let _runtime = self.runtime.enter();
        tokio::time::sleep(time)
    }
}

/// Lines of two comparisons, with their last lines in one.
fn joined(own: &str, theirs: &str) -> String {
    let parted = |text: &str| match text.trim_end().rsplit_once('\n') {
        Some((lines, summary)) => (format!("{lines}\n"), summary.to_owned()),
        None => (String::new(), text.trim_end().to_owned()),
    };
    let ((own, own_summary), (theirs, their_summary)) = (parted(own), parted(theirs));
    format!("{own}{theirs}{own_summary}; {their_summary}\n")
}

async fn extended(
    extension: Option<&Arc<dyn Extension>>,
    refusal: &str,
    call: GraphCall,
) -> Result<GraphAnswer, Refusal> {
    match extension {
        Some(extension) => Ok(extension.answer(call.viewer, call.request).await),
        None => Err(Refusal::Sentence(refusal.to_owned())),
    }
}

/// Only what the viewer can reach and may write, as tagging asks for.
fn may_be_run(graph: &Graph, ino: Ino, viewer: &Viewer) -> Result<(), Refusal> {
    let doc = graph.columns.doc(ino).filter(|doc| graph.columns.live().contains(*doc)).ok_or(Status::NotFound)?;
    if !View::new(graph, Ino::ROOT, viewer).admits(doc) {
        return Err(Status::NotFound.into());
    }
    if viewer.uid == 0 || graph.may(doc, viewer, Wanted::WRITE) { Ok(()) } else { Err(Status::AccessDenied.into()) }
}

fn administrators_only(viewer: &Viewer) -> Result<(), Refusal> {
    if viewer.uid == 0 { Ok(()) } else { Err(Status::NotPermitted.into()) }
}

impl Handler<GraphProtocol> for IndexService {
    fn handle(
        self: Arc<Self>,
        peer: Arc<Peer>,
        call: GraphCall,
        _body: Bytes,
    ) -> BoxFuture<'static, (GraphReply, Bytes)> {
        // These take their time by what they are.
        let waits = matches!(call.request, GraphRequest::Watch { .. } | GraphRequest::Check | GraphRequest::Cypher(_));
        let served = Served { part: "index", op: "question", waits };
        Box::pin(slow::serve(call.request_id, served, peer, async move { (self.reply(call).await, Bytes::new()) }))
    }
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn two_comparisons_are_told_in_one() {
        assert_eq!(joined("5 compared\n", "3 compared"), "5 compared; 3 compared\n");
        assert_eq!(joined("a\nb\n5 compared\n", "c\n3 compared\n"), "a\nb\nc\n5 compared; 3 compared\n");
    }
}
