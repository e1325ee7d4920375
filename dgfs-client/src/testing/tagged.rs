//! A volume in memory whose metadata service keeps tags, and an index that follows it at once: directories, files, symlinks,
//! tags, relations, saved queries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use dgfs_proto::attr::{Attr, AttrFlags, FileKind, Timestamp};
use dgfs_proto::graph::{GraphCall, GraphReply, HandRelation};
use dgfs_proto::ids::{Epoch, Ino, Seq, SessionId, Uuid};
use dgfs_proto::limits::POLL_MS;
use dgfs_proto::meta::{
    Actor, MetaCall, MetaReply, MetaRequest, Mutation, Named, NewNode, Query, SessionRequest, TagCommand, TagEdit,
    VolumeInfo,
};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;
use dgfs_proto::tag::{Tag, to_csv};
use dgfs_runtime::channel::{GraphProtocol, Handler, MetaProtocol, Peer};

use crate::testing::fake_meta::{attr, map};

mod naive;

/// What is known of an inode.
#[derive(Clone)]
pub(crate) struct Thing {
    pub(crate) attr: Attr,
    pub(crate) names: Vec<(Ino, Name)>,
    pub(crate) target: Vec<u8>,
    pub(crate) acl: Option<Vec<u8>>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) vetoes: Vec<Tag>,
    /// What a tagger says, vetoed or not.
    pub(crate) said: Vec<String>,
    pub(crate) related: Vec<(HandRelation, Ino)>,
}

#[derive(Default)]
pub(crate) struct Volume {
    pub(crate) things: BTreeMap<Ino, Thing>,
    pub(crate) catalogue: Vec<Tag>,
    pub(crate) aliases: Vec<(Tag, Tag)>,
    pub(crate) implied: Vec<(Tag, Tag)>,
    pub(crate) saved: BTreeMap<String, String>,
    /// Who saved them; of those put here by hand, nobody.
    pub(crate) savers: BTreeMap<String, u32>,
    /// Who made tags, by folded name; those not named are root's.
    pub(crate) owners: BTreeMap<String, u32>,
    pub(crate) seq: u64,
    /// Every change of tags, as it came.
    pub(crate) changes: Vec<Mutation>,
}

/// Both services.
#[derive(Default)]
pub(crate) struct Tagged {
    pub(crate) volume: Mutex<Volume>,
    /// The index answers nobody.
    pub(crate) index_away: AtomicBool,
    /// Questions to the index.
    pub(crate) asked: AtomicU64,
}

impl Tagged {
    pub(crate) fn new() -> Arc<Self> {
        let tagged = Self::default();
        let mut root = thing(Ino::ROOT, FileKind::Directory);
        root.attr.mode = 0o755;
        tagged.volume.lock().things.insert(Ino::ROOT, root);
        Arc::new(tagged)
    }

    /// Makes what `path` names, with the directories on the way.
    pub(crate) fn make(&self, path: &str, kind: FileKind) -> Ino {
        let mut volume = self.volume.lock();
        let mut at = Ino::ROOT;
        let components: Vec<&str> = path.split('/').collect();
        for (number, component) in components.iter().enumerate() {
            let name = Name::new(component.as_bytes()).unwrap();
            let kind = if number + 1 == components.len() { kind } else { FileKind::Directory };
            at = volume.child(at, &name).unwrap_or_else(|| volume.make(at, name, kind));
        }
        at
    }

    pub(crate) fn file(&self, path: &str, tags: &[&str]) -> Ino {
        let ino = self.make(path, FileKind::File);
        let add = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
        let edit = TagEdit { inos: vec![ino], add, ..TagEdit::default() };
        let _ = self.volume.lock().tag(edit).unwrap();
        ino
    }

    pub(crate) fn edit<T>(&self, ino: Ino, edit: impl FnOnce(&mut Thing) -> T) -> T {
        edit(self.volume.lock().things.get_mut(&ino).unwrap())
    }

