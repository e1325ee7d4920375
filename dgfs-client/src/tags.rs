//! The virtual directories `.tags`: what a mount asks of them, one method for each kernel request.
//!
//! Never changes anything but tags, relations and saved queries. A request finds what its inode number means in `nodes`, reads
//! further components by `path`, and is answered by `lookup`, `list`, `files` or `change`; `link` asks the graph, and `kept` has
//! what it said a moment ago. Always: the kernel may believe an answer for no time at all, as others change what is found.

pub(crate) mod accounts;
mod allowed;
mod ask;
mod attributes;
mod change;
mod files;
mod inbox;
mod kept;
pub(crate) mod link;
mod list;
mod lookup;
mod nodes;
mod path;
pub(crate) mod unread;
mod viewer;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use dgfs_proto::attr::Attr;
use dgfs_proto::graph::{GraphRequest, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{NewNode, RemoveKind, RenameMode, SetAttr};
use dgfs_proto::name::Name;
use dgfs_proto::query::{Atom, Clause, Test};
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::tags::files::OpenAnswer;
use crate::tags::kept::Kept;
use crate::tags::list::OpenListing;
use crate::tags::lookup::View;
use crate::tags::nodes::{Node, Nodes};
use crate::tags::path::{Special, Spot};
use crate::vfs::{Create, Handle, OpenFlags, Opened, Seen};

pub use self::attributes::PREFIX as ATTRIBUTE_PREFIX;
pub use self::files::ASK_BYTES_MAX;
pub use self::list::TagEntry;
pub use self::nodes::is_virtual;
pub use self::viewer::Who;

/// Handles of virtual files and directories have this bit, so that none of a real file is taken for one.
const HANDLE: u64 = 1 << 63;

/// The virtual directories of a mount. Every method may be called from any thread; every future ends within the time of a
/// question to the graph, or of a change at the metadata service.
pub struct TagView {
    core: Arc<Core>,
    nodes: Nodes,
    kept: Kept,
    next: AtomicU64,
    listings: RwLock<HashMap<u64, Arc<OpenListing>>>,
    answers: RwLock<HashMap<u64, Arc<OpenAnswer>>>,
}

type Answer<T> = Result<T, Status>;

impl Core {
    /// Is it the name of the virtual directory?
    pub(crate) fn is_tags_name(&self, name: &Name) -> bool {
        self.config.tags_name.as_deref().is_some_and(|tags| tags == name.as_bytes())
    }

    /// Refuses the name of the virtual directory for what is made.
    pub(crate) fn check_name_is_free(&self, name: &Name) -> Answer<()> {
        if self.is_tags_name(name) { Err(Status::Exists) } else { Ok(()) }
    }
}

impl TagView {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            nodes: Nodes::new(core.volume.uuid),
            kept: Kept::default(),
            core,
            next: AtomicU64::new(1),
            listings: RwLock::default(),
            answers: RwLock::default(),
        }
    }

    /// Is `name`, in any directory of the volume, the virtual one?
    #[must_use]
    pub fn is_called(&self, name: &[u8]) -> bool {
        self.core.config.tags_name.as_deref() == Some(name)
    }

    /// The entry that a directory of the volume lists with `cookie`, before its own, where the virtual one is shown.
    #[must_use]
    pub fn visible_in(&self, directory: Ino, cookie: u64) -> Option<TagEntry> {
        let name = self.core.config.tags_name.clone().filter(|_| self.core.config.tags_visible)?;
        Some(TagEntry::new(&self.nodes, name, Node::Directory(Arc::new(Spot::root(directory))), cookie))
    }

    /// A listing tells the kernel an entry in such a way that it counts a look-up of it: the number to tell.
    ///
    /// # Errors
    /// `NoSpace` when the kernel holds too many already.
    pub fn told(&self, entry: &TagEntry) -> Answer<Ino> {
        self.nodes.looked_up(&entry.node)
    }

    const fn view<'a>(&'a self, viewer: &'a Viewer) -> View<'a> {
        View { core: &self.core, nodes: &self.nodes, kept: &self.kept, viewer }
    }

    /// An entry by name; `parent` is a directory of the volume if `name` is the virtual one's. Counts a look-up.
    ///
    /// # Errors
    /// `NotFound` for a tag that nobody knows, `Invalid` for what the grammar does not have, `XattrTooBig` past its bounds.
    pub async fn lookup(&self, parent: Ino, name: &Name, who: Who) -> Answer<Attr> {
        let viewer = who.viewer();
        let view = self.view(&viewer);
        let node = if is_virtual(parent) {
            view.lookup(&self.nodes.get(parent)?, name).await?
        } else {
            Node::Directory(Arc::new(Spot::root(parent)))
        };
        view.tell(&node).await
    }

    /// The kernel forgets look-ups.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.nodes.forget(ino, count);
    }

    /// Attributes.
    ///
    /// # Errors
    /// `Stale` for a number that was forgotten.
    pub async fn getattr(&self, ino: Ino, who: Who) -> Answer<Attr> {
        let viewer = who.viewer();
        self.view(&viewer).fresh_attr(&self.nodes.get(ino)?, ino).await
    }

    /// Sets nothing: `@ask` may be cut (`>`), everything else is refused.
    ///
    /// # Errors
    /// `NotPermitted`.
    pub async fn setattr(&self, ino: Ino, set: SetAttr, who: Who) -> Answer<Attr> {
        let only_cut = SetAttr { size: set.size, ..SetAttr::default() } == set;
        match self.nodes.get(ino)? {
            Node::File { special: Special::Ask, .. } if only_cut => self.getattr(ino, who).await,
            _ => Err(Status::NotPermitted),
        }
    }

    /// A symlink's target.
    ///
    /// # Errors
    /// `Invalid` for what is none, `NotFound` when its file is gone.
    pub async fn readlink(&self, ino: Ino, who: Who) -> Answer<Vec<u8>> {
        let viewer = who.viewer();
        self.view(&viewer).target(&self.nodes.get(ino)?).await
    }

    /// mkdir, symlink, mknod. Counts a look-up of what was made.
    ///
    /// # Errors
    /// As `docs/TAGS.md` has them; files cannot be made (`NotPermitted`).
    pub async fn make(&self, parent: Ino, name: &Name, node: &NewNode, who: Who) -> Answer<Attr> {
        let viewer = who.viewer();
        let (view, parent) = (self.view(&viewer), self.nodes.get(parent)?);
        let made = match node {
            NewNode::Directory => view.make_tag(&parent, name).await?,
            NewNode::Symlink(target) => view.tag_symlink(&parent, name, target).await?,
            NewNode::File | NewNode::Special { .. } => return Err(Status::NotPermitted),
        };
        view.tell(&made).await
    }

    /// Makes, tags and opens a file in the inbox, whatever `request` says of its directory.
    ///
    /// # Errors
    /// `NotPermitted` where the mount has no inbox, or `parent` is none of tags; `NotFound` for an inbox that is not there; else
    /// those of making a file there and of tagging it.
    pub async fn create(&self, request: Create, who: Who) -> Answer<(Seen, Opened)> {
        if !is_virtual(request.parent) {
            return Err(Status::Exists);
        }
        let viewer = who.viewer();
        self.core.check_name_is_free(&request.name)?;
        self.view(&viewer).make_in_inbox(&self.nodes.get(request.parent)?, request).await
    }

    /// A hard link into a tag's directory: tags the inode, whose own attributes are the answer.
    ///
    /// # Errors
    /// As `docs/TAGS.md` has them.
    pub async fn link(&self, ino: Ino, parent: Ino, who: Who) -> Answer<Attr> {
        let viewer = who.viewer();
        let (view, parent) = (self.view(&viewer), self.nodes.get(parent)?);
        if !is_virtual(ino) {
            view.tag_link(ino, &parent).await?;
            return Ok(self.core.getattr(ino).await?.attr);
        }
        // ln(1) links a symlink itself: what it leads to is meant.
        let source = self.nodes.get(ino)?;
        let Node::Entry { ino: found, .. } = &source else { return Err(Status::NotPermitted) };
        view.tag_link(*found, &parent).await?;
        view.tell(&source).await
    }

    /// unlink, rmdir.
    ///
    /// # Errors
    /// As `docs/TAGS.md` has them.
    pub async fn remove(&self, parent: Ino, name: &Name, kind: RemoveKind, who: Who) -> Answer<()> {
        if !is_virtual(parent) {
            return Err(if kind == RemoveKind::Rmdir { Status::NotPermitted } else { Status::IsDirectory });
        }
        let viewer = who.viewer();
        self.view(&viewer).remove(&self.nodes.get(parent)?, name, kind).await
    }

    /// rename; one of the directories, or one of the names, is virtual.
    ///
    /// # Errors
    /// `NotPermitted` between the tree and `.tags`: with `CrossDevice` mv(1) would copy and remove. `Exists` onto the name of the
    /// virtual directory. Else as `docs/TAGS.md` has them.
    pub async fn rename(&self, from: (Ino, &Name), to: (Ino, &Name), mode: RenameMode, who: Who) -> Answer<()> {
        if !is_virtual(from.0) || !is_virtual(to.0) {
            let onto = !is_virtual(from.0) && !self.core.is_tags_name(from.1) && !is_virtual(to.0);
            return Err(if onto { Status::Exists } else { Status::NotPermitted });
        }
        let viewer = who.viewer();
        let (source, target) = (self.nodes.get(from.0)?, self.nodes.get(to.0)?);
        self.view(&viewer).rename((&source, from.1), (&target, to.1), mode).await
    }

    /// Opens a file of answers. The kernel must keep no pages of it; true: it is a stream.
    ///
    /// # Errors
    /// `NotPermitted` for writing to what only answers.
    pub async fn open(&self, ino: Ino, flags: OpenFlags, who: Who) -> Answer<(Handle, bool)> {
        let viewer = who.viewer();
        let Node::File { at, special } = self.nodes.get(ino)? else { return Err(Status::Invalid) };
        let open = self.view(&viewer).open_answer(&at, special, flags).await?;
        let handle = self.handle();
        self.answers.write().insert(handle.0, Arc::new(open));
        Ok((handle, special == Special::Ask))
    }

    fn handle(&self) -> Handle {
        Handle(HANDLE | self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn answer(&self, handle: Handle) -> Answer<Arc<OpenAnswer>> {
        self.answers.read().get(&handle.0).cloned().ok_or(Status::BadHandle)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// `BadHandle`. A request that is refused is answered with a sentence.
    pub async fn read(&self, handle: Handle, offset: u64, size: u32, who: Who) -> Answer<Bytes> {
        let open = self.answer(handle)?;
        // Who wrote the request decides what it may; only that is looked at.
        let viewer = Viewer { uid: who.uid, gids: vec![who.gid] };
        self.view(&viewer).read_answer(&open, offset, size).await
    }

    /// Takes a request.
    ///
    /// # Errors
    /// `FileTooBig` past [`ASK_BYTES_MAX`].
    pub async fn write(&self, handle: Handle, bytes: &[u8], who: Who) -> Answer<u32> {
        let (open, viewer) = (self.answer(handle)?, who.viewer());
        self.view(&viewer).write_request(&open, bytes).await
    }

    /// close(2) of one descriptor: what was asked by a handle that cannot read is carried out.
    ///
    /// # Errors
    /// Why such a request was refused.
    pub async fn flush(&self, handle: Handle, who: Who) -> Answer<()> {
        let (open, viewer) = (self.answer(handle)?, who.viewer());
        self.view(&viewer).flush_answer(&open).await
    }

    /// The last close.
    pub fn release(&self, handle: Handle) {
        self.answers.write().remove(&handle.0);
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// `NotDirectory`, `Stale`.
    pub fn opendir(&self, ino: Ino, who: Who) -> Answer<Handle> {
        let Node::Directory(at) = self.nodes.get(ino)? else { return Err(Status::NotDirectory) };
        let handle = self.handle();
        self.listings.write().insert(handle.0, Arc::new(OpenListing::new(at, ino, who.viewer())));
        Ok(handle)
    }

    fn listing(&self, handle: Handle) -> Answer<Arc<OpenListing>> {
        self.listings.read().get(&handle.0).cloned().ok_or(Status::BadHandle)
    }

    /// Entries behind `cookie`, without the dots (1 and 2); none: the end. See [`Self::told`].
    ///
    /// # Errors
    /// As questions to the graph are refused: `Unavailable` when nobody answers, `NotSupported` when there is no index.
    pub async fn readdir(&self, handle: Handle, cookie: u64) -> Answer<Vec<TagEntry>> {
        let open = self.listing(handle)?;
        self.view(&open.viewer).list(&open, cookie).await
    }

    /// The directory of a handle.
    ///
    /// # Errors
    /// `BadHandle`.
    pub fn directory_of(&self, handle: Handle) -> Answer<Ino> {
        Ok(self.listing(handle)?.ino)
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: Handle) {
        self.listings.write().remove(&handle.0);
    }

    /// fsync of a directory: whatever was changed before is durable, and in the answers of every index.
    ///
    /// # Errors
    /// `Unavailable` when no index comes so far in time.
    pub async fn fsyncdir(&self, handle: Handle) -> Answer<()> {
        let open = self.listing(handle)?;
        self.kept.forget();
        self.core.link.sync(&self.core.op()).await?;
        let clause = Clause::from(Atom::from(Test::All));
        self.core.sync_graph(&open.viewer, &GraphRequest::Known { scope: open.at.scope, clause }).await
    }

    /// The value of an attribute that begins with [`ATTRIBUTE_PREFIX`], or of any of a virtual inode.
    ///
    /// # Errors
    /// `NoXattr` for one that is none.
    pub async fn getxattr(&self, ino: Ino, name: &[u8], who: Who) -> Answer<Vec<u8>> {
        if is_virtual(ino) {
            return Err(Status::NoXattr);
        }
        let viewer = who.viewer();
        self.view(&viewer).attribute(ino, name).await
    }
}

#[cfg(test)]
mod tests;
