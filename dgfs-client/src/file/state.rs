//! All that a mount knows of one file: committed content as last seen, unsent writes, writes under way, errors.
//!
//! Never asks anybody. Always: a byte is in `dirty` or `flying` from the moment its write returned until its
//! commit was answered; reads see dirty over flying over committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;

use dgfs_proto::attr::{Attr, Timestamp};
use dgfs_proto::ids::Ino;
use dgfs_proto::meta;
use dgfs_proto::status::Status;

use crate::file::dirty::{DirtyChunk, Sealed};
use crate::file::page_reads::PageReads;
use crate::file::slots::Slots;

/// The committed content as last seen.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Not known: ask.
    Unknown,
    /// All bytes (zeros behind them up to the size).
    Inline(Bytes),
    /// Chunks.
    Slots(Slots),
}

/// One file in use by this mount, shared by its handles.
pub(crate) struct FileState {
    pub(crate) ino: Ino,
    pub(crate) inner: Mutex<Inner>,
    /// Held by whoever sends, truncates or otherwise changes committed content: one at a time.
    pub(crate) flush: tokio::sync::Mutex<()>,
    /// Held while meta is asked for a page of it, so that two who miss the same page ask once.
    pub(crate) asking: tokio::sync::Mutex<()>,
    /// Handles of this mount; changed under the table's lock.
    pub(crate) opens: AtomicU64,
    /// How many changes had been kept back, with the last one of its content.
    pub(crate) kept: AtomicU64,
    /// A background send of full chunks is under way.
    pub(crate) sending: AtomicBool,
    /// It is in the list of dirty files.
    pub(crate) listed: AtomicBool,
    /// This mount took POSIX locks on it.
    pub(crate) posix_locked: AtomicBool,
    /// Its last name is gone (seen by this mount).
    pub(crate) nameless: AtomicBool,
    pub(crate) page_reads: PageReads,
}

/// A write error, numbered so that each handle reports it once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteError {
    pub(crate) number: u64,
    pub(crate) status: Status,
}

/// The guarded part.
pub(crate) struct Inner {
    /// Committed attributes as last seen.
    pub(crate) attr: Attr,
    /// They may be ones that never came true: what meta says next is right, whatever its version.
    pub(crate) doubtful: bool,
    pub(crate) content: Content,
    /// What is known of it is true until it is recalled. Where no other session exists this is not looked at.
    pub(crate) leased: bool,
    /// Writes may be kept back until that is recalled.
    pub(crate) writes_kept: bool,
    /// Others had it open when meta was asked last: writes go out at once.
    pub(crate) contended: bool,
    pub(crate) dirty: BTreeMap<u64, DirtyChunk>,
    pub(crate) flying: BTreeMap<u64, Arc<Sealed>>,
    /// Grows with each write.
    pub(crate) writes: u64,
    /// When the last unsent byte was written.
    pub(crate) written_at: Timestamp,
    pub(crate) error: Option<WriteError>,
    pub(crate) chunk_bytes: u32,
}

impl FileState {
    pub(crate) fn new(attr: Attr, content: Content, chunk_bytes: u32) -> Self {
        Self {
            ino: attr.ino,
            inner: Mutex::new(Inner {
                attr,
                doubtful: false,
                content,
                leased: false,
                writes_kept: false,
                contended: false,
                dirty: BTreeMap::new(),
                flying: BTreeMap::new(),
                writes: 0,
                written_at: Timestamp::default(),
                error: None,
                chunk_bytes,
            }),
            flush: tokio::sync::Mutex::new(()),
            asking: tokio::sync::Mutex::new(()),
            opens: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            sending: AtomicBool::new(false),
            listed: AtomicBool::new(false),
            posix_locked: AtomicBool::new(false),
            nameless: AtomicBool::new(false),
            page_reads: PageReads::default(),
        }
    }
}

/// How much an answer about content says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// To an open: slots it did not bring may hold something.
    Head,
    /// To a question for a page: slots it did not bring are holes.
    Page,
}

/// Content as meta tells it.
pub(crate) fn content_of(attr: &Attr, content: meta::Content, chunk_bytes: u32, answered: Answered) -> Content {
    match content {
        meta::Content::Inline(bytes) => Content::Inline(Bytes::from(bytes)),
        meta::Content::Slots { first, slots } => {
            let mut known = Slots::of(attr.size, chunk_bytes);
            match answered {
                Answered::Head => known.add_head(slots),
                Answered::Page => known.add_page(first, slots),
            }
            Content::Slots(known)
        }
    }
}

