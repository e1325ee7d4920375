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
    /// The right to keep changes of an inode back (of a directory: of its names): they are sent first, own opens registered.
    /// What is known of it stays true.
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
    /// Everything kept back under a writer before: it is sent first.
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
    /// Changes of the file, or of what was made, may be kept back until they are recalled.
    pub writes: bool,
    /// Others have the file open.
    pub contended: bool,
    /// The directories in which names changed may be changed ahead until they are recalled.
    pub ahead: bool,
    /// And what the directory holds that something was removed from.
    pub children: bool,
}

impl Leasing {
    const UNKEPT: u8 = 1;
    const WRITES: u8 = 2;
    const CONTENDED: u8 = 4;
    const AHEAD: u8 = 8;
    const CHILDREN: u8 = 16;
    const ALL: u8 = Self::UNKEPT | Self::WRITES | Self::CONTENDED | Self::AHEAD | Self::CHILDREN;

    /// As bytes; none for the usual.
    #[must_use]
    pub fn to_byte(self) -> Option<u8> {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let byte = flag(self.unkept, Self::UNKEPT)
            | flag(self.writes, Self::WRITES)
            | flag(self.contended, Self::CONTENDED)
            | flag(self.ahead, Self::AHEAD)
            | flag(self.children, Self::CHILDREN);
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
        let unknown = byte & !Self::ALL != 0;
        let has = |bit: u8| byte & bit != 0 && !unknown;
        Self {
            unkept: byte & Self::UNKEPT != 0 || unknown,
            writes: has(Self::WRITES),
            contended: byte & Self::CONTENDED != 0,
            ahead: has(Self::AHEAD),
            children: has(Self::CHILDREN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Leasing;

    #[test]
    fn what_an_answer_allows_survives_its_byte_and_unknown_bits_allow_nothing() {
        for bits in 0..32_u8 {
            let leasing = Leasing {
                unkept: bits & 1 != 0,
                writes: bits & 2 != 0,
                contended: bits & 4 != 0,
                ahead: bits & 8 != 0,
                children: bits & 16 != 0,
            };
            let body: alloc::vec::Vec<u8> = leasing.to_byte().into_iter().collect();
            assert_eq!(Leasing::from_body(&body), leasing);
        }
        for body in [&[0x22_u8][..], &[2, 2], &[0xff]] {
            let leasing = Leasing::from_body(body);
            assert!(leasing.unkept && !leasing.writes && !leasing.ahead, "{body:?}");
        }
    }
}
