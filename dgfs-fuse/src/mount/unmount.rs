//! Takes a mount away.
//!
//! Never waits for the process behind it.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::mount::checks::find_helper;

/// How a busy mount is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Refused (EBUSY).
    WhenIdle,
    /// Taken out of the tree now; it ends when the last user lets go.
    Lazy,
}

/// Unmounts `path`, by the kernel or, for an ordinary user, by fusermount3.
///
/// # Errors
/// Busy, not a mount, or not allowed.
pub fn unmount(path: &Path, how: How) -> io::Result<()> {
    let target = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let flags = libc::UMOUNT_NOFOLLOW | if how == How::Lazy { libc::MNT_DETACH } else { 0 };
    // SAFETY: `target` is a string that ends in NUL and outlives the call.
    if unsafe { libc::umount2(target.as_ptr(), flags) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match (error.raw_os_error(), find_helper()) {
        (Some(libc::EPERM), Some(helper)) => by_helper(&helper, path, how),
        _ => Err(error),
    }
}

fn by_helper(helper: &Path, path: &Path, how: How) -> io::Result<()> {
    let mut command = Command::new(helper);
    command.arg("-u").stdin(Stdio::null());
    if how == How::Lazy {
        command.arg("-z");
    }
    let output = command.arg("--").arg(path).output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if words.contains("busy") { Err(io::Error::from_raw_os_error(libc::EBUSY)) } else { Err(io::Error::other(words)) }
}
