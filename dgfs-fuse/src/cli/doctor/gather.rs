//! Asks everybody, once, all at the same time, and keeps what they say and who says nothing.
//!
//! Never judges. Always bounded: each daemon and each mount is waited for a few seconds, and what cannot be asked is named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use futures_util::future::{join, join_all, join3};
use serde_json::{Value, json};

use dgfs_proto::meta::{ClassHealth, ServerStatus, SessionStatus};
use dgfs_proto::watch::{Facts, LogRecord, WatchReply, WatchRequest};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::lifecycle::build_runtime;
use dgfs_runtime::pki::Identity;

use crate::cli::Failure;
use crate::cli::check::followed;
use crate::cli::doctor::finding::shell_word;
use crate::cli::doctor::local::{Process, mount_log, mount_process, processes};
use crate::cli::files::{ClientFile, MountFacts, read_file};
use crate::cli::mounted::{MountPoint, explained, is_silent};
use crate::cli::numbers::Numbers;
use crate::cli::paths::host;
use crate::cli::watched::{Cluster, Daemon};
use crate::cli::{events, logs};
use crate::mount::table::{Mounted, mounts};

/// Of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Mounts of this machine asked at most.
const MOUNTS_MAX: usize = 64;

/// What one daemon told.
pub(crate) struct Told {
    pub(crate) facts: Facts,
    pub(crate) numbers: Numbers,
    /// The numbers as they came.
    pub(crate) text: String,
    /// This machine's clock when it was asked, microseconds since 1970.
    pub(crate) asked_us: u64,
    /// Until it had answered.
    pub(crate) took_us: u64,
}

/// One daemon, and what it told or why it did not.
pub(crate) struct DaemonSeen {
    pub(crate) part: &'static str,
    pub(crate) address: String,
    pub(crate) number: Option<u32>,
    pub(crate) named: String,
    pub(crate) told: Result<Told, String>,
    /// Its process, if it is one of a cluster of `dgfs up` on this machine.
    pub(crate) process: Option<Process>,
    /// Its log, where that was asked for and it answers; and why it is not all of it.
    pub(crate) log: Option<(Vec<LogRecord>, Option<String>)>,
}

impl DaemonSeen {
    /// Its name for people.
    pub(crate) fn name(&self) -> String {
        self.named.clone()
    }

    /// Its numbers, if it told them.
    pub(crate) fn numbers(&self) -> Option<&Numbers> {
        self.told.as_ref().ok().map(|told| &told.numbers)
    }

    /// A word of its configuration.
    pub(crate) fn config(&self, key: &str) -> Option<&str> {
        let told = self.told.as_ref().ok()?;
        told.facts.config.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Its machine, as far as it is known.
    pub(crate) fn host(&self) -> &str {
        let told = self.told.as_ref().ok().map(|told| told.facts.host.as_str()).filter(|host| !host.is_empty());
        told.unwrap_or_else(|| self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host))
    }

    /// A command that is to be given on its machine.
    pub(crate) fn there(&self, command: &str) -> String {
        format!("on {}: {command}", shell_word(self.host()))
    }
}

/// How a mount is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It answers.
    Answers,
    /// It answers, and does not tell this user its numbers; why.
    Untold(String),
    /// It does not answer in time.
    Hangs,
    /// Its process is gone; a sentence.
    Dead(String),
}

/// One mount of this machine.
pub(crate) struct MountSeen {
    pub(crate) path: String,
    pub(crate) life: Life,
    pub(crate) version: Option<String>,
    pub(crate) numbers: Option<Numbers>,
    /// The numbers as they came.
    pub(crate) text: String,
    /// Its process, if it is known and the mount does not answer.
    pub(crate) pid: Option<u32>,
    /// Where it logs to, if it does not answer and that is known.
    pub(crate) log: Option<PathBuf>,
}

/// What the active metadata service told for a bundle.
pub(crate) struct ClusterTold {
    pub(crate) status: Result<Value, String>,
    pub(crate) events: Result<Vec<Value>, String>,
}

/// This machine.
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) has_fuse: bool,
    pub(crate) has_fusermount: bool,
    pub(crate) is_root: bool,
}

/// All that is known.
pub(crate) struct Gathered {
    /// This machine's clock, microseconds since 1970.
    pub(crate) now_us: u64,
    /// The `client.toml`, if a cluster was asked.
    pub(crate) config: Option<String>,
    /// The directory of `dgfs up`, if the `client.toml` lies in one.
    pub(crate) up: Option<String>,
    /// The identity that asked: its directory, and when it ends, seconds since 1970.
    pub(crate) identity: Option<(String, i64)>,
    pub(crate) daemons: Vec<DaemonSeen>,
    pub(crate) servers: Vec<ServerStatus>,
    pub(crate) health: Vec<ClassHealth>,
    pub(crate) sessions: Vec<SessionStatus>,
    pub(crate) mounts: Vec<MountSeen>,
    pub(crate) machine: Machine,
    /// What could not be asked, in sentences.
    pub(crate) faults: Vec<String>,
    /// Mounts of this machine that do not tell which cluster they are of, and have no session in this one; sentences.
    pub(crate) unclaimed: Vec<String>,
    /// Where it was asked for.
    pub(crate) cluster: Option<ClusterTold>,
}

