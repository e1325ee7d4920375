//! `dgfs top`: what a mount or a cluster is doing, anew each interval.
//!
//! Never leaves the terminal other than it was: also after ^C, a signal to end, or a fault. Always: where the output is no
//! terminal, one interval is shown and the command ends.

mod screen;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use dgfs_runtime::clock::{Clock, utc_text};
use dgfs_runtime::lifecycle::{Shutdown, build_runtime};

use crate::cli::Failure;
use crate::cli::args::watch::{ProfileBy, TopArgs};
use crate::cli::mounted::MountPoint;
use crate::cli::numbers::Numbers;
use crate::cli::profile::{self, Reading};
use crate::cli::stats::{mount_view, server_view, text};
use crate::cli::top::screen::Screen;
use crate::cli::watched::Cluster;

/// Entries of each table of the busiest.
const BUSIEST: usize = 8;

/// Runs the command.
pub(crate) fn run(args: &TopArgs) -> Result<(), Failure> {
    let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
    let outcome = runtime.block_on(show(args));
    // A mount that does not answer is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn show(args: &TopArgs) -> Result<(), Failure> {
    let shutdown = Shutdown::new();
    shutdown.ask_on_signals().map_err(Failure::new)?;
    let mut source = tokio::select! {
        source = Source::of(args) => source?,
        () = shutdown.asked() => return Ok(()),
    };
    let once = args.once || !io::stdout().is_terminal();
    let mut screen = (!once && !args.json).then(Screen::open);
    loop {
        tokio::select! {
            () = tokio::time::sleep(args.interval) => {}
            () = shutdown.asked() => return Ok(()),
        }
        let (view, faults) = tokio::select! {
            view = source.look() => view?,
            () = shutdown.asked() => return Ok(()),
        };
        match &mut screen {
            Some(screen) => screen.show(&lines(&source, &view, args.interval)).map_err(Failure::new)?,
            None if args.json => println!("{view}"),
            None => lines(&source, &view, args.interval).iter().for_each(|line| println!("{line}")),
        }
        if once {
            return if faults.is_empty() { Ok(()) } else { Err(Failure::new(faults.join("\ndgfs: "))) };
        }
    }
}

fn lines(source: &Source, view: &Value, interval: Duration) -> Vec<String> {
    let now = utc_text(Clock::real().wall_ns() / 1000);
    let now = now.get(..19).unwrap_or_default().to_owned();
    let mut lines = vec![format!("{}   {now} UTC   each {} ms", source.name(), interval.as_millis()), String::new()];
    lines.extend(text(view));
    for (key, title) in [("processes", "busiest processes"), ("paths", "busiest files")] {
        let entries = view.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if !entries.is_empty() {
            lines.extend([String::new(), title.to_owned()]);
            lines.extend(profile::text(entries));
        }
    }
    let chunks = view.get("chunks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if !chunks.is_empty() {
        lines.extend([String::new(), "busiest chunks".to_owned()]);
        for chunk in chunks {
            let number = |key: &str| chunk.get(key).and_then(Value::as_f64).unwrap_or(0.0);
            let name = chunk.get("chunk").and_then(Value::as_str).unwrap_or_default();
            lines.push(format!("{:>10.0} operations  {name}", number("count")));
        }
    }
    lines
}

/// The numbers of a daemon, or why it does not tell them.
type Told = Result<Numbers, String>;

/// What is looked at, with what it told last.
enum Source {
    Mount { path: PathBuf, mount: Arc<MountPoint>, before: MountReading },
    Cluster { config: PathBuf, cluster: Box<Cluster>, before: Vec<Told>, at: Instant },
}

struct MountReading {
    numbers: Numbers,
    processes: Reading,
    paths: Reading,
    at: Instant,
}