    /// Tags that people set, sorted.
    pub(crate) fn tags(&self, ino: Ino) -> Vec<String> {
        let mut tags = self.edit(ino, |thing| thing.tags.iter().map(ToString::to_string).collect::<Vec<_>>());
        tags.sort();
        tags
    }

    fn info() -> VolumeInfo {
        VolumeInfo {
            uuid: Uuid([9; 16]),
            name: "tagged".to_owned(),
            chunk_bytes: 64 << 10,
            inline_bytes_max: 4096,
            format: 1,
            created: Timestamp::default(),
            initial_servers: 1,
        }
    }

    fn answer(&self, request: MetaRequest) -> Result<MetaReply, Status> {
        match request {
            MetaRequest::Session(SessionRequest::Open { .. }) => {
                let id = SessionId::new(1).unwrap();
                Ok(MetaReply::Session { id, sole: true, volume: Self::info() })
            }
            MetaRequest::Session(SessionRequest::Poll { .. }) => Ok(MetaReply::Notice(None)),
            MetaRequest::Session(_) | MetaRequest::CancelWait(_) | MetaRequest::Sync => Ok(MetaReply::Done),
            MetaRequest::Query(query) => self.volume.lock().query(query),
            MetaRequest::GetMap(known) => Ok(MetaReply::Map((known < Epoch(1)).then(map))),
            MetaRequest::Mutate { mutation, .. } => self.volume.lock().apply(mutation),
            MetaRequest::KeptBack { .. }
            | MetaRequest::Volume
            | MetaRequest::Server(_)
            | MetaRequest::Admin(_)
            | MetaRequest::Watch(_) => Err(Status::NotSupported),
        }
    }
}

fn thing(ino: Ino, kind: FileKind) -> Thing {
    Thing {
        attr: attr(ino, kind, Timestamp::from_ms(1000)),
        names: Vec::new(),
        target: Vec::new(),
        acl: None,
        tags: Vec::new(),
        vetoes: Vec::new(),
        said: Vec::new(),
        related: Vec::new(),
    }
}

impl Volume {
    pub(crate) fn child(&self, parent: Ino, name: &Name) -> Option<Ino> {
        let named = |thing: &&Thing| thing.names.iter().any(|(at, known)| *at == parent && known == name);
        self.things.values().find(named).map(|thing| thing.attr.ino)
    }

    fn make(&mut self, parent: Ino, name: Name, kind: FileKind) -> Ino {
        let ino = Ino::new(self.things.len() as u64 + 1).unwrap();
        let mut made = thing(ino, kind);
        made.attr.mode = if kind == FileKind::Directory { 0o755 } else { 0o644 };
        made.attr.parent = parent;
        made.names.push((parent, name));
        self.things.insert(ino, made);
        ino
    }

    fn thing(&mut self, ino: Ino) -> Result<&mut Thing, Status> {
        self.things.get_mut(&ino).ok_or(Status::Stale)
    }

    fn query(&mut self, query: Query) -> Result<MetaReply, Status> {
        match query {
            Query::Lookup { parent, name } => {
                let ino = self.child(parent, &name).ok_or(Status::NotFound)?;
                Ok(MetaReply::Attr(self.thing(ino)?.attr.clone()))
            }
            Query::GetAttr(ino) => Ok(MetaReply::Attr(self.thing(ino)?.attr.clone())),
            Query::ReadLink(ino) => Ok(MetaReply::Bytes(self.thing(ino)?.target.clone())),
            Query::GetXattr { ino, name } => {
                let thing = self.thing(ino)?;
                match name.as_slice() {
                    b"user.xdg.tags" if !thing.tags.is_empty() => Ok(MetaReply::Bytes(to_csv(&thing.tags))),
                    b"system.posix_acl_access" => thing.acl.clone().map(MetaReply::Bytes).ok_or(Status::NoXattr),
                    _ => Err(Status::NoXattr),
                }
            }
            _ => Err(Status::NotSupported),
        }
    }

