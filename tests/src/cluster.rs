//! A cluster of separate daemons on loopback, started by `dgfs up`.
//!
//! Never knows what the daemons do. Always: each daemon can be killed by its role, and the dead are started again by
//! `dgfs up`, as an operator would.

pub mod servers;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use dgfs_meta::engine::testing::RedisServer;

use crate::mount::{Mount, judge};
use crate::neo4j::Server;
use crate::network::Place;
use crate::process::{Outcome, kill9, lives, run, signal, tail};
use crate::program::dgfs;
use crate::scratch::Scratch;

/// How long starting or ending all daemons may take.
const DAEMONS: Duration = Duration::from_secs(120);

/// What a cluster is made of.
#[derive(Clone, Copy, Debug)]
pub struct ClusterPlan<'a> {
    /// Storage daemons.
    pub servers: u32,
    /// Copies of each chunk.
    pub replicas: u8,
    /// Seconds a server may be down before its data are rebuilt on others; none is the product's own.
    pub grace_s: Option<u64>,
    /// Seconds in which each server reads everything once; none is the product's own.
    pub scrub_s: Option<u64>,
    /// Where its files lie; none is a scratch directory.
    pub dir: Option<&'a Path>,
    /// Where Redis keeps its files; none is a scratch directory.
    pub redis_dir: Option<&'a Path>,
    /// Metadata lie in the embedded engine of one service, and Redis is not used.
    pub embedded_engine: bool,
    /// The Neo4j server that holds the graph as well.
    pub neo4j: Option<&'a Server>,
}

impl Default for ClusterPlan<'_> {
    fn default() -> Self {
        Self {
            servers: 1,
            replicas: 1,
            grace_s: None,
            scrub_s: None,
            dir: None,
            redis_dir: None,
            embedded_engine: false,
            neo4j: None,
        }
    }
}

/// A running cluster: a Redis, two metadata services, storage daemons and an index.
pub struct Cluster {
    dir: PathBuf,
    mounted: u32,
    /// Daemons when they were started last: the list may lie on a disk without power.
    started: Vec<u32>,
    /// Its Redis; stop, kill and start it as you like.
    pub redis: RedisServer,
    // Last: removed after the daemons are gone.
    scratch: Arc<Scratch>,
}

impl Cluster {
    /// Starts one.
    #[must_use]
    pub fn start(plan: ClusterPlan<'_>) -> Self {
        let scratch = Arc::new(Scratch::new("cluster"));
        let redis_dir = plan.redis_dir.map(|dir| dir.display().to_string());
        let redis = match &redis_dir {
            Some(dir) => RedisServer::start(&["--dir", dir]),
            None => RedisServer::start(&[]),
        };
        let dir = plan.dir.map_or_else(|| scratch.join("up"), Path::to_owned);
        let mut cluster = Self { dir, mounted: 0, started: Vec::new(), redis, scratch };
        let mut words = vec![format!("--servers={}", plan.servers), format!("--replicas={}", plan.replicas)];
        words.extend(plan.grace_s.map(|seconds| format!("--grace={seconds}")));
        words.extend(plan.scrub_s.map(|seconds| format!("--scrub={seconds}")));
        if let Some(server) = plan.neo4j {
            let password = server.password_file().display().to_string();
            words.extend(["--graph".to_owned(), server.address(), "--graph-password-file".to_owned(), password]);
        }
        if !plan.embedded_engine {
            words.extend(["--redis".to_owned(), cluster.redis.url()]);
        }
        cluster.up(&words);
        cluster
    }

    /// `dgfs up`: starts what does not run. It may complain of daemons that were stopped, and of nothing else.
    #[track_caller]
    pub fn start_the_dead(&mut self) {
        let outcome = self.run_up(&[]);
        let is_of_stopped = |line: &str| line.contains("does not answer within");
        let complains_of_stopped = !outcome.errors.is_empty() && outcome.errors.lines().all(is_of_stopped);
        assert!(
            outcome.status.success() || complains_of_stopped,
            "dgfs up: {}{}\n{}",
            outcome.output,
            outcome.errors,
            self.logs()
        );
    }

    /// `dgfs down`: ends all daemons in order.
    #[track_caller]
    pub fn down(&mut self) {
        let _ = run(dgfs(), &["down".into(), self.dir.clone().into_os_string()], DAEMONS).expect_success("dgfs down");
        self.started.clear();
    }

    /// `dgfs up --add`: one storage daemon more; its role.
    #[track_caller]
    pub fn up_add(&mut self) -> String {
        let before: Vec<String> = self.daemons().into_iter().map(|(role, _)| role).collect();
        self.up(&["--add".to_owned()]);
        let mut new = self.daemons().into_iter().map(|(role, _)| role).filter(|role| !before.contains(role));
        new.find(|role| role.starts_with("stored-")).expect("dgfs up --add starts a storage daemon")
    }

