//! A mount by the real program in a process of its own.
//!
//! Never shares a process with the test: it can be killed. Always gone after the test: asked to end, killed if it does not, and
//! taken out of the tree.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::network::Place;
use crate::process::{self, Outcome, kill9, log_file, run, spawn, tail};
use crate::program::dgfs;
use crate::scratch::{Scratch, mounts_below, unmount_lazily};

/// How long a mount may take to appear. Recovery after a crash is part of it.
const APPEARS: Duration = Duration::from_secs(180);
/// How long an orderly end may take.
const ENDS: Duration = Duration::from_secs(180);
/// How long taggers may take with what a test wrote.
const TAGGED: Duration = Duration::from_secs(120);
/// How long a mount may be in use by processes that are just being started.
const IDLE: Duration = Duration::from_secs(5);
/// Lines of the log in the report of a failure.
const LOG_LINES: usize = 30;

/// A volume at a path.
pub struct Mount {
    point: PathBuf,
    words: Vec<OsString>,
    log: PathBuf,
    place: Option<Place>,
    child: Option<Child>,
    // Last: removed after the mount is gone.
    _scratch: Arc<Scratch>,
}

impl Mount {
    /// A new embedded volume in a directory of its own.
    #[must_use]
    pub fn embedded() -> Self {
        let scratch = Arc::new(Scratch::new("mount"));
        let data = scratch.join("data");
        Self::of_data(&scratch, &data, "mnt")
    }

    /// A new embedded volume with chunks of `chunk_bytes`.
    #[must_use]
    pub fn embedded_with_chunks(chunk_bytes: u32) -> Self {
        let scratch = Arc::new(Scratch::new("mount"));
        let data = scratch.join("data");
        format(&data, chunk_bytes);
        Self::of_data(&scratch, &data, "mnt")
    }

    /// The embedded volume in `data`, mounted at `name` below the scratch directory.
    #[must_use]
    pub fn of_data(scratch: &Arc<Scratch>, data: &Path, name: &str) -> Self {
        Self::with_words(scratch, name, vec!["--data-dir".into(), data.into()])
    }

    /// `dgfs mount WORDS POINT`, with POINT at `name` below the scratch directory.
    #[must_use]
    pub fn with_words(scratch: &Arc<Scratch>, name: &str, words: Vec<OsString>) -> Self {
        Self::at(scratch, name, words, None)
    }

