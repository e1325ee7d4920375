//! What the metadata service shows Prometheus.
//!
//! Never counts itself: what `MetaService` knows is read when it is asked for.

use std::sync::{Arc, Weak};

use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use dgfs_proto::map::{ServerInfo, Standing};
use dgfs_runtime::metrics::computed::{Family, FamilyKind};
use dgfs_runtime::metrics::{MetricSet, follow, show};

use crate::service::MetaService;

mod redis;
mod watch;

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family { name, help, kind: FamilyKind::Gauge, labels }
}

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family { name, help, kind: FamilyKind::Counter, labels }
}

struct Gauges {
    active: IntGauge,
    seq: IntGauge,
    mutations: IntCounter,
    commits: IntCounter,
    engine_calls: IntCounter,
    rows: IntGauge,
    sessions: IntGauge,
    leases: IntGauge,
    recalls: IntCounter,
    recall_waits: IntGauge,
    lock_waits: IntGauge,
    garbage: IntGauge,
    orphans: IntGauge,
    inodes: IntGauge,
    allocated_bytes: IntGauge,
    free_bytes: IntGauge,
    map_epoch: IntGauge,
    servers: IntGaugeVec,
    partitions: IntGaugeVec,
    places_left: IntGaugeVec,
}

/// Registers the gauges; they are current whenever they are rendered, for as long as the service lives.
pub fn register(set: &MetricSet, service: &Arc<MetaService>) {
    let gauges = Gauges {
        active: set.gauge("dgfs_meta_active", "1 when this is the active metadata service, 0 for a standby"),
        seq: set.gauge("dgfs_meta_log_seq", "Last position of the change log"),
        mutations: set.counter("dgfs_meta_mutations_total", "Changes applied since this writer became active"),
        commits: set.counter("dgfs_meta_commit_groups_total", "Batches committed since this writer became active"),
        engine_calls: set.counter("dgfs_meta_engine_calls_total", "Calls to the engine since the process started"),
        rows: set.gauge("dgfs_meta_rows_cached", "Rows in memory"),
        sessions: set.gauge("dgfs_meta_sessions", "Mounted clients"),
        leases: set.gauge("dgfs_meta_leases", "Inodes and directories that mounts may cache, counted for each mount"),
        recalls: set
            .counter("dgfs_meta_recalls_total", "Leases (or parts of them) taken back since this writer became active"),
        recall_waits: set
            .gauge("dgfs_meta_recall_waits", "Operations that wait until mounts have forgotten what they change"),
        lock_waits: set.gauge("dgfs_meta_lock_waits", "Requests that wait for a lock"),
        garbage: set.gauge("dgfs_meta_garbage_versions", "Chunk versions waiting to be dropped"),
        orphans: set.gauge("dgfs_meta_orphans", "Inodes without a name that are still open"),
        inodes: set.gauge("dgfs_meta_inodes", "Inodes in use"),
        allocated_bytes: set.gauge("dgfs_meta_allocated_bytes", "Bytes allocated to files"),
        free_bytes: set.gauge("dgfs_meta_free_bytes", "Bytes of files the storage servers that are up can still take"),
        map_epoch: set.gauge("dgfs_meta_map_epoch", "Epoch of the cluster map"),
        servers: set.gauges(
            "dgfs_meta_storage_servers",
            "Storage servers by state: up, down, or out (given up)",
            &["state"],
        ),
        partitions: set.gauges("dgfs_meta_partitions", "Partitions by class and redundancy", &["class", "state"]),
        places_left: set.gauges("dgfs_meta_places_left", "Members of partitions that are not full", &["class"]),
    };
    service.register_numbers(set);
    watch::register(set, service);
    if service.engine_is_server() {
        redis::register(set, service);
    }
    let service = Arc::downgrade(service);
    set.before_render(move || refresh(&gauges, &service));
}

fn refresh(gauges: &Gauges, service: &Weak<MetaService>) {
    let status = service.upgrade().and_then(|service| service.status());
    gauges.active.set(i64::from(status.is_some()));
    let Some(status) = status else { return };
    show(&gauges.seq, status.seq.0);
    follow(&gauges.mutations, status.mutations);
    follow(&gauges.commits, status.commits);
    follow(&gauges.engine_calls, status.engine_calls);
    show(&gauges.rows, status.rows_cached);
    show(&gauges.sessions, status.sessions.len() as u64);
    show(&gauges.leases, status.leases);
    follow(&gauges.recalls, status.recalls);
    show(&gauges.recall_waits, status.recall_waits);
    show(&gauges.lock_waits, status.lock_waits);
    show(&gauges.garbage, status.garbage);
    show(&gauges.orphans, status.orphans);
    show(&gauges.inodes, status.usage.inodes);
    show(&gauges.allocated_bytes, status.usage.allocated_bytes);
    show(&gauges.free_bytes, status.usage.free_bytes);
    show(&gauges.map_epoch, status.map.epoch.0);
    for (state, count) in servers_by_state(&status.map.servers) {
        show(&gauges.servers.with_label_values(&[state]), count);
    }
    for health in &status.health {
        let class = health.class.to_string();
        for (state, count) in [
            ("full", health.full),
            ("degraded", health.degraded),
            ("under_minimum", health.under_minimum),
            ("unavailable", health.unavailable),
        ] {
            show(&gauges.partitions.with_label_values(&[class.as_str(), state]), u64::from(count));
        }
        show(&gauges.places_left.with_label_values(&[class.as_str()]), u64::from(health.places_left));
    }
}

/// One that was given up is not down: it is missed no more, and its copies are rebuilt elsewhere.
fn servers_by_state(servers: &[ServerInfo]) -> [(&'static str, u64); 3] {
    let (mut up, mut down, mut out) = (0, 0, 0);
    for server in servers {
        *match (server.standing, server.up) {
            (Standing::Active | Standing::Draining | Standing::Out, true) => &mut up,
            (Standing::Active | Standing::Draining, false) => &mut down,
            (Standing::Out, false) => &mut out,
        } += 1;
    }
    [("up", up), ("down", down), ("out", out)]
}

#[cfg(test)]
mod tests {
    use dgfs_proto::ids::ServerId;
    use dgfs_proto::map::{Labels, ServerInfo, Standing};

    use super::servers_by_state;

    #[test]
    fn a_server_that_was_given_up_is_not_down() {
        let server = |up, standing| ServerInfo {
            id: ServerId(1),
            address: String::new(),
            label: String::new(),
            labels: Labels::default(),
            weight: 100,
            standing,
            up,
            capacity_bytes: 0,
            used_bytes: 0,
            free_bytes: 0,
        };
        let servers = [
            server(true, Standing::Active),
            server(true, Standing::Draining),
            server(false, Standing::Active),
            server(false, Standing::Draining),
            server(false, Standing::Active),
            server(false, Standing::Out),
        ];
        assert_eq!(servers_by_state(&servers), [("up", 2), ("down", 3), ("out", 1)]);
    }
}