    /// Moves the data of a daemon to another directory, and starts it there.
    ///
    /// # Panics
    /// When it does not start, or files cannot be copied.
    #[track_caller]
    pub fn move_data(&mut self, role: &str, to: &Path) {
        self.kill9_all(&[role]);
        let words = ["-a".into(), self.dir.join(role).into_os_string(), to.as_os_str().to_owned()];
        let _ = run("cp", &words, DAEMONS).expect_success("copy a daemon's data");
        // As the daemon had synced it: a disk that fails loses the rest.
        let _ = run("sync", &["-f".as_ref(), to.as_os_str()], DAEMONS).expect_success("sync a daemon's data");
        let file = self.dir.join(format!("{role}.toml"));
        let text = std::fs::read_to_string(&file).expect("read a daemon's configuration");
        let (here, there) = (format!("dir = \"{role}\""), format!("dir = \"{}\"", to.display()));
        assert!(text.lines().any(|line| line == here), "{role} lies elsewhere: {text}");
        std::fs::write(file, text.replacen(&here, &there, 1)).expect("write a daemon's configuration");
        self.start_the_dead();
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of mount points and logs.
    #[must_use]
    pub fn scratch(&self) -> &Arc<Scratch> {
        &self.scratch
    }

    /// A further mount of it.
    #[must_use]
    pub fn mount(&mut self) -> Mount {
        self.mount_with(&[])
    }

    /// A further mount with more words.
    #[must_use]
    pub fn mount_with(&mut self, more: &[&str]) -> Mount {
        self.mount_at(None, more)
    }

    /// A further mount, by a process on a host of a network.
    #[must_use]
    pub fn mount_at(&mut self, place: Option<Place>, more: &[&str]) -> Mount {
        self.mounted += 1;
        let mut words: Vec<OsString> = vec!["--config".into(), self.dir.join("client.toml").into()];
        words.extend(more.iter().map(OsString::from));
        Mount::at(&self.scratch, &format!("mnt{}", self.mounted), words, place)
    }

    /// Roles and pids of the daemons that live, as `DIR/pids` tells them.
    #[must_use]
    pub fn daemons(&self) -> Vec<(String, u32)> {
        let text = std::fs::read_to_string(self.dir.join("pids")).expect("read DIR/pids");
        let parse = |line: &str| line.split_once(' ').map(|(role, pid)| (role.to_owned(), pid.parse().expect("a pid")));
        text.lines().filter_map(parse).filter(|(_, pid)| lives(*pid)).collect()
    }

    /// SIGKILL to every daemon whose role begins so; how many there were.
    pub fn kill9(&self, role: &str) -> usize {
        self.kill9_those(|name| name.starts_with(role))
    }

    /// SIGKILL to these daemons at once.
    #[track_caller]
    pub fn kill9_all<S: AsRef<str>>(&self, roles: &[S]) {
        let killed = self.kill9_those(|name| roles.iter().any(|role| role.as_ref() == name));
        assert_eq!(killed, roles.len(), "daemons that lived");
    }

    /// A signal to the daemon of exactly this role, which must live.
    #[track_caller]
    pub fn signal(&self, role: &str, what: Signal) {
        let daemon = self.daemons().into_iter().find(|(name, _)| name == role);
        let (_, pid) = daemon.unwrap_or_else(|| panic!("{role} does not live"));
        signal(pid, what);
    }

    fn kill9_those(&self, is_chosen: impl Fn(&str) -> bool) -> usize {
        let chosen: Vec<_> = self.daemons().into_iter().filter(|(name, _)| is_chosen(name)).collect();
        // All at once: the first ones gone must not give the others time.
        for (_, pid) in &chosen {
            signal(*pid, Signal::KILL);
        }
        for (_, pid) in &chosen {
            kill9(*pid);
        }
        chosen.len()
    }

    /// `dgfs status --json` of the cluster.
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        let config = self.dir.join("client.toml");
        let words = ["status".into(), "--json".into(), "--config".into(), config.into_os_string()];
        let text = run(dgfs(), &words, DAEMONS).expect_success("dgfs status");
        serde_json::from_str(&text).expect("dgfs status --json is JSON")
    }

    /// `dgfs fsck`: clean, or what it found.
    ///
    /// # Errors
    /// Its report.
    pub fn fsck(&self) -> Result<(), String> {
        self.check(0)
    }

    /// As [`Self::fsck`], after a power cut: writes that were under way may have been given up.
    ///
    /// # Errors
    /// Its report.
    pub fn fsck_after_power_cut(&self) -> Result<(), String> {
        self.check(1)
    }

    fn check(&self, worst: i32) -> Result<(), String> {
        let config = self.dir.join("client.toml");
        judge(run(dgfs(), &["fsck".into(), "--config".into(), config.into_os_string()], DAEMONS), worst)
    }

    /// The last lines of every daemon's log.
    #[must_use]
    pub fn logs(&self) -> String {
        self.log_files().iter().map(|log| format!("--- {}:\n{}\n", log.display(), tail(log, 12))).collect()
    }

    /// The logs of all daemons, by name.
    #[must_use]
    pub fn log_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let mut logs: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        logs
    }

    /// `dgfs up` of a cluster of which not every daemon can start.
    ///
    /// # Errors
    /// What it says.
    pub fn try_start_the_dead(&mut self) -> Result<(), String> {
        let outcome = self.run_up(&[]);
        if outcome.status.success() { Ok(()) } else { Err(outcome.errors) }
    }

    #[track_caller]
    fn up(&mut self, more: &[String]) {
        let outcome = self.run_up(more);
        assert!(outcome.status.success(), "dgfs up: {}{}\n{}", outcome.output, outcome.errors, self.logs());
    }

    fn run_up(&mut self, more: &[String]) -> Outcome {
        let mut words = vec![OsString::from("up")];
        words.extend(more.iter().map(OsString::from));
        words.push(self.dir.clone().into());
        let outcome = run(dgfs(), &words, DAEMONS);
        // Those that did start end with the test, also when others did not.
        if self.dir.join("pids").is_file() {
            self.started = self.daemons().into_iter().map(|(_, pid)| pid).collect();
        }
        outcome
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for pid in &self.started {
            kill9(*pid);
        }
    }
}
