//! Attributes last seen.
//!
//! Never believed while another session exists. Bounded.

use dgfs_proto::attr::Attr;
use dgfs_proto::ids::Ino;

use crate::cache::shards::{Asked, AskedAny, Shards};

const ATTRS_MAX: usize = 64 << 10;

/// Attributes by inode.
#[derive(Debug)]
pub(crate) struct AttrCache {
    by_ino: Shards<Ino, Attr>,
}

impl AttrCache {
    pub(crate) fn new() -> Self {
        Self { by_ino: Shards::new(ATTRS_MAX) }
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<Attr> {
        self.by_ino.get(&ino)
    }

    pub(crate) fn asking(&self, ino: Ino) -> Asked {
        self.by_ino.asking(&ino)
    }

    pub(crate) fn keep(&self, asked: Asked, attr: &Attr) {
        self.by_ino.keep(asked, attr.ino, attr.clone());
    }

    pub(crate) fn asking_any(&self) -> AskedAny {
        self.by_ino.asking_any()
    }

    pub(crate) fn keep_any(&self, asked: AskedAny, attr: &Attr) {
        self.by_ino.keep_any(asked, attr.ino, attr.clone());
    }

    pub(crate) fn settle(&self, asked: Asked, attr: &Attr) {
        self.by_ino.settle(asked, attr.ino, attr.clone());
    }

    pub(crate) fn change(&self, ino: Ino) {
        self.by_ino.change(&ino);
    }

    pub(crate) fn clear(&self) {
        self.by_ino.clear();
    }
}
