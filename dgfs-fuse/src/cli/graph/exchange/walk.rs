//! Every file below a directory, its own entries before those of its directories.
//!
//! Never follows a link, never leaves the mount, never recurses. What cannot be read is told, and the rest goes on.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::cli::graph::refused;

/// Something below the directory.
pub(super) struct Found<'a> {
    /// Where it is.
    pub(super) path: &'a Path,
    /// From the directory; the directory itself is `.`.
    pub(super) below: &'a Path,
    pub(super) facts: &'a Metadata,
}

/// Who is told.
pub(super) trait Visitor {
    /// Of everything that is found.
    fn found(&mut self, found: &Found<'_>) -> Result<(), Failure>;

    /// Of a directory that could not be read.
    fn unread(&mut self, sentence: String) -> Result<(), Failure>;
}

/// Visits `top` and everything below. Waiting directories are bounded by those there are; entries of one directory are sorted.
pub(super) fn walk(top: &Path, visitor: &mut impl Visitor) -> Result<(), Failure> {
    let facts = std::fs::metadata(top).map_err(|error| refused(format!("{}: {error}", top.display())))?;
    visitor.found(&Found { path: top, below: Path::new("."), facts: &facts })?;
    let device = facts.dev();
    let mut waiting: Vec<PathBuf> = if facts.is_dir() { vec![PathBuf::new()] } else { Vec::new() };
    while let Some(directory) = waiting.pop() {
        let names = match names(&top.join(&directory)) {
            Ok(names) => names,
            // Gone since it was found.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                visitor.unread(format!("{}: {error}", top.join(&directory).display()))?;
                continue;
            }
        };
        let mut inner = Vec::new();
        for name in names {
            let below = directory.join(name);
            let path = top.join(&below);
            let Ok(facts) = std::fs::symlink_metadata(&path) else { continue };
            visitor.found(&Found { path: &path, below: &below, facts: &facts })?;
            if facts.is_dir() && facts.dev() == device {
                inner.push(below);
            }
        }
        // Taken from the end: in order again.
        waiting.extend(inner.into_iter().rev());
    }
    Ok(())
}

fn names(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{Found, Visitor, walk};
    use crate::cli::Failure;

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Visitor for Seen {
        fn found(&mut self, found: &Found<'_>) -> Result<(), Failure> {
            self.0.push(found.below.display().to_string());
            Ok(())
        }

        fn unread(&mut self, sentence: String) -> Result<(), Failure> {
            panic!("{sentence}")
        }
    }

    #[test]
    fn everything_is_visited_once_and_links_are_not_followed() {
        let top = std::env::temp_dir().join(format!("dgfs-walk-{}", std::process::id()));
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::fs::create_dir_all(top.join("c")).unwrap();
        std::fs::write(top.join("a/b/f"), "").unwrap();
        std::os::unix::fs::symlink("..", top.join("c/up")).unwrap();
        let mut seen = Seen::default();
        let walked = walk(&top, &mut seen);
        std::fs::remove_dir_all(&top).unwrap();
        walked.unwrap();
        assert_eq!(seen.0, [".", "a", "c", "a/b", "a/b/f", "c/up"]);
        assert!(walk(&top, &mut Seen::default()).is_err());
    }
}
