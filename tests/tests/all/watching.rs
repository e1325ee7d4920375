//! A cluster says who is there and what happened: service discovery, the journal, the state of Redis.
//!
//! Never asks a daemon by other ways than an operator's: its metrics port and `dgfs events`. Never asserts a time.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::monitored::{Monitored, Pace};
use dgfs_tests::process::{run, wait_until};
use dgfs_tests::program::dgfs;
use dgfs_tests::watched::Watched;

/// How long anything may take until it is seen: longer than a server may be silent, and many times what it takes.
const PATIENCE: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(60);
/// Longer than an idle connection to a process that is gone can live, and than an alert takes to come.
const WATCHED: Duration = Duration::from_secs(25);
/// Enough to talk to every storage server.
const FILES: usize = 32;
/// A link that is called cut, or is about to be.
const CUT: &str = "ALERTS{alertname=\"DgfsLinkCut\"} or dgfs_peer_silent_seconds{role=\"stored\"} > 4";

/// What a request to an address answers: the status line and the body; none while nobody listens.
fn http(address: &str, (request, headers): (&str, &str), body: &str) -> Option<(String, String)> {
    let mut connection = TcpStream::connect(address).ok()?;
    write!(connection, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}").ok()?;
    write!(connection, "Content-Length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

fn get(address: &str, path: &str) -> Option<String> {
    let (status, body) = http(address, (&format!("GET {path}"), ""), "")?;
    status.contains(" 200").then_some(body)
}

/// Where a daemon of `dgfs up` serves its metrics.
fn metrics_of(cluster: &Cluster, role: &str) -> String {
    let file = std::fs::read_to_string(cluster.dir().join(format!("{role}.toml"))).unwrap();
    let line = file.lines().find_map(|line| line.strip_prefix("metrics_listen = ")).expect("metrics_listen is set");
    line.trim_matches('"').to_owned()
}

/// Kinds and names of the targets at a metadata service, with their addresses.
fn targets(address: &str) -> Vec<(String, String, String)> {
    let Some(text) = get(address, "/sd") else { return Vec::new() };
    let groups: Value = serde_json::from_str(&text).expect("/sd is JSON");
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    let target = |group: &Value| {
        let labels = &group["labels"];
        assert_eq!(labels["kind"], labels["__meta_dgfs_kind"]);
        assert_eq!(group["targets"].as_array().map(Vec::len), Some(1));
        (word(&labels["kind"]), word(&labels["name"]), word(&group["targets"][0]))
    };
    groups.as_array().expect("a list").iter().map(target).collect()
}

fn kinds(address: &str) -> Vec<String> {
    let mut kinds: Vec<String> = targets(address).into_iter().map(|(kind, _, _)| kind).collect();
    kinds.sort();
    kinds
}

/// `dgfs events --json` with more words.
fn events(cluster: &Cluster, words: &[&str]) -> Vec<Value> {
    let mut all: Vec<OsString> = ["events", "--json"].map(OsString::from).to_vec();
    all.extend(words.iter().map(OsString::from));
    all.extend(["--config".into(), cluster.dir().join("client.toml").into_os_string()]);
    let text = run(dgfs(), &all, COMMAND).expect_success("dgfs events");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn has_event(cluster: &Cluster, kind: &str) -> bool {
    !events(cluster, &["--kind", kind, "--limit", "10000"]).is_empty()
}

fn shows(address: &str, line: &str) -> bool {
    get(address, "/metrics").is_some_and(|text| text.lines().any(|shown| shown == line))
}

/// The address of whichever metadata service is active.
fn active(cluster: &Cluster) -> String {
    let all = ["meta-1", "meta-2"].map(|role| metrics_of(cluster, role));
    let mut found = None;
    wait_until("a metadata service is active", PATIENCE, || {
        found = all.iter().find(|address| shows(address, "dgfs_meta_active 1")).cloned();
        found.is_some()
    });
    found.expect("one is active")
}

#[test]
fn discovery_lists_every_process_and_keeps_a_killed_storage_server() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 2, ..ClusterPlan::default() });
    let mut mount = cluster.mount();
    let meta = active(&cluster);
    let all = ["index", "meta", "meta", "mount", "stored", "stored"];
    wait_until("every process is listed", PATIENCE, || kinds(&meta) == all);
    for (kind, name, address) in targets(&meta) {
        wait_until(&format!("{kind} {name} at {address} tells of its clock"), PATIENCE, || {
            get(&address, "/metrics").is_some_and(|page| page.contains("\ndgfs_clock_offset_seconds "))
        });
        if kind == "mount" {
            assert_eq!(name, mount.path().to_string_lossy());
        }
    }
    wait_until("the members are counted", PATIENCE, || shows(&meta, "dgfs_meta_standbys 1"));
    let status = cluster.status();
    assert_eq!(status["processes"].as_array().map(Vec::len), Some(all.len()), "{status}");

    let killed = metrics_of(&cluster, "stored-1");
    cluster.kill9_all(&["stored-1"]);
    wait_until("the journal says that it is down", PATIENCE, || has_event(&cluster, "server-down"));
    let is_listed = || targets(&meta).iter().any(|(_, _, address)| *address == killed);
    assert!(is_listed(), "a killed server stays where it was: {:?}", targets(&meta));
    assert!(!has_event(&cluster, "server-up"));
    cluster.start_the_dead();
    wait_until("the journal says that it is up", PATIENCE, || has_event(&cluster, "server-up"));
    assert!(is_listed());

    mount.umount();
    wait_until("a mount that ended is not listed", PATIENCE, || !kinds(&meta).contains(&"mount".to_owned()));
    wait_until("its session ended", PATIENCE, || has_event(&cluster, "session-ended"));
}

