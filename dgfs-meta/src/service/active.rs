//! The active writer: one call from its arrival to its answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::error;

use dgfs_proto::ids::{Epoch, OpId, SessionId};
use dgfs_proto::limits::{HEARTBEAT_MS, WRITER_LEASE_MS};
use dgfs_proto::meta::{
    Leasing, MetaCall, MetaReply, MetaRequest, Mutation, Query, ServerRequest, SessionRequest, WatchRequest,
};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Peer, Role};
use dgfs_runtime::trace::{Stage, timed};

use crate::core::{Asker, Attempt, Core, LoadedRange, Need, Once, OpenRequest, Outcome};
use crate::engine::Engine;
use crate::service::full::{Fate, Fullness};
use crate::service::recalls::{Bells, Heard, Waiting};
use crate::service::rows_io::Loaded;
use crate::service::watch::Op;
use crate::service::{MetaOptions, Watch, now};

/// Attempts at one operation: each loads at least one row more, so this many mean a fault of ours.
const ATTEMPTS_MAX: u32 = 1_000_000;

/// Attempts at one question; each but the last saw changes that were refused.
const QUERY_TRIES_MAX: u32 = 16;

/// The one writer of a volume.
pub(crate) struct Active {
    pub(crate) core: Mutex<Core>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) options: MetaOptions,
    pub(crate) epoch: Epoch,
    /// The newest batch in the engine.
    pub(crate) committed: AtomicU64,
    /// The newest batch that a power cut cannot undo.
    pub(crate) durable: AtomicU64,
    /// Garbage of batches up to here may be dropped: neither a power cut nor a late sync of the engine can bring
    /// back a reference to it.
    pub(crate) horizon: AtomicU64,
    pub(crate) full: Fullness,
    pub(crate) commits: AtomicU64,
    pub(crate) commit_lock: tokio::sync::Mutex<()>,
    pub(crate) sync_lock: tokio::sync::Mutex<()>,
    /// When the lease in the engine was renewed last, by the monotonic clock.
    pub(crate) renewed_ms: AtomicU64,
    pub(crate) dead: AtomicBool,
    pub(crate) died: watch::Sender<bool>,
    /// Locks were loosened, or a session ended.
    pub(crate) locks_changed: Notify,
    /// Sessions came, went, or carried out a notice.
    pub(crate) sessions_changed: Notify,
    /// Wakes the poll of one session.
    pub(crate) bells: Bells,
    /// Recalls were carried out, or whoever should have is dead.
    pub(crate) recalled: Notify,
    /// An operation that could be repeated got its answer.
    pub(crate) answered: Notify,
    /// The log grew.
    pub(crate) log_changed: Notify,
    /// Lock waits that may be cancelled.
    pub(crate) waits: Mutex<HashMap<(SessionId, OpId), Arc<Notify>>>,
    /// What is known of the cluster besides files.
    pub(crate) watch: Arc<Watch>,
    /// Mutations up to the last commit group.
    pub(crate) mutations_told: AtomicU64,
}

/// What was loaded for one operation.
#[derive(Default)]
struct Brought {
    loads: Vec<Loaded>,
    /// The generation of the state and the number of the load's begin in it.
    began: Option<(u64, u64)>,
}

/// The service died under the call; the client goes to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead;

