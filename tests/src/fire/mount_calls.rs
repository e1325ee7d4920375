//! System calls on a mount, and whether one that failed may be made again.
//!
//! Never retries. Always: an error names the call and its path.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

use crate::process::spawn;

/// The attribute that holds a file's tags.
const TAGS: &str = "user.xdg.tags";
/// Bytes of an attribute at most: the kernel's own bound.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// How a call failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The index did not answer in time: it may have happened or not.
    Unanswered,
    /// This says the system.
    Refused(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ETIMEDOUT) => Self::Unanswered,
            _ => Self::Refused(error),
        }
    }
}

impl From<Errno> for Failed {
    fn from(error: Errno) -> Self {
        Self::from(io::Error::from(error))
    }
}

impl Failed {
    /// It is this one.
    pub(super) fn is(&self, errno: i32) -> bool {
        matches!(self, Self::Refused(error) if error.raw_os_error() == Some(errno))
    }
}

/// Tags that the metadata have of a file.
pub(super) fn tags(path: &Path) -> io::Result<BTreeSet<String>> {
    let listed = match attribute(path, TAGS) {
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => String::new(),
        listed => listed?,
    };
    Ok(listed.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect())
}

/// Replaces the tags of a file.
pub(super) fn set_tags(path: &Path, tags: &BTreeSet<String>) -> Result<(), Failed> {
    let list = tags.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    Ok(setxattr(path, TAGS, list.as_bytes(), XattrFlags::empty())?)
}

/// An attribute as text.
pub(super) fn attribute(path: &Path, name: &str) -> io::Result<String> {
    let mut value = vec![0; VALUE_BYTES_MAX];
    let len = getxattr(path, name, &mut value)?;
    value.truncate(len);
    String::from_utf8(value).map_err(io::Error::other)
}

/// Runs a program; not zero is a failure, one that says "timed out" is none that counts.
pub(super) fn program(name: &Path, words: &[&str]) -> Result<(), Failed> {
    let mut command = Command::new(name);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = spawn(command).and_then(std::process::Child::wait_with_output)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        // What is not there any more was taken off, by this call the first time or by another mount.
        false if errors.lines().all(|line| line.contains("does not carry")) => Ok(()),
        false if errors.contains("timed out") => Err(Failed::Unanswered),
        false => Err(Failed::Refused(io::Error::other(format!("{}: {errors}", output.status)))),
    }
}

/// A tag as a component of a path below `.tags`.
pub(super) fn component(tag: &str) -> String {
    let escape = |letter: char| match letter {
        '/' | '%' | '=' => format!("%{:02X}", letter as u32),
        _ => letter.to_string(),
    };
    tag.chars().map(escape).collect()
}
