//! A cluster that Prometheus watches by the configuration and the rules that we give away.
//!
//! Never changes a rule. Always: the configuration is `prometheus/prometheus.yml` with other addresses.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::cluster::Cluster;
use crate::http::{free_port, get};
use crate::prometheus::{Alertmanager, Prometheus};

/// The root of the sources.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root of the workspace").to_owned()
}

/// A file of the sources.
#[must_use]
pub fn source(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("read {name}: {error}"))
}

/// A process that is scraped.
#[derive(Clone, Debug)]
pub struct Target {
    /// `meta`, `stored`, `index` or `mount`.
    pub kind: String,
    /// Its role in `dgfs up`, or where it is mounted.
    pub name: String,
    /// `HOST:PORT` of its numbers.
    pub address: String,
}

/// How often a cluster is scraped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Each second: what five seconds would show as well is there sooner.
    EachSecond,
    /// As the configuration that we give away says: for what is measured.
    AsGiven,
}

/// Prometheus and Alertmanager at a cluster.
pub struct Monitored {
    /// The Prometheus.
    pub prometheus: Prometheus,
    /// The Alertmanager.
    pub alertmanager: Alertmanager,
    mounts: Mutex<Vec<Target>>,
    daemons: Vec<Target>,
}

impl Monitored {
    /// Watches a cluster; `more` is put at the end of Prometheus' configuration.
    #[must_use]
    pub fn start(cluster: &mut Cluster, pace: Pace, more: &str) -> Self {
        let daemons = with_metrics(cluster);
        let mounts = Mutex::default();
        let metas: Vec<&Target> = daemons.iter().filter(|target| target.kind == "meta").collect();
        let first = &metas.first().expect("a metadata service").address;
        // A standby lists itself only, so all are asked, as the configuration says.
        let (status, list) = get(first, "/sd").expect("a metadata service that is asked who is there");
        assert_eq!(status, 200, "{list}");
        let alertmanager = Alertmanager::start(&alertmanager_config(&metas, cluster.dir()));
        let config = prometheus_config(&metas, pace, &alertmanager.address()) + more;
        let prometheus = Prometheus::start(&config);
        Self { prometheus, alertmanager, mounts, daemons }
    }

    /// A mount is scraped, too: it told the metadata services, which tell Prometheus.
    pub fn add_mount(&self, name: &str, address: &str) {
        let target = Target { kind: "mount".to_owned(), name: name.to_owned(), address: address.to_owned() };
        self.mounts.lock().expect("the list of mounts").push(target);
    }

    /// All processes that are scraped.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let mounts = self.mounts.lock().expect("the list of mounts").clone();
        self.daemons.iter().cloned().chain(mounts).collect()
    }

    /// Waits until every process was scraped well.
    #[track_caller]
    pub fn wait_until_all_are_up(&self) {
        self.prometheus.wait_for(&format!("count(up{{job=~\"dgfs-.*\"}} == 1) >= {}", self.targets().len()));
    }
}

/// Gives every daemon a port for its numbers where it has none yet, and says where they are.
#[must_use]
pub fn with_metrics(cluster: &mut Cluster) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut changed = Vec::new();
    for (role, _) in cluster.daemons() {
        let file = cluster.dir().join(format!("{role}.toml"));
        let text = std::fs::read_to_string(&file).expect("read a daemon's configuration");
        let told =
            text.lines().find_map(|line| line.strip_prefix("metrics_listen = ")).map(|told| told.trim_matches('"'));
        let address = told.map_or_else(|| format!("127.0.0.1:{}", free_port()), str::to_owned);
        if told.is_none() {
            changed.push((file, format!("metrics_listen = \"{address}\"\n{text}")));
        }
        let kind = role.split('-').next().unwrap_or_default().to_owned();
        targets.push(Target { kind, name: role, address });
    }
    if !changed.is_empty() {
        cluster.down();
        for (file, text) in changed {
            std::fs::write(file, text).expect("write a daemon's configuration");
        }
        cluster.start_the_dead();
    }
    targets
}

/// `prometheus/prometheus.yml` for this cluster.
fn prometheus_config(metas: &[&Target], pace: Pace, alertmanager: &str) -> String {
    let rules = format!("{}/prometheus/rules/*.yml", root().display());
    let mut changes = vec![
        ("refresh_interval: 5s", "refresh_interval: 1s"),
        ("alertmanager:9093", alertmanager),
        ("rules/*.yml", &rules),
    ];
    if pace == Pace::EachSecond {
        changes.extend([("scrape_interval: 5s", "scrape_interval: 1s"), ("scrape_timeout: 4s", "scrape_timeout: 1s")]);
    }
    let mut config = source("prometheus/prometheus.yml");
    for (from, to) in changes {
        assert!(config.contains(from), "prometheus.yml has no {from}");
        config = config.replace(from, to);
    }
    with_addresses(&config, metas)
}

/// `prometheus/alertmanager.yml` for this cluster.
fn alertmanager_config(metas: &[&Target], cluster: &Path) -> String {
    let token = cluster.join("alerts.token").display().to_string();
    with_addresses(&source("prometheus/alertmanager.yml").replace("/etc/dgfs/alerts.token", &token), metas)
}

/// The metadata services' addresses in place of their names. With the embedded engine there is one only.
fn with_addresses(config: &str, metas: &[&Target]) -> String {
    let mut config = config.to_owned();
    for (number, name) in (1..).zip(["meta-1", "meta-2"]) {
        let address = metas.iter().find(|meta| meta.name == name).or(metas.first()).map(|meta| meta.address.clone());
        config = config.replace(&format!("meta-{number}:9520"), &address.expect("a metadata service"));
    }
    if metas.len() < 2 { config.replace("{name: meta-2}", "{name: meta-1}") } else { config }
}
