//! Files that survive a power cut: sync, atomic replacement, directory locks.
//!
//! The only place of the system that may fsync or rename. Never knows what a
//! file holds. Always: when a function here returns `Ok`, what it promises is
//! on the disk; every call blocks, so async code runs it on a blocking thread.

use std::ffi::{CString, OsStr};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Ends the name of a file that is being written and not yet in place.
const TEMPORARY_SUFFIX: &str = ".tmp";
/// The lock file of a directory.
const LOCK_FILE: &str = "lock";
/// Bytes of a lock file read for "who has it": more is not a name.
const HOLDER_BYTES_MAX: u64 = 256;

/// Waits until the bytes and the length of `file` are on the disk.
///
/// # Errors
/// Those of `fdatasync`; after one the state of the file's unsynced bytes is unknown.
pub fn sync_file(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// Waits until the names inside `directory` are on the disk.
///
/// # Errors
/// Those of `open` and `fsync`.
pub fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Replaces the file at `path` by `bytes` (mode 0644); a reader or a power cut sees the old file or the new one.
///
/// # Errors
/// Those of the file system; the old file is then still in place.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomically_with_mode(path, bytes, 0o644)
}

/// As [`write_atomically`], with permission bits `mode` from the first moment on.
///
/// # Errors
/// Those of the file system; the old file is then still in place.
pub fn write_atomically_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_of(path)?;
    // A left-over of a crash may carry other permissions, so it is not reused.
    match std::fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    rename_durably(&temporary, path)
}

/// Makes an empty file that was not there (mode 0600) and waits until its name is on the disk: of all who try the same
/// name, on all machines that share the directory, one succeeds.
///
/// # Errors
/// `AlreadyExists` for all others; those of the file system, after which the file may be there or not.
pub fn claim_name_durably(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.sync_all()?;
    sync_dir(directory_of(path))
}

/// Renames `from` to `to` and waits until the directory of `to` is on the disk.
///
/// # Errors
/// Those of `rename` and of the directory's sync.
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_dir(directory_of(to))
}

/// Renames without syncing anything, for what can be had again (caches): after a power cut the name may lead to the old file, to
/// the new one, or to one without its bytes, so its content must prove itself.
///
/// # Errors
/// Those of rename(2).
pub fn rename_undurably(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

/// Makes `directory` and its parents where missing (mode 0700) and waits until their names are on the disk.
///
/// # Errors
/// Those of the file system.
pub fn create_dir_durably(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory_of(directory);
    create_dir_durably(parent)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => sync_dir(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn temporary_of(path: &Path) -> io::Result<PathBuf> {
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let mut name = name.to_owned();
    name.push(OsStr::new(TEMPORARY_SUFFIX));
    Ok(path.with_file_name(name))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Room of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Its size.
    pub capacity_bytes: u64,
    /// What a process without privileges may still write.
    pub free_bytes: u64,
}

/// The room of the file system that `path` lies on.
///
/// # Errors
/// Those of `statvfs`.
pub fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let path = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the path holds a NUL byte"))?;
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` is a NUL-terminated string and `stat` is room for one statvfs; both outlive the call.
    let status = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statvfs succeeded, so it filled the structure (and it was zeroed before).
    let stat = unsafe { stat.assume_init() };
    let block_bytes = stat.f_frsize;
    Ok(DiskSpace {
        capacity_bytes: block_bytes.saturating_mul(stat.f_blocks),
        free_bytes: block_bytes.saturating_mul(stat.f_bavail),
    })
}

/// Why a directory could not be locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by {holder}: stop that process, or name another directory", directory.display())]
    Held {
        /// Which directory.
        directory: PathBuf,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// The lock file could not be opened, written or locked.
    #[error("lock {}: {source}", directory.display())]
    Io {
        /// Which directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// One process's hold on a directory, given back when it is dropped or the process ends in any way.
#[derive(Debug)]
pub struct DirectoryLock {
    // The lock lives as long as this open file description.
    _file: File,
}

impl DirectoryLock {
    /// Locks `directory` for this process; `holder` says who it is, for whoever comes second. Never waits.
    ///
    /// # Errors
    /// `Held` when another process has it, `Io` when the file system refuses.
    pub fn acquire(directory: &Path, holder: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { directory: directory.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(LOCK_FILE))
            .map_err(failed)?;
        if !try_flock(&file).map_err(failed)? {
            let holder = read_holder(&mut file).map_err(failed)?;
            return Err(LockError::Held { directory: directory.to_owned(), holder });
        }
        write_holder(&mut file, holder).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn try_flock(file: &File) -> io::Result<bool> {
    // SAFETY: the descriptor belongs to `file`, which is open for the whole call.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) }
}

fn read_holder(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(HOLDER_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(if text.is_empty() { "a process that has not said its name".to_owned() } else { text })
}

fn write_holder(file: &mut File, holder: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    // The name is for people and worthless after a crash: it is not synced.
    writeln!(file, "{holder} (process {})", std::process::id())
}

/// The permission bits of the file at `path`.
///
/// # Errors
/// Those of `stat`.
pub fn mode_of(path: &Path) -> io::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests;
