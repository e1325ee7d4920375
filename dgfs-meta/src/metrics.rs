//! What the metadata service shows Prometheus.
//!
//! Never counts itself: what `MetaService` knows is read when it is asked for.

use std::sync::{Arc, Weak};

use prometheus::IntGauge;

use dgfs_runtime::metrics::MetricSet;

use crate::service::MetaService;

struct Gauges {
    active: IntGauge,
    seq: IntGauge,
    mutations: IntGauge,
    commits: IntGauge,
    engine_calls: IntGauge,
    rows: IntGauge,
    sessions: IntGauge,
    garbage: IntGauge,
    orphans: IntGauge,
    inodes: IntGauge,
    allocated_bytes: IntGauge,
    free_bytes: IntGauge,
}

/// Registers the gauges; they are current whenever they are rendered, for as long as the service lives.
pub fn register(set: &MetricSet, service: &Arc<MetaService>) {
    let gauges = Gauges {
        active: set.gauge("dgfs_meta_active", "1 when this is the active metadata service, 0 for a standby"),
        seq: set.gauge("dgfs_meta_log_seq", "Last position of the change log"),
        mutations: set.gauge("dgfs_meta_mutations", "Changes applied since this writer became active"),
        commits: set.gauge("dgfs_meta_commit_groups", "Batches committed since this writer became active"),
        engine_calls: set.gauge("dgfs_meta_engine_calls", "Calls to the engine since the process started"),
        rows: set.gauge("dgfs_meta_rows_cached", "Rows in memory"),
        sessions: set.gauge("dgfs_meta_sessions", "Mounted clients"),
        garbage: set.gauge("dgfs_meta_garbage_versions", "Chunk versions waiting to be dropped"),
        orphans: set.gauge("dgfs_meta_orphans", "Inodes without a name that are still open"),
        inodes: set.gauge("dgfs_meta_inodes", "Inodes in use"),
        allocated_bytes: set.gauge("dgfs_meta_allocated_bytes", "Bytes allocated to files"),
        free_bytes: set.gauge("dgfs_meta_free_bytes", "Bytes the storage servers that are up can still take"),
    };
    let service = Arc::downgrade(service);
    set.before_render(move || refresh(&gauges, &service));
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn refresh(gauges: &Gauges, service: &Weak<MetaService>) {
    let status = service.upgrade().and_then(|service| service.status());
    gauges.active.set(i64::from(status.is_some()));
    let Some(status) = status else { return };
    gauges.seq.set(gauge(status.seq.0));
    gauges.mutations.set(gauge(status.mutations));
    gauges.commits.set(gauge(status.commits));
    gauges.engine_calls.set(gauge(status.engine_calls));
    gauges.rows.set(gauge(status.rows_cached));
    gauges.sessions.set(gauge(status.sessions.len() as u64));
    gauges.garbage.set(gauge(status.garbage));
    gauges.orphans.set(gauge(status.orphans));
    gauges.inodes.set(gauge(status.usage.inodes));
    gauges.allocated_bytes.set(gauge(status.usage.allocated_bytes));
    gauges.free_bytes.set(gauge(status.usage.free_bytes));
}
