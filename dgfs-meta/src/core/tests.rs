//! The rules as tables, and a random model: every operation on a core whose
//! rows come and go, so that loads, retries and evictions are on the way too.

use std::collections::BTreeMap;

use dgfs_proto::attr::{Attr, FileKind, Timestamp, TreeStat};
use dgfs_proto::chunk::{ChunkRef, VersionId};
use dgfs_proto::graph::TagFacts;
use dgfs_proto::ids::{ChunkId, ChunkVersion, Epoch, Ino, OpId, ServerId, SessionId, TagId, Uuid};
use dgfs_proto::log::{Change, Event};
use dgfs_proto::meta::{
    Caller, ClientInfo, Commit, Content, Leasing, LockFamily, LockKind, LockSpec, MetaReply, Mutation, Named,
    NewContent, NewNode, OpenMode, Query, RemoveKind, RenameMode, SetAttr, SlotEdit, VolumeInfo, XattrMode,
};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use crate::cluster::Stored;
use crate::core::ops::{acl, lock};
use crate::core::{Asker, Core, Need, Once, OpenRequest, Outcome, Snapshot};
use crate::engine::{RowKey, Table, WriterLease};
use crate::rows::{Counters, HeldLock, InodeRow, JournalRow, Row, SettingsRow, key};

mod locks;
mod model;
mod owners;
mod policies;
mod rules;
mod sessions;
mod tags;

const CHUNK: u64 = 1 << 20;
const LEASE: WriterLease = WriterLease { epoch: Epoch(1), last_batch: 0 };

/// A core with its rows in a map, committed after each operation.
pub(crate) struct Bench {
    core: Core,
    rows: BTreeMap<RowKey, Vec<u8>>,
    session: SessionId,
    op: u64,
    now_ms: u64,
    /// How often the rules were asked.
    attempts: usize,
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// One server that holds everything, as of a volume from before there were classes.
pub(crate) fn one_server() -> Stored {
    Stored { assignment: vec![vec![ServerId(1)]; 4096], silence_ms: u64::MAX, ..Stored::default() }
}

fn root_row() -> InodeRow {
    let time = Timestamp::from_ms(1);
    InodeRow {
        attr: Attr {
            ino: Ino::ROOT,
            kind: FileKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            nlink: 2,
            size: 0,
            allocated: 0,
            rdev: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            data_version: 1,
            flags: Default::default(),
            parent: Ino::ROOT,
        },
        links: Vec::new(),
        tree: TreeStat::default(),
        target: Vec::new(),
    }
}

impl Bench {
    pub(crate) fn new(memory_bytes: usize) -> Self {
        let volume = VolumeInfo {
            uuid: Uuid([7; 16]),
            name: "test".to_owned(),
            chunk_bytes: CHUNK as u32,
            inline_bytes_max: 4096,
            format: 1,
            created: Timestamp::from_ms(1),
            initial_servers: 1,
        };
        let snapshot = Snapshot {
            volume,
            counters: Counters::default(),
            settings: SettingsRow::default(),
            cluster: one_server(),
            sessions: Vec::new(),
            answers: Vec::new(),
            consumers: Vec::new(),
            orphans: Vec::new(),
            locks: Vec::new(),
            journal: JournalRow::default(),
            announced: BTreeMap::new(),
        };
        let mut core = Core::new(snapshot, LEASE, memory_bytes, Timestamp::from_ms(1));
        core.write(key::inode(Ino::ROOT), Some(std::sync::Arc::new(Row::Inode(root_row()))));
        let session = SessionId::new(1).unwrap();
        let mut bench = Self { core, rows: BTreeMap::new(), session, op: 0, now_ms: 1000, attempts: 0 };
        bench.session = bench.open_session();
        bench
    }

    pub(crate) fn open_session(&mut self) -> SessionId {
        let key = self.core.counters.next_session;
        let request = OpenRequest { client: ClientInfo::default(), key, resume: None, opens: Vec::new() };
        let opened = self.core.open_session(Timestamp::from_ms(self.now_ms), request).unwrap().0;
        self.commit();
        opened
    }

    fn commit(&mut self) {
        while let Some((ticket, pending)) = self.core.take_pending() {
            for key in &pending.new {
                assert!(!self.rows.contains_key(key), "{key:?} is there and was taken for new");
            }
            for (key, row) in pending.rows {
                match row {
                    Some(row) => self.rows.insert(key, row.encode()),
                    None => self.rows.remove(&key),
                };
            }
            self.core.set_committed(ticket);
        }
    }