    /// As [`Self::with_words`], by a process on a host of a network.
    #[must_use]
    pub fn at(scratch: &Arc<Scratch>, name: &str, words: Vec<OsString>, place: Option<Place>) -> Self {
        assert!(
            Path::new("/dev/fuse").exists(),
            "/dev/fuse is missing: load the module (modprobe fuse) or pass the device into the container (--device /dev/fuse)"
        );
        let point = scratch.dir(name);
        let log = scratch.join(&format!("{name}.log"));
        let mut mount = Self { point, words, log, place, child: None, _scratch: Arc::clone(scratch) };
        mount.start();
        mount
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// A path below it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.point.join(name)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the mount runs").id()
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&self.log, usize::MAX)
    }

    /// Mounts again after [`Self::umount`] or [`Self::kill9`], without cleaning anything up first.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "the mount runs already");
        if let Err(sentence) = self.try_start() {
            panic!("dgfs mount at {}: {sentence}\n{}", self.point.display(), tail(&self.log, LOG_LINES));
        }
    }

    /// As [`Self::start`]; what it said when it does not mount.
    ///
    /// # Errors
    /// Why not.
    pub fn try_start(&mut self) -> Result<(), String> {
        let mut command = Command::new(dgfs());
        command.arg("mount").args(&self.words).arg(&self.point).env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::null()).stdout(log_file(&self.log)).stderr(log_file(&self.log));
        if let Some(place) = self.place {
            place.send(&mut command);
        }
        let mut child = spawn(command).map_err(|error| error.to_string())?;
        let end = Instant::now() + APPEARS;
        while !self.answers(child.id()) {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("it ended ({status}): {}", tail(&self.log, 3)));
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it did not appear in {APPEARS:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
        Ok(())
    }

    /// Returns once the index is up to now and the taggers have read everything: they disturb nothing any more.
    #[track_caller]
    pub fn wait_for_taggers(&self) {
        let words = ["index".into(), "wait".into(), "--taggers".into(), OsString::from(&self.point)];
        let _ = run(dgfs(), &words, TAGGED).expect_success("wait for the taggers");
    }

    /// SIGKILL to its process. The dead mount stays in the tree, as after any crash.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill the mount's process");
            child.wait().expect("wait for the mount's process");
        }
    }

    /// Unmounts in an orderly way, which writes everything.
    #[track_caller]
    pub fn umount(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.unmount_when_idle();
        let status = process::wait(&mut child, ENDS);
        let status = status.unwrap_or_else(|| panic!("the mount's process goes on after umount"));
        assert!(status.success(), "the mount ended with {status}:\n{}", tail(&self.log, LOG_LINES));
    }

    /// Between fork and exec a process started by another test holds our descriptors too, so the mount may be in use for a moment.
    #[track_caller]
    fn unmount_when_idle(&self) {
        let end = Instant::now() + IDLE;
        loop {
            let outcome = run(dgfs(), &[OsString::from("umount"), self.point.clone().into()], ENDS);
            if outcome.status.success() || !outcome.errors.contains("is in use") || Instant::now() > end {
                let _ = outcome.expect_success("dgfs umount");
                return;
            }
        }
    }

    /// Asks it to end by a signal and waits for its end.
    #[track_caller]
    pub fn end_by(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        process::signal(child.id(), signal);
        let status = process::wait(&mut child, ENDS);
        let status = status.unwrap_or_else(|| panic!("the mount's process goes on after {signal:?}"));
        assert!(status.success(), "the mount ended with {status}:\n{}", tail(&self.log, LOG_LINES));
    }

    /// Waits until its process has ended by itself, because somebody else unmounted it.
    #[track_caller]
    pub fn wait_for_end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let status = process::wait(&mut child, ENDS);
        let status = status.unwrap_or_else(|| panic!("the mount's process goes on after its mount is gone"));
        assert!(status.success(), "the mount ended with {status}:\n{}", tail(&self.log, LOG_LINES));
    }

    /// Unmounts and mounts again.
    #[track_caller]
    pub fn remount(&mut self) {
        self.umount();
        self.start();
    }

    /// Takes it out of the tree, though it answers nothing any more, and mounts it again: what its alert says.
    #[track_caller]
    pub fn mount_again(&mut self) {
        let words = ["umount".into(), "--lazy".into(), OsString::from(&self.point)];
        let _ = run(dgfs(), &words, ENDS).expect_success("dgfs umount --lazy");
        let mut child = self.child.take().expect("the mount runs");
        // A session that was ended may have had bytes that were not sent: it says so by how it ends.
        assert!(process::wait(&mut child, ENDS).is_some(), "the mount's process goes on after umount --lazy");
        self.start();
    }

    /// The mount answers, and it is this process's.
    fn answers(&self, pid: u32) -> bool {
        if mounts_below(&self.point).is_empty() {
            return false;
        }
        // A dead mount of an earlier process answers ENOTCONN until the new one took its place.
        let mut facts = [0_u8; 4096];
        let Ok(len) = rustix::fs::getxattr(&self.point, "dgfs.mount", &mut facts) else { return false };
        let facts: serde_json::Value = serde_json::from_slice(&facts[..len]).unwrap_or_default();
        facts["pid"] == pid
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the mount at {}:\n{}", self.point.display(), tail(&self.log, LOG_LINES));
        }
        if let Some(mut child) = self.child.take() {
            unmount_lazily(&self.point);
            if process::wait(&mut child, Duration::from_secs(5)).is_none() {
                kill9(child.id());
                let _ = child.wait();
            }
        }
        for point in mounts_below(&self.point) {
            unmount_lazily(&point);
        }
    }
}

/// Makes an embedded volume.
pub fn format(data: &Path, chunk_bytes: u32) {
    let words =
        ["format".into(), "--data-dir".into(), data.into(), OsString::from(format!("--chunk-bytes={chunk_bytes}"))];
    let _ = run(dgfs(), &words, ENDS).expect_success("dgfs format");
}

/// `dgfs fsck` of an embedded volume that is not mounted: clean, or what it found.
///
/// # Errors
/// Its report.
pub fn fsck(data: &Path) -> Result<(), String> {
    check(data, 0)
}

/// As [`fsck`], after a power cut: opening the volume may have taken back what was never synced.
///
/// # Errors
/// Its report.
pub fn fsck_after_power_cut(data: &Path) -> Result<(), String> {
    check(data, 1)
}

fn check(data: &Path, worst: i32) -> Result<(), String> {
    judge(run(dgfs(), &["fsck".into(), "--data-dir".into(), OsString::from(data)], Duration::from_secs(120)), worst)
}

/// An exit code of fsck(8) that is not worse than `worst`, or the report.
pub(crate) fn judge(outcome: Outcome, worst: i32) -> Result<(), String> {
    if outcome.status.code().is_some_and(|code| code <= worst) {
        return Ok(());
    }
    Err(format!("dgfs fsck: {}\n{}{}", outcome.status, outcome.output, outcome.errors))
}
