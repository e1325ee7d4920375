//! The system calls of the sandbox: all of this crate's `unsafe`.
//!
//! Never allocates between fork and exec: what a child needs is made before. Every call's failure is either returned or,
//! where a fence is optional, left to be seen in [`InForce`].

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::Command;

use super::filter::{self, Instruction, Signals};
use super::{InForce, Limits, Network};

/// Lets the parent and everything else on the machine go first.
const NICENESS: i32 = 10;

/// Rights of Landlock that change files (version 1 of its interface): write a file, remove or make an entry.
const LANDLOCK_WRITE_FILE: u64 = 1 << 1;
const LANDLOCK_CHANGES_V1: u64 = LANDLOCK_WRITE_FILE | 0b1_1111_1111 << 4;
/// Version 2 added moving between directories, version 3 truncating.
const LANDLOCK_REFER: u64 = 1 << 13;
const LANDLOCK_TRUNCATE: u64 = 1 << 14;

/// `struct landlock_path_beneath_attr`, which the kernel packs.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// `struct landlock_ruleset_attr`: what is forbidden of files, of the network, and beyond the domain (since version 6).
#[repr(C)]
struct RulesetAttributes {
    files: u64,
    network: u64,
    scoped: u64,
}

/// Version 6 of Landlock: no signal to a process that is not behind the same ruleset.
const LANDLOCK_SCOPE_SIGNAL: u64 = 1 << 1;

/// Processes and threads of one tagger at most, as the greatest number of a process: the first value that the kernel takes counts. It
/// takes none below 301, nor below 8 for each processor.
const PROCESSES_MAX: [&[u8]; 2] = [b"400\n", b"4096\n"];
/// The same as a limit of the user's processes in the new user namespace, where the kernel counts there (5.14). Older ones count all of
/// the user's, so there is room for a desktop.
const USERS_PROCESSES_MAX: u64 = 1024;

/// Tells which process runs what was started, once it was started.
pub(crate) struct Announced {
    pipe: File,
}

impl Announced {
    /// The first process of a namespace of its own; `None`: the kernel makes none, and it is the process that was started.
    pub(crate) fn first(mut self) -> Option<u32> {
        let mut number = [0; 4];
        self.pipe.read_exact(&mut number).ok()?;
        Some(u32::from_ne_bytes(number))
    }
}

pub(super) fn confine(command: &mut Command, limits: &Limits) -> io::Result<Announced> {
    let limits = *limits;
    let to_started = filter::outside(limits.network, Signals::Started);
    let to_nobody = filter::outside(limits.network, Signals::Nobody);
    let ruleset = no_writing().ok();
    let (pipe, announce) = announcement()?;
    // SAFETY: getpid has no conditions.
    let parent = unsafe { libc::getpid() };
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes system calls only; the filters and the ruleset exist before, and
    // dropping nothing there, it neither allocates nor frees.
    unsafe {
        command.pre_exec(move || {
            die_with(parent)?;
            let left = leave(limits.network);
            if left.processes {
                become_the_first(&announce)?;
            }
            bound_processes(left)?;
            set_limits(&limits)?;
            forbid_new_privileges()?;
            if let Some(ruleset) = &ruleset {
                restrict(ruleset)?;
            }
            let filter = if left.processes { &to_started } else { &to_nobody };
            filter.as_ref().map_or(Ok(()), |filter| install(filter))
        });
    }
    Ok(Announced { pipe })
}

/// A pipe through which the number of a process goes.
fn announcement() -> io::Result<(File, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: there is room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    let [read, write] = ends;
    // SAFETY: both were just made and belong to nobody else.
    Ok(unsafe { (File::from(OwnedFd::from_raw_fd(read)), OwnedFd::from_raw_fd(write)) })
}

pub(super) fn seal() -> InForce {
    let landlock = landlock_version();
    // Both fail on old kernels; what holds is read back below.
    let is_restricted =
        forbid_new_privileges().and_then(|()| no_writing()).and_then(|ruleset| restrict(&ruleset)).is_ok();
    let is_filtered = filter::after_start().is_some_and(|filter| install(&filter).is_ok());
    // SAFETY: both take no pointers with these options.
    let (privileges, seccomp) =
        unsafe { (libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0)) };
    InForce {
        no_new_privileges: privileges == 1,
        system_call_filter: is_filtered && seccomp == 2,
        no_network: !can_make_a_socket(),
        landlock: if is_restricted { landlock } else { 0 },
        memory_bytes: memory_limit(),
    }
}

