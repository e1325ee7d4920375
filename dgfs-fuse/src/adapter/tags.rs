//! Requests for what is virtual: everything below a `.tags`, and that name itself in any directory.
//!
//! Never decides meaning; [`TagView`] does. Always: the kernel may believe nothing of it for any time, and each look-up that it
//! counts is counted here, too.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fuser::{FileHandle, FopenFlags, INodeNo, ReplyAttr, ReplyCreate, ReplyEntry, ReplyIoctl, Request};

use dgfs_client::tags::{ATTRIBUTE_PREFIX, TagView, Who, is_virtual};
use dgfs_client::vfs::{Access, Create, Handle, Vfs};
use dgfs_proto::attr::Attr;
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{NewNode, RemoveKind, RenameMode, SetAttr};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use crate::adapter::directory::Listing;
use crate::adapter::dispatch::Bound;
use crate::adapter::respond::{GENERATION, Respond, to_fuser};
use crate::adapter::translate::{self, file_attr};
use crate::adapter::{Adapter, Shared};
use crate::asking::is_ours;
use crate::errno::Errno;
use crate::metrics::Op;

/// An entry by its directory and name, as it came from the kernel.
pub(super) type At = Result<(Ino, Name), Errno>;

/// Attributes of which nothing may be believed.
pub(crate) struct Unkept(pub(crate) Attr);

impl Respond<Unkept> for ReplyEntry {
    fn accept(self, Unkept(attr): Unkept, _: &Shared) {
        self.entry_with_ttls(&Duration::ZERO, &Duration::ZERO, &file_attr(&attr), GENERATION);
    }

    fn refuse(self, errno: Errno) {
        self.error(to_fuser(errno));
    }
}

impl Respond<(Unkept, FileHandle, FopenFlags)> for ReplyCreate {
    fn accept(self, (Unkept(attr), handle, flags): (Unkept, FileHandle, FopenFlags), _: &Shared) {
        self.created(&Duration::ZERO, &file_attr(&attr), GENERATION, handle, flags);
    }

    fn refuse(self, errno: Errno) {
        self.error(to_fuser(errno));
    }
}

impl Respond<u32> for ReplyIoctl {
    fn accept(self, _: u32, _: &Shared) {
        self.ioctl(0, &[]);
    }

    fn refuse(self, errno: Errno) {
        self.error(to_fuser(errno));
    }
}

impl Respond<Unkept> for ReplyAttr {
    fn accept(self, Unkept(attr): Unkept, _: &Shared) {
        self.attr(&Duration::ZERO, &file_attr(&attr));
    }

    fn refuse(self, errno: Errno) {
        self.error(to_fuser(errno));
    }
}

