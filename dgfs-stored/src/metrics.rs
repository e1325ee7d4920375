//! What the storage daemon shows Prometheus.
//!
//! Never counts anything itself: the store does, and is read when it is asked for. Always: the number of series is
//! bounded, also those by chunk.

mod chunks;

use std::sync::{Arc, Weak};

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use dgfs_proto::chunk::Upkeep;
use dgfs_runtime::metrics::{MetricSet, follow, show};

use crate::health::Trouble;
use crate::metrics::chunks::ChunkNumbers;
use crate::store::Store;

struct Numbers {
    capacity: IntGauge,
    used: IntGauge,
    free: IntGauge,
    live: IntGauge,
    records: IntGauge,
    versions: IntGauge,
    segments: IntGauge,
    puts: IntCounter,
    gets: IntCounter,
    put_bytes: IntCounter,
    get_bytes: IntCounter,
    checksum_errors: IntCounter,
    syncs: IntCounter,
    lost: IntGauge,
    lost_bytes: IntGauge,
    waste: IntGauge,
    read_only: IntGauge,
    waiting: IntGauge,
    restart_needed: IntGauge,
    disk_errors: IntCounterVec,
    meta_silent: IntGauge,
    epoch: IntGauge,
    chunks: ChunkNumbers,
    upkeep: UpkeepNumbers,
}

struct UpkeepNumbers {
    partitions_left: IntGauge,
    bytes_left: IntGauge,
    estimate: IntGauge,
    fetched: IntCounter,
    fetched_bytes: IntCounter,
    not_found: IntCounter,
    healed: IntCounter,
    recompressed: IntCounter,
    scrubbed_bytes: IntCounter,
    scrub_errors: IntCounter,
    scrubbed_at: IntGauge,
}

impl UpkeepNumbers {
    fn new(set: &MetricSet) -> Self {
        Self {
            partitions_left: set.gauge(
                "dgfs_stored_repair_partitions",
                "Partitions of which this server has yet to fetch what it lacks",
            ),
            bytes_left: set.gauge("dgfs_stored_repair_bytes", "Bytes it knows it has yet to fetch"),
            estimate: set.gauge(
                "dgfs_stored_repair_estimate_seconds",
                "Seconds until nothing is left, at the pace so far; 0: none",
            ),
            fetched: set.counter("dgfs_stored_repair_versions_total", "Versions fetched from other servers"),
            fetched_bytes: set.counter("dgfs_stored_repair_fetched_bytes_total", "Bytes fetched from other servers"),
            not_found: set
                .counter("dgfs_stored_repair_lost_total", "Versions of which no good copy was found anywhere"),
            healed: set.counter("dgfs_stored_healed_versions_total", "Damaged versions replaced by a good copy"),
            recompressed: set.counter(
                "dgfs_stored_recompressed_versions_total",
                "Versions written anew because another compression is wanted for old data",
            ),
            scrubbed_bytes: set.counter("dgfs_stored_scrubbed_bytes_total", "Bytes read by the scrub"),
            scrub_errors: set.counter("dgfs_stored_scrub_errors_total", "Damaged versions that the scrub found"),
            scrubbed_at: set.gauge(
                "dgfs_stored_scrubbed_timestamp_seconds",
                "When the last whole scrub ended; 0: none since the start",
            ),
        }
    }

    fn refresh(&self, upkeep: &Upkeep) {
        show(&self.partitions_left, upkeep.partitions_left);
        show(&self.bytes_left, upkeep.bytes_left);
        show(&self.estimate, upkeep.estimate_s);
        show(&self.scrubbed_at, upkeep.scrubbed_at);
        for (shown, value) in [
            (&self.fetched, upkeep.fetched),
            (&self.fetched_bytes, upkeep.fetched_bytes),
            (&self.not_found, upkeep.not_found),
            (&self.healed, upkeep.healed),
            (&self.recompressed, upkeep.recompressed),
            (&self.scrubbed_bytes, upkeep.scrubbed_bytes),
            (&self.scrub_errors, upkeep.scrub_errors),
        ] {
            follow(shown, value);
        }
    }
}

