//! Logs: one request is followed by its number through mount, metadata and storage; `dgfs logs` gathers them, and says who is
//! silent.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::{Outcome, run, wait_until};
use dgfs_tests::program::dgfs;
use serde_json::Value;

/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(60);
/// How long a request that is slow everywhere is waited for.
const FOLLOWED: Duration = Duration::from_secs(60);
/// Bytes written before each fsync: less than a chunk, which would be sent at once.
const LENGTH: usize = 1 << 20;
/// How long Redis does not answer, to make the metadata service slow.
const HELD_UP: Duration = Duration::from_millis(100);

/// `dgfs logs` of a cluster.
fn logs(cluster: &Cluster, more: &[&str]) -> Outcome {
    let mut words: Vec<OsString> = vec!["logs".into(), "--config".into(), cluster.dir().join("client.toml").into()];
    words.extend(more.iter().map(OsString::from));
    run(dgfs(), &words, COMMAND)
}

/// A cluster of two storage servers whose daemons call everything slow that takes a millisecond.
fn cluster_where_all_is_slow() -> Cluster {
    let mut cluster = Cluster::start(ClusterPlan { servers: 2, replicas: 2, ..ClusterPlan::default() });
    cluster.down();
    let mut changed = 0;
    for entry in fs::read_dir(cluster.dir()).unwrap().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if text.contains("slow_ms = 1000") {
            fs::write(entry.path(), text.replace("slow_ms = 1000", "slow_ms = 1")).unwrap();
            changed += 1;
        }
    }
    assert!(changed >= 4, "the configurations of daemons say what is slow: {changed}");
    cluster.start_the_dead();
    cluster
}

fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Requests of slow fsyncs in a mount's log.
fn slow_requests(log: &str) -> BTreeSet<String> {
    let slow = log.lines().filter(|line| line.contains("slow operation part=mount op=fsync"));
    slow.filter_map(|line| Some(line.rsplit_once("request=")?.1.trim().to_owned())).collect()
}

#[test]
fn a_slow_operation_is_followed_by_its_number_through_mount_metadata_and_storage() {
    let mut cluster = cluster_where_all_is_slow();
    let mut mount = cluster.mount_with(&["-o", "slow-ms=1"]);
    let mut parts = BTreeSet::new();
    // What is there already is changed by a commit that goes with the fsync, not ahead of it.
    let file = File::create(mount.join("file")).unwrap();
    file.write_all_at(&vec![7; LENGTH], 0).unwrap();
    file.sync_all().unwrap();
    wait_until("one fsync was slow in all parts", FOLLOWED, || {
        file.write_all_at(&vec![8; LENGTH], 0).unwrap();
        // The metadata service has to wait for its engine.
        cluster.redis.stop();
        let syncing = file.try_clone().unwrap();
        let syncing = std::thread::spawn(move || syncing.sync_all());
        let held = Instant::now();
        wait_until("Redis was held up for long enough", COMMAND, || held.elapsed() >= HELD_UP);
        cluster.redis.cont();
        syncing.join().unwrap().unwrap();
        let followed = slow_requests(&mount.log()).into_iter().map(|request| {
            assert_eq!(request.len(), 16, "{request}");
            let told = logs(&cluster, &["--request", &request, "--json"]).expect_success("dgfs logs");
            let told = records(&told);
            assert!(told.iter().all(|record| text(record, "request") == request), "{told:?}");
            told.iter().map(|record| text(record, "part").to_owned()).collect::<BTreeSet<_>>()
        });
        parts = followed.max_by_key(BTreeSet::len).unwrap_or_default();
        parts.contains("meta") && parts.contains("stored")
    });
    let log = mount.log();
    let line = log.lines().find(|line| line.contains("op=fsync") && line.contains("chunk=")).expect("stages are named");
    assert!(line.contains("meta=") && line.contains(" INFO slow: "), "{line}");
    drop(file);
    mount.umount();
}

#[test]
fn a_silent_daemon_is_named_and_the_others_are_shown() {
    let cluster = Cluster::start(ClusterPlan { servers: 2, ..ClusterPlan::default() });
    let mut whole = String::new();
    // Two metadata services, two storage servers, one index, which is known once it has asked for the log.
    wait_until("all daemons are heard", COMMAND, || {
        whole = logs(&cluster, &["--json"]).expect_success("dgfs logs");
        records(&whole).iter().map(|record| text(record, "server").to_owned()).collect::<BTreeSet<_>>().len() == 5
    });
    let times: Vec<String> = records(&whole).iter().map(|record| text(record, "timestamp").to_owned()).collect();
    assert!(times.is_sorted(), "records are merged by time");

    cluster.kill9_all(&["stored-2"]);
    let partial = logs(&cluster, &["--level", "info"]);
    assert_eq!(partial.status.code(), Some(1), "{}", partial.errors);
    assert!(
        partial.output.contains("[stored 1 (") && partial.output.contains("storage daemon listens"),
        "{}",
        partial.output
    );
    assert!(partial.errors.contains("stored 2 (") && partial.errors.contains("does not answer"), "{}", partial.errors);

    let one = logs(&cluster, &["--server", "1"]).expect_success("dgfs logs --server");
    assert!(one.lines().all(|line| line.contains("[stored 1 (")) && !one.is_empty(), "{one}");
    let unknown = logs(&cluster, &["--server", "nowhere"]);
    assert!(!unknown.status.success() && unknown.errors.contains("no daemon is called nowhere"), "{}", unknown.errors);
    let wrong = logs(&cluster, &["--request", "xyz"]);
    assert!(!wrong.status.success() && wrong.errors.contains("hexadecimal"), "{}", wrong.errors);
}

#[test]
fn an_embedded_mount_shows_its_own_log_to_its_owner_only() {
    let mount = Mount::embedded();
    let words: [OsString; 2] = ["logs".into(), mount.path().into()];
    let shown = run(dgfs(), &words, COMMAND).expect_success("dgfs logs PATH");
    assert!(shown.contains("metadata service is active") && shown.contains(": mounted path="), "{shown}");
    let quiet: [OsString; 4] = ["logs".into(), mount.path().into(), "--level".into(), "error".into()];
    assert_eq!(run(dgfs(), &quiet, COMMAND).expect_success("dgfs logs --level"), "");

    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=-all"]);
    let refused = stranger.arg(dgfs()).arg("logs").arg(mount.path()).output().expect("setpriv runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("only root and whoever mounted"), "{said}");
}
