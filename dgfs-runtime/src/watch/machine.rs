//! What this process takes of its machine, from `/proc`.
//!
//! Never fails: what cannot be read is 0, which no healthy process has.

use std::ffi::CString;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The machine's name.
pub(crate) fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| String::new(), |name| name.trim().to_owned())
}

/// Files the process may have open: the soft limit; 0 where it cannot be told.
pub(crate) fn descriptors_max() -> u64 {
    let mut limit = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: `limit` is room for one rlimit and outlives the call.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) };
    // SAFETY: the structure was zeroed, and filled where the call succeeded.
    if status == 0 { unsafe { limit.assume_init() }.rlim_cur } else { 0 }
}

/// Files the process has open.
pub(crate) fn descriptors() -> u64 {
    // The directory that is read is one of them.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| (entries.count() as u64).saturating_sub(1))
}

/// Bytes of memory the process takes.
pub(crate) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Is the file system at `path` mounted read-only?
pub(crate) fn is_read_only(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` is a NUL-terminated string and `stat` is room for one statvfs; both outlive the call.
    let status = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
    // SAFETY: the structure was zeroed, and filled where the call succeeded.
    status == 0 && unsafe { stat.assume_init() }.f_flag & libc::ST_RDONLY != 0
}
