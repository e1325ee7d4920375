//! `dgfs umount`: takes a mount away and waits for its process to have written everything.
//!
//! Never kills anything.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use crate::cli::Failure;
use crate::cli::args::UmountArgs;
use crate::cli::check::followed;
use crate::cli::files::MountFacts;
use crate::cli::mounted::{MountPoint, explained, is_silent};
use crate::mount::checks::is_root;
use crate::mount::table::{absolute, mounted_at};
use crate::mount::unmount::{How, unmount};

/// How long the process may take to write what is left.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the command.
pub(crate) fn run(args: &UmountArgs) -> Result<(), Failure> {
    let path =
        absolute(&followed(&args.path)).map_err(|error| Failure::new(format!("{}: {error}", args.path.display())))?;
    let mount = mounted_at(&path).map_err(|error| Failure::new(format!("read the mount table: {error}")))?;
    match mount {
        None => return Err(Failure::new(format!("{} is not a mount point", path.display()))),
        Some(mount) if !mount.is_dgfs() => {
            let kind = mount.kind;
            return Err(Failure::new(format!("{} is a mount of {kind}, not of dgfs: use umount", path.display())));
        }
        Some(_) => {}
    }
    let process = match MountPoint::of(&path).and_then(|mount| mount.attribute("dgfs.mount")) {
        Ok(json) => MountFacts::parse(&json).ok().and_then(|facts| open_process(facts.pid).ok()),
        // Its process is gone: there is nobody to wait for.
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            return unmount(&path, How::Lazy).map_err(|error| refused(&path, &error));
        }
        // What it has not sent would be lost with its process: that is for whoever says so.
        Err(error) if is_silent(&error) && !args.lazy => {
            let Failure { sentence, code } = explained(&path, &error);
            let at = path.display();
            return Err(
                Failure::new(format!("{sentence}; dgfs umount --lazy {at} takes it out of the tree")).with_code(code)
            );
        }
        Err(_) => None,
    };
    let how = if args.lazy { How::Lazy } else { How::WhenIdle };
    unmount(&path, how).map_err(|error| refused(&path, &error))?;
    match process {
        Some(process) if !args.lazy => wait_for_end(&process, &path),
        Some(_) | None => Ok(()),
    }
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    let at = path.display();
    match error.raw_os_error() {
        Some(libc::EBUSY) => Failure::new(format!(
            "{at} is in use: `fuser -vm {at}` names the programs; end them, or give --lazy to take it away when they end"
        )),
        Some(libc::EPERM) => Failure::new(format!("{at} may be unmounted only by root or by who mounted it")),
        _ if !is_root() => {
            Failure::new(format!("unmounting {at} failed: {error}; only root or who mounted it may unmount it"))
        }
        _ => Failure::new(format!("unmounting {at} failed: {error}")),
    }
}

fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers and gives a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the descriptor is new and ours.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn wait_for_end(process: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let mut poll = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let patience = i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `poll` is one entry that outlives the call.
    match unsafe { libc::poll(&raw mut poll, 1, patience) } {
        1 => Ok(()),
        _ => Err(Failure::new(format!(
            "{} is unmounted, but its process is still writing after {} s: see its log",
            path.display(),
            PATIENCE.as_secs()
        ))),
    }
}
