//! Attributes last seen.
//!
//! Believed while leased, or while no other session exists. Bounded.

use dgfs_proto::attr::Attr;
use dgfs_proto::ids::Ino;

use crate::cache::shards::{Asked, Shards};

const ATTRS_MAX: usize = 128 << 10;

/// Attributes by inode.
#[derive(Debug)]
pub(crate) struct AttrCache {
    by_ino: Shards<Ino, Attr>,
    /// In process nothing is remembered: asking is as cheap.
    on: bool,
}

impl AttrCache {
    pub(crate) fn new(on: bool) -> Self {
        Self { by_ino: Shards::new(ATTRS_MAX), on }
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<Attr> {
        self.by_ino.get(&ino)
    }

    /// Call before asking, or before changing.
    pub(crate) fn asking(&self) -> Asked {
        self.by_ino.asking()
    }

    /// Has it not changed since?
    pub(crate) fn unchanged(&self, asked: Asked, ino: Ino) -> bool {
        self.by_ino.unchanged(asked, &ino)
    }

    pub(crate) fn keep(&self, asked: Asked, attr: &Attr) {
        self.by_ino.keep(asked, attr.ino, attr.clone());
    }

    /// This session changed the inode: these are its attributes since. Since when they are known, if they are.
    pub(crate) fn settle(&self, asked: Asked, attr: &Attr) -> Option<Asked> {
        if self.on { self.by_ino.settle(asked, attr.ino, attr.clone()) } else { None }
    }

    /// Inodes whose attributes are known.
    pub(crate) fn inos(&self) -> Vec<Ino> {
        self.by_ino.keys()
    }

    pub(crate) fn change(&self, ino: Ino) {
        if self.on {
            self.by_ino.change(ino);
        }
    }

    pub(crate) fn clear(&self) {
        self.by_ino.clear();
    }
}
