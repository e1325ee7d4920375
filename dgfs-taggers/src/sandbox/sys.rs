//! The system calls of the sandbox: all of this crate's `unsafe`.
//!
//! Never allocates between fork and exec: what a child needs is made before. Every call's failure is either returned or,
//! where a fence is optional, left to be seen in [`InForce`].

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::process::Command;

use super::filter::{self, Instruction};
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

pub(super) fn confine(command: &mut Command, limits: &Limits) -> io::Result<()> {
    let limits = *limits;
    let filter = filter::outside();
    let ruleset = no_writing().ok();
    // SAFETY: getpid has no conditions.
    let parent = unsafe { libc::getpid() };
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes system calls only; the filter and the ruleset exist before, and
    // dropping nothing there, it neither allocates nor frees.
    unsafe {
        command.pre_exec(move || {
            die_with(parent)?;
            set_limits(&limits)?;
            if limits.network == Network::Refused {
                leave_the_network();
            }
            forbid_new_privileges()?;
            if let Some(ruleset) = &ruleset {
                restrict(ruleset)?;
            }
            if limits.network == Network::Refused
                && let Some(filter) = &filter
            {
                install(filter)?;
            }
            Ok(())
        });
    }
    Ok(())
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

fn set_limits(limits: &Limits) -> io::Result<()> {
    let set = |resource, value: u64| {
        let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
        // SAFETY: `limit` is a whole rlimit.
        check(unsafe { libc::setrlimit(resource, &raw const limit) })
    };
    set(libc::RLIMIT_AS, limits.memory_bytes)?;
    set(libc::RLIMIT_CPU, limits.cpu_seconds())?;
    set(libc::RLIMIT_FSIZE, 0)?;
    set(libc::RLIMIT_NOFILE, limits.open_files)?;
    set(libc::RLIMIT_CORE, 0)?;
    // SAFETY: takes numbers.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) })
}

/// Enters an empty network namespace, with a user namespace where that is needed; the filter holds where neither is
/// allowed.
fn leave_the_network() {
    // SAFETY: unshare takes a number and changes this process alone.
    unsafe {
        if libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) < 0 {
            libc::unshare(libc::CLONE_NEWNET);
        }
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

/// A ruleset that lets nothing be written but `/dev/null`, which many programs open.
fn no_writing() -> io::Result<OwnedFd> {
    let mut handled = LANDLOCK_CHANGES_V1;
    match landlock_version() {
        0 => return Err(io::Error::from_raw_os_error(libc::ENOSYS)),
        1 => {}
        2 => handled |= LANDLOCK_REFER,
        _ => handled |= LANDLOCK_REFER | LANDLOCK_TRUNCATE,
    }
    // SAFETY: `handled` is the first field of the attributes, whose size is given.
    let made = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, std::mem::size_of::<u64>(), 0_u32)
    };
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
