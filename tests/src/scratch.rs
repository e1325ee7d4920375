//! Directories of one test, and what is left of test runs that were killed.
//!
//! Never touches anything whose name does not begin with [`PREFIX`]. Always: a name carries the pid of its owner, so that a later
//! run knows whether the owner lives.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// Begins the name of every directory of a test.
pub const PREFIX: &str = "dgfs-test-";

/// A fresh directory that is removed with its owner, with all that is mounted below it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it below the directory for temporary files.
    #[must_use]
    pub fn new(what: &str) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{PREFIX}{what}-{}-{number}", std::process::id()));
        clear(&path);
        std::fs::create_dir_all(&path).expect("make a directory for the test");
        Self(path.canonicalize().expect("find the directory of the test"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path below it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A directory below it, made when missing.
    #[must_use]
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).expect("make a directory below the scratch directory");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("DGFS_KEEP").is_some() {
            eprintln!("DGFS_KEEP is set: {} stays", self.0.display());
            return;
        }
        clear(&self.0);
    }
}

/// Mount points below `path`, the deepest first.
#[must_use]
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut found: Vec<_> = points.filter(|point| point.starts_with(path)).collect();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    found
}

/// Lets those go on who wait for a frozen file system; nothing where it is not frozen.
pub fn thaw(point: &Path) {
    let _ = Command::new("fsfreeze").arg("--unfreeze").arg(point).output();
}

/// Takes a mount away whatever uses it.
pub fn unmount_lazily(point: &Path) {
    let _ = Command::new("umount").arg("-l").arg(point).output();
}

/// Removes `path` with what is mounted below it and the daemons that its `pids` files name.
fn clear(path: &Path) {
    if path.symlink_metadata().is_err() {
        return;
    }
    for point in mounts_below(path) {
        unmount_lazily(&point);
    }
    let _ = std::fs::remove_dir_all(path);
}

/// The pid in the name of a test's directory; none of another name.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.rsplit('-').nth(1)?.parse().ok()
}

fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Detaches loop devices whose image belonged to a test that is gone.
fn sweep_loop_devices() {
    let Ok(output) = Command::new("losetup").args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"]).output()
    else {
        return;
    };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((device, image)) = line.split_once(' ') else { continue };
        if image.split('/').find_map(owner).is_some_and(|pid| !lives(pid)) {
            let _ = Command::new("losetup").args(["--detach", device]).output();
        }
    }
}

/// Ends and removes what runs before this one left when they were killed.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    let is_left = |entry: &DirEntry| owner(&entry.file_name().to_string_lossy()).is_some_and(|pid| !lives(pid));
    let left: Vec<PathBuf> = entries.flatten().filter(is_left).map(|entry| entry.path()).collect();
    // All before one is killed: who waits for a frozen disk does not end.
    left.iter().flat_map(|path| mounts_below(path)).for_each(|point| thaw(&point));
    for path in left {
        kill_daemons_of(&path);
        clear(&path);
    }
    sweep_loop_devices();
}

/// Kills the daemons of clusters below a directory whose test is gone.
fn kill_daemons_of(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        let Ok(pids) = std::fs::read_to_string(entry.path().join("pids")) else { continue };
        for pid in pids.lines().filter_map(|line| line.split(' ').nth(1)?.parse().ok()) {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            // The number may be another process's by now.
            if String::from_utf8_lossy(&command).contains(&*path.to_string_lossy()) {
                crate::process::kill9(pid);
            }
        }
    }
}
