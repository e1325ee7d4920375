//! A disk that is filled, damaged, slow or hung, as the processes on it see it.
//!
//! Never leaves one waiting after a test. An ext4 whose device lies on another ext4: frozen itself, it lets no write pass;
//! with the one below frozen its device does not answer, so that syncs wait and writes to memory do not. Needs root and loop devices.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::statvfs;

use crate::power::Disk;
use crate::process::run;

/// How long a slow device does not answer, again and again, and how long it does in between.
const STALL: Duration = Duration::from_secs(2);
const GAP: Duration = Duration::from_millis(100);
/// How long filling it may take.
const FILLS: Duration = Duration::from_secs(60);
/// A file of somebody else on the disk.
const OTHERS: &str = "others";

/// The disk. Healthy until told otherwise.
pub struct FaultyDisk {
    slow: Option<Slow>,
    // In this order: each lies on the next.
    disk: Disk,
    below: Disk,
}

struct Slow {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl FaultyDisk {
    /// An empty one of `mib` MiB, mounted.
    #[must_use]
    pub fn new(mib: u64) -> Self {
        // Half as much again: a journal and tables of its own.
        let below = Disk::new(mib + mib / 2);
        Self { slow: None, disk: below.above(mib), below }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.disk.path()
    }

    /// Somebody else takes all the room there is.
    pub fn fill(&self) {
        let room = statvfs(self.path()).expect("ask for the room of a disk");
        let free = (room.f_bavail * room.f_frsize).to_string();
        let file = self.path().join(OTHERS);
        let words = ["--length".as_ref(), free.as_ref(), file.as_os_str()];
        let _ = run("fallocate", &words, FILLS).expect_success("fill a disk");
    }

    /// After [`Self::fill`]: the room is there again.
    pub fn make_room(&self) {
        std::fs::remove_file(self.path().join(OTHERS)).expect("remove what fills a disk");
    }

    /// The kernel finds an error and takes no more writes.
    pub fn turn_read_only(&self) {
        self.disk.damage();
    }

    /// After [`Self::turn_read_only`], when nobody uses it any more: checked and mounted again.
    pub fn mend(&self) {
        self.disk.check();
    }

    /// Writes wait until [`Self::go_on`].
    pub fn hang_writes(&self) {
        self.disk.freeze();
    }

    /// The device does not answer until [`Self::go_on`]: syncs wait.
    pub fn hang_device(&self) {
        self.below.freeze();
    }

    /// The device does not answer for two seconds, again and again, until [`Self::go_on`].
    pub fn slow_down(&mut self) {
        let (stop, stopped) = channel();
        let point = self.below.path().to_owned();
        let thread = thread::spawn(move || {
            let fsfreeze = |word: &str| drop(run("fsfreeze", &[word.as_ref(), point.as_os_str()], FILLS));
            let is_on = |time| stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
            let mut on = true;
            while on {
                fsfreeze("--freeze");
                on = is_on(STALL);
                fsfreeze("--unfreeze");
                on = on && is_on(GAP);
            }
        });
        self.slow = Some(Slow { stop, thread });
    }

    /// It answers at once again.
    pub fn go_on(&mut self) {
        if let Some(Slow { stop, thread }) = self.slow.take() {
            // Told by the end of the channel, too.
            drop(stop);
            let _ = thread.join();
        }
        self.below.thaw();
        self.disk.thaw();
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        self.go_on();
    }
}
