//! Processes of this machine, of daemons and mounts that do not answer: do they run, and where is their log?
//!
//! Never asks them anything: `/proc` and the directory of `dgfs up` tell it. Always: what is not known is none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use toml::Table;

use crate::cli::cluster::roles;
use crate::cli::doctor::finding::shell_word;
use crate::cli::mount::log_beside;
use crate::cli::paths::default_data_dir;
use crate::cli::pids::{PidFile, lives};

/// A daemon of a cluster of `dgfs up`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its name in the directory, as `stored-1`.
    pub(crate) role: String,
    /// Its number, if it runs.
    pub(crate) pid: Option<u32>,
    /// A signal stopped it.
    pub(crate) is_stopped: bool,
    /// Where it logs to.
    pub(crate) log: PathBuf,
}

impl Process {
    /// Makes it answer again: what a signal stopped goes on, what else hangs is ended and started again by `up`.
    pub(crate) fn revive(&self, up: &str) -> Option<String> {
        let pid = self.pid?;
        let log = shell_word(&self.log.display().to_string());
        Some(match self.is_stopped {
            true => format!("kill -CONT {pid}"),
            false => format!("tail -n 50 {log}; kill -KILL {pid} && {up}"),
        })
    }

    /// That it runs, in words that follow those that it does not answer.
    pub(crate) fn state(&self) -> String {
        match (self.pid, self.is_stopped) {
            (Some(pid), true) => format!("; its process {pid} was stopped by a signal"),
            (Some(pid), false) => format!("; its process {pid} runs"),
            (None, _) => "; its process is gone".to_owned(),
        }
    }
}

/// The daemons of the cluster in `directory`, by the addresses they are reached at.
pub(crate) fn processes(directory: &Path) -> BTreeMap<String, Process> {
    let pids = PidFile::new(directory.join("pids")).read().unwrap_or_default();
    let mut found = BTreeMap::new();
    for role in roles(directory).unwrap_or_default() {
        let text = std::fs::read_to_string(directory.join(format!("{role}.toml"))).unwrap_or_default();
        let Ok(table) = text.parse::<Table>() else { continue };
        let address = ["advertise", "listen"].iter().find_map(|key| table.get(*key)?.as_str());
        let pid = pids.iter().find(|(name, pid)| *name == role && lives(*pid)).map(|(_, pid)| *pid);
        if let Some(address) = address {
            let log = directory.join(format!("{role}.log"));
            let process = Process { role, pid, is_stopped: pid.is_some_and(is_stopped), log };
            found.insert(address.to_owned(), process);
        }
    }
    found
}

/// Did a signal (or a debugger) stop this process?
pub(crate) fn is_stopped(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it may hold anything, also parentheses.
    let state = text.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't'))
}

/// The process of the mount at `point`, by its command line.
pub(crate) fn mount_process(point: &str) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let directory = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        is_mount_of(&line, &directory, Path::new(point))
    })
}

fn is_mount_of(line: &[u8], directory: &Path, point: &Path) -> bool {
    let mut words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let program = words.next().map(|word| Path::new(std::ffi::OsStr::from_bytes(word)));
    let is_dgfs = program.and_then(Path::file_name).is_some_and(|name| name == "dgfs" || name == "mount.dgfs");
    let is_mount = words.next() == Some(b"mount");
    let path = |word: &[u8]| directory.join(std::ffi::OsStr::from_bytes(word));
    is_dgfs && is_mount && words.any(|word| path(word) == point)
}

/// The log of the mount at `point`, whose process may be gone: where its standard error goes, else where mounts of the
/// cluster in `base` log to, else the embedded volume's.
pub(crate) fn mount_log(point: &str, pid: Option<u32>, base: Option<&Path>) -> Option<PathBuf> {
    let open = pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/fd/2")).ok());
    let beside = base.map(|base| log_beside(base, Path::new(point)));
    let embedded = || base.is_none().then(|| default_data_dir().ok().map(|data| data.join("mount.log"))).flatten();
    open.into_iter().chain(beside).chain(embedded()).find(|path| path.is_file())
}

