//! Faults that a person must be able to see: what moves, which alert fires, on which panel it shows, and how soon.
//!
//! Never asserts a time. Always: before a fault its alert is silent and its query has no answer, or the fault would prove nothing;
//! after it is healed both are so again.

use std::any::Any;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::faulty_disk::FaultyDisk;
use crate::monitored::Monitored;
use crate::neo4j::Server;
use crate::process::wait_until;
use crate::spread::Spread;
use crate::watched::Watched;

/// How long an alert may take to come, and to go: rules on rare events go on for minutes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where faults happen: a cluster in use that is watched.
pub struct Stage {
    /// What a fault needs until it is healed.
    pub held: Vec<Box<dyn Any>>,
    /// Prometheus and Alertmanager. Before the cluster: nothing is alarmed when that ends.
    pub monitored: Monitored,
    /// A mount.
    pub watched: Watched,
    /// The disk of `stored-3` alone. Before the cluster: who waits for it does not end.
    pub disk: Option<FaultyDisk>,
    /// The daemons on a network, where links are cut.
    pub spread: Option<Spread>,
    /// Where the graph is kept as well.
    pub neo4j: Option<Server>,
    /// The daemons and Redis.
    pub cluster: Cluster,
}

impl Stage {
    /// The disk of `stored-3`.
    ///
    /// # Panics
    /// On a stage without one.
    #[must_use]
    pub fn disk(&self) -> &FaultyDisk {
        self.disk.as_ref().expect("a stage with a disk that can fail")
    }

    /// As [`Self::disk`], to be changed.
    ///
    /// # Panics
    /// As [`Self::disk`].
    #[must_use]
    pub fn disk_mut(&mut self) -> &mut FaultyDisk {
        self.disk.as_mut().expect("a stage with a disk that can fail")
    }
}

/// One row of the matrix.
#[derive(Clone, Copy)]
pub struct Fault {
    /// What happens, in a few words.
    pub name: &'static str,
    /// Makes it happen.
    pub inject: fn(&mut Stage),
    /// Mends it, as an operator would.
    pub heal: fn(&mut Stage),
    /// A query that has an answer while the fault is there, and none otherwise.
    pub metric: &'static str,
    /// The alert that Alertmanager passes on.
    pub alert: &'static str,
    /// Titles of a dashboard and of its panel.
    pub panel: (&'static str, &'static str),
    /// Measured in the short form, too.
    pub short: bool,
}

/// What was measured of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// From the fault until its query has an answer.
    pub metric: Duration,
    /// From the fault until Alertmanager passes the alert on.
    pub alert: Duration,
    /// From healing until it is silent.
    pub silence: Duration,
}

impl Fault {
    /// Injects it, waits until it is seen, heals it, and waits for silence; panics where one of these does not come.
    #[track_caller]
    pub fn measure(&self, stage: &mut Stage) -> Seen {
        self.wait_for_silence(stage, "silent before");
        let begun = Instant::now();
        (self.inject)(stage);
        wait_until(&format!("{}: {}", self.name, self.metric), PATIENCE, || self.moves(stage));
        let metric = begun.elapsed();
        wait_until(&format!("{}: {} fires", self.name, self.alert), PATIENCE, || self.fires(stage));
        let alert = begun.elapsed();
        (self.heal)(stage);
        let healed = Instant::now();
        self.wait_for_silence(stage, "silent after it was healed");
        Seen { metric, alert, silence: healed.elapsed() }
    }

    fn wait_for_silence(&self, stage: &Stage, when: &str) {
        let what = format!("{}: {} is {when}", self.name, self.alert);
        wait_until(&what, PATIENCE, || !self.moves(stage) && !self.fires(stage));
    }

    fn moves(&self, stage: &Stage) -> bool {
        stage.monitored.prometheus.query(self.metric).is_ok_and(|answer| !answer.is_empty())
    }

    fn fires(&self, stage: &Stage) -> bool {
        stage.monitored.alertmanager.active().is_ok_and(|active| active.iter().any(|name| name == self.alert))
    }
}

/// The page of these faults; what was not measured has dashes.
#[must_use]
pub fn page(rows: &[(Fault, Option<Seen>)]) -> String {
    let mut page = "# Faults, and how they are seen\n\nMeasured with the configuration of `prometheus/` (a scrape and an evaluation each \
5 s) on one machine: seconds from the fault until the number moves and until Alertmanager passes the alert on, and from healing until \
it is silent. Made by `DGFS_BLESS=1 DGFS_BIN=… cargo test -p dgfs-tests --release -- --test-threads=1 faults::`.\n\n\
| fault | moves | alert | panel | number, s | alert, s | silence, s |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (fault, seen) in rows {
        let Fault { name, metric, alert, panel: (dashboard, panel), .. } = fault;
        let seconds = |of: fn(&Seen) -> Duration| {
            seen.as_ref().map_or("–".to_owned(), |seen| format!("{:.0}", of(seen).as_secs_f64()))
        };
        let (moves, fires, silence) =
            (seconds(|seen| seen.metric), seconds(|seen| seen.alert), seconds(|seen| seen.silence));
        let link = format!("[{alert}](RUNBOOK.md#{})", alert.to_lowercase());
        let metric = metric.replace('|', "\\|");
        writeln!(page, "| {name} | `{metric}` | {link} | {dashboard}: {panel} | {moves} | {fires} | {silence} |")
            .expect("write to a string");
    }
    page
}
