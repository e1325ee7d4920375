//! One of the two directories that must behave alike.
//!
//! Never judges: it does what it is told and says what came out.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use dgfs_tests::sys::{MapWrite, write_by_map};
use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, SeekFrom, Stat, Timespec, Timestamps,
    Uid, XattrFlags,
};
use rustix::io::Errno;

use super::op::{Allocate, NodeKind, Op, Path, Renaming, SLOTS};

/// Calls of copy_file_range for one range.
const COPY_CALLS_MAX: usize = 64;

/// What a call gave.
pub(super) type Outcome = Result<Value, Errno>;

/// An answer that must be the same on both sides.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Nothing,
    Number(u64),
    Bytes(Vec<u8>),
    Attributes(View),
    Names(Vec<(Vec<u8>, FileType)>),
    Lists(Vec<Vec<u8>>),
    Times((i64, i64), (i64, i64)),
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => write!(f, "nothing"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) if bytes.len() > 64 => write!(f, "{} bytes", bytes.len()),
            Self::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Attributes(view) => write!(f, "{view:?}"),
            Self::Names(names) => {
                let names: Vec<_> = names.iter().map(|(name, kind)| (name.escape_ascii().to_string(), kind)).collect();
                write!(f, "{names:?}")
            }
            Self::Lists(names) => {
                write!(f, "{:?}", names.iter().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>())
            }
            Self::Times(atime, mtime) => write!(f, "atime {atime:?} mtime {mtime:?}"),
        }
    }
}

/// Attributes that must be the same on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) mode: u32,
    pub(super) nlink: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// 0 for directories: every file system has its own idea.
    pub(super) size: u64,
}

impl View {
    pub(super) fn of(stat: &Stat) -> Self {
        let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        let size = if is_dir { 0 } else { stat.st_size as u64 };
        Self { mode: stat.st_mode, nlink: stat.st_nlink, uid: stat.st_uid, gid: stat.st_gid, size }
    }
}

/// When an inode changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps {
    ino: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Stamps {
    /// Whether mtime and ctime are other ones later; nothing when a name stands for another inode by then.
    pub(super) fn moved(self, later: Self) -> Option<[bool; 2]> {
        (self.ino == later.ino).then_some([self.mtime != later.mtime, self.ctime != later.ctime])
    }
}

/// A file that is open.
struct Opened {
    fd: OwnedFd,
    flags: OFlags,
    via: usize,
}

/// One directory, reached through one mount or several, and the files open below it.
pub(super) struct Side {
    roots: Vec<OwnedFd>,
    /// Which of the roots is used now.
    via: usize,
    slots: Vec<Option<Opened>>,
}

impl Side {
    pub(super) fn new(roots: &[PathBuf]) -> Self {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |root| rustix::fs::openat(CWD, root, flags, Mode::empty()).expect("open the root of a side");
        Self { roots: roots.iter().map(open).collect(), via: 0, slots: (0..SLOTS).map(|_| None).collect() }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.roots[self.via].as_fd()
    }

    /// Uses the next root from now on. What is open stays open where it was opened.
    pub(super) fn turn(&mut self) {
        self.via = (self.via + 1) % self.roots.len();
    }

