//! What requests have in common: making, removing, closing, listing, locking.
//!
//! Never names an inode's meaning; `filesystem` translates the arguments first.

use std::ffi::OsStr;
use std::sync::Arc;

use fuser::{FileHandle, FopenFlags, INodeNo, LockOwner, ReplyEmpty, ReplyEntry, ReplyXattr, Request};

use dgfs_client::tags::is_virtual;
use dgfs_client::vfs::{Access, OpenFlags as VfsOpenFlags, Opened, Vfs};
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{Caller, LockFamily, LockSpec, NewNode, RemoveKind};
use dgfs_proto::name::Name;

use crate::adapter::directory::{Listing, list};
use crate::adapter::dispatch::Bound;
use crate::adapter::files::{Executing, OpenFile};
use crate::adapter::respond::{Respond, XattrAnswer, to_fuser};
use crate::adapter::tags::{is_tags, who};
use crate::adapter::{Adapter, Shared, translate};
use crate::errno::Errno;
use crate::metrics::Op;

/// Bytes of all attribute names Linux shows (`XATTR_LIST_MAX`).
const XATTR_LIST_BYTES_MAX: usize = 65_536;

/// An entry that a request is about.
pub(super) type Place<'a> = (&'a Request, INodeNo, &'a OsStr);

/// Its directory and name, checked.
pub(super) fn entry(parent: INodeNo, name: &OsStr) -> Result<(Ino, Name), Errno> {
    Ok((translate::ino(parent)?, translate::name(name)?))
}

/// Who makes something, and with which rights.
pub(super) fn access(request: &Request, mode: u32, umask: u32) -> Access {
    let caller = Caller { uid: request.uid(), gid: request.gid() };
    Access { mode: translate::permissions(mode), umask: translate::umask(umask), caller }
}

/// Bytes of one `copy_file_range` answer: a multiple of every chunk size that fits the reply's 32 bits.
pub(super) const COPY_BYTES_MAX: u64 = 1 << 30;

impl Adapter {
    /// An open file of the volume; what is done with real files only is not supported with virtual ones.
    pub(super) fn real_file(&self, ino: INodeNo, handle: FileHandle) -> Result<Arc<OpenFile>, Errno> {
        if is_tags(ino) { Err(Errno::NOT_SUPPORTED) } else { self.shared.files.get(handle.0) }
    }

    pub(super) fn serve<T, R, F>(&self, op: Op, reply: R, work: F)
    where
        R: Respond<T>,
        F: Future<Output = Result<T, Errno>> + Send + 'static,
        T: Send,
    {
        self.dispatch.serve(op, &self.shared, reply, work);
    }

    pub(super) fn vfs(&self) -> Arc<Vfs> {
        Arc::clone(&self.shared.vfs)
    }

    /// Makes a node: mknod, mkdir, symlink.
    pub(super) fn make(
        &self,
        op: Op,
        (request, parent, name): Place<'_>,
        node: Result<NewNode, Errno>,
        (mode, umask): (u32, u32),
        reply: ReplyEntry,
    ) {
        let (at, vfs) = (entry(parent, name), self.vfs());
        if self.is_tags_entry(parent, name) {
            return self.tags_make(op, who(request), at, node, reply);
        }
        let access = access(request, mode, umask);
        self.serve(op, reply, async move {
            let (parent, name) = at?;
            Ok(vfs.make(parent, name, node?, access).await?)
        });
    }

    pub(super) fn remove(&self, op: Op, (request, parent, name): Place<'_>, kind: RemoveKind, reply: ReplyEmpty) {
        let (at, vfs) = (entry(parent, name), self.vfs());
        if self.is_tags_entry(parent, name) {
            return self.tags_remove(op, who(request), at, kind, reply);
        }
        self.serve(op, reply, async move {
            let (parent, name) = at?;
            Ok(vfs.remove(parent, name, kind).await?)
        });
    }

    /// A lock request that may wait: watched for signals, and bounded by the watch.
    fn wait_lock(&self, file: Arc<OpenFile>, lock: LockSpec, tid: u32, reply: ReplyEmpty) {
        let Some(watched) = self.watch.add(tid) else {
            reply.error(to_fuser(Errno::NO_LOCKS));
            return;
        };
        let shared = Arc::clone(&self.shared);
        self.dispatch.run(Op::WaitLock, Bound::Free, async move {
            shared.metrics.lock_waits.inc();
            let outcome = shared.vfs.lock(file.handle, lock, Some(watched.ticket)).await;
            shared.metrics.lock_waits.dec();
            drop(watched);
            match outcome {
                Ok(()) => {
                    reply.ok();
                    None
                }
                Err(status) => {
                    let errno = Errno::from(status);
                    reply.error(to_fuser(errno));
                    Some(errno)
                }
            }
        });
    }

