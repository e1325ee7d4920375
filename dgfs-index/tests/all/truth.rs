//! A metadata service made of maps: the truth that the index follows, its change log, and its pages.
//!
//! Never checks whether a caller may do something. Always: every change appends its event with the attributes of all it
//! touched, as the real service does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use dgfs_proto::attr::{FileKind, Timestamp};
use dgfs_proto::graph::{Catalogue, GraphNode, HandRelation, NodeFacts, TagFacts};
use dgfs_proto::ids::{Ino, Seq, TagId, Uuid};
use dgfs_proto::log::{Change, Event};
use dgfs_proto::meta::{AdminRequest, MetaCall, MetaReply, MetaRequest, VolumeInfo};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;
use dgfs_runtime::channel::{Handler, MetaProtocol, Peer};

/// Hook that runs when a page of inodes was made: the world does not stand still while an index is built.
type PageHook = Box<dyn FnMut(&mut Truth) + Send>;

/// What the metadata say.
#[derive(Clone, Default)]
pub(crate) struct Truth {
    pub(crate) nodes: BTreeMap<Ino, NodeFacts>,
    pub(crate) names: BTreeMap<(Ino, Name), Ino>,
    pub(crate) xattrs: BTreeMap<(Ino, Vec<u8>), Vec<u8>>,
    pub(crate) tags: BTreeMap<TagId, TagFacts>,
    pub(crate) tagged: BTreeMap<Ino, BTreeSet<TagId>>,
    pub(crate) vetoes: BTreeMap<Ino, Vec<Tag>>,
    pub(crate) related: BTreeMap<Ino, Vec<(HandRelation, Ino)>>,
    pub(crate) saved: BTreeMap<String, String>,
    pub(crate) log: VecDeque<Event>,
    pub(crate) trimmed: u64,
    next_ino: u64,
    next_tag: u64,
    /// Changes may be cut into pages of so many events.
    pub(crate) page_max: usize,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

pub(crate) fn ino(number: u64) -> Ino {
    Ino::new(number).unwrap()
}

impl Truth {
    pub(crate) fn new() -> Self {
        let mut truth = Self { next_ino: 2, next_tag: 1, page_max: 4096, ..Self::default() };
        truth.nodes.insert(Ino::ROOT, facts(Ino::ROOT, FileKind::Directory, 0o755));
        truth
    }

    pub(crate) fn head(&self) -> Seq {
        Seq(self.trimmed + self.log.len() as u64)
    }

    /// Appends the events of one change.
    pub(crate) fn commit(&mut self, changes: Vec<Change>, touched: &[Ino]) {
        let nodes: Vec<NodeFacts> = touched.iter().filter_map(|ino| self.nodes.get(ino).cloned()).collect();
        let count = changes.len();
        for (at, change) in changes.into_iter().enumerate() {
            let seq = self.head().next();
            let nodes = if at == 0 { nodes.clone() } else { Vec::new() };
            let time = Timestamp { secs: 1_700_000_000 + seq.0.cast_signed(), nanos: 5 };
            self.log.push_back(Event { seq, at: time, session: None, change, nodes, continues: at + 1 < count });
        }
    }

    /// A new inode. `size` also decides when it was changed.
    pub(crate) fn make(&mut self, parent: Ino, text: &str, kind: FileKind, size: u64) -> Ino {
        let ino = ino(self.next_ino);
        self.next_ino += 1;
        let mode = if kind == FileKind::Directory { 0o755 } else { 0o644 };
        let mut node = facts(ino, kind, mode);
        node.size = size;
        node.mtime = Timestamp { secs: 1_600_000_000 + (size * 86_400).cast_signed(), nanos: 0 };
        self.nodes.insert(ino, node);
        self.names.insert((parent, name(text)), ino);
        self.commit(vec![Change::Made { ino, parent, name: name(text), kind }], &[ino, parent]);
        ino
    }

    pub(crate) fn dir(&mut self, parent: Ino, text: &str) -> Ino {
        self.make(parent, text, FileKind::Directory, 0)
    }

    pub(crate) fn file(&mut self, parent: Ino, text: &str) -> Ino {
        self.make(parent, text, FileKind::File, 1)
    }

    pub(crate) fn change(&mut self, ino: Ino, change: impl FnOnce(&mut NodeFacts)) {
        change(self.nodes.get_mut(&ino).unwrap());
        self.commit(vec![Change::AttrSet { ino }], &[ino]);
    }

    pub(crate) fn link(&mut self, ino: Ino, parent: Ino, text: &str) {
        self.nodes.get_mut(&ino).unwrap().nlink += 1;
        self.names.insert((parent, name(text)), ino);
        self.commit(vec![Change::Linked { ino, parent, name: name(text) }], &[ino, parent]);
    }

    fn names_of(&self, ino: Ino) -> Vec<(Ino, Name)> {
        self.names.iter().filter(|(_, to)| **to == ino).map(|(place, _)| place.clone()).collect()
    }

