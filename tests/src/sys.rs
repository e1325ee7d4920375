//! System calls that the standard library and rustix have no safe word for.
//!
//! Never retries and never hides an errno.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;

/// Maps `len` bytes at `offset` (a multiple of the page size) shared or private, writes `bytes` at `at` in the map, syncs a
/// shared one when asked, and returns what the map then shows.
///
/// # Errors
/// Those of mmap and msync. The range must lie inside the file: elsewhere the process gets SIGBUS.
pub fn write_by_map(fd: impl AsFd, map: &MapWrite<'_>) -> io::Result<Vec<u8>> {
    assert!(map.at + map.bytes.len() <= map.len, "a write inside the map");
    let how = if map.is_shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    let offset = libc::off_t::try_from(map.offset).map_err(io::Error::other)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), map.len, protection, how, fd.as_fd().as_raw_fd(), offset) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping has `len` bytes, which the caller promises to be inside the file, and lives until munmap below. Nobody
    // else has a reference to it; other processes may change the bytes of a shared one, which are plain numbers.
    let shown = unsafe {
        let memory = std::slice::from_raw_parts_mut(at.cast::<u8>(), map.len);
        memory[map.at..map.at + map.bytes.len()].copy_from_slice(map.bytes);
        memory.to_vec()
    };
    let mut synced = Ok(());
    // SAFETY: the mapping made above, and no reference to it is left.
    unsafe {
        if map.is_synced && libc::msync(at, map.len, libc::MS_SYNC) != 0 {
            synced = Err(io::Error::last_os_error());
        }
        libc::munmap(at, map.len);
    }
    synced.map(|()| shown)
}

/// A write by [`write_by_map`].
#[derive(Clone, Copy, Debug)]
pub struct MapWrite<'a> {
    /// Where the map begins in the file.
    pub offset: u64,
    /// Its length, inside the file.
    pub len: usize,
    /// Where the write begins in the map.
    pub at: usize,
    /// What is written.
    pub bytes: &'a [u8],
    /// MAP_SHARED, not MAP_PRIVATE.
    pub is_shared: bool,
    /// msync before munmap.
    pub is_synced: bool,
}

/// A byte-range lock of fcntl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeLock {
    /// Many may have it.
    Shared,
    /// One may have it.
    Exclusive,
    /// Gives it up.
    Unlock,
}

/// F_SETLK (or F_SETLKW with `waits`) on `len` bytes at `start`; 0 is to the end. Owned by the process.
///
/// # Errors
/// Those of fcntl: EAGAIN or EACCES when another has it.
pub fn lock_range(fd: impl AsFd, lock: RangeLock, (start, len): (i64, i64), waits: bool) -> io::Result<()> {
    set_lock(fd, lock, (start, len), if waits { libc::F_SETLKW } else { libc::F_SETLK })
}

/// As [`lock_range`], owned by the open file description.
///
/// # Errors
/// Those of fcntl.
pub fn lock_range_of_description(fd: impl AsFd, lock: RangeLock, range: (i64, i64), waits: bool) -> io::Result<()> {
    set_lock(fd, lock, range, if waits { libc::F_OFD_SETLKW } else { libc::F_OFD_SETLK })
}

fn set_lock(fd: impl AsFd, lock: RangeLock, (start, len): (i64, i64), command: i32) -> io::Result<()> {
    let kind = match lock {
        RangeLock::Shared => libc::F_RDLCK,
        RangeLock::Exclusive => libc::F_WRLCK,
        RangeLock::Unlock => libc::F_UNLCK,
    };
    let asked = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open for the call and `asked` outlives it.
    match unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), command, &raw const asked) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Shuts the file system at `path` down as a power cut does: nothing more reaches the disk, not even the journal.
///
/// # Errors
/// Those of the ioctl: not root, or a file system that cannot.
pub fn cut_power(path: &Path) -> io::Result<()> {
    /// `_IOR('X', 125, __u32)`.
    const FS_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587D;
    /// Does not flush the journal first.
    const NO_LOG_FLUSH: u32 = 2;
    let file = File::open(path)?;
    let how = NO_LOG_FLUSH;
    // SAFETY: the ioctl reads one u32, which outlives the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_SHUTDOWN, &raw const how) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Are we root?
#[must_use]
pub fn is_root() -> bool {
    rustix::process::getuid().is_root()
}
