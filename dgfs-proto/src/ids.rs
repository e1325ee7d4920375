//! Identifiers. No bare integer crosses a function of another crate.
//!
//! Never allocates an id: the metadata service does, in ranges.

use core::fmt;
use core::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::class::{Class, Shape};

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
    /// A stored unit of file data. Its bits carry its class and partition. Never reused.
    ChunkId
);
nonzero_id!(
    /// A tag that people use, whatever it is called. Never reused.
    TagId
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

/// Bits of a chunk id, from the lowest: shard, number, partition, class. The order of ids is the order of
/// (class, partition), so that one partition's chunks lie together.
const SHARD_BITS: u32 = 4;
const NUMBER_BITS: u32 = 40;
const PARTITION_BITS: u32 = 12;
const PARTITION_AT: u32 = SHARD_BITS + NUMBER_BITS;
const CLASS_AT: u32 = PARTITION_AT + PARTITION_BITS;
const _: () = assert!(1 << PARTITION_BITS == crate::limits::PARTITIONS as u32);
const _: () = assert!(1 << SHARD_BITS == crate::limits::SHARDS_MAX as u32);

impl ChunkId {
    /// The chunk that `number`, handed out by the metadata service, names in a class; `None` for numbers that are used up.
    #[must_use]
    pub const fn of(class: Class, number: u64) -> Option<Self> {
        if number == 0 || number >> NUMBER_BITS != 0 {
            return None;
        }
        let partition = number % crate::limits::PARTITIONS as u64;
        Self::new((class.to_byte() as u64) << CLASS_AT | partition << PARTITION_AT | number << SHARD_BITS)
    }

    /// A chunk of a volume from before there were classes: its id is its number, of which the low bits are the partition.
    const fn is_plain(self) -> bool {
        self.get() >> CLASS_AT == 0
    }

    /// How it is stored.
    #[must_use]
    pub const fn class(self) -> Class {
        match Class::from_byte((self.get() >> CLASS_AT) as u8) {
            Some(class) => class,
            None => Class::SINGLE,
        }
    }

    /// The slice of the chunk space this chunk belongs to.
    #[must_use]
    pub const fn partition(self) -> Partition {
        let bits = if self.is_plain() { self.get() } else { self.get() >> PARTITION_AT };
        Partition((bits % crate::limits::PARTITIONS as u64) as u16)
    }

    /// Which shard of a coded chunk this is; 0 also for the chunk as a whole.
    #[must_use]
    pub const fn shard(self) -> u8 {
        match self.class().shape() {
            Shape::Replicated(_) => 0,
            Shape::Coded { .. } => (self.get() % crate::limits::SHARDS_MAX as u64) as u8,
        }
    }

    /// The chunk as a whole, of any of its shards.
    #[must_use]
    pub const fn whole(self) -> Self {
        match Self::new(self.get() - self.shard() as u64) {
            Some(whole) => whole,
            None => self,
        }
    }

    /// One shard of a coded chunk; a replicated one is its own.
    #[must_use]
    pub const fn with_shard(self, shard: u8) -> Self {
        match self.class().shape() {
            Shape::Replicated(_) => self,
            Shape::Coded { .. } => {
                let whole = self.whole().get();
                match Self::new(whole | (shard % crate::limits::SHARDS_MAX) as u64) {
                    Some(id) => id,
                    None => self,
                }
            }
        }
    }

    /// Below every chunk of a partition of a class and above those of the partition before it.
    #[must_use]
    pub const fn before(class: Class, partition: Partition) -> u64 {
        (class.to_byte() as u64) << CLASS_AT | (partition.0 as u64 % crate::limits::PARTITIONS as u64) << PARTITION_AT
    }

    /// Above every chunk of a partition of a class.
    #[must_use]
    pub const fn behind(class: Class, partition: Partition) -> u64 {
        Self::before(class, partition) + (1 << PARTITION_AT)
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

#[cfg(test)]
mod tests {
    use super::{ChunkId, Partition};
    use crate::class::Class;
    use crate::limits::PARTITIONS;

    #[test]
    fn a_chunk_id_carries_its_class_partition_and_shard() {
        let coded = Class::coded(4, 2).unwrap();
        for (class, number) in [(Class::SINGLE, 1), (coded, 4095), (coded, (1 << 40) - 1)] {
            let id = ChunkId::of(class, number).unwrap();
            assert_eq!((id.class(), id.partition(), id.shard()), (class, Partition((number % 4096) as u16), 0));
            let range = ChunkId::before(class, id.partition())..ChunkId::behind(class, id.partition());
            assert!(range.contains(&id.get()));
            let shard = id.with_shard(5);
            assert!(range.contains(&shard.get()));
            assert_eq!(shard.whole(), id);
            assert_eq!(shard.shard(), if class == coded { 5 } else { 0 });
        }
        assert_eq!((ChunkId::of(coded, 0), ChunkId::of(coded, 1 << 40)), (None, None));
    }

    #[test]
    fn a_chunk_from_before_there_were_classes_keeps_its_partition_and_has_one_copy() {
        let id = ChunkId::new(u64::from(PARTITIONS) * 3 + 7).unwrap();
        assert_eq!((id.class(), id.partition(), id.whole(), id.shard()), (Class::SINGLE, Partition(7), id, 0));
    }
}