    /// Removes a name; an inode without a name is freed in the same change, unless it is `open`.
    pub(crate) fn unlink(&mut self, parent: Ino, text: &Name, open: bool) {
        let ino = self.names.remove(&(parent, text.clone())).unwrap();
        let last = self.names_of(ino).is_empty();
        let mut changes = vec![Change::Unlinked { ino, parent, name: text.clone(), last }];
        if last && !open {
            self.forget(ino);
            changes.push(Change::Freed { ino });
        }
        self.commit(changes, &[ino, parent]);
    }

    /// Frees an inode that was open when it lost its last name.
    pub(crate) fn free(&mut self, ino: Ino) {
        self.forget(ino);
        self.commit(vec![Change::Freed { ino }], &[]);
    }

    fn forget(&mut self, ino: Ino) {
        self.nodes.remove(&ino);
        self.xattrs.retain(|(of, _), _| *of != ino);
        self.tagged.remove(&ino);
        self.vetoes.remove(&ino);
        // Relations that lead to it stay, as in the metadata.
        self.related.remove(&ino);
    }

    pub(crate) fn rename(&mut self, from: (Ino, Name), to: (Ino, Name), exchange: bool) {
        let ino = self.names.remove(&from).unwrap();
        let replaced = self.names.insert(to.clone(), ino);
        let mut changes = vec![Change::Renamed {
            ino,
            parent: from.0,
            name: from.1.clone(),
            new_parent: to.0,
            new_name: to.1,
            replaced,
            exchanged: exchange && replaced.is_some(),
        }];
        if let Some(replaced) = replaced {
            if exchange {
                self.names.insert(from, replaced);
            } else if self.names_of(replaced).is_empty() {
                self.forget(replaced);
                changes.push(Change::Freed { ino: replaced });
            }
        }
        self.commit(changes, &[ino]);
    }

    pub(crate) fn xattr(&mut self, ino: Ino, key: &str, value: Option<&[u8]>) {
        let key = key.as_bytes().to_vec();
        match value {
            Some(value) => self.xattrs.insert((ino, key.clone()), value.to_vec()),
            None => self.xattrs.remove(&(ino, key.clone())),
        };
        let value = value.map(<[u8]>::to_vec);
        self.commit(vec![Change::KeptXattr { ino, name: key, value }], &[ino]);
    }

    /// The tag of that name; made where there is none.
    pub(crate) fn tag_id(&mut self, text: &str) -> (TagId, Option<TagFacts>) {
        let wanted = tag(text).fold();
        if let Some((id, _)) = self.tags.iter().find(|(_, facts)| facts.name.fold() == wanted) {
            return (*id, None);
        }
        let id = TagId::new(self.next_tag).unwrap();
        self.next_tag += 1;
        let facts = TagFacts { name: tag(text), aliases: Vec::new(), implies: Vec::new(), merged_into: None, owner: 0 };
        self.tags.insert(id, facts.clone());
        (id, Some(facts))
    }

    /// Gives an inode exactly these tags.
    pub(crate) fn tag(&mut self, ino: Ino, texts: &[&str]) {
        let (mut ids, mut made) = (BTreeSet::new(), Vec::new());
        for text in texts {
            let (id, new) = self.tag_id(text);
            ids.insert(id);
            made.extend(new.map(|facts| (id, facts)));
        }
        let tags = vec![(ino, ids.iter().copied().collect())];
        self.tagged.insert(ino, ids);
        self.commit(vec![Change::Tagged { made, tags, vetoes: Vec::new() }], &[ino]);
    }

    pub(crate) fn veto(&mut self, ino: Ino, vetoes: Vec<Tag>) {
        self.vetoes.insert(ino, vetoes.clone());
        self.commit(vec![Change::Tagged { made: Vec::new(), tags: Vec::new(), vetoes: vec![(ino, vetoes)] }], &[]);
    }

    pub(crate) fn change_tag(&mut self, text: &str, change: impl FnOnce(&mut TagFacts)) {
        let (id, _) = self.tag_id(text);
        let facts = self.tags.get_mut(&id).unwrap();
        change(facts);
        let facts = facts.clone();
        self.commit(vec![Change::TagsChanged(vec![(id, Some(facts))])], &[]);
    }

    pub(crate) fn delete_tag(&mut self, id: TagId) {
        self.tags.remove(&id);
        for tags in self.tagged.values_mut() {
            tags.remove(&id);
        }
        for facts in self.tags.values_mut() {
            facts.implies.retain(|implied| *implied != id);
        }
        self.commit(vec![Change::TagsChanged(vec![(id, None)])], &[]);
    }

    pub(crate) fn relate(&mut self, ino: Ino, to: Vec<(HandRelation, Ino)>) {
        self.related.insert(ino, to.clone());
        self.commit(vec![Change::Related { ino, to }], &[]);
    }

