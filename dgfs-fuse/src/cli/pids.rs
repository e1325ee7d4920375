//! `DIR/pids`: a line `ROLE PID` for each daemon of a cluster started by `dgfs up`.
//!
//! Never names a daemon that ended in an orderly way. Each daemon writes its own line when it starts, however it was started, and takes it out when
//! it ends; a line whose process was killed stays until the daemon or `dgfs down` replaces it, and is
//! recognised by its process being gone.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use dgfs_runtime::disk::write_atomically;

/// The file of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// All lines, in order.
    pub(crate) fn read(&self) -> io::Result<Vec<(String, u32)>> {
        match std::fs::read_to_string(&self.0) {
            Ok(text) => Ok(text.lines().filter_map(parse).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Sets (or, with none, removes) the line of `role`.
    pub(crate) fn set(&self, role: &str, pid: Option<u32>) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut lines = self.read()?;
        lines.retain(|(name, _)| name != role);
        lines.extend(pid.map(|pid| (role.to_owned(), pid)));
        lines.sort();
        let text: String = lines.iter().map(|(role, pid)| format!("{role} {pid}\n")).collect();
        write_atomically(&self.0, text.as_bytes())
    }

    fn lock(&self) -> io::Result<File> {
        let lock = OpenOptions::new().create(true).append(true).open(self.0.with_extension("lock"))?;
        // SAFETY: the descriptor is open as long as `lock` lives.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) } == 0 {
            Ok(lock)
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

fn parse(line: &str) -> Option<(String, u32)> {
    let (role, pid) = line.split_once(' ')?;
    Some((role.to_owned(), pid.parse().ok()?))
}

/// Does this process live, and is it a `dgfs` daemon (not another that got its number)?
pub(crate) fn lives(pid: u32) -> bool {
    let Ok(command) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    command.split(|byte| *byte == 0).any(|word| word == b"meta" || word == b"stored" || word == b"index")
}

#[cfg(test)]
mod tests {
    use super::{PidFile, lives};

    #[test]
    fn each_role_has_one_line_which_can_be_taken_out() {
        let directory = std::env::temp_dir().join(format!("dgfs-pids-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let pids = PidFile::new(directory.join("pids"));
        assert_eq!(pids.read().unwrap(), []);
        pids.set("stored-1", Some(20)).unwrap();
        pids.set("meta-1", Some(10)).unwrap();
        pids.set("stored-1", Some(30)).unwrap();
        assert_eq!(std::fs::read_to_string(directory.join("pids")).unwrap(), "meta-1 10\nstored-1 30\n");
        pids.set("meta-1", None).unwrap();
        assert_eq!(pids.read().unwrap(), [("stored-1".to_owned(), 30)]);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_process_that_is_no_daemon_does_not_count() {
        assert!(!lives(u32::MAX));
        assert!(!lives(std::process::id()));
    }
}