impl Active {
    /// Might another writer have taken over by now? Then no session's lease is prolonged here: that one may change what it believes.
    pub(crate) fn may_be_replaced(&self) -> bool {
        let renewed = self.renewed_ms.load(Ordering::Acquire);
        !self.options.exclusive && self.options.clock.monotonic_ms() > renewed + WRITER_LEASE_MS
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Ends this writer: no answer but `NotActive` leaves it from now on.
    pub(crate) fn die(&self, why: &dyn std::fmt::Display) {
        if !self.is_dead() {
            error!(error = %why, "the metadata service stops writing");
        }
        self.retire();
    }

    /// As [`Self::die`], when it was asked for.
    pub(crate) fn retire(&self) {
        if !self.dead.swap(true, Ordering::AcqRel) {
            self.died.send_replace(true);
            self.locks_changed.notify_waiters();
            self.sessions_changed.notify_waiters();
            self.recalled.notify_waiters();
            self.log_changed.notify_waiters();
            self.answered.notify_waiters();
        }
    }

    /// Ends when this writer has died.
    pub(crate) async fn died(&self) {
        let mut died = self.died.subscribe();
        // The sender lives in `self`, so this cannot fail while it is borrowed.
        let _ = died.wait_for(|died| *died).await;
    }

    /// Answers one call.
    pub(crate) async fn answer(self: Arc<Self>, peer: &Peer, call: MetaCall) -> (MetaReply, Leasing) {
        let refused = |status| (MetaReply::Refused(status), Leasing::default());
        if !is_allowed(peer, &call.request) {
            return refused(Status::Forbidden);
        }
        let (op, began) = (Op::of(&call.request), self.options.clock.monotonic());
        let answer = self.dispatch(peer, call).await.unwrap_or(refused(Status::NotActive));
        let answer = if self.is_dead() || self.may_be_replaced() { refused(Status::NotActive) } else { answer };
        self.watch.numbers.answered(op, self.options.clock.monotonic().saturating_sub(began), &answer.0);
        answer
    }

    async fn dispatch(self: &Arc<Self>, peer: &Peer, call: MetaCall) -> Result<(MetaReply, Leasing), Dead> {
        let MetaCall { request_id: _, session, request } = call;
        let refused = |status| Ok((MetaReply::Refused(status), Leasing::default()));
        match request {
            MetaRequest::Query(query) => {
                let asker = Asker { now: now(&self.options.clock), session };
                if session.is_some_and(|id| !self.core.lock().touch(id, asker.now)) {
                    return refused(Status::Stale);
                }
                self.query(asker, &query).await
            }
            MetaRequest::Mutate { mutation: Mutation::Make { ino: Some(_), .. }, .. } => refused(Status::Malformed),
            MetaRequest::Mutate { op, acked, mutation } => {
                let Some(session) = session else { return refused(Status::Forbidden) };
                let once = Once { session, op, acked, mutation: &mutation, keep_answer: !peer.local, kept_back: false };
                self.mutate(&once).await
            }
            MetaRequest::Watch(request) => {
                self.answer_watch(peer, request).await.map(|reply| (reply, Leasing::default()))
            }
            request => self.dispatch_other(session, request).await.map(|reply| (reply, Leasing::default())),
        }
    }

    /// What reads and changes no files.
    async fn dispatch_other(
        self: &Arc<Self>,
        session: Option<SessionId>,
        request: MetaRequest,
    ) -> Result<MetaReply, Dead> {
        match request {
            MetaRequest::Query(_) | MetaRequest::Mutate { .. } | MetaRequest::Watch(_) => {
                Ok(MetaReply::Refused(Status::Malformed))
            }
            MetaRequest::KeptBack { acked, changes } => match session {
                Some(session) => self.kept_back(session, acked, &changes).await,
                None => Ok(MetaReply::Refused(Status::Forbidden)),
            },
            MetaRequest::CancelWait(op) => {
                let wait = session.and_then(|id| self.waits.lock().get(&(id, op)).cloned());
                if let Some(wait) = wait {
                    wait.notify_one();
                }
                Ok(MetaReply::Done)
            }
            MetaRequest::Sync => timed(Stage::Sync, self.sync()).await.map(|()| MetaReply::Done),
            MetaRequest::GetMap(known) => {
                let map = self.core.lock().map();
                Ok(MetaReply::Map((map.epoch > known).then_some(map)))
            }
            MetaRequest::Volume => Ok(MetaReply::Volume(self.core.lock().volume.clone())),
            MetaRequest::Session(request) => self.session(session, request).await,
            MetaRequest::Server(request) => self.server(&request).await,
            MetaRequest::Admin(request) => self.admin(request).await,
        }
    }

    /// Answers a question.
    pub(crate) async fn query(&self, asker: Asker, query: &Query) -> Result<(MetaReply, Leasing), Dead> {
        for _ in 0..QUERY_TRIES_MAX {
            let mut leasing = Leasing::default();
            let step = |core: &mut Core, attempt: &mut Attempt<'_>| {
                let outcome = core.query(asker, query, attempt);
                leasing = attempt.leasing;
                outcome
            };
            // It may have seen changes that the engine then refused.
            if let Some(reply) = self.settle_if_room(step).await? {
                return Ok((reply, leasing));
            }
        }
        Ok((MetaReply::Refused(Status::Busy), Leasing::default()))
    }

