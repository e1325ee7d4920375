//! Attributes of inodes, by dense document numbers, in memory.
//!
//! Never knows names or tags. Always: a number that is given up is not given out again while a link still names it as a
//! directory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::size_of;

use roaring::RoaringBitmap;

use dgfs_proto::attr::FileKind;
use dgfs_proto::graph::NodeFacts;
use dgfs_proto::ids::Ino;

use crate::graph::names::NameIx;
use crate::step::nanoseconds;

/// An inode's number in bitmaps.
pub(crate) type Doc = u32;
/// An inode of which no picture was taken.
pub(crate) const NEVER: i64 = i64::MIN;
/// An inode whose content nobody has hashed.
pub(crate) const NO_CONTENT: u32 = u32::MAX;
const NO_LINK: Link = Link { parent: u32::MAX, name: u32::MAX };

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The directory.
    pub(crate) parent: Doc,
    /// The name.
    pub(crate) name: NameIx,
}

/// What is kept of an inode: one cache line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) kind: FileKind,
    /// Attributes have been told.
    pub(crate) known: bool,
    /// No tagger is to look.
    pub(crate) unindexed: bool,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
    pub(crate) btime_ns: i64,
    pub(crate) taken_ns: i64,
    pub(crate) content: u32,
    /// Links that name it as their directory.
    pub(crate) children: u32,
}

const UNKNOWN: Facts = Facts {
    kind: FileKind::File,
    known: false,
    unindexed: false,
    mode: 0,
    uid: 0,
    gid: 0,
    nlink: 0,
    size: 0,
    mtime_ns: 0,
    ctime_ns: 0,
    btime_ns: 0,
    taken_ns: NEVER,
    content: NO_CONTENT,
    children: 0,
};

/// Inode numbers come from the metadata service one after another, and those of names from here: nobody chooses them so that
/// they collide, and a multiplication spreads them well enough.
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        // The golden ratio's bits, as Knuth's multiplicative hash takes them.
        let mixed = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

type InoMap = HashMap<u64, Doc, BuildHasherDefault<NumberHasher>>;

/// See the module.
#[derive(Default)]
pub(crate) struct Columns {
    inos: Vec<u64>,
    facts: Vec<Facts>,
    first_links: Vec<Link>,
    more_links: HashMap<Doc, Vec<Link>, BuildHasherDefault<NumberHasher>>,
    by_ino: InoMap,
    free: Vec<Doc>,
    /// Inodes that have a name and are known: all that a query may show.
    live: RoaringBitmap,
    directories: RoaringBitmap,
}

impl Columns {
    pub(crate) fn doc(&self, ino: Ino) -> Option<Doc> {
        self.by_ino.get(&ino.get()).copied()
    }

    /// The number of an inode, a new one where it has none. `None` only when four thousand million are in use.
    pub(crate) fn doc_or_new(&mut self, ino: Ino) -> Option<Doc> {
        if let Some(doc) = self.doc(ino) {
            return Some(doc);
        }
        let doc = match self.free.pop() {
            Some(doc) => doc,
            None => {
                let doc = u32::try_from(self.inos.len()).ok().filter(|doc| *doc < u32::MAX)?;
                self.inos.push(0);
                self.facts.push(UNKNOWN);
                self.first_links.push(NO_LINK);
                doc
            }
        };
        self.put(doc, ino.get(), UNKNOWN);
        self.by_ino.insert(ino.get(), doc);
        Some(doc)
    }

    fn put(&mut self, doc: Doc, ino: u64, facts: Facts) {
        if let Some(place) = self.inos.get_mut(doc as usize) {
            *place = ino;
        }
        if let Some(place) = self.facts.get_mut(doc as usize) {
            *place = facts;
        }
    }

    pub(crate) fn ino(&self, doc: Doc) -> Option<Ino> {
        self.inos.get(doc as usize).copied().and_then(Ino::new)
    }

    pub(crate) fn facts(&self, doc: Doc) -> &Facts {
        self.facts.get(doc as usize).unwrap_or(&UNKNOWN)
    }

    pub(crate) fn facts_mut(&mut self, doc: Doc) -> Option<&mut Facts> {
        self.facts.get_mut(doc as usize)
    }

