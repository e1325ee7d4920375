//! A disk whose power can be cut: ext4 on a loop device that is shut down without flushing.
//!
//! Never loses what reached the device: what a cut loses is what the kernel still held back, also the journal's unwritten end.
//! Needs root and loop devices; says so otherwise.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::run;
use crate::scratch::{Scratch, thaw, unmount_lazily};
use crate::sys::{cut_power, is_root};

/// How long a tool may take.
const TOOL: Duration = Duration::from_secs(60);

/// A file system on a device of its own.
pub struct Disk {
    device: String,
    point: PathBuf,
    options: &'static str,
    _scratch: Scratch,
}

impl Disk {
    /// Makes an empty one of `mib` MiB and mounts it.
    #[must_use]
    pub fn new(mib: u64) -> Self {
        assert!(is_root(), "cutting the power of a disk needs root: run the tests as root");
        assert!(
            Path::new("/dev/loop-control").exists(),
            "there are no loop devices: modprobe loop, or run on a machine that has them"
        );
        let scratch = Scratch::new("disk");
        let image = scratch.join("image");
        Self::of_image(scratch, &image, mib, "rw")
    }

    /// As [`Self::new`], of a device whose bytes lie on this one. It turns read-only when its kernel finds an error.
    #[must_use]
    pub fn above(&self, mib: u64) -> Self {
        Self::of_image(Scratch::new("disk"), &self.point.join("image"), mib, "errors=remount-ro")
    }

    fn of_image(scratch: Scratch, image: &Path, mib: u64, options: &'static str) -> Self {
        let file = std::fs::File::create(image).expect("make the image of a disk");
        file.set_len(mib << 20).expect("set the size of a disk");
        tool("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_os_str()]);
        let device = tool("losetup", &["--find".as_ref(), "--show".as_ref(), image.as_os_str()]);
        let disk = Self { device: device.trim().to_owned(), point: scratch.dir("disk"), options, _scratch: scratch };
        disk.mount();
        disk
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Nothing more reaches the device; every call on the file system fails from now on.
    pub fn cut(&self) {
        cut_power(&self.point).expect("shut the file system down");
    }

    /// After [`Self::cut`], when nobody uses it any more: mounts it again, as a machine does that starts.
    pub fn power_on(&self) {
        tool("umount", &[self.point.as_os_str()]);
        self.mount();
    }

    /// The kernel finds an error in the file system.
    pub fn damage(&self) {
        let device = self.device.trim_start_matches("/dev/");
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        std::fs::write(trigger, "an error that a test made").expect("damage a file system");
    }

    /// After [`Self::damage`], when nobody uses it any more: checks it and mounts it again, as an operator does.
    pub fn check(&self) {
        tool("umount", &[self.point.as_os_str()]);
        let checked = run("e2fsck", &["-f", "-y", &self.device], TOOL);
        // 1: it was corrected.
        assert!(matches!(checked.status.code(), Some(0 | 1)), "e2fsck: {checked:?}");
        self.mount();
    }

    /// Whoever writes waits, until [`Self::thaw`].
    pub fn freeze(&self) {
        tool("fsfreeze", &["--freeze".as_ref(), self.point.as_os_str()]);
    }

    /// Lets those go on who wait.
    pub fn thaw(&self) {
        thaw(&self.point);
    }

    fn mount(&self) {
        let options = ["-o".as_ref(), self.options.as_ref()];
        let mount = ["-t".as_ref(), "ext4".as_ref(), self.device.as_ref(), self.point.as_os_str()];
        tool("mount", &[&options[..], &mount].concat());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount_lazily(&self.point);
        // The kernel gives the device up when its last user is gone.
        let _ = run("losetup", &["--detach", &self.device], TOOL);
    }
}

fn tool(program: &str, words: &[&OsStr]) -> String {
    run(program, words, TOOL).expect_success(program)
}
