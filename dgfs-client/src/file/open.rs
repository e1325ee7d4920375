//! Opens, creates, flushes on close, releases.
//!
//! Never asks twice for what one call answers: an open brings attributes and the first page of content.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use dgfs_proto::attr::{Attr, AttrFlags, FileKind};
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{Leasing, LockFamily, MetaReply, Mutation, NewNode, OpenMode};
use dgfs_proto::status::Status;

use crate::cache::shards::{Asked, Shards};
use crate::core::{Core, now};
use crate::file::flush::Which;
use crate::file::page_reads::Dropping;
use crate::file::read_ahead::ReadAhead;
use crate::file::slots::Slots;
use crate::file::state::{Answered, Content, FileState, Inner, content_of};
use crate::handles::OpenFile;
use crate::ledger::Losing;
use crate::meta_link::named_of;
use crate::operation::Op;
use crate::vfs::{Create, Handle, Looked, OpenFlags, Opened, Seen};

/// Larger files have too many chunks to remember all.
const REMEMBERED_BYTES_MAX: u64 = 256 << 20;
const PAGES_MAX: usize = 64 << 10;
/// Access times older than this are moved by any read (relatime).
const ATIME_AGE_MAX_SECS: i64 = 24 * 3600;

/// The content version this mount last saw of each inode: the kernel's pages are of it.
#[derive(Debug)]
pub(crate) struct KernelPages {
    last: Shards<Ino, Attr>,
}

impl KernelPages {
    pub(crate) fn new() -> Self {
        Self { last: Shards::new(PAGES_MAX) }
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<Attr> {
        self.last.get(&ino)
    }

    /// This mount changed the content, or opened it: these are the attributes since.
    pub(crate) fn own_change(&self, attr: &Attr) {
        let newer = |known: Option<&Attr>| known.is_none_or(|known| known.data_version <= attr.data_version);
        self.last.put_if(attr.ino, attr.clone(), newer);
    }

    /// The kernel holds none of its pages any more.
    pub(crate) fn forget(&self, ino: Ino) {
        self.last.change(ino);
    }

    pub(crate) fn clear(&self) {
        self.last.clear();
    }
}

/// Does meta know of an open?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registered {
    Yes,
    No,
    Perhaps,
}

impl Core {
    /// Opens a regular file.
    pub(crate) async fn open(self: &Arc<Self>, ino: Ino, flags: OpenFlags) -> Result<Opened, Status> {
        let op = self.op();
        self.open_with(&op, ino, flags).await
    }

    async fn open_with(self: &Arc<Self>, op: &Op, ino: Ino, flags: OpenFlags) -> Result<Opened, Status> {
        let known = if flags.truncate { self.files.get(ino) } else { None };
        let _changing = match &known {
            Some(file) => {
                let guard = self.lock_flush(op, file).await?;
                self.discard_unsent(file);
                Some(guard)
            }
            None => None,
        };
        let mode = match (flags.truncate, flags.write) {
            (true, _) => OpenMode::Truncate,
            (false, true) => OpenMode::Write,
            (false, false) => OpenMode::Read,
        };
        if mode != OpenMode::Truncate
            && let Some((attr, since)) = self.open_alone(ino, flags.write)
        {
            let known = self.contents.get(&ino).filter(|(version, _)| *version == attr.data_version);
            let content = known.map_or(Content::Unknown, |(_, content)| content);
            let asks = matches!(content, Content::Unknown) && attr.size > 0;
            let opened = self.opened((attr, Some(since)), content, flags, Leasing::default());
            self.learn_leasing(&self.handles.file(opened.handle)?.file, Some(since), Leasing::default());
            if asks {
                self.ask_for_content(opened.handle);
            }
            return Ok(opened);
        }
        let asked = self.attrs.asking();
        self.link.ledger.add(ino);
        let (reply, leasing, _changing) = self.link.change(op, Mutation::Open { ino, mode }).await;
        let (attr, content) = match reply {
            Ok(MetaReply::Opened { attr, content }) => (attr, content),
            Ok(_) => {
                self.link.ledger.take_back(ino);
                return Err(Status::Malformed);
            }
            Err(status) => {
                self.link.ledger.take_back(ino);
                return Err(self.unless_gone(ino, status));
            }
        };
        let mut since = None;
        if mode == OpenMode::Truncate {
            since = self.settle_content(asked, &attr, leasing);
        } else if self.may_cache() && !leasing.unkept {
            self.attrs.keep(asked, &attr);
            since = Some(asked);
        }
        let content = content_of(&attr, content, self.chunk_bytes(), Answered::Head);
        let leasing = Leasing { unkept: since.is_none(), ..leasing };
        let opened = self.opened((attr, since), content, flags, leasing);
        self.learn_leasing(&self.handles.file(opened.handle)?.file, since, leasing);
        Ok(opened)
    }

