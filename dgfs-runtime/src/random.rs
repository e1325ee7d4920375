//! Random bytes from the operating system.
//!
//! Never seeds a generator of its own: what is made here may become an id or
//! a secret. Always: every byte asked for is filled, or an error says why not.

use std::io;

/// Fills `bytes` from the kernel's generator.
///
/// # Errors
/// Those of `getrandom` (a sandbox that forbids it).
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: the pointer and the length describe `rest`, which is writable for the whole call.
        let filled = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        let Ok(filled) = usize::try_from(filled) else {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        };
        let Some(unfilled) = rest.get_mut(filled..) else {
            return Err(io::Error::other("getrandom answered with more bytes than asked for"));
        };
        rest = unfilled;
    }
    Ok(())
}

/// A random number.
///
/// # Errors
/// As [`fill`].
pub fn number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::{fill, number};

    #[test]
    fn every_byte_of_a_long_buffer_is_filled() {
        let mut bytes = vec![0; 100_000];
        fill(&mut bytes).unwrap();
        assert!(bytes.rchunks(64).all(|chunk| chunk.len() < 64 || chunk.iter().any(|byte| *byte != 0)));
    }

    #[test]
    fn two_numbers_differ() {
        assert_ne!(number().unwrap(), number().unwrap());
    }
}
