//! A metadata service in memory: one directory, files, opens, locks without waits, sessions. It takes every other session to
//! hold a lease of whatever is changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use dgfs_proto::attr::{Attr, FileKind, Timestamp};
use dgfs_proto::chunk::{ChunkRef, VersionId};
use dgfs_proto::ids::{Epoch, Ino, OpId, SessionId, Uuid};
use dgfs_proto::meta::{
    KeptAnswer, Leasing, LockSpec, MetaCall, MetaReply, MetaRequest, Mutation, Notice, OpenMode, Recall, RecallOf,
    SessionRequest, VolumeInfo, digest,
};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Handler, MetaProtocol, Peer};

use crate::testing::fake_store::FakeStore;

mod truth;

use truth::version;
pub(crate) use truth::{attr, map};

pub(crate) const CHUNK: u32 = 64 << 10;
pub(crate) const INLINE: u32 = 4096;
/// Slots that come with an open: fewer than a file may have.
const OPEN_SLOTS: usize = 2;

#[derive(Clone)]
struct Inode {
    attr: Attr,
    inline: Vec<u8>,
    slots: BTreeMap<u64, ChunkRef>,
}

#[derive(Default)]
struct Session {
    answers: HashMap<OpId, MetaReply>,
    acked: OpId,
    notice: Option<(u64, Notice)>,
    done: u64,
    /// Recalls to tell, and those told that are not carried out.
    recalls: Vec<Recall>,
    batch: u64,
    open: BTreeSet<u64>,
    sent: Vec<Recall>,
    listens: bool,
}

struct Truth {
    inodes: HashMap<Ino, Inode>,
    names: BTreeMap<Name, Ino>,
    sessions: BTreeMap<SessionId, Session>,
    locks: Vec<(Ino, SessionId, LockSpec)>,
    next: u64,
    clock: u64,
    /// When the change being applied was made, if it was kept back.
    at: Option<Timestamp>,
    refuse: Option<Status>,
}

pub(crate) struct FakeMeta {
    truth: Mutex<Truth>,
    store: Arc<FakeStore>,
    changed: Notify,
    /// One change that others must hear of first at a time; nothing is leased meanwhile.
    changing: tokio::sync::Mutex<()>,
}

type Answer = Result<MetaReply, Status>;