#[test]
fn the_journal_outlives_the_metadata_service_that_wrote_it() {
    let cluster = Cluster::start(ClusterPlan::default());
    let first = active(&cluster);
    wait_until("the first writer is told", PATIENCE, || has_event(&cluster, "meta-active"));
    wait_until("its storage server is told", PATIENCE, || has_event(&cluster, "server-joined"));
    let before = events(&cluster, &["--since", "1h"]);
    let role = if metrics_of(&cluster, "meta-1") == first { "meta-1" } else { "meta-2" };
    cluster.kill9_all(&[role]);
    let second = active(&cluster);
    assert_ne!(first, second);
    wait_until("the second writer is told", PATIENCE, || {
        events(&cluster, &["--kind", "meta-active", "--limit", "10"]).len() == 2
    });
    let after = events(&cluster, &["--since", "1h"]);
    assert_eq!(after[..before.len()], before[..], "what was written stays");
    let numbers: Vec<u64> = after.iter().map(|event| event["number"].as_u64().expect("a number")).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    wait_until("the server is listed by the second, too", PATIENCE, || kinds(&second).contains(&"stored".to_owned()));
    let refused = run(dgfs(), &["events", "--kind", "nothing"], COMMAND);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.errors);
}

#[test]
fn redis_without_its_log_is_told_by_metrics_log_and_journal_until_it_is_mended() {
    let cluster = Cluster::start(ClusterPlan::default());
    let meta = active(&cluster);
    wait_until("Redis was looked at", PATIENCE, || shows(&meta, "dgfs_meta_redis_aof_enabled 1"));
    assert!(shows(&meta, "dgfs_meta_redis_durable 1") && shows(&meta, "dgfs_meta_redis_up 1"));
    assert!(cluster.redis.command("CONFIG SET appendonly no").starts_with("+OK"));
    wait_until("it is not durable", PATIENCE, || shows(&meta, "dgfs_meta_redis_durable 0"));
    assert!(shows(&meta, "dgfs_meta_redis_aof_enabled 0"));
    wait_until("the journal tells it", PATIENCE, || has_event(&cluster, "engine-not-durable"));
    let said = |role: &str| {
        let log = std::fs::read_to_string(cluster.dir().join(format!("{role}.log"))).unwrap();
        log.matches("do not fit its durability level").count()
    };
    assert!(said("meta-1") <= 1 && said("meta-2") <= 1, "it is said once");
    assert!(said("meta-1") + said("meta-2") >= 1);
    assert!(cluster.redis.command("CONFIG SET appendonly yes").starts_with("+OK"));
    wait_until("it is durable again", PATIENCE, || shows(&meta, "dgfs_meta_redis_durable 1"));
    wait_until("the journal tells it", PATIENCE, || has_event(&cluster, "engine-durable"));
}

