//! Asks everybody, once, all at the same time, and keeps what they say and who says nothing.
//!
//! Never judges. Always bounded: each daemon and each mount is waited for a few seconds, and what cannot be asked is named.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use dgfs_proto::meta::{ClassHealth, ServerStatus, SessionStatus};
use dgfs_proto::watch::{Facts, WatchReply, WatchRequest};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::lifecycle::build_runtime;
use dgfs_runtime::pki::Identity;

use crate::cli::Failure;
use crate::cli::check::followed;
use crate::cli::doctor::finding::shell_word;
use crate::cli::doctor::probe::{self, Answer};
use crate::cli::files::{ClientFile, MountFacts, read_attribute, read_file};
use crate::cli::numbers::Numbers;
use crate::cli::paths::host;
use crate::cli::watched::{Cluster, Daemon, mount_metrics};
use crate::mount::table::{Mounted, mounts};

/// Of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long one mount is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
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

    /// Starts a daemon that does not run.
    pub(crate) fn start(&self, daemon: &DaemonSeen) -> String {
        self.start_part(daemon.part, daemon.host())
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

/// Asks the cluster of a `client.toml` and its mounts on this machine; without one all mounts of this machine, or one.
pub(crate) fn gather(config: Option<&Path>, path: Option<&Path>) -> Result<Gathered, Failure> {
    let now_us = Clock::real().wall_ns() / 1000;
    let mut seen = Gathered {
        now_us,
        config: config.map(|config| config.display().to_string()),
        up: None,
        identity: None,
        daemons: Vec::new(),
        servers: Vec::new(),
        health: Vec::new(),
        sessions: Vec::new(),
        mounts: Vec::new(),
        machine: machine(),
        faults: Vec::new(),
    };
    let chosen = match (config, path) {
        (Some(config), _) => {
            of_cluster(config, &mut seen)?;
            of_sessions(mount_points()?, &seen.sessions, &host())
        }
        (None, Some(path)) => vec![of_mount(path)?],
        (None, None) => mount_points()?,
    };
    seen.mounts = ask_mounts(chosen);
    Ok(seen)
}

fn mount_points() -> Result<Vec<String>, Failure> {
    let ours = mounts().map_err(Failure::new)?.into_iter().filter(Mounted::is_dgfs).take(MOUNTS_MAX);
    Ok(ours.map(|mount| mount.mount_point.display().to_string()).collect())
}

/// Those of a cluster: other clusters' mounts are not its concern. The cluster knows a mount for as long as its session lasts.
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

fn ask_mounts(points: Vec<String>) -> Vec<MountSeen> {
    let asking: Vec<_> = points.into_iter().map(|point| thread::spawn(move || ask_mount(point))).collect();
    asking.into_iter().filter_map(|one| one.join().ok()).collect()
}

fn ask_mount(path: String) -> MountSeen {
    let at = Path::new(&path);
    let life = match probe::run(&["stats", "--json"], at, PATIENCE) {
        Answer::Told(_) => Life::Answers,
        Answer::Hangs => Life::Hangs,
        Answer::Refused(sentence) if sentence.contains("is dead") => Life::Dead(sentence),
        Answer::Refused(sentence) => Life::Untold(sentence),
    };
    // It answered another process a moment ago.
    let text = if life == Life::Answers { mount_metrics(at).unwrap_or_default() } else { String::new() };
    let answers = matches!(life, Life::Answers | Life::Untold(_));
    let facts = answers.then(|| read_attribute(at, "dgfs.mount").ok()).flatten();
    let version = facts.and_then(|facts| MountFacts::parse(&facts).ok()).map(|facts| facts.version);
    let numbers = (life == Life::Answers).then(|| Numbers::parse(&text));
    MountSeen { path, life, version, numbers, text }
}

fn of_cluster(config: &Path, seen: &mut Gathered) -> Result<(), Failure> {
    let (file, base) = read_file::<ClientFile>(config)?;
    let directory = base.join(&file.identity);
    let identity = Identity::read(&directory).map_err(Failure::new)?;
    seen.identity = Some((directory.display().to_string(), identity.valid_until_s()));
    seen.up = base.join("pids").is_file().then(|| base.display().to_string());
    if let Err(error) = identity.check_time(&Clock::real()) {
        seen.faults.push(format!("the cluster was not asked: {error}"));
        return Ok(());
    }
    let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
    runtime.block_on(ask_cluster(config, seen))
}

async fn ask_cluster(config: &Path, seen: &mut Gathered) -> Result<(), Failure> {
    let cluster = Cluster::of(config).await?;
    seen.daemons = join_all(cluster.daemons.iter().map(ask_daemon)).await;
    seen.faults.extend(cluster.faults.iter().cloned());
    // Without an active metadata service the list above says so already.
    if cluster.faults.is_empty() {
        match cluster.link.servers().await {
            Ok(servers) => seen.servers = servers,
            Err(error) => seen.faults.push(format!("the states of storage servers are not known: {error}")),
        }
        match cluster.link.status().await {
            Ok(status) => (seen.health, seen.sessions) = (status.health, status.sessions),
            Err(error) => seen.faults.push(format!("partitions and mounts are not known: {error}")),
        }
    }
    Ok(())
}

async fn ask_daemon(daemon: &Daemon) -> DaemonSeen {
    DaemonSeen {
        part: daemon.part,
        address: daemon.address.clone(),
        number: daemon.number,
        named: daemon.name(),
        told: ask(daemon).await,
    }
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
