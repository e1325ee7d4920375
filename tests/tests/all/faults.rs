//! The fault matrix: each fault moves a number, fires its alert, shows on a panel, and is silent again after healing.
//!
//! Never counts on another row: each begins and ends with a healthy cluster. A row is added to [`MATRIX`]; its functions stand
//! below it.

use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::faults::{Fault, Seen, Stage, page};
use dgfs_tests::monitored::{Monitored, Pace, root};
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
    },
    Fault {
        name: "storage daemon hung",
        inject: |stage| stage.cluster.signal("stored-2", Signal::STOP),
        heal: |stage| stage.cluster.signal("stored-2", Signal::CONT),
        metric: "scrape_duration_seconds{job=\"dgfs-stored\"} > 0.9",
        alert: "DgfsStorageServerHung",
        panel: ("Servers", "Scrape duration"),
    },
    Fault {
        name: "index stopped",
        inject: |stage| stage.cluster.kill9_all(&["index-1"]),
        heal: |stage| stage.cluster.start_the_dead(),
        metric: "up{job=\"dgfs-index\"} == 0",
        alert: "DgfsIndexDown",
        panel: ("Index and taggers", "Index services that answer"),
    },
    Fault {
        name: "Redis killed",
        inject: |stage| stage.cluster.redis.kill9(),
        heal: |stage| stage.cluster.redis.restart(),
        metric: "dgfs_meta_redis_up == 0",
        alert: "DgfsRedisDown",
        panel: ("Metadata and Redis", "Redis answers"),
    },
    Fault {
        name: "Redis' log switched off",
        inject: |stage| drop(stage.cluster.redis.command("CONFIG SET appendonly no")),
        heal: |stage| drop(stage.cluster.redis.command("CONFIG SET appendonly yes")),
        metric: "dgfs_meta_redis_durable == 0",
        alert: "DgfsRedisNotDurable",
        panel: ("Metadata and Redis", "Redis keeps its promise"),
    },
    Fault {
        name: "standby killed",
        inject: |stage| kill_the_standby(stage),
        heal: |stage| stage.cluster.start_the_dead(),
        metric: "dgfs_meta_standbys == 0 and on (instance) dgfs_meta_active == 1",
        alert: "DgfsStandbyMissing",
        panel: ("Metadata and Redis", "Standbys"),
    },
];

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
    // A fault whose number no process makes yet waits for it.
    let is_ready = |fault: &Fault| metrics_of(fault.metric).is_disjoint(&pending);
    let measure = |fault: &Fault| {
        let seen = is_ready(fault).then(|| fault.measure(&mut stage));
        println!("{}: {seen:?}", fault.name);
        (*fault, seen)
    };
    let rows: Vec<(Fault, Option<Seen>)> = MATRIX.iter().map(measure).collect();
    assert!(rows.iter().any(|(_, seen)| seen.is_some()), "nothing was measured");
    let told = page(&rows);
    let file = root().join(PAGE);
    if std::env::var("DGFS_BLESS").is_ok_and(|value| value == "1") {
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