    fn settle(&mut self, mut step: impl FnMut(&mut Core, &mut crate::core::Attempt<'_>) -> Outcome) -> MetaReply {
        let mut ranges = Vec::new();
        let (mut began, mut wait) = (None, None);
        for _ in 0..10_000 {
            self.attempts += 1;
            let mut attempt = crate::core::Attempt { loaded: &ranges, wait, leasing: Leasing::default() };
            let outcome = step(&mut self.core, &mut attempt);
            if matches!(outcome, Outcome::Need(_)) {
                began.get_or_insert_with(|| self.core.begin_load());
            }
            match outcome {
                Outcome::Answer { reply, .. } => {
                    wait.into_iter().for_each(|wait| self.core.leases.end_wait(wait));
                    began.into_iter().for_each(|began| self.core.end_load(began));
                    self.commit();
                    return reply;
                }
                Outcome::More => self.commit(),
                Outcome::Recall(_, wanted) => {
                    wait = Some(self.core.recall(wait, wanted, Timestamp::from_ms(self.now_ms)));
                    self.obey();
                }
                Outcome::Need(Need::Rows(keys)) => {
                    let load = |key: &RowKey| {
                        (*key, self.rows.get(key).map(|bytes| std::sync::Arc::new(Row::decode(*key, bytes).unwrap())))
                    };
                    let rows: Vec<_> = keys.iter().map(load).collect();
                    self.core.install(&rows);
                }
                Outcome::Need(Need::Range(range)) => {
                    let from = RowKey { table: range.table, partition: range.partition, sort: range.from };
                    let to = RowKey { sort: range.to, ..from };
                    let rows: Vec<_> = self
                        .rows
                        .range(from..=to)
                        .take(range.limit)
                        .map(|(key, bytes)| (*key, std::sync::Arc::new(Row::decode(*key, bytes).unwrap())))
                        .collect();
                    ranges.push(self.core.install_range(range, &rows));
                }
            }
        }
        panic!("no answer after 10,000 attempts");
    }

    /// The number of a tag, from the rows.
    pub(crate) fn tag_id(&self, name: &Tag) -> TagId {
        let of_tag = |(key, bytes): (&RowKey, &Vec<u8>)| match Row::decode(*key, bytes) {
            Ok(Row::Tag(facts)) if facts.name == *name => TagId::new(key.sort),
            _ => None,
        };
        self.rows.iter().find_map(of_tag).expect("a tag of that name")
    }

    /// Changes the row of a tag behind the back of all rules.
    pub(crate) fn edit_tag(&mut self, id: TagId, edit: impl FnOnce(&mut TagFacts)) {
        let key = key::tag(id);
        let Ok(Row::Tag(mut facts)) = Row::decode(key, &self.rows[&key]) else { panic!("no row of a tag") };
        edit(&mut facts);
        self.core.write(key, Some(std::sync::Arc::new(Row::Tag(facts))));
        self.commit();
    }

    /// Every session carries out what it is told.
    fn obey(&mut self) {
        let time = Timestamp::from_ms(self.now_ms);
        for id in self.core.sessions.keys().copied().collect::<Vec<_>>() {
            let done = self.core.sessions[&id].notice.0;
            let _: Option<_> = self.core.notice(id, done);
            while let Some((number, recalls)) = self.core.listen((id, time), u64::MAX / 2, &[]) {
                let ids: Vec<u64> = recalls.iter().map(|recall| recall.id).collect();
                let _: Option<_> = self.core.listen((id, time), number, &ids);
            }
        }
    }

    pub(crate) fn mutate_as(&mut self, session: SessionId, mutation: &Mutation) -> MetaReply {
        self.op += 1;
        self.now_ms += 1;
        let op = OpId(self.op);
        let time = Timestamp::from_ms(self.now_ms);
        self.settle(|core, attempt| {
            core.mutate(
                time,
                &Once { session, op, acked: OpId(0), mutation, keep_answer: false, kept_back: false },
                attempt,
            )
        })
    }

    pub(crate) fn mutate(&mut self, mutation: &Mutation) -> Result<MetaReply, Status> {
        match self.mutate_as(self.session, mutation) {
            MetaReply::Refused(status) => Err(status),
            reply => Ok(reply),
        }
    }

    pub(crate) fn must(&mut self, mutation: &Mutation) {
        let reply = self.mutate_as(self.session, mutation);
        assert!(!matches!(reply, MetaReply::Refused(_)), "{mutation:?} answered {reply:?}");
    }

    pub(crate) fn query(&mut self, query: &Query) -> Result<MetaReply, Status> {
        let asker = Asker { now: Timestamp::from_ms(self.now_ms), session: Some(self.session) };
        match self.settle(|core, loaded| core.query(asker, query, loaded)) {
            MetaReply::Refused(status) => Err(status),
            reply => Ok(reply),
        }
    }

    pub(crate) fn make(&mut self, parent: Ino, text: &str, node: NewNode) -> Result<Attr, Status> {
        let caller = Caller { uid: 10, gid: 20 };
        let make = Mutation::Make {
            parent,
            name: name(text),
            node,
            mode: 0o666,
            umask: 0o022,
            caller,
            open: false,
            ino: None,
        };
        match self.mutate(&make)? {
            MetaReply::Named(Named { ino, lost: None, attrs }) if attrs[0].ino == ino && attrs[1].ino == parent => {
                Ok(attrs[0].clone())
            }
            other => panic!("make answered {other:?}"),
        }
    }

    pub(crate) fn remove(&mut self, parent: Ino, text: &str, kind: RemoveKind) -> Result<(), Status> {
        self.mutate(&Mutation::Remove { parent, name: name(text), kind }).map(drop)
    }

    pub(crate) fn rename_named(&mut self, from: (Ino, &str), to: (Ino, &str), mode: RenameMode) -> MetaReply {
        let rename =
            Mutation::Rename { parent: from.0, name: name(from.1), new_parent: to.0, new_name: name(to.1), mode };
        self.mutate(&rename).unwrap()
    }

    pub(crate) fn rename(&mut self, from: (Ino, &str), to: (Ino, &str), mode: RenameMode) -> Result<(), Status> {
        let rename =
            Mutation::Rename { parent: from.0, name: name(from.1), new_parent: to.0, new_name: name(to.1), mode };
        self.mutate(&rename).map(drop)
    }

    pub(crate) fn attr(&mut self, ino: Ino) -> Result<Attr, Status> {
        match self.query(&Query::GetAttr(ino))? {
            MetaReply::Attr(attr) => Ok(attr),
            other => panic!("getattr answered {other:?}"),
        }
    }

    pub(crate) fn tree(&mut self, ino: Ino) -> TreeStat {
        match self.query(&Query::TreeStat(ino)) {
            Ok(MetaReply::TreeStat(tree)) => tree,
            other => panic!("tree stat answered {other:?}"),
        }
    }

    pub(crate) fn list(&mut self, ino: Ino, limit: u32) -> Vec<(String, Ino)> {
        let mut all = Vec::new();
        let mut cookie = 0;
        loop {
            match self.query(&Query::ReadDir { ino, cookie, limit }) {
                Ok(MetaReply::Entries { entries, end }) => {
                    cookie = entries.last().map_or(cookie, |entry| entry.cookie);
                    all.extend(entries.into_iter().map(|entry| (entry.name.to_string(), entry.attr.ino)));
                    if end {
                        return all;
                    }
                }
                other => panic!("readdir answered {other:?}"),
            }
        }
    }

    pub(crate) fn write_chunk(&mut self, ino: Ino, index: u64, serial: u64) -> Result<ChunkRef, Status> {
        let base = match self.query(&Query::Content { ino, first: index, count: 1 })? {
            MetaReply::Opened { attr, content } => match content {
                Content::Inline(_) => (Some(attr.data_version), None),
                Content::Slots { slots, .. } => (None, slots.first().copied().flatten()),
            },
            other => panic!("content answered {other:?}"),
        };
        let chunk = base.1.map_or(ChunkId::new(serial).unwrap(), |base| base.chunk);
        let new = ChunkRef { chunk, version: ChunkVersion::new(serial).unwrap(), len: 100, allocated: 100 };
        let edits = vec![SlotEdit { index, base: base.1, new: Some(new) }];
        let commit = Commit {
            ino,
            content: NewContent::Slots { inline_base: base.0, edits },
            size_at_least: index * CHUNK + 100,
            policies: 0,
            size_expected: None,
            mtime: Timestamp::from_ms(self.now_ms),
        };
        self.mutate(&Mutation::Commit(commit)).map(|_| new)
    }

    pub(crate) fn reap_all(&mut self, time: Timestamp) {
        while !self.core.reapable.is_empty() {
            let nothing = || Outcome::Answer { reply: MetaReply::Done, ticket: 0 };
            let _: MetaReply = self.settle(|core, _| core.reap(time).unwrap_or_else(nothing));
        }
    }

    fn garbage(&self) -> Vec<VersionId> {
        let rows = self.rows.iter().filter(|(key, _)| key.table == Table::Garbage);
        rows.map(|(key, bytes)| match Row::decode(*key, bytes).unwrap() {
            Row::Garbage(id) => id,
            other => panic!("not garbage: {other:?}"),
        })
        .collect()
    }

    fn events(&self) -> Vec<Event> {
        let rows = self.rows.iter().filter(|(key, _)| key.table == Table::Log);
        rows.map(|(key, bytes)| match Row::decode(*key, bytes).unwrap() {
            Row::Event(event) => event,
            other => panic!("not an event: {other:?}"),
        })
        .collect()
    }
}