    /// Opens a file without asking, when its attributes are known. Who may write must be known to meta where others exist.
    fn open_alone(&self, ino: Ino, write: bool) -> Option<(Attr, Asked)> {
        let may_write = || self.link.sole() || self.link.kept.may_keep_back(ino);
        if !self.link.ledger.add_own(ino, || self.may_cache() && (!write || may_write())) {
            return None;
        }
        let since = self.attrs.asking();
        let known = self.attrs.get(ino).filter(|attr| attr.kind == FileKind::File && attr.nlink > 0);
        if known.is_none() {
            let _ = self.link.ledger.release(ino);
        }
        known.map(|attr| (attr, since))
    }

    /// Asks in the background where the bytes of a file are that was opened without asking: an open file stays readable
    /// when metadata go away before its first read.
    fn ask_for_content(self: &Arc<Self>, handle: Handle) {
        let Ok(open) = self.handles.file(handle) else { return };
        let core = Arc::clone(self);
        self.runtime.spawn(async move {
            let op = core.background_op();
            if let Err(status) = core.load_missing_page(&op, &open.file, Inner::unknown).await {
                tracing::debug!(ino = open.file.ino.get(), %status, "the content of an open file is asked for at its first read");
            }
        });
    }

    /// Before something loses a name, `known` as the entry says (`None`: no idea): own opens of it are registered at meta, and
    /// none is taken while the guard lives.
    pub(crate) async fn before_losing(
        &self,
        op: &Op,
        known: Option<Option<Ino>>,
    ) -> Result<Option<Losing<'_>>, Status> {
        if !self.may_cache() || known == Some(None) {
            return Ok(None);
        }
        let which = known.flatten();
        let losing = self.link.ledger.losing(which);
        self.register_own_opens(op, which).await?;
        Ok(Some(losing))
    }

    /// A handle for a file whose open is in the ledger; its attributes, and since when they are known.
    fn opened(
        self: &Arc<Self>,
        (attr, since): (Attr, Option<Asked>),
        content: Content,
        flags: OpenFlags,
        leasing: Leasing,
    ) -> Opened {
        // The kernel appends at the size it has cached; others may have made the file longer.
        let direct_io = flags.direct || leasing.contended || (flags.append && !self.config.local);
        let atime_due = flags.read && attr.size > 0 && atime_is_due(&attr);
        let chunk_bytes = self.chunk_bytes();
        let mut is_new = false;
        let (file, _) = self.files.open(attr.ino, || {
            is_new = true;
            FileState::new(attr.clone(), Content::Unknown, chunk_bytes)
        });
        let (keep_cache, error_seen) = {
            let mut inner = file.inner.lock();
            // What is known may have been given up meanwhile.
            let holds = since.map_or(is_new || !inner.doubtful, |since| self.attrs.unchanged(since, attr.ino));
            if holds {
                inner.learn(attr.clone(), content);
            } else if is_new || attr.data_version > inner.attr.data_version {
                // Whether it is newer or never was, meta knows.
                inner.doubt();
            }
            let keep = holds && (self.link.sole() || !leasing.unkept);
            let keep = keep && self.kernel_pages_hold(&attr, flags.truncate);
            (keep, inner.error.map_or(0, |error| error.number))
        };
        let dropping = (!keep_cache).then(|| Dropping::new(Arc::clone(&file)));
        let handle = self.handles.add(OpenFile {
            file,
            flags,
            direct_io,
            error_seen: AtomicU64::new(error_seen),
            error_seen_by_write: AtomicU64::new(error_seen),
            lost_seen: self.lost_before(),
            read_ahead: Mutex::new(ReadAhead::default()),
            is_unused: AtomicBool::new(dropping.is_some()),
            drops_pages: Mutex::new(dropping),
        });
        Opened { handle, keep_cache, direct_io, atime_due }
    }

    /// May the kernel keep its pages? Only if nobody else changed the content since this mount last saw it.
    fn kernel_pages_hold(&self, attr: &Attr, truncated: bool) -> bool {
        let known = self.pages.get(attr.ino);
        if known.as_ref().is_none_or(|known| known.data_version < attr.data_version) {
            self.pages.own_change(attr);
        }
        // A version that is older than what is known: an own commit was answered meanwhile.
        !truncated && known.is_some_and(|known| known.data_version >= attr.data_version)
    }

    /// Makes and opens a file.
    pub(crate) async fn create(self: &Arc<Self>, request: Create) -> Result<(Seen, Opened), Status> {
        let op = self.op();
        let Create { parent, name, access, flags, exclusive } = request;
        let lost = self.lost_before();
        if let Some(made) = self.keep_make(parent, &name, &NewNode::File, access) {
            let leasing = Leasing { writes: true, ..Leasing::default() };
            let (seen, opened) = self.open_made(&op, made, flags, leasing, Registered::No).await?;
            // The change may have been refused already.
            let known = lost.into_inner();
            self.handles.file(opened.handle)?.lost_seen.store(known, Ordering::Release);
            return Ok((seen, opened));
        }
        let alone = !self.config.local && self.link.sole();
        let make = Mutation::Make {
            parent,
            name: name.clone(),
            node: NewNode::File,
            mode: access.mode,
            umask: access.umask,
            caller: access.caller,
            open: !alone,
            ino: None,
        };
        let generation = self.link.generation();
        let asked = self.asking();
        let (reply, leasing, changing) = self.link.change(&op, make).await;
        let made = reply.and_then(named_of);
        self.learn_ahead_made(asked, parent, &made, leasing);
        let since = self.learn_named(asked, [(parent, name.clone())], &made, leasing);
        drop(changing);
        if matches!(made, Err(Status::Exists)) && !exclusive {
            return self.open_existing(&op, parent, name, flags).await;
        }
        let attr = made?.attrs.into_iter().next().ok_or(Status::Malformed)?;
        let registered = match (alone, generation == self.link.generation()) {
            (true, _) => Registered::No,
            (false, true) => Registered::Yes,
            // A meta that took over: it may know the file but not that it is open.
            (false, false) => Registered::Perhaps,
        };
        self.open_made(&op, Seen { attr, since }, flags, leasing, registered).await
    }

    /// Opens a file that was just made.
    async fn open_made(
        self: &Arc<Self>,
        op: &Op,
        made: Seen,
        flags: OpenFlags,
        leasing: Leasing,
        registered: Registered,
    ) -> Result<(Seen, Opened), Status> {
        let Seen { attr, since } = made;
        let alone = || self.link.sole() || self.link.kept.may_keep_back(attr.ino);
        if !(registered == Registered::No && self.link.ledger.add_own(attr.ino, alone)) {
            self.link.ledger.add(attr.ino);
            if registered != Registered::Yes {
                // Another session came, or another meta.
                drop(self.link.mutate(op, Mutation::Open { ino: attr.ino, mode: OpenMode::Read }).await);
            }
        }
        let inline = attr.flags.has(AttrFlags::INLINE);
        let content = if inline { Content::Inline(Bytes::new()) } else { Content::Slots(Slots::default()) };
        self.pages.own_change(&attr);
        let opened = self.opened((attr.clone(), since.attrs), content, flags, leasing);
        self.learn_leasing(&self.handles.file(opened.handle)?.file, since.attrs, leasing);
        Ok((Seen { attr, since }, opened))
    }

    async fn open_existing(
        self: &Arc<Self>,
        op: &Op,
        parent: Ino,
        name: dgfs_proto::name::Name,
        flags: OpenFlags,
    ) -> Result<(Seen, Opened), Status> {
        let Looked { attr, since } = self.lookup_with(op, parent, name).await?;
        let found = attr.ok_or(Status::NotFound)?;
        match found.kind {
            FileKind::File => {}
            FileKind::Directory => return Err(Status::IsDirectory),
            // The adapter looks a special file up and lets the kernel open it.
            FileKind::Symlink | FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                return Err(Status::Exists);
            }
        }
        let opened = self.open_with(op, found.ino, flags).await?;
        let open = self.handles.file(opened.handle)?;
        let attr = open.file.inner.lock().attr.clone();
        Ok((Seen { attr: self.with_unsent(attr), since }, opened))
    }

    /// close(2) of one descriptor.
    pub(crate) async fn flush(self: &Arc<Self>, handle: Handle, lock_owner: u64) -> Result<(), Status> {
        let open = self.handles.file(handle)?;
        open.used();
        let op = self.op();
        let nameless = open.file.nameless.load(Ordering::Acquire) && !self.is_shared();
        // Bytes of a file without a name, that nobody else can open, are sent only when they grow old.
        let sent = if nameless { Ok(()) } else { self.flush_file(&op, &open.file, Which::All).await };
        if open.file.posix_locked.load(Ordering::Acquire) {
            self.unlock_all(&op, open.file.ino, LockFamily::Posix, lock_owner).await;
        }
        if sent.is_ok() {
            // What was written is durable at meta when close returns, and what led to it.
            self.link.kept.answered(&op, open.file.kept.load(Ordering::Acquire)).await?;
        }
        self.take_errors(&open)?;
        sent
    }

    /// The last close of a handle.
    pub(crate) async fn release(self: &Arc<Self>, handle: Handle, lock_owner: Option<u64>) {
        let Some(open) = self.handles.remove(handle) else { return };
        open.used();
        let file = &open.file;
        if let Some(owner) = lock_owner {
            let op = self.op();
            self.unlock_all(&op, file.ino, LockFamily::Flock, owner).await;
        }
        if file.nameless.load(Ordering::Acquire)
            && file.opens.load(Ordering::Acquire) == 1
            && let Ok(_changing) = file.flush.try_lock()
        {
            self.discard_unsent(file);
        }
        // First remembered, then closed: an open in between finds one or the other.
        self.remember_content(file);
        self.files.close(file);
        if self.link.ledger.release(file.ino) {
            let core = Arc::clone(self);
            self.runtime.spawn(async move {
                let op = core.background_op();
                core.send_releases(&op).await;
            });
        }
    }

    /// Remembers where the bytes of a closed file are, if nobody else may change it and it is not a very large one.
    fn remember_content(&self, file: &FileState) {
        if !self.may_cache() {
            return;
        }
        let asked = self.contents.asking();
        let inner = file.inner.lock();
        if !inner.is_dirty() && !matches!(inner.content, Content::Unknown) && inner.attr.size <= REMEMBERED_BYTES_MAX {
            let content = (inner.attr.data_version, inner.content.clone());
            self.contents.keep(asked, file.ino, content);
        }
    }

    /// Drops unsent bytes that nobody will read. The caller holds the flush lock.
    pub(crate) fn discard_unsent(&self, file: &FileState) {
        let held: u64 = {
            let mut inner = file.inner.lock();
            let flying = std::mem::take(&mut inner.flying);
            let dirty = std::mem::take(&mut inner.dirty);
            flying.values().map(|sealed| sealed.held).sum::<u64>()
                + dirty.values().map(|chunk| chunk.held()).sum::<u64>()
        };
        self.budget.change(held, 0);
        self.dirty.settle(file);
    }
}

/// Would a read move the access time?
fn atime_is_due(attr: &Attr) -> bool {
    attr.atime <= attr.mtime || attr.atime <= attr.ctime || now().secs - attr.atime.secs >= ATIME_AGE_MAX_SECS
}
