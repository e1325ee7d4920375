//! The graph in memory: what queries are answered from.
//!
//! Never reads or writes a disk and never decides what an event means: the store does, and hands over the steps it took.
//! Always: it holds what the store holds at [`Graph::applied`], filled by the same steps when it is opened.

pub(crate) mod columns;
pub(crate) mod names;
pub(crate) mod tags;
pub(crate) mod text;
pub(crate) mod words;

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;

use dgfs_proto::attr::{FileKind, Timestamp};
use dgfs_proto::graph::{NodeFacts, Viewer};
use dgfs_proto::ids::{Ino, Seq, TagId};
use dgfs_proto::name::Name;
use dgfs_proto::permission::{Guard, Wanted, is_access_list};

use crate::graph::columns::{Columns, Doc, Link, NEVER, NO_CONTENT};
use crate::graph::names::{NameIx, Names, extension, heap_bytes};
use crate::graph::tags::{TagIx, Tags};
use crate::graph::words::{WordIx, Words};
use crate::step::{ContentHash, Derived, Step};

/// The attribute that holds a POSIX access ACL.
pub(crate) const ACL_XATTR: &[u8] = b"system.posix_acl_access";

/// Up to where a graph is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last event in it.
    pub seq: Seq,
    /// That event's time.
    pub at: Timestamp,
    /// Grows with each change of the store, also those that no event makes (what taggers find).
    pub stamp: u64,
}

/// Hashes of contents, each with a number.
#[derive(Default)]
struct Contents {
    by_hash: HashMap<ContentHash, u32>,
    entries: Vec<(ContentHash, u32)>,
    free: Vec<u32>,
}

impl Contents {
    fn hold(&mut self, hash: ContentHash) -> u32 {
        let content = match self.by_hash.get(&hash) {
            Some(content) => *content,
            None => {
                let content = self.free.pop().unwrap_or_else(|| {
                    self.entries.push((hash, 0));
                    u32::try_from(self.entries.len() - 1).unwrap_or(NO_CONTENT)
                });
                self.by_hash.insert(hash, content);
                content
            }
        };
        if let Some(entry) = self.entries.get_mut(content as usize) {
            *entry = (hash, if entry.0 == hash { entry.1 + 1 } else { 1 });
        }
        content
    }

