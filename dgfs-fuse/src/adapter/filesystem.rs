//! The kernel's requests, one method each.
//!
//! Never decides meaning: checks and translates arguments, names the [`Vfs`](dgfs_client::vfs::Vfs) call, and
//! leaves the answer to `respond`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use dgfs_client::vfs::Create;
use dgfs_proto::meta::{LockFamily, LockSpec, NewNode, RemoveKind, SetAttr};
use dgfs_proto::status::Status;

use crate::adapter::Adapter;
use crate::adapter::files::OpenDirectory;
use crate::adapter::requests::{COPY_BYTES_MAX, access, entry};
use crate::adapter::respond::{Respond, XattrAnswer};
use crate::adapter::session::negotiate;
use crate::adapter::tags::{is_tags, who};
use crate::adapter::translate;
use crate::adapter::writes::By;
use crate::errno::Errno;
use crate::metrics::Op;

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate(config, &self.shared.options);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if self.is_tags_entry(parent, name) {
            return self.tags_lookup(who(request), entry(parent, name), reply);
        }
        let (at, vfs) = (entry(parent, name), self.vfs());
        self.serve(Op::Lookup, reply, async move {
            let (parent, name) = at?;
            Ok(vfs.lookup(parent, name).await?)
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.tags_forget(ino, count);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if is_tags(ino) {
            return self.tags_getattr(who(request), ino, reply);
        }
        let vfs = self.vfs();
        self.serve(Op::GetAttr, reply, async move { Ok(vfs.getattr(translate::ino(ino)?).await?) });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr {
            mode: mode.map(translate::permissions),
            uid,
            gid,
            size,
            atime: atime.map(translate::set_time),
            mtime: mtime.map(translate::set_time),
            // The kernel takes setuid and setgid away itself, by a mode in the same request.
            kill_privileges: false,
        };
        if is_tags(ino) {
            return self.tags_setattr(who(request), ino, set, reply);
        }
        let shared = Arc::clone(&self.shared);
        self.serve(Op::SetAttr, reply, async move {
            let ino = translate::ino(ino)?;
            if set == SetAttr::default() {
                return Ok(shared.vfs.getattr(ino).await?);
            }
            let _setting = if set.atime.is_some() { shared.renewals.set(ino).await } else { None };
            Ok(shared.vfs.setattr(ino, set).await?)
        });
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        if is_tags(ino) {
            return self.tags_readlink(who(request), ino, reply);
        }
        let vfs = self.vfs();
        self.serve(Op::ReadLink, reply, async move { Ok(Bytes::from(vfs.readlink(translate::ino(ino)?).await?)) });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        self.make(Op::MkNod, (request, parent, name), translate::node(mode, rdev), (mode, umask), reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.make(Op::MkDir, (request, parent, name), Ok(NewNode::Directory), (mode, umask), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let node = Ok(NewNode::Symlink(target.as_os_str().as_bytes().to_vec()));
        self.make(Op::Symlink, (request, parent, name), node, (0o777, 0), reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(Op::Unlink, (request, parent, name), RemoveKind::Unlink, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(Op::RmDir, (request, parent, name), RemoveKind::Rmdir, reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to, vfs) = (entry(parent, name), entry(new_parent, new_name), self.vfs());
        if self.is_tags_entry(parent, name) || self.is_tags_entry(new_parent, new_name) {
            return self.tags_rename(who(request), (from, to), translate::rename_mode(flags), reply);
        }
        self.serve(Op::Rename, reply, async move { Ok(vfs.rename(from?, to?, translate::rename_mode(flags)?).await?) });
    }

    fn link(&self, request: &Request, ino: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry) {
        if is_tags(ino) || self.is_tags_entry(new_parent, new_name) {
            return self.tags_link(who(request), ino, entry(new_parent, new_name), reply);
        }
        let (to, vfs) = (entry(new_parent, new_name), self.vfs());
        self.serve(Op::Link, reply, async move {
            let (parent, name) = to?;
            Ok(vfs.link(translate::ino(ino)?, parent, name).await?)
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (at, access, shared) = (entry(parent, name), access(request, mode, umask), Arc::clone(&self.shared));
        if is_tags(parent) {
            return self.tags_create(who(request), at, (access, flags), reply);
        }
        self.serve(Op::Create, reply, async move {
            let (parent, name) = at?;
            let open = translate::open_flags(flags);
            let exclusive = flags & libc::O_EXCL != 0;
            let create = Create { parent, name, access, flags: open, exclusive };
            let (seen, opened) = shared.vfs.create(create).await?;
            let granted = shared.remember(seen.attr.ino, &opened, open, flags);
            Ok((seen, FileHandle(opened.handle.0), granted))
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if is_tags(ino) {
            return self.tags_open(who(request), ino, flags.0, reply);
        }
        let shared = Arc::clone(&self.shared);
        self.serve(Op::Open, reply, async move {
            let (ino, open) = (translate::ino(ino)?, translate::open_flags(flags.0));
            if shared.executing.forbids(ino, flags.0) {
                return Err(Errno::EXECUTING);
            }
            let opened = shared.vfs.open(ino, open).await?;
            Ok((FileHandle(opened.handle.0), shared.remember(ino, &opened, open, flags.0)))
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if is_tags(ino) {
            return self.tags_read(who(request), handle, (offset, size), reply);
        }
        let file = match self.shared.files.get(handle.0) {
            Ok(file) => file,
            Err(errno) => return Respond::<Bytes>::refuse(reply, errno),
        };
        let (vfs, open) = (self.vfs(), file.handle);
        let renewal = if file.take_atime_due() { self.shared.renewals.renew(file.ino) } else { None };
        self.serve(Op::Read, reply, async move { Ok(vfs.read(open, offset, size).await?) });
        if let Some(renewal) = renewal {
            self.touch(file.ino, renewal);
        }
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if is_tags(ino) {
            return self.tags_write(who(request), handle, data, reply);
        }
        self.take_write(handle, offset, data, By::of(flags, write_flags), reply);
    }

    fn ioctl(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: IoctlFlags,
        cmd: u32,
        data: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        self.tags_ioctl(who(request), (ino, handle), cmd, data, reply);
    }

    fn flush(&self, request: &Request, ino: INodeNo, handle: FileHandle, owner: LockOwner, reply: ReplyEmpty) {
        if is_tags(ino) {
            return self.tags_flush(who(request), handle, reply);
        }
        let (file, shared) = (self.shared.files.get(handle.0), Arc::clone(&self.shared));
        self.serve(Op::Flush, reply, async move {
            let file = file?;
            shared.families.note_posix(owner.0);
            file.lock_owners.lock().remove(&owner.0);
            Ok(shared.vfs.flush(file.handle, owner.0).await?)
        });
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if is_tags(ino) {
            return self.tags_release(handle, reply);
        }
        self.close_file(handle, owner, reply);
    }

    fn fsync(&self, _: &Request, _ino: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let (file, vfs) = (self.shared.files.get(handle.0), self.vfs());
        self.serve(Op::Fsync, reply, async move { Ok(vfs.fsync(file?.handle, data_only).await?) });
    }

    fn opendir(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if is_tags(ino) {
            return self.tags_opendir(who(request), ino, reply);
        }
        let shared = Arc::clone(&self.shared);
        self.serve(Op::OpenDir, reply, async move {
            let ino = translate::ino(ino)?;
            let handle = shared.vfs.opendir(ino).await?;
            shared.directories.insert(handle, OpenDirectory::new(handle, ino, shared.wants_atime(flags.0)));
            Ok((FileHandle(handle.0), FopenFlags::empty()))
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, cookie: u64, reply: ReplyDirectory) {
        self.list_directory(Op::ReadDir, (ino, handle), cookie, reply);
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, handle: FileHandle, cookie: u64, reply: ReplyDirectoryPlus) {
        self.list_directory(Op::ReadDirPlus, (ino, handle), cookie, reply);
    }

    fn releasedir(&self, _: &Request, ino: INodeNo, handle: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        if is_tags(ino) {
            return self.tags_releasedir(handle, reply);
        }
        let (directory, vfs) = (self.shared.directories.remove(handle.0), self.vfs());
        self.serve(Op::ReleaseDir, reply, async move {
            vfs.releasedir(directory?.handle);
            Ok(())
        });
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        if is_tags(ino) {
            return self.tags_fsyncdir(handle, reply);
        }
        let (directory, vfs) = (self.shared.directories.get(handle.0), self.vfs());
        self.serve(Op::FsyncDir, reply, async move { Ok(vfs.fsyncdir(directory?.handle).await?) });
    }

    fn statfs(&self, _: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let vfs = self.vfs();
        self.serve(Op::StatFs, reply, async move { Ok(vfs.statfs().await?) });
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        if self.is_tags_attribute(ino, name) {
            return Respond::<()>::refuse(reply, Status::NotPermitted.into());
        }
        let (name, value, uid, vfs) = (name.as_bytes().to_vec(), value.to_vec(), request.uid(), self.vfs());
        self.serve(Op::SetXattr, reply, async move {
            let mode = translate::xattr_mode(flags)?;
            Ok(vfs.setxattr(translate::ino(ino)?, (name, value), mode, uid).await?)
        });
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, room: u32, reply: ReplyXattr) {
        let asker = self.is_tags_attribute(ino, name).then(|| who(request));
        let (uid, name, shared) = (request.uid(), name.as_bytes().to_vec(), Arc::clone(&self.shared));
        self.serve(Op::GetXattr, reply, async move {
            let ino = translate::ino(ino)?;
            if let Some(who) = asker {
                return Ok(XattrAnswer { bytes: shared.tags_attribute(who, ino, &name).await?, room });
            }
            let bytes = match &shared.options.inspector {
                Some(inspector) if name.starts_with(b"dgfs.") && !name.starts_with(b"dgfs.policy.") => {
                    inspector.inspect(uid, ino, &name).await?
                }
                Some(_) | None => shared.vfs.getxattr(ino, name).await?,
            };
            Ok(XattrAnswer { bytes, room })
        });
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, room: u32, reply: ReplyXattr) {
        self.list_names(ino, request.uid() == 0, room, reply);
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if self.is_tags_attribute(ino, name) {
            return Respond::<()>::refuse(reply, Status::NotPermitted.into());
        }
        let (name, vfs) = (name.as_bytes().to_vec(), self.vfs());
        self.serve(Op::RemoveXattr, reply, async move { Ok(vfs.removexattr(translate::ino(ino)?, name).await?) });
    }

    /// Never asked: `default_permissions` lets the kernel decide from the attributes.
    fn access(&self, _: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn getlk(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        let (file, vfs) = (self.shared.files.get(handle.0), self.vfs());
        self.serve(Op::GetLock, reply, async move {
            // flock(2) has no such question.
            let family = LockFamily::Posix;
            let lock = LockSpec { family, owner: owner.0, kind: translate::lock_kind(kind)?, start, end, pid };
            Ok(vfs.test_lock(file?.handle, lock).await?)
        });
    }

    fn setlk(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let lock = translate::lock_kind(kind).map(|kind| LockSpec {
            family: LockFamily::Posix,
            owner: owner.0,
            kind,
            start,
            end,
            pid,
        });
        self.set_lock(handle, lock, request.pid(), sleep, reply);
    }

    fn fallocate(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (file, vfs) = (self.shared.files.get(handle.0), self.vfs());
        self.serve(Op::Fallocate, reply, async move {
            Ok(vfs.fallocate(file?.handle, offset, length, translate::fallocate(mode)?).await?)
        });
    }

    fn lseek(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let (file, vfs) = (self.real_file(ino, handle), self.vfs());
        self.serve(Op::Seek, reply, async move {
            let offset = u64::try_from(offset).map_err(|_| Errno::NO_EXTENT)?;
            match vfs.seek(file?.handle, offset, translate::seek(whence)?).await {
                Err(Status::NotFound) => Err(Errno::NO_EXTENT),
                outcome => Ok(outcome?),
            }
        });
    }

    fn copy_file_range(
        &self,
        _: &Request,
        from_ino: INodeNo,
        from: FileHandle,
        from_offset: u64,
        to_ino: INodeNo,
        to: FileHandle,
        to_offset: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = (self.real_file(from_ino, from), self.real_file(to_ino, to));
        let shared = Arc::clone(&self.shared);
        self.serve(Op::CopyRange, reply, async move {
            let (from, to) = (from?, to?);
            let source = (from.handle, from_offset);
            let copied = shared.vfs.copy_range(source, (to.handle, to_offset), len.min(COPY_BYTES_MAX)).await?;
            u32::try_from(copied).map_err(|_| Errno::IO)
        });
    }
}
