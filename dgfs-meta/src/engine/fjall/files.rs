//! The files around an embedded engine: its directory, its journals, the room on its disk.
//!
//! Never opens the database. Always true: a name given by a rename is on disk before
//! its maker goes on.

use std::io;
use std::path::{Path, PathBuf};

use dgfs_runtime::disk::sync_dir;

use crate::engine::EngineError;

pub(super) fn io_error(step: &str, dir: &Path, error: &io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineError::NoSpace,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => EngineError::Damaged(format!(
            "cannot {step} {}: {error}; restore it from a backup, or check the disk",
            dir.display()
        )),
        _ => EngineError::Unavailable(format!("cannot {step} {}: {error}", dir.display())),
    }
}

pub(super) fn holds_anything(dir: &Path) -> Result<bool, EngineError> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("look into", dir, &error)),
    }
}

/// Where a new engine is made before it gets its name.
pub(super) fn making_dir(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".making");
    PathBuf::from(name)
}

pub(super) fn remove_leftover(dir: &Path) -> Result<(), EngineError> {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("remove the leftover of an interrupted format,", dir, &error)),
    }
}

pub(super) fn sync_parent(dir: &Path) -> Result<(), EngineError> {
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync_dir(parent).map_err(|error| io_error("sync", parent, &error))
}

/// Bytes that may still be written to the disk of `dir`.
pub(super) fn free_bytes(dir: &Path) -> Result<u64, EngineError> {
    let room = rustix::fs::statvfs(dir).map_err(|error| io_error("ask for the free space of", dir, &error.into()))?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// Bytes of the whole disk of `dir`.
pub(super) fn disk_bytes(dir: &Path) -> Result<u64, EngineError> {
    let room = rustix::fs::statvfs(dir).map_err(|error| io_error("ask for the size of", dir, &error.into()))?;
    Ok(room.f_blocks.saturating_mul(room.f_frsize))
}
