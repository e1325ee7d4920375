//! The way to the metadata service: one active server among several addresses, one session.
//!
//! Never decides what may be repeated beyond this: reads and waits freely, mutations by their (session, op).
//! Always: once meta has declared the session dead, every call answers `Stale`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use parking_lot::Mutex;

use dgfs_proto::ids::{OpId, SessionId};
use dgfs_proto::limits::{CALL_DEADLINE_MS, LEASE_MARGIN_MS, POLL_MS, SESSION_LEASE_MS};
use dgfs_proto::meta::{
    ClientInfo, KeptBack, Leasing, MetaCall, MetaReply, MetaRequest, Mutation, Named, Query, SessionRequest,
};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{CallError, Channel, MetaProtocol};
use dgfs_runtime::trace::{self, Stage};

use crate::kept_back::{Changing, KeptQueue, touched};
use crate::ledger::Ledger;
use crate::metrics::{Counters, MetaKind};
use crate::op_window::OpWindow;
use crate::operation::{Backoff, Op};
use crate::past::SessionToken;

mod resume;

/// One try of one call. Shorter than the overall deadline so that a standby is asked in time.
const TRY: Duration = Duration::from_millis(CALL_DEADLINE_MS / 3);

/// An open waits until the other sessions dropped their caches, or the lease of a dead one ran out.
const OPEN_TRY: Duration = Duration::from_millis(SESSION_LEASE_MS + CALL_DEADLINE_MS / 3);

/// The session's connection to whichever metadata server is active.
pub(crate) struct MetaLink {
    channels: Vec<Arc<dyn Channel<MetaProtocol>>>,
    /// The service is part of this process.
    local: bool,
    active: AtomicUsize,
    session: AtomicU64,
    /// Grows each time the session is taken up anew.
    generation: AtomicU64,
    mending: tokio::sync::Mutex<()>,
    client: ClientInfo,
    key: u64,
    /// Asks without a session: only questions.
    guest: bool,
    dead: AtomicBool,
    sole: AtomicBool,
    /// When the last answered call, and the last answered poll, were sent: milliseconds since `began`.
    alive: AtomicU64,
    heard: AtomicU64,
    began: Instant,
    rejection: Mutex<Option<String>>,
    /// Mutations answered so far; starts at 1, so that the first sync is never skipped.
    answered: AtomicU64,
    synced: AtomicU64,
    pub(crate) ops: OpWindow,
    pub(crate) kept: KeptQueue,
    pub(crate) ledger: Ledger,
    pub(crate) counters: Arc<Counters>,
}

/// What a call came to.
type Called = Result<(MetaReply, Bytes), CallError>;

/// An answer, and what it allows.
type Answer = (MetaReply, Leasing);

impl MetaLink {
    pub(crate) fn new(
        channels: Vec<Arc<dyn Channel<MetaProtocol>>>,
        client: ClientInfo,
        key: u64,
        counters: Arc<Counters>,
        local: bool,
    ) -> Self {
        Self {
            channels,
            local,
            active: AtomicUsize::new(0),
            session: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            mending: tokio::sync::Mutex::new(()),
            client,
            key,
            guest: false,
            dead: AtomicBool::new(false),
            sole: AtomicBool::new(false),
            alive: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            began: Instant::now(),
            rejection: Mutex::new(None),
            answered: AtomicU64::new(1),
            synced: AtomicU64::new(0),
            ops: OpWindow::default(),
            kept: KeptQueue::default(),
            ledger: Ledger::default(),
            counters,
        }
    }

    /// The same, which only asks, and needs no session for that.
    pub(crate) fn without_session(self) -> Self {
        Self { guest: true, ..self }
    }

    /// The session, once it is open.
    pub(crate) fn session(&self) -> Option<SessionId> {
        SessionId::new(self.session.load(Ordering::Acquire))
    }

    /// The session with its key, once it is open.
    pub(crate) fn token(&self) -> Option<SessionToken> {
        self.session().map(|session| SessionToken { session, key: self.key })
    }

    /// How long ago the call was sent that was answered last; zero once the session is over, when nothing is asked any more.
    pub(crate) fn silent_for(&self) -> Duration {
        if self.is_dead() {
            return Duration::ZERO;
        }
        self.began.elapsed().saturating_sub(Duration::from_millis(self.alive.load(Ordering::Acquire)))
    }

