//! The fault matrix: each fault moves a number, fires its alert, shows on a panel, and is silent again after healing.
//!
//! Never counts on another row: each begins and ends with a healthy cluster. A row is added to [`MATRIX`]; its functions stand
//! below it.

use std::fs::File;
use std::sync::Mutex;
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::faults::{Fault, Seen, Stage, page};
use dgfs_tests::monitored::{Monitored, Pace, root};
use dgfs_tests::process::signal;
use dgfs_tests::program::is_long;
use dgfs_tests::watched::Watched;
use rustix::process::Signal;

use crate::prometheus::{dashboards, metrics_of, pending};

/// Where the matrix is written.
const PAGE: &str = "docs/FAULTS.md";

/// All faults, in the order in which they happen.
const MATRIX: &[Fault] = &[
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

#[test]
fn every_fault_moves_a_number_fires_its_alert_and_is_silent_after_healing() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 3, replicas: 2, ..ClusterPlan::default() });
    let monitored = Monitored::start(&mut cluster, Pace::AsGiven, "");
    let watched = Watched::of(&mut cluster);
    monitored.add_mount("mnt1", watched.address());
    std::fs::write(watched.mount.join("file"), "content").unwrap();
    monitored.wait_until_all_are_up();
    let mut stage = Stage { monitored, watched, cluster };
    let pending = pending();
    let blessed = std::env::var("DGFS_BLESS").is_ok_and(|value| value == "1");
    // The short form measures a few; a fault whose number no process makes yet waits for it.
    let all = is_long() || blessed;
    let is_ready = |fault: &Fault| (all || fault.short) && metrics_of(fault.metric).is_disjoint(&pending);
    let measure = |fault: &Fault| {
        let seen = is_ready(fault).then(|| fault.measure(&mut stage));
        println!("{}: {seen:?}", fault.name);
        (*fault, seen)
    };
    let rows: Vec<(Fault, Option<Seen>)> = MATRIX.iter().map(measure).collect();
    assert!(rows.iter().any(|(_, seen)| seen.is_some()), "nothing was measured");
    let told = page(&rows);
    let file = root().join(PAGE);
    if blessed {
        std::fs::write(&file, &told).unwrap();
    }
    let found = std::fs::read_to_string(file).unwrap_or_default();
    assert_eq!(
        without_seconds(&found),
        without_seconds(&told),
        "{PAGE} is of another matrix: DGFS_BLESS=1 makes it anew"
    );
}

#[test]
fn every_fault_shows_on_a_panel_and_has_a_runbook() {
    let (panels, runbook) = (dashboards::titles(), dgfs_tests::monitored::source("docs/RUNBOOK.md"));
    for fault in MATRIX {
        let (dashboard, panel) = fault.panel;
        assert!(panels.contains(&(dashboard.to_owned(), panel.to_owned())), "{}: no panel {panel}", fault.name);
        assert!(runbook.contains(&format!("\n## {}\n", fault.alert)), "{}: no section {}", fault.name, fault.alert);
    }
}

#[test]
fn the_page_has_dashes_for_what_was_not_measured() {
    let seconds = Duration::from_secs;
    let seen = Seen { metric: seconds(6), alert: seconds(9), silence: seconds(4) };
    let told = page(&[(MATRIX[0], Some(seen)), (MATRIX[1], None)]);
    assert!(told.contains("| Servers: Down | 6 | 9 | 4 |\n"), "{told}");
    assert!(told.ends_with("| Servers: Scrape duration | – | – | – |\n"), "{told}");
    assert_eq!(without_seconds(&told), without_seconds(&page(&[(MATRIX[0], None), (MATRIX[1], None)])));
}

/// The rows of the page but for their last three columns.
fn without_seconds(page: &str) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row.rsplitn(5, " | ").last().unwrap_or_default().to_owned()).collect()
}