impl Inner {
    /// The file's size as this mount sees it.
    pub(crate) fn size(&self) -> u64 {
        let chunk_bytes = u64::from(self.chunk_bytes);
        let dirty = self.dirty.last_key_value().map_or(0, |(at, chunk)| at * chunk_bytes + u64::from(chunk.end()));
        let flying = self.flying.last_key_value().map_or(0, |(at, sealed)| at * chunk_bytes + u64::from(sealed.end()));
        self.attr.size.max(dirty).max(flying)
    }

    /// Something is not committed.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.flying.is_empty()
    }

    /// Bytes counted against the budget in `dirty`.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.dirty.values().map(|chunk| chunk.since).min()
    }

    /// Applies this mount's knowledge to attributes that meta answered.
    pub(crate) fn overlay(&self, mut attr: Attr) -> Attr {
        if attr.data_version < self.attr.data_version && !self.doubtful {
            attr.size = self.attr.size;
            attr.mtime = self.attr.mtime;
            attr.ctime = attr.ctime.max(self.attr.ctime);
            attr.allocated = self.attr.allocated;
            attr.data_version = self.attr.data_version;
        }
        if self.is_dirty() {
            let committed = attr.size;
            let mine = self.size();
            attr.size = if attr.data_version > self.attr.data_version { committed.max(mine) } else { mine };
            attr.mtime = self.written_at;
            attr.ctime = attr.ctime.max(self.written_at);
            attr.allocated = attr.allocated.max(self.unsent_allocated(attr.allocated, attr.size));
        }
        attr
    }

    /// What the file will take once everything is sent, roughly: never shows a full file as sparse.
    fn unsent_allocated(&self, committed: u64, size: u64) -> u64 {
        let dirty: u64 = self.dirty.values().map(|chunk| u64::from(chunk.end())).sum();
        let flying: u64 = self.flying.values().map(|sealed| u64::from(sealed.end())).sum();
        (committed + dirty + flying).min(size).next_multiple_of(512)
    }

    /// Attributes answered by meta after this mount's own change of content: `attr` is the state right after it.
    /// False when others changed the content in between, so that what is known of it must be asked anew.
    pub(crate) fn own_change(&mut self, attr: &Attr) -> bool {
        let expected = !self.doubtful && attr.data_version == self.attr.data_version + 1;
        if self.is_newer(attr) {
            self.see(attr.clone());
            if !expected {
                self.content = Content::Unknown;
            }
        }
        expected
    }

    /// The first page of slots, while nothing is known of the content.
    pub(crate) fn unknown(&self) -> Option<u64> {
        matches!(self.content, Content::Unknown).then_some(0)
    }

    /// Attributes and content as meta has them now; older answers are ignored.
    pub(crate) fn learn(&mut self, attr: Attr, content: Content) {
        let same = attr.data_version == self.attr.data_version;
        if self.is_newer(&attr) || (same && matches!(self.content, Content::Unknown)) {
            self.content = content;
            self.see(attr);
        }
    }

    /// Attributes as meta has them now; content of another version is forgotten.
    pub(crate) fn learn_attr(&mut self, attr: &Attr) {
        if self.is_newer(attr) {
            self.content = Content::Unknown;
            self.see(attr.clone());
        }
    }

    fn is_newer(&self, attr: &Attr) -> bool {
        self.doubtful || attr.data_version > self.attr.data_version
    }

    fn see(&mut self, attr: Attr) {
        self.attr = attr;
        self.doubtful = false;
    }

    /// A page of slots (or the inline bytes) arrived, asked for when the content was of `attr`'s version.
    pub(crate) fn learn_page(&mut self, attr: Attr, content: meta::Content) {
        match (content, &mut self.content) {
            (meta::Content::Slots { first, slots }, Content::Slots(known))
                if attr.data_version == self.attr.data_version =>
            {
                known.add_page(first, slots);
            }
            (content, _) => {
                let content = content_of(&attr, content, self.chunk_bytes, Answered::Page);
                self.learn(attr, content);
            }
        }
    }

    /// What is known of the content may be old.
    pub(crate) fn forget_content(&mut self) {
        self.content = Content::Unknown;
    }

    /// What is known may never have come true.
    pub(crate) fn doubt(&mut self) {
        self.doubtful = true;
        self.forget_content();
    }

    pub(crate) fn fail(&mut self, status: Status) {
        let number = self.error.map_or(1, |error| error.number + 1);
        self.error = Some(WriteError { number, status });
    }
}