impl FakeMeta {
    pub(crate) fn new(store: Arc<FakeStore>) -> Arc<Self> {
        let mut inodes = HashMap::new();
        let root = attr(Ino::ROOT, FileKind::Directory, Timestamp::from_ms(1));
        inodes.insert(Ino::ROOT, Inode { attr: root, inline: Vec::new(), slots: BTreeMap::new() });
        let truth = Truth {
            inodes,
            names: BTreeMap::new(),
            sessions: BTreeMap::new(),
            locks: Vec::new(),
            next: 2,
            clock: 1000,
            at: None,
            refuse: None,
        };
        Arc::new(Self {
            truth: Mutex::new(truth),
            store,
            changed: Notify::new(),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// The next change that was kept back is refused.
    pub(crate) fn refuse_next(&self, status: Status) {
        self.truth.lock().refuse = Some(status);
    }

    /// Forgets all sessions, as after their leases ran out.
    pub(crate) fn end_sessions(&self) {
        self.truth.lock().sessions.clear();
        self.changed.notify_waiters();
    }

    fn volume() -> VolumeInfo {
        VolumeInfo {
            uuid: Uuid([7; 16]),
            name: "test".to_owned(),
            chunk_bytes: CHUNK,
            inline_bytes_max: INLINE,
            format: 1,
            created: Timestamp::default(),
            initial_servers: 1,
        }
    }

    async fn answer(&self, call: MetaCall) -> Answer {
        if let MetaRequest::Session(SessionRequest::Open { resume, .. }) = &call.request {
            return self.open_session(*resume).await;
        }
        let session = call.session.ok_or(Status::Forbidden)?;
        if !self.truth.lock().sessions.contains_key(&session) {
            return Err(Status::Stale);
        }
        match call.request {
            MetaRequest::Session(SessionRequest::Poll { done, received, recalled }) => {
                self.poll(session, done, received, &recalled).await
            }
            MetaRequest::Session(SessionRequest::Recalled(ids)) => {
                self.carried_out(session, &ids);
                Ok(MetaReply::Done)
            }
            MetaRequest::Session(SessionRequest::Close) => {
                self.truth.lock().sessions.remove(&session);
                Ok(MetaReply::Done)
            }
            MetaRequest::Session(_) | MetaRequest::CancelWait(_) | MetaRequest::Sync => Ok(MetaReply::Done),
            MetaRequest::Query(query) => self.truth.lock().query(query),
            MetaRequest::GetMap(known) => Ok(MetaReply::Map((known < Epoch(1)).then(map))),
            MetaRequest::Mutate { op, acked, mutation } => {
                let _changing = self.changing.lock().await;
                self.recall_of_others(session, &mutation).await;
                self.mutate((session, None), op, acked, mutation)
            }
            MetaRequest::KeptBack { acked, changes } => {
                let _changing = self.changing.lock().await;
                let mut answers = Vec::new();
                for change in changes {
                    if let Some(status) = self.truth.lock().refuse.take() {
                        answers.push(KeptAnswer::Other(Box::new(MetaReply::Refused(status))));
                        continue;
                    }
                    self.recall_of_others(session, &change.mutation).await;
                    let reply = self.mutate((session, Some(change.at)), change.op, acked, change.mutation)?;
                    let expected = digest(&reply) == change.expected;
                    answers.push(if expected { KeptAnswer::Expected } else { KeptAnswer::Other(Box::new(reply)) });
                }
                Ok(MetaReply::KeptBack(answers))
            }
            MetaRequest::Volume | MetaRequest::Server(_) | MetaRequest::Admin(_) | MetaRequest::Watch(_) => {
                Err(Status::NotSupported)
            }
        }
    }

    async fn open_session(&self, resume: Option<SessionId>) -> Answer {
        if let Some(id) = resume {
            let truth = self.truth.lock();
            let sole = truth.sessions.len() == 1;
            return if truth.sessions.contains_key(&id) {
                Ok(MetaReply::Session { id, sole, volume: Self::volume() })
            } else {
                Err(Status::Stale)
            };
        }
        let id = {
            let mut truth = self.truth.lock();
            truth.next += 1;
            let id = SessionId::new(truth.next).unwrap();
            for other in truth.sessions.values_mut() {
                other.notice = Some((other.done + 1, Notice::Shared));
            }
            truth.sessions.insert(id, Session::default());
            id
        };
        self.changed.notify_waiters();
        loop {
            let changed = self.changed.notified();
            {
                let truth = self.truth.lock();
                let waiting = |session: &Session| session.notice.is_some_and(|(number, _)| number > session.done);
                if !truth.sessions.iter().any(|(other, session)| *other != id && waiting(session)) {
                    return Ok(MetaReply::Session { id, sole: truth.sessions.len() == 1, volume: Self::volume() });
                }
            }
            changed.await;
        }
    }

    fn carried_out(&self, id: SessionId, ids: &[u64]) {
        if let Some(session) = self.truth.lock().sessions.get_mut(&id) {
            session.open.retain(|open| !ids.contains(open));
        }
        self.changed.notify_waiters();
    }

    /// Waits until no other session believes anything that a change makes untrue.
    async fn recall_of_others(&self, id: SessionId, mutation: &Mutation) {
        let of = match mutation {
            Mutation::Make { name, .. } | Mutation::Remove { name, .. } => {
                let ino = self.truth.lock().names.get(name).copied();
                let named = RecallOf::Name { parent: Ino::ROOT, name: name.clone() };
                [Some(named), ino.map(RecallOf::Inode), Some(RecallOf::Inode(Ino::ROOT))]
            }
            Mutation::Open { ino, mode: OpenMode::Read } => [Some(RecallOf::Writes(*ino)), None, None],
            Mutation::SetAttr { ino, .. } | Mutation::Open { ino, .. } => [Some(RecallOf::Inode(*ino)), None, None],
            Mutation::Commit(commit) => [Some(RecallOf::Inode(commit.ino)), None, None],
            Mutation::CopyChunks { to, .. } => [Some(RecallOf::Inode(*to)), None, None],
            _ => return,
        };
        {
            let mut truth = self.truth.lock();
            let mut next = truth.next;
            for (_, session) in truth.sessions.iter_mut().filter(|(other, session)| **other != id && session.listens) {
                for of in of.iter().flatten() {
                    next += 1;
                    session.recalls.push(Recall { id: next, of: of.clone() });
                    session.open.insert(next);
                }
            }
            truth.next = next;
        }
        self.changed.notify_waiters();
        loop {
            let changed = self.changed.notified();
            if self.truth.lock().sessions.iter().all(|(other, session)| *other == id || session.open.is_empty()) {
                return;
            }
            changed.await;
        }
    }

    async fn poll(&self, id: SessionId, done: u64, received: u64, recalled: &[u64]) -> Answer {
        self.carried_out(id, recalled);
        loop {
            let changed = self.changed.notified();
            {
                let mut truth = self.truth.lock();
                let Some(session) = truth.sessions.get_mut(&id) else { return Err(Status::Stale) };
                if done > session.done {
                    session.done = done;
                    self.changed.notify_waiters();
                }
                session.listens = true;
                if let Some(notice) = session.notice.filter(|(number, _)| *number > session.done) {
                    return Ok(MetaReply::Notice(Some(notice)));
                }
                if received >= session.batch && !session.recalls.is_empty() {
                    session.sent = std::mem::take(&mut session.recalls);
                    session.batch = received + 1;
                }
                if received < session.batch {
                    return Ok(MetaReply::Recalls { number: session.batch, recalls: session.sent.clone() });
                }
            }
            changed.await;
        }
    }

    fn mutate(&self, (id, at): (SessionId, Option<Timestamp>), op: OpId, acked: OpId, mutation: Mutation) -> Answer {
        let mut truth = self.truth.lock();
        let session = truth.sessions.get_mut(&id).ok_or(Status::Stale)?;
        if let Some(known) = session.answers.get(&op) {
            return Ok(known.clone());
        }
        assert!(op > session.acked, "an acknowledged mutation came again");
        session.acked = session.acked.max(acked);
        session.answers.retain(|op, _| *op > acked);
        let mut garbage = Vec::new();
        truth.clock += 1;
        truth.at = at;
        let answer = truth.apply(id, mutation, &mut garbage).unwrap_or_else(MetaReply::Refused);
        let held: std::collections::HashSet<VersionId> =
            truth.inodes.values().flat_map(|inode| inode.slots.values().map(|slot| version(*slot))).collect();
        for id in garbage.into_iter().filter(|id| !held.contains(id)) {
            self.store.collect(id);
        }
        if let Some(session) = truth.sessions.get_mut(&id) {
            session.answers.insert(op, answer.clone());
        }
        Ok(answer)
    }
}

impl Handler<MetaProtocol> for FakeMeta {
    fn handle(self: Arc<Self>, _: Arc<Peer>, call: MetaCall, _: Bytes) -> BoxFuture<'static, (MetaReply, Bytes)> {
        Box::pin(async move {
            // What is about to change is not leased; as nothing else is told, that is all there is.
            let asks = matches!(call.request, MetaRequest::Query(_));
            let busy = self.changing.try_lock().is_err();
            let reply = self.answer(call).await.unwrap_or_else(MetaReply::Refused);
            let unkept = asks && (busy || self.changing.try_lock().is_err());
            let body = Leasing { unkept, ..Leasing::default() }.to_byte();
            (reply, body.map_or_else(Bytes::new, |byte| Bytes::copy_from_slice(&[byte])))
        })
    }
}
