//! Rules and dashboards at a real cluster under load, and its history in a store for years.
//!
//! Never asserts a speed. Always: every query of every panel is asked, as Grafana would ask it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::http::get;
use dgfs_tests::monitored::{Monitored, Pace, root};
use dgfs_tests::process::{run, wait_until};
use dgfs_tests::prometheus::{Influx, Prometheus};
use dgfs_tests::watched::Watched;

use super::{dashboards, metrics_of, page, pending};

const PATIENCE: Duration = Duration::from_secs(120);
/// Alerts about the machine that the tests run on, whose disk and clock we do not choose.
pub(super) const OF_THE_MACHINE: &[&str] =
    &["DgfsDiskNearlyFull", "DgfsDiskSlow", "DgfsMetadataSlow", "DgfsRuntimeLate"];
/// The variable that names the directory where pictures are wanted: `grafana/pictures.py` is run there.
const PICTURES: &str = "DGFS_PICTURES";

#[test]
fn every_panel_shows_data_of_a_working_cluster_and_no_alert_fires() {
    let mut cluster =
        Cluster::start(ClusterPlan { servers: 3, replicas: 2, scrub_s: Some(20), ..ClusterPlan::default() });
    let monitored = Monitored::start(&mut cluster, Pace::EachSecond, "");
    let watched = Watched::of(&mut cluster);
    monitored.add_mount("mnt1", watched.address());
    monitored.wait_until_all_are_up();
    let prometheus = &monitored.prometheus;
    let mut rounds = 0;
    // Until rates over 15 s are there, and the scrub went through once.
    wait_until("everything was counted", PATIENCE * 2, || {
        rounds += 1;
        work(watched.mount.path(), rounds);
        rounds > 20 && prometheus.value("min(dgfs_stored_scrubbed_timestamp_seconds)").is_some_and(|at| at > 0.0)
    });
    let mut empty = Vec::new();
    wait_until_answers(prometheus, &mut empty);
    assert_eq!(empty, Vec::<String>::new(), "panels without data");
    let firing: Vec<_> = prometheus.firing().into_iter().filter(|name| !OF_THE_MACHINE.contains(&&**name)).collect();
    assert_eq!(firing, Vec::<String>::new(), "alerts of a healthy cluster: {:?}", prometheus.alerts());
    draw(prometheus);
    let mut metrics = BTreeMap::new();
    for target in monitored.targets() {
        let (status, text) = get(&target.address, "/metrics").unwrap();
        assert_eq!(status, 200, "{target:?}");
        page::add(&mut metrics, &target.kind, &text);
    }
    page::check(metrics);
}

/// Asks every query until it has an answer; those that never have one are left in `empty`.
fn wait_until_answers(prometheus: &Prometheus, empty: &mut Vec<String>) {
    let pending = pending();
    let mut asked = 0;
    let end = std::time::Instant::now() + Duration::from_secs(40);
    for dashboard in dashboards::all() {
        for panel in dashboards::panels(&dashboard) {
            for expr in dashboards::queries(panel) {
                if metrics_of(&expr).iter().any(|name| pending.contains(name)) {
                    continue;
                }
                asked += 1;
                let concrete = concrete(&expr);
                let mut answer = prometheus.query(&concrete).unwrap_or_else(|error| panic!("{expr}: {error}"));
                while answer.is_empty() && std::time::Instant::now() < end {
                    answer = prometheus.query(&concrete).unwrap();
                }
                if answer.is_empty() {
                    empty.push(format!("{}: {}: {expr}", dashboards::title(&dashboard), panel["title"]));
                }
            }
        }
    }
    assert!(asked > 50, "only {asked} queries were asked");
}

/// A query with every variable set to all, as Grafana writes it.
fn concrete(expr: &str) -> String {
    let mut text = expr.replace("$__rate_interval", "15s");
    for variable in ["$name", "$mount", "$op"] {
        text = text.replace(variable, ".*");
    }
    assert!(!text.contains('$'), "a variable that no dashboard has: {expr}");
    text
}

/// A bit of everything that a program does.
pub(super) fn work(mount: &Path, round: u32) {
    let directory = mount.join(format!("round-{round}"));
    fs::create_dir_all(&directory).unwrap();
    for number in 0..8 {
        let file = directory.join(format!("{number}.txt"));
        fs::write(&file, format!("the words of file {number} in round {round}\n").repeat(4000)).unwrap();
        let _ = fs::read(&file).unwrap();
    }
    let large = fs::File::options().create(true).truncate(false).write(true).open(mount.join("large")).unwrap();
    large.write_all_at(&vec![7; 1 << 20], u64::from(round % 8) << 20).unwrap();
    large.sync_all().unwrap();
    let tagged = directory.join("0.txt");
    let words = ["-n", "user.xdg.tags", "-v", "sun", tagged.to_str().unwrap()];
    let _ = run("setfattr", &words, PATIENCE).expect_success("setfattr");
    let _ = fs::read_dir(mount.join(".tags/sun")).map(Iterator::count);
    fs::rename(directory.join("1.txt"), directory.join("moved.txt")).unwrap();
    fs::remove_file(directory.join("2.txt")).unwrap();
    assert!(fs::metadata(directory.join("2.txt")).is_err());
}

/// Pictures of all dashboards, where they are wanted.
fn draw(prometheus: &Prometheus) {
    let Some(directory) = std::env::var_os(PICTURES) else { return };
    let script = root().join("grafana/pictures.py").into_os_string();
    let address = format!("http://{}", prometheus.address()).into();
    let _ = run("python3", &["-B".into(), script, address, directory], PATIENCE).expect_success("grafana/pictures.py");
}

#[test]
fn history_outlives_prometheus_in_influxdb() {
    let influx = Influx::start();
    let store = influx.address();
    let mut cluster = Cluster::start(ClusterPlan { servers: 1, embedded_engine: true, ..ClusterPlan::default() });
    let more = format!(
        "remote_write:\n  - url: http://{store}/api/v1/prom/write?db=dgfs\n\
         remote_read:\n  - url: http://{store}/api/v1/prom/read?db=dgfs\n    read_recent: true\n"
    );
    let mut monitored = Monitored::start(&mut cluster, Pace::EachSecond, &more);
    monitored.wait_until_all_are_up();
    let question = "SELECT count(value) FROM dgfs_meta_active";
    wait_until("InfluxDB has what Prometheus scraped", PATIENCE, || {
        let answer = influx.query(question).unwrap();
        answer["results"][0]["series"][0]["values"][0][1].as_u64().is_some_and(|count| count >= 3)
    });
    let then = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - 1.0;
    let before = monitored.prometheus.query_at("dgfs_meta_active", Some(then)).unwrap();
    assert!(!before.is_empty());
    // Nothing new comes: what is answered afterwards is history.
    cluster.down();
    monitored.prometheus.restart_with_an_empty_disk();
    let after = monitored.prometheus.query_at("dgfs_meta_active", Some(then)).unwrap();
    assert_eq!(after.first().map(|sample| sample.value), Some(1.0), "history is read back");
    assert_eq!(after.first().unwrap().labels, before.first().unwrap().labels);
}