    pub(crate) fn save(&mut self, text: &str, expression: Option<&str>) {
        match expression {
            Some(expression) => self.saved.insert(text.to_owned(), expression.to_owned()),
            None => self.saved.remove(text),
        };
        let expression = expression.map(str::to_owned);
        self.commit(vec![Change::Saved { name: text.to_owned(), expression }], &[]);
    }

    fn graph_node(&self, facts: &NodeFacts) -> GraphNode {
        let ino = facts.ino;
        let xattrs = self.xattrs.iter().filter(|((of, _), _)| *of == ino);
        GraphNode {
            facts: facts.clone(),
            names: self.names_of(ino),
            xattrs: xattrs.map(|((_, name), value)| (name.clone(), value.clone())).collect(),
            tags: self.tagged.get(&ino).into_iter().flatten().copied().collect(),
            vetoes: self.vetoes.get(&ino).cloned().unwrap_or_default(),
            related: self.related.get(&ino).cloned().unwrap_or_default(),
        }
    }
}

fn facts(ino: Ino, kind: FileKind, mode: u16) -> NodeFacts {
    let at = Timestamp { secs: 1_600_000_000, nanos: 0 };
    NodeFacts { ino, kind, mode, uid: 0, gid: 0, nlink: 1, size: 0, mtime: at, ctime: at, btime: at, data_version: 0 }
}

/// The service.
pub(crate) struct FakeMeta {
    pub(crate) truth: Mutex<Truth>,
    pub(crate) hook: Mutex<Option<PageHook>>,
    pub(crate) away: Mutex<bool>,
    grew: Notify,
}

impl FakeMeta {
    pub(crate) fn new(truth: Truth) -> Arc<Self> {
        let (hook, away) = (Mutex::new(None), Mutex::new(false));
        Arc::new(Self { truth: Mutex::new(truth), hook, away, grew: Notify::new() })
    }

    /// Changes the truth and wakes who waits for that.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Truth) -> T) -> T {
        let done = change(&mut self.truth.lock());
        self.grew.notify_waiters();
        done
    }

    async fn log(&self, after: Seq, limit: usize, wait: bool) -> MetaReply {
        loop {
            let grew = self.grew.notified();
            tokio::pin!(grew);
            grew.as_mut().enable();
            {
                let truth = self.truth.lock();
                if after.0 < truth.trimmed {
                    return MetaReply::Refused(Status::Stale);
                }
                let skip = usize::try_from(after.0 - truth.trimmed).unwrap_or(usize::MAX);
                let page = limit.min(truth.page_max);
                let events: Vec<Event> = truth.log.iter().skip(skip).take(page).cloned().collect();
                if !events.is_empty() || !wait {
                    return MetaReply::Log { events, head: truth.head() };
                }
            }
            grew.await;
        }
    }

    fn graph(&self, after: Option<Ino>, limit: usize) -> MetaReply {
        let mut truth = self.truth.lock();
        let behind = |facts: &&NodeFacts| after.is_none_or(|after| facts.ino > after);
        let page = limit.min(truth.page_max);
        let nodes = truth.nodes.values().filter(behind).take(page).map(|facts| truth.graph_node(facts)).collect();
        if let Some(hook) = &mut *self.hook.lock() {
            hook(&mut truth);
        }
        MetaReply::Graph(nodes)
    }

    fn catalogue(&self, after: Option<TagId>) -> MetaReply {
        let truth = self.truth.lock();
        let behind = |(id, _): &(&TagId, &TagFacts)| after.is_none_or(|after| **id > after);
        let tags =
            truth.tags.iter().filter(behind).take(truth.page_max).map(|(id, facts)| (*id, facts.clone())).collect();
        let saved = if after.is_none() { truth.saved.clone().into_iter().collect() } else { Vec::new() };
        MetaReply::Catalogue(Catalogue { tags, saved })
    }
}

impl Handler<MetaProtocol> for FakeMeta {
    fn handle(self: Arc<Self>, _: Arc<Peer>, call: MetaCall, _: Bytes) -> BoxFuture<'static, (MetaReply, Bytes)> {
        Box::pin(async move {
            let reply = match call.request {
                _ if *self.away.lock() => MetaReply::Refused(Status::NotActive),
                MetaRequest::Volume => MetaReply::Volume(VolumeInfo {
                    uuid: Uuid([7; 16]),
                    name: "test".to_owned(),
                    chunk_bytes: 1 << 20,
                    inline_bytes_max: 0,
                    format: 1,
                    created: Timestamp::default(),
                    initial_servers: 1,
                }),
                MetaRequest::Admin(AdminRequest::Log { after, limit, wait, .. }) => {
                    self.log(after, limit as usize, wait).await
                }
                MetaRequest::Admin(AdminRequest::Graph { after, limit }) => self.graph(after, limit as usize),
                MetaRequest::Admin(AdminRequest::Catalogue { after, .. }) => self.catalogue(after),
                _ => MetaReply::Refused(Status::NotSupported),
            };
            (reply, Bytes::new())
        })
    }
}
