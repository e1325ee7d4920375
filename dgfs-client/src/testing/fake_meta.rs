//! A metadata service in memory: one directory, files, opens, locks without waits, sessions. It takes every other session to
//! hold a lease of whatever is changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use dgfs_proto::attr::{Attr, AttrFlags, FileKind, Timestamp};
use dgfs_proto::chunk::{ChunkRef, VersionId};
use dgfs_proto::class::Class;
use dgfs_proto::ids::{ChunkVersion, Epoch, Ino, OpId, ServerId, SessionId, Uuid};
use dgfs_proto::limits::{EDITS_MAX, PARTITIONS};
use dgfs_proto::map::{ClassMap, ClusterMap, Holder, Labels, Placement, ServerInfo, Standing};
use dgfs_proto::meta::{
    Commit, Content, Leasing, LockKind, LockSpec, MetaCall, MetaReply, MetaRequest, Mutation, Named, NewContent,
    Notice, OpenMode, Query, Recall, RecallOf, RemoveKind, SessionRequest, SetAttr, SetTime, VolumeInfo, VolumeUsage,
};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Handler, MetaProtocol, Peer};

use crate::testing::fake_store::FakeStore;

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
        };
        Arc::new(Self {
            truth: Mutex::new(truth),
            store,
            changed: Notify::new(),
            changing: tokio::sync::Mutex::default(),
        })
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
                self.mutate(session, op, acked, mutation)
            }
            MetaRequest::Volume | MetaRequest::Server(_) | MetaRequest::Admin(_) => Err(Status::NotSupported),
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

    fn mutate(&self, id: SessionId, op: OpId, acked: OpId, mutation: Mutation) -> Answer {
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

fn version(slot: ChunkRef) -> VersionId {
    VersionId { chunk: slot.chunk, version: slot.version }
}

fn map() -> ClusterMap {
    let server = ServerInfo {
        id: ServerId(1),
        address: String::new(),
        label: "fake".to_owned(),
        labels: Labels::default(),
        weight: 1,
        standing: Standing::Active,
        up: true,
        capacity_bytes: 1 << 40,
        used_bytes: 0,
        free_bytes: 1 << 40,
    };
    let members = vec![Holder { server: ServerId(1), full: true, since: Epoch(1) }];
    let placement = Placement { members, extras: Vec::new(), changed: Epoch(1) };
    let classes = vec![ClassMap { class: Class::SINGLE, placements: vec![placement; usize::from(PARTITIONS)] }];
    ClusterMap { epoch: Epoch(1), servers: vec![server], classes, default_class: Class::SINGLE, policies: 0 }
}

fn attr(ino: Ino, kind: FileKind, now: Timestamp) -> Attr {
    let mut flags = AttrFlags::default();
    flags.set(AttrFlags::INLINE, kind == FileKind::File);
    Attr {
        ino,
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        nlink: 1,
        size: 0,
        allocated: 0,
        rdev: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        data_version: 1,
        flags,
        parent: Ino::ROOT,
    }
}

impl Truth {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.clock)
    }

    fn inode(&mut self, ino: Ino) -> Result<&mut Inode, Status> {
        self.inodes.get_mut(&ino).ok_or(Status::Stale)
    }

    fn query(&mut self, query: Query) -> Answer {
        match query {
            Query::Lookup { name, .. } => {
                let ino = *self.names.get(&name).ok_or(Status::NotFound)?;
                Ok(MetaReply::Attr(self.inode(ino)?.attr.clone()))
            }
            Query::GetAttr(ino) => Ok(MetaReply::Attr(self.inode(ino)?.attr.clone())),
            // While there are others, nobody keeps writes back.
            Query::LeaseWrites(ino) => {
                let attr = self.inode(ino)?.attr.clone();
                Ok(MetaReply::WritesLeased((self.sessions.len() == 1).then_some(attr)))
            }
            Query::Content { ino, first, count } => {
                let inode = self.inode(ino)?;
                Ok(MetaReply::Opened { attr: inode.attr.clone(), content: inode.content(first, count as usize) })
            }
            Query::NextChunk { ino, first } => {
                let next = self.inode(ino)?.slots.range(first..).next().map(|(at, slot)| (*at, *slot));
                Ok(MetaReply::NextChunk(next))
            }
            Query::StatFs => {
                let free_bytes = 1 << 30;
                Ok(MetaReply::StatFs(VolumeUsage { capacity_bytes: 1 << 31, free_bytes, ..VolumeUsage::default() }))
            }
            _ => Err(Status::NotSupported),
        }
    }

    fn apply(&mut self, session: SessionId, mutation: Mutation, garbage: &mut Vec<VersionId>) -> Answer {
        match mutation {
            Mutation::Make { name, .. } => {
                if self.names.contains_key(&name) {
                    return Err(Status::Exists);
                }
                self.next += 1;
                let ino = Ino::new(self.next).unwrap();
                let attr = attr(ino, FileKind::File, self.now());
                let inode = Inode { attr: attr.clone(), inline: Vec::new(), slots: BTreeMap::new() };
                self.inodes.insert(ino, inode);
                self.names.insert(name, ino);
                let attrs = vec![attr, self.inode(Ino::ROOT)?.attr.clone()];
                Ok(MetaReply::Named(Named { ino, lost: None, attrs }))
            }
            Mutation::Remove { name, kind: RemoveKind::Unlink, .. } => {
                let ino = self.names.remove(&name).ok_or(Status::NotFound)?;
                let attrs = vec![self.inode(Ino::ROOT)?.attr.clone()];
                Ok(MetaReply::Named(Named { ino, lost: Some((ino, 0)), attrs }))
            }
            Mutation::SetAttr { ino, set } => self.set_attr(ino, &set, garbage),
            Mutation::Commit(commit) => self.commit(&commit, garbage),
            Mutation::CopyChunks { from, from_index, to, to_index, count, size_at_least } => {
                self.copy((from, from_index), (to, to_index), (count, size_at_least), garbage)
            }
            Mutation::Open { ino, mode } => {
                if mode == OpenMode::Truncate && self.inode(ino)?.attr.size > 0 {
                    let set = SetAttr { size: Some(0), ..SetAttr::default() };
                    let _ = self.set_attr(ino, &set, garbage)?;
                }
                let inode = self.inode(ino)?;
                Ok(MetaReply::Opened { attr: inode.attr.clone(), content: inode.content(0, OPEN_SLOTS) })
            }
            Mutation::Release { .. } | Mutation::Register { .. } => Ok(MetaReply::Done),
            Mutation::UnlockOwner { ino, owner, .. } => {
                self.locks.retain(|(at, of, held)| *at != ino || *of != session || held.owner != owner);
                Ok(MetaReply::Done)
            }
            Mutation::Lock { ino, lock, .. } => {
                self.locks.retain(|(at, of, held)| *at != ino || *of != session || held.owner != lock.owner);
                if lock.kind != LockKind::Unlock {
                    if self.locks.iter().any(|(at, ..)| *at == ino) {
                        return Err(Status::WouldBlock);
                    }
                    self.locks.push((ino, session, lock));
                }
                Ok(MetaReply::Done)
            }
            Mutation::Grant { chunks, versions } => {
                let first = self.next + 1;
                self.next += u64::from(chunks.max(versions)) + 1;
                Ok(MetaReply::Granted { chunk: first, version: ChunkVersion::new(first).unwrap() })
            }
            _ => Err(Status::NotSupported),
        }
    }

    fn set_attr(&mut self, ino: Ino, set: &SetAttr, garbage: &mut Vec<VersionId>) -> Answer {
        let now = self.now();
        let inode = self.inode(ino)?;
        if let Some(size) = set.size {
            inode.resize(size, garbage);
            inode.attr.mtime = now;
        }
        if let Some(mode) = set.mode {
            inode.attr.mode = mode;
        }
        if let Some(SetTime::At(time)) = set.mtime {
            inode.attr.mtime = time;
        }
        Ok(MetaReply::Attr(inode.attr.clone()))
    }

    fn commit(&mut self, commit: &Commit, garbage: &mut Vec<VersionId>) -> Answer {
        let inode = self.inode(commit.ino)?;
        if commit.size_expected.is_some_and(|expected| expected != inode.attr.size) {
            return Err(Status::Conflict);
        }
        let inline = inode.attr.flags.has(AttrFlags::INLINE);
        let version_now = inode.attr.data_version;
        match &commit.content {
            NewContent::Inline { base_data_version, bytes } => {
                if *base_data_version != version_now || !inline {
                    return Err(Status::Conflict);
                }
                assert!(bytes.len() <= INLINE as usize, "inline bytes past their bound");
                inode.inline = bytes.clone();
            }
            NewContent::Slots { inline_base, edits } => {
                if *inline_base != inline.then_some(version_now) {
                    return Err(Status::Conflict);
                }
                assert!(edits.len() <= EDITS_MAX, "too many edits");
                if edits.iter().any(|edit| inode.slots.get(&edit.index) != edit.base.as_ref()) {
                    return Err(Status::Conflict);
                }
                inode.attr.flags.set(AttrFlags::INLINE, false);
                inode.inline.clear();
                for edit in edits {
                    inode.set_slot(edit.index, edit.new, garbage);
                }
            }
        }
        inode.attr.size = inode.attr.size.max(commit.size_at_least);
        inode.attr.data_version += 1;
        inode.attr.mtime = commit.mtime;
        Ok(MetaReply::Attr(inode.attr.clone()))
    }

    fn copy(
        &mut self,
        (from, from_index): (Ino, u64),
        (to, to_index): (Ino, u64),
        (count, size_at_least): (u32, u64),
        garbage: &mut Vec<VersionId>,
    ) -> Answer {
        let source = self.inode(from)?.clone();
        let target = self.inode(to)?;
        let inline = target.attr.flags.has(AttrFlags::INLINE) && target.attr.size > 0;
        if source.attr.flags.has(AttrFlags::INLINE) || inline {
            return Err(Status::NotSupported);
        }
        target.attr.flags.set(AttrFlags::INLINE, false);
        for at in 0..u64::from(count) {
            target.set_slot(to_index + at, source.slots.get(&(from_index + at)).copied(), garbage);
        }
        target.attr.size = target.attr.size.max(size_at_least);
        target.attr.data_version += 1;
        Ok(MetaReply::Attr(target.attr.clone()))
    }
}

