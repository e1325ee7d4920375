//! Names last looked up, also those that are not there.
//!
//! Never believed while another session exists. Bounded.

use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;

use crate::cache::shards::{Asked, AskedAny, Shards};

const ENTRIES_MAX: usize = 64 << 10;

/// Inodes by (directory, name); `None` says there is no such name.
#[derive(Debug)]
pub(crate) struct EntryCache {
    by_name: Shards<(Ino, Name), Option<Ino>>,
}

impl EntryCache {
    pub(crate) fn new() -> Self {
        Self { by_name: Shards::new(ENTRIES_MAX) }
    }

    pub(crate) fn get(&self, key: &(Ino, Name)) -> Option<Option<Ino>> {
        self.by_name.get(key)
    }

    pub(crate) fn asking(&self, key: &(Ino, Name)) -> Asked {
        self.by_name.asking(key)
    }

    pub(crate) fn keep(&self, asked: Asked, key: (Ino, Name), ino: Option<Ino>) {
        self.by_name.keep(asked, key, ino);
    }

    pub(crate) fn asking_any(&self) -> AskedAny {
        self.by_name.asking_any()
    }

    pub(crate) fn keep_any(&self, asked: AskedAny, key: (Ino, Name), ino: Option<Ino>) {
        self.by_name.keep_any(asked, key, ino);
    }

    /// This session changed the entry: it leads to `ino` now.
    pub(crate) fn settle(&self, asked: Asked, key: (Ino, Name), ino: Option<Ino>) {
        self.by_name.settle(asked, key, ino);
    }

    pub(crate) fn change(&self, key: &(Ino, Name)) {
        self.by_name.change(key);
    }

    pub(crate) fn clear(&self) {
        self.by_name.clear();
    }
}