impl MountReading {
    /// Asks the mount, which may take a while: not on a thread that others need.
    async fn of(mount: &Arc<MountPoint>) -> Result<Self, Failure> {
        let mount = Arc::clone(mount);
        let read = move || {
            let at = Instant::now();
            Ok(Self {
                numbers: Numbers::parse(&mount.metrics()?),
                processes: Reading::of(&mount, ProfileBy::Process)?,
                paths: Reading::of(&mount, ProfileBy::Path)?,
                at,
            })
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Err(Failure::new("asking the mount failed")))
    }
}

impl Source {
    async fn of(args: &TopArgs) -> Result<Self, Failure> {
        match (&args.asked.path, &args.asked.config) {
            (Some(path), _) => {
                let mount = Arc::new(MountPoint::of(path).map_err(Failure::new)?);
                let before = MountReading::of(&mount).await?;
                Ok(Self::Mount { path: path.clone(), mount, before })
            }
            (None, Some(config)) => {
                let cluster = Box::new(Cluster::of(config).await?);
                let before = numbers_of(&cluster).await;
                Ok(Self::Cluster { config: config.clone(), cluster, before, at: Instant::now() })
            }
            (None, None) => Err(Failure::new("name a path on a mount, or the cluster by --config DIR/client.toml")),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Mount { path, .. } => format!("mount at {}", path.display()),
            Self::Cluster { config, .. } => format!("cluster of {}", config.display()),
        }
    }

    /// What happened since the last look, and who does not tell.
    async fn look(&mut self) -> Result<(Value, Vec<String>), Failure> {
        match self {
            Self::Mount { mount, before, .. } => {
                let now = MountReading::of(mount).await?;
                let done = now.numbers.since(&before.numbers);
                let mut view = mount_view(&now.numbers, &done, Some(now.at.duration_since(before.at)));
                let busiest = |entries: Vec<Value>| json!(entries.into_iter().take(BUSIEST).collect::<Vec<_>>());
                if let Some(object) = view.as_object_mut() {
                    object.insert("processes".to_owned(), busiest(now.processes.since(&before.processes)));
                    object.insert("paths".to_owned(), busiest(now.paths.since(&before.paths)));
                }
                *before = now;
                Ok((view, Vec::new()))
            }
            Self::Cluster { cluster, before, at, .. } => {
                let now = numbers_of(cluster).await;
                let span = Some(std::mem::replace(at, Instant::now()).elapsed());
                let view = cluster_view(cluster, (before.as_slice(), now.as_slice()), span);
                let mut faults = cluster.faults.clone();
                for (old, new) in before.iter_mut().zip(now) {
                    match new {
                        Ok(new) => *old = Ok(new),
                        // Whoever is away for a while is compared with what it told last.
                        Err(fault) => faults.push(fault),
                    }
                }
                Ok((view, faults))
            }
        }
    }
}

/// The numbers of all daemons.
async fn numbers_of(cluster: &Cluster) -> Vec<Told> {
    cluster.metrics().await.into_iter().map(|told| told.map(|text| Numbers::parse(&text))).collect()
}

fn cluster_view(cluster: &Cluster, (before, now): (&[Told], &[Told]), span: Option<Duration>) -> Value {
    let (mut servers, mut chunks) = (Vec::new(), Vec::new());
    for (daemon, (before, now)) in cluster.daemons.iter().zip(before.iter().zip(now)) {
        let name = daemon.name();
        let now = match now {
            Ok(now) => now,
            Err(fault) => {
                servers.push(json!({ "part": daemon.part, "server": name, "error": fault }));
                continue;
            }
        };
        let done = before.as_ref().map_or_else(|_| Numbers::default(), |before| now.since(before));
        servers.push(server_view((daemon.part, &name), now, &done, span));
        chunks.extend(
            done.by("dgfs_stored_hot_chunk_operations_total", "chunk").into_iter().map(|(id, count)| (count, id)),
        );
    }
    chunks.retain(|(count, _)| *count > 0.0);
    chunks.sort_by(|one, other| other.0.total_cmp(&one.0));
    let chunk = |(count, id): (f64, String)| json!({ "chunk": id, "count": count });
    json!({ "servers": servers, "chunks": chunks.into_iter().take(BUSIEST).map(chunk).collect::<Vec<_>>() })
}
