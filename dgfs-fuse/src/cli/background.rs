//! Starts a child that goes on after its parent, and hears from it when it is ready.
//!
//! Never leaves a child behind unheard: the parent waits until the child says that it is ready or why not,
//! or ends.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::Failure;

/// What a ready child writes.
const READY: &str = "ready";
/// Bytes of a message at most.
const MESSAGE_BYTES_MAX: u64 = 16 << 10;

/// The child's end: says once that it is ready, or why not. Dropped unsaid, the parent hears that the child ended.
pub(crate) struct Ready(Option<File>);

impl Ready {
    /// From the hidden option; none says nothing to nobody.
    pub(crate) fn from_option(fd: Option<RawFd>) -> Result<Self, Failure> {
        let Some(fd) = fd else { return Ok(Self(None)) };
        // SAFETY: fcntl with F_SETFD only looks whether the number is an open descriptor.
        if fd <= 2 || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(Failure::new("--ready-fd is set by dgfs itself: leave it out"));
        }
        // SAFETY: the parent passed this descriptor for us alone, and it is open.
        Ok(Self(Some(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))))
    }

    /// It serves.
    pub(crate) fn ready(&mut self) {
        self.say(READY);
    }

    /// It does not, and why.
    pub(crate) fn failed(&mut self, sentence: &str) {
        self.say(sentence);
    }

    fn say(&mut self, words: &str) {
        if let Some(mut pipe) = self.0.take() {
            // A parent that went away does not matter to the child.
            let _ = pipe.write_all(words.as_bytes());
        }
    }
}

/// Starts this program again with `arguments` and `--ready-fd`, in a session of its own, its output in `log`. Returns
/// its pid once it is ready.
pub(crate) fn start(arguments: &[OsString], log: &Path) -> Result<u32, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::new(format!("find the program: {error}")))?;
    let failed = |step: &str, error: io::Error| Failure::new(format!("{step}: {error}"));
    let output = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(log)
        .map_err(|error| failed(&format!("open the log file {}", log.display()), error))?;
    let errors = output.try_clone().map_err(|error| failed("share the log file", error))?;
    let (mut reader, writer) = io::pipe().map_err(|error| failed("make a pipe", error))?;
    let passed = writer.as_raw_fd();
    let mut command = Command::new(program);
    command.args(arguments).arg(format!("--ready-fd={passed}"));
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    // SAFETY: between fork and exec only setsid and fcntl are called, which are allowed there.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            if libc::fcntl(passed, libc::F_SETFD, 0) == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
    let mut child = command.spawn().map_err(|error| failed("start the background process", error))?;
    drop(writer);
    let mut words = String::new();
    reader
        .by_ref()
        .take(MESSAGE_BYTES_MAX)
        .read_to_string(&mut words)
        .map_err(|error| failed("hear from the background process", error))?;
    if words == READY {
        return Ok(child.id());
    }
    let _ = child.wait();
    if words.is_empty() {
        let place = log.display();
        return Err(Failure::new(format!("the background process ended without a word: its log is {place}")));
    }
    Err(Failure::new(words))
}
