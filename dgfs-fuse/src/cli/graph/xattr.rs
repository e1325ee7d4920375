//! Extended attributes of files on a mount: tags, comments, ratings.
//!
//! Never follows a link: whoever means what it leads to resolves it first.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::cli::files::read_attribute;

/// The tags of a file, a comma list.
pub(crate) const TAGS: &str = "user.xdg.tags";
/// What a person wrote about it.
pub(crate) const COMMENT: &str = "user.xdg.comment";
/// 0 to 10.
pub(crate) const RATING: &str = "user.baloo.rating";
/// What taggers say, as JSON.
pub(crate) const AUTOMATIC: &str = "user.dgfs.tags.auto";
/// Relations, as JSON.
pub(crate) const RELATIONS: &str = "user.dgfs.relations";

/// The value; none where it is not set, or cannot be set.
pub(crate) fn get(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    match read_attribute(path, name) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets it.
pub(crate) fn set(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes())?, CString::new(name)?);
    // SAFETY: both strings end in NUL, and the value has the length given; all outlive the call.
    let code = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Removes it; that it is not there is no error.
pub(crate) fn remove(path: &Path, name: &str) -> io::Result<()> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes())?, CString::new(name)?);
    // SAFETY: both strings end in NUL and outlive the call.
    let code = unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) };
    match io::Error::last_os_error() {
        error if code != 0 && error.raw_os_error() != Some(libc::ENODATA) => Err(error),
        _ => Ok(()),
    }
}
