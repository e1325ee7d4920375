//! How the Redis server is that holds the rows.
//!
//! Never asks it: the service does, in the background. Always: a number that Redis does not tell is not shown.

use std::sync::Arc;

use dgfs_runtime::metrics::MetricSet;
use dgfs_runtime::metrics::computed::{Family, Samples};

use crate::engine::EngineHealth;
use crate::metrics::{counter, gauge};
use crate::service::MetaService;

const UP: Family = gauge("dgfs_meta_redis_up", "1 when Redis answers, within two seconds", &[]);
const USED: Family = gauge("dgfs_meta_redis_used_memory_bytes", "Memory that Redis uses", &[]);
const MAX: Family = gauge("dgfs_meta_redis_max_memory_bytes", "Memory that Redis may use; 0: as much as there is", &[]);
const LOG_ENABLED: Family = gauge("dgfs_meta_redis_aof_enabled", "1 when Redis keeps a log (appendonly)", &[]);
const LOG_WRITTEN: Family =
    gauge("dgfs_meta_redis_aof_last_write_ok", "1 when the last write to that log went well", &[]);
const SNAPSHOT_SAVED: Family =
    gauge("dgfs_meta_redis_rdb_last_save_ok", "1 when the last snapshot of Redis went well", &[]);
const PRIMARY: Family = gauge("dgfs_meta_redis_primary", "1 when it is the primary, 0 when it is a replica", &[]);
const REPLICAS: Family = gauge("dgfs_meta_redis_replicas", "Replicas that follow it", &[]);
const LAG: Family =
    gauge("dgfs_meta_redis_replica_lag_bytes", "Bytes of the log that the replica furthest behind lacks", &[]);
const EVICTED: Family =
    counter("dgfs_meta_redis_evicted_keys_total", "Keys that Redis threw away for want of memory", &[]);
const DURABLE: Family =
    gauge("dgfs_meta_redis_durable", "1 when its settings fit the durability level of the volume", &[]);

static FAMILIES: [Family; 11] =
    [UP, USED, MAX, LOG_ENABLED, LOG_WRITTEN, SNAPSHOT_SAVED, PRIMARY, REPLICAS, LAG, EVICTED, DURABLE];

/// Registers them, as of the last look, for as long as the service lives.
pub(super) fn register(set: &MetricSet, service: &Arc<MetaService>) {
    let service = Arc::downgrade(service);
    set.computed(&FAMILIES, move |samples| {
        let Some(health) = service.upgrade().map(|service| service.watched().health()) else { return };
        if !health.known {
            return;
        }
        add(samples, UP, u64::from(health.found.is_some()));
        if let Some(found) = &health.found {
            show_found(samples, found);
        }
    });
}

fn add(samples: &mut Samples, family: Family, value: u64) {
    samples.add(family.name, &[], value as f64);
}

fn show_found(samples: &mut Samples, found: &EngineHealth) {
    let told = [
        (USED, found.used_bytes),
        (MAX, found.max_bytes),
        (LOG_ENABLED, found.log_enabled.map(u64::from)),
        (LOG_WRITTEN, found.log_written.map(u64::from)),
        (SNAPSHOT_SAVED, found.snapshot_saved.map(u64::from)),
        (PRIMARY, Some(u64::from(found.is_primary))),
        (REPLICAS, Some(found.replicas)),
        (LAG, Some(found.replica_lag_bytes)),
        (EVICTED, Some(found.evicted_keys)),
        (DURABLE, Some(u64::from(found.not_durable.is_none()))),
    ];
    for (family, value) in told {
        if let Some(value) = value {
            add(samples, family, value);
        }
    }
}