#[test]
fn alerts_are_taken_from_whoever_shows_the_token_and_from_nobody_else() {
    let cluster = Cluster::start(ClusterPlan { embedded_engine: true, ..ClusterPlan::default() });
    let meta = metrics_of(&cluster, "meta-1");
    let token = std::fs::read_to_string(cluster.dir().join("alerts.token")).unwrap();
    let body = r#"{"alerts":[{"status":"firing","labels":{"alertname":"DgfsTest","severity":"page"},
        "annotations":{"summary":"a test"}}]}"#;
    let post = |token: &str, body: &str| {
        http(&meta, ("POST /alerts", &format!("Authorization: Bearer {token}\r\n")), body).expect("it answers").0
    };
    assert!(post("guess", body).contains(" 401"), "{}", post("guess", body));
    assert!(post(token.trim(), "{}").contains(" 400"));
    assert!(!has_event(&cluster, "alert"));
    assert!(post(token.trim(), body).contains(" 200"));
    wait_until("it is in the journal", PATIENCE, || has_event(&cluster, "alert-raised"));
    let told = events(&cluster, &["--kind", "alert"]);
    assert_eq!((&told[0]["subject"], &told[0]["text"]), (&"DgfsTest".into(), &"page: a test".into()));
}

#[test]
fn a_mount_serves_metrics_on_loopback_unless_told_not_to() {
    let mut cluster = Cluster::start(ClusterPlan { embedded_engine: true, ..ClusterPlan::default() });
    let (shown, silent) = (cluster.mount(), cluster.mount_with(&["-o", "metrics=none"]));
    let status = |path: &std::path::Path| {
        let words: Vec<OsString> = vec!["status".into(), "--json".into(), path.into()];
        let text = run(dgfs(), &words, COMMAND).expect_success("dgfs status");
        serde_json::from_str::<Value>(&text).expect("dgfs status --json is JSON")["mount"]["metrics"].clone()
    };
    let address = status(shown.path()).as_str().expect("an address").to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert!(get(&address, "/metrics").is_some_and(|text| text.contains("dgfs_mount_operations_total")));
    assert_eq!(status(silent.path()), Value::Null);
}

/// Connections to the killed process end as soon as the one in its place answers: nobody calls the link to it cut.
#[test]
fn a_storage_daemon_that_is_killed_and_started_again_at_once_is_no_cut_link() {
    let mut cluster = Cluster::start(ClusterPlan { servers: 3, replicas: 2, ..ClusterPlan::default() });
    let monitored = Monitored::start(&mut cluster, Pace::AsGiven, "");
    let watched = Watched::of(&mut cluster);
    monitored.add_mount("mnt1", watched.address());
    for number in 0..FILES {
        std::fs::write(watched.mount.join(format!("f{number}")), vec![7; 256 << 10]).unwrap();
    }
    monitored.wait_until_all_are_up();
    monitored.prometheus.wait_for("count(dgfs_peer_silent_seconds{job=\"dgfs-mount\",role=\"stored\"}) == 3");
    // Idle from now on: no call finds the old connections dead.
    cluster.kill9_all(&["stored-2"]);
    cluster.start_the_dead();
    let begun = Instant::now();
    wait_until("it was watched for long enough", PATIENCE, || {
        assert!(monitored.prometheus.query(CUT).is_ok_and(|cut| cut.is_empty()), "{CUT}");
        begun.elapsed() >= WATCHED
    });
    // It was looked at: the silence of every peer was seen all the time, also of the one that was killed.
    let seen =
        monitored.prometheus.query("max(max_over_time(dgfs_peer_silent_seconds{role=\"stored\"}[30s]))").unwrap();
    assert!(!seen.is_empty(), "no silence was seen");
}
