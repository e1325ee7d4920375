//! The programs by which the kernel refuses system calls.
//!
//! Never allows another architecture's calls, which have other numbers. The refused calls fail with `EACCES`, so that a
//! program can say what it missed.

use super::Network;

/// An instruction of a BPF program, as the kernel lays it out (`struct sock_filter`).
pub(super) type Instruction = libc::sock_filter;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

/// Calls that reach another process or the kernel itself. `io_uring` could do the work of all others unseen.
const OUTSIDE: &[libc::c_long] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_pidfd_send_signal,
];

/// Calls that change a file's mode, owner, times and attributes, of which Landlock knows nothing.
const ATTRIBUTES: &[libc::c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    // fchmodat2, setxattrat, removexattrat and file_setattr have one number on all architectures; libc lacks some of them.
    452,
    463,
    466,
    469,
];

/// The same in the old spelling, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const ATTRIBUTES_OLD: &[libc::c_long] =
    &[libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat];
#[cfg(not(target_arch = "x86_64"))]
const ATTRIBUTES_OLD: &[libc::c_long] = &[];

/// `FS_IOC_SETFLAGS` and `FS_IOC_FSSETXATTR` (`linux/fs.h`): what `chattr` does, for which a file need not be open for writing.
const CHANGING_IOCTLS: [u32; 2] = [0x4008_6602, 0x401c_5820];

/// Calls that send a signal to the process that their first argument names.
const SIGNALS: &[libc::c_long] =
    &[libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo];

/// Whom a process may send signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signals {
    /// What it has started: it is the first process of a namespace and sees no other. Signals to itself are refused, since the
    /// kernel drops those that the first process does not handle, and it would believe that they were sent.
    Started,
    /// Nobody.
    Nobody,
}

/// A call that fails: always, or where an argument (0 to 5, its lower half) has a value.
#[derive(Clone, Copy)]
struct Refused {
    number: libc::c_long,
    argument: Option<(u32, u32)>,
}

fn always(number: libc::c_long) -> Refused {
    Refused { number, argument: None }
}

/// Calls that a worker needs no more once it runs.
const AFTER_START: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_open,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_renameat2,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_truncate,
];

/// The same in the old spelling, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const AFTER_START_OLD: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_chmod,
    libc::SYS_chown,
];
#[cfg(not(target_arch = "x86_64"))]
const AFTER_START_OLD: &[libc::c_long] = &[];

/// Refuses calls to the outside.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn outside(network: Network, signals: Signals) -> Option<Vec<Instruction>> {
    let calls = OUTSIDE.iter().chain(ATTRIBUTES).chain(ATTRIBUTES_OLD).copied().map(always);
    let socket = (network == Network::Refused).then_some(always(libc::SYS_socket));
    let ioctls = CHANGING_IOCTLS.map(|request| Refused { number: libc::SYS_ioctl, argument: Some((1, request)) });
    let itself = match signals {
        Signals::Started => Some((0, 1)),
        Signals::Nobody => None,
    };
    let signals = SIGNALS.iter().map(|number| Refused { number: *number, argument: itself });
    Some(program(ARCHITECTURE, calls.chain(socket).chain(ioctls).chain(signals)))
}

/// Refuses what a worker needs no more.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn after_start() -> Option<Vec<Instruction>> {
    Some(program(ARCHITECTURE, AFTER_START.iter().chain(AFTER_START_OLD).copied().map(always)))
}

/// The numbers of other architectures are not written down here: they have no filter.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn outside(_network: Network, _signals: Signals) -> Option<Vec<Instruction>> {
    None
}

/// See [`outside`].
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn after_start() -> Option<Vec<Instruction>> {
    None
}

fn program(architecture: u32, refused: impl Iterator<Item = Refused>) -> Vec<Instruction> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const NOT_BELOW: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // Offsets in `struct seccomp_data`.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    // Eight bytes each, the lower half first.
    const ARGUMENTS: u32 = 16;
    // On x86-64 the calls of the x32 ABI begin here; no other architecture has so high a number.
    const X32: u32 = 0x4000_0000;
    let step = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EACCES as u32;
    let mut program = vec![
        step(LOAD, 0, 0, ARCH),
        step(EQUAL, 1, 0, architecture),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(LOAD, 0, 0, NUMBER),
        step(NOT_BELOW, 0, 1, X32),
        step(RETURN, 0, 0, refuse),
    ];
    for Refused { number, argument } in refused {
        // Numbers are small; a negative one stands for a call that this kernel's headers do not have.
        let Ok(number) = u32::try_from(number) else { continue };
        match argument {
            None => program.extend([step(EQUAL, 0, 1, number), step(RETURN, 0, 0, refuse)]),
            Some((argument, value)) => program.extend([
                step(EQUAL, 0, 4, number),
                step(LOAD, 0, 0, ARGUMENTS + 8 * argument),
                step(EQUAL, 0, 1, value),
                step(RETURN, 0, 0, refuse),
                step(LOAD, 0, 0, NUMBER),
            ]),
        }
    }
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}
