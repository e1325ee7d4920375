//! File names: any bytes but `/` and NUL, 1 to 255 of them; and the hash that
//! orders a directory.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::hash::Hasher;

use serde::{Deserialize, Deserializer, Serialize};
use siphasher::sip::SipHasher24;

use crate::ids::Uuid;
use crate::limits::NAME_BYTES_MAX;
use crate::status::Status;

/// A checked file name. Never empty, `.`, `..`, longer than 255 bytes, nor
/// with `/` or NUL in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(Vec<u8>);

impl Name {
    /// Checks `bytes`.
    ///
    /// # Errors
    /// `NameTooLong` past 255 bytes, `Invalid` for every other bad name.
    pub fn new(bytes: &[u8]) -> Result<Self, Status> {
        if bytes.len() > NAME_BYTES_MAX {
            return Err(Status::NameTooLong);
        }
        let bad = bytes.is_empty() || bytes == b"." || bytes == b"..";
        if bad || bytes.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(Status::Invalid);
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Self::new(&bytes).map_err(|_| serde::de::Error::custom("not a file name"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A directory's order: SipHash-2-4 of the name keyed by the volume's id (so
/// that nobody can prepare names that collide), 55 bits, never 0.
///
/// A directory cookie is `hash << 8 | slot`; the slot tells names of one hash
/// apart. Cookies 0, 1 and 2 stand for the start, `.` and `..`.
#[must_use]
pub fn name_hash(volume: Uuid, name: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(&volume.0);
    hasher.write(name);
    (hasher.finish() >> 9).max(1)
}
