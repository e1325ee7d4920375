//! The mount point: checks before, the mount itself, and how it ends.
//!
//! Never answers a request and never opens a volume.
//! Reading order: [`options`] → [`checks`] → [`device`] → [`table`] → [`unmount`].

pub mod checks;
pub mod device;
pub mod options;
pub mod table;
pub mod unmount;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a directory could not be mounted on. Each is a sentence with its remedy.
#[derive(Debug, Error)]
pub enum MountError {
    /// Nothing there.
    #[error("{} does not exist: make it with mkdir -p", .0.display())]
    Missing(PathBuf),
    /// A file.
    #[error("{} is not a directory: name a directory to mount on", .0.display())]
    NotDirectory(PathBuf),
    /// Has entries.
    #[error("{} is not empty and the mount would hide what is in it: name an empty directory, or give -o nonempty", .0.display())]
    NotEmpty(PathBuf),
    /// Something is mounted there.
    #[error("{} is a mount point already ({by}): unmount it first (dgfs umount PATH), or name another directory", path.display())]
    Mounted {
        /// Where.
        path: PathBuf,
        /// What.
        by: String,
    },
    /// The kernel offers no FUSE.
    #[error(
        "there is no /dev/fuse: load the module (modprobe fuse), or run the container with --device /dev/fuse --cap-add SYS_ADMIN"
    )]
    NoDevice,
    /// `/dev/fuse` may not be opened.
    #[error(
        "/dev/fuse cannot be opened ({0}): run as root, or give all users access to it, as distributions do: chmod 666 /dev/fuse"
    )]
    DeviceRefused(io::Error),
    /// An ordinary user without the helper.
    #[error("only root may mount by itself, and fusermount3 is not installed: apt-get install fuse3, or run as root")]
    NoHelper,
    /// fusermount3 said no.
    #[error("fusermount3 refused: {0}")]
    HelperRefused(String),
    /// The kernel said no.
    #[error("mounting on {} failed: {source}", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory could not be looked at.
    #[error("{} cannot be looked at: {source}", path.display())]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
