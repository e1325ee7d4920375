//! `dgfs policy ls`: the directories below a path that have a policy of their own.
//!
//! Never follows symlinks, never leaves the mount. What may not be read is named, and the rest is listed.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{AVAILABILITY, COMPRESSION, REDUNDANCY, canonical, class_of, compression_of, own};
use crate::cli::Failure;

/// One directory.
struct Found {
    path: PathBuf,
    class: Option<String>,
    compression: Option<String>,
    /// Per cent, when the class follows from a target.
    availability: Option<String>,
}

/// Runs the command.
pub(super) fn run(path: &Path, json: bool) -> Result<(), Failure> {
    let path = canonical(path)?;
    let (class, compression) = (class_of(&path)?, compression_of(&path)?);
    let (found, unread) = below(&path)?;
    if json {
        let line = |found: &Found| {
            json!({ "path": found.path, "redundancy": found.class, "availability": found.availability,
                    "compression": found.compression })
        };
        let own: Vec<_> = found.iter().map(line).collect();
        println!(
            "{}",
            json!({ "path": path, "redundancy": class.word, "from": class.from, "compression": compression.word,
                    "compression_from": compression.from, "own": own })
        );
    } else {
        let from = if class.from == compression.from {
            format!("set for {}", class.from)
        } else {
            format!("set for {} and {}", class.from, compression.from)
        };
        println!("{:<10} {:<5} {} ({from})", class.word, compression.word, path.display());
        for Found { path, class, compression, availability } in found.iter().filter(|found| found.path != path) {
            let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
            let why = availability.as_ref().map(|percent| format!(" (for {percent} %)")).unwrap_or_default();
            println!("{:<10} {:<5} {}{why}", word(class), word(compression), path.display());
        }
    }
    match unread.as_slice() {
        [] => Ok(()),
        [first, rest @ ..] => Err(Failure::new(match rest.len() {
            0 => format!("{first}: what lies below is not listed"),
            more => format!("{first}, and {more} directories more: what lies below is not listed"),
        })),
    }
}

/// Directories at and below `top` with a policy of their own, by path; and those that could not be read.
fn below(top: &Path) -> Result<(Vec<Found>, Vec<String>), Failure> {
    let device = std::fs::symlink_metadata(top).map_err(Failure::new)?.dev();
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let (class, availability) = (own(&path, REDUNDANCY), own(&path, AVAILABILITY));
        let class = class.or_else(|| availability.as_ref().and_then(|_| own(&path, "dgfs.policy")));
        let compression = own(&path, COMPRESSION);
        if class.is_some() || compression.is_some() {
            found.push(Found { path: path.clone(), class, compression, availability });
        }
        match directories(&path, device) {
            Ok(directories) => waiting.extend(directories),
            // Gone since its parent was read, or no directory.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(error) => unread.push(format!("{}: {error}", path.display())),
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((found, unread))
}

fn directories(path: &Path, device: u64) -> std::io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.metadata().is_ok_and(|facts| facts.dev() == device) {
            all.push(entry.path());
        }
    }
    Ok(all)
}