/// Who asks.
pub(super) fn who(request: &Request) -> Who {
    Who { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

/// Is it the number of something virtual?
pub(super) fn is_tags(ino: INodeNo) -> bool {
    Ino::new(ino.0).is_some_and(is_virtual)
}

fn tags(vfs: &Vfs) -> Result<&TagView, Errno> {
    vfs.tags().ok_or(Errno::NOT_FOUND)
}

impl Adapter {
    /// Is it an entry of something virtual, or `.tags` itself?
    pub(super) fn is_tags_entry(&self, parent: INodeNo, name: &OsStr) -> bool {
        is_tags(parent) || self.shared.vfs.tags().is_some_and(|tags| tags.is_called(name.as_bytes()))
    }

    pub(super) fn tags_lookup(&self, who: Who, at: At, reply: ReplyEntry) {
        let vfs = self.vfs();
        self.serve(Op::Lookup, reply, async move {
            let (parent, name) = at?;
            Ok(Unkept(tags(&vfs)?.lookup(parent, &name, who).await?))
        });
    }

    pub(super) fn tags_getattr(&self, who: Who, ino: INodeNo, reply: ReplyAttr) {
        let vfs = self.vfs();
        self.serve(
            Op::GetAttr,
            reply,
            async move { Ok(Unkept(tags(&vfs)?.getattr(translate::ino(ino)?, who).await?)) },
        );
    }

    pub(super) fn tags_setattr(&self, who: Who, ino: INodeNo, set: SetAttr, reply: ReplyAttr) {
        let vfs = self.vfs();
        self.serve(Op::SetAttr, reply, async move {
            Ok(Unkept(tags(&vfs)?.setattr(translate::ino(ino)?, set, who).await?))
        });
    }

    /// mknod, mkdir, symlink.
    pub(super) fn tags_make(&self, op: Op, who: Who, at: At, node: Result<NewNode, Errno>, reply: ReplyEntry) {
        let vfs = self.vfs();
        self.serve(op, reply, async move {
            let (parent, name) = at?;
            if !is_virtual(parent) {
                return Err(Status::Exists.into());
            }
            Ok(Unkept(tags(&vfs)?.make(parent, &name, &node?, who).await?))
        });
    }

    /// create: the file is made in the inbox.
    pub(super) fn tags_create(&self, who: Who, at: At, (access, flags): (Access, i32), reply: ReplyCreate) {
        let shared = Arc::clone(&self.shared);
        self.serve(Op::Create, reply, async move {
            let (parent, name) = at?;
            let open = translate::open_flags(flags);
            let create = Create { parent, name, access, flags: open, exclusive: true };
            let (seen, opened) = tags(&shared.vfs)?.create(create, who).await?;
            let granted = shared.remember(seen.attr.ino, &opened, open, flags);
            Ok((Unkept(seen.attr), FileHandle(opened.handle.0), granted))
        });
    }

    pub(super) fn tags_link(&self, who: Who, ino: INodeNo, at: At, reply: ReplyEntry) {
        let vfs = self.vfs();
        self.serve(Op::Link, reply, async move {
            let (parent, _) = at?;
            if !is_virtual(parent) {
                // A found entry's own symlink into the tree, or `.tags` as the new name.
                return Err(if is_tags(ino) { Status::NotPermitted } else { Status::Exists }.into());
            }
            Ok(Unkept(tags(&vfs)?.link(translate::ino(ino)?, parent, who).await?))
        });
    }

    pub(super) fn tags_remove<R: Respond<()>>(&self, op: Op, who: Who, at: At, kind: RemoveKind, reply: R) {
        let vfs = self.vfs();
        self.serve(op, reply, async move {
            let (parent, name) = at?;
            Ok(tags(&vfs)?.remove(parent, &name, kind, who).await?)
        });
    }

    pub(super) fn tags_rename<R: Respond<()>>(
        &self,
        who: Who,
        (from, to): (At, At),
        mode: Result<RenameMode, Errno>,
        reply: R,
    ) {
        let vfs = self.vfs();
        self.serve(Op::Rename, reply, async move {
            let (from, to) = (from?, to?);
            Ok(tags(&vfs)?.rename((from.0, &from.1), (to.0, &to.1), mode?, who).await?)
        });
    }

    pub(super) fn tags_readlink<R: Respond<Bytes>>(&self, who: Who, ino: INodeNo, reply: R) {
        let vfs = self.vfs();
        self.serve(Op::ReadLink, reply, async move {
            Ok(Bytes::from(tags(&vfs)?.readlink(translate::ino(ino)?, who).await?))
        });
    }

    pub(super) fn tags_open<R>(&self, who: Who, ino: INodeNo, flags: i32, reply: R)
    where
        R: Respond<(FileHandle, FopenFlags)>,
    {
        let vfs = self.vfs();
        self.serve(Op::Open, reply, async move {
            let (handle, is_stream) = tags(&vfs)?.open(translate::ino(ino)?, translate::open_flags(flags), who).await?;
            let mut granted = FopenFlags::FOPEN_DIRECT_IO;
            granted.set(FopenFlags::FOPEN_STREAM | FopenFlags::FOPEN_NONSEEKABLE, is_stream);
            Ok((FileHandle(handle.0), granted))
        });
    }

    pub(super) fn tags_read<R: Respond<Bytes>>(&self, who: Who, handle: FileHandle, part: (u64, u32), reply: R) {
        let vfs = self.vfs();
        self.serve(Op::Read, reply, async move { Ok(tags(&vfs)?.read(Handle(handle.0), part.0, part.1, who).await?) });
    }

    pub(super) fn tags_write<R: Respond<u32>>(&self, who: Who, handle: FileHandle, data: &[u8], reply: R) {
        let (vfs, data) = (self.vfs(), Bytes::copy_from_slice(data));
        self.serve(Op::Write, reply, async move { Ok(tags(&vfs)?.write(Handle(handle.0), &data, who).await?) });
    }

    /// ioctl: a piece of a request, by the way that is open on a mount that is read-only. There is no other call.
    pub(super) fn tags_ioctl(
        &self,
        who: Who,
        (ino, handle): (INodeNo, FileHandle),
        cmd: u32,
        data: &[u8],
        reply: ReplyIoctl,
    ) {
        if !is_tags(ino) || !is_ours(cmd, data) {
            // ioctl(2): "the specified operation does not apply to the kind of object".
            return reply.error(fuser::Errno::ENOTTY);
        }
        self.tags_write(who, handle, data, reply);
    }

    pub(super) fn tags_flush<R: Respond<()>>(&self, who: Who, handle: FileHandle, reply: R) {
        let vfs = self.vfs();
        self.serve(Op::Flush, reply, async move { Ok(tags(&vfs)?.flush(Handle(handle.0), who).await?) });
    }

    pub(super) fn tags_release<R: Respond<()>>(&self, handle: FileHandle, reply: R) {
        let vfs = self.vfs();
        self.serve(Op::Release, reply, async move {
            tags(&vfs)?.release(Handle(handle.0));
            Ok(())
        });
    }

    pub(super) fn tags_opendir<R>(&self, who: Who, ino: INodeNo, reply: R)
    where
        R: Respond<(FileHandle, FopenFlags)>,
    {
        let vfs = self.vfs();
        self.serve(Op::OpenDir, reply, async move {
            let handle = tags(&vfs)?.opendir(translate::ino(ino)?, who)?;
            Ok((FileHandle(handle.0), FopenFlags::empty()))
        });
    }

    /// One page of a virtual directory.
    pub(super) fn tags_readdir<L: Listing>(&self, op: Op, handle: FileHandle, cookie: u64, reply: L) {
        let vfs = self.vfs();
        self.dispatch.run(op, Bound::Counted, async move {
            match tags_page(&vfs, Handle(handle.0), cookie).await {
                Ok((directory, entries)) => {
                    crate::adapter::directory::send_tags(reply, &vfs, directory, cookie, &entries);
                    None
                }
                Err(errno) => {
                    reply.refuse(errno);
                    Some(errno)
                }
            }
        });
    }

    pub(super) fn tags_releasedir<R: Respond<()>>(&self, handle: FileHandle, reply: R) {
        let vfs = self.vfs();
        self.serve(Op::ReleaseDir, reply, async move {
            tags(&vfs)?.releasedir(Handle(handle.0));
            Ok(())
        });
    }

    pub(super) fn tags_fsyncdir<R: Respond<()>>(&self, handle: FileHandle, reply: R) {
        let vfs = self.vfs();
        self.serve(Op::FsyncDir, reply, async move { Ok(tags(&vfs)?.fsyncdir(Handle(handle.0)).await?) });
    }

    /// The kernel forgets look-ups.
    pub(super) fn tags_forget(&self, ino: INodeNo, count: u64) {
        if let (true, Some(ino), Some(tags)) = (is_tags(ino), Ino::new(ino.0), self.shared.vfs.tags()) {
            tags.forget(ino, count);
        }
    }

    /// Is the attribute one that the graph answers, or of something virtual?
    pub(super) fn is_tags_attribute(&self, ino: INodeNo, name: &OsStr) -> bool {
        is_tags(ino) || (self.shared.vfs.tags().is_some() && name.as_bytes().starts_with(ATTRIBUTE_PREFIX))
    }
}

impl Shared {
    /// The value of such an attribute.
    pub(super) async fn tags_attribute(self: &Arc<Self>, who: Who, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(tags(&self.vfs)?.getxattr(ino, name, who).await?)
    }
}

async fn tags_page(vfs: &Vfs, handle: Handle, cookie: u64) -> Result<(Ino, Vec<dgfs_client::tags::TagEntry>), Errno> {
    let tags = tags(vfs)?;
    Ok((tags.directory_of(handle)?, tags.readdir(handle, cookie).await?))
}