impl Gathered {
    /// The numbers of the active metadata service.
    pub(crate) fn active(&self) -> Option<&Numbers> {
        self.daemons.iter().filter_map(DaemonSeen::numbers).find(|numbers| numbers.sum("dgfs_meta_active") > 0.0)
    }

    /// `dgfs WORDS` to the same cluster.
    pub(crate) fn dgfs(&self, words: &str) -> String {
        match (&self.config, self.mounts.first()) {
            (Some(config), _) => format!("dgfs {words} --config {}", shell_word(config)),
            (None, Some(mount)) => format!("dgfs {words} {}", shell_word(&mount.path)),
            (None, None) => format!("dgfs {words}"),
        }
    }

    /// The check of all data. An embedded volume must not be mounted meanwhile.
    pub(crate) fn fsck(&self) -> String {
        match &self.config {
            Some(config) => format!("dgfs fsck --repair --config {}", shell_word(config)),
            None => "dgfs umount PATH && dgfs fsck --repair --data-dir DIR".to_owned(),
        }
    }

    /// Starts a daemon that does not run, and ends one first that runs and hangs; of one that answers its log says more.
    pub(crate) fn start(&self, daemon: &DaemonSeen) -> String {
        let start = self.start_part(daemon.part, daemon.host());
        if daemon.told.is_ok() && self.config.is_some() {
            let word = daemon.number.map_or_else(|| daemon.address.clone(), |number| number.to_string());
            return self.dgfs(&format!("logs --since 10m --level warn --server {}", shell_word(&word)));
        }
        daemon.process.as_ref().and_then(|process| process.revive(&start)).unwrap_or(start)
    }

    /// Starts a daemon of a part on a machine.
    pub(crate) fn start_part(&self, part: &str, host: &str) -> String {
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        match &self.up {
            Some(directory) => format!("dgfs up {}", shell_word(directory)),
            None => format!("on {}: systemctl restart {}", shell_word(host), unit(part)),
        }
    }

    /// Ends a daemon that runs, and starts it again.
    pub(crate) fn restart(&self, daemon: &DaemonSeen) -> String {
        match &self.up {
            Some(directory) => {
                let (pid, directory) = (daemon.told.as_ref().map_or(0, |told| told.facts.pid), shell_word(directory));
                format!("kill {pid} && dgfs up {directory}")
            }
            None => self.start(daemon),
        }
    }
}

fn unit(part: &str) -> &'static str {
    match part {
        "meta" => "dgfs-meta",
        "index" => "dgfs-index",
        _ => "'dgfs-stored@*'",
    }
}

/// Asks the cluster of a `client.toml` and its mounts on this machine; without one all mounts of this machine, or one. With
/// `since_ms` daemons are asked for their logs since then, and the cluster for its status and events.
pub(crate) fn gather(config: Option<&Path>, path: Option<&Path>, since_ms: Option<u64>) -> Result<Gathered, Failure> {
    // A command that is told is to work from anywhere.
    let config = config.map(std::path::absolute).transpose().map_err(Failure::new)?;
    let now_us = Clock::real().wall_ns() / 1000;
    let mut seen = Gathered {
        now_us,
        config: config.as_ref().map(|config| config.display().to_string()),
        up: None,
        identity: None,
        daemons: Vec::new(),
        servers: Vec::new(),
        health: Vec::new(),
        sessions: Vec::new(),
        mounts: Vec::new(),
        machine: machine(),
        faults: Vec::new(),
        unclaimed: Vec::new(),
        cluster: None,
    };
    match (&config, path) {
        (Some(config), _) => {
            let (meta, base) = of_cluster(config, since_ms, &mut seen)?;
            claim_mounts(&mut seen, &meta, &base)?;
        }
        (None, Some(path)) => {
            seen.mounts = ask_mounts(vec![of_mount(path)?], None).into_iter().map(|one| one.0).collect()
        }
        (None, None) => seen.mounts = ask_mounts(mount_points()?, None).into_iter().map(|one| one.0).collect(),
    }
    Ok(seen)
}