    /// Takes over attributes; the content hash and the like stay.
    pub(crate) fn set_facts(&mut self, doc: Doc, node: &NodeFacts) {
        if let Some(facts) = self.facts.get_mut(doc as usize) {
            facts.kind = node.kind;
            facts.known = true;
            facts.mode = node.mode;
            facts.uid = node.uid;
            facts.gid = node.gid;
            facts.nlink = node.nlink;
            facts.size = node.size;
            facts.mtime_ns = nanoseconds(node.mtime);
            facts.ctime_ns = nanoseconds(node.ctime);
            facts.btime_ns = nanoseconds(node.btime);
        }
        if node.kind == FileKind::Directory {
            self.directories.insert(doc);
        } else {
            self.directories.remove(doc);
        }
        self.refresh_live(doc);
    }

    fn refresh_live(&mut self, doc: Doc) {
        if self.facts(doc).known && self.links(doc).next().is_some() {
            self.live.insert(doc);
        } else {
            self.live.remove(doc);
        }
    }

    /// All that a query may show.
    pub(crate) fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    /// Directories, also those without a name.
    pub(crate) fn directories(&self) -> &RoaringBitmap {
        &self.directories
    }

    /// Names of an inode, in no order that means something.
    pub(crate) fn links(&self, doc: Doc) -> impl Iterator<Item = Link> + '_ {
        let first = self.first_links.get(doc as usize).copied().filter(|link| *link != NO_LINK);
        let more = first.and_then(|_| self.more_links.get(&doc));
        first.into_iter().chain(more.into_iter().flatten().copied())
    }

    /// The directory of one of its names.
    pub(crate) fn first_parent(&self, doc: Doc) -> Option<Doc> {
        self.first_links.get(doc as usize).filter(|link| **link != NO_LINK).map(|link| link.parent)
    }

    /// Adds a link; false when it was there.
    pub(crate) fn add_link(&mut self, doc: Doc, link: Link) -> bool {
        if self.links(doc).any(|known| known == link) {
            return false;
        }
        match self.first_links.get_mut(doc as usize) {
            Some(first) if *first == NO_LINK => *first = link,
            Some(_) => self.more_links.entry(doc).or_default().push(link),
            None => return false,
        }
        if let Some(parent) = self.facts_mut(link.parent) {
            parent.children = parent.children.saturating_add(1);
        }
        self.refresh_live(doc);
        true
    }

    /// Takes a link away; false when it was not there.
    pub(crate) fn remove_link(&mut self, doc: Doc, link: Link) -> bool {
        let mut links: Vec<Link> = self.links(doc).collect();
        let before = links.len();
        links.retain(|known| *known != link);
        if links.len() == before {
            return false;
        }
        let mut links = links.into_iter();
        if let Some(first) = self.first_links.get_mut(doc as usize) {
            *first = links.next().unwrap_or(NO_LINK);
        }
        if links.len() == 0 {
            self.more_links.remove(&doc);
        } else {
            self.more_links.insert(doc, links.collect());
        }
        if let Some(parent) = self.facts_mut(link.parent) {
            parent.children = parent.children.saturating_sub(1);
        }
        self.refresh_live(doc);
        true
    }

    /// Nothing is known of an inode any more. Its links must have been taken away.
    pub(crate) fn forget(&mut self, doc: Doc) {
        let children = self.facts(doc).children;
        if let Some(facts) = self.facts_mut(doc) {
            *facts = Facts { children, ..UNKNOWN };
        }
        self.live.remove(doc);
        self.directories.remove(doc);
    }

    /// Gives the number of an inode up when nothing is known of it and nothing names it. Nothing else may be kept by the
    /// number either.
    pub(crate) fn give_up(&mut self, doc: Doc) {
        let facts = self.facts(doc);
        let unused = !facts.known && facts.children == 0 && self.links(doc).next().is_none();
        let Some(ino) = self.ino(doc).filter(|_| unused) else { return };
        self.by_ino.remove(&ino.get());
        self.put(doc, 0, UNKNOWN);
        self.free.push(doc);
    }

    /// Numbers given out so far, used or not.
    pub(crate) fn len(&self) -> usize {
        self.inos.len()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let extra: usize = self.more_links.values().map(|links| 48 + links.capacity() * size_of::<Link>()).sum();
        self.inos.capacity() * size_of::<u64>()
            + self.facts.capacity() * size_of::<Facts>()
            + self.first_links.capacity() * size_of::<Link>()
            // A slot of the table: key and value padded, and a control byte.
            + self.by_ino.capacity() * 8 / 7 * 17
            + self.free.capacity() * size_of::<Doc>()
            + extra
    }
}
