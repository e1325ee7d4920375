//! What must be true before a mount, each with a sentence when it is not.
//!
//! Never mounts. The only thing it changes: a dead mount (its daemon was killed) is taken away.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dgfs_runtime::disk::disk_space;

use crate::mount::MountError;
use crate::mount::table::{absolute, mounted_at};
use crate::mount::unmount::{How, unmount};

/// Checks the mount point and the machine; the absolute path of the mount point.
///
/// # Errors
/// See [`MountError`].
pub fn prepare(path: &Path, may_be_nonempty: bool) -> Result<PathBuf, MountError> {
    let mut at = absolute(path).map_err(|source| unreadable(path, source))?;
    remove_dead_mount(&at)?;
    let meta = std::fs::symlink_metadata(&at).map_err(|source| unreadable(&at, source))?;
    if meta.is_symlink() {
        at = at.canonicalize().map_err(|source| unreadable(path, source))?;
        remove_dead_mount(&at)?;
    }
    if !std::fs::metadata(&at).map_err(|source| unreadable(&at, source))?.is_dir() {
        return Err(MountError::NotDirectory(at));
    }
    if let Ok(Some(mount)) = mounted_at(&at) {
        return Err(MountError::Mounted { path: at, by: format!("{} from {}", mount.kind, mount.source) });
    }
    let mut entries = std::fs::read_dir(&at).map_err(|source| unreadable(&at, source))?;
    if !may_be_nonempty && entries.next().is_some() {
        return Err(MountError::NotEmpty(at));
    }
    check_machine()?;
    Ok(at)
}

/// Takes away a mount whose daemon is gone ("transport endpoint is not connected").
fn remove_dead_mount(at: &Path) -> Result<(), MountError> {
    // Not stat: the kernel may answer it from its cache for a process that is long gone.
    let Err(error) = disk_space(at) else { return Ok(()) };
    let dead = matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED));
    let ours = matches!(mounted_at(at), Ok(Some(mount)) if mount.kind.starts_with("fuse"));
    if !dead || !ours {
        return Ok(());
    }
    tracing::warn!(path = %at.display(), "taking away a mount whose process is gone");
    unmount(at, How::Lazy).map_err(|source| MountError::Refused { path: at.to_owned(), source })
}

fn check_machine() -> Result<(), MountError> {
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => {}
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)) => {
            return Err(MountError::NoDevice);
        }
        // fusermount3 opens it with the rights of the user, too.
        Err(error) => return Err(MountError::DeviceRefused(error)),
    }
    if !is_root() && find_helper().is_none() { Err(MountError::NoHelper) } else { Ok(()) }
}

/// Runs this process as root?
#[must_use]
pub fn is_root() -> bool {
    own_uid() == 0
}

/// The user this process acts as: of a mount, who mounted.
#[must_use]
pub fn own_uid() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Where fusermount3 is.
#[must_use]
pub fn find_helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .filter(|directory| directory.as_os_str().as_bytes().starts_with(b"/"))
        .chain(usual)
        .map(|directory| directory.join("fusermount3"))
        .find(|candidate| candidate.is_file())
}

fn unreadable(path: &Path, source: io::Error) -> MountError {
    if source.kind() == io::ErrorKind::NotFound {
        MountError::Missing(path.to_owned())
    } else {
        MountError::Unreadable { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::prepare;
    use crate::mount::MountError;

    #[test]
    fn a_missing_directory_is_named_with_its_remedy() {
        let error = prepare(Path::new("/nowhere/at/all"), false).unwrap_err();
        assert!(matches!(error, MountError::Missing(_)));
        assert!(error.to_string().contains("mkdir -p"), "{error}");
    }

    #[test]
    fn a_file_is_no_mount_point() {
        let error = prepare(Path::new("/proc/self/status"), false).unwrap_err();
        assert!(matches!(error, MountError::NotDirectory(_)), "{error}");
    }

    #[test]
    fn what_is_mounted_is_named() {
        let error = prepare(Path::new("/proc"), false).unwrap_err();
        assert!(error.to_string().contains("proc from proc"), "{error}");
    }

    #[test]
    fn a_directory_with_entries_is_refused_unless_asked_for() {
        let directory = std::env::temp_dir().join(format!("dgfs-checks-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("entry")).unwrap();
        assert!(matches!(prepare(&directory, false), Err(MountError::NotEmpty(_))));
        assert!(!matches!(prepare(&directory, true), Err(MountError::NotEmpty(_))));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
