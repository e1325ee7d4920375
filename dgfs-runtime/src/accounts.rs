//! Numbers of users and groups by name, as this machine knows them.
//!
//! Never keeps an answer, and never lists accounts. Always: the answer is that of the C library, which asks what
//! `nsswitch.conf(5)` names (files, LDAP, …), so a call may take as long as that takes: call it where waiting is allowed.

use std::ffi::{CString, c_char};
use std::io;
use std::mem::MaybeUninit;

/// Bytes of the first buffer for an account's texts; enough for all but groups of very many members.
const BUFFER_BYTES: usize = 4 << 10;
/// Bytes of the last one that is tried: some hundred thousand members.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// The number of the user called `name`; none where there is none.
///
/// # Errors
/// The directory of users does not answer, or an entry of it is larger than 4 MiB.
pub fn uid_of(name: &str) -> io::Result<Option<u32>> {
    let name = named(name)?;
    with_buffer(|buffer, room| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: `name` ends in NUL, `entry` and `found` are places to write to, `buffer` has `room` bytes; all outlive the call.
        let code = unsafe { libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer, room, &raw mut found) };
        // SAFETY: where `found` is set it points to `entry`, which was filled then.
        let uid = (!found.is_null()).then(|| unsafe { (*found).pw_uid });
        (code, uid)
    })
}

/// The number of the group called `name`; none where there is none.
///
/// # Errors
/// As [`uid_of`].
pub fn gid_of(name: &str) -> io::Result<Option<u32>> {
    let name = named(name)?;
    with_buffer(|buffer, room| {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: as in `uid_of`.
        let code = unsafe { libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer, room, &raw mut found) };
        // SAFETY: where `found` is set it points to `entry`, which was filled then.
        let gid = (!found.is_null()).then(|| unsafe { (*found).gr_gid });
        (code, gid)
    })
}

fn named(name: &str) -> io::Result<CString> {
    CString::new(name).map_err(io::Error::from)
}

/// Calls `ask` with larger buffers as long as it says ERANGE.
fn with_buffer(ask: impl Fn(*mut c_char, usize) -> (i32, Option<u32>)) -> io::Result<Option<u32>> {
    let mut room = BUFFER_BYTES;
    loop {
        let mut buffer: Vec<c_char> = vec![0; room];
        return match ask(buffer.as_mut_ptr(), room) {
            (_, Some(number)) => Ok(Some(number)),
            // getpwnam(3): these, too, may stand for "not found".
            (0 | libc::ENOENT | libc::ESRCH, None) => Ok(None),
            (libc::ERANGE, None) if room < BUFFER_BYTES_MAX => {
                room *= 4;
                continue;
            }
            (code, None) => Err(io::Error::from_raw_os_error(code)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{gid_of, uid_of, with_buffer};

    #[test]
    fn root_is_known_and_nobody_of_an_odd_name_is() {
        assert_eq!((uid_of("root").unwrap(), gid_of("root").unwrap()), (Some(0), Some(0)));
        for odd in ["no such account", "", "a:b"] {
            assert_eq!((uid_of(odd).unwrap(), gid_of(odd).unwrap()), (None, None), "{odd:?}");
        }
        assert!(uid_of("a\0b").is_err());
    }

    #[test]
    fn a_buffer_grows_to_its_bound() {
        let found = with_buffer(|_, room| if room < 100_000 { (libc::ERANGE, None) } else { (0, Some(7)) });
        assert_eq!(found.unwrap(), Some(7));
        assert_eq!(with_buffer(|_, _| (libc::ERANGE, None)).unwrap_err().raw_os_error(), Some(libc::ERANGE));
    }
}
