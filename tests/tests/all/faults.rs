//! The fault matrix: each fault moves a number, fires its alert, shows on a panel, and is silent again after healing.
//!
//! Never counts on another row: each begins and ends with a healthy cluster. A row stands in the table of its
//! kind (`processes`, `disks`, `links`, `others`), its functions below it. `DGFS_FAULT=WORDS` measures only the rows
//! whose names contain the words, and leaves the page alone.

mod disks;
mod links;
mod others;
mod processes;

use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::faults::{Fault, Seen, Stage, page};
use dgfs_tests::faulty_disk::FaultyDisk;
use dgfs_tests::monitored::{Monitored, Pace, root};
use dgfs_tests::program::is_long;
use dgfs_tests::watched::Watched;

use crate::prometheus::{dashboards, metrics_of, pending};

/// Where the matrix is written.
const PAGE: &str = "docs/FAULTS.md";

/// MiB of the disk of one storage daemon.
const DISK_MIB: u64 = 256;

/// Where faults happen. A server is given up, and everything is scrubbed, while a row is watched.
const PLAN: ClusterPlan<'_> = ClusterPlan {
    servers: 3,
    replicas: 2,
    grace_s: Some(60),
    scrub_s: Some(20),
    dir: None,
    redis_dir: None,
    embedded_engine: false,
    neo4j: None,
};

/// Faults that happen on a stage of their own, which is made for the first that is measured.
struct Table {
    rows: &'static [Fault],
    begin: fn() -> Stage,
}

/// All faults, in the order in which they happen.
const MATRIX: &[Table] = &[
    Table { rows: processes::ROWS, begin: stage },
    Table { rows: disks::ROWS, begin: stage },
    Table { rows: links::ROWS, begin: links::stage },
    Table { rows: others::ROWS, begin: others::stage },
];

fn matrix() -> impl Iterator<Item = &'static Fault> {
    MATRIX.iter().flat_map(|table| table.rows.iter())
}

/// Daemons on one machine, one of them on a disk that can fail, and a mount.
fn stage() -> Stage {
    let disk = FaultyDisk::new(DISK_MIB);
    let mut cluster = Cluster::start(PLAN);
    cluster.move_data(disks::ROLE, &disk.path().join(disks::STORE));
    Stage { disk: Some(disk), ..watched(cluster) }
}

fn watched(mut cluster: Cluster) -> Stage {
    let monitored = Monitored::start(&mut cluster, Pace::AsGiven, "");
    let watched = Watched::of(&mut cluster);
    let stage = Stage { held: Vec::new(), monitored, watched, disk: None, spread: None, neo4j: None, cluster };
    in_use(stage)
}

/// Waits until the mount works and everything is scraped.
fn in_use(stage: Stage) -> Stage {
    stage.monitored.add_mount("mnt1", stage.watched.address());
    std::fs::write(stage.watched.mount.join("file"), "content").unwrap();
    stage.monitored.wait_until_all_are_up();
    stage
}

#[test]
fn every_fault_moves_a_number_fires_its_alert_and_is_silent_after_healing() {
    let pending = pending();
    let blessed = std::env::var("DGFS_BLESS").is_ok_and(|value| value == "1");
    // The short form measures a few; a fault whose number no process makes yet waits for it.
    let all = is_long() || blessed;
    let only = std::env::var("DGFS_FAULT").ok();
    let is_chosen = |fault: &Fault| only.as_ref().map_or(all || fault.short, |words| fault.name.contains(words));
    let is_ready = |fault: &Fault| is_chosen(fault) && metrics_of(fault.metric).is_disjoint(&pending);
    let mut rows: Vec<(Fault, Option<Seen>)> = Vec::new();
    for table in MATRIX {
        let mut stage = None;
        for fault in table.rows {
            let seen = is_ready(fault).then(|| fault.measure(stage.get_or_insert_with(table.begin)));
            println!("{}: {seen:?}", fault.name);
            rows.push((*fault, seen));
        }
    }
    assert!(rows.iter().any(|(_, seen)| seen.is_some()), "nothing was measured");
    if only.is_some() {
        return;
    }
    compare_page(&rows, blessed);
}

/// The page is of these rows; it is written when it is to be.
fn compare_page(rows: &[(Fault, Option<Seen>)], blessed: bool) {
    let told = page(rows);
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
    for fault in matrix() {
        let (dashboard, panel) = fault.panel;
        assert!(panels.contains(&(dashboard.to_owned(), panel.to_owned())), "{}: no panel {panel}", fault.name);
        assert!(runbook.contains(&format!("\n## {}\n", fault.alert)), "{}: no section {}", fault.name, fault.alert);
    }
}

#[test]
fn the_page_has_dashes_for_what_was_not_measured() {
    let seconds = Duration::from_secs;
    let seen = Seen { metric: seconds(6), alert: seconds(9), silence: seconds(4) };
    let told = page(&[(processes::ROWS[0], Some(seen)), (processes::ROWS[1], None)]);
    assert!(told.contains("| Servers: Down | 6 | 9 | 4 |\n"), "{told}");
    assert!(told.ends_with("| Servers: Scrape duration | – | – | – |\n"), "{told}");
    assert_eq!(
        without_seconds(&told),
        without_seconds(&page(&[(processes::ROWS[0], None), (processes::ROWS[1], None)]))
    );
}

/// The rows of the page but for their last three columns.
fn without_seconds(page: &str) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row.rsplitn(5, " | ").last().unwrap_or_default().to_owned()).collect()
}