impl Numbers {
    fn new(set: &MetricSet) -> Self {
        Self {
            capacity: set.gauge("dgfs_stored_capacity_bytes", "Bytes of the file system the store lies on"),
            used: set.gauge("dgfs_stored_used_bytes", "Bytes that segments and index take on disk"),
            free: set.gauge("dgfs_stored_free_bytes", "Bytes the store can still take, its reserve subtracted"),
            live: set.gauge("dgfs_stored_live_bytes", "Bytes of data in records that are in use"),
            records: set.gauge(
                "dgfs_stored_record_bytes",
                "Bytes that these records take on disk: less than their data where these are compressed",
            ),
            versions: set.gauge("dgfs_stored_versions", "Chunk versions held"),
            segments: set.gauge("dgfs_stored_segments", "Segment files"),
            puts: set.counter("dgfs_stored_puts_total", "Versions put since the start"),
            gets: set.counter("dgfs_stored_gets_total", "Ranges read since the start"),
            put_bytes: set.counter("dgfs_stored_put_bytes_total", "Bytes put since the start"),
            get_bytes: set.counter("dgfs_stored_get_bytes_total", "Bytes read since the start"),
            checksum_errors: set
                .counter("dgfs_stored_damaged_reads_total", "Reads refused because of damage since the start"),
            syncs: set.counter("dgfs_stored_syncs_total", "Disk syncs since the start"),
            lost: set.gauge("dgfs_stored_lost_versions", "Chunk versions the last start did not find whole"),
            lost_bytes: set.gauge("dgfs_stored_lost_bytes", "Bytes of data that are gone with them"),
            waste: set.gauge(
                "dgfs_stored_waste_bytes",
                "Bytes that segments take beyond the records in use: compaction gives them back",
            ),
            read_only: set.gauge(
                "dgfs_stored_disk_read_only",
                "1: the disk refused the last write, for another reason than room; the disk is tried every five seconds",
            ),
            waiting: set.gauge(
                "dgfs_stored_disk_waiting_seconds",
                "How long the oldest read, write or sync of the disk under way has been waited for; 0: none is",
            ),
            restart_needed: set.gauge(
                "dgfs_stored_restart_needed",
                "1: a sync or the index failed, and nothing is taken until the daemon is restarted; /readyz says which",
            ),
            disk_errors: set.counters("dgfs_stored_disk_errors_total", "What the disk refused", &["kind"]),
            meta_silent: set.gauge(
                "dgfs_stored_meta_silent_seconds",
                "Seconds since a metadata service answered a heartbeat, or since the start",
            ),
            epoch: set.gauge("dgfs_stored_map_epoch", "Epoch of the cluster map it goes by; 0: none yet"),
            chunks: ChunkNumbers::new(set),
            upkeep: UpkeepNumbers::new(set),
        }
    }

    fn refresh_health(&self, store: &Store) {
        let health = &store.health;
        show(&self.read_only, u64::from(health.is_refusing()));
        show(&self.waiting, health.waiting_s());
        show(&self.restart_needed, u64::from(store.check_writable().is_err()));
        for trouble in Trouble::ALL {
            follow(&self.disk_errors.with_label_values(&[trouble.name()]), health.errors(trouble));
        }
        show(&self.meta_silent, store.measures.meta_silent_s());
        show(&self.epoch, store.measures.epoch());
    }
}

/// Registers the numbers; they are current whenever they are rendered, for as long as the store lives.
///
/// # Panics
/// When the names are taken.
pub fn register(set: &MetricSet, store: &Arc<Store>) {
    let numbers = Numbers::new(set);
    set.adopt(store.measures.seconds());
    set.adopt(store.measures.errors());
    set.adopt(store.health.sync_seconds());
    let store = Arc::downgrade(store);
    set.before_render(move || refresh(&numbers, &store));
}

fn refresh(numbers: &Numbers, store: &Weak<Store>) {
    let Some(store) = store.upgrade() else { return };
    let status = store.status();
    for (shown, value) in [
        (&numbers.capacity, status.capacity_bytes),
        (&numbers.used, status.used_bytes),
        (&numbers.free, status.free_bytes),
        (&numbers.live, status.live_bytes),
        (&numbers.records, status.record_bytes),
        (&numbers.versions, status.versions),
        (&numbers.segments, status.segments),
        (&numbers.lost, status.lost_versions),
        (&numbers.lost_bytes, status.lost_bytes),
    ] {
        show(shown, value);
    }
    for (shown, value) in [
        (&numbers.puts, status.puts),
        (&numbers.gets, status.gets),
        (&numbers.put_bytes, status.put_bytes),
        (&numbers.get_bytes, status.get_bytes),
        (&numbers.checksum_errors, status.checksum_errors),
        (&numbers.syncs, status.syncs),
    ] {
        follow(shown, value);
    }
    show(&numbers.waste, store.maintenance.segment_bytes().saturating_sub(status.record_bytes));
    numbers.refresh_health(&store);
    numbers.chunks.refresh(&store);
    numbers.upkeep.refresh(&status.upkeep);
}
