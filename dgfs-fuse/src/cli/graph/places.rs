//! Which mount a command means.
//!
//! Never guesses: what does not lie on a mount is refused with its name.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::cli::args::graph::Where;
use crate::cli::graph::ask::Mount;
use crate::cli::graph::refused;

/// What `--in` says, or the current directory.
pub(crate) fn directory(place: &Where) -> PathBuf {
    place.dir.clone().unwrap_or_else(|| PathBuf::from("."))
}

/// The mount that a command without files asks.
pub(crate) fn mount_in(place: &Where) -> Result<Mount, Failure> {
    mount_of_directory(&directory(place))
}

/// The mount that `directory` lies on, asked from there.
pub(crate) fn mount_of_directory(directory: &Path) -> Result<Mount, Failure> {
    // A link to a directory on a mount is as good as the directory.
    Mount::at(&resolved(directory)?)
}

/// The mount that `path` lies on, asked from `path` or, where that is no directory, from the one that holds it.
pub(crate) fn mount_of(path: &Path) -> Result<Mount, Failure> {
    let path = resolved(path)?;
    if path.is_dir() {
        return Mount::at(&path);
    }
    Mount::at(path.parent().unwrap_or(Path::new("/")))
}

/// An absolute path without links.
pub(crate) fn resolved(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| refused(format!("{}: {error}", path.display())))
}

/// A file that a command names: what it is called there, and what a mount knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// As it was given.
    pub(crate) path: PathBuf,
    /// Its inode number.
    pub(crate) ino: u64,
    /// Its file system.
    pub(crate) device: u64,
}

/// Whether a link means itself or what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// What it leads to.
    Followed,
    /// Itself.
    Themselves,
}

impl Links {
    pub(crate) const fn new(no_dereference: bool) -> Self {
        if no_dereference { Self::Themselves } else { Self::Followed }
    }

    pub(crate) fn facts(self, path: &Path) -> std::io::Result<Metadata> {
        match self {
            Self::Followed => std::fs::metadata(path),
            Self::Themselves => std::fs::symlink_metadata(path),
        }
    }
}

impl Named {
    pub(crate) fn new(path: &Path, links: Links) -> Result<Self, Failure> {
        let facts = links.facts(path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), ino: facts.ino(), device: facts.dev() })
    }

    /// The mount it lies on, asked from its directory.
    pub(crate) fn mount(&self, links: Links) -> Result<Mount, Failure> {
        match links {
            Links::Followed => mount_of(&self.path),
            Links::Themselves => {
                let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
                mount_of_directory(parent.unwrap_or(Path::new(".")))
            }
        }
    }
}
