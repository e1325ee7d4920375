//! How the bytes of a chunk are made smaller where they are stored.
//!
//! Never seen by who reads: a storage daemon compresses when it writes a record and answers reads with the bytes that were
//! written. Checksums are those of the bytes, not of what they became.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A way to compress, named as people know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// LZ4 block format: little work, about half the size for text.
    Lz4,
    /// Zstandard (RFC 8878): more work, smaller.
    Zstd,
}

impl Compression {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::None, Self::Lz4, Self::Zstd];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A word that names no compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCompression;

impl fmt::Display for UnknownCompression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a compression is none, lz4 or zstd")
    }
}

impl core::error::Error for UnknownCompression {}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(word: &str) -> Result<Self, UnknownCompression> {
        Self::ALL.into_iter().find(|compression| compression.name() == word).ok_or(UnknownCompression)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::Compression;

    #[test]
    fn each_is_read_as_it_is_written_and_nothing_else_is() {
        for compression in Compression::ALL {
            assert_eq!(compression.to_string().parse(), Ok(compression));
        }
        assert!("gzip".parse::<Compression>().is_err() && "LZ4".parse::<Compression>().is_err());
    }
}
