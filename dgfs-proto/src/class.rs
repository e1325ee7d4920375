//! Redundancy classes: how often, or how coded, a chunk is stored.
//!
//! Never says where: the cluster map does. Always: a class fits one byte, which is part of every chunk's id.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::limits::{REPLICAS_MAX, SHARDS_MAX};

/// Bit of a class byte that says "coded": then four bits of data shards and two of parity shards less one.
const CODED: u8 = 0x40;
const PARITY_MAX: u8 = 4;

/// How a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(Shape);

/// What a class consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// So many whole copies.
    Replicated(u8),
    /// Reed–Solomon: any `data` of the `data + parity` shards give the chunk back.
    Coded {
        /// Shards that hold the bytes.
        data: u8,
        /// Shards that may be lost.
        parity: u8,
    },
}

/// Not a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a redundancy class is r1 to r5 (copies) or ec:K+M with K from 2, M from 1 to 4 and at most 16 together, as ec:4+2"
)]
pub struct ClassError;

impl Class {
    /// One copy.
    pub const SINGLE: Self = Self(Shape::Replicated(1));

    /// `copies` whole copies, 1 to [`REPLICAS_MAX`].
    ///
    /// # Errors
    /// The number is none of these.
    pub const fn replicated(copies: u8) -> Result<Self, ClassError> {
        if copies == 0 || copies > REPLICAS_MAX { Err(ClassError) } else { Ok(Self(Shape::Replicated(copies))) }
    }

    /// `data` + `parity` shards, at most [`SHARDS_MAX`] together.
    ///
    /// # Errors
    /// Fewer than two data shards, no parity or more than four, or too many in all.
    pub const fn coded(data: u8, parity: u8) -> Result<Self, ClassError> {
        if data < 2 || data >= 16 || parity == 0 || parity > PARITY_MAX || data + parity > SHARDS_MAX {
            return Err(ClassError);
        }
        Ok(Self(Shape::Coded { data, parity }))
    }

    /// What it consists of.
    #[must_use]
    pub const fn shape(self) -> Shape {
        self.0
    }

    /// Servers that hold a chunk of it.
    #[must_use]
    pub const fn width(self) -> usize {
        match self.0 {
            Shape::Replicated(copies) => copies as usize,
            Shape::Coded { data, parity } => data as usize + parity as usize,
        }
    }

    /// Servers that may be lost at once with everything still readable.
    #[must_use]
    pub const fn tolerates(self) -> usize {
        match self.0 {
            Shape::Replicated(copies) => copies as usize - 1,
            Shape::Coded { parity, .. } => parity as usize,
        }
    }

    /// Holders that a write must reach; with fewer it waits. More than half of the copies; of shards one more than are needed
    /// to read, so that a server may be lost right afterwards.
    #[must_use]
    pub const fn minimum(self) -> usize {
        match self.0 {
            Shape::Replicated(copies) => (copies as usize).div_ceil(2),
            Shape::Coded { data, .. } => data as usize + 1,
        }
    }

    /// How a chunk is stored that the policy wants in this class and that cannot be coded, or not yet: as many copies as the code
    /// may lose shards, and one more.
    #[must_use]
    pub const fn as_copies(self) -> Self {
        match self.0 {
            Shape::Replicated(_) => self,
            Shape::Coded { parity, .. } => Self(Shape::Replicated(parity + 1)),
        }
    }

    /// Bytes stored for each byte written, in thousandths.
    #[must_use]
    pub const fn overhead_permille(self) -> u32 {
        match self.0 {
            Shape::Replicated(copies) => copies as u32 * 1000,
            Shape::Coded { data, parity } => (data as u32 + parity as u32) * 1000 / data as u32,
        }
    }

    /// Its byte; never 0.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self.0 {
            Shape::Replicated(copies) => copies,
            Shape::Coded { data, parity } => CODED | data << 2 | (parity - 1),
        }
    }

    /// The class with that byte.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        let class =
            if byte & CODED == 0 { Self::replicated(byte) } else { Self::coded(byte >> 2 & 15, (byte & 3) + 1) };
        match class {
            Ok(class) if class.to_byte() == byte => Some(class),
            Ok(_) | Err(_) => None,
        }
    }
}

impl Default for Class {
    fn default() -> Self {
        Self::SINGLE
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Shape::Replicated(copies) => write!(f, "r{copies}"),
            Shape::Coded { data, parity } => write!(f, "ec:{data}+{parity}"),
        }
    }
}

impl FromStr for Class {
    type Err = ClassError;

    fn from_str(text: &str) -> Result<Self, ClassError> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
            if plain { digits.parse::<u8>().map_err(|_| ClassError) } else { Err(ClassError) }
        };
        if let Some(copies) = text.strip_prefix('r') {
            return Self::replicated(number(copies)?);
        }
        let (data, parity) = text.strip_prefix("ec:").and_then(|shards| shards.split_once('+')).ok_or(ClassError)?;
        Self::coded(number(data)?, number(parity)?)
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u8(self.to_byte())
        }
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = <alloc::string::String as Deserialize>::deserialize(deserializer)?;
            return text.parse().map_err(de::Error::custom);
        }
        Self::from_byte(u8::deserialize(deserializer)?).ok_or_else(|| de::Error::custom(ClassError))
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, ClassError};

    #[test]
    fn every_class_is_its_byte_and_its_word() {
        let all: alloc::vec::Vec<Class> = (0..=u8::MAX).filter_map(Class::from_byte).collect();
        assert!(all.len() > 40 && all.contains(&Class::coded(8, 3).unwrap()));
        for class in all {
            assert_eq!(Class::from_byte(class.to_byte()), Some(class));
            assert_eq!(alloc::format!("{class}").parse(), Ok(class));
            assert!(class.to_byte() > 0 && class.to_byte() < 0x80);
            assert!(class.minimum() <= class.width() && class.tolerates() < class.width());
        }
        assert_eq!((Class::from_byte(0), Class::from_byte(6), Class::from_byte(0x80)), (None, None, None));
    }

    #[test]
    fn words_that_are_no_class_are_refused() {
        for text in ["", "r", "r0", "r6", "r+3", "R3", "ec:", "ec:1+1", "ec:4+0", "ec:4+5", "ec:13+4", "ec:4+2 ", "3"] {
            assert_eq!(text.parse::<Class>(), Err(ClassError), "{text}");
        }
    }
}
