//! Compares the two directories whole.
//!
//! Never changes anything but access times.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::op::{Path, SLOTS};
use super::side::{Side, View, names, xattrs};

/// Read at once when contents are compared.
const PIECE: usize = 1 << 20;
/// Renames carry directories deeper than one path can name (PATH_MAX, with the root before it): those are compared by name only.
const PATH_BYTES_MAX: usize = 3800;

/// The first difference of the trees and of the open files, or none.
pub(super) fn difference(mount: &Side, reference: &Side) -> Option<String> {
    let mut inodes = Identities::default();
    for slot in 0..SLOTS {
        let (Some(left), Some(right)) = (mount.slot(slot), reference.slot(slot)) else { continue };
        if !rustix::fs::fstat(right).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file()) {
            continue;
        }
        let found = match (reopen(left), reopen(right)) {
            (Ok(left), Ok(right)) => open_files(left.as_fd(), right.as_fd()),
            (left, right) => Some(format!("opened again: {left:?}, {right:?}")),
        };
        if let Some(found) = found {
            return Some(format!("open file {slot}: {found}"));
        }
    }
    directory(mount, reference, &Path(b".".to_vec()), &mut inodes)
}

/// The same file for reading, also when it has no name any more: the slot may be for writing only, or O_DIRECT.
fn reopen(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Which inode of the mount is which of the reference.
#[derive(Default)]
struct Identities {
    of_mount: BTreeMap<u64, u64>,
    of_reference: BTreeMap<u64, u64>,
}

impl Identities {
    fn fit(&mut self, mount: u64, reference: u64) -> bool {
        *self.of_mount.entry(mount).or_insert(reference) == reference
            && *self.of_reference.entry(reference).or_insert(mount) == mount
    }
}

fn directory(mount: &Side, reference: &Side, path: &Path, inodes: &mut Identities) -> Option<String> {
    let (left, right) = (names(mount.root(), path), names(reference.root(), path));
    if left != right {
        return Some(format!("entries of {path:?}: {left:?} on the mount, {right:?} on the reference"));
    }
    for (name, kind) in left.ok()? {
        let below = Path([&path.0[..], b"/", &name].concat());
        if below.0.len() > PATH_BYTES_MAX {
            continue;
        }
        if let Some(found) = entry(mount, reference, &below, kind, inodes) {
            return Some(found);
        }
        if kind.is_dir()
            && let Some(found) = directory(mount, reference, &below, inodes)
        {
            return Some(found);
        }
    }
    None
}

fn entry(mount: &Side, reference: &Side, path: &Path, kind: FileType, inodes: &mut Identities) -> Option<String> {
    let stat = |side: &Side| rustix::fs::statat(side.root(), &path.0[..], AtFlags::SYMLINK_NOFOLLOW);
    let (Ok(left), Ok(right)) = (stat(mount), stat(reference)) else {
        return Some(format!("{path:?} cannot be looked at"));
    };
    let (left_view, right_view) = (View::of(&left), View::of(&right));
    if left_view != right_view {
        return Some(format!("attributes of {path:?}: {left_view:?} on the mount, {right_view:?} on the reference"));
    }
    if FileType::from_raw_mode(left.st_mode) != kind {
        return Some(format!("{path:?} is a {kind:?} in its directory and not by itself"));
    }
    if !inodes.fit(left.st_ino, right.st_ino) {
        return Some(format!("{path:?}: another set of names shares the inode"));
    }
    let (left_names, right_names) = (xattrs(&mount.full(path)), xattrs(&reference.full(path)));
    if left_names != right_names {
        return Some(format!("attribute names of {path:?}: {left_names:?}, {right_names:?}"));
    }
    for name in left_names.into_iter().flatten() {
        let (left, right) = (xattr(mount, path, &name), xattr(reference, path, &name));
        if left != right {
            return Some(format!("attribute {} of {path:?}: {left:?}, {right:?}", name.escape_ascii()));
        }
    }
    if kind.is_symlink() {
        let target = |side: &Side| rustix::fs::readlinkat(side.root(), &path.0[..], Vec::new());
        let (left, right) = (target(mount), target(reference));
        return (left != right).then(|| format!("target of {path:?}: {left:?}, {right:?}"));
    }
    if kind.is_file() {
        let open = |side: &Side| {
            rustix::fs::openat(
                side.root(),
                &path.0[..],
                OFlags::RDONLY | OFlags::NOATIME | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        return match (open(mount), open(reference)) {
            (Ok(left), Ok(right)) => open_files(left.as_fd(), right.as_fd()).map(|found| format!("{path:?}: {found}")),
            (left, right) => Some(format!("open {path:?}: {left:?}, {right:?}")),
        };
    }
    None
}

fn xattr(side: &Side, path: &Path, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 65_536];
    let len = rustix::fs::lgetxattr(side.full(path), name, &mut value[..])?;
    value.truncate(len);
    Ok(value)
}

/// The first difference in size or content; also a hole of the mount that is not zeros.
fn open_files(mount: BorrowedFd<'_>, reference: BorrowedFd<'_>) -> Option<String> {
    let (Ok(left), Ok(right)) = (rustix::fs::fstat(mount), rustix::fs::fstat(reference)) else {
        return Some("cannot be looked at".to_owned());
    };
    if View::of(&left) != View::of(&right) {
        return Some(format!("{:?} on the mount, {:?} on the reference", View::of(&left), View::of(&right)));
    }
    if !FileType::from_raw_mode(left.st_mode).is_file() {
        return None;
    }
    let (mut one, mut other) = (vec![0; PIECE], vec![0; PIECE]);
    let mut offset = 0;
    loop {
        let (got, expected) = (pread(mount, &mut one, offset), pread(reference, &mut other, offset));
        let (Ok(got), Ok(expected)) = (got, expected) else {
            return Some(format!("read at {offset}: {got:?}, {expected:?}"));
        };
        if one[..got] != other[..expected] {
            let at = one[..got].iter().zip(&other[..expected]).position(|(left, right)| left != right);
            let at = offset + at.unwrap_or(got.min(expected)) as u64;
            return Some(format!("content differs at byte {at} of {}", right.st_size));
        }
        if got == 0 {
            break;
        }
        offset += got as u64;
    }
    holes(mount, right.st_size as u64)
}

fn pread(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(fd, &mut buffer[done..], offset + done as u64)? {
            0 => break,
            got => done += got,
        }
    }
    Ok(done)
}

/// What SEEK_HOLE calls a hole must read as zeros, and data and holes must take turns up to the end.
fn holes(fd: BorrowedFd<'_>, size: u64) -> Option<String> {
    // The position is the test's own business: it is put back.
    let position = rustix::fs::tell(fd).ok()?;
    let found = holes_from(fd, size);
    rustix::fs::seek(fd, SeekFrom::Start(position)).ok()?;
    found
}

fn holes_from(fd: BorrowedFd<'_>, size: u64) -> Option<String> {
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => size,
            Err(error) => return Some(format!("SEEK_DATA at {at} of {size}: {error}")),
        };
        if data < at || data > size {
            return Some(format!("SEEK_DATA at {at} of {size} answers {data}"));
        }
        if !is_zero(fd, at, data) {
            return Some(format!("{at}..{data} is called a hole and is not zeros"));
        }
        if data == size {
            return None;
        }
        match rustix::fs::seek(fd, SeekFrom::Hole(data)) {
            Ok(hole) if hole > data && hole <= size => at = hole,
            other => return Some(format!("SEEK_HOLE at {data} of {size} answers {other:?}")),
        }
    }
    None
}

fn is_zero(fd: BorrowedFd<'_>, from: u64, to: u64) -> bool {
    let mut piece = vec![0; PIECE];
    let mut at = from;
    while at < to {
        let want = ((to - at) as usize).min(PIECE);
        match pread(fd, &mut piece[..want], at) {
            Ok(got) if got > 0 && piece[..got].iter().all(|byte| *byte == 0) => at += got as u64,
            Ok(_) | Err(_) => return false,
        }
    }
    true
}