/// Of this machine's mounts those of the cluster: they have a session, or tell its metadata services, or log beside its file.
fn claim_mounts(seen: &mut Gathered, meta: &[String], base: &Path) -> Result<(), Failure> {
    let points = mount_points()?;
    let known = of_sessions(points.clone(), &seen.sessions, &host());
    let ours = format!("cluster at {}", meta.join(", "));
    for (mut mount, volume) in ask_mounts(points, Some(base)) {
        let session = seen.sessions.iter().find(|session| session.client.mount_point == mount.path);
        let is_known = known.contains(&mount.path);
        if is_known && mount.life != Life::Answers {
            mount.pid = mount.pid.or(session.map(|session| session.client.pid));
        }
        match volume {
            _ if is_known => seen.mounts.push(mount),
            Some(volume) if volume == ours => seen.mounts.push(mount),
            Some(_) => {}
            None if mount.log.as_ref().is_some_and(|log| log.starts_with(base)) => seen.mounts.push(mount),
            None => seen.unclaimed.push(format!(
                "the mount at {} has no session here and does not tell its cluster: `dgfs debug bundle {}` looks at it alone",
                mount.path,
                shell_word(&mount.path)
            )),
        }
    }
    Ok(())
}

fn mount_points() -> Result<Vec<String>, Failure> {
    let ours = mounts().map_err(Failure::new)?.into_iter().filter(Mounted::is_dgfs).take(MOUNTS_MAX);
    Ok(ours.map(|mount| mount.mount_point.display().to_string()).collect())
}

/// Those that the cluster knows, for as long as their sessions last.
fn of_sessions(points: Vec<String>, sessions: &[SessionStatus], host: &str) -> Vec<String> {
    let is_known = |point: &String| {
        sessions.iter().any(|session| session.client.host == host && session.client.mount_point == *point)
    };
    points.into_iter().filter(is_known).collect()
}

/// The mount that a path lies on; the path itself is not touched where it is a mount's own.
fn of_mount(path: &Path) -> Result<String, Failure> {
    let absolute = std::path::absolute(path).map_err(Failure::new)?;
    let ours = mount_points()?;
    let within =
        |path: &Path| ours.iter().filter(|point| path.starts_with(point)).max_by_key(|point| point.len()).cloned();
    let found = within(&absolute).or_else(|| within(&followed(&absolute)));
    found.ok_or_else(|| Failure::new(format!("{} is not on a DGFS mount", path.display())))
}

/// Mounts, each with the volume it tells to be of.
fn ask_mounts(points: Vec<String>, base: Option<&Path>) -> Vec<(MountSeen, Option<String>)> {
    let base = base.map(Path::to_owned);
    let ask = |point| {
        let base = base.clone();
        thread::spawn(move || ask_mount(point, base.as_deref()))
    };
    let asking: Vec<_> = points.into_iter().map(ask).collect();
    asking.into_iter().filter_map(|one| one.join().ok()).collect()
}

fn ask_mount(path: String, base: Option<&Path>) -> (MountSeen, Option<String>) {
    let asked = MountPoint::of(Path::new(&path)).and_then(|mount| Ok((mount.attribute("dgfs.mount")?, mount)));
    let told = |text: String| (Life::Answers, Some(text));
    let ((life, text), facts) = match asked {
        Ok((facts, mount)) => {
            let facts = MountFacts::parse(&facts).ok();
            (mount.metrics().map_or_else(|failure| (Life::Untold(failure.sentence), None), told), facts)
        }
        Err(error) if is_silent(&error) => ((Life::Hangs, None), None),
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            ((Life::Dead(explained(Path::new(&path), &error).sentence), None), None)
        }
        Err(error) => ((Life::Untold(explained(Path::new(&path), &error).sentence), None), None),
    };
    let pid = (life == Life::Hangs).then(|| mount_process(&path)).flatten();
    let is_away = matches!(life, Life::Hangs | Life::Dead(_));
    let log = is_away.then(|| mount_log(&path, pid, base)).flatten();
    let (version, volume) = facts.map(|facts| (facts.version, facts.volume)).unzip();
    let numbers = text.as_deref().map(Numbers::parse);
    (MountSeen { path, life, version, numbers, text: text.unwrap_or_default(), pid, log }, volume)
}

/// Asks the cluster; its metadata services, and the directory of its file.
fn of_cluster(config: &Path, since_ms: Option<u64>, seen: &mut Gathered) -> Result<(Vec<String>, PathBuf), Failure> {
    let (file, base) = read_file::<ClientFile>(config)?;
    let directory = base.join(&file.identity);
    let identity = Identity::read(&directory).map_err(Failure::new)?;
    seen.identity = Some((directory.display().to_string(), identity.valid_until_s()));
    seen.up = base.join("pids").is_file().then(|| base.display().to_string());
    if let Err(error) = identity.check_time(&Clock::real()) {
        seen.faults.push(format!("the cluster was not asked: {error}"));
        return Ok((file.meta, base));
    }
    let local = seen.up.as_ref().map(|_| processes(&base)).unwrap_or_default();
    let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
    runtime.block_on(ask_cluster(config, since_ms, local, seen))?;
    Ok((file.meta, base))
}