/// A file on standard output's stream; what is printed from now on goes nowhere.
pub(crate) fn take_stdout() -> io::Result<File> {
    let nowhere = File::options().write(true).open("/dev/null")?;
    // SAFETY: duplicates an open descriptor; the new one belongs to nobody else.
    let own = unsafe { libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3) };
    check(own)?;
    // SAFETY: `own` was made above and is owned here alone.
    let output = File::from(unsafe { OwnedFd::from_raw_fd(own) });
    // SAFETY: both descriptors are open.
    check(unsafe { libc::dup2(nowhere.as_raw_fd(), 1) })?;
    Ok(output)
}

/// Kills a process and those that it started. One that is gone is no error.
pub(crate) fn kill_group(leader: u32) {
    if let Ok(leader) = i32::try_from(leader)
        && leader > 1
    {
        // SAFETY: kill takes numbers; the group is one that `confine` made.
        unsafe { libc::kill(-leader, libc::SIGKILL) };
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn die_with(parent: i32) -> io::Result<()> {
    // SAFETY: prctl takes numbers with this option.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
    // SAFETY: getppid has no conditions. The parent may have died before the line above.
    if unsafe { libc::getppid() } == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

fn set_limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` is a whole rlimit.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

fn set_limits(limits: &Limits) -> io::Result<()> {
    set_limit(libc::RLIMIT_AS, limits.memory_bytes)?;
    set_limit(libc::RLIMIT_CPU, limits.cpu_seconds())?;
    set_limit(libc::RLIMIT_FSIZE, 0)?;
    set_limit(libc::RLIMIT_NOFILE, limits.open_files)?;
    set_limit(libc::RLIMIT_CORE, 0)?;
    // SAFETY: takes numbers.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) })
}

/// Which namespaces a process has left.
#[derive(Clone, Copy)]
struct Left {
    user: bool,
    processes: bool,
}

/// Enters an empty network namespace unless it may use the network, and a namespace of processes, both with a user namespace where
/// that is needed. Where the kernel allows none of them, the filter holds.
fn leave(network: Network) -> Left {
    let network = match network {
        Network::Refused => libc::CLONE_NEWNET,
        Network::Allowed => 0,
    };
    for (user, processes) in [(true, true), (false, true), (true, false), (false, false)] {
        let user_flag = if user { libc::CLONE_NEWUSER } else { 0 };
        let processes_flag = if processes { libc::CLONE_NEWPID } else { 0 };
        // SAFETY: unshare takes a number and changes this process alone.
        if unsafe { libc::unshare(user_flag | processes_flag | network) } == 0 {
            return Left { user, processes };
        }
    }
    Left { user: false, processes: false }
}

/// Goes on as the first process of the new namespace, whose end kills all that it started, also what left its group. The process that
/// was forked says which one that is, and ends; the new one is a child of the same parent.
fn become_the_first(announce: &OwnedFd) -> io::Result<()> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: without a stack of its own the new process goes on here with a copy of everything, like one that was forked.
    let number = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    let number = i32::try_from(number).unwrap_or(-1);
    check(number)?;
    if number == 0 {
        // The parent is out of sight here; if it died before this line, the program finds the end of its input.
        // SAFETY: prctl takes numbers with this option.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
        // SAFETY: setsid has no conditions. It leads a session now, which it cannot leave.
        return check(unsafe { libc::setsid() });
    }
    let number = number.to_ne_bytes();
    // SAFETY: the bytes live through the call; an empty pipe takes them whole. Ending so runs nothing of the parent's.
    unsafe {
        libc::write(announce.as_raw_fd(), number.as_ptr().cast(), number.len());
        libc::_exit(0)
    }
}

/// Bounds the processes of the namespace where the kernel can do that for it alone (6.14), else those of the user in it, which does
/// not bind root.
fn bound_processes(left: Left) -> io::Result<()> {
    if left.processes && PROCESSES_MAX.iter().any(|most| write_to(c"/proc/sys/kernel/pid_max", most).is_ok()) {
        return Ok(());
    }
    if left.user { set_limit(libc::RLIMIT_NPROC, USERS_PROCESSES_MAX) } else { Ok(()) }
}

fn write_to(path: &CStr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the path ends with a zero.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(file)?;
    // SAFETY: the file is open, is ours, and the bytes live through the call.
    let written = unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
    let written = check(if written < 0 { -1 } else { 0 });
    // SAFETY: it was opened above and is used no more.
    unsafe { libc::close(file) };
    written
}

/// Processor time that a process with all its threads has taken; `None`: it is gone.
pub(crate) fn processor_time(process: u32) -> Option<Duration> {
    let mut clock: libc::clockid_t = 0;
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the clock is written to.
    if unsafe { libc::clock_getcpuclockid(i32::try_from(process).ok()?, &raw mut clock) } != 0 {
        return None;
    }
    // SAFETY: the kernel fills a whole timespec.
    if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } < 0 {
        return None;
    }
    // SAFETY: it is filled, and zeroes would be lawful too.
    let time = unsafe { time.assume_init() };
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

/// How a process ended that [`Announced`] told of; `None`: it runs on. One that is none of ours (any more) ended somehow.
pub(crate) fn reap(process: u32) -> Option<String> {
    let Ok(process) = i32::try_from(process) else { return Some("it is no process".to_owned()) };
    let mut status = 0;
    // SAFETY: the status is written to.
    match unsafe { libc::waitpid(process, &raw mut status, libc::WNOHANG) } {
        0 => None,
        ended if ended > 0 => Some(ExitStatus::from_raw(status).to_string()),
        _ => Some(io::Error::last_os_error().to_string()),
    }
}

fn forbid_new_privileges() -> io::Result<()> {
    // SAFETY: prctl takes numbers with this option.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

fn install(filter: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: `program` and the instructions it points at live through the call, and the kernel only reads them.
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) })
}

fn landlock_version() -> u32 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no attributes.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u64>(), 0_usize, VERSION) };
    u32::try_from(version).unwrap_or(0)
}

/// A ruleset that lets no process outside be sent a signal (where the kernel has that), and nothing be written but `/dev/null`, which many programs open.
fn no_writing() -> io::Result<OwnedFd> {
    let mut handled = LANDLOCK_CHANGES_V1;
    let version = landlock_version();
    match version {
        0 => return Err(io::Error::from_raw_os_error(libc::ENOSYS)),
        1 => {}
        2 => handled |= LANDLOCK_REFER,
        _ => handled |= LANDLOCK_REFER | LANDLOCK_TRUNCATE,
    }
    let attributes = RulesetAttributes { files: handled, network: 0, scoped: LANDLOCK_SCOPE_SIGNAL };
    // Older kernels know the first field only.
    let size = if version < 6 { size_of::<u64>() } else { size_of::<RulesetAttributes>() };
    // SAFETY: the attributes have the kernel's layout, and no more of them are read than the size says.
    let made = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0_u32) };
    let made = i32::try_from(made).unwrap_or(-1);
    check(made)?;
    // SAFETY: the kernel just made it for us alone, close-on-exec.
    let ruleset = unsafe { OwnedFd::from_raw_fd(made) };
    let nowhere = File::open("/dev/null")?;
    let rule =
        PathBeneath { allowed: handled & (LANDLOCK_WRITE_FILE | LANDLOCK_TRUNCATE), parent: nowhere.as_raw_fd() };
    const PATH_BENEATH: i32 = 1;
    // SAFETY: both descriptors are open and `rule` has the layout that the kernel expects for this type.
    let added = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0_u32)
    };
    check(i32::try_from(added).unwrap_or(-1))?;
    Ok(ruleset)
}

fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: takes an open descriptor and a number.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    check(i32::try_from(done).unwrap_or(-1))
}

fn can_make_a_socket() -> bool {
    // SAFETY: takes numbers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
    if socket >= 0 {
        // SAFETY: it was made above and is used nowhere.
        unsafe { libc::close(socket) };
    }
    socket >= 0
}

fn memory_limit() -> u64 {
    let mut limit = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: the kernel fills a whole rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_AS, limit.as_mut_ptr()) } < 0 {
        return u64::MAX;
    }
    // SAFETY: it is filled, and zeroes would be lawful too.
    unsafe { limit.assume_init() }.rlim_cur
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};
    use std::time::Duration;

    use super::{processor_time, reap};

    #[test]
    fn processor_time_grows_with_work_and_ends_with_the_process() {
        let before = processor_time(id()).unwrap();
        while processor_time(id()).unwrap() < before + Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let mut ended = Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        assert_eq!(processor_time(ended.id()), None);
        assert!(reap(ended.id()).is_some(), "what is none of ours does not run on");
    }
}
