//! Identifiers. No bare integer crosses a function of another crate.
//!
//! Never allocates an id: the metadata service does, in ranges.

use core::fmt;
use core::num::NonZeroU64;

use serde::{Deserialize, Serialize};

macro_rules! nonzero_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(NonZeroU64);

        impl $name {
            /// Checks and wraps `raw`; `None` when it is 0.
            #[must_use]
            pub const fn new(raw: u64) -> Option<Self> {
                match NonZeroU64::new(raw) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// The number itself, for rows and for the kernel.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

macro_rules! counter_id {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $raw);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

nonzero_id!(
    /// A file object's number; 1 is the root directory. Never reused.
    Ino
);
nonzero_id!(
    /// A stored unit of file data. Its low bits are its partition. Never reused.
    ChunkId
);
nonzero_id!(
    /// One immutable content of a chunk. Unique in the volume, never reused.
    ChunkVersion
);
nonzero_id!(
    /// One mounted client. Never reused.
    SessionId
);
counter_id!(
    /// The number of a mutation inside its session; grows by one, starts at 1.
    OpId(u64)
);
counter_id!(
    /// A position in the change log; 0 is before the first event.
    Seq(u64)
);
counter_id!(
    /// A generation of a writer (engine lease) or of the cluster map.
    Epoch(u64)
);
counter_id!(
    /// A member of the storage cluster.
    ServerId(u32)
);
counter_id!(
    /// A slice of the chunk space, below [`crate::limits::PARTITIONS`].
    Partition(u16)
);

impl Ino {
    /// The root directory.
    pub const ROOT: Self = match Self::new(1) {
        Some(ino) => ino,
        None => panic!("1 is not zero"),
    };
}

impl ChunkId {
    /// The slice of the chunk space this chunk belongs to.
    #[must_use]
    pub const fn partition(self) -> Partition {
        Partition((self.get() % crate::limits::PARTITIONS as u64) as u16)
    }
}

impl Seq {
    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Sixteen random bytes that name a volume or a cluster for good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}