    pub(super) fn slot(&self, slot: usize) -> Option<BorrowedFd<'_>> {
        self.slots[slot].as_ref().map(|opened| opened.fd.as_fd())
    }

    pub(super) fn flags(&self, slot: usize) -> Option<OFlags> {
        self.slots[slot].as_ref().map(|opened| opened.flags)
    }

    /// Was it opened through another root than the one used now?
    pub(super) fn is_away(&self, slot: usize) -> bool {
        self.slots[slot].as_ref().is_some_and(|opened| opened.via != self.via)
    }

    /// Attributes and time stamps of a path, not followed, or of an open regular file. (FUSE tells nobody that a FIFO is open, so
    /// an unnamed one is gone.)
    pub(super) fn look(&self, at: &Witness) -> Option<(View, Stamps)> {
        let stat = match at {
            Witness::Path(path) => rustix::fs::statat(self.root(), &path.0[..], AtFlags::SYMLINK_NOFOLLOW).ok()?,
            Witness::Slot(slot) => rustix::fs::fstat(self.slot(*slot)?).ok()?,
        };
        if matches!(at, Witness::Slot(_)) && !FileType::from_raw_mode(stat.st_mode).is_file() {
            return None;
        }
        let mtime = (stat.st_mtime, stat.st_mtime_nsec as i64);
        let ctime = (stat.st_ctime, stat.st_ctime_nsec as i64);
        Some((View::of(&stat), Stamps { ino: stat.st_ino, mtime, ctime }))
    }

    pub(super) fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open { slot, path, flags, mode } => {
                let fd = rustix::fs::openat(self.root(), &path.0[..], *flags, Mode::from_raw_mode(u32::from(*mode)))?;
                let view = View::of(&rustix::fs::fstat(&fd)?);
                self.slots[*slot] = Some(Opened { fd, flags: *flags, via: self.via });
                Ok(Value::Attributes(view))
            }
            Op::Close { slot } => {
                self.slots[*slot] = None;
                Ok(Value::Nothing)
            }
            Op::Read { .. }
            | Op::Write { .. }
            | Op::PRead { .. }
            | Op::PWrite { .. }
            | Op::MapWrite { .. }
            | Op::Copy { .. }
            | Op::SeekEnd { .. } => self.on_content(op),
            Op::SetLen { .. } | Op::Allocate { .. } | Op::Sync { .. } | Op::ChmodSlot { .. } | Op::TouchSlot { .. } => {
                self.on_open_file(op)
            }
            Op::Mkdir { .. }
            | Op::Rmdir { .. }
            | Op::Unlink { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::Symlink { .. }
            | Op::Mknod { .. } => self.on_name(op),
            _ => self.on_path(op),
        }
    }

    fn on_content(&self, op: &Op) -> Outcome {
        let fd = |slot: &usize| self.slot(*slot).ok_or(Errno::BADF);
        match op {
            Op::Read { slot, len } => {
                let mut buffer = Aligned::new(*len);
                let got = rustix::io::read(fd(slot)?, buffer.bytes())?;
                Ok(Value::Bytes(buffer.bytes()[..got].to_vec()))
            }
            Op::PRead { slot, offset, len } => {
                let mut buffer = Aligned::new(*len);
                let got = rustix::io::pread(fd(slot)?, buffer.bytes(), *offset)?;
                Ok(Value::Bytes(buffer.bytes()[..got].to_vec()))
            }
            Op::Write { slot, data } => {
                Ok(Value::Number(rustix::io::write(fd(slot)?, Aligned::of(&data.bytes()).bytes())? as u64))
            }
            Op::PWrite { slot, offset, data } => {
                Ok(Value::Number(rustix::io::pwrite(fd(slot)?, Aligned::of(&data.bytes()).bytes(), *offset)? as u64))
            }
            Op::MapWrite { slot, offset, len, at, data, is_shared, is_synced } => {
                let bytes = data.bytes();
                let (offset, len, at) = (*offset, *len, *at);
                let map = MapWrite { offset, len, at, bytes: &bytes, is_shared: *is_shared, is_synced: *is_synced };
                write_by_map(fd(slot)?, &map).map(Value::Bytes).map_err(errno)
            }
            Op::Copy { from, from_at, to, to_at, len } => copy(fd(from)?, *from_at, fd(to)?, *to_at, *len),
            // The end of a directory is whatever a file system likes.
            Op::SeekEnd { slot } if self.look(&Witness::Slot(*slot)).is_none() => Ok(Value::Nothing),
            Op::SeekEnd { slot } => Ok(Value::Number(rustix::fs::seek(fd(slot)?, SeekFrom::End(0))?)),
            _ => unreachable!("chosen by apply"),
        }
    }

    fn on_open_file(&self, op: &Op) -> Outcome {
        let fd = |slot: &usize| self.slot(*slot).ok_or(Errno::BADF);
        match op {
            Op::SetLen { slot, len } => rustix::fs::ftruncate(fd(slot)?, *len)?,
            Op::Allocate { slot, how, offset, len } => {
                let flags = match how {
                    Allocate::Grow => FallocateFlags::empty(),
                    Allocate::Keep => FallocateFlags::KEEP_SIZE,
                    Allocate::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    Allocate::Zero => FallocateFlags::ZERO_RANGE,
                    Allocate::ZeroKeep => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                };
                rustix::fs::fallocate(fd(slot)?, flags, *offset, *len)?;
            }
            Op::Sync { slot, data_only: true } => rustix::fs::fdatasync(fd(slot)?)?,
            Op::Sync { slot, data_only: false } => rustix::fs::fsync(fd(slot)?)?,
            Op::ChmodSlot { slot, .. } | Op::TouchSlot { slot, .. } if self.look(&Witness::Slot(*slot)).is_none() => {}
            Op::ChmodSlot { slot, mode } => rustix::fs::fchmod(fd(slot)?, Mode::from_raw_mode(u32::from(*mode)))?,
            Op::TouchSlot { slot, atime, mtime } => {
                rustix::fs::futimens(fd(slot)?, &times(*atime, *mtime))?;
                return Ok(times_of(&rustix::fs::fstat(fd(slot)?)?));
            }
            _ => unreachable!("chosen by apply"),
        }
        Ok(Value::Nothing)
    }

    fn on_name(&self, op: &Op) -> Outcome {
        let root = self.root();
        match op {
            Op::Mkdir { path, mode } => rustix::fs::mkdirat(root, &path.0[..], Mode::from_raw_mode(u32::from(*mode)))?,
            Op::Rmdir { path } => rustix::fs::unlinkat(root, &path.0[..], AtFlags::REMOVEDIR)?,
            Op::Unlink { path } => rustix::fs::unlinkat(root, &path.0[..], AtFlags::empty())?,
            Op::Rename { from, to, how } => {
                let flags = match how {
                    Renaming::Plain => RenameFlags::empty(),
                    Renaming::NoReplace => RenameFlags::NOREPLACE,
                    Renaming::Exchange => RenameFlags::EXCHANGE,
                };
                rustix::fs::renameat_with(root, &from.0[..], root, &to.0[..], flags)?;
            }
            Op::Link { from, to, follow } => {
                let flags = if *follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                rustix::fs::linkat(root, &from.0[..], root, &to.0[..], flags)?;
            }
            Op::Symlink { target, path } => rustix::fs::symlinkat(&target.0[..], root, &path.0[..])?,
            Op::Mknod { path, kind, mode } => {
                let kind = match kind {
                    NodeKind::File => FileType::RegularFile,
                    NodeKind::Fifo => FileType::Fifo,
                    NodeKind::Socket => FileType::Socket,
                };
                rustix::fs::mknodat(root, &path.0[..], kind, Mode::from_raw_mode(u32::from(*mode)), 0)?;
            }
            _ => unreachable!("chosen by apply"),
        }
        Ok(Value::Nothing)
    }

    fn on_path(&self, op: &Op) -> Outcome {
        let root = self.root();
        match op {
            Op::Readlink { path } => {
                Ok(Value::Bytes(rustix::fs::readlinkat(root, &path.0[..], Vec::new())?.into_bytes()))
            }
            Op::Chmod { path, mode } => {
                rustix::fs::chmodat(root, &path.0[..], Mode::from_raw_mode(u32::from(*mode)), AtFlags::empty())?;
                Ok(Value::Nothing)
            }
            Op::Chown { path, uid, gid, follow } => {
                let flags = if *follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                rustix::fs::chownat(root, &path.0[..], uid.map(Uid::from_raw), gid.map(Gid::from_raw), flags)?;
                Ok(Value::Nothing)
            }
            Op::Touch { path, atime, mtime, follow } => {
                let flags = if *follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                rustix::fs::utimensat(root, &path.0[..], &times(*atime, *mtime), flags)?;
                Ok(times_of(&rustix::fs::statat(root, &path.0[..], flags)?))
            }
            Op::Truncate { path, len } => {
                let fd = rustix::fs::openat(
                    root,
                    &path.0[..],
                    OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                rustix::fs::ftruncate(fd, *len)?;
                Ok(Value::Nothing)
            }
            Op::Stat { path } => {
                Ok(Value::Attributes(View::of(&rustix::fs::statat(root, &path.0[..], AtFlags::empty())?)))
            }
            Op::ReadDir { path } => Ok(Value::Names(names(root, path)?)),
            _ => self.on_xattr(op),
        }
    }

    /// By `/proc/self/fd`, because the calls know no directory to start from. Not followed: a link itself is asked.
    fn on_xattr(&self, op: &Op) -> Outcome {
        match op {
            Op::SetXattr { path, name, value, create, replace } => {
                let mut flags = XattrFlags::empty();
                flags.set(XattrFlags::CREATE, *create);
                flags.set(XattrFlags::REPLACE, *replace);
                rustix::fs::lsetxattr(self.full(path), *name, &value.bytes(), flags)?;
                Ok(Value::Nothing)
            }
            Op::GetXattr { path, name } => {
                let mut value = vec![0; 65_536];
                let len = rustix::fs::lgetxattr(self.full(path), *name, &mut value[..])?;
                Ok(Value::Bytes(value[..len].to_vec()))
            }
            Op::ListXattr { path } => Ok(Value::Lists(xattrs(&self.full(path))?)),
            Op::RemoveXattr { path, name } => {
                rustix::fs::lremovexattr(self.full(path), *name)?;
                Ok(Value::Nothing)
            }
            _ => unreachable!("chosen by apply"),
        }
    }

    /// A path from the root of the machine.
    pub(super) fn full(&self, path: &Path) -> CString {
        use std::os::fd::AsRawFd as _;
        let mut full = format!("/proc/self/fd/{}/", self.root().as_raw_fd()).into_bytes();
        full.extend_from_slice(&path.0);
        CString::new(full).expect("names have no NUL byte")
    }
}

