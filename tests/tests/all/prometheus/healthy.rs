//! A healthy cluster in use is quiet: no alert fires, and no log has a warning that is not expected.
//!
//! Never forgives an error in a log. Always: the rules and the pace of the configuration that we give away.
//!
//! `DGFS_HEALTHY_SECS` makes it longer; the long form takes ten minutes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::load::{Load, LoadPlan};
use dgfs_tests::monitored::{Monitored, Pace};
use dgfs_tests::program::seconds;
use dgfs_tests::rng::Rng;
use dgfs_tests::watched::Watched;

use super::live::{OF_THE_MACHINE, work};

/// Parts of warnings that a healthy cluster may give.
const EXPECTED: &[&str] = &[];

#[test]
fn a_healthy_cluster_under_load_raises_no_alert_and_logs_no_warning_that_is_not_expected() {
    let time = seconds("DGFS_HEALTHY_SECS", 30, 600);
    let (mut rng, _) = Rng::announced("DGFS_HEALTHY_SEED");
    let plan = ClusterPlan { servers: 3, replicas: 2, scrub_s: Some(60), ..ClusterPlan::default() };
    let mut cluster = Cluster::start(plan);
    let monitored = Monitored::start(&mut cluster, Pace::AsGiven, "");
    let watched = Watched::of(&mut cluster);
    let other = cluster.mount();
    monitored.add_mount("mnt1", watched.address());
    monitored.wait_until_all_are_up();
    // A daemon that was just started again may have missed another one for a moment.
    let before: Vec<_> = cluster.log_files().into_iter().map(|log| (log.clone(), text_of(&log).len())).collect();
    let (write, reads) = (watched.mount.join("load"), [watched.mount.join("load"), other.join("load")]);
    std::fs::create_dir(&write).unwrap();
    let read: Vec<_> = reads.iter().map(PathBuf::as_path).collect();
    let mut load = Load::start(LoadPlan { write: &write, read: &read, writers: 2, readers: 2 }, &mut rng);
    let (end, mut rounds, mut fired) = (Instant::now() + time, 0, BTreeSet::new());
    while Instant::now() < end {
        rounds += 1;
        work(watched.mount.path(), rounds);
        fired.extend(monitored.prometheus.firing());
        let progress = load.look();
        assert!(progress.failures.is_empty(), "{:?}", progress.failures);
    }
    let progress = load.end();
    println!("{rounds} rounds, {} writes and {} reads checked, fired: {fired:?}", progress.written, progress.read);
    assert!(progress.failures.is_empty() && progress.written > 0 && progress.read > 0, "{progress:?}");
    fired.retain(|name| !OF_THE_MACHINE.contains(&&**name));
    assert_eq!(fired, BTreeSet::new(), "alerts of a healthy cluster: {:?}", monitored.prometheus.alerts());
    let since = |(log, len): &(PathBuf, usize)| text_of(log).split_off(*len);
    let told = before.iter().map(since).chain([watched.mount.log(), other.log()]).collect::<Vec<_>>().join("\n");
    assert!(told.contains(" INFO "), "logs were read: {told}");
    assert_eq!(unexpected(&told, EXPECTED), Vec::<&str>::new(), "warnings of a healthy cluster");
}

fn text_of(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_else(|error| panic!("read {}: {error}", log.display()))
}

/// Errors, and warnings that are not expected.
fn unexpected<'a>(log: &'a str, expected: &[&str]) -> Vec<&'a str> {
    let is_expected = |line: &str| line.contains(" WARN ") && expected.iter().any(|part| line.contains(part));
    let is_told = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    log.lines().filter(is_told).filter(|line| !is_expected(line)).collect()
}

#[test]
fn an_error_is_never_expected_and_a_warning_only_as_listed() {
    let log = "1 INFO a: fine\n2 WARN a: late by 3 ms\n3 WARN a: odd\n4 ERROR a: late by 3 s\n";
    assert_eq!(unexpected(log, &["late by"]), ["3 WARN a: odd", "4 ERROR a: late by 3 s"]);
}
