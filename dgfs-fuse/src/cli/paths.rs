//! Where things lie when nobody says so, and who this machine is.
//!
//! Never makes anything. The only place that reads the environment.

use std::path::PathBuf;

use crate::cli::Failure;
use crate::mount::checks::is_root;

/// The embedded volume of this user.
pub(crate) fn default_data_dir() -> Result<PathBuf, Failure> {
    if is_root() {
        return Ok(PathBuf::from("/var/lib/dgfs"));
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("dgfs"))
        .ok_or_else(|| Failure::new("neither XDG_DATA_HOME nor HOME is set: give --data-dir"))
}

/// Where what lives no longer than the machine's uptime lies, this user's alone; none when there is no such place.
pub(crate) fn runtime_dir() -> Option<PathBuf> {
    if is_root() {
        return Some(PathBuf::from("/run/dgfs"));
    }
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .map(|path| path.join("dgfs"))
}

/// The level of the log, if the user set one.
pub(crate) fn log_level() -> Option<String> {
    std::env::var("RUST_LOG").ok()
}

/// This machine's name.
pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
