//! A mount, and how it is asked: by another process of this program, which may hang in its place.
//!
//! Never touches a mount in this process, and never waits longer than it says. Always: a process that hangs in the kernel stays
//! behind until its mount is ended, instead of this one.

use std::ffi::OsStr;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::cli::Failure;
use crate::cli::check::followed;
use crate::cli::files::{ATTRIBUTE_BYTES_MAX, read_attribute};

/// The first word of the process that asks; no command is called so.
pub(crate) const ASKER: &str = "ask-a-mount";
/// A mount did not answer.
pub(crate) const CODE_SILENT: u8 = 3;
/// How long a mount may take for what it knows by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long for what it asks its cluster, of which parts may be away.
const PATIENCE_CLUSTER: Duration = Duration::from_secs(60);
/// Bytes of a question at most: the name of an attribute.
const NAME_BYTES_MAX: u32 = 255;

/// See the module.
pub(crate) struct MountPoint {
    path: PathBuf,
    asker: Child,
    stream: UnixStream,
    hangs: AtomicBool,
}

impl MountPoint {
    /// The mount that `path` lies on. Nothing is asked yet.
    ///
    /// # Errors
    /// No process can be started.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        // A group of its own: ^C is for this process, which ends it.
        command.arg(ASKER).arg(path).process_group(0);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let asker = command.spawn()?;
        Ok(Self { path: path.to_owned(), asker, stream, hangs: AtomicBool::new(false) })
    }

    /// What the mount answers by itself to the attribute `name`.
    ///
    /// # Errors
    /// Those of getxattr(2); [`is_silent`] when there was no answer in time.
    pub(crate) fn attribute(&self, name: &str) -> io::Result<Vec<u8>> {
        self.ask(name, PATIENCE)
    }

    /// The same for what the mount must ask its cluster for.
    ///
    /// # Errors
    /// As [`Self::attribute`].
    pub(crate) fn attribute_of_cluster(&self, name: &str) -> io::Result<Vec<u8>> {
        // A mount that is dead or hangs is known at once.
        let _ = self.attribute("dgfs.mount")?;
        self.ask(name, PATIENCE_CLUSTER)
    }

    /// As [`Self::attribute`], in sentences.
    pub(crate) fn told(&self, name: &str) -> Result<Vec<u8>, Failure> {
        self.attribute(name).map_err(|error| explained(&self.path, &error))
    }

    /// As [`Self::told`], JSON.
    pub(crate) fn json(&self, name: &str) -> Result<Value, Failure> {
        self.parsed(&self.told(name)?)
    }

    /// As [`Self::attribute_of_cluster`], JSON.
    pub(crate) fn json_of_cluster(&self, name: &str) -> Result<Value, Failure> {
        self.parsed(&self.attribute_of_cluster(name).map_err(|error| explained(&self.path, &error))?)
    }

    /// Its numbers, in Prometheus' text format, without what is 0.
    pub(crate) fn metrics(&self) -> Result<String, Failure> {
        let mut text = Vec::new();
        // More pages than any mount has series for.
        for page in 0..1000 {
            let part = self.told(&format!("dgfs.metrics.{page}"))?;
            let Some(end) = part.iter().position(|byte| *byte == b'\n') else { break };
            let (head, rest) = part.split_at(end);
            text.extend_from_slice(rest.get(1..).unwrap_or_default());
            if head != b"more" {
                break;
            }
        }
        String::from_utf8(text).map_err(|_| Failure::new(format!("{} answered something odd", self.path.display())))
    }

    fn parsed(&self, bytes: &[u8]) -> Result<Value, Failure> {
        serde_json::from_slice(bytes)
            .map_err(|error| Failure::new(format!("{} answered something odd: {error}", self.path.display())))
    }

    fn ask(&self, name: &str, patience: Duration) -> io::Result<Vec<u8>> {
        if self.hangs.load(Ordering::Relaxed) {
            return Err(silent());
        }
        let answer = self.exchange(name, patience);
        match answer {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                self.hangs.store(true, Ordering::Relaxed);
                Err(silent())
            }
            Err(error) => Err(error),
            Ok((0, bytes)) => Ok(bytes),
            Ok((number, _)) => Err(io::Error::from_raw_os_error(number)),
        }
    }

    /// The number of the error, or 0 and the answer.
    fn exchange(&self, name: &str, patience: Duration) -> io::Result<(i32, Vec<u8>)> {
        self.stream.set_read_timeout(Some(patience))?;
        write_part(&self.stream, 0, name.as_bytes())?;
        let limit = u32::try_from(ATTRIBUTE_BYTES_MAX).unwrap_or(u32::MAX);
        read_part(&self.stream, limit)
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        let _ = self.asker.kill();
        // One that hangs in the kernel ends with its mount: nobody waits for it.
        if !self.hangs.load(Ordering::Relaxed) {
            let _ = self.asker.wait();
        }
    }
}

