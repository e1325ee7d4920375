//! What a session may believe and for how long: leases, and their recall.
//!
//! A lease is implied by an answer; nothing asks for one, but for the right to keep writes back. Where several sessions
//! are mounted, meta remembers who holds which, and recalls what a change would make untrue before it makes the change.

use serde::{Deserialize, Serialize};

use crate::ids::Ino;
use crate::name::Name;

/// What a session must not believe any more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RecallOf {
    /// An inode's attributes: they are about to change. Its content may still be believed.
    Attrs(Ino),
    /// All about an inode, its content too; writes kept back are sent first, own opens registered.
    Inode(Ino),
    /// The right to keep writes of a file back: they are sent first. What is known of it stays true.
    Writes(Ino),
    /// One name of a directory.
    Name {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Name,
    },
    /// All names of a directory.
    Names(Ino),
    /// Writes kept back under a writer before: they are sent first.
    AllWrites,
}

/// A recall on its way to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {
    /// Its number, to say that it was carried out.
    pub id: u64,
    /// What.
    pub of: RecallOf,
}

/// What an answer allows, beside what it says. It travels as the answer's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leasing {
    /// What is answered must be used at once and not kept: it is about to change.
    pub unkept: bool,
    /// Writes of the file may be kept back until they are recalled.
    pub writes: bool,
    /// Others have the file open.
    pub contended: bool,
}

impl Leasing {
    const UNKEPT: u8 = 1;
    const WRITES: u8 = 2;
    const CONTENDED: u8 = 4;

    /// As bytes; none for the usual.
    #[must_use]
    pub fn to_byte(self) -> Option<u8> {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let byte =
            flag(self.unkept, Self::UNKEPT) | flag(self.writes, Self::WRITES) | flag(self.contended, Self::CONTENDED);
        (byte != 0).then_some(byte)
    }

    /// From the body of an answer. Bits that are not known say that something is not as usual: the answer is not kept.
    #[must_use]
    pub fn from_body(body: &[u8]) -> Self {
        let byte = match body {
            [] => 0,
            [byte] => *byte,
            _ => u8::MAX,
        };
        let unknown = byte & !(Self::UNKEPT | Self::WRITES | Self::CONTENDED) != 0;
        Self {
            unkept: byte & Self::UNKEPT != 0 || unknown,
            writes: byte & Self::WRITES != 0 && !unknown,
            contended: byte & Self::CONTENDED != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Leasing;

    #[test]
    fn what_an_answer_allows_survives_its_byte_and_unknown_bits_allow_nothing() {
        for bits in 0..8_u8 {
            let leasing = Leasing { unkept: bits & 1 != 0, writes: bits & 2 != 0, contended: bits & 4 != 0 };
            let body: alloc::vec::Vec<u8> = leasing.to_byte().into_iter().collect();
            assert_eq!(Leasing::from_body(&body), leasing);
        }
        for body in [&[0x0a_u8][..], &[2, 2], &[0xff]] {
            let leasing = Leasing::from_body(body);
            assert!(leasing.unkept && !leasing.writes, "{body:?}");
        }
    }
}
