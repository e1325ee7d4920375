//! The `dgfs` binary under test.
//!
//! Never tests a stale one: unless `DGFS_BIN` names a binary, Cargo builds it first, into the target directory and with the
//! profile of the tests themselves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a binary to be tested instead of the one that Cargo builds.
pub const VARIABLE: &str = "DGFS_BIN";

/// Where it is.
pub fn dgfs() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os(VARIABLE) {
        Some(named) => {
            let named = PathBuf::from(named);
            assert!(named.is_file(), "{VARIABLE} names {}, which is no file", named.display());
            named
        }
        None => build(),
    })
}

/// Long forms of the tests (`DGFS_LONG=1`): minutes to hours instead of seconds.
#[must_use]
pub fn is_long() -> bool {
    std::env::var("DGFS_LONG").is_ok_and(|value| value == "1")
}

/// Seconds from the environment, else the short or the long form's.
#[must_use]
pub fn seconds(variable: &str, short: u64, long: u64) -> std::time::Duration {
    let given = std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number of seconds")));
    std::time::Duration::from_secs(given.unwrap_or(if is_long() { long } else { short }))
}

fn build() -> PathBuf {
    // .../TARGET/PROFILE/deps/all-HASH
    let test = std::env::current_exe().expect("find the test binary");
    let profile_dir = test.parent().and_then(Path::parent).expect("the test binary lies in a target directory");
    let target = profile_dir.parent().expect("a profile lies in a target directory");
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--package", "dgfs-fuse", "--bin", "dgfs", "--target-dir"]).arg(target);
    if profile_dir.ends_with("release") {
        command.arg("--release");
    }
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("start cargo");
    assert!(output.status.success(), "dgfs does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    profile_dir.join("dgfs")
}
