//! Processes that die or hang, and Redis.
//!
//! Never leaves one dead.

use std::fs::File;
use std::sync::Mutex;

use dgfs_tests::faults::{Fault, Stage};
use dgfs_tests::process::signal;
use rustix::process::Signal;

/// Faults of processes and of what keeps the metadata, in the order in which they happen.
pub(super) const ROWS: &[Fault] = &[
    Fault {
        name: "storage daemon killed",
        inject: |stage| stage.cluster.kill9_all(&["stored-3"]),
        heal: |stage| stage.cluster.start_the_dead(),
        metric: "dgfs_meta_storage_servers{state=\"down\"} > 0",
        alert: "DgfsStorageServerDown",
        panel: ("Servers", "Down"),
        short: true,
    },
    Fault {
        name: "storage daemon hung",
        inject: |stage| stage.cluster.signal("stored-2", Signal::STOP),
        heal: |stage| stage.cluster.signal("stored-2", Signal::CONT),
        metric: "scrape_duration_seconds{job=\"dgfs-stored\"} > 0.9",
        alert: "DgfsStorageServerHung",
        panel: ("Servers", "Scrape duration"),
        short: false,
    },
    Fault {
        name: "index stopped",
        inject: |stage| stage.cluster.kill9_all(&["index-1"]),
        heal: |stage| stage.cluster.start_the_dead(),
        metric: "up{job=\"dgfs-index\"} == 0",
        alert: "DgfsIndexDown",
        panel: ("Index and taggers", "Index services that answer"),
        short: false,
    },
    Fault {
        name: "Redis killed",
        inject: |stage| stage.cluster.redis.kill9(),
        heal: |stage| stage.cluster.redis.restart(),
        metric: "dgfs_meta_redis_up == 0",
        alert: "DgfsRedisDown",
        panel: ("Metadata and Redis", "Redis answers"),
        short: true,
    },
    Fault {
        name: "Redis' log switched off",
        inject: |stage| drop(stage.cluster.redis.command("CONFIG SET appendonly no")),
        heal: |stage| drop(stage.cluster.redis.command("CONFIG SET appendonly yes")),
        metric: "dgfs_meta_redis_durable == 0",
        alert: "DgfsRedisNotDurable",
        panel: ("Metadata and Redis", "Redis keeps its promise"),
        short: true,
    },
    Fault {
        name: "standby killed",
        inject: |stage| kill_the_standby(stage),
        heal: |stage| stage.cluster.start_the_dead(),
        metric: "dgfs_meta_standbys == 0 and on (instance) dgfs_meta_active == 1",
        alert: "DgfsStandbyMissing",
        panel: ("Metadata and Redis", "Standbys"),
        short: false,
    },
    Fault {
        name: "all metadata services killed",
        inject: |stage| stage.cluster.kill9_all(&["meta-1", "meta-2"]),
        heal: |stage| stage.cluster.start_the_dead(),
        metric: "(sum(dgfs_meta_active) or vector(0)) == 0",
        alert: "DgfsNoActiveMeta",
        panel: ("Metadata and Redis", "Active"),
        short: false,
    },
    Fault {
        name: "Redis nearly out of memory",
        inject: |stage| nearly_fill_redis(stage),
        heal: |stage| drop(stage.cluster.redis.command("CONFIG SET maxmemory 0")),
        metric: "dgfs_meta_redis_used_memory_bytes / (dgfs_meta_redis_max_memory_bytes > 0) > 0.9",
        alert: "DgfsRedisMemoryHigh",
        panel: ("Metadata and Redis", "Redis memory"),
        short: false,
    },
    Fault {
        name: "mount hung",
        inject: |stage| signal(stage.watched.mount.pid(), Signal::STOP),
        heal: |stage| signal(stage.watched.mount.pid(), Signal::CONT),
        metric: "scrape_duration_seconds{job=\"dgfs-mount\"} > 0.9",
        alert: "DgfsMountHung",
        panel: ("Mounts", "Mounts that answer"),
        short: true,
    },
    Fault {
        name: "lock held by a session that is silent",
        inject: |stage| hold_a_lock_in_silence(stage),
        heal: |stage| {
            signal(stage.watched.mount.pid(), Signal::CONT);
            *HELD.lock().unwrap() = None;
        },
        metric: "dgfs_meta_dead_session_locks > 0 and on (instance) dgfs_meta_active == 1",
        alert: "DgfsLockHeldByDeadSession",
        panel: ("Metadata and Redis", "Locks of silent sessions"),
        short: false,
    },
];

/// A file that is locked while its mount says nothing.
static HELD: Mutex<Option<File>> = Mutex::new(None);

fn hold_a_lock_in_silence(stage: &mut Stage) {
    let file = File::create(stage.watched.mount.join("locked")).unwrap();
    file.lock().unwrap();
    *HELD.lock().unwrap() = Some(file);
    signal(stage.watched.mount.pid(), Signal::STOP);
}

/// Leaves Redis a twentieth of what it uses.
fn nearly_fill_redis(stage: &mut Stage) {
    let memory = stage.cluster.redis.command("INFO memory");
    let used =
        memory.lines().find_map(|line| line.trim().strip_prefix("used_memory:")).expect("Redis says what it uses");
    let used: u64 = used.parse().expect("a number");
    let _ = stage.cluster.redis.command(&format!("CONFIG SET maxmemory {}", used + used / 20));
}

fn kill_the_standby(stage: &mut Stage) {
    let standbys = stage.monitored.prometheus.query("dgfs_meta_active == 0").unwrap();
    let name = standbys.first().and_then(|standby| standby.labels.get("name")).expect("a standby");
    stage.cluster.kill9_all(&[name]);
}