    fn apply(&mut self, mutation: Mutation) -> Result<MetaReply, Status> {
        let of_tags = matches!(
            mutation,
            Mutation::Tag(_) | Mutation::Tags { .. } | Mutation::Relate { .. } | Mutation::SaveQuery { .. }
        );
        let reply = self.carry_out(mutation.clone())?;
        self.seq += 1;
        if of_tags {
            self.changes.push(mutation);
        }
        Ok(reply)
    }

    fn carry_out(&mut self, mutation: Mutation) -> Result<MetaReply, Status> {
        match mutation {
            Mutation::Make { parent, name, node, .. } => {
                if self.child(parent, &name).is_some() {
                    return Err(Status::Exists);
                }
                let (kind, target) = match node {
                    NewNode::Directory => (FileKind::Directory, Vec::new()),
                    NewNode::Symlink(target) => (FileKind::Symlink, target),
                    NewNode::File | NewNode::Special { .. } => (FileKind::File, Vec::new()),
                };
                let ino = self.make(parent, name, kind);
                self.thing(ino)?.target = target;
                let attrs = vec![self.thing(ino)?.attr.clone(), self.thing(parent)?.attr.clone()];
                Ok(MetaReply::Named(Named { ino, lost: None, attrs }))
            }
            Mutation::Tag(edit) => self.tag(edit),
            Mutation::Tags { command, by } => {
                self.check_owners(&command, by)?;
                self.command(command, by)
            }
            Mutation::Relate { from, relation, to, on } => {
                let related = &mut self.thing(from)?.related;
                let known = related.iter().position(|one| *one == (relation, to));
                match (known, on) {
                    (None, true) => related.push((relation, to)),
                    (Some(at), false) => drop(related.remove(at)),
                    (None, false) => return Err(Status::NotFound),
                    (Some(_), true) => return Err(Status::Exists),
                }
                Ok(MetaReply::Done)
            }
            Mutation::SaveQuery { name, expression, replace, by } => {
                match self.savers.get(&name) {
                    Some(owner) if !by.may_change(*owner) => return Err(Status::NotPermitted),
                    Some(_) if expression.is_some() && !replace => return Err(Status::Exists),
                    Some(_) | None => drop(self.savers.insert(name.clone(), by.uid)),
                }
                if expression.is_none() {
                    self.savers.remove(&name);
                }
                match expression {
                    Some(expression) => drop(self.saved.insert(name, expression)),
                    None => drop(self.saved.remove(&name).ok_or(Status::NotFound)?),
                }
                Ok(MetaReply::Done)
            }
            Mutation::GrantInodes { .. } | Mutation::Grant { .. } => Err(Status::NotSupported),
            _ => Ok(MetaReply::Done),
        }
    }

    fn is_known(&self, tag: &Tag) -> bool {
        self.catalogue.iter().any(|known| known.fold() == tag.fold())
    }

    fn tag(&mut self, edit: TagEdit) -> Result<MetaReply, Status> {
        let same = |one: &Tag, other: &Tag| one.fold() == other.fold();
        for ino in &edit.inos {
            let thing = self.thing(*ino)?;
            let has_all = edit.add.iter().all(|tag| thing.tags.iter().any(|known| same(known, tag)));
            if edit.exclusive && has_all {
                return Err(Status::Exists);
            }
        }
        for tag in &edit.add {
            if !self.is_known(tag) {
                self.owners.insert(tag.fold(), edit.uid);
                self.catalogue.push(tag.clone());
            }
        }
        for ino in &edit.inos {
            let thing = self.thing(*ino)?;
            thing.tags.retain(|tag| !edit.remove.iter().any(|removed| same(removed, tag)));
            for tag in &edit.add {
                if !thing.tags.iter().any(|known| same(known, tag)) {
                    thing.tags.push(tag.clone());
                }
            }
            thing.vetoes.retain(|tag| !edit.unveto.contains(tag));
            thing.vetoes.extend(edit.veto.iter().cloned());
            thing.attr.flags.set(AttrFlags::HAS_XATTR, !thing.tags.is_empty());
        }
        Ok(MetaReply::Done)
    }