impl Inode {
    fn content(&self, first: u64, count: usize) -> Content {
        if self.attr.flags.has(AttrFlags::INLINE) {
            return Content::Inline(self.inline.clone());
        }
        let mut slots: Vec<Option<ChunkRef>> =
            (first..first + count as u64).map(|at| self.slots.get(&at).copied()).collect();
        while slots.last() == Some(&None) {
            slots.pop();
        }
        Content::Slots { first, slots }
    }

    fn set_slot(&mut self, index: u64, new: Option<ChunkRef>, garbage: &mut Vec<VersionId>) {
        let old = match new {
            Some(new) => self.slots.insert(index, new),
            None => self.slots.remove(&index),
        };
        garbage.extend(old.map(version));
        self.attr.allocated = self.slots.values().map(|slot| u64::from(slot.allocated)).sum();
    }

    fn resize(&mut self, size: u64, garbage: &mut Vec<VersionId>) {
        if self.attr.flags.has(AttrFlags::INLINE) {
            self.inline.truncate(usize::try_from(size).unwrap());
        } else {
            let end = size.div_ceil(u64::from(CHUNK));
            garbage.extend(self.slots.split_off(&end).into_values().map(version));
            if let Some(last) = end.checked_sub(1).and_then(|last| self.slots.get_mut(&last)) {
                last.len = last.len.min((size - (end - 1) * u64::from(CHUNK)) as u32);
            }
        }
        self.attr.size = size;
        self.attr.data_version += 1;
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
