//! What the index shows Prometheus.
//!
//! Never counts what is kept elsewhere. Always: the number of series is bounded.

use std::sync::{Arc, Weak};

use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use dgfs_runtime::metrics::{LATENCY_BOUNDS_S, MetricSet, show};

use crate::index::Index;
use crate::neo4j::service::Neo4j;

/// Counts of questions.
#[derive(Clone)]
pub struct QueryNumbers {
    pub(crate) queries: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) late: IntCounter,
    pub(crate) seconds: Histogram,
    pub(crate) wait_seconds: Histogram,
}

struct IndexNumbers {
    applied: IntGauge,
    lag: IntGauge,
    lag_seconds: Gauge,
    building: IntGauge,
    inodes: IntGauge,
    tags: IntGauge,
    edges: IntGauge,
    failed: IntGauge,
    memory: IntGauge,
    disk: IntGauge,
}

/// Registers the numbers of an index; they are current whenever they are rendered, for as long as it lives.
///
/// # Panics
/// When the names are taken.
#[must_use]
pub fn register(set: &MetricSet, index: &Arc<Index>) -> QueryNumbers {
    let numbers = IndexNumbers {
        applied: set.gauge("dgfs_index_applied_seq", "The last event of the change log that is applied"),
        lag: set.gauge("dgfs_index_lag_events", "Events of the change log that are not applied yet"),
        lag_seconds: set.real("dgfs_index_lag_seconds", "Seconds since it last had applied all that it knows of"),
        building: set.gauge("dgfs_index_building", "Is the index being built anew: 0 or 1"),
        inodes: set.gauge("dgfs_index_inodes", "Inodes in the graph"),
        tags: set.gauge("dgfs_index_tags", "Tags that people made"),
        edges: set.gauge("dgfs_index_tag_edges", "Pairs of inode and tag, by hand and by taggers"),
        failed: set.gauge("dgfs_index_failed_files", "Files on which a tagger failed"),
        memory: set.gauge("dgfs_index_memory_bytes", "Bytes of memory that columns and bitmaps take"),
        disk: set.gauge("dgfs_index_disk_bytes", "Bytes that the index takes on disk"),
    };
    let queries = QueryNumbers {
        queries: set.counter("dgfs_index_queries_total", "Questions since the start"),
        refused: set.counter("dgfs_index_refused_queries_total", "Questions refused since the start"),
        late: set.counter("dgfs_index_late_queries_total", "Questions whose time was up since the start"),
        seconds: set.histogram(
            "dgfs_index_query_seconds",
            "Time to answer a question, waiting left out",
            &LATENCY_BOUNDS_S,
        ),
        wait_seconds: set.histogram(
            "dgfs_index_wait_seconds",
            "Time a question waited for the changes made before it",
            &LATENCY_BOUNDS_S,
        ),
    };
    let index = Arc::downgrade(index);
    set.before_render(move || refresh(&numbers, &index));
    queries
}

/// Registers how far Neo4j has followed the index.
///
/// # Panics
/// When the names are taken.
pub fn register_neo4j(set: &MetricSet, neo4j: &Neo4j) {
    let connected = set.gauge("dgfs_index_neo4j_up", "Does Neo4j answer: 0 or 1");
    let lag = set.gauge("dgfs_index_neo4j_lag_events", "Transactions of the index that are not in Neo4j yet");
    let seq = set.gauge("dgfs_index_neo4j_applied_seq", "The last event of the change log that is in Neo4j");
    let (status, index) = (neo4j.status(), Arc::downgrade(neo4j.index()));
    set.before_render(move || {
        let (status, applied) = (status.read(), index.upgrade().map_or(0, |index| index.applied().stamp));
        show(&connected, u64::from(status.connected));
        show(&lag, applied.saturating_sub(status.written));
        show(&seq, status.seq);
    });
}

fn refresh(numbers: &IndexNumbers, index: &Weak<Index>) {
    let Some(index) = index.upgrade() else { return };
    let status = index.status();
    numbers.lag_seconds.set(index.behind_for().as_secs_f64());
    for (shown, value) in [
        (&numbers.applied, status.seq.0),
        (&numbers.lag, index.lag()),
        (&numbers.building, u64::from(status.building.is_some())),
        (&numbers.inodes, status.inodes),
        (&numbers.tags, status.tags),
        (&numbers.edges, status.edges),
        (&numbers.failed, status.failed),
        (&numbers.memory, status.memory_bytes),
        (&numbers.disk, status.disk_bytes),
    ] {
        show(shown, value);
    }
}
