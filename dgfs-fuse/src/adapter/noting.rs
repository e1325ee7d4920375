//! Notes who asks and about what, before a request is taken up.
//!
//! Never answers and never waits: each method is the adapter's own. Always: the note is the calling thread's, and of the
//! request that it takes up.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};

use crate::adapter::Adapter;
use crate::profile::Asker;

thread_local! {
    static ASKER: Cell<Asker> = const { Cell::new(Asker { tid: 0, ino: 0 }) };
}

/// Who asks on this thread.
pub(crate) fn asker() -> Asker {
    ASKER.get()
}

/// An adapter whose requests are noted.
pub(crate) struct Noting(pub(crate) Adapter);

macro_rules! noting {
    ($($name:ident($($arg:ident: $kind:ty),*) -> $reply:ty;)+) => {
        impl Filesystem for Noting {
            fn init(&mut self, request: &Request, config: &mut KernelConfig) -> io::Result<()> {
                self.0.init(request, config)
            }

            fn forget(&self, request: &Request, ino: INodeNo, count: u64) {
                self.0.forget(request, ino, count);
            }

            $(fn $name(&self, request: &Request, ino: INodeNo, $($arg: $kind,)* reply: $reply) {
                ASKER.set(Asker { tid: request.pid(), ino: ino.0 });
                self.0.$name(request, ino, $($arg,)* reply);
            })+
        }
    };
}

noting! {
    lookup(name: &OsStr) -> ReplyEntry;
    getattr(handle: Option<FileHandle>) -> ReplyAttr;
    setattr(
        mode: Option<u32>, uid: Option<u32>, gid: Option<u32>, size: Option<u64>, atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>, ctime: Option<SystemTime>, handle: Option<FileHandle>, crtime: Option<SystemTime>,
        chgtime: Option<SystemTime>, bkuptime: Option<SystemTime>, flags: Option<BsdFileFlags>
    ) -> ReplyAttr;
    readlink() -> ReplyData;
    mknod(name: &OsStr, mode: u32, umask: u32, rdev: u32) -> ReplyEntry;
    mkdir(name: &OsStr, mode: u32, umask: u32) -> ReplyEntry;
    unlink(name: &OsStr) -> ReplyEmpty;
    rmdir(name: &OsStr) -> ReplyEmpty;
    symlink(name: &OsStr, target: &Path) -> ReplyEntry;
    rename(name: &OsStr, new_parent: INodeNo, new_name: &OsStr, flags: RenameFlags) -> ReplyEmpty;
    link(new_parent: INodeNo, new_name: &OsStr) -> ReplyEntry;
    create(name: &OsStr, mode: u32, umask: u32, flags: i32) -> ReplyCreate;
    open(flags: OpenFlags) -> ReplyOpen;
    read(handle: FileHandle, offset: u64, size: u32, flags: OpenFlags, owner: Option<LockOwner>) -> ReplyData;
    write(
        handle: FileHandle, offset: u64, data: &[u8], write_flags: WriteFlags, flags: OpenFlags, owner: Option<LockOwner>
    ) -> ReplyWrite;
    ioctl(handle: FileHandle, flags: IoctlFlags, cmd: u32, data: &[u8], room: u32) -> ReplyIoctl;
    flush(handle: FileHandle, owner: LockOwner) -> ReplyEmpty;
    release(handle: FileHandle, flags: OpenFlags, owner: Option<LockOwner>, flush: bool) -> ReplyEmpty;
    fsync(handle: FileHandle, data_only: bool) -> ReplyEmpty;
    opendir(flags: OpenFlags) -> ReplyOpen;
    readdir(handle: FileHandle, cookie: u64) -> ReplyDirectory;
    readdirplus(handle: FileHandle, cookie: u64) -> ReplyDirectoryPlus;
    releasedir(handle: FileHandle, flags: OpenFlags) -> ReplyEmpty;
    fsyncdir(handle: FileHandle, data_only: bool) -> ReplyEmpty;
    statfs() -> ReplyStatfs;
    setxattr(name: &OsStr, value: &[u8], flags: i32, position: u32) -> ReplyEmpty;
    getxattr(name: &OsStr, room: u32) -> ReplyXattr;
    listxattr(room: u32) -> ReplyXattr;
    removexattr(name: &OsStr) -> ReplyEmpty;
    access(mask: AccessFlags) -> ReplyEmpty;
    getlk(handle: FileHandle, owner: LockOwner, start: u64, end: u64, kind: i32, pid: u32) -> ReplyLock;
    setlk(handle: FileHandle, owner: LockOwner, start: u64, end: u64, kind: i32, pid: u32, sleep: bool) -> ReplyEmpty;
    fallocate(handle: FileHandle, offset: u64, length: u64, mode: i32) -> ReplyEmpty;
    lseek(handle: FileHandle, offset: i64, whence: i32) -> ReplyLseek;
    copy_file_range(
        from: FileHandle, from_offset: u64, to_ino: INodeNo, to: FileHandle, to_offset: u64, len: u64,
        flags: CopyFileRangeFlags
    ) -> ReplyWrite;
}
