//! What the storage daemon shows Prometheus.
//!
//! Never counts anything itself: the store does. Always: the number of series is
//! bounded, also those by chunk.

use std::sync::{Arc, Weak};
use std::time::Duration;

use prometheus::{IntGauge, IntGaugeVec};

use dgfs_runtime::metrics::MetricSet;

use crate::store::Store;

/// How often the numbers are refreshed.
const REFRESH: Duration = Duration::from_secs(2);
/// Every so many refreshes the chunks are sorted by use.
const HOT_EVERY: u32 = 8;
/// Chunks shown by number: the most used.
const HOT_MAX: usize = 20;

struct Gauges {
    capacity: IntGauge,
    used: IntGauge,
    free: IntGauge,
    live: IntGauge,
    versions: IntGauge,
    segments: IntGauge,
    puts: IntGauge,
    gets: IntGauge,
    put_bytes: IntGauge,
    get_bytes: IntGauge,
    checksum_errors: IntGauge,
    syncs: IntGauge,
    lost: IntGauge,
    hot_uses: IntGaugeVec,
}

/// Registers the gauges and keeps them fresh for as long as the store lives.
///
/// # Panics
/// Outside of a tokio runtime, or when the names are taken.
pub fn register(set: &MetricSet, store: &Arc<Store>) {
    let gauges = Gauges {
        capacity: set.gauge("dgfs_stored_capacity_bytes", "Bytes of the file system the store lies on"),
        used: set.gauge("dgfs_stored_used_bytes", "Bytes that segments and index take on disk"),
        free: set.gauge("dgfs_stored_free_bytes", "Bytes the store can still take, its reserve subtracted"),
        live: set.gauge("dgfs_stored_live_bytes", "Bytes of data in records that are in use"),
        versions: set.gauge("dgfs_stored_versions", "Chunk versions held"),
        segments: set.gauge("dgfs_stored_segments", "Segment files"),
        puts: set.gauge("dgfs_stored_puts", "Versions put since the start"),
        gets: set.gauge("dgfs_stored_gets", "Ranges read since the start"),
        put_bytes: set.gauge("dgfs_stored_put_bytes", "Bytes put since the start"),
        get_bytes: set.gauge("dgfs_stored_get_bytes", "Bytes read since the start"),
        checksum_errors: set.gauge("dgfs_stored_checksum_errors", "Reads refused because of damage since the start"),
        syncs: set.gauge("dgfs_stored_syncs", "Disk syncs since the start"),
        lost: set.gauge("dgfs_stored_recovery_lost", "What the last start had to give up, in lines of the log"),
        hot_uses: set.gauges("dgfs_stored_hot_chunk_uses", "Gets and puts of the most used chunks", &["chunk"]),
    };
    tokio::spawn(refresh(gauges, Arc::downgrade(store)));
}

async fn refresh(gauges: Gauges, store: Weak<Store>) {
    let mut round = 0_u32;
    while let Some(store) = store.upgrade() {
        gauges.show(&store);
        if round.is_multiple_of(HOT_EVERY) {
            gauges.show_hot(&store);
        }
        round = round.wrapping_add(1);
        drop(store);
        tokio::time::sleep(REFRESH).await;
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Gauges {
    fn show(&self, store: &Store) {
        let status = store.status();
        for (shown, value) in [
            (&self.capacity, status.capacity_bytes),
            (&self.used, status.used_bytes),
            (&self.free, status.free_bytes),
            (&self.live, status.live_bytes),
            (&self.versions, status.versions),
            (&self.segments, status.segments),
            (&self.puts, status.puts),
            (&self.gets, status.gets),
            (&self.put_bytes, status.put_bytes),
            (&self.get_bytes, status.get_bytes),
            (&self.checksum_errors, status.checksum_errors),
            (&self.syncs, status.syncs),
            (&self.lost, status.lost.len() as u64),
        ] {
            shown.set(gauge(value));
        }
    }

    fn show_hot(&self, store: &Store) {
        let mut uses: Vec<(u64, u64)> =
            store.chunk_uses().iter().map(|(chunk, uses)| (uses.reads + uses.writes, chunk.get())).collect();
        uses.sort_unstable_by(|one, other| other.cmp(one));
        self.hot_uses.reset();
        for (count, chunk) in uses.into_iter().take(HOT_MAX) {
            self.hot_uses.with_label_values(&[&chunk.to_string()]).set(gauge(count));
        }
    }
}