    /// No other session exists: what is cached stays true.
    pub(crate) fn sole(&self) -> bool {
        self.sole.load(Ordering::Acquire) && !self.is_dead()
    }

    pub(crate) fn set_sole(&self, sole: bool) {
        self.sole.store(sole, Ordering::Release);
        self.answered.fetch_add(1, Ordering::AcqRel);
    }

    /// Grows with every change that this mount was told as done, and when it becomes or ceases to be the only one.
    pub(crate) fn changes(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    /// How long what was leased may be believed, unless it is recalled. Meta counts from the arrival of what was sent.
    pub(crate) fn lease_left(&self) -> Duration {
        if self.is_dead() {
            return Duration::ZERO;
        }
        let since = self.alive.load(Ordering::Acquire).min(self.heard.load(Ordering::Acquire));
        let end = Duration::from_millis(since + SESSION_LEASE_MS - LEASE_MARGIN_MS);
        end.saturating_sub(self.began.elapsed())
    }

    /// Something sent at `sent` was answered.
    fn answered_at(&self, sent: &AtomicU64, began: Instant) {
        let began = began.saturating_duration_since(self.began).as_millis();
        sent.fetch_max(u64::try_from(began).unwrap_or(0), Ordering::AcqRel);
    }

    /// Why the peer refused the connection for good, if it did.
    pub(crate) fn rejection(&self) -> Option<String> {
        self.rejection.lock().clone()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// How often the session was taken up.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Ends all calls from now on; true for the first one who says so.
    pub(crate) fn bury(&self) -> bool {
        !self.dead.swap(true, Ordering::AcqRel)
    }

    /// Addresses, for people.
    pub(crate) fn peers(&self) -> String {
        self.channels.iter().map(|channel| channel.peer()).collect::<Vec<_>>().join(", ")
    }

    /// Asks a question.
    pub(crate) async fn query(&self, op: &Op, query: Query) -> Result<MetaReply, Status> {
        self.ask(op, query).await.0
    }

    /// Asks a question whose answer may be kept, as far as is said with it.
    pub(crate) async fn ask(&self, op: &Op, query: Query) -> (Result<MetaReply, Status>, Leasing) {
        if let Err(status) = self.kept.drained(op).await {
            return (Err(status), Leasing::default());
        }
        self.call_for(op, MetaRequest::Query(query), TRY).await
    }

    /// As [`Self::mutate`], with what the answer allows. Until the last part is dropped, nothing that the change touches is
    /// kept back: what is known of it must follow first.
    pub(crate) async fn change(
        &self,
        op: &Op,
        mutation: Mutation,
    ) -> (Result<MetaReply, Status>, Leasing, Option<Changing<'_>>) {
        let changing = match self.kept.exclusive(op, touched(&mutation)).await {
            Ok(changing) => changing,
            Err(status) => return (Err(status), Leasing::default(), None),
        };
        let id = self.ops.begin();
        let (answer, leasing) = self.mutate_for(op, id, mutation, TRY).await;
        (answer, leasing, Some(changing))
    }

    /// Changes the truth, exactly once.
    pub(crate) async fn mutate(&self, op: &Op, mutation: Mutation) -> Result<MetaReply, Status> {
        self.change(op, mutation).await.0
    }

    /// As [`Self::mutate`], for numbers that have nothing to do with what is kept back.
    pub(crate) async fn grant(&self, op: &Op, mutation: Mutation) -> Result<MetaReply, Status> {
        let id = self.ops.begin();
        self.mutate_as(op, id, mutation, TRY).await
    }

    /// Sends changes that were kept back.
    pub(crate) async fn send_kept_back(&self, op: &Op, changes: Vec<KeptBack>) -> Result<MetaReply, Status> {
        let acked = self.ops.acked();
        self.call(op, MetaRequest::KeptBack { acked, changes }, TRY).await
    }

    /// Something was changed: the next sync is needed.
    pub(crate) fn note_answered(&self) {
        self.answered.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes the truth under a number already begun, which is finished here; not before what was kept back.
    pub(crate) async fn mutate_as(
        &self,
        op: &Op,
        id: OpId,
        mutation: Mutation,
        each_try: Duration,
    ) -> Result<MetaReply, Status> {
        self.mutate_for(op, id, mutation, each_try).await.0
    }

    /// Changes the truth under a number that the caller finishes: after an answer without a verdict the same may be asked again.
    pub(crate) async fn mutate_again(&self, op: &Op, id: OpId, mutation: Mutation) -> Result<MetaReply, Status> {
        let _changing = self.kept.exclusive(op, touched(&mutation)).await?;
        self.mutate_begun(op, id, mutation, TRY).await.0
    }

    async fn mutate_for(
        &self,
        op: &Op,
        id: OpId,
        mutation: Mutation,
        each_try: Duration,
    ) -> (Result<MetaReply, Status>, Leasing) {
        let answer = self.mutate_begun(op, id, mutation, each_try).await;
        self.ops.finish(id);
        answer
    }

    async fn mutate_begun(
        &self,
        op: &Op,
        id: OpId,
        mutation: Mutation,
        each_try: Duration,
    ) -> (Result<MetaReply, Status>, Leasing) {
        let acked = self.ops.acked();
        let answer = self.call_for(op, MetaRequest::Mutate { op: id, acked, mutation }, each_try).await;
        if answer.0.is_ok() {
            self.answered.fetch_add(1, Ordering::AcqRel);
        }
        answer
    }

    /// Makes everything answered before durable; skipped when nothing was answered since the last time.
    pub(crate) async fn sync(&self, op: &Op) -> Result<(), Status> {
        self.kept.drained(op).await?;
        let until = self.answered.load(Ordering::Acquire);
        if self.sole() && self.synced.load(Ordering::Acquire) >= until {
            return if self.is_dead() { Err(Status::Stale) } else { Ok(()) };
        }
        let _ = self.call(op, MetaRequest::Sync, TRY).await?;
        self.synced.fetch_max(until, Ordering::AcqRel);
        Ok(())
    }

    /// Waits for a notice.
    pub(crate) async fn poll(&self, op: &Op, request: SessionRequest) -> Result<MetaReply, Status> {
        let patience = Duration::from_millis(POLL_MS) + TRY;
        self.call(op, MetaRequest::Session(request), patience).await
    }

    /// Sends any request until it is answered, refused, or the operation's time is up.
    pub(crate) async fn call(&self, op: &Op, request: MetaRequest, each_try: Duration) -> Result<MetaReply, Status> {
        self.call_for(op, request, each_try).await.0
    }

    async fn call_for(
        &self,
        op: &Op,
        request: MetaRequest,
        each_try: Duration,
    ) -> (Result<MetaReply, Status>, Leasing) {
        if self.is_dead() {
            return (Err(Status::Stale), Leasing::default());
        }
        let seen = self.generation();
        let answer = self.attempt(op, request.clone(), each_try).await;
        match answer {
            Ok((MetaReply::Refused(status), leasing)) if !wants_insisting(status) => (Err(status), leasing),
            Ok((MetaReply::Refused(_), _)) | Err(_) => {
                // The way through trouble is long; boxed, it does not make every request's future larger.
                match Box::pin(self.insist(op, request, each_try, seen, answer)).await {
                    Ok((MetaReply::Refused(status), leasing)) => (Err(status), leasing),
                    Ok((reply, leasing)) => (Ok(reply), leasing),
                    Err(status) => (Err(status), Leasing::default()),
                }
            }
            Ok((reply, leasing)) => (Ok(reply), leasing),
        }
    }

    /// Repeats a request whose first `answer` was no answer: asks the next server, takes the session up there, pauses.
    async fn insist(
        &self,
        op: &Op,
        request: MetaRequest,
        each_try: Duration,
        mut seen: u64,
        mut answer: Result<Answer, CallError>,
    ) -> Result<Answer, Status> {
        let mut backoff = Backoff::new();
        let mut tries = 0_usize;
        loop {
            tries += 1;
            let away = match answer {
                Ok((MetaReply::Refused(Status::Stale), _)) => return Err(self.judge_stale(op).await),
                Ok((MetaReply::Refused(Status::NotActive), _)) => true,
                Ok((MetaReply::Refused(status), _)) if wants_insisting(status) => false,
                Ok(answer) => return Ok(answer),
                Err(CallError::Rejected { .. }) => return Err(Status::Io),
                Err(CallError::Unreachable { .. } | CallError::TimedOut { .. }) => true,
            };
            if op.expired() || (op.soft && tries > self.channels.len()) {
                return Err(Status::Unavailable);
            }
            if away {
                self.mend(op, seen).await?;
                if tries > 1 {
                    backoff.pause(op).await?;
                }
            } else {
                backoff.pause(op).await?;
            }
            if self.is_dead() {
                return Err(Status::Stale);
            }
            seen = self.generation();
            answer = self.attempt(op, request.clone(), each_try).await;
        }
    }

    async fn attempt(&self, op: &Op, request: MetaRequest, each_try: Duration) -> Result<Answer, CallError> {
        self.attempt_on(self.active.load(Ordering::Acquire), op, request, each_try).await
    }

    async fn attempt_on(
        &self,
        at: usize,
        op: &Op,
        request: MetaRequest,
        each_try: Duration,
    ) -> Result<Answer, CallError> {
        let Some(channel) = self.channels.get(at) else {
            return Err(CallError::Unreachable { peer: String::new(), reason: "no such address".to_owned() });
        };
        let kind = MetaKind::of(&request);
        self.counters.meta(kind);
        let began = Instant::now();
        let listens = matches!(request, MetaRequest::Session(SessionRequest::Poll { .. }));
        let call = MetaCall { request_id: trace::request_id(), session: self.session(), request };
        let answer = if self.local {
            in_process(channel.call(call, Bytes::new(), None), op).await
        } else {
            channel.call(call, Bytes::new(), Some(op.left(each_try))).await
        };
        let took = began.elapsed();
        self.counters.meta_took(kind, took);
        trace::add(Stage::Meta, took);
        if let Err(error @ CallError::Rejected { .. }) = &answer {
            self.note_rejection(error);
        }
        let (reply, body) = answer?;
        if !matches!(reply, MetaReply::Refused(Status::Stale | Status::NotActive)) {
            self.answered_at(&self.alive, began);
            if listens {
                self.answered_at(&self.heard, began);
            }
        }
        Ok((reply, Leasing::from_body(&body)))
    }

    fn note_rejection(&self, error: &CallError) {
        let mut known = self.rejection.lock();
        if known.is_none() {
            tracing::error!(%error, "the metadata server refused this client for good");
            *known = Some(error.to_string());
        }
    }

    /// `Stale` may mean an inode that is gone or this session's end: a heartbeat tells.
    pub(crate) async fn judge_stale(&self, op: &Op) -> Status {
        if self.guest {
            return Status::Stale;
        }
        let beat = MetaRequest::Session(SessionRequest::Beat);
        if let Ok((MetaReply::Refused(Status::Stale), _)) = self.attempt(op, beat, TRY).await {
            self.declare_dead();
        }
        Status::Stale
    }

    fn declare_dead(&self) {
        if self.bury() {
            let session = self.session().map_or(0, SessionId::get);
            tracing::error!(
                session,
                "the metadata service has ended this session: nothing can be changed or read through this mount any \
                 more; unmount it and mount it again"
            );
        }
    }
}

/// Waits for a service of this process, which answers once or never, for as long as the operation may take: a second try would
/// be a second operation. What was begun goes on, it must not end half done.
async fn in_process(answer: BoxFuture<'static, Called>, op: &Op) -> Called {
    let Some(patience) = op.remaining() else { return answer.await };
    // A timer is made only when the answer is not there at once.
    let end = std::pin::pin!(async { tokio::time::sleep(patience).await });
    match futures_util::future::select(answer, end).await {
        Either::Left((answer, _)) => answer,
        Either::Right(((), answer)) => {
            tokio::spawn(answer);
            Err(CallError::TimedOut { peer: "the metadata of this process".to_owned(), after: patience })
        }
    }
}

/// Refusals that end by themselves, or (`Stale`) that need a second look.
const fn wants_insisting(status: Status) -> bool {
    matches!(status, Status::Stale | Status::NotActive | Status::Busy | Status::Unavailable)
}

/// The attributes in an answer.
pub(crate) fn attr_of(reply: MetaReply) -> Result<dgfs_proto::attr::Attr, Status> {
    match reply {
        MetaReply::Attr(attr) | MetaReply::Opened { attr, .. } => Ok(attr),
        _ => Err(Status::Malformed),
    }
}

/// What a change of names answered.
pub(crate) fn named_of(reply: MetaReply) -> Result<Named, Status> {
    match reply {
        MetaReply::Named(named) => Ok(named),
        _ => Err(Status::Malformed),
    }
}