async fn ask_cluster(
    config: &Path,
    since_ms: Option<u64>,
    mut local: BTreeMap<String, Process>,
    seen: &mut Gathered,
) -> Result<(), Failure> {
    let cluster = Cluster::of(config).await?;
    let asked = join_all(cluster.daemons.iter().map(|daemon| ask_daemon(daemon, since_ms)));
    seen.faults.extend(cluster.faults.iter().cloned());
    // Without an active metadata service the list above says so already.
    if !cluster.faults.is_empty() {
        seen.daemons = asked.await;
    } else {
        let told = join3(cluster.link.servers(), cluster.link.status(), ask_more(&cluster, since_ms));
        let (daemons, (servers, status, more)) = join(asked, told).await;
        (seen.daemons, seen.cluster) = (daemons, more);
        match servers {
            Ok(servers) => seen.servers = servers,
            Err(error) => seen.faults.push(format!("the states of storage servers are not known: {error}")),
        }
        match status {
            Ok(status) => (seen.health, seen.sessions) = (status.health, status.sessions),
            Err(error) => seen.faults.push(format!("partitions and mounts are not known: {error}")),
        }
    }
    for daemon in &mut seen.daemons {
        daemon.process = local.remove(&daemon.address);
    }
    Ok(())
}

async fn ask_more(cluster: &Cluster, since_ms: Option<u64>) -> Option<ClusterTold> {
    let since_ms = since_ms?;
    let (status, events) = join(cluster.link.describe(), events::since(&cluster.link, since_ms)).await;
    Some(ClusterTold { status: status.map(|status| json!(status)), events: events.map_err(|failure| failure.sentence) })
}

async fn ask_daemon(daemon: &Daemon, since_ms: Option<u64>) -> DaemonSeen {
    let told = ask(daemon).await;
    // Whoever does not answer is not waited for again.
    let log = match since_ms.filter(|_| told.is_ok()) {
        Some(since_ms) => Some(logs::kept(daemon, since_ms.saturating_mul(1000)).await),
        None => None,
    };
    let named = daemon.name();
    let (part, address, number) = (daemon.part, daemon.address.clone(), daemon.number);
    DaemonSeen { part, address, number, named, told, process: None, log }
}

async fn ask(daemon: &Daemon) -> Result<Told, String> {
    // The first call makes the connection: the second one tells the time.
    let text = daemon.metrics().await?;
    let asked_us = Clock::real().wall_ns() / 1000;
    let start = Instant::now();
    let facts = match daemon.ask(WatchRequest::Facts).await? {
        (WatchReply::Facts(facts), _) => *facts,
        _ => return Err(format!("{} answered something else than facts", daemon.name())),
    };
    let took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(Told { facts, numbers: Numbers::parse(&text), text, asked_us, took_us })
}

fn machine() -> Machine {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    // SAFETY: geteuid(2) has no arguments and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    Machine {
        kernel: kernel.trim().to_owned(),
        has_fuse: Path::new("/dev/fuse").exists(),
        has_fusermount: std::env::split_paths(&paths).any(|directory| directory.join("fusermount3").is_file()),
        is_root,
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use dgfs_proto::ids::SessionId;
    use dgfs_proto::meta::{ClientInfo, SessionStatus};

    use super::of_sessions;
    use super::testing::{gathered, silent};

    #[test]
    fn of_this_machines_mounts_those_of_the_cluster_are_asked() {
        let session = |host: &str, point: &str| SessionStatus {
            id: SessionId::new(1).unwrap(),
            client: ClientInfo { host: host.to_owned(), pid: 1, mount_point: point.to_owned(), version: String::new() },
            idle_ms: 0,
            opens: 0,
        };
        let sessions = [session("here", "/mnt/a"), session("there", "/mnt/b")];
        let points = ["/mnt/a", "/mnt/b", "/mnt/c"].map(str::to_owned).to_vec();
        assert_eq!(of_sessions(points, &sessions, "here"), ["/mnt/a"]);
    }

    #[test]
    fn commands_name_the_cluster_and_how_it_was_started() {
        let mut seen = gathered(vec![silent("stored")]);
        assert_eq!(seen.dgfs("server ls"), "dgfs server ls --config client.toml");
        assert_eq!(seen.start(&seen.daemons[0]), "on stored: systemctl restart 'dgfs-stored@*'");
        seen.up = Some("/srv/a b".to_owned());
        assert_eq!(seen.start(&seen.daemons[0]), "dgfs up '/srv/a b'");
    }
}
