//! Series about chunks: by class, by partition, and of the busiest by id.
//!
//! Never a series for every chunk. Always: at most 20 chunks by id, and four classes by partition.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use dgfs_runtime::metrics::{MetricSet, follow, show};

use crate::store::Store;
use crate::uses::WINDOWS;

pub(super) struct ChunkNumbers {
    operations: IntCounterVec,
    bytes: IntCounterVec,
    partitions: IntCounterVec,
    hot: IntCounterVec,
    working_chunks: IntGaugeVec,
    working_bytes: IntGaugeVec,
    counted: IntGauge,
    table_bytes: IntGauge,
}

impl ChunkNumbers {
    pub(super) fn new(set: &MetricSet) -> Self {
        Self {
            operations: set.counters(
                "dgfs_stored_chunk_operations_total",
                "Gets (read), puts (write) and failed ones (error) by redundancy class since the start",
                &["class", "kind"],
            ),
            bytes: set.counters(
                "dgfs_stored_chunk_bytes_total",
                "Bytes got (read) and put (write) by redundancy class since the start",
                &["class", "kind"],
            ),
            partitions: set.counters(
                "dgfs_stored_partition_operations_total",
                "Gets and puts by partition since the start, of the first four classes in use",
                &["class", "partition"],
            ),
            hot: set.counters(
                "dgfs_stored_hot_chunk_operations_total",
                "Gets (read), puts (write) and failed ones (error) of the 20 busiest chunks, as long as they are among them",
                &["chunk", "kind"],
            ),
            working_chunks: set.gauges(
                "dgfs_stored_working_set_chunks",
                "Chunks that were got or put within the window",
                &["window"],
            ),
            working_bytes: set.gauges(
                "dgfs_stored_working_set_bytes",
                "Bytes of data in the chunks that were got or put within the window",
                &["window"],
            ),
            counted: set.gauge("dgfs_stored_counted_chunks", "Chunks whose use is counted one by one"),
            table_bytes: set.gauge("dgfs_stored_chunk_table_bytes", "Memory of the counts by chunk"),
        }
    }

    pub(super) fn refresh(&self, store: &Store) {
        self.refresh_totals(store);
        let survey = store.tending.survey();
        for ((window, _), (chunks, bytes)) in WINDOWS.iter().zip(survey.working_set) {
            show(&self.working_chunks.with_label_values(&[window]), chunks);
            show(&self.working_bytes.with_label_values(&[window]), bytes);
        }
        show(&self.counted, survey.chunks);
        show(&self.table_bytes, survey.memory_bytes);
        self.hot.reset();
        for row in &survey.hot {
            let chunk = row.chunk.get().to_string();
            for (kind, count) in [("read", row.reads), ("write", row.writes), ("error", u64::from(row.errors))] {
                self.hot.with_label_values(&[&chunk, kind]).inc_by(count);
            }
        }
    }

    fn refresh_totals(&self, store: &Store) {
        let now = |number: &AtomicU64| number.load(Ordering::Relaxed);
        for (class, totals) in store.totals.classes() {
            let class = class.to_string();
            for (kind, count) in [("read", &totals.reads), ("write", &totals.writes), ("error", &totals.errors)] {
                follow(&self.operations.with_label_values(&[&class, kind]), now(count));
            }
            for (kind, bytes) in [("read", &totals.read_bytes), ("write", &totals.write_bytes)] {
                follow(&self.bytes.with_label_values(&[&class, kind]), now(bytes));
            }
            let used = totals.partitions.iter().map(now).enumerate().filter(|(_, count)| *count > 0);
            for (partition, count) in used {
                follow(&self.partitions.with_label_values(&[&class, &partition.to_string()]), count);
            }
        }
    }
}