    /// Tries an operation until it has an answer, then waits for its batch.
    pub(crate) async fn settle(
        &self,
        step: impl FnMut(&mut Core, &mut Attempt<'_>) -> Outcome,
    ) -> Result<MetaReply, Dead> {
        Ok(self.settle_if_room(step).await?.unwrap_or(MetaReply::Refused(Status::NoSpace)))
    }

    /// As [`Self::settle`]; none when the engine had no room, so that nothing has happened.
    pub(crate) async fn settle_if_room(
        &self,
        step: impl FnMut(&mut Core, &mut Attempt<'_>) -> Outcome,
    ) -> Result<Option<MetaReply>, Dead> {
        let (reply, ticket) = self.attempt(step).await?;
        let fate = timed(Stage::Commit, self.commit_up_to(ticket)).await?;
        Ok((fate == Fate::Committed).then_some(reply))
    }

    /// Tries an operation until it has an answer; the answer and the batch it must wait for.
    pub(crate) async fn attempt(
        &self,
        mut step: impl FnMut(&mut Core, &mut Attempt<'_>) -> Outcome,
    ) -> Result<(MetaReply, u64), Dead> {
        let mut brought = Brought::default();
        let mut waiting = Waiting::new(self);
        let mut result = Err(Dead);
        for _ in 0..ATTEMPTS_MAX {
            let outcome = self.step((&mut brought, &waiting), &mut step);
            match outcome {
                Outcome::Answer { reply, ticket } => {
                    result = Ok((reply, ticket));
                    break;
                }
                Outcome::More => brought.loads.clear(),
                Outcome::Need(need) => match timed(Stage::Rows, self.bring(need, &mut brought)).await {
                    Ok(()) => {}
                    Err(Some(status)) => {
                        result = Ok((MetaReply::Refused(status), 0));
                        break;
                    }
                    Err(None) => break,
                },
                Outcome::Recall(session, wanted) => {
                    if timed(Stage::Recall, waiting.until_recalled(session, wanted)).await.is_err() {
                        break;
                    }
                }
            }
        }
        if let Some((generation, began)) = brought.began {
            let mut core = self.core.lock();
            if core.generation == generation {
                core.end_load(began);
            }
        }
        result
    }

    fn step(
        &self,
        (brought, waiting): (&mut Brought, &Waiting<'_>),
        step: &mut impl FnMut(&mut Core, &mut Attempt<'_>) -> Outcome,
    ) -> Outcome {
        let mut core = self.core.lock();
        if brought.began.is_some_and(|(generation, _)| generation != core.generation) {
            // The state was built anew meanwhile, from newer rows than these.
            *brought = Brought::default();
        }
        let ranges: Vec<LoadedRange> = brought.loads.iter().filter_map(|loaded| loaded.install(&mut core)).collect();
        let seq = core.seq();
        let mut attempt = Attempt { loaded: &ranges, wait: waiting.id(), leasing: Leasing::default() };
        let outcome = step(&mut core, &mut attempt);
        let loosened = !std::mem::take(&mut core.unlocked).is_empty();
        let grew = core.seq() > seq;
        drop(core);
        if loosened {
            self.locks_changed.notify_waiters();
        }
        if grew {
            self.log_changed.notify_waiters();
        }
        outcome
    }

    async fn bring(&self, need: Need, brought: &mut Brought) -> Result<(), Option<Status>> {
        if brought.began.is_none() {
            let mut core = self.core.lock();
            brought.began = Some((core.generation, core.begin_load()));
        }
        brought.loads.push(self.load(need).await?);
        Ok(())
    }

    async fn mutate(&self, once: &Once<'_>) -> Result<(MetaReply, Leasing), Dead> {
        self.core.lock().touch(once.session, now(&self.options.clock));
        if once.keep_answer {
            self.claim((once.session, once.op)).await?;
        }
        let mut leasing = Leasing::default();
        let reply = self.mutate_if_room(once, &mut leasing).await;
        if let (Mutation::Lock { ino, .. }, Ok(MetaReply::Done)) = (once.mutation, &reply) {
            self.core.lock().set_locked(once.session, *ino, true);
        }
        if once.keep_answer {
            self.core.lock().end(once.session, once.op);
            self.answered.notify_waiters();
        }
        reply.map(|reply| (reply, leasing))
    }

    /// Waits until no earlier call carries out the same operation.
    pub(crate) async fn claim(&self, (session, op): (SessionId, OpId)) -> Result<(), Dead> {
        loop {
            let answered = self.answered.notified();
            if self.is_dead() {
                return Err(Dead);
            }
            if self.core.lock().begin(session, op) {
                return Ok(());
            }
            answered.await;
        }
    }

    async fn session(&self, id: Option<SessionId>, request: SessionRequest) -> Result<MetaReply, Dead> {
        let time = now(&self.options.clock);
        match (request, id) {
            (SessionRequest::Open { client, key, resume, opens }, _) => {
                self.open_session(OpenRequest { client, key, resume, opens }).await
            }
            (SessionRequest::Beat, Some(id)) => {
                let mut core = self.core.lock();
                let lives = core.touch(id, time);
                Ok(if lives {
                    MetaReply::Alive { epoch: core.cluster.epoch() }
                } else {
                    MetaReply::Refused(Status::Stale)
                })
            }
            (SessionRequest::Poll { done, received, recalled }, Some(id)) => {
                self.poll(id, &Heard { done, received, recalled }).await
            }
            (SessionRequest::Recalled(ids), Some(id)) => Ok(self.recalled(id, &ids)),
            (SessionRequest::Close, Some(id)) => self.end_session(id).await,
            (
                SessionRequest::Beat
                | SessionRequest::Poll { .. }
                | SessionRequest::Recalled(_)
                | SessionRequest::Close,
                None,
            ) => Ok(MetaReply::Refused(Status::Forbidden)),
        }
    }

    async fn open_session(&self, request: OpenRequest) -> Result<MetaReply, Dead> {
        let resumes = request.resume.is_some();
        let opened = self.core.lock().open_session(now(&self.options.clock), request);
        let (id, ticket) = match opened {
            Ok(opened) => opened,
            Err(status) => return Ok(MetaReply::Refused(status)),
        };
        self.sessions_changed.notify_waiters();
        if self.commit_up_to(ticket).await? == Fate::Refused && !self.core.lock().sessions.contains_key(&id) {
            return Ok(MetaReply::Refused(Status::NoSpace));
        }
        if resumes {
            // It was among the others before, and whoever was told `Sole` was so after its end was committed.
            let (sole, volume) = {
                let core = self.core.lock();
                (core.is_sole(id), core.volume.clone())
            };
            return Ok(MetaReply::Session { id, sole, volume });
        }
        // The others must have dropped their caches first, or be dead.
        loop {
            let changed = self.sessions_changed.notified();
            if self.is_dead() {
                return Err(Dead);
            }
            let (started, volume, ticket) = {
                let mut core = self.core.lock();
                if !core.wait_on(id, now(&self.options.clock)) {
                    return Ok(MetaReply::Refused(Status::Stale));
                }
                (core.may_start(id), core.volume.clone(), core.unsettled_ticket())
            };
            if let Some(sole) = started {
                // The end of those that are not there any more.
                if self.commit_up_to(ticket).await? == Fate::Refused {
                    continue;
                }
                return Ok(MetaReply::Session { id, sole, volume });
            }
            // A client that waits for its session cannot beat yet: waiting for a dead mount's lease to run out must not end it.
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(Duration::from_millis(HEARTBEAT_MS)) => {}
            }
        }
    }

    /// Ends a session: locks, opens, orphans.
    pub(crate) async fn end_session(&self, id: SessionId) -> Result<MetaReply, Dead> {
        let time = now(&self.options.clock);
        let reply = self.settle(|core, _| core.end_session(time, id)).await?;
        self.sessions_changed.notify_waiters();
        self.recalled.notify_waiters();
        self.locks_changed.notify_waiters();
        self.bells.forget(id);
        Ok(reply)
    }

    async fn server(&self, request: &ServerRequest) -> Result<MetaReply, Dead> {
        let time = now(&self.options.clock);
        let horizon = self.horizon.load(Ordering::Acquire);
        self.settle(|core, _| core.server_request(time, request, horizon)).await
    }
}

fn is_allowed(peer: &Peer, request: &MetaRequest) -> bool {
    if peer.local {
        return true;
    }
    match request {
        // A question only; `dgfs fsck --repair` asks it too.
        MetaRequest::Server(ServerRequest::CheckLive(_)) => matches!(peer.role, Role::Stored | Role::Client),
        MetaRequest::Server(_) => peer.role == Role::Stored,
        // Whose word it may be is judged where it is heard.
        MetaRequest::GetMap(_)
        | MetaRequest::Volume
        | MetaRequest::Watch(WatchRequest::Announce(_) | WatchRequest::Leave { .. }) => true,
        MetaRequest::Session(_)
        | MetaRequest::Mutate { .. }
        | MetaRequest::KeptBack { .. }
        | MetaRequest::CancelWait(_) => {
            matches!(peer.role, Role::Client | Role::Index)
        }
        MetaRequest::Query(_) | MetaRequest::Sync | MetaRequest::Admin(_) | MetaRequest::Watch(_) => {
            peer.role != Role::Stored
        }
    }
}