/// Where attributes are looked at.
#[derive(Clone, Debug)]
pub(super) enum Witness {
    Path(Path),
    Slot(usize),
}

/// Names with their kinds, sorted, without the dots.
pub(super) fn names(root: BorrowedFd<'_>, path: &Path) -> Result<Vec<(Vec<u8>, FileType)>, Errno> {
    let fd =
        rustix::fs::openat(root, &path.0[..], OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push((name, entry.file_type()));
        }
    }
    names.sort_by(|one: &(Vec<u8>, _), other| one.0.cmp(&other.0));
    Ok(names)
}

/// Names of a path's attributes, sorted, without those that one of the two systems adds by itself.
pub(super) fn xattrs(full: &std::ffi::CStr) -> Result<Vec<Vec<u8>>, Errno> {
    let mut list = vec![0_u8; 65_536];
    let len = rustix::fs::llistxattr(full, &mut list[..])?;
    let names = list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with(b"security.")).map(<[u8]>::to_vec).collect();
    names.sort();
    Ok(names)
}

/// All of the range, as `cp` does: a single call may copy less. Inside one file the end may run away from a copy; it is left alone
/// then.
fn copy(from: BorrowedFd<'_>, from_at: u64, to: BorrowedFd<'_>, to_at: u64, len: usize) -> Outcome {
    let (mut from_at, mut to_at, mut left) = (from_at, to_at, len);
    for _ in 0..COPY_CALLS_MAX {
        match rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), left)? {
            0 => return Ok(Value::Number((len - left) as u64)),
            done => left -= done,
        }
        if left == 0 {
            break;
        }
    }
    Ok(Value::Number((len - left) as u64))
}

fn times(atime: (i64, i64), mtime: (i64, i64)) -> Timestamps {
    let spec = |(secs, nanos): (i64, i64)| Timespec { tv_sec: secs, tv_nsec: nanos };
    Timestamps { last_access: spec(atime), last_modification: spec(mtime) }
}

fn times_of(stat: &Stat) -> Value {
    Value::Times((stat.st_atime, stat.st_atime_nsec as i64), (stat.st_mtime, stat.st_mtime_nsec as i64))
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Memory that O_DIRECT takes.
struct Aligned {
    memory: Vec<u8>,
    at: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        let memory = vec![0; len + 4096];
        let at = memory.as_ptr().align_offset(4096);
        Self { memory, at, len }
    }

    fn of(bytes: &[u8]) -> Self {
        let mut aligned = Self::new(bytes.len());
        aligned.bytes().copy_from_slice(bytes);
        aligned
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.at..self.at + self.len]
    }
}