/// Refuses where the mount that `path` lies on does not answer, before anything is done that would hang.
pub(crate) fn refuse_silent(path: &Path) -> Result<(), Failure> {
    match MountPoint::of(path).and_then(|mount| mount.attribute("dgfs.mount")) {
        Err(error) if is_silent(&error) => Err(explained(path, &error)),
        // What else may be wrong is told by who asks next.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Runs the process that asks: it answers questions about `path` until nobody asks any more.
pub(crate) fn answer_for(path: &OsStr) -> io::Result<()> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let path = followed(Path::new(path));
    loop {
        let name = match read_part(&stream, NAME_BYTES_MAX) {
            Ok((_, name)) => String::from_utf8_lossy(&name).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        match read_attribute(&path, &name) {
            Ok(bytes) => write_part(&stream, 0, &bytes)?,
            Err(error) => write_part(&stream, error.raw_os_error().unwrap_or(libc::EIO), b"")?,
        }
    }
}

/// A number, a length and the bytes; one end's `write_part` is the other end's [`read_part`].
fn write_part(mut stream: &UnixStream, number: i32, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&number.to_le_bytes()[..], &len.to_le_bytes(), bytes].concat())
}

fn read_part(mut stream: &UnixStream, limit: u32) -> io::Result<(i32, Vec<u8>)> {
    let (mut number, mut len) = ([0; 4], [0; 4]);
    stream.read_exact(&mut number)?;
    stream.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len);
    if len > limit {
        return Err(io::Error::other("the other process says more than fits"));
    }
    let mut bytes = Vec::new();
    let _ = stream.take(u64::from(len)).read_to_end(&mut bytes)?;
    Ok((i32::from_le_bytes(number), bytes))
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// Did the mount not answer? (One that answers that a time is over is another matter.)
pub(crate) fn is_silent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none()
}

/// Why a mount did not tell.
pub(crate) fn explained(path: &Path, error: &io::Error) -> Failure {
    let at = path.display();
    if is_silent(error) {
        let seconds = PATIENCE.as_secs();
        let sentence =
            format!("the mount at {at} does not answer within {seconds} s: `dgfs doctor {at}` says what to do");
        return Failure::new(sentence).with_code(CODE_SILENT);
    }
    match error.raw_os_error() {
        Some(libc::ENODATA | libc::EOPNOTSUPP) => Failure::new(format!("{at} is not on a DGFS mount")),
        Some(libc::EPERM) => Failure::new(format!("only root and whoever mounted may ask the mount at {at} for this")),
        Some(libc::ENOTCONN) => {
            Failure::new(format!("the mount at {at} is dead, its process is gone: mount again, or dgfs umount {at}"))
        }
        _ => Failure::new(format!("{at}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use std::path::Path;

    use super::{explained, is_silent, read_part, silent, write_part};

    #[test]
    fn parts_are_read_as_they_were_written_and_have_a_bound() {
        let (one, other) = UnixStream::pair().unwrap();
        write_part(&one, 0, b"dgfs.mount").unwrap();
        write_part(&one, libc::EPERM, b"").unwrap();
        write_part(&one, 0, b"too long").unwrap();
        assert_eq!(read_part(&other, 255).unwrap(), (0, b"dgfs.mount".to_vec()));
        assert_eq!(read_part(&other, 255).unwrap(), (libc::EPERM, Vec::new()));
        assert!(read_part(&other, 7).is_err());
    }

    #[test]
    fn a_silent_mount_is_told_apart_from_one_that_says_that_a_time_is_over() {
        let at = Path::new("/mnt/x");
        assert!(is_silent(&silent()) && !is_silent(&std::io::Error::from_raw_os_error(libc::ETIMEDOUT)));
        let failure = explained(at, &silent());
        assert!(failure.code == 3 && failure.sentence.contains("does not answer within 5 s"), "{failure:?}");
        assert_eq!(explained(at, &std::io::Error::from_raw_os_error(libc::ENOTCONN)).code, 1);
    }
}
