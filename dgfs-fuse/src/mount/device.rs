//! Mounts: the kernel's `mount(2)` as root, `fusermount3` for everybody else.
//!
//! Never unmounts; the returned descriptor is the connection, and closing the last copy of it ends the mount's life.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::mount::MountError;
use crate::mount::checks::{find_helper, is_root};
use crate::mount::options::MountOptions;

/// Mounts on `path`; `source` is what `mount` and `df` show.
///
/// # Errors
/// See [`MountError`].
pub fn mount(path: &Path, source: &str, options: &MountOptions) -> Result<OwnedFd, MountError> {
    if !is_root() {
        return mount_by_helper(path, source, options);
    }
    match mount_by_kernel(path, source, options) {
        // A container's root without CAP_SYS_ADMIN.
        Err(MountError::Refused { source: error, .. })
            if error.raw_os_error() == Some(libc::EPERM) && find_helper().is_some() =>
        {
            mount_by_helper(path, source, options)
        }
        outcome => outcome,
    }
}

fn mount_by_kernel(path: &Path, source: &str, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let refused = |source| MountError::Refused { path: path.to_owned(), source };
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(MountError::DeviceRefused)?;
    let mode = std::fs::metadata(path).map_err(refused)?.mode();
    // SAFETY: getuid and getgid have no arguments and cannot fail.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    let mut data =
        format!("fd={},rootmode={mode:o},user_id={uid},group_id={gid},default_permissions", device.as_raw_fd());
    if options.all_users {
        data.push_str(",allow_other");
    }
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|error| refused(io::Error::other(error)));
    let (source, target) = (text(source.as_bytes())?, text(path.as_os_str().as_bytes())?);
    let (kind, data) = (text(b"fuse.dgfs")?, text(data.as_bytes())?);
    // SAFETY: all four are strings that end in NUL and outlive the call.
    let outcome = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), options.kernel_flags(), data.as_ptr().cast())
    };
    if outcome == 0 { Ok(device.into()) } else { Err(refused(io::Error::last_os_error())) }
}

fn mount_by_helper(path: &Path, source: &str, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let helper = find_helper().ok_or(MountError::NoHelper)?;
    let refused = |source| MountError::Refused { path: path.to_owned(), source };
    let (ours, theirs) = UnixStream::pair().map_err(refused)?;
    let passed: RawFd = theirs.as_raw_fd();
    let mut command = Command::new(helper);
    command.arg("-o").arg(helper_options(source, options)).arg("--").arg(path);
    command.env("_FUSE_COMMFD", passed.to_string()).stdin(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: between fork and exec only fcntl is called, which is allowed there.
    unsafe {
        command.pre_exec(move || {
            if libc::fcntl(passed, libc::F_SETFD, 0) == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
    let child = command.spawn().map_err(refused)?;
    drop(theirs);
    let received = receive_descriptor(&ours);
    let output = child.wait_with_output().map_err(refused)?;
    match received {
        Ok(device) if output.status.success() => Ok(device),
        _ => Err(MountError::HelperRefused(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

fn helper_options(source: &str, options: &MountOptions) -> String {
    // fusermount3 splits at commas that no backslash precedes.
    let source = source.replace('\\', "\\\\").replace(',', "\\,");
    let mut words = vec![format!("fsname={source}"), "subtype=dgfs".to_owned(), "default_permissions".to_owned()];
    words.extend(options.flag_words().into_iter().map(str::to_owned));
    if options.all_users {
        words.push("allow_other".to_owned());
    }
    words.join(",")
}

fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    const ROOM: usize = 64;
    let mut byte = [0_u8; 1];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // Room for one descriptor's header, aligned as the kernel wants it.
    let mut control = [0_u64; ROOM / 8];
    // SAFETY: msghdr is plain data for which zeros are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = ROOM;
    loop {
        // SAFETY: `message` points to buffers that live in this function with the lengths given.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match received {
            1.. => break,
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    // SAFETY: `message` was filled by recvmsg; CMSG_FIRSTHDR checks that a whole header is there.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    let Some(header) = header.filter(|header| header.cmsg_type == libc::SCM_RIGHTS) else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    };
    // SAFETY: SCM_RIGHTS carries at least one descriptor, which is ours from now on.
    Ok(unsafe { OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()) })
}

#[cfg(test)]
mod tests {
    use super::helper_options;
    use crate::mount::options::MountOptions;

    #[test]
    fn a_source_with_a_comma_is_one_option_for_the_helper() {
        let options = MountOptions::parse(&["ro,nosuid,nodev".to_owned()], false).unwrap();
        assert_eq!(
            helper_options("dgfs:a,b", &options),
            "fsname=dgfs:a\\,b,subtype=dgfs,default_permissions,ro,nosuid,nodev"
        );
    }
}