    /// The last close of a handle.
    pub(super) fn close_file(&self, handle: FileHandle, owner: Option<LockOwner>, reply: ReplyEmpty) {
        let (file, shared) = (self.shared.files.remove(handle.0), Arc::clone(&self.shared));
        self.serve(Op::Release, reply, async move {
            let file = file?;
            if file.executed {
                shared.executing.end(file.ino);
            }
            let left: Vec<u64> = file.lock_owners.lock().iter().copied().collect();
            for posix in left {
                shared.vfs.unlock_owner(file.ino, LockFamily::Posix, posix).await;
            }
            if let Some(twin) = file.twin.get() {
                shared.vfs.release(*twin, None).await;
            }
            shared.vfs.release(file.handle, owner.map(|owner| owner.0)).await;
            Ok(())
        });
    }

    /// All attribute names, joined as `listxattr` wants them.
    pub(super) fn list_names(&self, ino: INodeNo, root: bool, room: u32, reply: ReplyXattr) {
        let vfs = self.vfs();
        self.serve(Op::ListXattr, reply, async move {
            let ino = translate::ino(ino)?;
            // What is virtual has none.
            let names = if is_virtual(ino) { Vec::new() } else { vfs.listxattr(ino).await? };
            // trusted.* is for the administrator only, also its names (xattr(7)).
            let shown = names.into_iter().filter(|name| root || !name.starts_with(b"trusted."));
            let mut bytes = Vec::new();
            for name in shown {
                bytes.extend_from_slice(&name);
                bytes.push(0);
            }
            if bytes.len() > XATTR_LIST_BYTES_MAX { Err(Errno::TOO_BIG) } else { Ok(XattrAnswer { bytes, room }) }
        });
    }

    /// One page of a directory.
    pub(super) fn list_directory<L: Listing>(
        &self,
        op: Op,
        (ino, handle): (INodeNo, FileHandle),
        cookie: u64,
        reply: L,
    ) {
        if is_tags(ino) {
            return self.tags_readdir(op, handle, cookie, reply);
        }
        let directory = match self.shared.directories.get(handle.0) {
            Ok(directory) => directory,
            Err(errno) => return reply.refuse(errno),
        };
        let work = list(Arc::clone(&self.shared), Arc::clone(&directory), cookie, reply);
        let renewal = if directory.take_atime_due() { self.shared.renewals.renew(directory.ino) } else { None };
        self.dispatch.run(op, Bound::Counted, work);
        if let Some(renewal) = renewal {
            self.touch(directory.ino, renewal);
        }
    }

    /// Sets or gives up a lock. `lock` names no family yet: that is found out here.
    pub(super) fn set_lock(
        &self,
        handle: FileHandle,
        lock: Result<LockSpec, Errno>,
        tid: u32,
        wait: bool,
        reply: ReplyEmpty,
    ) {
        let (file, mut lock) = match (self.shared.files.get(handle.0), lock) {
            (Ok(file), Ok(lock)) => (file, lock),
            (Err(errno), _) | (_, Err(errno)) => return reply.error(to_fuser(errno)),
        };
        lock.family = self.shared.families.decide(tid, lock.owner, lock.start, lock.end);
        if lock.family == LockFamily::Posix {
            self.shared.locked.note(file.ino);
            file.lock_owners.lock().insert(lock.owner);
        }
        if wait {
            return self.wait_lock(file, lock, tid, reply);
        }
        let vfs = self.vfs();
        self.serve(Op::SetLock, reply, async move { Ok(vfs.lock(file.handle, lock, None).await?) });
    }
}

impl Shared {
    /// Notes an open file; what the kernel may do with it.
    pub(super) fn remember(
        self: &Arc<Self>,
        ino: Ino,
        opened: &Opened,
        flags: VfsOpenFlags,
        raw_flags: i32,
    ) -> FopenFlags {
        let wants_atime = self.wants_atime(raw_flags);
        let mut file = OpenFile::new(opened.handle, ino, flags.append, wants_atime);
        // A file opened for reading and writing is seldom read from pages; its first read that reaches us counts.
        if wants_atime && opened.atime_due && opened.keep_cache && !flags.write {
            self.renew_atime(ino);
        }
        if raw_flags & Executing::OPEN_FLAG != 0 {
            file.executed = true;
            self.executing.begin(ino);
        }
        self.files.insert(opened.handle, file);
        // The close of a handle that wrote nothing and can hold nobody's locks need not be reported.
        translate::fopen_flags(opened, !flags.write && !self.locked.contains(ino))
    }
}
