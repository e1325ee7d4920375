//! Requests to `@ask` by ioctl(2): the way that the kernel leaves open on a mount that is read-only.
//!
//! Never carries anything that changes something: a handle that is not open for writing only asks. Always: a piece of a request is
//! the whole argument of one call, whose number says its length, as FUSE passes on no other (`FUSE_IOCTL`, restricted).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// Our letter among the numbers of ioctl(2), and the one call that there is.
const ASK: u32 = (b'G' as u32) << 8 | 1;
/// The call has an argument that the kernel reads (`_IOW` of ioctl(2) on x86 and arm).
const TAKES: u32 = 1 << 30;
/// Bits of a length.
const LENGTH_BITS: u32 = 14;
/// Bytes of one piece.
const PIECE_BYTES_MAX: usize = (1 << LENGTH_BITS) - 1;

/// The number of the call that brings so many bytes; none where they are too many.
fn number(len: usize) -> Option<u32> {
    let len = u32::try_from(len).ok().filter(|len| *len as usize <= PIECE_BYTES_MAX)?;
    Some(TAKES | len << 16 | ASK)
}

/// Is it our call, with all bytes of its argument?
pub(crate) fn is_ours(cmd: u32, argument: &[u8]) -> bool {
    number(argument.len()) == Some(cmd)
}

/// Sends a request through an open `@ask`; its answer is read from there.
pub(crate) fn send(file: &File, request: &[u8]) -> io::Result<()> {
    for piece in request.chunks(PIECE_BYTES_MAX) {
        let number = number(piece.len()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the call reads as many bytes of `piece` as its number says, which is its length.
        let code = unsafe { libc::ioctl(file.as_raw_fd(), number.into(), piece.as_ptr()) };
        if code < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PIECE_BYTES_MAX, is_ours, number};

    #[test]
    fn a_number_says_its_length_and_none_is_longer() {
        assert_eq!(number(5), Some(0x4005_4701));
        assert_eq!(number(PIECE_BYTES_MAX), Some(0x7fff_4701));
        assert_eq!(number(PIECE_BYTES_MAX + 1), None);
        assert!(is_ours(0x4005_4701, b"abcde"));
        // Another length, another letter, another direction.
        assert!(!is_ours(0x4005_4701, b"abcd") && !is_ours(0x4005_4801, b"abcde") && !is_ours(0x8005_4701, b"abcde"));
    }
}
