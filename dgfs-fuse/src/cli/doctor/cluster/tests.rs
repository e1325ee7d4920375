//! Each check of the cluster, for what it finds and for silence.

use dgfs_proto::ids::SessionId;
use dgfs_proto::map::Standing;
use dgfs_proto::meta::{ClassHealth, ClientInfo, SessionStatus};

use super::{answers, limits, links, metadata, partitions, servers, sessions, untold, versions};
use crate::cli::doctor::finding::{Finding, Severity};
use crate::cli::doctor::gather::testing::{daemon, gathered, server, silent};
use crate::cli::doctor::gather::{Gathered, VERSION};

fn all(seen: &Gathered) -> Vec<Finding> {
    [answers, metadata, untold, versions, limits, servers, partitions, sessions, links]
        .map(|check| check(seen))
        .concat()
}

fn healthy() -> Gathered {
    let numbers = "dgfs_meta_active 1\ndgfs_meta_standbys 1\ndgfs_meta_redis_up 1\n";
    let mut seen =
        gathered(vec![daemon("meta", numbers, |_| {}), daemon("stored", "dgfs_peer_up{peer=\"meta:1\"} 1\n", |_| {})]);
    seen.servers = vec![server(1, true, Standing::Active)];
    seen
}

#[test]
fn a_healthy_cluster_is_silent() {
    assert_eq!(all(&healthy()), []);
    assert_eq!(all(&gathered(Vec::new())), []);
}

#[track_caller]
fn assert_one(seen: &Gathered, severity: Severity, words: &str) {
    let found = all(seen);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].sentence.contains(words) && found[0].severity == severity, "{found:?}");
    assert!(found[0].command.as_deref().is_some_and(|command| !command.is_empty()), "{found:?}");
}

#[test]
fn who_does_not_answer_is_an_error() {
    let mut seen = healthy();
    seen.daemons.push(silent("index"));
    assert_one(&seen, Severity::Error, "index index:1 does not answer");
    let mut seen = healthy();
    seen.faults.push("index services are not known".to_owned());
    assert_one(&seen, Severity::Error, "not known");
}

#[test]
fn without_an_active_metadata_service_or_a_standby_it_is_told() {
    let mut seen = healthy();
    seen.daemons[0] = daemon("meta", "dgfs_meta_active 0\n", |_| {});
    assert_one(&seen, Severity::Error, "no metadata service is active");
    let mut seen = healthy();
    seen.daemons[0] = daemon("meta", "dgfs_meta_active 1\ndgfs_meta_standbys 0\ndgfs_meta_redis_up 1\n", |_| {});
    assert_one(&seen, Severity::Warning, "no standby");
    // The embedded engine has one service, always.
    seen.daemons[0] = daemon("meta", "dgfs_meta_active 1\ndgfs_meta_standbys 0\n", |_| {});
    assert_eq!(all(&seen), []);
}

#[test]
fn other_versions_are_named() {
    let mut seen = healthy();
    seen.daemons[1] = daemon("stored", "", |facts| facts.version = "0.0.1".to_owned());
    assert_one(&seen, Severity::Warning, "runs version 0.0.1");
    let mut seen = healthy();
    seen.sessions.push(session(0, "0.0.2"));
    assert_one(&seen, Severity::Warning, "runs version 0.0.2");
}

#[test]
fn few_files_and_nearly_all_files_are_told() {
    let with = |open, most| {
        let mut seen = healthy();
        seen.daemons[1] = daemon("stored", "", |facts| (facts.descriptors, facts.descriptors_max) = (open, most));
        seen
    };
    assert_eq!(all(&with(10, 1024)), []);
    assert_one(&with(10, 256), Severity::Warning, "only 256");
    assert_one(&with(900, 1024), Severity::Error, "900 files open of 1024");
}

#[test]
fn servers_that_are_down_or_out_are_told() {
    let mut seen = healthy();
    seen.servers = vec![server(3, false, Standing::Active)];
    assert_one(&seen, Severity::Error, "storage server 3");
    seen.servers = vec![server(3, false, Standing::Out)];
    assert_one(&seen, Severity::Warning, "given up");
    assert!(all(&seen)[0].command.as_deref().unwrap().contains("server remove 3 --force"));
}

#[test]
fn partitions_are_told_by_how_bad_it_is() {
    let class = "r2".parse().unwrap();
    let full = ClassHealth { class, full: 9, degraded: 0, under_minimum: 0, unavailable: 0, places_left: 0 };
    let with = |health| {
        let mut seen = healthy();
        seen.health = vec![health];
        seen
    };
    assert_eq!(all(&with(full)), []);
    assert_one(&with(ClassHealth { degraded: 4, ..full }), Severity::Warning, "4 partitions of class r2 lack copies");
    assert_one(&with(ClassHealth { under_minimum: 1, ..full }), Severity::Error, "take no writes");
    assert_one(&with(ClassHealth { unavailable: 1, ..full }), Severity::Error, "can not be read");
}

fn session(idle_ms: u64, version: &str) -> SessionStatus {
    let client =
        ClientInfo { host: "h".to_owned(), pid: 7, mount_point: "/mnt/x".to_owned(), version: version.to_owned() };
    SessionStatus { id: SessionId::new(1).unwrap(), client, idle_ms, opens: 0 }
}

#[test]
fn silent_mounts_and_their_locks_are_told() {
    let mut seen = healthy();
    seen.sessions.push(session(2000, VERSION));
    assert_eq!(all(&seen), []);
    seen.sessions[0].idle_ms = 9000;
    assert_one(&seen, Severity::Warning, "silent for 9 s");
    let mut seen = healthy();
    let numbers = "dgfs_meta_active 1\ndgfs_meta_standbys 1\ndgfs_meta_dead_session_locks 2\n";
    seen.daemons[0] = daemon("meta", numbers, |_| {});
    assert_one(&seen, Severity::Warning, "2 files are locked");
}

#[test]
fn a_cut_link_is_told_only_of_a_peer_that_answers_others() {
    let mut seen = healthy();
    seen.daemons[1] = daemon("stored", "dgfs_peer_up{peer=\"meta:1\"} 0\ndgfs_peer_up{peer=\"gone:1\"} 0\n", |_| {});
    assert_one(&seen, Severity::Warning, "did not reach meta meta:1");
}
