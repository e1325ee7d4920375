//! Tells `flock` from `fcntl`.
//!
//! fuser 0.18 does not hand on the kernel's flag. The caller is blocked in its system call while we look, so the
//! number in `/proc/<tid>/syscall` says which it is. Where that cannot be read (an ordinary user under Yama), these
//! rules decide: a part of a file is `fcntl`; an owner that closed a file or locked a part before is
//! `fcntl` (owners of `flock` are open files and do neither); any other is `flock`.
//! An ordinary user's first whole-file `fcntl` lock is therefore taken for a `flock` one there.

use std::collections::HashSet;

use parking_lot::Mutex;

use dgfs_proto::meta::LockFamily;

/// The last byte of a lock on the whole file.
const WHOLE_FILE_END: u64 = i64::MAX as u64;
/// Owners remembered; then the older half is forgotten.
const OWNERS_MAX: usize = 8192;
/// Looks at a caller that is still running; it is on its way to sleep.
const LOOKS_MAX: u32 = 64;

/// What a thread is doing, by `/proc/<tid>/syscall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// It locks by this family.
    Locking(LockFamily),
    /// Not known: not readable, or another system call.
    Unknown,
}

/// Decides families, and remembers owners for when `/proc` cannot be read.
#[derive(Default)]
pub struct Families {
    owners: Mutex<Owners>,
}

#[derive(Default)]
struct Owners {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Families {
    /// The family of a lock request of thread `tid`.
    pub fn decide(&self, tid: u32, owner: u64, start: u64, end: u64) -> LockFamily {
        if start != 0 || end < WHOLE_FILE_END {
            self.note_posix(owner);
            return LockFamily::Posix;
        }
        match caller(tid) {
            Caller::Locking(family) => family,
            Caller::Unknown if self.owners.lock().contains(owner) => LockFamily::Posix,
            Caller::Unknown => LockFamily::Flock,
        }
    }

    /// This owner uses `fcntl` locks: it closed a file, or locked a part of one.
    pub fn note_posix(&self, owner: u64) {
        self.owners.lock().insert(owner);
    }
}

impl Owners {
    fn contains(&self, owner: u64) -> bool {
        self.young.contains(&owner) || self.old.contains(&owner)
    }

    fn insert(&mut self, owner: u64) {
        if self.young.len() >= OWNERS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(owner);
    }
}

/// What thread `tid` is blocked in.
#[must_use]
pub fn caller(tid: u32) -> Caller {
    if tid == 0 {
        return Caller::Unknown;
    }
    let path = format!("/proc/{tid}/syscall");
    for _ in 0..LOOKS_MAX {
        match std::fs::read_to_string(&path) {
            Ok(text) if text.starts_with("running") => std::thread::yield_now(),
            Ok(text) => return parse(&text),
            Err(_) => return Caller::Unknown,
        }
    }
    Caller::Unknown
}

fn parse(text: &str) -> Caller {
    let number = text.split_ascii_whitespace().next().and_then(|word| word.parse::<i64>().ok());
    match number {
        Some(libc::SYS_flock) => Caller::Locking(LockFamily::Flock),
        Some(libc::SYS_fcntl) => Caller::Locking(LockFamily::Posix),
        Some(number) => compat(number),
        None => Caller::Unknown,
    }
}

/// Numbers of 32-bit programs on x86-64; those of the same value there lock nothing.
#[cfg(target_arch = "x86_64")]
const fn compat(number: i64) -> Caller {
    match number {
        143 => Caller::Locking(LockFamily::Flock),
        55 | 221 => Caller::Locking(LockFamily::Posix),
        _ => Caller::Unknown,
    }
}

#[cfg(not(target_arch = "x86_64"))]
const fn compat(_: i64) -> Caller {
    Caller::Unknown
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd as _;
    use std::sync::mpsc;

    use dgfs_proto::meta::LockFamily;

    use super::{Caller, Families, WHOLE_FILE_END, caller, parse};

    fn thread_id() -> u32 {
        // SAFETY: gettid has no arguments and cannot fail.
        let tid = unsafe { libc::syscall(libc::SYS_gettid) };
        u32::try_from(tid).unwrap()
    }

    fn temp_file(name: &str) -> (std::path::PathBuf, File) {
        let path = std::env::temp_dir().join(format!("dgfs-family-{name}-{}", std::process::id()));
        (path.clone(), File::create(&path).unwrap())
    }

    /// Looks until the thread is seen blocked in a system call that locks.
    fn seen(tid: u32) -> Caller {
        for _ in 0..1_000_000 {
            let now = caller(tid);
            if now != Caller::Unknown {
                return now;
            }
            std::thread::yield_now();
        }
        Caller::Unknown
    }

    #[test]
    fn a_thread_blocked_in_flock_is_seen_as_such() {
        let (path, holder) = temp_file("flock");
        // SAFETY: the descriptor is open.
        assert_eq!(unsafe { libc::flock(holder.as_raw_fd(), libc::LOCK_EX) }, 0);
        let waiter = File::open(&path).unwrap();
        let (send, receive) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            send.send(thread_id()).unwrap();
            // SAFETY: the descriptor is open.
            unsafe { libc::flock(waiter.as_raw_fd(), libc::LOCK_EX) }
        });
        assert_eq!(seen(receive.recv().unwrap()), Caller::Locking(LockFamily::Flock));
        drop(holder);
        assert_eq!(thread.join().unwrap(), 0);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_thread_blocked_in_fcntl_is_seen_as_such() {
        let (path, holder) = temp_file("fcntl");
        let lock = |file: &File, command| {
            let spec = libc::flock {
                l_type: libc::F_WRLCK as i16,
                l_whence: libc::SEEK_SET as i16,
                l_start: 0,
                l_len: 0,
                l_pid: 0,
            };
            // SAFETY: the descriptor is open and `spec` outlives the call.
            unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const spec) }
        };
        assert_eq!(lock(&holder, libc::F_OFD_SETLK), 0);
        let waiter = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let (send, receive) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            send.send(thread_id()).unwrap();
            lock(&waiter, libc::F_OFD_SETLKW)
        });
        assert_eq!(seen(receive.recv().unwrap()), Caller::Locking(LockFamily::Posix));
        drop(holder);
        assert_eq!(thread.join().unwrap(), 0);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn other_system_calls_and_odd_texts_are_unknown() {
        assert_eq!(parse("running\n"), Caller::Unknown);
        assert_eq!(parse(""), Caller::Unknown);
        assert_eq!(parse("-1 0x0 0x0"), Caller::Unknown);
        assert_eq!(parse(&format!("{} 0x3 0x6", libc::SYS_fcntl)), Caller::Locking(LockFamily::Posix));
        assert_eq!(caller(0), Caller::Unknown);
    }

    #[test]
    fn where_proc_says_nothing_owners_decide() {
        let families = Families::default();
        assert_eq!(families.decide(0, 7, 0, WHOLE_FILE_END), LockFamily::Flock);
        assert_eq!(families.decide(0, 8, 100, 200), LockFamily::Posix, "a part of a file is never flock");
        assert_eq!(families.decide(0, 8, 0, WHOLE_FILE_END), LockFamily::Posix, "this owner locked a part before");
        families.note_posix(9);
        assert_eq!(families.decide(0, 9, 0, WHOLE_FILE_END), LockFamily::Posix, "this owner closed a file");
    }
}