/// What mends a mount that does not answer, on its machine.
pub(crate) fn let_go(point: &str, pid: Option<u32>) -> String {
    let word = shell_word(point);
    match pid {
        Some(pid) => format!(
            "ps -o pid,stat,wchan:20,cmd {pid}; kill -CONT {pid}  # if it stays so, what it has not sent is lost: \
             dgfs umount --lazy {word}; kill -KILL {pid}; then mount again"
        ),
        None => format!("ps -o pid,stat,wchan:20,cmd -C dgfs; dgfs umount --lazy {word}; then mount again"),
    }
}

/// The last `bytes_max` bytes of a file, from the beginning of a line on, and how many bytes stand before them.
///
/// # Errors
/// It is no regular file, or cannot be read.
pub(crate) fn tail(path: &Path, bytes_max: u64) -> io::Result<(String, u64)> {
    // What is no file must not be waited for.
    let mut file: File = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let mut before = facts.len().saturating_sub(bytes_max);
    let _ = file.seek(SeekFrom::Start(before))?;
    let mut bytes = Vec::new();
    let _ = file.take(bytes_max).read_to_end(&mut bytes)?;
    let cut = if before == 0 { 0 } else { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
    before = before.saturating_add(cut as u64);
    Ok((String::from_utf8_lossy(bytes.get(cut..).unwrap_or_default()).into_owned(), before))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Process, is_mount_of, is_stopped, let_go, processes, tail};

    #[test]
    fn daemons_of_a_directory_are_known_by_their_addresses() {
        let directory = std::env::temp_dir().join(format!("dgfs-local-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("stored-1.toml"), "listen = \"127.0.0.1:71\"\n").unwrap();
        std::fs::write(directory.join("stored-2.toml"), "advertise = \"h:72\"\nlisten = \"0.0.0.0:72\"\n").unwrap();
        std::fs::write(directory.join("meta-1.toml"), "not = = toml").unwrap();
        std::fs::write(directory.join("pids"), format!("stored-1 {}\n", u32::MAX)).unwrap();
        let found = processes(&directory);
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["127.0.0.1:71", "h:72"]);
        assert_eq!((found["h:72"].role.as_str(), found["127.0.0.1:71"].pid), ("stored-2", None));
    }

    #[test]
    fn what_hangs_is_revived_by_what_fits() {
        let process =
            |pid, is_stopped| Process { role: "meta-1".to_owned(), pid, is_stopped, log: "/c/meta-1.log".into() };
        assert_eq!(process(None, false).revive("dgfs up /c"), None);
        assert_eq!(process(Some(7), true).revive("dgfs up /c").unwrap(), "kill -CONT 7");
        let command = process(Some(7), false).revive("dgfs up /c").unwrap();
        assert_eq!(command, "tail -n 50 /c/meta-1.log; kill -KILL 7 && dgfs up /c");
        assert!(process(Some(7), true).state().contains("7 was stopped"));
        assert!(!is_stopped(std::process::id()) && !is_stopped(u32::MAX));
        assert!(let_go("/mnt/a b", Some(7)).contains("dgfs umount --lazy '/mnt/a b'; kill -KILL 7"));
    }

    #[test]
    fn a_mounts_process_is_known_by_its_words() {
        let is = |line: &[u8], point| is_mount_of(line, Path::new("/home"), Path::new(point));
        assert!(is(b"/usr/bin/dgfs\0mount\0--data-dir\0x\0mnt\0", "/home/mnt"));
        assert!(is(b"dgfs\0mount\0/mnt/x\0--ready-fd=5\0", "/mnt/x"));
        assert!(!is(b"dgfs\0umount\0/mnt/x\0", "/mnt/x") && !is(b"vim\0mount\0/mnt/x\0", "/mnt/x"));
        assert!(!is(b"", "/mnt/x"));
    }

    #[test]
    fn of_a_long_file_the_last_lines_are_read() {
        let path = std::env::temp_dir().join(format!("dgfs-tail-{}", std::process::id()));
        std::fs::write(&path, "first\nsecond\nthird\n").unwrap();
        assert_eq!(tail(&path, 100).unwrap(), ("first\nsecond\nthird\n".to_owned(), 0));
        assert_eq!(tail(&path, 9).unwrap(), ("third\n".to_owned(), 13));
        std::fs::remove_file(&path).unwrap();
        assert!(tail(Path::new("/dev/null"), 9).is_err());
    }
}