    fn check_owners(&self, command: &TagCommand, by: Actor) -> Result<(), Status> {
        let named = match command {
            TagCommand::Make(_) => Vec::new(),
            TagCommand::Rename { from: tag, .. } | TagCommand::Delete { tag, .. } => vec![tag],
            TagCommand::Alias { alias, tag } => vec![tag.as_ref().unwrap_or(alias)],
            TagCommand::Merge { from: one, into: other } | TagCommand::Imply { tag: one, implied: other, .. } => {
                vec![one, other]
            }
        };
        let is_theirs = |tag: &Tag| by.may_change(self.owners.get(&tag.fold()).copied().unwrap_or(0));
        if named.into_iter().all(is_theirs) { Ok(()) } else { Err(Status::NotPermitted) }
    }

    fn command(&mut self, command: TagCommand, by: Actor) -> Result<MetaReply, Status> {
        match command {
            TagCommand::Make(tag) => {
                if self.is_known(&tag) {
                    return Err(Status::Exists);
                }
                self.owners.insert(tag.fold(), by.uid);
                self.catalogue.push(tag);
            }
            TagCommand::Rename { from, .. } if !self.is_known(&from) => return Err(Status::NotFound),
            TagCommand::Imply { tag, implied, .. } if !(self.is_known(&tag) && self.is_known(&implied)) => {
                return Err(Status::NotFound);
            }
            TagCommand::Rename { from, to } => {
                let renamed = |tag: &Tag| {
                    let rest = tag.is_within(&from).then(|| tag.as_str().get(from.as_str().len()..).unwrap())?;
                    Some(Tag::parse(&format!("{to}{rest}")).unwrap())
                };
                let all = self.things.values_mut().flat_map(|thing| thing.tags.iter_mut());
                for tag in all.chain(self.catalogue.iter_mut()) {
                    *tag = renamed(tag).unwrap_or_else(|| tag.clone());
                }
            }
            TagCommand::Merge { from, into } => self.aliases.push((from, into)),
            TagCommand::Delete { tag, unused_at } => {
                assert!(unused_at.is_none_or(|seq| seq <= Seq(self.seq)), "a seq that is not there yet");
                let at = self.catalogue.iter().position(|known| known.fold() == tag.fold());
                self.catalogue.remove(at.ok_or(Status::NotFound)?);
            }
            TagCommand::Alias { alias, tag } => match tag {
                Some(tag) => self.aliases.push((alias, tag)),
                None => self.aliases.retain(|(known, _)| *known != alias),
            },
            TagCommand::Imply { tag, implied, on: _ } => self.implied.push((tag, implied)),
        }
        Ok(MetaReply::Done)
    }
}

impl Handler<MetaProtocol> for Tagged {
    fn handle(self: Arc<Self>, _: Arc<Peer>, call: MetaCall, _: Bytes) -> BoxFuture<'static, (MetaReply, Bytes)> {
        Box::pin(async move {
            if matches!(call.request, MetaRequest::Session(SessionRequest::Poll { .. })) {
                tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
            }
            (self.answer(call.request).unwrap_or_else(MetaReply::Refused), Bytes::new())
        })
    }
}

impl Handler<GraphProtocol> for Tagged {
    fn handle(self: Arc<Self>, _: Arc<Peer>, call: GraphCall, _: Bytes) -> BoxFuture<'static, (GraphReply, Bytes)> {
        Box::pin(async move {
            if self.index_away.load(Ordering::Acquire) {
                std::future::pending::<()>().await;
            }
            self.asked.fetch_add(1, Ordering::AcqRel);
            let volume = self.volume.lock();
            let reply = GraphReply { seq: Seq(volume.seq), answer: volume.answer(&call.viewer, call.request) };
            (reply, Bytes::new())
        })
    }
}