    fn release(&mut self, content: u32) {
        let Some(entry) = self.entries.get_mut(content as usize) else { return };
        entry.1 = entry.1.saturating_sub(1);
        if entry.1 == 0 {
            self.by_hash.remove(&entry.0);
            self.free.push(content);
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Graph {
    pub(crate) applied: Applied,
    pub(crate) columns: Columns,
    pub(crate) names: Names,
    pub(crate) words: Words,
    pub(crate) tags: Tags,
    pub(crate) saved: BTreeMap<String, String>,
    tags_of: Vec<Box<[TagIx]>>,
    words_of: Vec<Box<[WordIx]>>,
    /// Access lists; empty ones where what is kept is none.
    acls: HashMap<Doc, Box<[u8]>>,
    contents: Contents,
    lists_heap_bytes: usize,
}

impl Graph {
    /// Takes one step, as the store did.
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Node(facts) => self.set_node(facts),
            Step::Gone(ino) => self.remove_node(*ino),
            Step::Name { parent, name, ino } => self.link(*parent, name, *ino),
            Step::NoName { parent, name, ino } => self.unlink(*parent, name, *ino),
            Step::Xattr { ino, name, value } => {
                if name == ACL_XATTR
                    && let Some(doc) = self.doc_or_new(*ino)
                {
                    match value {
                        Some(value) if is_access_list(value) => self.acls.insert(doc, value.as_slice().into()),
                        Some(_) => self.acls.insert(doc, Box::default()),
                        None => self.acls.remove(&doc),
                    };
                }
            }
            Step::Tag(id, Some(facts)) => self.tags.set(*id, facts),
            Step::Tag(id, None) => self.remove_tag(*id),
            Step::Tagged(ino, tags) => self.set_tags(*ino, tags),
            Step::Saved(name, Some(expression)) => {
                self.saved.insert(name.clone(), expression.clone());
            }
            Step::Saved(name, None) => {
                self.saved.remove(name);
            }
            Step::Derived(ino, derived) => self.set_derived(*ino, derived),
            // Asked of the store when they are wanted.
            Step::Vetoes(..) | Step::Related(..) => {}
        }
    }

    fn doc_or_new(&mut self, ino: Ino) -> Option<Doc> {
        let doc = self.columns.doc_or_new(ino)?;
        if self.tags_of.len() < self.columns.len() {
            self.tags_of.resize_with(self.columns.len(), Box::default);
            self.words_of.resize_with(self.columns.len(), Box::default);
        }
        Some(doc)
    }

    fn set_node(&mut self, node: &NodeFacts) {
        let Some(doc) = self.doc_or_new(node.ino) else { return };
        let (known, before) = (self.columns.facts(doc).known, self.columns.facts(doc).kind);
        self.columns.set_facts(doc, node);
        if !known || before != node.kind {
            if known {
                self.unsay(kind_word(before), doc);
            }
            let word = self.words.intern(kind_word(node.kind));
            self.words.say(word, doc);
        }
    }

    fn unsay(&mut self, folded: &str, doc: Doc) {
        if let Some(word) = self.words.find(folded) {
            self.words.unsay(word, doc);
        }
    }

    fn link(&mut self, parent: Ino, name: &Name, ino: Ino) {
        let (Some(doc), Some(parent)) = (self.doc_or_new(ino), self.doc_or_new(parent)) else { return };
        let (name_ix, new) = self.names.hold(name.as_bytes());
        if !self.columns.add_link(doc, Link { parent, name: name_ix }) {
            self.names.release(name_ix);
            return;
        }
        if new && let Some(ext) = extension(name.as_bytes()) {
            let word = self.words.intern(&format!("ext={ext}"));
            self.names.set_ext(name_ix, word);
        }
        if let Some(word) = self.names.ext(name_ix) {
            self.words.say(word, doc);
        }
    }

    fn unlink(&mut self, parent: Ino, name: &Name, ino: Ino) {
        let (Some(doc), Some(parent)) = (self.columns.doc(ino), self.columns.doc(parent)) else { return };
        if let Some(name) = self.names.find(name.as_bytes()) {
            self.remove_link(doc, Link { parent, name });
        }
    }

    fn remove_link(&mut self, doc: Doc, link: Link) {
        if !self.columns.remove_link(doc, link) {
            return;
        }
        let ext = self.names.ext(link.name);
        if let Some(ext) = ext
            && !self.columns.links(doc).any(|left| self.names.ext(left.name) == Some(ext))
        {
            self.words.unsay(ext, doc);
        }
        self.names.release(link.name);
        self.give_up(link.parent);
    }

    /// Gives a number up where nothing is kept by it any more.
    fn give_up(&mut self, doc: Doc) {
        if self.tags_of(doc).is_empty() && self.words_of(doc).is_empty() && !self.acls.contains_key(&doc) {
            self.columns.give_up(doc);
        }
    }

    fn remove_node(&mut self, ino: Ino) {
        let Some(doc) = self.columns.doc(ino) else { return };
        self.set_tags(ino, &[]);
        self.set_derived(ino, &Derived::default());
        self.acls.remove(&doc);
        let facts = *self.columns.facts(doc);
        if facts.known {
            self.unsay(kind_word(facts.kind), doc);
        }
        let links: Vec<Link> = self.columns.links(doc).collect();
        for link in links {
            self.remove_link(doc, link);
        }
        self.columns.forget(doc);
        self.give_up(doc);
    }

    fn set_tags(&mut self, ino: Ino, ids: &[TagId]) {
        let Some(doc) = self.doc_or_new(ino) else { return };
        let mut tags: Vec<TagIx> = ids.iter().filter_map(|id| self.tags.ix(*id)).collect();
        tags.sort_unstable();
        tags.dedup();
        for tag in self.tags_of(doc).to_vec() {
            self.tags.carry(tag, doc, false);
        }
        for tag in &tags {
            self.tags.carry(*tag, doc, true);
        }
        self.put_tags(doc, tags.into());
    }

    fn put_tags(&mut self, doc: Doc, tags: Box<[TagIx]>) {
        if let Some(place) = self.tags_of.get_mut(doc as usize) {
            self.lists_heap_bytes =
                (self.lists_heap_bytes + heap_bytes(tags.len() * 4)).saturating_sub(heap_bytes(place.len() * 4));
            *place = tags;
        }
    }

    fn remove_tag(&mut self, id: TagId) {
        let Some((tag, docs)) = self.tags.remove(id) else { return };
        for doc in docs {
            let left = self.tags_of(doc).iter().copied().filter(|known| *known != tag).collect();
            self.put_tags(doc, left);
        }
    }

    fn set_derived(&mut self, ino: Ino, derived: &Derived) {
        let Some(doc) = self.doc_or_new(ino) else { return };
        let mut words: Vec<WordIx> = derived.words.iter().map(|word| self.words.intern(word)).collect();
        words.sort_unstable();
        words.dedup();
        // The new ones first: a word that stays must not be gone in between.
        for word in &words {
            self.words.say(*word, doc);
        }
        for word in self.words_of(doc).to_vec() {
            if words.binary_search(&word).is_err() {
                self.words.unsay(word, doc);
            }
        }
        if let Some(place) = self.words_of.get_mut(doc as usize) {
            self.lists_heap_bytes =
                (self.lists_heap_bytes + heap_bytes(words.len() * 4)).saturating_sub(heap_bytes(place.len() * 4));
            *place = words.into();
        }
        let content = derived.content.map_or(NO_CONTENT, |hash| self.contents.hold(hash));
        let Some(facts) = self.columns.facts_mut(doc) else { return };
        let before = std::mem::replace(&mut facts.content, content);
        facts.taken_ns = derived.taken_ns.unwrap_or(NEVER);
        facts.unindexed = derived.unindexed;
        self.contents.release(before);
    }

    /// Tags that people gave an inode.
    pub(crate) fn tags_of(&self, doc: Doc) -> &[TagIx] {
        self.tags_of.get(doc as usize).map_or(&[], |tags| tags)
    }

    /// What attributes and taggers say of it; not its extension and kind.
    pub(crate) fn words_of(&self, doc: Doc) -> &[WordIx] {
        self.words_of.get(doc as usize).map_or(&[], |words| words)
    }

    /// The hash of its content.
    pub(crate) fn content_hash(&self, content: u32) -> Option<&ContentHash> {
        self.contents.entries.get(content as usize).filter(|entry| entry.1 > 0).map(|entry| &entry.0)
    }

    /// The number of a content.
    pub(crate) fn content_of_hash(&self, hash: &ContentHash) -> Option<u32> {
        self.contents.by_hash.get(hash).copied()
    }

    /// Has `viewer` all of `wanted` on this directory?
    pub(crate) fn may(&self, directory: Doc, viewer: &Viewer, wanted: Wanted) -> bool {
        let facts = self.columns.facts(directory);
        let acl = self.acls.get(&directory).map(|acl| &**acl);
        Guard { mode: facts.mode, uid: facts.uid, gid: facts.gid, acl }.permits(viewer, wanted)
    }

    /// All that carry one of these names, or what lies below: people's tags with words that everybody may know ([`is_open`]),
    /// and the other words; with those that are not live any more. Names must be folded.
    pub(crate) fn carriers_apart(&self, names: impl IntoIterator<Item = String>) -> (RoaringBitmap, RoaringBitmap) {
        let closure = self.tags.closure(names);
        let (mut open, mut others) = (RoaringBitmap::new(), RoaringBitmap::new());
        for tag in &closure.tags {
            if let Some(entry) = self.tags.get(*tag) {
                open |= &entry.docs;
            }
        }
        for name in &closure.names {
            let exact = self.words.find(name);
            let below = self.words.with_prefix(&tags::below(name)).map(|(_, word)| word);
            for word in exact.into_iter().chain(below) {
                let Some(said) = self.words.docs(word) else { continue };
                if is_open(self.words.shown(word)) {
                    open |= said;
                } else {
                    others |= said;
                }
            }
        }
        (open, others)
    }

    /// Does any tagger or attribute say this word, or one below it?
    pub(crate) fn is_said(&self, name: &str) -> bool {
        self.words.find(name).is_some() || self.words.with_prefix(&tags::below(name)).next().is_some()
    }

    /// The bytes of a name.
    pub(crate) fn name(&self, name: NameIx) -> &[u8] {
        self.names.get(name)
    }

    /// Bytes of memory that it takes, counted.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let lists = (self.tags_of.capacity() + self.words_of.capacity()) * size_of::<Box<[u32]>>();
        let acls: usize = self.acls.values().map(|acl| heap_bytes(acl.len()) + 32).sum();
        let contents = self.contents.by_hash.capacity() * 8 / 7 * 37 + self.contents.entries.capacity() * 36;
        let saved: usize = self.saved.iter().map(|(name, expression)| name.len() + expression.len() + 64).sum();
        let rest = lists + self.lists_heap_bytes + acls + contents + saved;
        (self.columns.memory_bytes()
            + self.names.memory_bytes()
            + self.words.memory_bytes()
            + self.tags.memory_bytes()
            + rest) as u64
    }
}

/// Does a word come from a name, or from what an inode is? All others come from contents and attributes.
pub(crate) fn is_open(word: &str) -> bool {
    word.starts_with("ext=") || KIND_WORDS.contains(&word)
}

const KIND_WORDS: [&str; 6] =
    ["type=file", "type=directory", "type=symlink", "type=fifo", "type=socket", "type=device"];

/// The word for what an inode is.
pub(crate) const fn kind_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "type=file",
        FileKind::Directory => "type=directory",
        FileKind::Symlink => "type=symlink",
        FileKind::Fifo => "type=fifo",
        FileKind::Socket => "type=socket",
        FileKind::CharDevice | FileKind::BlockDevice => "type=device",
    }
}
