//! Uses of all chunks together, by class and by partition.
//!
//! Never names a chunk. Always: [`CLASSES_MAX`] classes at most are counted by partition, so that the series shown are bounded
//! whatever ids a chunk may have; others are counted by class only.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dgfs_proto::class::Class;
use dgfs_proto::ids::ChunkId;
use dgfs_proto::limits::PARTITIONS;

use super::Used;

/// Classes counted by partition: a class takes 32 KiB, and as many series as there are partitions in use.
const CLASSES_MAX: usize = 4;
/// What a class byte can be.
const BYTES: usize = 256;

/// Totals of one class since the start.
#[derive(Default)]
pub(crate) struct ClassTotals {
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) write_bytes: AtomicU64,
    /// Gets and puts by partition; empty for a class that is one too many.
    pub(crate) partitions: Box<[AtomicU64]>,
}

/// Totals of all classes.
pub(crate) struct Totals {
    classes: Box<[OnceLock<ClassTotals>]>,
    by_partition: AtomicUsize,
}

impl Default for Totals {
    fn default() -> Self {
        Self { classes: (0..BYTES).map(|_| OnceLock::new()).collect(), by_partition: AtomicUsize::new(0) }
    }
}

impl Totals {
    pub(crate) fn count(&self, chunk: ChunkId, used: Used) {
        let Some(class) = self.classes.get(usize::from(chunk.class().to_byte())) else { return };
        let class = class.get_or_init(|| self.new_class());
        let add = |number: &AtomicU64, by: u64| number.fetch_add(by, Ordering::Relaxed);
        match used {
            Used::Read(len) => {
                add(&class.reads, 1);
                add(&class.read_bytes, len);
            }
            Used::Written(len) => {
                add(&class.writes, 1);
                add(&class.write_bytes, len);
            }
            Used::Failed => {
                add(&class.errors, 1);
                return;
            }
        }
        if let Some(partition) = class.partitions.get(usize::from(chunk.partition().0)) {
            add(partition, 1);
        }
    }

    /// The classes that were used.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (Class, &ClassTotals)> {
        let all = (0_u8..=u8::MAX).zip(&self.classes);
        all.filter_map(|(byte, class)| Some((Class::from_byte(byte)?, class.get()?)))
    }

    fn new_class(&self) -> ClassTotals {
        let is_one_too_many = self.by_partition.fetch_add(1, Ordering::Relaxed) >= CLASSES_MAX;
        let partitions = if is_one_too_many { 0 } else { usize::from(PARTITIONS) };
        ClassTotals { partitions: (0..partitions).map(|_| AtomicU64::new(0)).collect(), ..ClassTotals::default() }
    }
}
